//! While there is a canary, `ostler status`, `ostler top`, the page for people and the metrics show it and the old generation side by side;
//! and responses tell which generation has answered.

use std::{collections::BTreeSet, time::Instant};

use ostler_tests::{Answer, Client, PATIENCE, Rig, Site};
use serde_json::{Value, json};

use crate::the_site_is_seen::{address, get};

const APP: &str = "
import os, threading
def application(environ, start_response):
    path = environ['PATH_INFO']
    if path == '/crash':
        os.kill(os.getpid(), 9)
    if path == '/stuck':
        threading.Event().wait()
    fields = [('x-release', 'my own')] if path == '/own' else []
    start_response('500 Oh' if path == '/fail' else '200 OK', fields)
    return [os.environ['OSTLER_GENERATION'].encode()]
";
/// Of the old generation and of the canary.
type Counts = [u64; 2];

struct Seen {
    site: Site,
    page: String,
    /// What was asked of them since there has been a canary.
    requests: Counts,
}

impl Seen {
    /// A site whose first generation has answered some requests before the canary began.
    fn start() -> Seen {
        let page = address();
        let rig = Rig::with_source(APP).workers(2).option("--metrics", &page).option("--timeout", "1");
        let site = rig.option("--graceful-timeout", "1").option("--canary-time", "0").start();
        (0..9).for_each(|_| assert_eq!(site.get("/fail").status, 500));
        assert_eq!(site.control(&["reload", "--canary", "1"]).code, 0);
        Seen { site, page, requests: [0, 0] }
    }

    /// A client whose connection is with a worker of this generation.
    fn client(&mut self, generation: usize) -> Client {
        let deadline = Instant::now() + PATIENCE;
        loop {
            let mut client = self.site.connect();
            let answered: usize = client.get("/").text().parse().expect("a number");
            self.requests[answered - 1] += 1;
            if answered == generation {
                return client;
            }
            assert!(Instant::now() < deadline, "generation {generation} does not answer");
        }
    }

    fn status(&self) -> Value {
        serde_json::from_str(&self.site.control(&["status", "--json"]).output).expect("JSON")
    }

    /// The status, once each count of both generations is this.
    fn until(&self, counts: &[(&str, Counts)]) -> Value {
        let deadline = Instant::now() + PATIENCE;
        loop {
            let status = self.status();
            let figures = [0, 1].map(|place| &status["generations"][place]["figures"]);
            if counts
                .iter()
                .all(|(name, counts)| figures.map(|of| of[name].clone()) == counts.map(|count| json!(count)))
            {
                return status;
            }
            assert!(Instant::now() < deadline, "{figures:#?}, and not {counts:?}");
        }
    }

    /// The lines of a text from one on, without how long ago it was.
    fn lines(text: &str) -> Vec<String> {
        let lines = text.lines().skip_while(|line| !line.starts_with("since the canary began ")).take(4);
        lines.map(|line| line.split_whitespace().collect::<Vec<_>>().join(" ")).collect()
    }
}

