//! With --request-id a request has one id from the proxy to the application and in both logs, wherever it ends.

use std::{
    collections::BTreeSet,
    time::{SystemTime, UNIX_EPOCH},
};

use ostler_tests::{Answer, Client, Rig, Site};
use serde_json::{Value, json};

const SOURCE: &str = "
import json, logging, os, time
def app(environ, start_response):
    path = environ['PATH_INFO']
    if path == '/raises':
        raise RuntimeError('raised')
    if path == '/logs':
        logging.getLogger('gunicorn.error').warning('logged in a request')
        logging.getLogger('gunicorn.error').error('with a traceback', exc_info=ValueError('why'))
    if path == '/dies':
        os._exit(7)
    if path == '/hangs':
        time.sleep(60)
    fields = [('Content-Type', 'application/json')]
    if path == '/own':
        fields.append(('X-Request-Id', 'mine'))
    start_response('200 OK', fields)
    return [json.dumps({key: value for key, value in environ.items() if isinstance(value, str)}).encode()]
";
const TRACE: &str = "4bf92f3577b34da6a3ce929d0e0e4736";

fn rig(setting: &str) -> Rig {
    let rig = Rig::with_source(SOURCE).flag(&format!("--request-id={setting}"));
    rig.option("--access-logfile", "access.log").option("--access-logformat", "json:path,request_id,status")
}

/// Peers on the Unix socket are trusted, and a client at 127.0.0.1 is not.
fn trusting(setting: &str) -> (Site, String) {
    let rig = rig(setting).option("--forwarded-allow-ips", "unix:");
    let socket = format!("unix:{}", rig.folder().join("site.sock").display());
    (rig.bind("127.0.0.1:0").bind(&socket).start(), socket)
}

fn ask(client: &mut Client, path: &str, fields: &str) -> Answer {
    client.send(format!("GET {path} HTTP/1.1\r\nHost: a\r\n{fields}\r\n")).answer()
}

fn seen(answer: &Answer) -> Value {
    serde_json::from_slice(&answer.body).expect("the application sends JSON")
}

fn is_made(id: &str) -> bool {
    id.len() == 32 && id.bytes().all(|byte| byte.is_ascii_hexdigit())
}

#[test]
fn what_a_trusted_peer_says_is_taken_if_it_is_clean() {
    let (site, socket) = trusting("on");
    let mut proxy = Client::connect(&socket);
    let trace = format!("traceparent: 00-{TRACE}-00f067aa0ba902b7-01\r\n");
    for (fields, expected) in [
        ("X-Request-ID: 6f9619ff-8b86-d011\r\n".to_owned(), Some("6f9619ff-8b86-d011")),
        (trace.clone(), Some(TRACE)),
        (format!("X-Request-ID: 4711\r\n{trace}"), Some("4711")),
        (String::new(), None),
        ("X-Request-ID: a b\r\n".to_owned(), None),
        (format!("X-Request-ID: {}\r\n", "x".repeat(65)), None),
        ("X-Request-ID: 1\r\nX-Request-ID: 2\r\n".to_owned(), None),
        ("X_Request_ID: 1\r\n".to_owned(), None),
    ] {
        let answer = ask(&mut proxy, "/", &fields);
        let seen = seen(&answer);
        let id = seen["HTTP_X_REQUEST_ID"].as_str().expect("it has one");
        match expected {
            Some(expected) => assert_eq!(id, expected, "{fields}"),
            None => assert!(is_made(id), "{fields}: {id}"),
        }
        assert_eq!(answer.field("X-Request-ID"), None);
    }
    let stranger = seen(&ask(&mut site.connect(), "/", &format!("X-Request-ID: 4711\r\n{trace}")));
    assert!(is_made(stranger["HTTP_X_REQUEST_ID"].as_str().expect("it has one")), "{stranger}");
    assert_eq!(stranger["HTTP_TRACEPARENT"], json!(format!("00-{TRACE}-00f067aa0ba902b7-01")));
}

#[test]
fn an_id_that_is_not_clean_is_mentioned_to_those_who_look() {
    let rig = rig("on").option("--log-level", "debug");
    let site = rig.start();
    ask(&mut site.connect(), "/", "X-Request-ID: a\\b\r\n");
    assert!(is_made(site.log("request id replaced").key("request_id").expect("the one in its place")));
}

