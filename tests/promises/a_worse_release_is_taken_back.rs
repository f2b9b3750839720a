//! A release that answers worse than the one before is taken back by its figures, and an unchanged one is not.

use std::{
    panic::{AssertUnwindSafe, catch_unwind, resume_unwind},
    sync::{
        atomic::{AtomicBool, Ordering::SeqCst},
        mpsc::{Receiver, channel},
    },
    thread,
    time::Duration,
};

use ostler_tests::{Gate, PATIENCE, Rig, Site};

use crate::canaries::{is_served_by, serving, status};

const CLIENTS: usize = 6;

/// Answers with a text, and with 500 to each of so many requests; to none if it is 0.
fn page(text: &str, fails: usize) -> String {
    format!(
        "import itertools, threading
calls = itertools.count(1)
def app(environ, start_response):
    fails = {fails} and next(calls) % {fails} == 0
    start_response('500 Internal Server Error' if fails else '200 OK', [('Content-Type', 'text/plain')])
    return [b'{text}']
"
    )
}

fn rig() -> Rig {
    Rig::with_source(&page("old", 0)).workers(4)
}

/// Has clients ask all the while. None of them may be left without an answer, or be told to go. What they are answered comes one by one.
fn under_load(site: &Site, events: impl FnOnce(&Receiver<()>)) {
    let (over, (sender, receiver)) = (AtomicBool::new(false), channel());
    thread::scope(|scope| {
        for number in 0..CLIENTS {
            let (over, sender) = (&over, sender.clone());
            scope.spawn(move || {
                let mut client = site.connect();
                while !over.load(SeqCst) {
                    let answer = client.get("/");
                    assert!([200, 500].contains(&answer.status), "{answer:?}");
                    assert_eq!(answer.field("connection"), None, "told to go");
                    let _ = sender.send(());
                    // So that it is neither a flood nor a matter of the machine's speed.
                    thread::sleep(Duration::from_millis(5));
                    if number % 2 == 0 {
                        client = site.connect();
                    }
                }
            });
        }
        let done = catch_unwind(AssertUnwindSafe(|| events(&receiver)));
        over.store(true, SeqCst);
        done.unwrap_or_else(|panic| resume_unwind(panic));
    });
}

/// Waits for so many answers.
fn hear(answers: &Receiver<()>, count: usize) {
    (0..count).for_each(|_| answers.recv_timeout(PATIENCE).expect("the clients go on"));
}

fn deploy(site: &Site, source: &str, command: &[&str]) -> ostler_tests::Refused {
    site.folder().write("app.py", source);
    site.control(command)
}

#[test]
fn within_the_time_that_it_is_watched() {
    let site = rig().option("--watch", "40").flag("--ready-after-watch").start();
    under_load(&site, |answers| {
        hear(answers, 300);
        let answer = deploy(&site, &page("worse", 3), &["reload", "--wait"]);
        answer.says(16, &["generation 2 was taken back: failed requests: ", " against 0 of ", " of generation 1"]);
    });
    site.log("went back from=2 to=1 reason=\"failed requests: ");
    is_served_by(&site, "old");
    assert_eq!(serving(&site), "1 serving 4");
    site.control(&["rollback"]).says(9, &["the last release was taken back already, and generation 1 serves"]);
    assert_eq!(status(&site)["metrics"]["ostler_reloads_total{outcome=\"failure\"}"], 1);
    let problems = status(&site)["problems"].to_string();
    assert!(problems.contains("and generation 1 serves on: failed requests: "), "{problems}");
    // It is not tried again unless somebody asks for that: without its template the good one goes on with what it has.
    let template = status(&site)["generations"]
        .as_array()
        .expect("a list")
        .iter()
        .find_map(|each| (each["stage"] == "serving").then(|| each["template"].as_i64().expect("it has one")));
    let template = nix::unistd::Pid::from_raw(template.expect("one serves") as i32);
    nix::sys::signal::kill(template, nix::sys::signal::Signal::SIGKILL).unwrap();
    site.log("then=\"no worker is replaced until somebody asks for a reload\"");
    site.control(&["recycle"]).says(9, &["the template of generation 1 is lost", "`ostler reload` starts another"]);
    is_served_by(&site, "old");
    assert_eq!(deploy(&site, &page("good", 0), &["reload"]).code, 0);
    is_served_by(&site, "good");
}

#[test]
fn if_an_upgrade_brings_it() {
    const BEFORE: usize = 2_000;
    let site = rig().installed().option("--watch", "40").start();
    under_load(&site, |answers| {
        hear(answers, BEFORE);
        assert_eq!(deploy(&site, &page("worse", 3), &["upgrade"]).code, 0);
        let line = site.log("went back from=2 to=1 reason=\"failed requests: ");
        // The new executable knows what was answered before it came.
        let old = line.text().split_once(" against 0 of ").expect("figures").1;
        let old = old.split(' ').next().expect("a number").replace(',', "");
        assert!(old.parse::<usize>().expect("a number") >= BEFORE, "{}", line.text());
        site.log("generation gone generation=2");
    });
    is_served_by(&site, "old");
}

