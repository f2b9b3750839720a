//! Clients that wait in a listener's queue are counted, are answered in time, and are not served once they have left.

use std::time::{Duration, Instant};

use ostler_tests::{Client, Gate, PATIENCE, Rig, Site};

/// A site whose only thread is held, and the gate that releases it.
fn held(rig: Rig) -> (Site, Gate, Client) {
    let site = rig.start();
    let gate = Gate::new();
    let mut held = site.connect();
    held.ask(&format!("/gated?{}", gate.path()));
    (site, gate, held)
}

#[test]
fn the_application_is_not_called_for_a_client_that_left_the_queue() {
    let folder = ostler_tests::Folder::new();
    let path = format!("unix:{}", folder.join("site.sock").display());
    let (site, gate, mut held) = held(Rig::new("corners.py").bind("127.0.0.1:0").bind(&path));
    let visitor = gate.arrival();
    let mut waiting: Vec<Client> = (0..30).map(|number| Client::connect(&site.addresses()[number % 2])).collect();
    waiting.iter_mut().for_each(|client| {
        client.ask("/errors");
    });
    let last = waiting.pop().expect("there are 30");
    assert!(last.is_quiet(Duration::from_millis(300)));
    drop(waiting);
    drop(last);
    wait_for_departures(&site.addresses()[0], 15);
    visitor.let_go("on");
    assert_eq!(held.answer().text(), "on");
    assert_eq!(site.get("/hello").text(), "hello\n");
    assert_eq!(site.logged("one line to wsgi.errors"), 0);
}

/// RFC 9112, 9.6: a client may close its side after its request.
#[test]
fn a_client_that_only_sends_no_more_is_answered_however_long_it_has_waited() {
    let folder = ostler_tests::Folder::new();
    let path = format!("unix:{}", folder.join("site.sock").display());
    let (site, gate, mut held) = held(Rig::new("corners.py").bind("127.0.0.1:0").bind(&path));
    let visitor = gate.arrival();
    let mut waiting: Vec<Client> = (0..10).map(|number| Client::connect(&site.addresses()[number % 2])).collect();
    for client in &mut waiting {
        client.ask("/hello").finish().expect("it is connected");
    }
    assert!(waiting.iter().all(|client| client.is_quiet(Duration::from_millis(50))), "no thread is free");
    visitor.let_go("on");
    assert_eq!(held.answer().text(), "on");
    for client in &mut waiting {
        assert_eq!(client.answer().text(), "hello\n");
    }
}

/// Waits until this many connections to an address have been closed by their clients, as the kernel sees it: CLOSE_WAIT, 08 in proc(5). On a
/// busy machine the end of a connection takes its time, even on the loopback.
fn wait_for_departures(address: &str, count: usize) {
    let port: u16 = address.rsplit(':').next().and_then(|port| port.parse().ok()).expect("a TCP address");
    let is_closed = |line: &str| {
        let mut fields = line.split_whitespace().skip(1);
        let (local, state) = (fields.next().unwrap_or_default(), fields.nth(1));
        local.ends_with(&format!(":{port:04X}")) && state == Some("08")
    };
    let until = Instant::now() + PATIENCE;
    while Instant::now() < until {
        let table = std::fs::read_to_string("/proc/net/tcp").expect("every Linux has it");
        if table.lines().filter(|line| is_closed(line)).count() >= count {
            return;
        }
        std::thread::yield_now();
    }
    panic!("the kernel does not see that the clients have left");
}

#[test]
fn a_client_in_the_queue_gets_503_in_time() {
    let (site, gate, mut held) = held(Rig::new("corners.py").option("--max-queue-time", "0.5"));
    let visitor = gate.arrival();
    let mut new: Vec<Client> = (0..5).map(|_| site.connect()).collect();
    new.iter_mut().for_each(|client| {
        client.ask("/errors");
    });
    for client in &mut new {
        assert_eq!(client.answer().status, 503);
    }
    visitor.let_go("on");
    assert_eq!(held.answer().text(), "on");
    assert_eq!(site.get("/hello").text(), "hello\n");
    assert_eq!(site.logged("one line to wsgi.errors"), 0, "the application never saw it");
}

#[test]
fn status_and_log_tell_how_many_wait() {
    let folder = ostler_tests::Folder::new();
    let path = format!("unix:{}", folder.join("site.sock").display());
    let rig = Rig::new("corners.py").bind("127.0.0.1:0").bind(&path).option("--backlog", "64");
    let (site, gate, mut held) = held(rig);
    let visitor = gate.arrival();
    let mut waiting: Vec<Client> = (0..7).map(|number| Client::connect(&site.addresses()[number % 2])).collect();
    waiting.iter_mut().for_each(|client| {
        client.ask("/hello");
    });
    let status: serde_json::Value = serde_json::from_str(&site.control(&["status", "--json"]).output).expect("JSON");
    let queue = |index: usize| (status["queues"][index]["waiting"].as_u64(), status["queues"][index]["room"].as_u64());
    assert_eq!([queue(0), queue(1)], [(Some(4), Some(64)), (Some(3), Some(64))]);
    let people = site.control(&["status"]).output;
    assert!(people.contains(": 4 wait to be accepted, of at most 64"), "{people}");
    let saturated = site.log("site saturated");
    assert_eq!((saturated.key("waiting"), saturated.key("room")), (Some("4"), Some("64")));
    assert_eq!((saturated.key("workers"), saturated.key("idle")), (Some("1"), Some("0")));
    visitor.let_go("on");
    assert_eq!(held.answer().text(), "on");
    for client in &mut waiting {
        assert_eq!(client.answer().text(), "hello\n");
    }
}
