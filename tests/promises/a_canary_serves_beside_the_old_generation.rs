//! `--canary`: a new generation serves with a share of the workers, beside the old one. Then the rest follow, or it is taken back.

use std::{fs, os::unix::fs::symlink, thread};

use nix::{
    sys::signal::{
        Signal::{SIGHUP, SIGKILL, SIGTERM, SIGUSR2},
        kill,
    },
    unistd::Pid,
};
use ostler_tests::{Gate, Rig, Site};
use serde_json::Value;

use crate::pages::{page, page_with};

/// Four workers of code that answers `one`; a canary lasts until it is promoted or taken back.
fn rig() -> Rig {
    Rig::with_source(&page("one")).workers(4).option("--canary-time", "0")
}

/// One of them, whose canary of one worker answers `two`.
fn with_canary(rig: Rig) -> Site {
    let site = rig.start();
    begin(&site, "two", &["reload", "--canary", "25%"]);
    site
}

/// Reloads to code that answers with this, as a canary.
fn begin(site: &Site, text: &str, command: &[&str]) {
    site.folder().write("app.py", &page(text));
    let answer = site.control(command);
    assert_eq!(answer.code, 0, "{answer:?}");
    assert!(answer.output.contains(" serves as a canary with "), "{answer:?}");
}

fn status(site: &Site) -> Value {
    serde_json::from_str(&site.control(&["status", "--json"]).output).expect("JSON")
}

