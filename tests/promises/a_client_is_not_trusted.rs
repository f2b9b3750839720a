//! A client is not trusted: whatever it sends, the application, the log and the other clients see the truth.

use std::fs;

use ostler_tests::{Gate, Rig};

const SOURCE: &str = "
import socket, threading
TEXT = [('Content-Type', 'text/plain')]

def app(environ, start_response):
    page = globals().get(environ['PATH_INFO'][1:], hello)
    return page(environ, start_response)

def hello(environ, start_response):
    start_response('200 OK', TEXT)
    return [b'hello']

def big(environ, start_response):
    start_response('200 OK', TEXT)
    return [b'x' * (20 << 20)]

def two_big(environ, start_response):
    start_response('200 OK', TEXT)
    yield b'x' * (20 << 20)
    yield b'x' * (20 << 20)

def stuck(environ, start_response):
    threading.Event().wait()

def gated(environ, start_response):
    with socket.socket(socket.AF_UNIX) as gate:
        gate.connect(environ['QUERY_STRING'])
        gate.recv(1)
    return hello(environ, start_response)
";

/// A rig whose access log says of each request its line, status and bytes.
fn recorded() -> Rig {
    let rig = Rig::with_source(SOURCE).option("--access-logfile", "-");
    rig.option("--access-logformat", "%(m)s %(U)s %(s)s %(B)s")
}

#[test]
fn a_body_that_the_application_reads_spoils_neither_the_loop_nor_the_access_log() {
    let rig = Rig::new("corners.py").flag("--no-request-buffering");
    let mut site = rig.option("--access-logfile", "-").option("--access-logformat", "%(r)s %(s)s %({x-n}i)s").start();
    let mut client = site.connect();
    let post = |n: u8, body: &str| {
        format!("POST /hello?{n} HTTP/1.1\r\nHost: a\r\nX-N: {n}\r\nContent-Length: {}\r\n\r\n{body}", body.len())
    };
    let get = |n: u8| format!("GET /hello?{n} HTTP/1.1\r\nHost: a\r\nX-N: {n}\r\n\r\n");
    client.send([post(1, "body"), get(2), post(3, ""), post(4, &"x".repeat(9000)), post(5, "b"), get(6)].concat());
    for _ in 1..=6 {
        assert_eq!(client.answer().text(), "hello\n");
    }
    site.stop();
    let methods = ["POST", "GET", "POST", "POST", "POST", "GET"].iter().zip(1..);
    let expected: Vec<String> = methods.map(|(method, n)| format!("{method} /hello?{n} HTTP/1.1 200 {n}")).collect();
    assert_eq!(site.whole_output().lines().collect::<Vec<_>>(), expected);
}

#[test]
fn the_daemons_own_pages_count_their_bytes() {
    let mut site = recorded().option("--limit-request-body", "3").start();
    let mut client = site.connect();
    client.send("POST /hello HTTP/1.1\r\nHost: a\r\nContent-Length: 4\r\n\r\n");
    let refused = client.answer();
    let mut client = site.connect();
    client.send("HEAD / HTTP/1.1\r\n\r\n").answer_to_head();
    site.stop();
    let expected = format!("POST /hello 413 {}\nHEAD / 400 0", refused.body.len());
    assert_eq!(site.whole_output().trim_end(), expected);
}

#[test]
fn a_request_that_is_timed_out_is_a_line_of_the_access_log_at_once() {
    let mut site = recorded().option("--timeout", "0.5").option("--graceful-timeout", "0.5").start();
    let answer = site.get("/stuck");
    assert_eq!(answer.status, 504);
    assert_eq!(site.output("/stuck").text(), format!("GET /stuck 504 {}", answer.body.len()));
    let mut client = site.connect();
    client.send("HEAD /stuck HTTP/1.1\r\nHost: a\r\n\r\n");
    assert_eq!(client.answer_to_head().status, 504);
    assert!(client.rest().0.is_empty(), "an answer to HEAD has no body");
    site.output("HEAD /stuck 504 0");
    site.stop();
    assert_eq!(site.whole_output().lines().count(), 2, "{}", site.whole_output());
}

#[test]
fn an_answer_to_a_request_that_is_timed_out_is_the_same_without_an_access_log() {
    let mut site = Rig::with_source(SOURCE).option("--timeout", "0.5").option("--graceful-timeout", "0.5").start();
    let mut client = site.connect();
    // Longer than what the scoreboard shows of a request.
    client.send(format!("HEAD /stuck?{} HTTP/1.1\r\nHost: a\r\n\r\n", "x".repeat(1000)));
    assert_eq!(client.answer_to_head().status, 504);
    assert!(client.rest().0.is_empty(), "an answer to HEAD has no body");
    let mut client = site.connect();
    client.send("GET /stuck HTTP/1.1\r\nHost: a\r\nAccept: application/json\r\n\r\n");
    assert_eq!(client.answer().text(), "{\"status\": 504, \"error\": \"Gateway Timeout\"}\n");
    site.stop();
}

