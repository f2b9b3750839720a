//! A request that takes too long, or a worker that dies, is explained: which request, since when, and where Python was.

use ostler_tests::{Python, Rig};

const STUCK: &str = "
import faulthandler, os, signal, threading, time

def app(environ, start_response):
    name = environ['PATH_INFO'][1:]
    if name:
        globals()[name]()
    start_response('200 OK', [('Content-Type', 'text/plain')])
    return [b'well']

def stuck_in_python():
    threading.Event().wait()

def stuck_with_the_lock():
    # A match that takes for ever, in C, and never lets the interpreter lock go.
    import re
    re.match('(a*)*b', 'a' * 60)

def slow_for_a_while():
    time.sleep(1)

def fault():
    os.kill(os.getpid(), signal.SIGSEGV)
";

#[test]
fn a_request_past_its_time_is_logged_with_its_stack_answered_and_its_worker_replaced() {
    for name in ["stuck_in_python", "stuck_with_the_lock"] {
        let site = Rig::with_source(STUCK).option("--timeout", "1").option("--graceful-timeout", "1").start();
        let worker = site.log("worker ready").number("pid");
        let answer = site.get(&format!("/{name}"));
        assert_eq!(answer.status, 504, "{name}");
        site.log(&format!("GET /{name}"));
        site.log(&format!("in {name}"));
        assert_ne!(site.log("worker ready").number("pid"), worker);
        assert_eq!(site.get("/").text(), "well");
    }
}

#[test]
fn the_other_requests_of_that_worker_finish() {
    let site = Rig::with_source(STUCK).option("--timeout", "2").option("--threads", "2").start();
    let mut stuck = site.connect();
    stuck.send("GET /stuck_in_python HTTP/1.1\r\nHost: a\r\n\r\n");
    let mut other = site.connect();
    assert!(stuck.is_quiet(std::time::Duration::from_millis(1500)));
    assert_eq!(other.get("/slow_for_a_while").text(), "well");
    assert_eq!(stuck.answer().status, 504);
}

#[test]
fn a_slow_request_is_logged_with_its_stack_and_nothing_ends() {
    let site = Rig::with_source(STUCK).option("--slow-request", "0.2").start();
    assert_eq!(site.get("/slow_for_a_while").text(), "well");
    site.log("GET /slow_for_a_while");
    site.log("in slow_for_a_while");
    assert_eq!(site.logged("worker ready"), 1);
}

#[test]
fn a_fault_leaves_its_stack_and_the_request_in_the_log() {
    let site = Rig::with_source(STUCK).start();
    let mut client = site.connect();
    client.send("GET /fault HTTP/1.1\r\nHost: a\r\n\r\n");
    client.try_answer().expect_err("nobody is left to answer");
    site.log("in fault");
    let lost = site.log("worker lost");
    assert!(lost.text().contains("SIGSEGV") && lost.text().contains("GET /fault"), "{}", lost.text());
    assert_eq!(site.get("/").text(), "well");
}

const SLEEPING: &str = "
import ctypes

def app(environ, start_response):
    start_response('200 OK', [('Content-Type', 'text/plain')])
    if environ['PATH_INFO'] == '/sleeps':
        # What is left of the sleep: a signal to this thread ends it.
        return [str(sleeps()).encode()]
    if environ['PATH_INFO'] == '/keeps_the_lock':
        keeps_the_lock()
    return [b'well']

def sleeps():
    return ctypes.CDLL(None).sleep(3)

def keeps_the_lock():
    ctypes.PyDLL(None).usleep(3000000)
";
const BY_SIGNAL: &str = "taken by a signal";

#[test]
fn a_slow_request_does_not_notice_that_it_is_explained() {
    for python in Python::every() {
        let site = Rig::with_source(SLEEPING).interpreter(&python.executable).option("--slow-request", "0.3").start();
        // On a machine that is very busy the interpreter lock may not be had in time. Then it is noticed.
        let undisturbed = (0..5).any(|_| {
            let by_signal = site.logged(BY_SIGNAL);
            let left = site.get("/sleeps");
            site.log("GET /sleeps HTTP/1.1, for ");
            site.log("in sleeps");
            site.logged(BY_SIGNAL) == by_signal && left.text() == "0"
        });
        assert!(undisturbed, "{}: each sleep was cut short", python.executable.display());
    }
}

#[test]
fn a_profile_tells_where_the_time_of_requests_goes() {
    const COMPUTING: &str = "over = False\ndef spin():\n    while not over: pass\ndef outer():\n    spin()\n\
        def app(environ, start_response):\n    global over\n    if environ['PATH_INFO'] == '/end': over = True\n    else: outer()\n    \
        start_response('200 OK', [('Content-Length', '0')])\n    return []\n";
    for python in Python::every() {
        let rig = Rig::with_source(COMPUTING).option("--workers", "1").option("--threads", "2");
        let site = rig.interpreter(&python.executable).start();
        let mut client = site.connect();
        client.send("GET /spin HTTP/1.1\r\nHost: a\r\n\r\n");
        let pid = |_| {
            let rows: serde_json::Value =
                serde_json::from_str(&site.control(&["requests", "--json"]).output).expect("JSON");
            rows[0]["pid"].as_i64()
        };
        let worker = (0..2000).find_map(pid).expect("the request is under way").to_string();
        let told = site.control(&["profile", &worker, "--seconds", "0.5", "--rate", "100"]);
        assert_eq!(told.code, 0, "{told:?}");
        let spins = |line: &str| {
            let (stack, count) = line.rsplit_once(' ').expect("a stack and a number");
            assert!(count.parse::<u64>().is_ok_and(|count| count > 0), "{line}");
            let functions: Vec<_> = stack.split(';').map(|frame| frame.split(" (").next().unwrap()).collect();
            functions == ["app", "outer", "spin"] && stack.contains("app.py:3)")
        };
        assert!(told.output.lines().any(spins), "{}: {}", python.executable.display(), told.output);
        assert_eq!(site.get("/end").status, 200);
        client.answer();
        site.control(&["profile", "1"]).says(9, &["no worker or template is process 1"]);
    }
}

#[test]
fn a_slow_request_that_keeps_the_interpreter_lock_is_explained_by_a_signal() {
    for python in Python::every() {
        let site = Rig::with_source(SLEEPING).interpreter(&python.executable).option("--slow-request", "0.3").start();
        assert_eq!(site.get("/keeps_the_lock").text(), "well");
        site.log(BY_SIGNAL);
        site.log("GET /keeps_the_lock HTTP/1.1, for ");
        site.log("in keeps_the_lock");
    }
}

#[test]
fn an_application_that_breaks_the_reading_of_stacks_is_told_from_one_that_keeps_the_lock() {
    let broken = "import sys\ndef broken():\n    raise KeyError\nsys._current_frames = broken\n\
        def app(environ, start_response):\n    start_response('200 OK', [('Content-Length', '0')])\n    return []\n";
    let site = Rig::with_source(broken).option("--workers", "1").start();
    let told = site.control(&["stacks"]);
    assert!(told.output.contains("\ntaken by a signal: reading them in Python raised KeyError\n"), "{told:?}");
    let pid = site.log("worker ready").number("pid").to_string();
    let told = site.control(&["profile", &pid, "--seconds", "0.1", "--rate", "20"]);
    let sentences =
        ["no call lasted long enough to be seen in ", " by a signal: reading them in Python raised KeyError"];
    assert!(told.code == 0 && sentences.iter().all(|part| told.error.contains(part)), "{told:?}");
}
