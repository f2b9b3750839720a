//! Bodies: kept in unnamed files, or read live where that is asked for; an incomplete body is never taken for a complete one.

use ostler_tests::{Client, Ending, Gate, Rig, Site};

const UPLOADS: &str = "
import os, socket
TEXT = [('Content-Type', 'text/plain')]
broken = []

def app(environ, start_response):
    return globals()[environ['PATH_INFO'][1:]](environ, start_response)

def open_files(environ, start_response):
    # What this process has open of a folder, after a stop at the gate that the query names.
    gate, folder = environ['QUERY_STRING'].split(',')
    with socket.socket(socket.AF_UNIX) as visit:
        visit.connect(gate)
        visit.recv(1)
    links = [os.readlink(f'/proc/self/fd/{name}') for name in os.listdir('/proc/self/fd') if name.isdigit()
             and os.path.lexists(f'/proc/self/fd/{name}')]
    start_response('200 OK', TEXT)
    return [''.join(f'{link}\\n' for link in links if link.startswith(folder)).encode()]

def lines(environ, start_response):
    start_response('200 OK', TEXT)
    return iter(environ['wsgi.input'].readline, b'')

def ignores(environ, start_response):
    start_response('200 OK', TEXT)
    return [b'not read']

def reads(environ, start_response):
    try:
        body = environ['wsgi.input'].read()
    except OSError as error:
        print('read() raised', type(error).__name__, file=environ['wsgi.errors'])
        raise
    start_response('200 OK', TEXT)
    return [b'%d' % len(body)]
";

fn live() -> Rig {
    Rig::with_source(UPLOADS).flag("--no-request-buffering")
}

#[test]
fn a_large_body_is_in_a_file_without_a_name_for_as_long_as_its_request() {
    let rig = Rig::with_source(UPLOADS).option("--body-memory", "1k");
    let spool = rig.folder().path().join("spool");
    std::fs::create_dir(&spool).expect("a private folder is writable");
    let spool = spool.display().to_string();
    let site = rig.option("--spool-directory", &spool).start();
    let gate = Gate::new();
    let target = format!("/open_files?{},{spool}", gate.path());
    for (length, files) in [(1024, 0), (1025, 1), (0, 0)] {
        let mut client = site.connect();
        client.send(format!("POST {target} HTTP/1.1\r\nHost: a\r\nContent-Length: {length}\r\n\r\n"));
        client.send(vec![b'x'; length]);
        let visitor = gate.arrival();
        assert_eq!(std::fs::read_dir(&spool).expect("it is there").count(), 0, "no name");
        visitor.let_go("on");
        let answer = client.answer();
        assert_eq!(answer.text().lines().count(), files, "{length} bytes: {}", answer.text());
        assert!(answer.text().lines().all(|line| line.ends_with(" (deleted)")), "{}", answer.text());
    }
}

#[test]
fn a_body_that_cannot_be_kept_is_answered_with_500() {
    let rig = Rig::with_source(UPLOADS).option("--body-memory", "1k");
    let spool = rig.folder().path().join("spool");
    std::fs::create_dir(&spool).expect("a private folder is writable");
    let site = rig.option("--spool-directory", &spool.display().to_string()).start();
    std::fs::remove_dir(&spool).expect("it is empty");
    assert_eq!(site.connect().post("/reads", "text/plain", &[b'x'; 2000]).status, 500);
    site.log("could not make a spool file");
    assert_eq!(site.connect().post("/reads", "text/plain", &[b'x'; 1000]).text(), "1000");
}

#[test]
fn pep3333_a_live_body_is_read_and_answered_while_it_arrives() {
    let site = live().start();
    for (head, frame) in [("Content-Length: 8", false), ("Transfer-Encoding: chunked", true)] {
        let mut client = site.connect();
        client.send(format!("POST /lines HTTP/1.1\r\nHost: a\r\n{head}\r\n\r\n"));
        for line in ["one\n", "two\n"] {
            client.send(if frame { format!("4\r\n{line}\r\n") } else { line.into() });
            client.until(line.as_bytes());
        }
        if frame {
            client.send("0\r\n\r\n");
        }
        client.until(b"\r\n0\r\n\r\n");
    }
}

