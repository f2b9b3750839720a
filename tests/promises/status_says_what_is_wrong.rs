//! `ostler status` begins with what is wrong, and its exit status tells a monitor: 0 for a site in good order, 1 for one with a problem.

use std::time::Instant;

use nix::{
    sys::signal::{Signal, kill},
    unistd::Pid,
};
use ostler_tests::{Gate, PATIENCE, Rig, Site};
use serde_json::Value;

use crate::{
    pages::{page, page_with},
    the_site_is_seen::{address, get},
};

/// Asks until the sentences hold `phrase`, or there are none; what was said last, and the exit status with it.
fn problems_until(site: &Site, phrase: Option<&str>) -> (Vec<String>, i32) {
    let deadline = Instant::now() + PATIENCE;
    loop {
        let answer = site.control(&["status", "--json"]);
        let json: Value = serde_json::from_str(&answer.output).expect("JSON");
        let told = json["problems"].as_array().expect("a list");
        let told: Vec<_> = told.iter().map(|problem| problem.as_str().expect("a sentence").to_owned()).collect();
        let found = phrase.map_or(told.is_empty(), |phrase| told.iter().any(|one| one.contains(phrase)));
        if found {
            return (told, answer.code);
        }
        assert!(Instant::now() < deadline, "{phrase:?} is not among {told:?}");
        std::thread::yield_now();
    }
}

#[test]
fn a_site_in_good_order_has_no_problem() {
    let site = Rig::new("corners.py").workers(2).start();
    assert_eq!(problems_until(&site, None).1, 0);
    let table = site.control(&["status"]);
    assert_eq!(table.code, 0);
    assert!(!table.output.contains('!'), "{}", table.output);
}

#[test]
fn a_reload_that_failed_is_told_until_one_succeeds() {
    let mut site = Rig::with_source(&page("one")).start();
    site.folder().write("app.py", "import no_such_module\n");
    assert_eq!(site.control(&["reload"]).code, 10);
    let table = site.control(&["status"]);
    assert_eq!(table.code, 1, "{}", table.output);
    let told = "ago, and generation 1 serves on: could not import ./app.py: ModuleNotFoundError";
    let line = table.output.lines().nth(1).expect("a second line");
    assert!(line.starts_with("! the last reload failed 0s ") && line.contains(told), "{line}");
    site.folder().write("app.py", &page("two"));
    assert_eq!(site.control(&["reload"]).code, 0);
    assert_eq!(problems_until(&site, None).1, 0);
    site.stop();
}

/// What --reload shows in place of an application is none.
#[test]
fn a_start_with_broken_code_is_told_and_nothing_goes_back_to_it() {
    for preload in ["--preload=on", "--preload=off"] {
        let address = address();
        let rig = Rig::with_source("raise KeyError('first')").flag("--reload").flag(preload);
        let site = rig.option("--metrics", &address).start();
        let nothing = "generation 1 serves no application: could not import ./app.py: KeyError: 'first'";
        let table = site.control(&["status"]);
        assert_eq!((table.code, table.output.lines().nth(1)), (1, Some(format!("! {nothing}").as_str())));
        site.control(&["status", "--ready"]).says(9, &[&format!("not ready: {nothing}")]);
        assert_eq!(get(&address, "/health"), (503, format!("not serving: {nothing}\n")));
        assert_eq!(get(&address, "/health?ready"), (503, format!("not ready: {nothing}\n")));
        site.folder().write("app.py", "raise KeyError('second')");
        let (told, _) = problems_until(&site, Some("the last reload failed"));
        assert_eq!(told[0], nothing);
        assert!(told[1].ends_with(" ago, too: could not import ./app.py: KeyError: 'second'"), "{told:?}");
        site.folder().write("app.py", &page("mended"));
        assert_eq!(problems_until(&site, None).1, 0);
        assert_eq!(get(&address, "/health?ready"), (200, "ready\n".into()));
        site.control(&["rollback"]).says(9, &["there is no previous generation to go back to"]);
        assert_eq!(site.get("/").text(), "mended");
    }
}

#[test]
fn a_boot_that_lasts_is_told() {
    let gate = Gate::new();
    let source = format!("{}\n{}", gate.statement(), page("served"));
    let site = Rig::with_source(&source).flag("--preload=on").launch();
    let visitor = gate.arrival();
    let (told, code) = problems_until(&site, Some("generation 1 is booting"));
    assert_eq!((told.len(), code), (1, 1));
    let table = site.control(&["status"]).output;
    assert!(table.contains("\ngeneration 1 booting, 0 of ") && table.contains(" workers for "), "{table}");
    visitor.let_go("on");
    site.log("generation serving");
    assert_eq!(problems_until(&site, None).1, 0);
}

