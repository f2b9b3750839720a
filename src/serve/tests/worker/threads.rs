//! Which threads call the application, and what the loop does meanwhile.

use std::{collections::HashSet, sync::atomic::Ordering::Relaxed, thread};

use ostler_wire::{FromWorker, ToWorker, WorkerSettings, scoreboard::WorkerState};

use crate::{
    client::Client,
    hello,
    site::{Site, settings},
};

#[test]
fn the_loop_is_retaken_from_a_call_that_lasts() {
    let site = Site::start(1, settings());
    let mut caller = site.client();
    caller.get("/gate/a");
    site.script.arrived("a", 1);
    // Python is busy; the loop must still read, refuse, and answer the master.
    let mut faulty = site.client();
    let mut other = site.client();
    other.get("/hello");
    site.tell(0, ToWorker::Stacks);
    assert!(matches!(site.hear(0), FromWorker::Stacks(text) if text.starts_with("the stacks")));
    assert_eq!(site.board.slot(0).state(), WorkerState::Busy);
    site.script.open("a");
    assert_eq!(caller.answer(), (200, b"a".to_vec()));
    assert_eq!(other.answer(), hello());
    faulty.send("nonsense\r\n\r\n");
    assert_eq!(faulty.answer().0, 400);
    assert!(faulty.closed());
}

#[test]
fn responses_wait_for_short_calls_only() {
    let site = Site::start(1, settings());
    let mut clients: Vec<Client> = (0..7).map(|_| site.client()).collect();
    for _ in 0..10 {
        for client in &mut clients {
            assert_eq!(client.asks("/brief"), (200, b"brief".to_vec()));
        }
    }
    // Calls are short by now and more requests are ready, so responses may wait for each other.
    let paths = ["/gate/first", "/brief", "/brief", "/early/second", "/brief", "/gate/third", "/brief"];
    clients[0].get(paths[0]);
    site.script.arrived("first", 1);
    for (client, path) in clients.iter_mut().zip(paths).skip(1) {
        client.get(path);
        site.settled(0);
    }
    while site.board.slot(0).queued.load(Relaxed) < 6 {
        site.settled(0);
    }
    site.script.open("first");
    site.script.arrived("second", 1);
    let answers: Vec<_> = clients[..4].iter_mut().map(Client::answer).collect();
    let said = |text: &str| (200, text.as_bytes().to_vec());
    assert_eq!(answers, [said("first"), said("brief"), said("brief"), said("early")], "while a call lasts");
    site.script.open("second");
    site.script.arrived("third", 1);
    assert_eq!(clients[4].answer(), said("brief"), "while another lasts");
    site.script.open("third");
    assert_eq!(clients[5].answer(), said("third"));
    assert_eq!(clients[6].answer(), said("brief"));
    // The same connections still work, and no bytes are left over.
    for client in &mut clients {
        assert_eq!(client.asks("/brief"), said("brief"));
    }
}

#[test]
fn with_one_thread_all_calls_are_made_on_it() {
    let site = Site::start(1, settings());
    let mut clients: Vec<Client> = (0..3).map(|_| site.client()).collect();
    clients[0].get("/gate/a");
    site.script.arrived("a", 1);
    clients[1].get("/hello");
    clients[2].get("/hello");
    site.tell(0, ToWorker::Stacks);
    site.hear(0);
    site.script.open("a");
    for client in &mut clients {
        assert_eq!(client.answer().0, 200);
    }
    let threads: HashSet<_> = site.script.threads.lock().unwrap().iter().copied().collect();
    assert_eq!(threads.len(), 1);
}

#[test]
fn several_threads_call_at_once() {
    let site = Site::start(1, WorkerSettings { threads: 3, ..settings() });
    let mut clients: Vec<Client> = (0..3).map(|_| site.client()).collect();
    for client in &mut clients {
        client.get("/gate/a");
    }
    site.script.arrived("a", 3);
    let mut fourth = site.client();
    fourth.get("/hello");
    site.script.open("a");
    for client in &mut clients {
        assert_eq!(client.answer(), (200, b"a".to_vec()));
    }
    assert_eq!(fourth.answer(), hello());
}

#[test]
fn calls_that_wait_begin_on_every_free_thread() {
    let site = Site::start(1, WorkerSettings { threads: 8, ..settings() });
    // Must hold whether the loop expects short calls (first round) or calls that wait (later).
    for round in ["first", "second", "third"] {
        for _ in 0..20 {
            assert_eq!(site.client().asks("/hello"), hello());
        }
        let mut clients: Vec<Client> = (0..12).map(|_| site.client()).collect();
        for client in &mut clients {
            client.get(&format!("/gate/{round}"));
        }
        site.script.arrived(round, 8);
        site.script.open(round);
        for client in &mut clients {
            assert_eq!(client.answer(), (200, round.into()));
        }
    }
}

#[test]
fn a_request_whose_thread_cannot_call_is_taken_back_and_waits_with_the_others() {
    let site = Site::start(1, WorkerSettings { threads: 4, ..settings() });
    let mut waiting: Vec<Client> = (0..3).map(|_| site.client()).collect();
    for client in &mut waiting {
        assert_eq!(client.asks("/hello"), hello());
    }
    let lock = site.script.lock.lock().unwrap();
    for client in &mut waiting {
        client.get("/hello");
    }
    while site.board.slot(0).queued.load(Relaxed) < 3 {
        thread::yield_now();
    }
    assert_eq!(site.board.slot(0).state(), WorkerState::Busy);
    drop(lock);
    for client in &mut waiting {
        assert_eq!(client.answer(), hello());
    }
}
