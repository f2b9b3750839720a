//! With --access-logformat json each line of the access log is an object, whatever a client sends; and people choose which requests have one.

use std::{fs, thread, time::Duration};

use nix::sys::signal::Signal::SIGHUP;
use ostler_tests::{Client, Rig, Site};
use serde_json::{Value, json};

const SOURCE: &str = "
import time
def app(environ, start_response):
    path = environ['PATH_INFO']
    if path == '/slow':
        time.sleep(0.3)
    if path == '/hangs':
        time.sleep(60)
    environ['wsgi.input'].read()
    start_response('404 Not Found' if path.endswith('missing') else '200 OK', [('X-Answer', 'a\"b'), ('Content-Length', '6')])
    return [b'hello\\n']
";

fn rig(format: &str) -> Rig {
    Rig::with_source(SOURCE).option("--access-logfile", "access.log").option("--access-logformat", format)
}

/// Every line must be an object.
fn lines(site: &Site) -> Vec<Value> {
    let log = fs::read(site.folder().join("access.log")).expect("there is a log");
    let whole = String::from_utf8(log).expect("it is UTF-8");
    whole.lines().map(|line| serde_json::from_str(line).unwrap_or_else(|error| panic!("{error}: {line}"))).collect()
}

fn names(object: &Value) -> Vec<&str> {
    object.as_object().expect("an object").keys().map(String::as_str).collect()
}

#[test]
fn each_field_has_its_name_and_its_type() {
    let mut site = rig("json").start();
    let head = "POST /slow?x=1 HTTP/1.1\r\nHost: a\r\nReferer: http://from.test/\r\nUser-Agent: a \"browser\"\r\n";
    let mut client = site.connect();
    client.send(head).send("Content-Length: 9\r\n\r\n").send("some body");
    assert_eq!(client.answer().status, 200);
    client.send("BROKEN\r\n\r\n");
    assert_eq!(client.answer().status, 400);
    site.stop();
    let lines = lines(&site);
    let [called, refused] = &lines[..] else { panic!("{lines:?}") };
    for (name, expected) in [
        ("client", json!("127.0.0.1")),
        ("method", json!("POST")),
        ("path", json!("/slow")),
        ("query", json!("x=1")),
        ("status", json!(200)),
        ("bytes_in", json!(9)),
        ("bytes_out", json!(6)),
        ("worker", json!(0)),
        ("generation", json!(1)),
        ("user_agent", json!("a \"browser\"")),
        ("referrer", json!("http://from.test/")),
    ] {
        assert_eq!(called[name], expected, "{name}");
    }
    let seconds = |name: &str| called[name].as_f64().unwrap_or_else(|| panic!("{name} is no number: {called}"));
    assert!(seconds("application_time") >= 0.3 && seconds("queue_time") >= 0.0, "{called}");
    assert!(seconds("total_time") >= seconds("application_time") + seconds("queue_time"), "{called}");
    let time = called["time"].as_str().expect("a text");
    assert!(time.len() == 29 && time.as_bytes()[10] == b'T' && time.as_bytes()[19] == b'.', "{time}");
    for name in ["method", "path", "query", "queue_time", "application_time", "user_agent", "referrer"] {
        assert_eq!(refused[name], Value::Null, "{name}");
    }
    assert_eq!((&refused["status"], &refused["bytes_in"]), (&json!(400), &json!(0)));
    assert_eq!(names(called), names(refused));
}

#[test]
fn the_fields_that_are_named_stand_in_their_order() {
    let format = "json:status,{X-Answer}o,path,{x-one}i,{missing}i,{wsgi.url_scheme}e,host,scheme,protocol,user,pid";
    let mut site = rig(format).start();
    let worker = site.log("worker ready").number("pid");
    let fields = "Host: a\r\nX-One: \"1\\\r\nAuthorization: Basic YWxhZGRpbjpvcGVuc2VzYW1l\r\n";
    site.connect().send(format!("GET /a HTTP/1.1\r\n{fields}\r\n")).answer();
    site.stop();
    let expected =
        r#"{"status":200,"X-Answer":"a\"b","path":"/a","x-one":"\"1\\","missing":null,"wsgi.url_scheme":"http","#
            .to_owned()
            + &format!(r#""host":"a","scheme":"http","protocol":"HTTP/1.1","user":"aladdin","pid":{worker}}}"#);
    assert_eq!(site.folder().read("access.log").trim_end(), expected);
}

/// A sequence of numbers that look random (Knuth's generator).
struct Random(u64);

impl Random {
    fn below(&mut self, bound: usize) -> usize {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) as usize % bound
    }
}

#[test]
fn whatever_a_client_sends_each_line_is_an_object() {
    let mut site = rig("json:status,path,query,method,user_agent,referrer,host,user,{x}i,{HTTP_X}e,{RAW_URI}e").start();
    let mut random = Random(1);
    let telling: Vec<u8> = (0..=255).chain(*b"\"\\\"\\\"\\{}:,%/?#\t").filter(|byte| !b"\r\n".contains(byte)).collect();
    let mut answered = 0;
    for _ in 0..400 {
        let mut some =
            |most| (0..random.below(most)).map(|_| telling[random.below(telling.len())]).collect::<Vec<u8>>();
        let request = [
            b"GET /".as_slice(),
            &some(6),
            b" HTTP/1.1\r\nHost: a\r\nUser-Agent: ",
            &some(30),
            b"\r\nReferer: ",
            &some(6),
            b"\r\nX: ",
            &some(4),
            b"\r\nConnection: close\r\n\r\n",
        ]
        .concat();
        let mut client = site.connect();
        client.send(request);
        answered += usize::from(client.answer().status > 0);
    }
    site.stop();
    let lines = lines(&site);
    assert_eq!((lines.len(), answered), (400, 400));
    let served = lines.iter().filter(|line| line["status"] == 200).count();
    assert!((10..390).contains(&served), "{served} of 400 were served");
}

