//! A worker that makes no progress is noticed, named and replaced, whatever holds it up; and so is a template that does not fork.

use std::{
    thread,
    time::{Duration, Instant},
};

use nix::{
    sys::signal::{Signal, kill},
    unistd::Pid,
};
use ostler_tests::{PATIENCE, Rig, Site};
use serde_json::Value;

/// Every thread of the process waits in a signal handler that never returns, so its loop does not turn any more.
const STICK: &str = r#"
import ctypes, os, signal

libc = ctypes.CDLL(None)

def stick(environ):
    handler = ctypes.cast(libc.pause, ctypes.c_void_p)
    libc.signal.argtypes = [ctypes.c_int, ctypes.c_void_p]
    libc.signal(signal.SIGUSR2, handler)
    me = int(os.readlink("/proc/thread-self").rsplit("/", 1)[1])
    others = [int(tid) for tid in os.listdir("/proc/self/task") if int(tid) != me]
    for tid in others + [me]:
        libc.tgkill(os.getpid(), tid, signal.SIGUSR2)

def application(environ, start_response):
    if environ["PATH_INFO"] == "/stick":
        stick(environ)
    start_response("200 OK", [("Content-Type", "text/plain")])
    return [str(os.getpid()).encode()]
"#;

fn worker(site: &Site) -> Value {
    status(site)["generations"][0]["workers"][0].clone()
}

fn status(site: &Site) -> Value {
    serde_json::from_str(&site.control(&["status", "--json"]).output).expect("JSON")
}

fn send(pid: i64, signal: Signal) {
    kill(Pid::from_raw(pid as i32), signal).expect("it is ours, and lives");
}

#[test]
fn a_worker_stopped_by_a_signal_is_replaced() {
    let site = Rig::new("corners.py").option("--timeout", "1").start();
    let mut kept = site.connect();
    assert_eq!(kept.get("/hello").text(), "hello\n");
    let before = worker(&site);
    send(before["pid"].as_i64().expect("a number"), Signal::SIGSTOP);
    site.log("worker stopped by a signal");
    kept.ask("/hello");
    let people = site.control(&["status"]).output;
    assert!(people.contains("stopped by a signal ("), "{people}");
    assert_eq!(worker(&site)["stuck"]["line"], "stopped by a signal");
    let killed = site.log("worker killed");
    assert_eq!(killed.key("reason"), Some("stopped by a signal for longer than timeout"));
    site.log("worker ready");
    assert_eq!(site.get("/hello").text(), "hello\n");
    kept.try_answer().expect_err("its worker is gone");
    assert_eq!(status(&site)["restarts"]["stopped by a signal"], 1);
}

#[test]
fn a_worker_that_goes_on_in_time_stays() {
    let site = Rig::new("corners.py").option("--timeout", "30").start();
    let pid = worker(&site)["pid"].as_i64().expect("a number");
    send(pid, Signal::SIGSTOP);
    site.log("worker stopped by a signal");
    send(pid, Signal::SIGCONT);
    site.log("worker continued");
    assert_eq!(worker(&site)["stuck"], Value::Null);
    assert_eq!(site.get("/hello").text(), "hello\n");
    assert_eq!(worker(&site)["pid"].as_i64(), Some(pid));
}

#[test]
fn a_worker_whose_loop_does_not_turn_is_named_and_replaced() {
    let site = Rig::with_source(STICK).workers(2).option("--timeout", "1").start();
    let mut stuck = site.connect();
    stuck.ask("/stick");
    let deadline = Instant::now() + PATIENCE;
    let makes_no_progress = || {
        let status = status(&site);
        let workers = status["generations"][0]["workers"].as_array().expect("a list").clone();
        workers.iter().any(|worker| worker["stuck"]["line"] == "makes no progress")
    };
    while !makes_no_progress() {
        assert!(Instant::now() < deadline, "status does not show it");
        thread::sleep(Duration::from_millis(50));
    }
    let killed = site.log("worker killed");
    assert_eq!(killed.key("reason"), Some("no progress within timeout"));
    assert!(killed.text().contains("GET /stick"), "{killed:?}");
    site.log("worker ready");
    for _ in 0..5 {
        assert_eq!(site.get("/").status, 200);
    }
}

#[test]
fn a_worker_may_say_again_and_again_that_it_is_at_work() {
    let site = Rig::new("corners.py").start();
    let mut kept = site.connect();
    let first = kept.get("/process");
    // Each pause is long enough for the master to see that no worker has anything to do.
    for _ in 0..20 {
        assert!(kept.is_quiet(Duration::from_millis(1100)));
        assert_eq!(kept.get("/process").text(), first.text(), "the same worker");
    }
}

#[test]
fn a_template_stopped_by_a_signal_is_replaced_when_it_is_wanted() {
    let site = Rig::new("corners.py").option("--timeout", "1").start();
    let template = status(&site)["generations"][0]["template"].as_i64().expect("a number");
    send(template, Signal::SIGSTOP);
    site.log("template stopped by a signal");
    send(worker(&site)["pid"].as_i64().expect("a number"), Signal::SIGKILL);
    site.log("template killed");
    site.log("template lost");
    site.log("generation serving");
    assert_eq!(site.get("/hello").text(), "hello\n");
}
