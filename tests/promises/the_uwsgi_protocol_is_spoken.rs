//! Listeners for the uwsgi protocol: what nginx's `uwsgi_pass` sends is a request like any other, and nothing else is.

use nix::sys::signal::Signal::SIGHUP;
use ostler_tests::{Answer, Client, Folder, Proxy, Rig, Site};
use serde_json::Value;

use crate::load::{Load, rig};

const SOURCE: &str = "
import json
def app(environ, start_response):
    if environ['PATH_INFO'] == '/body':
        body = environ['wsgi.input'].read()
    elif environ['PATH_INFO'] == '/stream':
        start_response('200 OK', [])
        return (b'x' * 65536 for _ in range(64))
    elif environ['PATH_INFO'] == '/file':
        start_response('200 OK', [])
        return environ['wsgi.file_wrapper'](open(__file__, 'rb'))
    else:
        body = json.dumps({key: value for key, value in environ.items() if isinstance(value, str)}).encode()
    start_response('200 OK', [('Content-Type', 'application/json')])
    return [body]
";

const GET: &[(&str, &str)] =
    &[("REQUEST_METHOD", "GET"), ("REQUEST_URI", "/page?a=b"), ("SERVER_PROTOCOL", "HTTP/1.1"), ("HTTP_HOST", "a")];

/// A request without a body, as a web server sends it.
pub(crate) fn packet(variables: &[(&str, &str)]) -> Vec<u8> {
    let part = |text: &str| [&(text.len() as u16).to_le_bytes()[..], text.as_bytes()].concat();
    let all: Vec<u8> = variables.iter().flat_map(|(name, value)| [part(name), part(value)].concat()).collect();
    [&[0][..], &(all.len() as u16).to_le_bytes(), &[0], &all].concat()
}

fn speaks() -> Rig {
    Rig::with_source(SOURCE).bind("uwsgi://127.0.0.1:0")
}

fn ask(site: &Site, more: &[(&str, &str)], body: &[u8]) -> Answer {
    site.connect().send(packet(&[GET, more].concat())).send(body).answer()
}

fn environ(answer: &Answer) -> Value {
    assert_eq!(answer.status, 200, "{}", answer.text());
    serde_json::from_slice(&answer.body).expect("the application sends JSON")
}

/// TCP, and a Unix socket in the rig's folder.
fn both(rig: impl Fn() -> Rig) -> [Rig; 2] {
    let unix = rig();
    let socket = format!("uwsgi://unix:{}", unix.folder().join("site.sock").display());
    [rig().bind("uwsgi://127.0.0.1:0"), unix.bind(&socket)]
}

