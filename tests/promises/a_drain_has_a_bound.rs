//! A drain ends within its bound whatever the application does, and answers every client that is already in the listener's queue.

use std::{
    sync::mpsc,
    thread,
    time::{Duration, Instant},
};

use nix::sys::signal::Signal::{SIGINT, SIGTERM};
use ostler_tests::{Client, Gate, PATIENCE, Rig};

use crate::pages::{page, page_with};

#[test]
fn nothing_in_the_application_delays_the_end_past_its_bound() {
    for statement in [
        "threading.Thread(target=threading.Event().wait).start()",
        "import atexit; atexit.register(threading.Event().wait)",
        "import atexit; atexit.register(lambda: time.sleep(1000))",
    ] {
        let source = page_with("served", statement);
        let mut site = Rig::with_source(&source).option("--graceful-timeout", "1").flag("--preload=off").start();
        assert_eq!(site.get("/").text(), "served");
        site.stop();
    }
}

#[test]
fn a_stuck_request_is_named_when_the_bound_passes() {
    let mut site = Rig::new("corners.py").option("--graceful-timeout", "1").start();
    let mut stuck = site.connect();
    stuck.send("GET /sleeping?1000 HTTP/1.1\r\nHost: a\r\n\r\n");
    assert!(stuck.is_quiet(Duration::from_millis(300)));
    site.stop();
    let log = site.whole_log();
    assert!(log.contains("GET /sleeping?1000") && log.contains("in sleeping"), "{log}");
    assert!(log.contains("request cut") && log.contains("client=127.0.0.1:"), "{log}");
    assert_eq!(stuck.answer().status, 503);
}

#[test]
fn a_quick_stop_names_what_it_cuts() {
    let mut site = Rig::new("corners.py").start();
    let gate = Gate::new();
    let mut held = site.connect();
    held.ask(&format!("/gated?{}", gate.path()));
    let _visitor = gate.arrival();
    site.signal(SIGINT);
    assert_eq!(site.wait(), 0);
    let log = site.whole_log();
    let cut = log.lines().find(|line| line.contains("request cut")).expect("it is named");
    assert!(cut.contains("/gated?") && cut.contains("client=127.0.0.1:"), "{cut}");
    assert_eq!(held.answer().status, 503);
}

#[test]
fn fast_clients_on_kept_connections_lose_nothing() {
    let mut site = Rig::new("corners.py").workers(2).start();
    let (under_way, begun) = mpsc::channel();
    let clients: Vec<_> = (0..16)
        .map(|_| {
            let (mut client, under_way) = (site.connect(), under_way.clone());
            thread::spawn(move || {
                for number in 0.. {
                    let answer = client.ask("/hello").try_answer();
                    let answer = answer.unwrap_or_else(|error| panic!("request {number} was lost: {error}"));
                    assert_eq!(answer.text(), "hello\n");
                    if answer.field("connection") == Some("close") {
                        return;
                    }
                    if number == 20 {
                        under_way.send(()).expect("the test waits for it");
                    }
                }
            })
        })
        .collect();
    clients.iter().for_each(|_| begun.recv_timeout(PATIENCE).expect("all clients are served"));
    site.signal(SIGTERM);
    for client in clients {
        client.join().expect("its last answer was whole, and said that it is the last");
    }
    assert_eq!(site.wait(), 0);
}

#[test]
fn at_exit_hooks_run() {
    let source = page_with("served", "import atexit; atexit.register(lambda: print('the hook ran', flush=True))");
    let mut site = Rig::with_source(&source).start();
    site.stop();
    assert!(site.whole_output().contains("the hook ran"));
}

#[test]
fn clients_in_the_queue_are_answered_before_the_end() {
    let mut site = Rig::new("corners.py").start();
    let gate = Gate::new();
    let mut held = site.connect();
    held.ask(&format!("/gated?{}", gate.path()));
    let visitor = gate.arrival();
    let mut queued: Vec<_> = (0..20).map(|_| site.connect()).collect();
    for client in &mut queued {
        client.send("GET /hello HTTP/1.1\r\nHost: a\r\n\r\n");
    }
    site.signal(SIGTERM);
    site.log("stopping");
    visitor.let_go("on");
    assert_eq!(held.answer().text(), "on");
    for client in &mut queued {
        assert_eq!(client.answer().text(), "hello\n");
    }
    assert_eq!(site.wait(), 0);
}

#[test]
fn clients_that_connect_later_are_refused_at_once() {
    let rig = Rig::new("corners.py");
    let path = format!("unix:{}", rig.folder().join("site.sock").display());
    let mut site = rig.bind("127.0.0.1:0").bind(&path).start();
    let gate = Gate::new();
    let mut held = site.connect();
    held.ask(&format!("/gated?{}", gate.path()));
    let visitor = gate.arrival();
    site.signal(SIGTERM);
    site.log("stopping");
    let begun = Instant::now();
    for address in site.addresses() {
        while Client::try_connect(address).is_ok() {
            assert!(begun.elapsed() < PATIENCE, "{address} still takes connections");
        }
    }
    visitor.let_go("on");
    assert_eq!(held.answer().text(), "on");
    assert_eq!(site.wait(), 0);
}

#[test]
fn with_a_drain_delay_it_goes_on_accepting_and_is_not_ready() {
    let mut site = Rig::with_source(&page("served")).option("--drain-delay", "2").start();
    let ready = site.control(&["status", "--ready"]);
    assert_eq!((ready.code, ready.output.as_str()), (0, "ready: generation 1 serves, 1 of 1 workers"));
    site.signal(SIGTERM);
    site.log("stopping");
    site.control(&["status", "--ready"]).says(9, &["not ready: the site is stopping"]);
    assert_eq!(site.get("/").field("connection"), Some("close"));
    assert_eq!(site.get("/").text(), "served");
    assert_eq!(site.wait(), 0);
}

#[test]
fn a_client_that_has_just_connected_may_still_ask() {
    let mut site = Rig::new("corners.py").start();
    let mut early = site.connect();
    site.signal(SIGTERM);
    site.log("worker draining");
    assert_eq!(early.get("/hello").text(), "hello\n");
    assert_eq!(site.wait(), 0);
}
