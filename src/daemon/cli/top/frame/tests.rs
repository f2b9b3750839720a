use std::time::{Duration, Instant};

use ostler_wire::meters::BOUNDS;

use super::*;

/// A site whose workers have answered so many requests, a tenth of them within 10 s and the rest within 2.5 ms.
fn look(at: Instant, requests: u64, workers: usize) -> Look {
    let worker = |slot: usize| {
        serde_json::json!({
            "slot": slot, "pid": 100 + slot, "state": if slot == 1 { "busy" } else { "idle" }, "replaced": null, "age": 75.0,
            "doing": if slot == 1 {
                serde_json::json!([
                    { "line": "GET /slow HTTP/1.1", "age": 31.04 },
                    { "line": "GET /\u{1b}[2J\n\u{9b}31m\u{202e}\u{301}東京🐍 HTTP/1.1", "age": 47.5 },
                ])
            } else {
                serde_json::json!([])
            },
            "memory": { "shared": 0, "private": 0, "proportional": (slot as u64 + 1) << 20 },
            "requests": requests * (slot as u64 + 1), "errors": 0, "connections": 2, "queued": 0,
        })
    };
    let mut status = serde_json::json!({
        "version": "0.1.0", "pid": 7, "addresses": ["http://127.0.0.1:8000"], "queues": [{ "waiting": 4, "room": 128 }],
        "generations": [{
            "generation": 2, "stage": "serving", "since": 90.0, "wanted": workers, "ready": workers, "crashed": 1,
            "last_crash": null, "next": null, "template": 9, "memory": null,
            "workers": (0..workers).map(worker).collect::<Vec<_>>(),
        }],
        "restarts": {},
        "metrics": {
            "ostler_requests_total{code=\"2xx\"}": requests,
            "ostler_requests_total{code=\"5xx\"}": requests / 10,
        },
        "events": (0..9).map(|number| serde_json::json!(
            { "age": 9.0 - number as f64, "level": "error", "text": format!("worker lost: number {number}\u{1b}[2J") }
        )).collect::<Vec<_>>(),
    });
    let bounds = BOUNDS.iter().map(|bound| (*bound, (*bound as f64 / 1e6).to_string()));
    for (bound, name) in bounds.chain([(u64::MAX, "+Inf".into())]) {
        let slow = if bound < 10_000_000 { requests / 10 } else { 0 };
        let count = if bound < 2500 { 0 } else { requests - slow };
        status["metrics"][format!("ostler_request_duration_seconds_bucket{{le=\"{name}\"}}")] = count.into();
    }
    Look { status: serde_json::from_value(status).unwrap(), at }
}

fn frame_of(view: &View, workers: usize, size: (usize, usize)) -> Vec<String> {
    let start = Instant::now();
    let (before, now) = (look(start, 1000, workers), look(start + Duration::from_secs(2), 3000, workers));
    let lines = frame(Some(&before), &now, view, Some("no answer for 4 s"), size);
    assert!(lines.len() <= size.1, "{lines:#?}");
    for (_, line) in &lines {
        assert!(width(line) <= size.0 && !line.chars().any(char::is_control), "{line:?}");
        assert_eq!(shown(line), *line);
    }
    lines.into_iter().map(|(_, line)| line).collect()
}

fn has(lines: &[String], wanted: &str) -> bool {
    lines.iter().any(|line| line.contains(wanted))
}

#[test]
fn a_usual_screen_has_all_of_it() {
    let lines = frame_of(&View::default(), 4, (80, 24));
    let all = [
        "requests/s 1100.0  5xx/s 100.0  refused/s 0.0  in calls 0  queued 0  to accept 4",
        "! no answer for 4 s",
        "generation 2 serving, 4 of 4 workers; for 1m 30s; 1 crashed",
        "g2.0    idle   1m 15s  1000.0      0    1.0M",
        r"g2.1    busy   1m 15s  2000.0      0    2.0M  47.5 s +1 GET /\u{1b}[2J",
        r"1s ago  worker lost: number 8\u{1b}[2J",
        "sorted by slot   q end",
    ];
    for wanted in all {
        assert!(has(&lines, wanted), "no {wanted} in {lines:#?}");
    }
    assert!(!has(&lines, "PID") && !has(&lines, "number 3"), "{lines:#?}");
    let times = lines.iter().find_map(|line| line.strip_prefix("in the application ")).unwrap();
    assert!(times.starts_with("p50 1.8 ms p99 9.5 s  waited before p50 - p99 -"), "{times}");
}

#[test]
fn a_large_screen_has_more_columns_and_a_small_one_what_matters_most() {
    let lines = frame_of(&View::default(), 30, (200, 50));
    assert!(has(&lines, "PID") && has(&lines, r"\u{301}東京\u{1f40d}") && has(&lines, "g2.29"), "{lines:#?}");
    let lines = frame_of(&View::default(), 30, (80, 24));
    assert!(has(&lines, "more") && !has(&lines, "g2.29"), "{lines:#?}");
    let lines = frame_of(&View::default(), 30, (20, 5));
    assert!(lines.len() == 5 && lines[0].starts_with("ostler 0.1.0") && has(&lines, "g2.0"), "{lines:#?}");
    for size in (0..12).flat_map(|columns| (0..12).map(move |lines| (columns, lines))) {
        frame_of(&View::default(), 3, size);
        frame_of(&View { help: true, ..View::default() }, 3, size);
    }
}

#[test]
fn workers_are_sorted_and_filtered() {
    let first = |view: View| {
        let lines = frame_of(&view, 4, (80, 24));
        let heading = lines.iter().position(|line| line.starts_with("WORKER")).unwrap();
        lines[heading + 1].clone()
    };
    for (sort, worker) in [(Sort::Slot, "g2.0"), (Sort::Request, "g2.1"), (Sort::Memory, "g2.3"), (Sort::Rate, "g2.3")]
    {
        assert!(first(View { sort, ..View::default() }).starts_with(worker), "{sort:?}");
    }
    assert!(first(View { filter: "BUSY".into(), ..View::default() }).starts_with("g2.1"));
    assert!(has(
        &frame_of(&View { filter: "ab".into(), typing: true, ..View::default() }, 1, (80, 24)),
        "show only: ab_"
    ));
}

#[test]
fn a_master_that_was_started_anew_has_no_rate() {
    let start = Instant::now();
    let (mut before, now) = (look(start, 5000, 1), look(start + Duration::from_secs(1), 10, 1));
    before.status.pid = 6;
    for before in [None, Some(&before)] {
        let lines = frame(before, &now, &View::default(), None, (80, 24));
        assert!(lines[1].1.starts_with("requests 11  5xx 1  refused 0"), "{lines:#?}");
    }
}