#[test]
fn without_the_option_nothing_is_added() {
    let site = rig("off").start();
    let answer = ask(&mut site.connect(), "/", "");
    assert_eq!((answer.field("X-Request-ID"), seen(&answer).get("HTTP_X_REQUEST_ID")), (None, None));
    let passed = seen(&ask(&mut site.connect(), "/", "X-Request-ID: a b\r\n"));
    assert_eq!(passed["HTTP_X_REQUEST_ID"], "a b");
}

#[test]
fn no_two_requests_of_any_worker_have_one_id() {
    let site = rig("on").workers(3).start();
    let mut ids = BTreeSet::new();
    for _ in 0..30 {
        let mut client = site.connect();
        for _ in 0..5 {
            let seen = seen(&ask(&mut client, "/", ""));
            assert!(ids.insert(seen["HTTP_X_REQUEST_ID"].as_str().expect("it has one").to_owned()));
        }
    }
    site.signal(nix::sys::signal::Signal::SIGHUP);
    site.log("generation serving");
    for _ in 0..20 {
        let seen = seen(&ask(&mut site.connect(), "/", ""));
        assert!(ids.insert(seen["HTTP_X_REQUEST_ID"].as_str().expect("it has one").to_owned()));
    }
}

#[test]
fn a_client_gets_it_if_that_is_asked_for() {
    let mut site = rig("response").start();
    let mut client = site.connect();
    let answer = ask(&mut client, "/", "X-Request-ID: 4711\r\n");
    assert_eq!(answer.field("x-request-id"), Some("4711"));
    assert_eq!(ask(&mut client, "/own", "").values("x-request-id"), ["mine"]);
    let failed = ask(&mut client, "/raises", "");
    let id = failed.field("x-request-id").expect("an error page, too").to_owned();
    assert_eq!(site.log("application raised").key("request_id"), Some(id.as_str()));
    let refused = client.send("GET / HTTP/1.1\r\nX-Request-ID: 4712\r\nBroken\r\n\r\n").answer();
    assert_eq!((refused.status, refused.field("x-request-id")), (400, Some("4712")));
    assert_eq!(site.log("request refused").key("request_id"), Some("4712"));
    site.stop();
    let log = site.folder().read("access.log");
    let ids: Vec<Value> = log.lines().map(|line| serde_json::from_str(line).expect("JSON")).collect();
    assert_eq!(ids[0]["request_id"], "4711");
    assert_eq!((&ids[2]["path"], &ids[2]["request_id"]), (&json!("/raises"), &json!(id)));
    assert_eq!((&ids[3]["status"], &ids[3]["request_id"]), (&json!(400), &json!("4712")));
}

#[test]
fn a_request_that_hangs_or_kills_its_worker_is_told_with_its_id() {
    let site = rig("response").option("--timeout", "2").start();
    let mut client = site.connect();
    client.send("GET /hangs HTTP/1.1\r\nHost: a\r\nX-Request-ID: hung\r\n\r\n");
    loop {
        let status: Value = serde_json::from_str(&site.control(&["status", "--json"]).output).expect("JSON");
        let doing = &status["generations"][0]["workers"][0]["doing"];
        if doing[0]["id"] == "hung" {
            break;
        }
        assert!(doing.as_array().is_none_or(Vec::is_empty), "{doing}");
    }
    assert!(site.control(&["status"]).output.contains("GET /hangs HTTP/1.1 [hung] ("));
    assert_eq!(site.log("request timed out").key("request_id"), Some("hung"));
    let answer = client.answer();
    assert_eq!((answer.status, answer.field("x-request-id")), (504, Some("hung")));
    site.log("worker ready");
    let mut client = site.connect();
    client.send("GET /dies HTTP/1.1\r\nHost: a\r\nX-Request-ID: fatal\r\n\r\n");
    let line = site.log("worker lost");
    assert!(line.text().contains("GET /dies HTTP/1.1 [fatal] ("), "{}", line.text());
    site.log("worker ready");
    let log = site.folder().read("access.log");
    assert!(log.contains("{\"path\":\"/hangs\",\"request_id\":\"hung\",\"status\":504}"), "{log}");
}

