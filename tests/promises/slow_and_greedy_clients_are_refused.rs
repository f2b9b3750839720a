//! Clients that are too slow or take too much are refused. Each test waits for what the daemon does, never for a time.

use std::time::Duration;

use ostler_tests::{Ending, Gate, Rig};

const SOURCE: &str = "
import socket
TEXT = [('Content-Type', 'text/plain')]

def app(environ, start_response):
    return globals()[environ['PATH_INFO'][1:]](environ, start_response)

def hello(environ, start_response):
    start_response('200 OK', TEXT)
    return [b'hello']

def big(environ, start_response):
    start_response('200 OK', TEXT)
    return [b'x' * (20 << 20)]

def stream(environ, start_response):
    start_response('200 OK', TEXT)
    try:
        while True:
            yield b'x' * 65536
    finally:
        with socket.socket(socket.AF_UNIX) as gate:
            gate.connect(environ['QUERY_STRING'])
            gate.recv(1)
";
const MOMENT: Duration = Duration::from_millis(100);

#[test]
fn a_client_that_takes_nothing_of_its_answer_is_given_up() {
    let site = Rig::with_source(SOURCE).option("--write-timeout", "0.3").start();
    let mut client = site.connect();
    client.ask("/big");
    client.is_reset();
    assert_eq!(site.get("/hello").text(), "hello");
}

#[test]
fn a_client_that_takes_nothing_of_a_stream_does_not_keep_its_thread() {
    let site = Rig::with_source(SOURCE).option("--write-timeout", "0.3").start();
    let gate = Gate::new();
    let mut client = site.connect();
    client.ask(&format!("/stream?{}", gate.path()));
    gate.arrival().let_go("on");
    client.is_reset();
    assert_eq!(site.get("/hello").text(), "hello");
}

#[test]
fn a_head_that_comes_byte_by_byte_has_no_more_time_than_another() {
    let site = Rig::with_source(SOURCE).option("--header-timeout", "0.5").start();
    let mut client = site.connect();
    client.send("GET /hello HTTP/1.1\r\nX: ");
    while client.is_quiet(MOMENT) {
        client.send("y");
    }
    assert_eq!(client.answer().status, 408);
}

#[test]
fn a_time_out_of_zero_bounds_nothing() {
    let bounds = ["--header-timeout", "--body-timeout", "--write-timeout"];
    let site = bounds.iter().fold(Rig::with_source(SOURCE), |rig, bound| rig.option(bound, "0")).start();
    let mut client = site.connect();
    assert!(client.is_quiet(MOMENT));
    client.send("POST /hello HTTP/1.1\r\nHost: a\r\n");
    assert!(client.is_quiet(MOMENT));
    client.send("Content-Length: 2\r\n\r\n1");
    assert!(client.is_quiet(MOMENT));
    assert_eq!(client.send("2").answer().text(), "hello");
    assert_eq!(client.get("/big").body.len(), 20 << 20);
}

#[test]
fn a_worker_holds_no_more_connections_than_it_may() {
    let site = Rig::with_source(SOURCE).option("--worker-connections", "2").start();
    let mut first = site.connect();
    let mut second = site.connect();
    assert_eq!((first.get("/hello").text(), second.get("/hello").text()), ("hello", "hello"));
    first.send("GET /hello HTTP/1.1\r\n");
    second.send("GET /hello HTTP/1.1\r\n");
    let mut third = site.connect();
    third.ask("/hello");
    let line = site.log("accepting paused");
    assert_eq!((line.key("limit"), line.key("value")), (Some("--worker-connections"), Some("2")));
    assert!(third.is_quiet(MOMENT), "a third one was served");
    drop(first);
    assert_eq!(third.answer().text(), "hello");
    assert_eq!(second.send("Host: a\r\n\r\n").answer().text(), "hello");
}

#[test]
fn rfc9112_9_5_an_idle_connection_ends_in_silence_and_one_that_begins_does_not() {
    let site = Rig::with_source(SOURCE).option("--keep-alive", "0.2").option("--header-timeout", "0.4").start();
    let mut idle = site.connect();
    assert_eq!(idle.get("/hello").text(), "hello");
    assert_eq!(idle.ending(), Ending::Closed);
    assert_eq!(site.connect().ending(), Ending::Closed);
    let mut begun = site.connect();
    assert_eq!(begun.send("G").answer().status, 408);
    assert_eq!(begun.ending(), Ending::Closed);
}

#[test]
fn rfc9112_9_6_a_client_that_never_stops_sending_is_cut() {
    let site = Rig::with_source(SOURCE).option("--limit-request-body", "10").start();
    let mut client = site.connect();
    client.send("POST /hello HTTP/1.1\r\nHost: a\r\nContent-Length: 11\r\n\r\n");
    // The daemon reads what the client still sends for a while, so that the client can see the answer, and then no more.
    while client.try_send([b'x'; 65536]).is_ok() {}
    assert_eq!(site.get("/hello").text(), "hello");
}