#[test]
fn a_request_that_is_given_up_tells_its_times() {
    let site = rig("json:path,status,queue_time,application_time,total_time").option("--timeout", "0.3").start();
    assert_eq!(site.get("/hangs").status, 504);
    site.log("request timed out");
    site.log("worker ready");
    // The second worker's line is behind the first's.
    assert_eq!(site.get("/a").status, 200);
    drop(site.control(&["stop"]));
    let log = site.folder().read("access.log");
    let hung: Value = serde_json::from_str(log.lines().next().expect("a line")).expect("JSON");
    assert_eq!((&hung["path"], &hung["status"]), (&json!("/hangs"), &json!(504)));
    assert!(hung["application_time"].as_f64() >= Some(0.29) && hung["queue_time"].is_number(), "{hung}");
}

#[test]
fn a_field_that_there_is_not_is_told_before_anything_starts() {
    rig("json:time,statsu").refuse().says(2, &["there is no field \"statsu\". Did you mean status?"]);
    let site =
        Rig::with_source(SOURCE).option("--config", "site.toml").file("site.toml", &settings("json:path")).start();
    assert_eq!(site.get("/a").status, 200);
    fs::write(site.folder().join("site.toml"), settings("json:statsu")).expect("it is ours");
    site.signal(SIGHUP);
    let line = site.log("Did you mean status?");
    assert!(line.text().contains("error"), "{}", line.text());
    assert_eq!(site.get("/b").status, 200);
    fs::write(site.folder().join("site.toml"), settings("json:status")).expect("it is ours");
    site.signal(SIGHUP);
    site.log("generation serving");
    site.drained(1);
    assert_eq!(site.get("/c").status, 200);
    drop(site.control(&["stop"]));
    assert_eq!(site.folder().read("access.log"), "{\"path\":\"/a\"}\n{\"path\":\"/b\"}\n{\"status\":200}\n");
}

fn settings(format: &str) -> String {
    format!("access-logfile = \"access.log\"\naccess-logformat = \"{format}\"\n")
}

#[test]
fn a_line_tells_the_generation_and_the_worker_that_have_answered() {
    let mut site = rig("%(U)s %({generation}x)s.%({worker}x)d 100%%").start();
    assert_eq!(site.get("/old").status, 200);
    assert_eq!(site.control(&["reload"]).code, 0);
    assert_eq!(site.get("/new").status, 200);
    site.stop();
    let log = fs::read_to_string(site.folder().join("access.log")).expect("there is a log");
    assert_eq!(log, "/old 1.0 100%\n/new 2.0 100%\n");
    rig("%({generations}x)s").refuse().says(2, &["expected generation or worker rather than generations before x"]);
}

#[test]
fn paths_that_are_skipped_have_lines_only_where_they_fail() {
    let mut site = rig("json:path,status").option("--access-log-skip", "/health,/static/*").start();
    let mut client = site.connect();
    for path in ["/health", "/health?a", "/static/a", "/static/missing", "/health/", "/"] {
        client.get(path);
    }
    site.stop();
    let expected = "{\"path\":\"/static/missing\",\"status\":404}\n{\"path\":\"/health/\",\"status\":200}\n{\"path\":\"/\",\"status\":200}\n";
    assert_eq!(site.folder().read("access.log"), expected);
}

#[test]
fn only_slow_requests_have_lines_if_that_is_asked_for() {
    let mut site = rig("json:path").option("--access-log-slow", "250ms").start();
    let mut client = site.connect();
    for path in ["/quick", "/slow"] {
        client.get(path);
    }
    // A client that is slow to send is slow, too.
    client.send("GET /sent/slowly HTTP/1.1\r\n");
    thread::sleep(Duration::from_millis(300));
    client.send("Host: a\r\n\r\n");
    assert_eq!(client.answer().status, 200);
    site.stop();
    let log = site.folder().read("access.log");
    let slow: Vec<_> = log.lines().filter(|line| !line.contains("/quick")).collect();
    assert_eq!(slow, ["{\"path\":\"/slow\"}", "{\"path\":\"/sent/slowly\"}"]);
}

#[test]
fn a_terminal_gets_json_without_colours() {
    let site =
        Rig::with_source(SOURCE).option("--access-logfile", "-").option("--access-logformat", "json:path,status");
    let site = site.env("TERM", "xterm").without_env("NO_COLOR").on_terminal().bind("127.0.0.1:0").launch();
    let line = site.log("listening on");
    let address = line
        .text()
        .split("listening on ")
        .nth(1)
        .expect("an address")
        .replace("\u{1b}[1m", "")
        .replace("\u{1b}[0m", "");
    site.log("worker serves");
    assert_eq!(Client::connect(address.trim()).get("/missing").status, 404);
    let line = site.log("\"path\"");
    assert_eq!(line.text().trim_end(), "{\"path\":\"/missing\",\"status\":404}");
}
