//! The counts of workers are reported after they have ended, however they ended.

use std::time::Instant;

use nix::{
    sys::signal::{
        Signal::{SIGKILL, SIGUSR2},
        kill,
    },
    unistd::Pid,
};
use ostler_tests::{PATIENCE, Rig, Site};
use serde_json::Value;

const STUCK: &str = "
import threading
def app(environ, start_response):
    threading.Event().wait()
";

fn metrics(site: &Site) -> Value {
    let mut status: Value = serde_json::from_str(&site.control(&["status", "--json"]).output).expect("JSON");
    status["metrics"].take()
}

/// Asks for a page a few times, and once sends an incomplete request.
fn visit(site: &Site, visits: &mut u64) {
    for _ in 0..5 {
        assert_eq!(site.get("/hello").text(), "hello\n");
    }
    assert_eq!(site.connect().send("GET\r\n\r\n").answer().status, 400);
    *visits += 1;
}

/// Of all classes of status.
fn requests(metrics: &Value) -> u64 {
    let classes = metrics.as_object().expect("metrics are an object").iter();
    classes.filter(|(name, _)| name.starts_with("ostler_requests_total{")).filter_map(|(_, count)| count.as_u64()).sum()
}

/// The worker counts a request after its client has the answer.
fn are_counted(site: &Site, visits: u64) {
    let deadline = Instant::now() + PATIENCE;
    loop {
        let metrics = metrics(site);
        let number = |name: &str| metrics[name].as_u64().unwrap_or_else(|| panic!("no {name} in {metrics}"));
        let told =
            [requests(&metrics), number("ostler_response_body_bytes_total"), number("ostler_requests_refused_total")];
        let expected = [6 * visits, 30 * visits, visits];
        if told == expected {
            return;
        }
        assert!(told.iter().zip(expected).all(|(told, expected)| *told <= expected), "{told:?} of {expected:?}");
        assert!(Instant::now() < deadline, "{told:?} of {expected:?}");
    }
}

#[test]
fn a_request_that_is_timed_out_is_counted_once_as_an_error() {
    let site = Rig::with_source(STUCK).option("--timeout", "0.5").option("--graceful-timeout", "0.5").start();
    assert_eq!(site.get("/stuck").status, 504);
    let counts = |metrics: &Value| [requests(metrics), metrics["ostler_request_errors_total"].as_u64().unwrap_or(0)];
    let deadline = Instant::now() + PATIENCE;
    while counts(&metrics(&site)) != [1, 1] {
        assert!(Instant::now() < deadline, "{}", metrics(&site));
    }
    site.log("worker drained");
    assert_eq!(counts(&metrics(&site)), [1, 1]);
}

#[test]
fn totals_go_on_through_a_reload_a_crash_a_recycle_and_an_upgrade() {
    let site = Rig::new("corners.py").installed().start();
    let mut visits = 0;
    visit(&site, &mut visits);
    are_counted(&site, visits);

    assert_eq!(site.control(&["reload"]).code, 0);
    let worker = site.log("worker ready generation=2").number("pid");
    site.drained(1);
    are_counted(&site, visits);
    visit(&site, &mut visits);
    are_counted(&site, visits);

    kill(Pid::from_raw(worker), SIGKILL).expect("the worker lives");
    site.log("worker lost");
    site.log("worker ready");
    are_counted(&site, visits);
    visit(&site, &mut visits);

    assert_eq!(site.control(&["recycle"]).code, 0);
    site.drained(1);
    are_counted(&site, visits);
    visit(&site, &mut visits);

    site.signal(SIGUSR2);
    site.log("upgraded");
    site.log("generation serving");
    site.drained(1);
    are_counted(&site, visits);
    visit(&site, &mut visits);
    are_counted(&site, visits);
}

#[test]
fn status_tells_the_totals_and_what_there_is_now() {
    let site = Rig::new("corners.py").workers(2).start();
    let mut visits = 0;
    visit(&site, &mut visits);
    are_counted(&site, visits);
    assert_eq!(site.control(&["recycle"]).code, 0);
    let metrics = metrics(&site);
    assert_eq!(metrics["ostler_generation"], 1, "{metrics}");
    assert_eq!(metrics["ostler_workers_wanted"], 2, "{metrics}");
    assert_eq!(metrics["ostler_worker_restarts_total{cause=\"recycle\"}"], 2, "{metrics}");
    let table = site.control(&["status"]).output;
    assert!(table.contains("since the start: 5 requests, 0 errors, 1 refused\n"), "{table}");
}
