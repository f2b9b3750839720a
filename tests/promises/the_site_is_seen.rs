//! Whoever asks at the address of `--metrics` is answered by the master, however the workers fare, and cannot harm the site.

use std::{
    io::{Read, Write},
    net::{TcpListener, TcpStream},
    os::unix::net::UnixStream,
    process::{Command, Stdio},
    time::Instant,
};

use ostler_tests::{Folder, PATIENCE, Process, Python, Rig, Signal, Site, installed, repository};
use serde_json::Value;

// The exit codes of ostler(1).
const USAGE: i32 = 2;
const BIND: i32 = 12;

const APP: &str = "
import threading, time
def application(environ, start_response):
    if environ['PATH_INFO'] == '/stuck':
        threading.Event().wait()
    while environ['PATH_INFO'] == '/work' and time.process_time() < 0.3:
        pass
    start_response('404 Not Found' if environ['PATH_INFO'] == '/none' else '200 OK', [('Content-Length', '3')])
    return [b'abc']
";

/// A free address.
pub fn address() -> String {
    TcpListener::bind("127.0.0.1:0").and_then(|free| free.local_addr()).expect("the loopback has ports").to_string()
}

fn seen(rig: Rig) -> (Site, String) {
    let address = address();
    (rig.option("--metrics", &address).start(), address)
}

/// Sends this and reads to the end.
fn say(address: &str, request: &str) -> String {
    let mut stream = TcpStream::connect(address).expect("the page is there");
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    stream.write_all(request.as_bytes()).expect("the page reads");
    let mut answer = String::new();
    stream.read_to_string(&mut answer).expect("the page answers");
    answer
}

/// The status and the body.
pub fn get(address: &str, target: &str) -> (u16, String) {
    parts(&say(address, &format!("GET {target} HTTP/1.1\r\nHost: a\r\n\r\n")))
}

fn parts(answer: &str) -> (u16, String) {
    let (head, body) = answer.split_once("\r\n\r\n").unwrap_or_else(|| panic!("no head in {answer:?}"));
    let length = head.lines().find_map(|line| line.strip_prefix("Content-Length: ")).expect("it has a length");
    assert_eq!(length.parse(), Ok(body.len()), "{head}");
    (head[9..12].parse().expect("a status"), body.into())
}

/// One sample of the page.
fn sample(page: &str, name: &str) -> Option<f64> {
    page.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' ')?.parse().ok())
}

fn until(address: &str, holds: impl Fn(&str) -> bool) -> String {
    let deadline = Instant::now() + PATIENCE;
    loop {
        let (status, page) = get(address, "/metrics");
        assert_eq!(status, 200);
        if holds(&page) {
            return page;
        }
        assert!(Instant::now() < deadline, "{page}");
    }
}

#[test]
fn metrics_tell_what_has_happened_and_never_go_back() {
    let (site, address) = seen(Rig::with_source(APP).installed().workers(2));
    let visit = |times: u64| {
        let mut client = site.connect();
        (0..times).for_each(|_| assert_eq!(client.get("/").status, 200));
        assert_eq!(client.get("/none").status, 404);
    };
    visit(9);
    let counted = |page: &str, good: f64, bad: f64| {
        sample(page, "ostler_requests_total{code=\"2xx\",method=\"GET\"}") == Some(good)
            && sample(page, "ostler_requests_total{code=\"4xx\",method=\"GET\"}") == Some(bad)
            && sample(page, "ostler_request_duration_seconds_count") == Some(good + bad)
            && sample(page, "ostler_request_queue_seconds_bucket{le=\"+Inf\"}") == Some(good + bad)
    };
    let page = until(&address, |page| counted(page, 9.0, 1.0));
    assert_eq!(sample(&page, "ostler_workers_wanted"), Some(2.0));
    assert_eq!(sample(&page, "ostler_workers{state=\"idle\"}"), Some(2.0), "{page}");
    assert_eq!(sample(&page, "ostler_workers{state=\"booting\"}"), Some(0.0), "an alert compares it: {page}");
    let page = until(&address, |page| sample(page, "ostler_worker_memory_bytes{slot=\"1\"}").is_some());
    let memory = ["ostler_worker_memory_bytes{slot=\"0\"}", "ostler_template_memory_bytes"];
    assert!(memory.iter().all(|name| sample(&page, name).is_some_and(|bytes| bytes > 1e6)), "{page}");
    assert_eq!(site.control(&["reload"]).code, 0);
    site.drained(2);
    visit(9);
    site.signal(Signal::SIGUSR2);
    site.log("upgraded");
    site.log("generation serving generation=3");
    visit(9);
    let page = until(&address, |page| counted(page, 27.0, 3.0));
    assert_eq!(sample(&page, "ostler_reloads_total{outcome=\"success\"}"), Some(2.0), "{page}");
    let bucket = |le: &str| sample(&page, &format!("ostler_request_duration_seconds_bucket{{le=\"{le}\"}}")).unwrap();
    assert!(bucket("0.0001") <= bucket("60.0") && bucket("60.0") == bucket("+Inf"));
    let told = serde_json::from_str::<Value>(&site.control(&["status", "--json"]).output).unwrap();
    assert_eq!(told["metrics"]["ostler_request_duration_seconds_count"], 30);
}

