//! A request that takes too long, or a worker that dies, is explained: which request, since when, and where Python was.

use ostler_tests::Rig;

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