#[test]
fn if_it_breaks_its_answers_off() {
    let site = rig().option("--watch", "40").start();
    let (over, (sender, answers)) = (AtomicBool::new(false), channel());
    thread::scope(|scope| {
        for sender in [sender.clone(), sender] {
            let (over, site) = (&over, &site);
            scope.spawn(move || {
                while !over.load(SeqCst) {
                    let _ = site.connect().ask("/").try_answer();
                    let _ = sender.send(());
                    thread::sleep(Duration::from_millis(5));
                }
            });
        }
        let broken = catch_unwind(AssertUnwindSafe(|| {
            hear(&answers, 300);
            let source = "def app(environ, start_response):\n    start_response('200 OK', [('Content-Length', '9')])\n    return [b'short']\n";
            deploy(&site, source, &["reload", "--wait"])
        }));
        over.store(true, SeqCst);
        let answer = broken.unwrap_or_else(|panic| resume_unwind(panic));
        answer.says(16, &["generation 2 was taken back: failed requests: ", " against 0 of "]);
    });
    is_served_by(&site, "old");
}

#[test]
fn while_it_is_a_canary() {
    let site = rig().option("--canary-time", "120").start();
    under_load(&site, |answers| {
        hear(answers, 100);
        let answer = deploy(&site, &page("worse", 2), &["reload", "--canary", "25%", "--wait"]);
        answer.says(16, &["generation 2 was taken back: failed requests: ", " of generation 1"]);
    });
    site.log("canary taken back generation=2 reason=\"failed requests: ");
    while serving(&site) != "1 serving 4" {}
    is_served_by(&site, "old");
}

#[test]
fn at_once_although_the_old_generation_takes_its_time() {
    let (gate, site) = (Gate::new(), rig().flag("--preload=off").option("--canary-time", "120").start());
    under_load(&site, |answers| {
        hear(answers, 100);
        assert_eq!(deploy(&site, &page("worse", 2), &["reload", "--canary", "25%"]).code, 0);
        // The worker that the old generation gets back imports this.
        site.folder().write("app.py", &format!("{}\n{}", gate.statement(), page("old", 0)));
        site.log("canary taken back generation=2");
        let successor = gate.arrival();
        site.log("generation gone generation=2");
        is_served_by(&site, "old");
        assert_eq!(serving(&site), "1 serving 4", "one of them boots");
        assert_eq!(site.logged("worker ready generation=1"), 4);
        successor.let_go("on");
        site.log("worker ready generation=1");
    });
}

#[test]
fn although_another_release_boots_meanwhile() {
    let (gate, site) = (Gate::new(), rig().option("--watch", "40").start());
    under_load(&site, |answers| {
        hear(answers, 300);
        let source = format!("{}\n{}", gate.statement(), page("better", 0));
        thread::scope(|scope| {
            let worse = scope.spawn(|| deploy(&site, &page("worse", 2), &["reload", "--wait"]));
            site.log("generation serving generation=2");
            let better = scope.spawn(|| deploy(&site, &source, &["reload"]));
            let _hangs = gate.arrival();
            worse.join().expect("it ends").says(16, &["generation 2 was taken back: failed requests: "]);
            is_served_by(&site, "old");
            // It begins anew.
            site.log("generation booting generation=4");
            gate.arrival().let_go("on");
            assert_eq!(better.join().expect("it ends").output, "generation 4 serves with 4 workers");
        });
    });
    is_served_by(&site, "better");
}

#[test]
fn no_canary_is_held_against_a_release_that_is_watched_itself() {
    let site = rig().option("--watch", "3600").option("--canary-time", "0").start();
    assert_eq!(deploy(&site, &page("new", 0), &["reload"]).code, 0);
    thread::scope(|scope| {
        let canary = scope.spawn(|| deploy(&site, &page("newer", 0), &["reload", "--canary", "1"]));
        site.log("canary waits generation=3 for=\"the end of the watch of generation 2\"");
        is_served_by(&site, "new");
        assert_eq!(site.control(&["promote"]).output, "generation 3 serves with 4 workers");
        assert_eq!(canary.join().expect("it ends").output, "generation 3 serves with 4 workers");
    });
    is_served_by(&site, "newer");
}

#[test]
fn an_unchanged_release_stays() {
    let site = rig().option("--watch", "15").flag("--ready-after-watch").start();
    under_load(&site, |answers| {
        hear(answers, 300);
        thread::scope(|scope| {
            let waits = scope.spawn(|| deploy(&site, &page("new", 0), &["reload", "--wait"]));
            site.log("generation serving generation=2");
            site.control(&["status", "--ready"]).says(9, &["not ready"]);
            hear(answers, 300);
            let text = site.control(&["status"]).output;
            assert!(text.contains("\n  so far "), "{text}");
            let answer = waits.join().expect("it ends");
            assert_eq!(answer.code, 0, "{answer:?}");
            for part in ["no worse than generation 1 in ", "; p99 was not judged: generation 1 had served for less"] {
                assert!(answer.output.contains(part), "{answer:?}");
            }
        });
        assert!(!site.control(&["status"]).output.contains("so far "));
        assert_eq!(site.control(&["status", "--ready"]).code, 0);
    });
    is_served_by(&site, "new");
}