#[test]
fn requests_bytes_and_connections_are_counted_exactly() {
    let (site, address) = seen(Rig::with_source(APP).installed());
    let mut clients = [site.connect(), site.connect()];
    let (get, post) =
        ("GET /work HTTP/1.1\r\nHost: a\r\n\r\n", "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\n\r\nhello");
    let odd = "BREW / HTTP/1.1\r\nHost: a\r\n\r\n";
    for request in [get, post, post, odd] {
        clients[0].send(request);
        assert_eq!(clients[0].answer().status, 200);
    }
    clients[1].send(get);
    assert_eq!(clients[1].answer().status, 200);
    let broken = "GET\r\n\r\n";
    assert_eq!(site.connect().send(broken).answer().status, 400);
    let expected = [
        ("requests_total{code=\"2xx\",method=\"GET\"}", 2.0),
        ("requests_total{code=\"2xx\",method=\"POST\"}", 2.0),
        ("requests_total{code=\"2xx\",method=\"other\"}", 1.0),
        ("requests_total{code=\"4xx\",method=\"other\"}", 1.0),
        ("requests_total{code=\"5xx\",method=\"GET\"}", 0.0),
        ("server_answers_total{code=\"400\"}", 1.0),
        ("server_answers_total{code=\"503\"}", 0.0),
        ("received_bytes_total", (2 * get.len() + 2 * post.len() + odd.len() + broken.len()) as f64),
        ("connections_accepted_total", 3.0),
        ("connections", 2.0),
        ("connections_idle", 2.0),
        ("spool_bytes", 0.0),
        ("log_lines_lost_total{log=\"access\"}", 0.0),
        ("upgrades_total{outcome=\"success\"}", 0.0),
        ("rollbacks_total", 0.0),
    ];
    let value = |page: &str, name: &str| sample(page, &format!("ostler_{name}"));
    let page = until(&address, |page| expected.iter().all(|(name, number)| value(page, name) == Some(*number)));
    assert!(value(&page, "sent_bytes_total") > value(&page, "response_body_bytes_total"), "{page}");
    let cpu = |page: &str| value(page, "worker_cpu_seconds_total{slot=\"0\"}");
    let page = until(&address, |page| cpu(page) > Some(0.2));
    let private = value(&page, "worker_private_memory_bytes{slot=\"0\"}");
    assert!(private > Some(1e5) && private <= value(&page, "worker_memory_bytes{slot=\"0\"}"), "{page}");

    assert_eq!(site.control(&["reload"]).code, 0);
    site.drained(1);
    let moved = |page: &str, reason: &str| {
        ["given", "taken"].map(|what| value(page, &format!("connections_{what}_total{{reason=\"{reason}\"}}")))
    };
    let page = until(&address, |page| moved(page, "reload") == [Some(2.0); 2]);
    assert!(value(&page, "last_reload_timestamp_seconds{outcome=\"success\"}") > Some(1.7e9), "{page}");
    assert_eq!(site.control(&["recycle"]).code, 0);
    until(&address, |page| moved(page, "recycle") == [Some(2.0); 2]);
    // The older worker ends, and it has both.
    for workers in ["2", "1"] {
        assert_eq!(site.control(&["scale", workers]).code, 0);
    }
    let page = until(&address, |page| moved(page, "scale") == [Some(2.0); 2]);
    assert_eq!((moved(&page, "reload"), moved(&page, "busy")), ([Some(2.0); 2], [Some(0.0); 2]), "{page}");
    let later = until(&address, |page| value(page, "connections_idle") == Some(2.0));
    assert!(cpu(&later) >= cpu(&page), "it never goes back");
    site.signal(Signal::SIGUSR2);
    site.log("upgraded");
    site.log("generation serving generation=3");
    let last = until(&address, |page| value(page, "upgrades_total{outcome=\"success\"}") == Some(1.0));
    assert!(cpu(&last) >= cpu(&later), "it never goes back");
    let received = value(&last, "received_bytes_total");
    assert_eq!(received, Some(expected[7].1), "{last}");
    assert_eq!(site.control(&["rollback"]).code, 0);
    until(&address, |page| value(page, "rollbacks_total") == Some(1.0));
}

