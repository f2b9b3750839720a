//! With `--workers 1..4` there are as many workers as the load needs: more when requests wait and no worker is idle, fewer when they have not been
//! needed for a while, and no client notices either.

use std::{
    sync::atomic::{AtomicBool, Ordering::SeqCst},
    thread,
};

use ostler_tests::{Client, Gate, Line, Rig, Site, Visitor};
use serde_json::Value;

use crate::pages::page;

/// Calls that hold a worker each, until they are let go.
struct Held(Vec<(Client, Visitor)>);

impl Held {
    /// One after the other comes to the gate: none of them waits for another to go.
    fn at(site: &Site, gate: &Gate, calls: usize) -> Held {
        let ask = |_| {
            let mut client = site.connect();
            client.ask(&format!("/gated?{}", gate.path()));
            (client, gate.arrival())
        };
        Held((0..calls).map(ask).collect())
    }

    /// The clients, who have been answered.
    fn let_go(self) -> Vec<Client> {
        let answered = |(mut client, visitor): (Client, Visitor)| {
            visitor.let_go("on");
            assert_eq!(client.answer().text(), "on");
            client
        };
        self.0.into_iter().map(answered).collect()
    }
}

fn rig(range: &str, shrink_after: &str) -> Rig {
    Rig::new("corners.py").without_workers().option("--workers", range).option("--shrink-after", shrink_after)
}

fn status(site: &Site) -> Value {
    serde_json::from_str(&site.control(&["status", "--json"]).output).expect("JSON")
}

/// Waits until the number of workers has come to this one, by one at a time. What the log says last.
fn shrinks(site: &Site, from: i32, to: i32) -> Line {
    let step = |_, workers| {
        let scaled = site.log("scaled");
        assert_eq!(scaled.number("workers"), workers);
        Some(scaled)
    };
    (to..from).rev().fold(None, step).expect("it has to shrink")
}

#[test]
fn more_come_when_requests_wait_and_no_worker_is_idle() {
    let site = rig("1..4", "0").start();
    let gate = Gate::new();
    let mut clients: Vec<Client> = (0..4).map(|_| site.connect()).collect();
    for client in &mut clients {
        client.ask(&format!("/gated?{}", gate.path()));
    }
    let visitors: Vec<Visitor> = clients.iter().map(|_| gate.arrival()).collect();
    let mut beyond = site.connect();
    beyond.ask("/hello");
    let serving = &status(&site)["generations"][0];
    assert_eq!(
        (&serving["wanted"], &serving["range"]["least"], &serving["range"]["most"]),
        (&4.into(), &1.into(), &4.into())
    );
    let people = site.control(&["status"]).output;
    assert!(people.contains("4 of 4 workers (1..4)"), "{people}");
    // Whoever comes then waits, as with 4 from the start.
    site.log("site saturated");
    let metrics = &status(&site)["metrics"];
    assert_eq!((&metrics["ostler_workers_least"], &metrics["ostler_workers_most"]), (&1.into(), &4.into()));
    assert!(metrics["ostler_scalings_total{direction=\"up\"}"].as_u64() >= Some(1), "{metrics}");
    visitors.into_iter().for_each(|visitor| visitor.let_go("on"));
    assert!(clients.iter_mut().all(|client| client.answer().text() == "on"));
    assert_eq!(beyond.answer().text(), "hello\n");
    let scaled = site.log("scaled");
    assert!(scaled.key("reason").is_some_and(|why| why.contains("waited and the worker was not idle")), "{scaled:?}");
}