#[test]
fn the_access_log_has_the_user_that_the_web_server_names() {
    let basic = ("HTTP_AUTHORIZATION", "Basic YWxhZGRpbjpvcGVuc2VzYW1l");
    for (format, [named, claimed, nobody]) in [
        ("%(u)s", ["anna", "aladdin", "-"]),
        ("json:user", [r#"{"user":"anna"}"#, r#"{"user":"aladdin"}"#, r#"{"user":null}"#]),
    ] {
        let mut site = speaks().option("--access-logfile", "log").option("--access-logformat", format).start();
        ask(&site, &[("REMOTE_USER", "anna"), basic], b"");
        ask(&site, &[("REMOTE_USER", ""), basic], b"");
        ask(&site, &[], b"");
        site.stop();
        let log = std::fs::read_to_string(site.folder().join("log")).expect("there is a log");
        assert_eq!(log.lines().collect::<Vec<_>>(), [named, claimed, nobody]);
    }
}

#[test]
fn an_application_sees_what_nginx_says() {
    for rig in both(|| Rig::with_source(SOURCE).option("--forwarded-allow-ips", "unix:")) {
        let site = rig.start();
        assert!(site.address().starts_with("uwsgi://"), "{}", site.address());
        let more = "uwsgi_param HTTPS on; uwsgi_param MY_VAR mine; uwsgi_param SCRIPT_NAME /shop; uwsgi_modifier1 30;";
        let Some(proxy) = Proxy::nginx_with_uwsgi(site.address(), more) else { return };
        let request =
            "GET /shop/a%20b?c=d HTTP/1.1\r\nHost: site.example\r\nX-Forwarded-For: 203.0.113.9\r\nX-Own: 1\r\n\r\n";
        let answer = Client::connect(proxy.address()).send(request).answer();
        let seen = environ(&answer);
        for (key, expected) in [
            ("REQUEST_METHOD", "GET"),
            ("SCRIPT_NAME", "/shop"),
            ("PATH_INFO", "/a b"),
            ("QUERY_STRING", "c=d"),
            ("REQUEST_URI", "/shop/a%20b?c=d"),
            ("SERVER_PROTOCOL", "HTTP/1.1"),
            ("HTTP_HOST", "site.example"),
            ("HTTP_X_OWN", "1"),
            ("REMOTE_ADDR", "127.0.0.1"),
            ("SERVER_PORT", proxy.address().rsplit(':').next().unwrap()),
            ("wsgi.url_scheme", "https"),
            ("MY_VAR", "mine"),
            ("HTTPS", "on"),
        ] {
            assert_eq!(seen[key], expected, "{key}");
        }
        assert!(seen["HTTP_X_FORWARDED_FOR"].is_null(), "nginx has passed on what a client said");
        assert!(seen["SERVER_SOFTWARE"].as_str().unwrap().starts_with("ostler/"));
    }
}

#[test]
fn bodies_and_answers_of_any_size_pass_nginx_whole() {
    let large: Vec<u8> =
        (0..5_000_000u32).flat_map(|number| (number as u8 ^ (number >> 9) as u8).to_le_bytes()).collect();
    for (rig, more) in both(|| Rig::with_source(SOURCE)).into_iter().zip(["", "uwsgi_request_buffering off;"]) {
        let site = rig.start();
        let Some(proxy) = Proxy::nginx_with_uwsgi(site.address(), more) else { return };
        let mut client = Client::connect(proxy.address());
        assert!(client.post("/body", "a/b", &large).body == large);
        let chunked = "POST /body HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\nExpect: 100-continue\r\n\r\n";
        client.send(chunked).until(b"100 Continue\r\n\r\n");
        assert_eq!(client.send("5\r\nhello\r\n0\r\n\r\n").answer().text(), "hello");
        assert_eq!(client.get("/stream").body.len(), 64 * 65536);
        assert_eq!(client.get("/file").text(), SOURCE);
        let head = client.send("HEAD /page HTTP/1.1\r\nHost: a\r\n\r\n").answer_to_head();
        assert_eq!((head.status, head.body.len()), (200, 0));
    }
}

#[test]
fn a_reload_behind_uwsgi_pass_is_not_noticed() {
    for (kind, rig) in ["TCP", "a Unix socket"].into_iter().zip(both(rig)) {
        let site = rig.start();
        let Some(proxy) = Proxy::nginx_with_uwsgi(site.address(), "") else { return };
        Load::during(&format!("reloads behind uwsgi_pass, {kind}"), &proxy, |load| {
            for _ in 0..3 {
                load.goes_on(200);
                site.signal(SIGHUP);
                site.log("generation serving");
                site.drained(2);
            }
            load.goes_on(200);
        });
    }
}

#[test]
fn a_stop_lets_a_request_behind_uwsgi_pass_end() {
    let source = "
import time
def app(environ, start_response):
    print('called', file=environ['wsgi.errors'], flush=True)
    time.sleep(0.5)
    start_response('200 OK', [])
    return [b'done']
";
    let mut site = Rig::with_source(source).bind("uwsgi://127.0.0.1:0").start();
    let Some(proxy) = Proxy::nginx_with_uwsgi(site.address(), "") else { return };
    let mut client = Client::connect(proxy.address());
    client.ask("/");
    site.log("called");
    site.stop();
    assert_eq!(client.answer().text(), "done");
}

#[test]
fn an_answer_is_in_http_and_ends_with_the_connection() {
    let site = speaks().start();
    let mut client = site.connect();
    client.send(packet(&[GET, &[("PATH_INFO", "/stream")]].concat()));
    let (bytes, _) = client.rest();
    let text = String::from_utf8_lossy(&bytes);
    assert!(text.starts_with("HTTP/1.1 200 OK\r\n") && text.contains("\r\nConnection: close\r\n"), "{}", &text[..200]);
    assert!(!text.contains("Transfer-Encoding"), "no web server would decode chunks");
    assert!(text.ends_with("xxxx") && bytes.len() > 64 * 65536);
}

#[test]
fn who_is_not_named_may_not_speak_it() {
    let site = speaks().option("--uwsgi-allow-from", "192.0.2.1").start();
    assert_eq!(ask(&site, &[], b"").status, 403);
    let refused = site.log("request refused");
    assert_eq!(refused.key("reason"), Some("the peer is not in --uwsgi-allow-from"));
    let [_, unix] = both(|| Rig::with_source(SOURCE).option("--uwsgi-allow-from", "192.0.2.1"));
    assert_eq!(ask(&unix.start(), &[], b"").status, 200, "who may open a Unix socket, its file says");
}

#[test]
fn what_is_no_request_is_refused_as_with_http() {
    let site = speaks().start();
    let answer = site.connect().send("GET / HTTP/1.1\r\nHost: a\r\n\r\n").answer();
    assert_eq!(answer.status, 400);
    assert_eq!(site.log("request refused").key("reason"), Some("HTTP where the uwsgi protocol is spoken"));
    for (status, more) in [
        (400, &[("HTTP_A", "b\r\nC: d")][..]),
        (400, &[("wsgi.input", "a")]),
        (400, &[("CONTENT_LENGTH", "x")]),
        (400, &[("REMOTE_ADDR", "somebody")]),
        (400, &[("PATH_INFO", "no-slash")]),
        (431, &[("HTTP_A", &"b".repeat(9000))]),
        (501, &[("REQUEST_METHOD", "CONNECT"), ("REQUEST_URI", "a:1")]),
    ] {
        assert_eq!(ask(&site, more, b"").status, status, "{more:?}");
    }
    // A packet that is cut short, and a body.
    let whole = packet(GET);
    let mut client = site.connect();
    client.send(&whole[..whole.len() - 1]).finish().unwrap();
    assert_eq!(client.answer().status, 400);
    let mut client = site.connect();
    client.send(packet(&[GET, &[("CONTENT_LENGTH", "5")]].concat())).send("hell").finish().unwrap();
    assert_eq!(client.answer().status, 400);
    assert_eq!(environ(&ask(&site, &[], b""))["PATH_INFO"], "/page", "it serves on");
}

#[test]
fn a_request_in_pieces_is_read_as_a_whole_one() {
    let site = speaks().start();
    let mut client = site.connect();
    for byte in packet(&[GET, &[("PATH_INFO", "/body"), ("CONTENT_LENGTH", "3")]].concat()) {
        client.send([byte]);
    }
    assert_eq!(client.send("a").send("bc").answer().text(), "abc");
}

#[test]
fn a_client_of_the_web_server_is_believed_about_forwarding_only_if_it_is_named() {
    let site = speaks().option("--forwarded-allow-ips", "192.0.2.1").start();
    let fields = [("HTTP_X_FORWARDED_FOR", "198.51.100.9"), ("HTTP_X_FORWARDED_PROTO", "https")];
    for (remote, address, scheme) in
        [("192.0.2.1", "198.51.100.9", "https"), ("192.0.2.2", "192.0.2.2", "http"), ("", "127.0.0.1", "http")]
    {
        let seen = environ(&ask(&site, &[&fields[..], &[("REMOTE_ADDR", remote)]].concat(), b""));
        assert_eq!((&seen["REMOTE_ADDR"], &seen["wsgi.url_scheme"]), (&address.into(), &scheme.into()), "{remote}");
    }
}

#[test]
fn a_listener_is_told_what_it_speaks() {
    let folder = Folder::new();
    let socket = format!("unix:{}", folder.join("a.sock").display());
    let rig = Rig::with_source(SOURCE).option("--protocol", "uwsgi").bind(&socket).bind("http://127.0.0.1:0");
    let site = rig.start();
    assert_eq!(site.addresses()[0], format!("uwsgi://{socket}"));
    assert_eq!(environ(&ask(&site, &[], b""))["QUERY_STRING"], "a=b");
    let http = &site.addresses()[1];
    assert_eq!(Client::connect(http).get("/page").status, 200);
    assert_eq!(Client::connect(http).send(packet(GET)).answer().status, 400);
    assert_eq!(site.log("request refused").key("reason"), Some("the uwsgi protocol where HTTP is spoken"));
    assert!(site.control(&["status"]).output.contains(&site.addresses()[0]));
    // What was asked for stays after a reload.
    assert_eq!(site.control(&["reload"]).code, 0);
    assert_eq!(ask(&site, &[], b"").status, 200);
    Rig::with_source(SOURCE).option("--protocol", "fastcgi").refuse().says(2, &["--protocol", "one of http, uwsgi"]);
    Rig::with_source(SOURCE).bind("uwsgi://").refuse().says(2, &["--bind", "uwsgi://"]);
}

#[test]
fn a_request_moves_between_workers_as_it_came() {
    let source = "
import os, time
def app(environ, start_response):
    name = environ['QUERY_STRING']
    if name:
        print('called', os.getpid(), file=environ['wsgi.errors'], flush=True)
    while name and not os.path.exists(name):
        time.sleep(0.01)
    start_response('200 OK', [])
    return [(environ['MY_VAR'] + ' ' + str(os.getpid())).encode()]
";
    let site = Rig::with_source(source).bind("uwsgi://127.0.0.1:0").workers(2).start();
    let request = |name: &str| packet(&[GET, &[("QUERY_STRING", name), ("MY_VAR", "mine")]].concat());
    let release = |name: &str| site.folder().write(name, "");
    let whole = request("");
    let mut halves: Vec<Client> = (0..8).map(|_| site.connect()).collect();
    halves.iter_mut().for_each(|client| _ = client.send(&whole[..20]));
    let open = || {
        let status: Value = serde_json::from_str(&site.control(&["status", "--json"]).output).expect("JSON");
        let workers = status["generations"][0]["workers"].as_array().expect("a list").clone();
        workers.iter().filter_map(|worker| worker["connections"].as_u64()).sum::<u64>()
    };
    while open() < 8 {}
    let names = ["one", "two"].map(|name| site.folder().join(name).display().to_string());
    let mut busy = names.each_ref().map(|name| {
        let mut client = site.connect();
        client.send(request(name));
        site.log("called");
        client
    });
    // Complete while both workers are busy; whoever holds them, the one that is free answers.
    halves.iter_mut().for_each(|client| _ = client.send(&whole[20..]));
    release("two");
    let free = busy[1].answer().text().to_owned();
    for client in &mut halves {
        assert_eq!(client.answer().text(), free);
    }
    // The same over a reload, which the busy worker outlives.
    let mut half = site.connect();
    half.send(&whole[..20]);
    assert_eq!(site.control(&["reload"]).code, 0);
    assert!(half.send(&whole[20..]).answer().text().starts_with("mine "));
    release("one");
    assert!(busy[0].answer().text().starts_with("mine "));
}