#[test]
fn a_roll_back_to_the_first_generation_is_counted_as_one_to_any_other() {
    let (site, address) = seen(Rig::with_source(APP));
    for command in ["reload", "rollback"] {
        assert_eq!(site.control(&[command]).code, 0);
    }
    let page = until(&address, |page| sample(page, "ostler_rollbacks_total") == Some(1.0));
    assert_eq!(sample(&page, "ostler_reloads_total{outcome=\"success\"}"), Some(2.0), "{page}");
}

#[test]
fn the_page_is_valid_for_promtool_and_prometheus_client() {
    let (site, address) = seen(Rig::with_source(APP));
    assert_eq!(site.get("/").status, 200);
    assert_eq!(site.control(&["recycle"]).code, 0);
    let page = until(&address, |page| sample(page, "ostler_requests_total{code=\"2xx\",method=\"GET\"}") == Some(1.0));
    let open = say(&address, "GET /metrics HTTP/1.1\r\nAccept: application/openmetrics-text; version=1.0.0\r\n\r\n");
    assert!(
        open.contains("\r\nContent-Type: application/openmetrics-text; version=1.0.0; charset=utf-8\r\n"),
        "{open}"
    );
    let (_, open) = parts(&open);
    let check = "import sys\n\
                 from prometheus_client.parser import text_string_to_metric_families as plain\n\
                 from prometheus_client.openmetrics.parser import text_string_to_metric_families as open_metrics\n\
                 page, other = sys.stdin.read().split('\\0')\n\
                 for families in list(plain(page)), list(open_metrics(other)):\n\
                 \x20   names = {family.name: family for family in families}\n\
                 \x20   assert names['ostler_requests'].type == 'counter', names\n\
                 \x20   assert names['ostler_request_duration_seconds'].type == 'histogram', names\n";
    let python = &Python::usual().environment().python;
    feed(Command::new(python).args(["-c", check]), &format!("{page}\0{open}"));
    if installed("promtool").is_some() {
        let said = feed(Command::new("promtool").args(["check", "metrics"]), &page);
        assert_eq!(said, "", "promtool has nothing to say");
    }
}

/// Gives a program this, and returns what it says.
fn feed(command: &mut Command, input: &str) -> String {
    let piped = command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = piped.spawn().expect("it can be started");
    child.stdin.take().expect("piped").write_all(input.as_bytes()).expect("it reads");
    let output = child.wait_with_output().expect("it ends");
    let said = format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert!(output.status.success(), "{said}\n{input}");
    said
}

