//! Canaries come, are promoted and taken back under load: each request has its answer, and no connection is closed or told to go.

use std::{
    panic::{AssertUnwindSafe, catch_unwind, resume_unwind},
    sync::{
        atomic::{AtomicBool, Ordering::SeqCst},
        mpsc::{Receiver, Sender, channel},
    },
    thread,
    time::Duration,
};

use nix::{
    sys::signal::{
        Signal::{SIGHUP, SIGKILL},
        kill,
    },
    unistd::Pid,
};
use ostler_tests::{PATIENCE, Rig, Site};
use serde_json::Value;

use crate::pages::page;

const KEPT: usize = 8;
const FRESH: usize = 4;

/// What the clients were answered.
struct Answers(Receiver<String>);

impl Answers {
    /// Waits until clients that ask from now on were answered by each of these.
    fn hold(&self, texts: &[&str]) {
        let mut missing = texts.to_vec();
        self.0.try_iter().for_each(drop);
        while !missing.is_empty() {
            let text = self.0.recv_timeout(PATIENCE).expect("the clients go on");
            missing.retain(|missing| *missing != text);
        }
    }

    /// Waits until so many in a row were by this one.
    fn settle_on(&self, text: &str) {
        let mut row = 0;
        while row < 300 {
            let other = self.0.recv_timeout(PATIENCE).expect("the clients go on") != text;
            row = if other { 0 } else { row + 1 };
        }
    }
}

fn under_load(site: &Site, events: impl FnOnce(&Answers)) {
    let (sender, receiver) = channel();
    let over = AtomicBool::new(false);
    thread::scope(|scope| {
        for number in 0..KEPT + FRESH {
            let (over, sender) = (&over, sender.clone());
            scope.spawn(move || client(site, number < KEPT, over, &sender));
        }
        let done = catch_unwind(AssertUnwindSafe(|| events(&Answers(receiver))));
        over.store(true, SeqCst);
        done.unwrap_or_else(|panic| resume_unwind(panic));
    });
}

/// Asks until it is over, on one connection or on a new one each time.
fn client(site: &Site, keeps: bool, over: &AtomicBool, answers: &Sender<String>) {
    let mut client = site.connect();
    while !over.load(SeqCst) {
        let answer = client.get("/");
        assert_eq!(answer.status, 200);
        assert_eq!(answer.field("connection"), None, "told to go");
        let _ = answers.send(answer.text().to_owned());
        if keeps {
            assert!(client.is_quiet(Duration::from_millis(1)), "closed");
        } else {
            client = site.connect();
        }
    }
}

/// Reloads to code that answers with this, with two of the four workers.
fn begin(site: &Site, text: &str) {
    site.folder().write("app.py", &page(text));
    let answer = site.control(&["reload", "--canary", "50%"]);
    assert!(answer.output.contains(" serves as a canary with 2 workers of 4"), "{answer:?}");
}

fn says(site: &Site, command: &[&str], said: &str) {
    let answer = site.control(command);
    assert!(answer.output.contains(said), "{answer:?}");
}

#[test]
fn begun_promoted_and_taken_back_again_and_again() {
    let site = Rig::with_source(&page("old")).workers(4).option("--canary-time", "0").start();
    under_load(&site, |answers| {
        for round in 0..3 {
            let (new, taken_back) = (format!("new {round}"), format!("taken back {round}"));
            let old = if round == 0 { "old".into() } else { format!("new {}", round - 1) };
            begin(&site, &taken_back);
            answers.hold(&[&old, &taken_back]);
            says(&site, &["rollback"], " serves with 4 workers");
            answers.settle_on(&old);
            begin(&site, &taken_back);
            // It replaces that one.
            begin(&site, &new);
            answers.hold(&[&old, &new]);
            says(&site, &["promote"], " serves with 4 workers");
            answers.settle_on(&new);
        }
    });
}

#[test]
fn whatever_happens_to_the_site_meanwhile() {
    let site = Rig::with_source(&page("old")).workers(4).option("--canary-time", "0").start();
    under_load(&site, |answers| {
        begin(&site, "canary");
        answers.hold(&["old", "canary"]);
        for scale in ["+2", "-1"] {
            says(&site, &["scale", scale], " serves with ");
            answers.hold(&["old", "canary"]);
        }
        says(&site, &["recycle"], " serves with ");
        answers.hold(&["old", "canary"]);
        let status: Value = serde_json::from_str(&site.control(&["status", "--json"]).output).expect("JSON");
        let mut generations = status["generations"].as_array().expect("a list").iter();
        let canary = generations.find(|each| each["stage"] == "canary").expect("there is one");
        let template = canary["template"].as_i64().expect("it is preloaded");
        kill(Pid::from_raw(template as i32), SIGKILL).expect("it lives");
        site.log("canary taken back");
        answers.settle_on("old");
        begin(&site, "another");
        answers.hold(&["old", "another"]);
        site.folder().write("app.py", &page("new"));
        site.signal(SIGHUP);
        answers.settle_on("new");
        begin(&site, "upgraded");
        answers.hold(&["new", "upgraded"]);
        says(&site, &["upgrade"], " serves with 4 workers");
        answers.settle_on("upgraded");
    });
}