#[test]
fn workers_that_do_not_come_up_again_are_told_with_the_next_try() {
    let rig = Rig::with_source(&page_with("served", "if os.path.exists('broken'): os.kill(os.getpid(), 11)"));
    let site = rig.workers(2).flag("--preload=off").start();
    let worker = Pid::from_raw(site.log("worker ready").number("pid"));
    site.folder().write("broken", "");
    kill(worker, Signal::SIGKILL).expect("it lives");
    let (told, code) = problems_until(&site, Some("; next in "));
    assert_eq!(code, 1);
    assert!(told[0].starts_with("1 of 2 workers serve; ") && told[0].contains(" crashed"), "{told:?}");
}

#[test]
fn a_worker_that_a_signal_has_stopped_is_told() {
    let site = Rig::new("corners.py").workers(2).start();
    let worker = Pid::from_raw(site.log("worker ready").number("pid"));
    kill(worker, Signal::SIGSTOP).expect("it lives");
    let (told, code) = problems_until(&site, Some("stopped by a signal"));
    assert_eq!(code, 1);
    assert_eq!(told[0], "1 of 2 workers serve");
    assert!(told[1].contains(&format!("process {worker}, stopped by a signal for ")), "{told:?}");
    kill(worker, Signal::SIGCONT).expect("it lives");
    problems_until(&site, None);
}

#[test]
fn clients_that_wait_while_all_are_busy_are_told() {
    let site = Rig::new("corners.py").workers(1).option("--worker-connections", "1").start();
    let gate = Gate::new();
    let mut held = site.connect();
    held.ask(&format!("/gated?{}", gate.path()));
    let visitor = gate.arrival();
    let mut waits = site.connect();
    waits.ask("/hello");
    let (told, code) = problems_until(&site, Some("to be accepted, of at most"));
    assert_eq!(code, 1);
    assert!(told[0].contains("and no worker has been idle for "), "{told:?}");
    visitor.let_go("on");
    assert_eq!(held.answer().text(), "on");
}

#[test]
fn the_last_events_are_told_and_outlive_an_upgrade() {
    let mut site = Rig::with_source(&page("served")).start();
    let worker = Pid::from_raw(site.log("worker ready").number("pid"));
    kill(worker, Signal::SIGKILL).expect("it lives");
    site.log("worker lost");
    site.log("worker ready");
    let upgraded = site.control(&["upgrade"]);
    assert_eq!(upgraded.code, 0, "{}", upgraded.error);
    let json: Value = serde_json::from_str(&site.control(&["status", "--json"]).output).expect("JSON");
    let events = json["events"].as_array().expect("a list");
    let place = |level: &str, text: &str| {
        let is = |event: &Value| {
            event["level"] == level && event["text"].as_str().is_some_and(|told| told.starts_with(text))
        };
        events.iter().position(is).unwrap_or_else(|| panic!("no {level} {text} in {events:#?}"))
    };
    let order = [
        place("info", "starting: "),
        place("info", "generation serving: g1, workers 1"),
        place("error", &format!("worker lost: g1.0, pid {worker}, exit ")),
        place("info", "upgrade asked for"),
        place("info", "upgraded: version "),
        place("info", "generation serving: g2, workers 1"),
    ];
    assert!(order.is_sorted(), "{events:#?}");
    assert!(events.iter().all(|event| event["age"].as_f64().is_some_and(|age| age >= 0.0)), "{events:#?}");
    let table = site.control(&["status"]).output;
    let shown = table.lines().filter(|line| line.contains(" ago: ")).collect::<Vec<_>>();
    assert!(shown.len() == 1 && shown[0].contains(&format!("worker lost: g1.0, pid {worker}, ")), "{table}");
    site.stop();
}

#[test]
fn a_generation_that_is_kept_lacks_nothing() {
    let site = Rig::with_source(&page("served")).start();
    assert_eq!(site.control(&["reload"]).code, 0);
    site.log("generation kept");
    let told = site.control(&["status"]);
    assert!(told.output.contains("\ngeneration 1 kept for `ostler rollback`; template "), "{told:?}");
    assert_eq!(told.code, 0, "{told:?}");
}