#[test]
fn health_is_that_of_the_site_even_where_every_worker_is_busy() {
    let rig = Rig::with_source(APP).option("--drain-delay", "3600").option("--timeout", "0");
    let (mut site, address) = seen(rig);
    let mut stuck = site.connect();
    stuck.send("GET /stuck HTTP/1.1\r\nHost: a\r\n\r\n");
    until(&address, |page| sample(page, "ostler_requests_in_flight") == Some(1.0));
    assert_eq!(get(&address, "/health"), (200, "serving\n".into()));
    assert_eq!(get(&address, "/health?ready"), (200, "ready\n".into()));
    let (_, status) = get(&address, "/status");
    let status: Value = serde_json::from_str(&status).expect("JSON");
    assert_eq!(status["generations"][0]["workers"][0]["doing"][0]["line"], "GET /stuck HTTP/1.1", "{status}");
    site.signal(Signal::SIGTERM);
    let deadline = Instant::now() + PATIENCE;
    while get(&address, "/health?ready").0 == 200 {
        assert!(Instant::now() < deadline, "it wants clients for ever");
    }
    assert_eq!(get(&address, "/health"), (200, "serving\n".into()), "the delay is not over");
    site.signal(Signal::SIGQUIT);
    site.wait();
    assert!(TcpStream::connect(&address).is_err());
}

#[test]
fn a_site_that_boots_is_not_well_yet() {
    let slow = "import os, time\nwhile not os.path.exists('go'): time.sleep(0.01)\n".to_owned() + APP;
    let address = address();
    let site = Rig::with_source(&slow).option("--metrics", &address).launch();
    site.log("generation booting");
    assert_eq!((get(&address, "/health").0, get(&address, "/health?ready").0), (503, 503));
    site.folder().write("go", "");
    site.log("generation serving");
    assert_eq!((get(&address, "/health").0, get(&address, "/health?ready").0), (200, 200));
}

#[test]
fn what_is_no_question_has_a_short_answer() {
    let (_site, address) = seen(Rig::with_source(APP));
    for (request, status) in [
        ("GET /other HTTP/1.1\r\n\r\n", 404),
        ("POST /metrics HTTP/1.1\r\nContent-Length: 5\r\n\r\nhello", 405),
        ("DELETE /status HTTP/1.1\r\n\r\n", 405),
        ("nonsense\r\n\r\n", 400),
        ("GET /metrics HTTP/1.1\n", 400),
        ("\n", 400),
        ("GET /metrics HTTP/1.1\r\nAccept: a\nHost: a\r\n\r\n", 400),
        ("GET /health?x HTTP/1.1\r\n\r\n", 200),
        ("GET /metrics?x=1 HTTP/1.1\r\n\r\n", 200),
        ("GET /status?x HTTP/1.1\r\n\r\n", 200),
        ("\0\u{1}\r\n\r\n", 400),
    ] {
        assert_eq!(parts(&say(&address, request)).0, status, "{request:?}");
    }
    let long = format!("GET /metrics HTTP/1.1\r\nX: {}", "x".repeat(9000));
    assert_eq!(parts(&say(&address, &long)).0, 431);
    let head = say(&address, "HEAD /metrics HTTP/1.1\r\n\r\n");
    assert!(head.starts_with("HTTP/1.1 200 OK\r\n") && head.ends_with("\r\n\r\n"), "{head}");
}

#[test]
fn a_crowd_that_says_nothing_keeps_nobody_from_asking_or_from_the_site() {
    let (site, address) = seen(Rig::with_source(APP));
    let crowd: Vec<_> = (0..200).map(|_| TcpStream::connect(&address).expect("the kernel takes it")).collect();
    assert_eq!(get(&address, "/health").0, 200);
    assert_eq!(site.get("/").text(), "abc");
    let descriptors = std::fs::read_dir(format!("/proc/{}/fd", site.pid())).expect("the master lives").count();
    assert!(descriptors < 100, "{descriptors} descriptors");
    drop(crowd);
}

#[test]
fn a_unix_socket_serves_and_a_reload_moves_it() {
    let rig = Rig::with_source(APP).file("ostler.toml", "metrics = 'unix:one.sock'\n");
    let site = rig.start();
    let ask = |name: &str| {
        let mut stream = UnixStream::connect(site.folder().join(name)).ok()?;
        stream.write_all(b"GET /health HTTP/1.0\r\n\r\n").ok()?;
        let mut answer = String::new();
        stream.read_to_string(&mut answer).ok().map(|_| parts(&answer).0)
    };
    assert_eq!(ask("one.sock"), Some(200));
    site.folder().write("ostler.toml", "metrics = 'unix:two.sock'\n");
    assert_eq!(site.control(&["reload"]).code, 0);
    assert_eq!((ask("one.sock"), ask("two.sock")), (None, Some(200)));
}

