//! More requests or connections than a worker can serve.

use std::{sync::atomic::Ordering::Relaxed, time::Duration};

use ostler_wire::WorkerSettings;

use crate::{
    client::Client,
    hello,
    site::{Site, settings},
};

#[test]
fn overload_is_answered_oldest_first_and_clients_that_left_are_dropped() {
    let site = Site::start(1, WorkerSettings { max_queue_time: Duration::from_millis(500), ..settings() });
    let mut clients: Vec<Client> = (0..3).map(|_| site.client()).collect();
    for client in &mut clients {
        assert_eq!(client.asks("/hello"), hello());
    }
    let mut busy = site.client();
    busy.get("/gate/a");
    site.script.arrived("a", 1);
    for (number, client) in clients.iter_mut().enumerate() {
        client.get(&format!("/hello?{number}"));
        site.settled(0);
    }
    for client in &mut clients {
        assert_eq!(client.answer().0, 503);
    }
    let shed: Vec<String> = site.logged().into_iter().filter(|line| line.ends_with("503")).collect();
    assert_eq!(shed, (0..3).map(|number| format!("GET /hello?{number} HTTP/1.1 503")).collect::<Vec<_>>());
    site.script.open("a");
    assert_eq!(busy.answer().0, 200);
    let calls = site.script.threads.lock().unwrap().len();
    assert_eq!(calls, 4);
}

#[test]
fn a_client_that_left_costs_no_call() {
    let site = Site::start(1, settings());
    let mut leaving = site.client();
    assert_eq!(leaving.asks("/hello"), hello());
    let mut busy = site.client();
    busy.get("/gate/a");
    site.script.arrived("a", 1);
    leaving.get("/hello");
    while site.board.slot(0).queued.load(Relaxed) == 0 {
        site.settled(0);
    }
    drop(leaving);
    while site.board.slot(0).connections.load(Relaxed) > 1 {
        site.settled(0);
    }
    site.script.open("a");
    assert_eq!(busy.answer().0, 200);
    assert_eq!(site.script.threads.lock().unwrap().len(), 2);
}

#[test]
fn a_full_worker_accepts_again_when_a_connection_ends() {
    let site = Site::start(1, WorkerSettings { connections: 2, ..settings() });
    let mut clients: Vec<Client> = (0..3).map(|_| site.client()).collect();
    for client in &mut clients[..2] {
        client.send("GET /hello HTTP/1.1\r\n");
    }
    while site.board.slot(0).connections.load(Relaxed) < 2 {
        site.settled(0);
    }
    clients[2].get("/hello");
    site.settled(0);
    assert_eq!(site.board.slot(0).connections.load(Relaxed), 2, "a connection with a request is not closed");
    drop(clients.remove(0));
    assert_eq!(clients[1].answer(), hello());
    assert_eq!(clients[0].send("Host: test\r\n\r\n").answer(), hello());
}

#[test]
fn the_connection_that_has_idled_longest_gives_way_to_a_new_one() {
    let site = Site::start(1, WorkerSettings { connections: 3, ..settings() });
    let mut clients: Vec<Client> = (0..3).map(|_| site.client()).collect();
    for client in &mut clients {
        assert_eq!(client.asks("/hello"), hello());
    }
    clients[0].send("GET /hel");
    assert_eq!(clients[1].asks("/hello"), hello());
    site.settled(0);
    let mut newcomer = site.client();
    assert_eq!(newcomer.asks("/hello"), hello());
    assert!(clients[2].closed(), "it has idled longest");
    assert_eq!(clients[0].send("lo HTTP/1.1\r\nHost: test\r\n\r\n").answer(), hello());
    for client in [&mut clients.remove(1), &mut newcomer] {
        assert_eq!(client.asks("/hello"), hello());
    }
}
