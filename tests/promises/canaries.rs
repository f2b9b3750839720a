//! Sites with a canary, and what is seen of them.

use nix::{
    sys::signal::{Signal::SIGKILL, kill},
    unistd::Pid,
};
use ostler_tests::{Rig, Site};
use serde_json::Value;

use crate::pages::page;

/// Four workers of code that answers `one`; a canary lasts until it is promoted or taken back.
pub fn rig() -> Rig {
    Rig::with_source(&page("one")).workers(4).option("--canary-time", "0")
}

/// One of them, whose canary of one worker answers `two`.
pub fn with_canary(rig: Rig) -> Site {
    let site = rig.start();
    begin(&site, "two", &["reload", "--canary", "25%"]);
    site
}

/// Reloads to code that answers with this, as a canary.
pub fn begin(site: &Site, text: &str, command: &[&str]) {
    site.folder().write("app.py", &page(text));
    let answer = site.control(command);
    assert_eq!(answer.code, 0, "{answer:?}");
    assert!(answer.output.contains(" serves as a canary with "), "{answer:?}");
}

/// What `ostler status` says.
pub fn status(site: &Site) -> Value {
    serde_json::from_str(&site.control(&["status", "--json"]).output).expect("JSON")
}

/// What serves, as `ostler status` shows it: `1 serving 3, 2 canary 1`.
pub fn serving(site: &Site) -> String {
    let status = status(site);
    let generations = status["generations"].as_array().expect("a list");
    let shown = |each: &Value| {
        let stage = each["stage"].as_str().expect("a word");
        ["serving", "canary"]
            .contains(&stage)
            .then(|| format!("{} {stage} {}", each["generation"], each["workers"].as_array().expect("a list").len()))
    };
    generations.iter().filter_map(shown).collect::<Vec<_>>().join(", ")
}

/// How many of so many new connections each of two texts answers.
pub fn answers(site: &Site, connections: usize, texts: [&str; 2]) -> [usize; 2] {
    let seen: Vec<String> = (0..connections).map(|_| site.get("/").text().to_owned()).collect();
    let counts = texts.map(|text| seen.iter().filter(|seen| *seen == text).count());
    assert_eq!(counts.iter().sum::<usize>(), connections, "{seen:?}");
    counts
}

/// Only this code answers any more.
pub fn is_served_by(site: &Site, text: &str) {
    assert_eq!(answers(site, 40, [text, "no other"]), [40, 0]);
}

/// The canary is gone, and the old generation is whole.
pub fn is_whole_again(site: &Site) {
    site.log("canary taken back generation=2");
    site.log("generation gone generation=2");
    assert_eq!(serving(site), "1 serving 4");
    is_served_by(site, "one");
}

/// Kills a worker or a template.
pub fn end(pid: i32) {
    kill(Pid::from_raw(pid), SIGKILL).expect("it lives");
}

/// The template of a generation.
pub fn template(site: &Site, generation: u64) -> i32 {
    let status = status(site);
    let generations = status["generations"].as_array().expect("a list");
    let found = generations.iter().find(|each| each["generation"] == generation).expect("it is there");
    found["template"].as_i64().expect("it is preloaded") as i32
}
