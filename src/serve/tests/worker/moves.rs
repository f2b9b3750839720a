//! Connections that move to other workers, one or many at a time, and how they are spread.

use std::{
    io::{Read, Write},
    sync::atomic::Ordering::Relaxed,
    thread,
    time::Instant,
};

use ostler_serve::LoopEnd;
use ostler_wire::{FromWorker, WorkerSettings};

use crate::{
    client::Client,
    hello,
    script::PATIENCE,
    site::{Site, settings},
};

/// Keep-alive connections, opened one after the other.
fn opened(site: &Site, count: usize) -> Vec<Client> {
    let one = |_| {
        let mut client = site.client();
        assert_eq!(client.asks("/hello"), hello());
        client
    };
    (0..count).map(one).collect()
}

/// How many connections each worker has, once there are `all` of them together.
fn spread(site: &Site, workers: std::ops::Range<u16>, all: usize) -> Vec<usize> {
    let begun = Instant::now();
    loop {
        let each: Vec<_> =
            workers.clone().map(|slot| site.board.slot(slot).connections.load(Relaxed) as usize).collect();
        if each.iter().sum::<usize>() == all {
            return each;
        }
        assert!(begun.elapsed() < PATIENCE, "{each:?} are not {all}");
        thread::yield_now();
    }
}

#[test]
fn a_drain_moves_many_connections_in_few_packets() {
    let mut site = Site::start(1, settings());
    let mut clients = opened(&site, 300);
    site.add_worker();
    site.drain(0, true);
    assert!(matches!(site.hear(0), FromWorker::Drained));
    assert_eq!(site.board.slot(0).given.load(Relaxed), 300);
    assert_eq!(site.board.slot(0).sends.load(Relaxed), 300u64.div_ceil(32));
    for client in &mut clients {
        assert_eq!(client.asks("/hello"), hello());
    }
    assert_eq!(site.board.slot(1).taken.load(Relaxed), 300);
}

#[test]
fn a_worker_that_finds_no_room_serves_on_and_tries_again_when_there_is_some() {
    let mut site = Site::start(1, settings());
    // Partly sent heads of this size fill the exchange soon.
    let begin = format!("GET /hello HTTP/1.1\r\nHost: test\r\nX-Long: {}", "x".repeat(8000));
    let mut clients: Vec<Client> = (0..80).map(|_| site.client()).collect();
    for client in &mut clients {
        client.send(&begin);
    }
    spread(&site, 0..1, 80);
    site.settled(0);
    site.drain(0, true);
    let board = site.board.clone();
    let slot = board.slot(0);
    while slot.given.load(Relaxed) == 0 {
        thread::yield_now();
    }
    // Each turn of the loop gives one packet while there is room.
    for _turn_of_the_loop in 0..10 {
        site.settled(0);
    }
    let given = slot.given.load(Relaxed);
    assert!(given < 80, "the exchange is never full");
    // The last connection finds no room there, and is served by its own worker.
    clients[79].send("\r\n\r\n");
    assert_eq!(clients[79].answer(), hello());
    site.settled(0);
    assert_eq!(slot.given.load(Relaxed), given);
    let sends = slot.sends.load(Relaxed);
    for _turn_of_the_loop in 0..10 {
        site.settled(0);
    }
    assert_eq!(slot.sends.load(Relaxed), sends, "it tries again although there is no room");
    let next = site.add_worker();
    assert!(matches!(site.hear(0), FromWorker::Drained));
    assert_eq!(slot.given.load(Relaxed), 80);
    for client in &mut clients[..79] {
        client.send("\r\n\r\n");
        assert_eq!(client.answer(), hello());
    }
    assert_eq!(clients[79].asks("/hello"), hello());
    assert_eq!(site.board.slot(next as u16).taken.load(Relaxed), 80);
}

#[test]
fn connections_that_are_opened_in_turn_are_spread() {
    let site = Site::start(4, settings());
    let _clients = opened(&site, 400);
    let each = spread(&site, 0..4, 400);
    assert!(each.iter().all(|connections| *connections <= 150), "{each:?}");
}

#[test]
fn connections_that_move_are_spread() {
    let mut site = Site::start(1, settings());
    let mut clients = opened(&site, 600);
    for _ in 0..4 {
        site.add_worker();
    }
    site.drain(0, true);
    assert!(matches!(site.hear(0), FromWorker::Drained));
    let each = spread(&site, 1..5, 600);
    assert!(each.iter().all(|connections| *connections <= 225), "{each:?}");
    for client in &mut clients {
        assert_eq!(client.asks("/hello"), hello());
    }
}

