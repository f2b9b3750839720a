//! A client that always has more to send, or takes all there is, holds up nobody.

use std::{
    io::{self, Write},
    net::Shutdown,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering::Relaxed},
    },
    thread::{self, JoinHandle},
    time::Duration,
};

use ostler_wire::WorkerSettings;

use crate::{
    hello,
    site::{Site, settings},
};

/// Sends `first`, then `then` again and again, on a connection of its own, until told to stop. Discards the answers.
fn endlessly(site: &Site, first: String, then: Vec<u8>, over: Arc<AtomicBool>) -> JoinHandle<()> {
    let mut sending = site.client().0;
    let mut receiving = sending.try_clone().unwrap();
    thread::spawn(move || drop(io::copy(&mut receiving, &mut io::sink())));
    thread::spawn(move || {
        sending.write_all(first.as_bytes()).unwrap();
        while !over.load(Relaxed) {
            sending.write_all(&then).unwrap();
        }
        sending.shutdown(Shutdown::Both).unwrap();
    })
}

/// Checks that other clients, timers and the master are served beside a client that always sends more.
fn beside(first: String, then: Vec<u8>) {
    let brief = Duration::from_millis(10);
    let site = Site::start(1, WorkerSettings { header_timeout: brief, ..settings() });
    let over = Arc::new(AtomicBool::new(false));
    let busy = endlessly(&site, first, then, over.clone());
    let mut client = site.client();
    for _ in 0..5 {
        assert_eq!(client.asks("/hello"), hello());
        assert_eq!(site.client().asks("/hello"), hello(), "a new connection");
        site.settled(0);
    }
    assert_eq!(site.client().send("GET /").answer().0, 408, "a time-out");
    assert!(!busy.is_finished(), "it went on all the while");
    over.store(true, Relaxed);
    busy.join().unwrap();
}

#[test]
fn a_flood_of_pipelined_requests_holds_up_nobody() {
    beside(String::new(), b"GET /hello HTTP/1.1\r\nHost: test\r\n\r\n".repeat(1000));
}

#[test]
fn an_upload_at_full_speed_holds_up_nobody() {
    let head = "POST /echo HTTP/1.1\r\nHost: test\r\nContent-Length: 1000000000000\r\n\r\n";
    beside(head.into(), vec![b'x'; 1 << 20]);
}

#[test]
fn an_upload_in_chunks_of_a_byte_holds_up_nobody() {
    let head = "POST /echo HTTP/1.1\r\nHost: test\r\nTransfer-Encoding: chunked\r\n\r\n";
    beside(head.into(), b"1\r\nx\r\n".repeat(100_000));
}

#[test]
fn a_client_that_takes_its_answer_at_full_speed_holds_up_nobody() {
    beside(String::new(), b"GET /size/2000000 HTTP/1.1\r\nHost: test\r\n\r\n".repeat(10));
}
