//! A worker stops, and asks for its replacement.

use std::time::Duration;

use ostler_serve::LoopEnd;
use ostler_wire::{FromWorker, Recycle, ToWorker, WorkerSettings};

use crate::{
    hello,
    site::{Site, settings},
};

#[test]
fn a_stop_answers_what_has_begun_and_what_is_queued() {
    let mut site = Site::start(1, settings());
    let mut idle = site.client();
    assert_eq!(idle.asks("/hello"), hello());
    let mut busy = site.client();
    busy.get("/gate/a");
    site.script.arrived("a", 1);
    // Nobody accepts while Python works: this client is in the kernel's queue.
    let mut queued = site.client();
    queued.get("/hello");
    site.drain(0, false);
    assert!(idle.closed());
    site.script.open("a");
    assert_eq!(busy.answer(), (200, b"a".to_vec()));
    assert!(busy.closed());
    assert_eq!(queued.answer(), hello());
    assert!(queued.closed());
    assert!(matches!(site.hear(0), FromWorker::Drained));
    assert!(matches!(site.ended(0), LoopEnd::Drained { .. }));
}

#[test]
fn a_panic_is_a_500_and_a_wish_to_be_replaced() {
    let site = Site::start(1, settings());
    let mut client = site.client();
    assert_eq!(client.asks("/panic").0, 500);
    assert!(matches!(site.hear(0), FromWorker::Replace(Recycle::Panic)));
}

#[test]
fn a_worker_asks_for_its_replacement_once() {
    let site = Site::start(1, WorkerSettings { max_requests: 2, ..settings() });
    let mut client = site.client();
    for _ in 0..5 {
        assert_eq!(client.asks("/hello"), hello());
    }
    assert!(matches!(site.hear(0), FromWorker::Replace(Recycle::Requests)));
    site.tell(0, ToWorker::Stacks);
    assert!(matches!(site.hear(0), FromWorker::Stacks(_)));
}

#[test]
fn a_timed_out_request_is_answered_and_its_worker_wants_to_be_replaced() {
    let site = Site::start(1, WorkerSettings { timeout: Duration::from_millis(30), ..settings() });
    let mut client = site.client();
    client.get("/gate/a");
    assert_eq!(client.answer().0, 504);
    assert!(client.closed());
    assert!(matches!(site.hear(0), FromWorker::Replace(Recycle::Timeout)));
    site.script.open("a");
    assert_eq!(site.client().asks("/hello"), hello());
}
