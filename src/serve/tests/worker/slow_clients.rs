//! Clients that send or take slowly hold no thread, and their time is not the application's.

use std::time::Duration;

use ostler_wire::{WorkerSettings, scoreboard::WorkerState};

use crate::{
    client::Client,
    hello,
    site::{Site, settings},
};

#[test]
fn an_application_waits_while_its_client_takes_too_little() {
    let site = Site::start(1, settings());
    let mut slow = site.client();
    let long = 100 << 20;
    slow.get(&format!("/size/{long}"));
    // The call goes on, and holds the only thread. A slow client is no reason to replace the worker.
    while site.board.slot(0).state() != WorkerState::Busy {
        site.settled(0);
    }
    assert!(slow.answer().1 == vec![b'x'; long], "bytes that the kernel still sends are not overwritten");
    assert_eq!(slow.asks("/hello"), hello());
}

/// Waits until a time-out of the loop's own, which is longer than `--timeout`, has passed.
fn later(clock: &mut Client) {
    assert_eq!(clock.send("GET /").answer().0, 408);
}

#[test]
fn waiting_for_a_clients_body_does_not_count_for_the_time_out() {
    let (timeout, header_timeout) = (Duration::from_millis(700), Duration::from_secs(2));
    let site = Site::start(
        1,
        WorkerSettings { timeout, header_timeout, slow_request: timeout / 2, request_buffering: false, ..settings() },
    );
    let (mut clock, mut slow) = (site.client(), site.client());
    assert_eq!(clock.asks("/hello"), hello());
    slow.send("POST /echo HTTP/1.1\r\nHost: test\r\nContent-Length: 5\r\n\r\nabc");
    later(&mut clock);
    assert_eq!(slow.send("de").answer(), (200, b"abcde".to_vec()));
    assert_eq!(slow.asks("/hello"), hello());
}

#[test]
fn waiting_for_a_client_to_take_its_answer_does_not_count_for_the_time_out() {
    let (timeout, header_timeout) = (Duration::from_secs(6), Duration::from_secs(8));
    let site = Site::start(1, WorkerSettings { timeout, header_timeout, ..settings() });
    let (mut clock, mut slow) = (site.client(), site.client());
    assert_eq!(clock.asks("/hello"), hello());
    slow.get("/size/100000000");
    later(&mut clock);
    assert_eq!(slow.answer().1.len(), 100_000_000);
    assert_eq!(slow.asks("/hello"), hello());
}

#[test]
fn an_unbuffered_body_has_a_minimum_rate_too() {
    let site = Site::start(1, WorkerSettings { request_buffering: false, min_rate: 1 << 40, ..settings() });
    let mut slow = site.client();
    slow.send("POST /part HTTP/1.1\r\nHost: test\r\nContent-Length: 5\r\n\r\nabc");
    assert_eq!(slow.answer(), (200, b"the body came more slowly than --min-rate".to_vec()));
}

#[test]
fn a_long_body_stays_where_it_is_until_the_client_has_it() {
    // There is no room in files, so the application would wait if the body were copied.
    let site = Site::start(1, WorkerSettings { spool_limit: 1, ..settings() });
    let mut readers: Vec<Client> = (0..2).map(|_| site.client()).collect();
    for slow in &mut readers {
        slow.get("/kept/30000000").get("/hello");
    }
    assert_eq!(site.client().asks("/hello"), hello());
    for slow in &mut readers {
        assert!(slow.answer().1 == vec![b'x'; 30_000_000]);
        assert_eq!(slow.answer(), hello());
    }
    // The bodies have given their room back, also where the client has left.
    let mut longest = site.client();
    longest.get("/kept/70000000");
    assert_eq!(site.client().asks("/hello"), hello(), "a single body may be longer than the budget");
    assert_eq!(longest.answer().1.len(), 70_000_000);
    for _ in 0..5 {
        let mut left = site.client();
        left.get("/kept/30000000");
        drop(left);
        assert_eq!(site.client().asks("/hello"), hello());
    }
}

#[test]
fn a_slow_reader_holds_no_thread() {
    let site = Site::start(1, settings());
    let mut slow = site.client();
    slow.get("/size/20000000");
    let mut streaming = site.client();
    streaming.get("/stream/2000");
    let payload = 2000 * 10_000;
    // Neither client has read a byte. Their responses wait, and the only thread answers others.
    assert_eq!(site.client().asks("/hello"), hello());
    assert!(slow.answer().1 == vec![b'x'; 20_000_000], "bytes that the kernel still sends are not cleared");
    assert!(streaming.chunked() == vec![b'y'; payload], "nor here");
}
