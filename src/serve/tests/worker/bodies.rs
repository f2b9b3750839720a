//! Bodies of requests: in memory or in files, within budgets, or read by the application.

use std::io::Read;

use ostler_wire::WorkerSettings;

use crate::{
    client::Client,
    hello,
    site::{Site, settings},
};

#[test]
fn a_large_body_arrives_whole_through_a_file() {
    let site = Site::start(1, settings());
    let mut client = site.client();
    let body: Vec<u8> = (0..1_000_000u32).map(|n| (n % 251) as u8).collect();
    client.send(format!("POST /echo HTTP/1.1\r\nHost: test\r\nContent-Length: {}\r\n\r\n", body.len()));
    client.send(&body).get("/hello");
    assert_eq!(client.answer(), (200, body));
    assert_eq!(client.answer(), hello());
}

const BODY_MEMORY: usize = 128 << 10;

/// A site whose memory for bodies is full: as many of the largest as fit are there, each in a call that waits for the gate.
fn full_of_bodies(spool_limit: u64) -> (Site, Vec<Client>) {
    let worker = WorkerSettings { threads: 33, body_memory: BODY_MEMORY as u64, spool_limit, ..settings() };
    let site = Site::start(1, worker);
    let holders: Vec<_> =
        (0..32).map(|_| site.client()).map(|client| posts(client, "/where/gate", BODY_MEMORY)).collect();
    site.script.arrived("gate", holders.len());
    (site, holders)
}

fn posts(mut client: Client, path: &str, length: usize) -> Client {
    client.send(format!("POST {path} HTTP/1.1\r\nHost: test\r\nContent-Length: {length}\r\n\r\n"));
    client.send(vec![b'x'; length]);
    client
}

fn let_go(site: &Site, holders: Vec<Client>) {
    site.script.open("gate");
    for mut holder in holders {
        assert_eq!(place(&mut holder), "memory");
    }
}

fn place(client: &mut Client) -> String {
    String::from_utf8(client.answer().1).unwrap()
}

#[test]
fn bodies_are_in_memory_until_all_together_fill_it() {
    let (site, holders) = full_of_bodies(0);
    let at = |length| place(&mut posts(site.client(), "/where", length));
    assert_eq!(at(BODY_MEMORY), "file", "others fill it");
    assert_eq!(at(BODY_MEMORY / 2), "memory", "a small one needs no room");
    let_go(&site, holders);
    assert_eq!(at(BODY_MEMORY), "memory", "there is room again");
    assert_eq!(at(BODY_MEMORY + 1), "file", "it is too large");
}

#[test]
fn chunked_bodies_are_in_memory_until_all_together_fill_it() {
    let (site, holders) = full_of_bodies(0);
    let at = |length| {
        let mut client = site.client();
        client.send("POST /where HTTP/1.1\r\nHost: test\r\nTransfer-Encoding: chunked\r\n\r\n");
        client.send(format!("{length:x}\r\n")).send(vec![b'x'; length]).send("\r\n0\r\n\r\n");
        place(&mut client)
    };
    assert_eq!((at(BODY_MEMORY), at(BODY_MEMORY / 2)), ("file".into(), "memory".into()));
    let_go(&site, holders);
    assert_eq!((at(BODY_MEMORY), at(BODY_MEMORY + 1)), ("memory".into(), "file".into()));
}

#[test]
fn a_body_takes_memory_as_it_arrives_not_as_it_is_announced() {
    let site = Site::start(1, WorkerSettings { body_memory: BODY_MEMORY as u64, ..settings() });
    let mut slow: Vec<_> = (0..100).map(|_| site.client()).collect();
    for client in &mut slow {
        client.send(format!("POST /where HTTP/1.1\r\nHost: test\r\nContent-Length: {BODY_MEMORY}\r\n\r\nx"));
    }
    site.settled(0);
    assert_eq!(place(&mut posts(site.client(), "/where", BODY_MEMORY)), "memory");
}

#[test]
fn a_body_that_fits_in_memory_may_come_again_later() {
    let (site, holders) = full_of_bodies(1000);
    assert_eq!(posts(site.client(), "/where", BODY_MEMORY).answer().0, 503, "others fill it");
    assert_eq!(posts(site.client(), "/where", BODY_MEMORY + 1).answer().0, 413, "it never fits");
    let_go(&site, holders);
    assert_eq!(place(&mut posts(site.client(), "/where", BODY_MEMORY)), "memory");
}

#[test]
fn an_unbuffered_body_is_read_by_the_application() {
    let site = Site::start(1, WorkerSettings { request_buffering: false, ..settings() });
    let mut client = site.client();
    client.send("POST /echo HTTP/1.1\r\nHost: test\r\nContent-Length: 5\r\nExpect: 100-continue\r\n\r\n");
    let mut interim = [0; 25];
    client.0.read_exact(&mut interim).unwrap();
    assert_eq!(&interim, b"HTTP/1.1 100 Continue\r\n\r\n");
    client.send("abcde").get("/hello");
    assert_eq!((client.answer(), client.answer()), ((200, b"abcde".to_vec()), hello()));
}

#[test]
fn an_unbuffered_body_is_whole_however_it_is_cut() {
    let site = Site::start(1, WorkerSettings { request_buffering: false, ..settings() });
    let body: Vec<u8> = (0..500_000_u32).map(|number| (number % 251) as u8).collect();
    for size in [1_000, 70_000, body.len()] {
        let mut client = site.client();
        client.send("POST /echo HTTP/1.1\r\nHost: test\r\nTransfer-Encoding: chunked\r\n\r\n");
        for chunk in body.chunks(size) {
            client.send(format!("{:x}\r\n", chunk.len())).send(chunk).send("\r\n");
        }
        client.send("0\r\n\r\n").get("/hello");
        assert_eq!((client.answer(), client.answer()), ((200, body.clone()), hello()), "{size}");
    }
}

#[test]
fn what_is_spooled_is_bounded() {
    let limited = WorkerSettings { spool_limit: 1 << 20, body_memory: 1000, ..settings() };
    let site = Site::start(1, limited);
    let post = |length: usize| format!("POST /echo HTTP/1.1\r\nHost: test\r\nContent-Length: {length}\r\n\r\n");
    assert_eq!(site.client().send(post((1 << 20) + 1)).answer().0, 413, "it never fits");
    let mut chunked = site.client();
    chunked.send("POST /echo HTTP/1.1\r\nHost: test\r\nTransfer-Encoding: chunked\r\n\r\n200000\r\n");
    chunked.send(vec![b'x'; 2 << 20]);
    assert_eq!(chunked.answer().0, 413, "a chunked body that is too large, too");
    let mut first = site.client();
    first.send(post(1 << 20)).send(vec![b'x'; 1 << 19]);
    // The loop serves both in turns: this one was read when the other has its answer.
    let mut other = site.client();
    other.send(post(1 << 20)).send(vec![b'x'; 1 << 20]);
    assert_eq!(other.answer().0, 503, "others fill it");
    first.send(vec![b'x'; 1 << 19]);
    assert_eq!(first.answer().1.len(), 1 << 20);
    let mut again = site.client();
    again.send(post(1 << 20)).send(vec![b'x'; 1 << 20]);
    assert_eq!(again.answer().1.len(), 1 << 20, "there is room again");
}