#[test]
fn the_requests_under_way_are_listed_the_oldest_first() {
    let site = rig("on").start();
    let listed = |words: &[&str]| site.control(words).output;
    assert_eq!(
        (listed(&["requests"]).as_str(), listed(&["requests", "--json"]).trim()),
        ("no request is under way", "[]")
    );
    let (mut first, mut second) = (site.connect(), site.connect());
    for client in [&mut first, &mut second] {
        assert_eq!(ask(client, "/", "").status, 200);
    }
    // The worker has one thread. It knows the second connection, and reads what comes there.
    first.send("GET /hangs HTTP/1.1\r\nHost: a\r\nX-Request-ID: hung\r\n\r\n");
    while !listed(&["requests"]).contains("/hangs") {}
    second.send("GET /waits HTTP/1.1\r\nHost: a\r\nX-Request-ID: late\r\n\r\n");
    while !listed(&["requests"]).contains("/waits") {}
    let rows: Value = serde_json::from_str(&listed(&["requests", "--json"])).expect("JSON");
    let of =
        |place: usize| ["request", "request_id", "state", "generation", "worker"].map(|name| rows[place][name].clone());
    assert_eq!(of(0), [json!("GET /hangs HTTP/1.1"), json!("hung"), json!("called"), json!(1), json!(0)]);
    assert_eq!(of(1), [json!("GET /waits HTTP/1.1"), json!("late"), json!("waiting"), json!(1), json!(0)]);
    assert!(rows[0]["age"].as_f64() >= rows[1]["age"].as_f64() && rows[0]["pid"].is_number(), "{rows}");
    let table = listed(&["requests"]);
    let words: Vec<Vec<&str>> = table.lines().map(|line| line.split_whitespace().collect()).collect();
    assert_eq!(words[0], ["AGE", "STATE", "WORKER", "PID", "ID", "REQUEST"]);
    assert_eq!(words[1][2..4], ["called", "g1.0"]);
    assert_eq!(words[2][5..], ["late", "GET", "/waits", "HTTP/1.1"]);
    site.signal(nix::sys::signal::Signal::SIGINT);
}

#[test]
fn what_the_application_logs_by_gunicorn_s_loggers_has_it() {
    let site = rig("on").start();
    assert_eq!(ask(&mut site.connect(), "/logs", "X-Request-ID: 4711\r\n").status, 200);
    assert_eq!(site.log("logged in a request").key("request_id"), Some("4711"));
    let line = site.log("with a traceback");
    assert_eq!((line.key("request_id"), line.key("traceback")), (Some("4711"), Some("ValueError: why")));
}

#[test]
fn gunicorn_s_format_has_it_too() {
    let rig = Rig::with_source(SOURCE).flag("--request-id").option("--forwarded-allow-ips", "unix:");
    let mut site =
        rig.option("--access-logfile", "access.log").option("--access-logformat", "%({X-Request-ID}i)s").start();
    let seen = seen(&ask(&mut site.connect(), "/", "X-Request-ID: forged\r\n"));
    site.stop();
    assert_eq!(json!(site.folder().read("access.log").trim_end()), seen["HTTP_X_REQUEST_ID"]);
}

#[test]
fn a_proxy_that_is_believed_starts_the_queue_time() {
    let rig = |fields: &str| {
        let rig = Rig::with_source(SOURCE).option("--forwarded-fields", fields);
        rig.option("--access-logfile", "access.log").option("--access-logformat", "json:queue_time,total_time")
    };
    let times = |fields: &str, start: &str| -> [f64; 2] {
        let mut site = rig(fields).start();
        ask(&mut site.connect(), "/", &format!("X-Request-Start: {start}\r\n"));
        site.stop();
        let line: Value = serde_json::from_str(site.folder().read("access.log").trim_end()).expect("one line");
        ["queue_time", "total_time"].map(|name| line[name].as_f64().expect("a number"))
    };
    let now = SystemTime::now().duration_since(UNIX_EPOCH).expect("it is later than 1970");
    let ago = now.as_millis() - 100_000;
    for start in [format!("t={}.{:03}", ago / 1000, ago % 1000), ago.to_string(), format!("{ago}000")] {
        let [queue, total] = times("x-request-start", &start);
        assert!((100.0..1000.0).contains(&queue) && total >= queue, "{start}: {queue} of {total}");
    }
    for (fields, start) in [
        ("x-forwarded-for", ago.to_string()),
        ("x-request-start", (now.as_millis() + 100_000).to_string()),
        ("x-request-start", (now.as_millis() - 4_000_000).to_string()),
        ("x-request-start", "yesterday".into()),
    ] {
        let [queue, total] = times(fields, &start);
        assert!((0.0..100.0).contains(&queue) && (0.0..100.0).contains(&total), "{fields} {start}: {queue} of {total}");
    }
}
