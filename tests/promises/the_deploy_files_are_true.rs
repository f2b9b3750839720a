//! examples/deploy and the units: their times add up, and what they set is there to be set.

use ostler_tests::{Rig, example, repository};
use serde_json::Value;

/// What a master takes at most to end what does not end by itself, in seconds.
const END: u64 = 10;

fn file(path: &str) -> String {
    std::fs::read_to_string(repository(path)).unwrap_or_else(|error| panic!("{path}: {error}"))
}

/// The numbers that follow these words in a text.
fn numbers(text: &str, before: &str) -> Vec<u64> {
    let number = |rest: &str| rest.split(|c: char| !c.is_ascii_digit()).next().and_then(|digits| digits.parse().ok());
    let found: Vec<u64> = text.split(before).skip(1).filter_map(number).collect();
    assert!(!found.is_empty(), "nothing follows {before:?}");
    found
}

/// The default of a setting that is a time.
fn preset(name: &str) -> u64 {
    let settings: Value = serde_json::from_str(&Rig::bare().run(&["settings", "--json"]).output).expect("JSON");
    let text = settings[name]["value"].as_str().unwrap_or_else(|| panic!("no {name} in {settings}"));
    text.strip_suffix('m')
        .map_or_else(|| text.parse(), |minutes| minutes.parse::<u64>().map(|m| m * 60))
        .expect("a time")
}

#[test]
fn their_times_add_up() {
    let manifest = example("kubernetes.yaml", &[]);
    let [drain, graceful] = ["OSTLER_DRAIN_DELAY, value: \"", "OSTLER_GRACEFUL_TIMEOUT, value: \""]
        .map(|words| numbers(&manifest, words)[0]);
    assert!(numbers(&manifest, "terminationGracePeriodSeconds: ")[0] >= drain + graceful + END);
    assert!(graceful >= preset("timeout"));
    let (period, failures) = (numbers(&manifest, "periodSeconds: "), numbers(&manifest, "failureThreshold: "));
    assert!(period[0] * failures[0] >= preset("boot-timeout"), "the start-up probe waits for the boot");
    assert!(period[1] * failures[1] < drain, "the readiness probe has failed before the instance refuses");
    for unit in ["systemd/ostler.service", "systemd/ostler@.service"] {
        let stop = preset("drain-delay") + preset("graceful-timeout") + END;
        assert!(numbers(&file(unit), "TimeoutStopSec=")[0] >= stop, "{unit}");
    }
    for (name, words) in [("nginx.conf", "keepalive_timeout "), ("Caddyfile", "keepalive ")] {
        assert!(numbers(&example(name, &[]), words)[0] < preset("keep-alive"), "{name}");
    }
    assert!(numbers(&example("haproxy.cfg", &[]), "timeout server ")[0] > preset("timeout"));
}

#[test]
fn what_they_set_is_a_setting() {
    let known = file("docs/settings.md");
    for name in ["kubernetes.yaml", "Containerfile"] {
        let text = example(name, &[]);
        let words =
            text.split(|c: char| !c.is_ascii_uppercase() && c != '_').filter(|word| word.starts_with("OSTLER_"));
        let is_known = |word: &&str| [".", ","].iter().any(|end| known.contains(&format!("Environment: {word}{end}")));
        let unknown: Vec<&str> = words.filter(|word| !is_known(word)).collect();
        assert_eq!(unknown, [""; 0], "{name}");
    }
}