#[test]
fn those_that_compute_are_no_more_than_the_processors() {
    let processors = thread::available_parallelism().expect("the system knows").get();
    let source = "
import os
def app(environ, start_response):
    while not os.path.exists('over'): pass
    start_response('200 OK', [('Content-Type', 'text/plain')])
    return [b'done']
";
    let range = format!("1..{}", processors + 2);
    let rig = Rig::with_source(source).without_workers().option("--workers", &range).option("--timeout", "0");
    let site = rig.start();
    let mut clients: Vec<Client> = (0..processors + 4).map(|_| site.connect()).collect();
    for client in &mut clients {
        client.ask("/");
    }
    let reason = site.log("not scaled");
    assert!(reason.key("reason").is_some_and(|why| why.contains(" processor")), "{reason:?}");
    let wanted = status(&site)["generations"][0]["wanted"].as_u64().expect("a number") as usize;
    assert!((1..=processors).contains(&wanted), "{wanted} workers on {processors} processors");
    site.folder().write("over", "");
    assert!(clients.iter_mut().all(|client| client.answer().text() == "done"));
}

#[test]
fn they_go_when_they_have_not_been_needed_and_never_one_in_a_call() {
    let site = rig("1..4", "1").start();
    let gate = Gate::new();
    let mut held = Held::at(&site, &gate, 4);
    // The call of the last worker that has come goes on.
    let last = Held(held.0.split_off(3));
    let mut kept = held.let_go();
    while site.log("scaled").number("workers") != 4 {}
    let why = shrinks(&site, 4, 2);
    assert_eq!(why.key("reason"), Some("no more than 1 of 3 workers were needed within 1 s"));
    kept.extend(last.let_go());
    shrinks(&site, 2, 1);
    site.drained(3);
    for client in &mut kept {
        assert_eq!(client.get("/hello").text(), "hello\n", "its connection has moved");
    }
    assert_eq!(status(&site)["generations"][0]["wanted"], 1);
}

#[test]
fn nobody_loses_anything_while_they_come_and_go() {
    let site = rig("1..4", "1").start();
    let gate = Gate::new();
    let over = AtomicBool::new(false);
    let answered = thread::scope(|scope| {
        let kept = || {
            let mut client = site.connect();
            let mut count = 0;
            while !over.load(SeqCst) {
                assert_eq!(client.get("/hello").text(), "hello\n");
                count += 1;
            }
            count
        };
        let fresh = || {
            let mut count = 0;
            while !over.load(SeqCst) {
                assert_eq!(site.get("/hello").text(), "hello\n");
                count += 1;
            }
            count
        };
        let clients = [scope.spawn(kept), scope.spawn(kept), scope.spawn(fresh)];
        for _ in 0..2 {
            let held = Held::at(&site, &gate, 3);
            while site.log("scaled").number("workers") != 4 {}
            held.let_go();
            // Two of the three clients may be in calls at a look.
            assert_eq!(site.log("scaled").number("workers"), 3);
            site.log("worker drained");
        }
        over.store(true, SeqCst);
        clients.map(|client| client.join().expect("no request is lost"))
    });
    assert!(answered.iter().all(|count| *count > 0), "{answered:?}");
}

#[test]
fn a_new_generation_begins_with_as_many_as_the_old_one_has() {
    let site = rig("1..8", "0").start();
    let gate = Gate::new();
    let held = Held::at(&site, &gate, 3);
    let had = status(&site)["generations"][0]["wanted"].as_u64().expect("a number") as i32;
    assert!(had >= 3);
    assert_eq!(site.control(&["reload"]).code, 0);
    assert_eq!(site.log("generation serving").number("workers"), had);
    held.let_go();
    assert_eq!(site.control(&["upgrade"]).code, 0);
    assert_eq!(site.log("generation serving").number("workers"), had);
    // The number and the range stay.
    assert_eq!(site.control(&["rollback"]).code, 0);
    let generations = status(&site)["generations"].clone();
    let serving = generations.as_array().expect("some").iter().find(|one| one["stage"] == "serving").expect("one");
    assert_eq!((serving["wanted"].as_i64(), serving["range"]["most"].as_i64()), (Some(had.into()), Some(8)));
}