#[test]
fn a_worker_at_its_bound_leaves_room_elsewhere_to_others() {
    let site = Site::start(2, WorkerSettings { connections: 4, ..settings() });
    // Until both serve, the other one counts as having no room.
    (0..4).for_each(|turn| site.settled(turn % 2));
    let mut clients = opened(&site, 8);
    assert_eq!(spread(&site, 0..2, 8), [4, 4]);
    assert!(clients.iter_mut().all(|client| client.asks("/hello") == hello()));
}

#[test]
fn a_stop_during_a_drain_loses_nobody_on_the_exchange() {
    let mut site = Site::start(1, settings());
    let mut clients = opened(&site, 100);
    site.drain(0, true);
    assert!(matches!(site.hear(0), FromWorker::Drained));
    // All connections are on the exchange. One of them sends a request, and the site stops while the next worker starts.
    let last = site.add_worker();
    clients[99].get("/hello");
    site.drain(last, false);
    assert_eq!(clients[99].answer(), hello());
    assert!(clients.iter_mut().all(Client::closed));
    assert!(matches!(site.hear(last), FromWorker::Drained));
}

#[test]
fn a_request_that_would_wait_moves_to_an_idle_sibling() {
    let site = Site::start(2, settings());
    // Finds two connections of one worker: one request waits for a gate, and its worker's slot is busy.
    let mut clients: Vec<Client> = (0..8).map(|_| site.client()).collect();
    for client in &mut clients {
        assert_eq!(client.asks("/hello"), hello());
    }
    clients[0].get("/gate/a");
    site.script.arrived("a", 1);
    for client in &mut clients[1..] {
        assert_eq!(client.asks("/hello"), hello());
    }
    site.script.open("a");
    assert_eq!(clients[0].answer(), (200, b"a".to_vec()));
    for worker in 0..2 {
        site.settled(worker);
    }
    let moved: u64 = (0..2).map(|slot| site.board.slot(slot).given.load(Relaxed)).sum();
    let taken: u64 = (0..2).map(|slot| site.board.slot(slot).taken.load(Relaxed)).sum();
    assert_eq!(moved, taken);
}

#[test]
fn a_drain_moves_idle_connections_and_closes_none() {
    let mut site = Site::start(1, settings());
    let mut clients: Vec<Client> = (0..50).map(|_| site.client()).collect();
    for client in &mut clients {
        assert_eq!(client.asks("/hello"), hello());
    }
    clients[0].send("GET /hello HT");
    let mut busy = site.client();
    busy.get("/gate/a");
    site.script.arrived("a", 1);
    let next = site.add_worker();
    site.drain(0, true);
    // The one in use moves when its response is done.
    site.script.open("a");
    assert_eq!(busy.answer(), (200, b"a".to_vec()));
    assert!(matches!(site.hear(0), FromWorker::Drained));
    assert!(matches!(site.ended(0), LoopEnd::Drained { .. }));
    clients[0].send("TP/1.1\r\nHost: test\r\n\r\n");
    assert_eq!(clients[0].answer(), hello());
    for client in clients[1..].iter_mut().chain([&mut busy]) {
        assert_eq!(client.asks("/hello"), hello());
    }
    assert_eq!(site.board.slot(next as u16).taken.load(Relaxed), 51);
}

#[test]
fn a_drain_moves_more_connections_than_one_turn_does() {
    let mut site = Site::start(1, settings());
    let mut clients: Vec<Client> = (0..300).map(|_| site.client()).collect();
    for client in &mut clients {
        assert_eq!(client.asks("/hello"), hello());
    }
    site.add_worker();
    site.drain(0, true);
    assert!(matches!(site.hear(0), FromWorker::Drained));
    for client in &mut clients {
        assert_eq!(client.asks("/hello"), hello());
    }
}

#[test]
fn a_smoke_test_is_answered_here_or_nowhere_and_is_no_clients() {
    let site = Site::start(2, settings());
    let mut asks = site.smoke(0);
    asks.write_all(b"GET /hello HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n").unwrap();
    let mut answer = String::new();
    asks.read_to_string(&mut answer).unwrap();
    assert!(answer.starts_with("HTTP/1.1 200 "), "{answer}");
    assert_eq!(site.logged(), [""; 0], "it is not in the access log");
    assert_eq!(site.board.slot(0).requests.load(Relaxed), 0, "and not counted");
    let mut idle = site.smoke(0);
    site.drain(0, true);
    assert_eq!(idle.read(&mut [0]).unwrap(), 0, "its worker drains, and no other has it");
    assert_eq!(site.board.slot(1).taken.load(Relaxed), 0);
}