#[test]
fn an_address_that_cannot_be_is_refused() {
    let taken = TcpListener::bind("127.0.0.1:0").expect("the loopback has ports");
    let address = taken.local_addr().unwrap().to_string();
    let refused = Rig::with_source(APP).option("--metrics", &address).refuse();
    refused.says(BIND, &[&format!("could not bind http://{address} for --metrics: address already in use")]);
    for text in ["localhost", "localhost:0", "fd://3"] {
        let expected = format!("--metrics: {text:?}: expected host:port, :port, [v6]:port or unix:path");
        Rig::with_source(APP).option("--metrics", text).refuse().says(USAGE, &[&expected]);
    }
}

#[test]
fn each_metric_of_the_examples_exists() {
    let known = std::fs::read_to_string(repository("docs/metrics.md")).expect("the page is there");
    for name in ["alerts.yml", "dashboard.json"] {
        let text = std::fs::read_to_string(repository("examples/observe").join(name)).expect("the example is there");
        let words = text
            .split(|c: char| !c.is_ascii_lowercase() && !c.is_ascii_digit() && c != '_')
            .filter(|word| word.starts_with("ostler_"));
        let words: Vec<_> = words.map(|word| word.trim_end_matches("_bucket")).collect();
        assert!(words.len() > 10, "{name} names metrics");
        for word in words {
            assert!(["`", "{"].iter().any(|end| known.contains(&format!("| `{word}{end}"))), "{name}: {word}");
        }
    }
    if installed("promtool").is_some() {
        feed(Command::new("promtool").args(["check", "config"]).arg(repository("examples/observe/prometheus.yml")), "");
    }
}

/// What promtool plays to the rules: a canary that fails, a site that has gone back, and answers that are broken off.
const PLAYED: &str = r#"
rule_files: [alerts.yml]
evaluation_interval: 1m
tests:
  - interval: 1m
    input_series:
      - {series: 'ostler_canary_requests{instance="a",stage="canary"}', values: '0+100x90'}
      - {series: 'ostler_canary_errors{instance="a",stage="canary"}', values: '0+5x90'}
      - {series: 'ostler_canary_requests{instance="a",stage="serving"}', values: '0+100x90'}
      - {series: 'ostler_canary_errors{instance="a",stage="serving"}', values: '0x90'}
      - {series: 'ostler_reloads_total{instance="a",outcome="failure"}', values: '0x20 1x70'}
      - {series: 'ostler_requests_total{instance="b"}', values: '0+600x90'}
      - {series: 'ostler_request_errors_total{instance="b"}', values: '0x90'}
      - {series: 'ostler_responses_broken_total{instance="b"}', values: '0+60x90'}
    alert_rule_test:
      - {eval_time: 2m, alertname: OstlerCanaryFails}
      - eval_time: 5m
        alertname: OstlerCanaryFails
        exp_alerts: [{exp_labels: {instance: a, stage: canary, severity: warn}}]
      - {eval_time: 59m, alertname: OstlerCanaryWaits}
      - eval_time: 70m
        alertname: OstlerCanaryWaits
        exp_alerts: [{exp_labels: {instance: a, stage: canary, severity: warn}}]
      - {eval_time: 15m, alertname: OstlerReloadFailed}
      - eval_time: 25m
        alertname: OstlerReloadFailed
        exp_alerts: [{exp_labels: {instance: a, outcome: failure, severity: warn}}]
      - eval_time: 20m
        alertname: OstlerErrors
        exp_alerts: [{exp_labels: {instance: b, severity: warn}}]
"#;

#[test]
fn the_rules_see_what_becomes_of_a_release() {
    let (Some(_), folder) = (installed("promtool"), Folder::new()) else { return };
    let rules = std::fs::read_to_string(repository("examples/observe/alerts.yml")).expect("the example is there");
    // What they say is words.
    let rules: Vec<_> = rules
        .lines()
        .filter(|line| {
            !["annotations:", "summary:", "description:"].iter().any(|word| line.trim_start().starts_with(word))
        })
        .collect();
    folder.write("alerts.yml", &rules.join("\n"));
    folder.write("played.yml", PLAYED);
    feed(Command::new("promtool").args(["test", "rules"]).arg(folder.join("played.yml")), "");
}