#[test]
fn waiting_for_a_live_body_leaves_the_interpreter_to_others() {
    let site = live().option("--threads", "2").start();
    let mut slow = site.connect();
    slow.send("POST /reads HTTP/1.1\r\nHost: a\r\nContent-Length: 2\r\n\r\n1");
    for _ in 0..3 {
        assert_eq!(site.get("/ignores").text(), "not read");
    }
    assert_eq!(slow.send("2").answer().text(), "2");
}

#[test]
fn rfc9112_8_reading_a_live_body_that_breaks_off_raises() {
    let site = live().start();
    let begin = |bytes: &str| {
        let mut client = site.connect();
        client.send(format!("POST /reads HTTP/1.1\r\nHost: a\r\n{bytes}"));
        client
    };
    let mut half = begin("Content-Length: 10\r\n\r\nhello");
    half.finish().expect("it is connected");
    site.log("read() raised");
    assert_eq!(half.answer().status, 400);
    drop(begin("Content-Length: 10\r\n\r\nhello"));
    site.log("read() raised");
    let mut malformed = begin("Transfer-Encoding: chunked\r\n\r\n5\r\nhelloXX");
    site.log("read() raised");
    assert_eq!(malformed.answer().status, 400);
    assert_eq!(malformed.ending(), Ending::Closed);
    assert_eq!(site.get("/ignores").text(), "not read");
}

#[test]
fn a_live_body_over_the_limit_raises_and_a_declared_one_is_refused() {
    let site = live().option("--limit-request-body", "100").start();
    let mut client = site.connect();
    client.send("POST /reads HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n65\r\n");
    client.send([b'x'; 101]).send("\r\n0\r\n\r\n");
    site.log("read() raised");
    assert_eq!(client.answer().status, 413);
    client = site.connect();
    client.send("POST /reads HTTP/1.1\r\nHost: a\r\nExpect: 100-continue\r\nContent-Length: 101\r\n\r\n");
    assert_eq!(client.answer().status, 413);
}

#[test]
fn a_live_body_that_pauses_for_too_long_raises() {
    let site = live().option("--body-timeout", "0.1").start();
    let mut client = site.connect();
    client.send("POST /reads HTTP/1.1\r\nHost: a\r\nContent-Length: 10\r\n\r\nhello");
    site.log("read() raised TimeoutError");
    assert_eq!(client.answer().status, 408);
}

#[test]
fn rfc9112_9_6_an_answer_that_leaves_a_live_body_unread_closes_without_a_reset() {
    let site = live().start();
    let mut client = site.connect();
    client.send("POST /ignores HTTP/1.1\r\nHost: a\r\nContent-Length: 3000000\r\n\r\n");
    let answer = client.answer();
    assert_eq!((answer.text(), answer.field("connection")), ("not read", Some("close")));
    // The rest of the body, which comes only now, causes no reset.
    client.send(vec![b'x'; 3_000_000]).finish().expect("it is connected");
    assert_eq!(client.ending(), Ending::Closed);
}

#[test]
fn rfc9112_9_3_a_live_body_that_came_whole_keeps_the_connection() {
    let site = live().start();
    let mut client = site.connect();
    assert_eq!(client.post("/reads", "text/plain", b"hello").text(), "5");
    client.send("POST /ignores HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n1\r\na\r\n0\r\n\r\n");
    assert_eq!(client.answer().text(), "not read");
    assert_eq!(client.get("/ignores").text(), "not read");
}

#[test]
fn rfc9112_9_6_a_client_that_sends_on_after_a_refusal_sees_the_answer() {
    let site = Rig::with_source(UPLOADS).option("--limit-request-body", "1000").start();
    refused_while_sending(&site, "Content-Length: 3000000", 413);
    refused_while_sending(&site, "Transfer-Encoding: chunked", 400);
}

fn refused_while_sending(site: &Site, framing: &str, status: u16) {
    let mut client = Client::connect(site.address());
    client.send(format!("POST /reads HTTP/1.1\r\nHost: a\r\n{framing}\r\n\r\n"));
    client.send(vec![b'x'; 3_000_000]);
    assert_eq!(client.answer().status, status);
    assert_eq!(client.ending(), Ending::Closed);
}