#[test]
fn none_goes_while_a_reload_is_under_way() {
    let gate = Gate::new();
    let source = page("one");
    let site =
        Rig::with_source(&source).without_workers().option("--workers", "1..4").option("--shrink-after", "1").start();
    assert_eq!(site.control(&["scale", "+3"]).code, 0);
    site.log("scaled");
    site.folder().write("app.py", &format!("{}\n{}", gate.statement(), page("two")));
    let asked = thread::scope(|scope| {
        let reload = scope.spawn(|| site.control(&["reload"]));
        let boots = gate.arrival();
        // Somebody is at work, so that the load is looked at, for longer than a worker may be needless.
        let until = std::time::Instant::now() + std::time::Duration::from_millis(2500);
        while std::time::Instant::now() < until {
            assert_eq!(site.get("/").text(), "one");
        }
        assert_eq!(status(&site)["generations"][0]["wanted"], 4);
        boots.let_go("!");
        reload.join().expect("it ends")
    });
    assert_eq!(asked.code, 0, "{asked:?}");
    shrinks(&site, 4, 1);
    assert_eq!(site.get("/").text(), "two");
}

#[test]
fn operators_move_the_number_within_the_range_and_the_range() {
    let site = rig("2..4", "0").start();
    let scale = |how: &str| site.control(&["scale", how]).output;
    assert_eq!(scale("+1"), "generation 1 serves with 3 workers of 2..4");
    site.control(&["scale", "+2"]).says(9, &["there can be from 2 to 4 workers, not 5"]);
    assert_eq!(scale("4..6"), "generation 1 serves with 4 workers of 4..6");
    site.control(&["scale", "-1"]).says(9, &["there can be from 4 to 6 workers, not 3"]);
    assert_eq!(scale("2"), "generation 1 serves with 2 workers");
    assert_eq!(scale("-1"), "generation 1 serves with 1 worker");
    assert_eq!(scale("1..2"), "generation 1 serves with 1 worker of 1..2");
    let gate = Gate::new();
    Held::at(&site, &gate, 2).let_go();
    assert_eq!(site.control(&["reload"]).code, 0);
    assert_eq!(status(&site)["metrics"]["ostler_workers_most"], 4, "a reload takes --workers again");
    site.control(&["scale", "6..4"]).says(2, &["expected the smaller number first, as in 4..6"]);
    site.control(&["scale", "4.."]).says(2, &["expected a whole number from 1 to 512, or two such as 4..16"]);
}

#[test]
fn a_range_is_a_setting_as_any_other() {
    for (range, why) in [
        ("0..4", "from 1 to 512, or two such as 4..16"),
        ("4..2", "2..4"),
        ("4..", "a whole number"),
        ("4..513", "1 to 512"),
    ] {
        rig(range, "1").refuse().says(2, &["--workers", why]);
    }
    let bare = || Rig::with_source(&page("served")).without_workers();
    let site = bare().file("ostler.toml", "workers = \"1..3\"\n").start();
    assert_eq!(status(&site)["metrics"]["ostler_workers_most"], 3);
    site.folder().write("ostler.toml", "workers = \"3..1\"");
    site.control(&["reload"]).says(2, &["workers", "expected the smaller number first"]);
    assert_eq!(status(&site)["metrics"]["ostler_workers_most"], 3, "the old settings stay");
    let site = bare().env("OSTLER_WORKERS", "2..2").start();
    let serving = &status(&site)["generations"][0];
    assert_eq!(serving["wanted"], 2);
    assert!(serving["range"].is_null(), "nothing is left to choose");
}

#[test]
fn a_plain_number_stays() {
    let site = Rig::new("corners.py").option("--shrink-after", "1").start();
    let gate = Gate::new();
    let held = Held::at(&site, &gate, 1);
    let mut waiting: Vec<Client> = (0..3).map(|_| site.connect()).collect();
    for client in &mut waiting {
        client.ask("/hello");
    }
    site.log("site saturated");
    held.let_go();
    for client in &mut waiting {
        assert_eq!(client.answer().text(), "hello\n");
    }
    assert_eq!(site.logged("scaled"), 0);
}
