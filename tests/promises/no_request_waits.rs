//! No request waits while a worker is idle: not behind a slow request, not behind a slow client, not behind ten thousand idle ones.

use std::{
    collections::BTreeMap,
    fs,
    io::Write,
    time::{Duration, Instant},
};

use nix::sys::resource::{Resource, getrlimit, setrlimit};
use ostler_tests::{Client, Ending, Gate, PATIENCE, Rig, Site};
use serde_json::Value;

#[test]
fn with_one_thread_every_call_is_on_the_main_thread() {
    let site = Rig::new("corners.py").start();
    let gate = Gate::new();
    let mut held = site.connect();
    held.ask(&format!("/gated?{}", gate.path()));
    let visitor = gate.arrival();
    // By now the stand-by has taken over the loop.
    let mut clients: Vec<Client> = (0..5).map(|_| site.connect()).collect();
    for client in &mut clients {
        client.ask("/process");
    }
    visitor.let_go("on");
    assert_eq!(held.answer().text(), "on");
    for mut client in clients {
        let seen: Value = serde_json::from_str(client.answer().text()).expect("JSON");
        assert_eq!(seen["main thread"], true);
    }
}

#[test]
fn kept_connections_move_away_from_a_worker_that_is_busy() {
    let site = Rig::new("corners.py").workers(2).start();
    let mut clients: Vec<Client> = (0..16).map(|_| site.connect()).collect();
    for client in &mut clients {
        assert_eq!(client.get("/hello").text(), "hello\n");
    }
    let gate = Gate::new();
    let mut held = site.connect();
    held.ask(&format!("/gated?{}", gate.path()));
    let visitor = gate.arrival();
    for _ in 0..5 {
        for client in &mut clients {
            assert_eq!(client.get("/hello").text(), "hello\n", "although the other worker is busy");
        }
    }
    for number in 0..50 {
        assert_eq!(site.get("/hello").text(), "hello\n", "new connection {number}");
    }
    visitor.let_go("on");
    assert_eq!(held.answer().text(), "on");
}

/// Keeps the interpreter lock in a call into C until the test writes to the pipe.
const HOLDS_THE_LOCK: &str = r#"
import ctypes, os

def app(environ, start_response):
    start_response("200 OK", [("Content-Type", "text/plain")])
    if environ["PATH_INFO"] == "/hold":
        pipe = os.open(environ["QUERY_STRING"], os.O_RDONLY)
        byte = ctypes.create_string_buffer(1)
        ctypes.PyDLL(None).read(pipe, byte, 1)
        os.close(pipe)
    return [b"%d" % os.getpid()]
"#;

/// A site with a thread that holds the interpreter lock in its first client's request, until something is written to the file.
fn lock_held(workers: u16) -> (Site, Client, fs::File) {
    let site = Rig::with_source(HOLDS_THE_LOCK).workers(workers).option("--threads", "4").start();
    let pipe = site.folder().join("pipe");
    nix::unistd::mkfifo(&pipe, nix::sys::stat::Mode::S_IRWXU).expect("a private folder is writable");
    let mut holder = site.connect();
    holder.ask(&format!("/hold?{}", pipe.display()));
    // Opening waits until the application has opened it.
    let release = fs::File::create(&pipe).expect("the application reads it");
    (site, holder, release)
}

#[test]
fn no_request_is_called_on_a_thread_that_cannot_get_the_interpreter_lock() {
    let (site, mut holder, mut release) = lock_held(2);
    let pids: Vec<String> = (0..40).map(|_| site.get("/").text().to_owned()).collect();
    assert!(pids.iter().all(|pid| *pid == pids[0]), "by the worker whose lock is free: {pids:?}");
    release.write_all(b"x").expect("the application still reads");
    assert_ne!(holder.answer().text(), pids[0]);
}

#[test]
fn the_call_that_holds_the_interpreter_lock_is_named() {
    let (site, mut holder, mut release) = lock_held(1);
    let mut waiting = site.connect();
    waiting.ask("/");
    let line = site.log("interpreter lock held");
    assert!(line.text().contains("thread 0: GET /hold"), "{}", line.text());
    release.write_all(b"x").expect("the application still reads");
    assert_eq!(holder.answer().text(), waiting.answer().text());
    site.log("interpreter lock free again");
    assert_eq!(site.get("/").status, 200);
}

#[test]
fn pipelined_requests_follow_their_connection() {
    let site = Rig::new("corners.py").workers(2).start();
    let gate = Gate::new();
    let mut held = site.connect();
    held.send(format!(
        "GET /gated?{} HTTP/1.1\r\nHost: a\r\n\r\nGET /hello HTTP/1.1\r\nHost: a\r\n\r\nPOST /echo HTTP/1.1\r\nHost: a\r\nContent-Length: 4\r\n\r\nbo",
        gate.path()
    ));
    gate.arrival().let_go("on");
    assert_eq!(held.answer().text(), "on");
    assert_eq!(held.answer().text(), "hello\n");
    assert_eq!(held.send("dy").answer().text(), "body");
}

