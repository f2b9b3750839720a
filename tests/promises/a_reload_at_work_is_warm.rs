//! Where a site is at work, a new generation loads what first requests load before it takes over: its first worker answers some requests
//! and becomes the template of the others. Whatever goes wrong with that, no client notices.

use std::{
    collections::BTreeMap,
    sync::{
        Mutex,
        atomic::{AtomicBool, Ordering::SeqCst},
    },
    thread,
};

use ostler_tests::{Gate, Rig, Site};

use crate::pages::page_that_shows;

const WORKERS: u16 = 4;
/// The master knows only after a second or so that there is much to do.
const RELOADS: u16 = 50;

/// Each answer tells whether it is the first of its process, and of those that this was forked from. `first` is what the first does.
fn source(first: &str) -> String {
    page_that_shows(
        "first() if COLD and COLD.pop() else 'warm'",
        &format!("COLD = [1]\ndef first():\n    {first}\n    return 'cold'"),
    )
}

fn rig() -> Rig {
    Rig::with_source(&source("pass")).workers(WORKERS).option("--generation-header", "X-Generation")
}

/// Clients ask all the time, on connections that they keep and on new ones, while `events` happen. How many answers were cold, by
/// generation. A client may lose its connection where the application ends its process.
fn at_work(site: &Site, dies: bool, events: impl FnOnce()) -> BTreeMap<u32, usize> {
    let (over, cold) = (AtomicBool::new(false), Mutex::new(BTreeMap::new()));
    let client = |keeps: bool| {
        let mut client = site.connect();
        while !over.load(SeqCst) {
            client.ask("/");
            match client.try_answer() {
                Ok(answer) => {
                    let generation = answer.field("X-Generation").expect("it was asked for").parse().expect("a number");
                    *cold.lock().unwrap().entry(generation).or_default() += usize::from(answer.text() == "cold");
                    assert_eq!(answer.status, 200);
                }
                Err(why) => assert!(dies, "{why}"),
            }
            if dies || !keeps {
                client = site.connect();
            }
        }
    };
    thread::scope(|scope| {
        for number in 0..4 {
            scope.spawn(move || client(number % 2 == 0));
        }
        let done = std::panic::catch_unwind(std::panic::AssertUnwindSafe(events));
        over.store(true, SeqCst);
        done.unwrap_or_else(|panic| std::panic::resume_unwind(panic));
    });
    cold.into_inner().unwrap()
}

fn reload_until_one_warms(site: &Site) {
    for _ in 0..RELOADS {
        assert_eq!(site.control(&["reload"]).code, 0);
        if site.logged("worker warms") > 0 {
            return;
        }
    }
    panic!("no reload of {RELOADS} has warmed itself");
}

#[test]
fn what_a_first_request_loads_is_loaded_once() {
    let site = rig().start();
    let mut warmed = 0;
    let cold = at_work(&site, false, || {
        reload_until_one_warms(&site);
        warmed = site.log("worker warms").number("generation");
        site.log("template reforked");
    });
    assert_eq!(cold[&(warmed as u32)], 1, "{cold:?}");
    let status: serde_json::Value = serde_json::from_str(&site.control(&["status", "--json"]).output).expect("JSON");
    let serving = status["generations"].as_array().unwrap().iter().find(|one| one["stage"] == "serving").unwrap();
    assert_eq!(
        (&serving["generation"], serving["reforked"].as_u64().unwrap() > 0),
        (&warmed.into(), true),
        "{serving}"
    );
}

#[test]
fn what_must_not_be_shared_is_named_and_the_reload_goes_on() {
    let site = rig().start();
    site.folder().write(
        "app.py",
        &source("threading.Thread(target=threading.Event().wait, name='flush-queue', daemon=True).start()"),
    );
    at_work(&site, false, || {
        reload_until_one_warms(&site);
        assert!(site.log("not reforked").text().contains("flush-queue"));
    });
    assert_eq!(site.control(&["status"]).code, 0);
}

#[test]
fn a_request_that_the_first_worker_has_begun_is_finished() {
    let (gate, site) = (Gate::new(), rig().option("--threads", "4").start());
    // Of all processes one comes to the gate.
    let waits = format!(
        "try:\n        os.close(os.open('waits', os.O_CREAT | os.O_EXCL))\n        {}\n    except FileExistsError:\n        pass",
        gate.statement()
    );
    at_work(&site, false, || {
        reload_until_one_warms(&site);
        site.folder().write("app.py", &source(&waits));
        thread::scope(|scope| {
            let reload = scope.spawn(|| site.control(&["reload"]).code);
            let visitor = gate.arrival();
            assert!(site.log("not reforked").text().contains("more than 5 s"));
            assert_eq!(reload.join().expect("it is waited for"), 0);
            visitor.let_go("on");
        });
    });
    assert_eq!(site.logged("drain cut short"), 0);
}

#[test]
fn a_release_that_ends_its_first_worker_is_discarded() {
    let site = rig().start();
    at_work(&site, false, || reload_until_one_warms(&site));
    let serves = site.get("/").field("X-Generation").map(str::to_owned);
    site.folder().write("app.py", &source("os.abort()"));
    at_work(&site, true, || site.control(&["reload"]).says(10, &["was discarded: a worker ended by itself: SIGABRT"]));
    assert_eq!(site.get("/").field("X-Generation").map(str::to_owned), serves);
}

#[test]
fn a_site_at_rest_does_not_wait_for_it() {
    let site = rig().start();
    assert_eq!(site.control(&["reload"]).code, 0);
    assert_eq!(site.get("/").text(), "cold");
    assert_eq!(site.logged("worker warms"), 0);
}