/// What serves, as `ostler status` shows it: `1 serving 3, 2 canary 1`.
fn serving(site: &Site) -> String {
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
fn answers(site: &Site, connections: usize, texts: [&str; 2]) -> [usize; 2] {
    let seen: Vec<String> = (0..connections).map(|_| site.get("/").text().to_owned()).collect();
    let counts = texts.map(|text| seen.iter().filter(|seen| *seen == text).count());
    assert_eq!(counts.iter().sum::<usize>(), connections, "{seen:?}");
    counts
}

/// Only this code answers any more.
fn is_served_by(site: &Site, text: &str) {
    assert_eq!(answers(site, 40, [text, "no other"]), [40, 0]);
}

/// The canary is gone, and the old generation is whole.
fn is_whole_again(site: &Site) {
    site.log("canary taken back generation=2");
    site.log("generation gone generation=2");
    assert_eq!(serving(site), "1 serving 4");
    is_served_by(site, "one");
}

/// Kills a worker or template that the log names.
fn end(pid: i32) {
    kill(Pid::from_raw(pid), SIGKILL).expect("it lives");
}

fn template(site: &Site, generation: u64) -> i32 {
    let status = status(site);
    let generations = status["generations"].as_array().expect("a list");
    let found = generations.iter().find(|each| each["generation"] == generation).expect("it is there");
    found["template"].as_i64().expect("it is preloaded") as i32
}

#[test]
fn both_serve_and_their_workers_take_turns() {
    let site = with_canary(rig());
    assert_eq!(site.log("canary serving generation=2").number("workers"), 1);
    site.drained(1);
    assert_eq!(serving(&site), "1 serving 3, 2 canary 1");
    let [old, new] = answers(&site, 200, ["one", "two"]);
    assert!(old > new && new > 0, "{old} of the old and {new} of the new");
    assert_eq!(site.control(&["status", "--ready"]).code, 0);
    assert_eq!(site.logged("generation serving"), 1);
    let shown = site.control(&["status"]).output;
    assert!(
        shown.contains("\ngeneration 2 canary, 1 of 1 workers; the other 3 follow by `ostler promote`; "),
        "{shown}"
    );
    assert_eq!(status(&site)["metrics"]["ostler_workers_wanted"], 4);
}

#[test]
fn a_promoted_canary_becomes_the_site_and_the_old_generation_is_kept() {
    let site = with_canary(rig());
    assert_eq!(site.control(&["promote"]).output, "generation 2 serves with 4 workers");
    site.log("canary promoted generation=2 workers=4");
    is_served_by(&site, "two");
    assert_eq!(serving(&site), "2 serving 4");
    site.control(&["promote"]).says(9, &["there is no canary to promote"]);
    assert_eq!(site.control(&["rollback"]).output, "generation 1 serves with 4 workers");
    is_served_by(&site, "one");
}

#[test]
fn the_rest_follow_when_its_time_is_over() {
    let rig = Rig::with_source(&page("one")).workers(4).option("--canary", "2").option("--canary-time", "1");
    let site = rig.start();
    site.folder().write("app.py", &page("two"));
    site.signal(SIGHUP);
    assert_eq!(site.log("canary serving generation=2").key("for"), Some("1 s"));
    site.log("canary promoted generation=2");
    site.log("generation serving generation=2 workers=4");
    site.drained(4);
    is_served_by(&site, "two");
    site.folder().write("app.py", &page("three"));
    assert_eq!(site.control(&["reload", "--no-canary"]).output, "generation 3 serves with 4 workers");
    is_served_by(&site, "three");
    assert_eq!(site.control(&["rollback"]).output, "generation 2 serves with 4 workers");
    assert_eq!(site.logged("canary serving"), 1, "neither that nor a roll-back begins with one");
}

#[test]
fn a_roll_back_takes_it_back_and_the_old_generation_is_whole_again() {
    let site = with_canary(rig());
    assert_eq!(site.control(&["rollback"]).output, "generation 1 serves with 4 workers");
    is_served_by(&site, "one");
    is_whole_again(&site);
    assert_eq!(site.control(&["status"]).code, 0, "it was asked for");
    site.control(&["rollback"]).says(9, &["there is no previous generation to go back to"]);
}

#[test]
fn another_reload_replaces_it() {
    let site = with_canary(rig());
    begin(&site, "three", &["reload", "--canary", "2"]);
    site.log("canary taken back generation=2");
    site.log("canary serving generation=3 workers=2");
    site.log("generation gone generation=2");
    site.drained(4);
    assert_eq!(serving(&site), "1 serving 2, 3 canary 2");
    let [old, new] = answers(&site, 100, ["one", "three"]);
    assert!(old > 0 && new > 0, "{old} of the old and {new} of the new");
    site.folder().write("app.py", &page("four"));
    assert_eq!(site.control(&["reload"]).output, "generation 4 serves with 4 workers");
    is_served_by(&site, "four");
}

#[test]
fn one_that_does_not_come_up_never_serves() {
    for preload in ["--preload=on", "--preload=off"] {
        let site = rig().flag(preload).option("--smoke", "/=200").start();
        for (source, code, why) in [
            ("import no_such_module\n".to_owned(), 10, "No module named 'no_such_module'"),
            ("app = 3\n".into(), 11, "callable"),
            (page("two").replace("200 OK", "404 Not Found"), 15, "was answered 404 Not Found, not 200"),
        ] {
            site.folder().write("app.py", &source);
            site.control(&["reload", "--canary", "25%"]).says(code, &[why]);
            site.log("generation discarded");
            assert_eq!(serving(&site), "1 serving 4");
        }
        assert_eq!((site.logged("canary serving"), site.logged("worker drained generation=1")), (0, 0));
        assert_eq!(site.control(&["status"]).code, 1, "the last reload failed");
        begin(&site, "two", &["reload", "--canary", "25%"]);
        assert_eq!(site.control(&["status"]).code, 0, "the last reload has not failed");
        // Without preloading, the old generation's next worker imports what is on disk.
        site.folder().write("app.py", &page("one"));
        assert_eq!(site.control(&["rollback"]).code, 0);
        is_served_by(&site, "one");
    }
}

#[test]
fn a_worker_of_it_that_is_lost_is_replaced() {
    let site = with_canary(rig());
    for _ in 0..2 {
        end(site.log("worker ready generation=2").number("pid"));
        site.log("worker lost generation=2");
    }
    site.log("worker ready generation=2");
    assert_eq!(serving(&site), "1 serving 3, 2 canary 1");
    assert_eq!(site.logged("canary taken back"), 0);
}

#[test]
fn one_whose_next_worker_does_not_boot_is_taken_back() {
    let site = with_canary(rig().flag("--preload=off"));
    site.folder().write("app.py", "raise KeyError('on purpose')\n");
    end(site.log("worker ready generation=2").number("pid"));
    assert!(site.log("canary taken back").text().contains("KeyError: 'on purpose'"));
    // The old generation needs another worker, of code that comes up.
    site.folder().write("app.py", &page("one"));
    site.log("generation gone generation=2");
    assert_eq!(site.control(&["recycle"]).output, "generation 1 serves with 4 workers");
    is_served_by(&site, "one");
}

#[test]
fn one_whose_rest_does_not_boot_is_taken_back() {
    for (raises, code, why) in [(true, 10, "KeyError: 'on purpose'"), (false, 10, "was not ready within 2 s")] {
        let site = with_canary(rig().flag("--preload=off").option("--boot-timeout", "2"));
        let gate = Gate::new();
        let statement = format!("{}; raise KeyError('on purpose')", gate.statement());
        site.folder().write("app.py", &page_with("two", &statement));
        thread::scope(|scope| {
            let promote = scope.spawn(|| site.control(&["promote"]));
            let first = gate.arrival();
            let _others = [gate.arrival(), gate.arrival()];
            // The old generation will need another worker.
            site.folder().write("app.py", &page("one"));
            let _first = if raises {
                first.let_go("on");
                None
            } else {
                Some(first)
            };
            promote.join().expect("it ends").says(code, &["generation 2 was taken back", why]);
        });
        is_whole_again(&site);
    }
}

#[test]
fn the_old_generation_gets_its_own_code_back_from_a_directory_of_its_own() {
    for preload in ["--preload=on", "--preload=off"] {
        let rig = Rig::new("corners.py").application("app").workers(2).flag(preload);
        rig.folder().write("release-1/app.py", &page("one"));
        rig.folder().write("release-2/app.py", &page("two"));
        let (current, next) = (rig.folder().join("current"), rig.folder().join("next"));
        symlink("release-1", &current).expect("a private folder is writable");
        let site = rig.option("--chdir", current.to_str().expect("plain")).start();
        symlink("release-2", &next).expect("a private folder is writable");
        fs::rename(next, current).expect("a private folder is writable");
        assert_eq!(site.control(&["reload", "--canary", "1"]).code, 0);
        site.drained(1);
        let [old, new] = answers(&site, 200, ["one", "two"]);
        assert!(old > 0 && new > 0, "{old} of the old and {new} of the new");
        assert_eq!(site.control(&["rollback"]).code, 0);
        is_served_by(&site, "one");
    }
}

#[test]
fn one_whose_template_is_lost_is_taken_back() {
    let site = with_canary(rig());
    end(template(&site, 2));
    is_whole_again(&site);
}

#[test]
fn an_old_generation_that_is_lost_meanwhile_is_replaced_when_the_canary_is_over() {
    for command in ["promote", "rollback"] {
        let site = with_canary(rig());
        end(template(&site, 1));
        site.log("template lost generation=1");
        assert!(site.control(&["status"]).output.contains("a new one is started when the canary is over"));
        let [old, new] = answers(&site, 200, ["one", "two"]);
        assert!(old > new && new > 0, "{old} of the old and {new} of the new");
        assert_eq!(site.control(&[command]).code, 0, "{command}");
        if command == "rollback" {
            // The old code is nowhere but on disk, which has the new.
            site.log("generation serving generation=3 workers=4");
        }
        site.drained(3);
        is_served_by(&site, "two");
    }
}

#[test]
fn the_site_is_scaled_while_there_is_one() {
    let site = with_canary(rig());
    assert_eq!(site.control(&["scale", "+2"]).code, 0);
    assert_eq!(serving(&site), "1 serving 5, 2 canary 1");
    site.control(&["scale", "1"]).says(9, &["from 2 to "]);
    assert_eq!(site.control(&["scale", "3"]).code, 0);
    assert_eq!(serving(&site), "1 serving 2, 2 canary 1");
    assert_eq!(site.control(&["promote"]).output, "generation 2 serves with 3 workers");
    begin(&site, "three", &["reload", "--canary", "1"]);
    assert_eq!(site.control(&["scale", "4"]).code, 0);
    assert_eq!(site.control(&["rollback"]).output, "generation 2 serves with 4 workers");
    is_served_by(&site, "two");
}

#[test]
fn a_stop_ends_both() {
    let mut site = with_canary(rig());
    thread::scope(|scope| {
        let waits = scope.spawn(|| site.control(&["reload", "--canary", "1", "--wait"]));
        site.log("canary serving generation=3");
        site.signal(SIGTERM);
        waits.join().expect("it ends").says(9, &["stopp"]);
    });
    assert_eq!(site.wait(), 0);
}

#[test]
fn hup_and_usr2_reload_as_the_settings_say() {
    let site = with_canary(rig());
    site.folder().write("app.py", &page("three"));
    site.signal(SIGHUP);
    site.log("canary taken back generation=2");
    site.log("generation serving generation=3 workers=4");
    begin(&site, "four", &["reload", "--canary", "1"]);
    site.signal(SIGUSR2);
    site.log("canary taken back generation=4");
    site.log("upgraded");
    site.log("generation serving generation=5 workers=4");
    let site = rig().option("--canary", "50%").start();
    begin(&site, "two", &["upgrade"]);
    assert_eq!(site.log("canary serving generation=2").number("workers"), 2);
    assert_eq!(site.control(&["promote"]).output, "generation 2 serves with 4 workers");
    is_served_by(&site, "two");
}

#[test]
fn who_waits_hears_what_becomes_of_it() {
    let site = rig().start();
    let reload = ["reload", "--canary", "1", "--wait"];
    for (command, code, said) in [
        (["promote"].as_slice(), 0, "generation 2 serves with 4 workers"),
        (&["rollback"], 9, "generation 3 was taken back: a roll-back was asked for"),
        (&["reload"], 9, "generation 4 was taken back: another reload was asked for"),
    ] {
        thread::scope(|scope| {
            let waits = scope.spawn(|| site.control(&reload));
            site.log("canary serving");
            assert_eq!(site.control(command).code, 0);
            let told = waits.join().expect("it ends");
            assert!(told.output.contains(said) || told.error.contains(said), "{told:?}");
            assert_eq!(told.code, code, "{told:?}");
        });
    }
    site.folder().write("app.py", "import no_such_module\n");
    site.control(&reload).says(10, &["No module named 'no_such_module'"]);
    site.folder().write("app.py", &page("six"));
    assert_eq!(site.control(&["reload", "--wait"]).output, "generation 7 serves with 4 workers");
}

#[test]
fn what_leaves_no_worker_of_either_is_refused() {
    for (share, workers, why) in [
        ("0", 4, "expected a share from 1% to 99%, or a number of workers"),
        ("0%", 4, "expected a share"),
        ("100%", 4, "expected a share"),
        ("many", 4, "expected a share"),
        ("4", 4, "a canary of 4 leaves no worker of the old generation: there would be 4 workers in all"),
        ("25%", 1, "a canary of 25% leaves no worker of the old generation: there would be 1 worker in all"),
    ] {
        rig().workers(workers).option("--canary", share).refuse().says(2, &["canary", why]);
        let site = rig().workers(workers).start();
        site.control(&["reload", "--canary", share]).says(2, &["canary", why]);
        assert_eq!(site.control(&["status", "--ready"]).code, 0);
        is_served_by(&site, "one");
    }
    let site = rig().start();
    site.control(&["reload", "--canary", "1", "--no-canary"]).says(2, &["--canary", "--no-canary"]);
    assert_eq!(site.logged("reload asked for"), 0);
    // Of more workers than there are now.
    assert_eq!(site.control(&["scale", "1"]).code, 0);
    site.control(&["reload", "--canary", "1"]).says(2, &["the old generation, which has 1 worker"]);
}

#[test]
fn a_reload_whose_settings_leave_no_worker_keeps_the_old_ones() {
    let file = |workers: u16| format!("workers = {workers}\ncanary = \"2\"\ncanary-time = 0\n");
    let rig = rig().without_workers().option("--config", "site.toml");
    rig.folder().write("site.toml", "workers = 4\n");
    let site = rig.start();
    for (settings, why) in [(file(2), "a canary of 2 leaves no worker"), (file(4).replace('2', "200%"), "a share")] {
        site.folder().write("site.toml", &settings);
        site.control(&["reload"]).says(2, &["canary in ", why]);
    }
    assert_eq!(serving(&site), "1 serving 4");
    site.folder().write("site.toml", &file(6));
    begin(&site, "two", &["reload"]);
    assert_eq!(serving(&site), "1 serving 2, 4 canary 2");
    assert_eq!(site.control(&["promote"]).output, "generation 4 serves with 6 workers");
}