#[test]
fn slow_clients_hold_nothing() {
    raise_descriptor_limit(2000);
    let site = Rig::new("corners.py").workers(2).start();
    let mut slow = vec![];
    for _ in 0..500 {
        let mut half_a_head = site.connect();
        half_a_head.send("GET /hello HTTP/1.1\r\nHost: a\r\nX-Half: ");
        slow.push(half_a_head);
        let mut half_a_body = site.connect();
        half_a_body.send("POST /echo HTTP/1.1\r\nHost: a\r\nContent-Length: 10\r\n\r\nhalf ");
        slow.push(half_a_body);
    }
    let mut readers: Vec<Client> = (0..50).map(|_| site.connect()).collect();
    for reader in &mut readers {
        // The client reads nothing of the answer, a megabyte. Only the kernel's buffers have taken some of it.
        reader.ask("/big");
    }
    let mut kept = site.connect();
    for _ in 0..20 {
        assert_eq!(kept.get("/hello").text(), "hello\n");
        assert_eq!(site.get("/hello").text(), "hello\n");
    }
    for pair in slow.chunks_mut(2) {
        assert_eq!(pair[0].send("x\r\n\r\n").answer().text(), "hello\n");
        assert_eq!(pair[1].send("whole").answer().text(), "half whole");
    }
    for reader in &mut readers {
        assert_eq!(reader.answer().body.len(), 1 << 20);
    }
}

#[test]
fn ten_thousand_idle_connections_cost_little_and_survive_a_reload() {
    const COUNT: usize = 10_000;
    raise_descriptor_limit(COUNT as u64 + 2000);
    let site = Rig::new("corners.py").workers(2).option("--worker-connections", "20000").start();
    for _ in 0..200 {
        site.get("/hello");
    }
    let before = memory_of_all(&site);
    let mut clients: Vec<Client> = (0..COUNT).map(|_| site.connect()).collect();
    for client in &mut clients {
        assert_eq!(client.get("/hello").text(), "hello\n");
    }
    let each = memory_of_all(&site).saturating_sub(before) as usize * 1024 / COUNT;
    assert!(each < 1536, "{each} bytes for each connection");
    assert_eq!(site.control(&["reload"]).code, 0);
    site.drained(2);
    for client in &mut clients {
        assert_eq!(client.get("/hello").text(), "hello\n", "after the reload");
    }
}

#[test]
fn an_idle_site_sleeps() {
    // Also where the number of workers follows the load, after the last that was not needed has gone.
    let elastic =
        Rig::new("corners.py").without_workers().option("--workers", "2..4").option("--shrink-after", "1").start();
    assert_eq!(elastic.control(&["scale", "+1"]).code, 0);
    elastic.drained(1);
    sleeps(&elastic);
    sleeps(&Rig::new("corners.py").workers(2).start());
}

fn sleeps(site: &Site) {
    let mut quiet = site.connect();
    quiet.get("/hello");
    assert!(quiet.is_quiet(Duration::from_secs(3)), "the work after the start and after the request is over");
    let before = wake_ups(site);
    assert!(quiet.is_quiet(Duration::from_secs(3)));
    let after = wake_ups(site);
    assert_eq!(before, after, "context switches by thread");
}

#[test]
fn a_request_that_waited_too_long_gets_503() {
    let site = Rig::new("corners.py").option("--max-queue-time", "0.5").start();
    let mut waiting = site.connect();
    assert_eq!(waiting.get("/hello").text(), "hello\n");
    let gate = Gate::new();
    let mut held = site.connect();
    held.ask(&format!("/gated?{}", gate.path()));
    let visitor = gate.arrival();
    let answer = waiting.get("/errors");
    assert_eq!(answer.status, 503);
    assert!(answer.field("retry-after").is_some());
    visitor.let_go("on");
    assert_eq!(held.answer().text(), "on");
    assert_eq!(site.get("/hello").text(), "hello\n");
    assert_eq!(site.logged("one line to wsgi.errors"), 0, "the application never saw it");
}

#[test]
fn a_request_whose_client_has_gone_never_reaches_the_application() {
    let site = Rig::new("corners.py").start();
    let mut kept = site.connect();
    assert_eq!(kept.get("/hello").text(), "hello\n");
    let gate = Gate::new();
    let mut held = site.connect();
    held.ask(&format!("/gated?{}", gate.path()));
    let visitor = gate.arrival();
    kept.ask("/errors");
    wait_until_queued(&site, 1);
    kept.reset();
    wait_until_queued(&site, 0);
    visitor.let_go("on");
    assert_eq!(held.answer().text(), "on");
    assert_eq!(site.get("/hello").text(), "hello\n");
    assert_eq!(site.logged("one line to wsgi.errors"), 0);
}

