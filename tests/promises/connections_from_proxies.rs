//! Connections as HAProxy and nginx make them: with a PROXY header in pieces, or reset by a health check.

use ostler_tests::{Gate, Rig};

/// Remembers the address of each client, and answers with all of them; `/wait?PATH` waits at a gate first.
const REMEMBERS: &str = "
import socket
SEEN = []
def app(environ, start_response):
    if environ['PATH_INFO'] == '/wait':
        with socket.socket(socket.AF_UNIX) as gate:
            gate.connect(environ['QUERY_STRING'])
            gate.recv(1)
    SEEN.append(environ['REMOTE_ADDR'])
    start_response('200 OK', [('Content-Type', 'text/plain')])
    return [' '.join(SEEN).encode()]
";

#[test]
fn a_client_that_resets_before_its_address_is_read_is_not_trusted() {
    let site = Rig::with_source(REMEMBERS).option("--forwarded-allow-ips", "unix:").start();
    let mut accepted = site.connect();
    accepted.get("/");
    let gate = Gate::new();
    let mut held = site.connect();
    held.ask(&format!("/wait?{}", gate.path()));
    let visitor = gate.arrival();
    // After a reset the kernel no longer knows the client's address, but still has the bytes that came before.
    for mut liar in [accepted, site.connect()] {
        liar.send("GET /lie HTTP/1.1\r\nHost: a\r\nX-Forwarded-For: 203.0.113.9\r\n\r\n");
        liar.reset();
    }
    visitor.let_go("on");
    held.answer();
    let answer = site.get("/");
    let seen = answer.text();
    assert!(seen.split(' ').all(|address| address == "127.0.0.1"), "{seen}");
}

#[test]
fn a_binary_proxy_header_may_come_in_pieces() {
    let site = Rig::new("corners.py").flag("--proxy-protocol").start();
    let header = b"\r\n\r\n\0\r\nQUIT\n!\x11\0\x0c\xcb\0q\t\n\0\0\x01\x12g\0P";
    let request = b"GET /hello HTTP/1.1\r\nHost: a\r\n\r\n";
    let mut pieces = site.connect();
    for byte in header {
        pieces.send([*byte]);
        // When another connection has been answered, the worker has read the byte.
        site.connect().send([&header[..], request].concat()).answer();
    }
    assert_eq!(pieces.send(request).answer().text(), "hello\n");
}

#[test]
fn a_health_check_that_resets_is_no_broken_request() {
    let site = Rig::with_source(REMEMBERS).flag("--proxy-protocol").start();
    let greeting = "PROXY TCP4 203.0.113.9 10.0.0.1 4711 80\r\n";
    let gate = Gate::new();
    let mut held = site.connect();
    held.send(greeting).ask(&format!("/wait?{}", gate.path()));
    let visitor = gate.arrival();
    // As HAProxy's check-send-proxy does: a LOCAL header (the proxy speaks for itself), then RST.
    let mut check = site.connect();
    check.send(b"\r\n\r\n\0\r\nQUIT\n \0\0\0");
    check.reset();
    visitor.let_go("on");
    held.answer();
    assert_eq!(site.connect().send(greeting).get("/").text(), "203.0.113.9 203.0.113.9");
    assert_eq!(site.logged("request refused"), 0);
}