#[test]
fn a_client_that_leaves_while_its_request_waits_is_a_line() {
    let (mut site, gate) = (recorded().start(), Gate::new());
    let mut first = site.connect();
    first.ask(&format!("/gated?{}", gate.path()));
    let visitor = gate.arrival();
    let (mut second, mut third) = (site.connect(), site.connect());
    second.ask("/left");
    third.send("POST /half HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\n\r\nab");
    // The worker accepts these two only when its thread is free. The second's answer shows that it has.
    visitor.let_go("on");
    assert_eq!(first.answer().status, 200);
    assert_eq!(second.answer().status, 200);
    first.ask(&format!("/gated?{}", gate.path()));
    let visitor = gate.arrival();
    second.ask("/left");
    drop(second);
    third.reset();
    site.output("GET /left 499 0");
    site.output("POST /half 499 0");
    visitor.let_go("on");
    assert_eq!(first.answer().status, 200);
    site.stop();
}

#[test]
fn a_client_that_takes_nothing_is_cut_and_named_with_what_it_took() {
    let (rig, size) = (recorded().option("--write-timeout", "0.3"), 20 << 20);
    let site = rig.start();
    for page in ["/big", "/two_big"] {
        let mut client = site.connect();
        client.ask(page);
        client.is_reset();
        let line = site.log("response cut");
        for part in [" info ", "--write-timeout", "client=127.0.0.1", &format!("GET {page} HTTP/1.1")] {
            assert!(line.text().contains(part), "{part} is not in {}", line.text());
        }
        let (taken, left) = (line.number("taken"), line.number("left"));
        assert!(taken > 0 && left > 0 && taken + left >= size, "{}", line.text());
        let line = site.output(page).text().to_string();
        let sent: i32 = line.rsplit(' ').next().and_then(|sent| sent.parse().ok()).expect("a number");
        assert!(0 < sent && sent < size, "{line}");
    }
    assert_eq!(site.logged("client left"), 0);
}

#[test]
fn a_response_that_finds_no_room_waits_for_its_client() {
    let rig = recorded().option("--spool-directory", "spool").option("--log-level", "debug");
    let spool = rig.folder().join("spool");
    fs::create_dir(&spool).expect("a private folder is writable");
    let site = rig.start();
    fs::remove_dir(&spool).expect("it is empty");
    let mut client = site.connect();
    client.ask("/two_big");
    let line = site.log("no room to spool");
    assert!(line.text().contains("GET /two_big HTTP/1.1") && line.text().contains("No such file"), "{}", line.text());
    assert_eq!(client.answer().status, 200);
    site.output("GET /two_big 200");
    assert_eq!(site.logged("client left"), 0);
}

#[test]
fn refusals_name_their_request_and_are_few_in_the_log_however_many_there_are() {
    let site = recorded().option("--limit-request-fields", "1").start();
    for number in 0..300 {
        let mut client = site.connect();
        client.send(format!("GET /{number}\\ HTTP/1.1\r\nHost: a\r\nX: y\r\n\r\n"));
        assert_eq!(client.answer().status, 431);
    }
    let first = site.log("request refused");
    assert!(first.text().contains(r#"request="GET /0\\ HTTP/1.1""#), "{}", first.text());
    let mut counted = site.log("more clients refused or cut").number("count");
    let mut client = site.connect();
    client.send("GET /late HTTP/1.1\r\nHost: a\r\nX: y\r\n\r\n");
    assert_eq!(client.answer().status, 431);
    site.log("GET /late");
    let written = || i32::try_from(site.logged("request refused")).expect("few");
    while counted + written() < 301 {
        counted += site.log("more clients refused or cut").number("count");
    }
    assert_eq!(counted + written(), 301);
    assert!(site.logged("request refused") < 150);
    site.output(r"GET /299\\ 431");
}

#[test]
fn the_access_logs_time_is_local_with_its_offset() {
    let format = "%(t)s";
    let rig = Rig::with_source(&format!("import os, time\nos.environ['TZ'] = 'UTC'; time.tzset()\n{SOURCE}"));
    let rig = rig.option("--access-logfile", "-").option("--access-logformat", format);
    let site = rig.env("TZ", "<+0545>-5:45").start();
    assert_eq!(site.get("/hello").text(), "hello");
    let line = site.output("[");
    assert!(line.text().ends_with(" +0545]"), "{}", line.text());
    site.connect().send("nonsense\r\n");
    assert!(site.log("request refused").text().contains("+05:45 "));
}