#[test]
fn new_connections_wait_no_longer_than_kept_ones() {
    let site = Rig::new("corners.py").start();
    let gates = [Gate::new(), Gate::new()];
    let mut there = [site.connect(), site.connect()];
    let ask = |client: &mut Client, gate: &Gate| {
        client.ask(&format!("/gated?{}", gate.path()));
    };
    for (client, gate) in there.iter_mut().zip(&gates) {
        ask(client, gate);
        gate.arrival().let_go("on");
        assert_eq!(client.answer().text(), "on");
    }
    ask(&mut there[0], &gates[0]);
    let mut visitor = gates[0].arrival();
    let mut new = site.connect();
    new.ask("/hello");
    ask(&mut there[1], &gates[1]);
    wait_until_queued(&site, 1);
    // From here on, a request of one of these two is always waiting when a call ends.
    for round in 0..4 {
        let (held, next) = (round % 2, (round + 1) % 2);
        visitor.let_go("on");
        assert_eq!(there[held].answer().text(), "on");
        visitor = gates[next].arrival();
        ask(&mut there[held], &gates[held]);
        wait_until_queued(&site, if round == 0 { 2 } else { 1 });
    }
    assert_eq!(new.answer().text(), "hello\n");
    visitor.let_go("on");
    gates[1].arrival().let_go("on");
}

#[test]
fn two_addresses_are_accepted_from_side_by_side() {
    let site = Rig::new("corners.py").bind("127.0.0.1:0").bind("127.0.0.2:0").start();
    let gate = Gate::new();
    let mut held = site.connect();
    held.ask(&format!("/gated?{}", gate.path()));
    let visitor = gate.arrival();
    let mut clients: Vec<Client> =
        (0..20).flat_map(|_| site.addresses()).map(|address| Client::connect(address)).collect();
    for client in &mut clients {
        client.ask("/hello");
    }
    visitor.let_go("on");
    assert_eq!(held.answer().text(), "on");
    for client in &mut clients {
        assert_eq!(client.answer().text(), "hello\n");
    }
}

#[test]
fn when_connections_run_out_the_next_ones_wait() {
    let site = Rig::new("corners.py").option("--worker-connections", "10").start();
    let mut clients: Vec<Client> = (0..10).map(|_| site.connect()).collect();
    for client in &mut clients {
        assert_eq!(client.get("/hello").text(), "hello\n");
    }
    let mut next = site.connect();
    next.ask("/hello");
    drop(clients);
    assert_eq!(next.answer().text(), "hello\n");
    assert_eq!(next.send("GET /hello HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n").answer().text(), "hello\n");
    assert_eq!(next.ending(), Ending::Closed);
}

/// Waits until this many requests wait for a Python thread.
fn wait_until_queued(site: &Site, count: u64) {
    let deadline = Instant::now() + PATIENCE;
    let queued = || {
        let status: Value = serde_json::from_str(&site.control(&["status", "--json"]).output).expect("JSON");
        status["generations"][0]["workers"][0]["queued"].as_u64().expect("a number")
    };
    while queued() != count {
        assert!(Instant::now() < deadline, "{count} requests do not wait");
    }
}

/// The proportional set size of master, template and workers together, in KiB.
fn memory_of_all(site: &Site) -> u64 {
    let of = |pid: i32| {
        let rollup = fs::read_to_string(format!("/proc/{pid}/smaps_rollup")).expect("the process lives");
        let line = rollup.lines().find_map(|line| line.strip_prefix("Pss:")).expect("the kernel counts it");
        line.trim().trim_end_matches(" kB").parse::<u64>().expect("a number")
    };
    of(site.pid()) + site.descendants().into_iter().map(of).sum::<u64>()
}

/// How often each thread was woken.
fn wake_ups(site: &Site) -> BTreeMap<String, String> {
    let pids = site.descendants().into_iter().chain([site.pid()]);
    let tasks = pids.flat_map(|pid| fs::read_dir(format!("/proc/{pid}/task")).expect("the process lives").flatten());
    tasks
        .map(|task| {
            let status = fs::read_to_string(task.path().join("status")).expect("the thread lives");
            let count = status.lines().find_map(|line| line.strip_prefix("voluntary_ctxt_switches:"));
            (task.path().display().to_string(), count.expect("the kernel counts it").trim().to_string())
        })
        .collect()
}

fn raise_descriptor_limit(wanted: u64) {
    let (soft, hard) = getrlimit(Resource::RLIMIT_NOFILE).expect("the limit can be read");
    assert!(hard >= wanted, "this test needs {wanted} file descriptors: raise the hard limit (ulimit -Hn)");
    if soft < hard {
        setrlimit(Resource::RLIMIT_NOFILE, hard, hard).expect("the hard limit allows it");
    }
}