#[test]
fn a_real_prometheus_scrapes_it_and_evaluates_its_rules() {
    let (Some(_), folder) = (installed("prometheus"), Folder::new()) else { return };
    let (site, page) = seen(Rig::with_source(APP));
    assert_eq!(site.get("/").status, 200);
    for name in ["prometheus.yml", "alerts.yml"] {
        let text = std::fs::read_to_string(repository("examples/observe").join(name)).expect("the example is there");
        folder.write(name, &text.replace("127.0.0.1:9100", &page).replace("15s", "1s"));
    }
    let server = address();
    let mut command = Command::new("prometheus");
    command.arg(format!("--config.file={}", folder.join("prometheus.yml").display()));
    command.arg(format!("--storage.tsdb.path={}", folder.join("data").display()));
    command.arg(format!("--web.listen-address={server}"));
    let mut prometheus = Process::start(&mut command, "prometheus");
    let ask = |path: &str| {
        let answer = TcpStream::connect(&server).is_ok().then(|| say(&server, &format!("GET {path} HTTP/1.0\r\n\r\n")));
        let body = answer.and_then(|answer| Some(answer.split_once("\r\n\r\n")?.1.to_owned()));
        body.and_then(|body| serde_json::from_str::<Value>(&body).ok())
            .map_or(Value::Null, |value| value["data"].clone())
    };
    let is_one = |query: &str| ask(&format!("/api/v1/query?query={query}"))["result"][0]["value"][1] == "1";
    // None is to fire of a site that is well.
    let is_well = |rule: &Value| rule["health"] == "ok" && rule["state"] == "inactive";
    let deadline = Instant::now() + PATIENCE;
    loop {
        let rules = &ask("/api/v1/rules")["groups"][0]["rules"];
        // A target that asks for OpenMetrics, and is given it, is up if all of the page could be read.
        let knows = is_one("up{job=%22ostler%22}") && is_one("sum(ostler_requests_total{job=%22ostler%22})");
        if knows && rules.as_array().is_some_and(|rules| rules.iter().all(is_well)) {
            break;
        }
        let targets = ask("/api/v1/targets?state=active");
        assert!(Instant::now() < deadline, "it does not know what the site has answered: {targets} {rules}");
        std::thread::yield_now();
    }
    prometheus.signal(Signal::SIGTERM);
    prometheus.wait();
}

const COUNTED: &str = "
import os
from prometheus_client import CollectorRegistry, generate_latest, multiprocess, values
values.ValueClass = values.MultiProcessValue(lambda: os.environ.get('OSTLER_GENERATION', '') + '-' + os.environ.get('OSTLER_SLOT', ''))
from prometheus_client import Counter
VISITS = Counter('visits', 'How often somebody came.')
def application(environ, start_response):
    if environ['PATH_INFO'] == '/metrics':
        registry = CollectorRegistry()
        multiprocess.MultiProcessCollector(registry)
        body = generate_latest(registry)
    else:
        VISITS.inc()
        body = os.environ['OSTLER_SLOT'].encode()
    start_response('200 OK', [('Content-Length', str(len(body)))])
    return [body]
";

#[test]
fn prometheus_client_counts_over_all_workers_in_as_many_files_as_there_are_slots() {
    let rig = Rig::with_source(COUNTED).workers(2);
    let files = rig.folder().join("files");
    std::fs::create_dir(&files).expect("a private folder is writable");
    let site = rig.env("PROMETHEUS_MULTIPROC_DIR", &files.display().to_string()).start();
    for recycled in 0..4 {
        for _ in 0..10 {
            assert!(["0", "1", "2", "3"].contains(&site.get("/").text()));
        }
        let answer = site.get("/metrics");
        let page = answer.text();
        assert!(page.contains(&format!("visits_total {}.0\n", 10 * (recycled + 1))), "{page}");
        assert_eq!(site.control(&["recycle"]).code, 0);
    }
    let names: Vec<_> = std::fs::read_dir(&files).unwrap().map(|file| file.unwrap().file_name()).collect();
    // A worker, and the one that takes its place.
    assert!(names.len() <= 5, "{names:?}");
}