#[test]
fn both_are_told_everywhere_from_when_it_began_until_it_is_the_site() {
    let mut seen = Seen::start();
    seen.until(&[("requests", [0, 0]), ("errors", [0, 0])]);
    let (mut old, mut new) = (seen.client(1), seen.client(2));
    for _ in 0..3 {
        assert_eq!(new.get("/fail").text(), "2");
    }
    assert_eq!(old.get("/fail").text(), "1");
    let [of_old, of_new] = seen.requests;
    let (of_old, of_new) = (of_old + 1, of_new + 3);
    let status = seen.until(&[("requests", [of_old, of_new]), ("errors", [1, 3]), ("crashes", [0, 0])]);
    assert_eq!(status["generations"][1]["stage"], "canary");
    let p99 = status["generations"][1]["figures"]["p99"].as_f64().expect("a number");
    assert!(p99 > 0.0 && p99 < 10.0, "{p99}");

    let metric =
        |name: &str, stage: &str| status["metrics"][format!("ostler_canary_{name}{{stage=\"{stage}\"}}")].clone();
    for (name, counts) in
        [("requests", [of_old, of_new]), ("errors", [1, 3]), ("crashes", [0, 0]), ("timeouts", [0, 0])]
    {
        assert_eq!(["serving", "canary"].map(|stage| metric(name, stage)), counts.map(|count| json!(count)), "{name}");
    }
    assert!((metric("p99_seconds", "canary").as_f64().unwrap() - p99).abs() < 2e-6);
    let exposed = get(&seen.page, "/metrics").1;
    assert!(
        exposed.contains("# TYPE ostler_canary_errors gauge\nostler_canary_errors{stage=\"serving\"} 1\n"),
        "{exposed}"
    );

    let percent = |of| if 3.0 / of as f64 == 1.0 { "100".into() } else { format!("{:.1}", 300.0 / of as f64) };
    let row = format!("2 canary {of_new} {} % 0 0 ", percent(of_new));
    for command in [&["status"][..], &["top", "--once"]] {
        let text = seen.site.control(command).output;
        let lines = Seen::lines(&text);
        assert_eq!(lines[1], "GENERATION REQUESTS FAILED CRASHES TIME-OUTS P50 P99", "{text}");
        assert!(lines[2].starts_with(&format!("1 serving {of_old} ")) && lines[3].starts_with(&row), "{text}");
        let is_short = |line: &str| line.len() <= 80;
        assert!(text.lines().filter(|line| line.contains(" canary  ")).all(is_short), "{text}");
    }
    let page = get(&seen.page, "/").1;
    let cells = format!("<tr><th scope=\"row\">2 canary</th><td class=\"number\">{of_new}</td>");
    assert!(page.contains("<h2>Since the canary began ") && page.contains(&cells), "{page}");

    assert_eq!(seen.site.control(&["promote"]).code, 0);
    seen.site.log("generation serving generation=2");
    let status = seen.status();
    assert!(!status.to_string().contains("ostler_canary_") && !status.to_string().contains("\"figures\""), "{status}");
    assert!(Seen::lines(&seen.site.control(&["status"]).output).is_empty());
    // The pages may be a tenth of a second old.
    let deadline = Instant::now() + PATIENCE;
    for (path, phrase) in [("/", "Since the canary"), ("/metrics", "ostler_canary_")] {
        while get(&seen.page, path).1.contains(phrase) {
            assert!(Instant::now() < deadline, "{path} still has {phrase}");
        }
    }
}

#[test]
fn a_crash_and_a_time_out_are_those_of_their_generation() {
    let mut seen = Seen::start();
    let mut new = seen.client(2);
    new.ask("/crash");
    assert!(new.try_answer().is_err());
    seen.site.log("worker lost");
    seen.site.log("worker ready");
    let mut old = seen.client(1);
    assert_eq!(old.get("/stuck").status, 504);
    seen.site.log("worker replaced");
    seen.until(&[("crashes", [0, 1]), ("timeouts", [1, 0]), ("errors", [1, 0])]);
    let text = seen.site.control(&["status"]).output;
    let cells = |line: &str| line.split(' ').rev().skip(4).take(2).map(str::to_owned).collect::<Vec<_>>();
    let lines = Seen::lines(&text);
    assert_eq!([cells(&lines[2]), cells(&lines[3])], [["1", "0"], ["0", "1"]], "{text}");
}

#[test]
fn each_response_tells_its_generation_to_who_asks_for_that_alone() {
    let silent = Rig::with_source(APP).start();
    let before = silent.get("/");
    let rig = Rig::with_source(APP).workers(2).option("--canary-time", "0").option("--canary", "1");
    let site = rig.option("--generation-header", "X-Release").option("--timeout", "1").start();
    let answer = site.get("/");
    assert_eq!(answer.values("X-Release"), ["1"]);
    let names = |answer: &Answer| answer.fields.iter().map(|(name, _)| name.clone()).collect::<Vec<_>>();
    let others: Vec<_> = names(&answer).into_iter().filter(|name| name != "X-Release").collect();
    assert_eq!(others, names(&before));
    assert_eq!(site.control(&["reload"]).code, 0);
    let deadline = Instant::now() + PATIENCE;
    let mut seen = BTreeSet::new();
    while seen.len() < 2 {
        let answer = site.get("/");
        assert_eq!(answer.field("X-Release"), Some(answer.text()));
        seen.insert(answer.text().to_owned());
        assert!(Instant::now() < deadline, "{seen:?}");
    }
    assert_eq!(site.get("/own").values("X-Release"), ["my own"]);
    for (request, status) in [("BROKEN\r\n\r\n", 400), ("GET /stuck HTTP/1.1\r\nHost: a\r\n\r\n", 504)] {
        let answer = site.connect().send(request).answer();
        assert_eq!(answer.status, status);
        assert!(matches!(answer.field("X-Release"), Some("1" | "2")), "{answer:?}");
    }
}
