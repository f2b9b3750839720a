//! A proxy is trusted for the fields that it sets, not for those that it passes on. Tested behind nginx and HAProxy as
//! examples/deploy has them.

use ostler_tests::{Client, Proxy, Rig, Site};
use serde_json::Value;

const SOURCE: &str = "
import json
def app(environ, start_response):
    start_response('200 OK', [('Content-Type', 'application/json')])
    return [json.dumps({key: value for key, value in environ.items() if isinstance(value, str)}).encode()]
";

/// What a client says of itself, in every field that there is.
const LIES: &str = "X-Forwarded-For: 203.0.113.9\r\nX-Forwarded-Proto: https\r\nX-Forwarded-Host: evil.example\r\n\
    X-Forwarded-Prefix: /\\evil.example\r\nX-Forwarded-Port: zz\r\nX-Forwarded-Ssl: on\r\nX-Forwarded-Protocol: ssl\r\n\
    Forwarded: for=192.168.1.5;host=evil.example, \"\r\n";

/// The environ of a request through the proxy that has these fields.
fn environ(proxy: &Proxy, fields: &str) -> Value {
    let mut client = Client::connect(proxy.address());
    // A proxy with health checks may not know yet that the site is up.
    loop {
        let answer = client.send(format!("GET /page HTTP/1.1\r\nHost: site.example\r\n{fields}\r\n")).answer();
        if answer.status == 200 {
            return serde_json::from_slice(&answer.body).expect("the application sends JSON");
        }
        assert_eq!(answer.status, 503, "{}", String::from_utf8_lossy(&answer.body));
        client = Client::connect(proxy.address());
    }
}

/// Trusts only peers on the Unix socket: the proxy, but not a client at 127.0.0.1.
fn site(options: &[&str]) -> Site {
    let rig = Rig::with_source(SOURCE).option("--forwarded-allow-ips", "unix:");
    let socket = format!("unix:{}", rig.folder().join("site.sock").display());
    options.iter().fold(rig.bind(&socket), |rig, option| rig.flag(option)).start()
}

fn look(proxy: &Proxy, scheme: &str, port: &str) {
    let seen = environ(proxy, LIES);
    for (key, expected) in [
        ("REMOTE_ADDR", "127.0.0.1"),
        ("HTTP_HOST", "site.example"),
        ("SCRIPT_NAME", ""),
        ("PATH_INFO", "/page"),
        ("wsgi.url_scheme", scheme),
        ("SERVER_PORT", port),
    ] {
        assert_eq!(seen[key], expected, "{key}");
    }
    for fields in ["", "X-Forwarded-For: \r\nX-Forwarded-Host: \r\n", "X-Forwarded-For: unknown, ,\r\n"] {
        assert_eq!(environ(proxy, fields)["REMOTE_ADDR"], "127.0.0.1", "{fields}");
    }
}

#[test]
fn behind_nginx_a_client_is_who_nginx_says() {
    let site = site(&[]);
    let Some(proxy) = Proxy::nginx(&[site.address()], &[]) else { return };
    look(&proxy, "http", "80");
}

#[test]
fn behind_haproxy_a_client_is_who_haproxy_says() {
    let site = site(&[]);
    let Some(proxy) = Proxy::haproxy(&[site.address()], &[]) else { return };
    look(&proxy, "https", "443");
    assert_eq!(site.logged("request refused"), 0, "neither requests nor health checks are");
}

#[test]
fn a_proxy_header_names_the_client_and_health_checks_pass() {
    for version in ["check send-proxy", "check send-proxy-v2"] {
        let site = site(&["--proxy-protocol", "--proxy-allow-from=unix:"]);
        let Some(proxy) =
            Proxy::haproxy(&[site.address()], &[("default-server check", &format!("default-server {version}"))])
        else {
            return;
        };
        // The header names a client that is not trusted: its fields are neither believed nor shown.
        let seen = environ(&proxy, LIES);
        assert_eq!(seen["REMOTE_ADDR"], "127.0.0.1");
        assert_eq!(seen["HTTP_HOST"], "site.example");
        assert!(seen.get("HTTP_X_FORWARDED_HOST").is_none());
        assert_eq!(site.logged("request refused"), 0, "neither requests nor health checks are");
    }
}

/// What the application sees of a request with these fields; or the status of the refusal.
fn direct(site: &Site, fields: &str) -> Result<Value, u16> {
    let answer = site.connect().send(format!("GET /app/x HTTP/1.1\r\nHost: a\r\n{fields}\r\n")).answer();
    match answer.status {
        200 => Ok(serde_json::from_slice(&answer.body).expect("the application sends JSON")),
        status => Err(status),
    }
}

const GUNICORN: &str = "secure_scheme_headers = {'X-TLS': 'on', 'X-FORWARDED-PROTO': 'https'}\n";

#[test]
fn gunicorn_s_scheme_headers_tell_the_scheme() {
    let sites = [
        Rig::with_source(SOURCE).file("gunicorn.conf.py", GUNICORN).start(),
        Rig::with_source(SOURCE)
            .option("--secure-scheme-headers", "X-Tls=on")
            .option("--secure-scheme-headers", "X-Forwarded-Proto=https")
            .start(),
    ];
    for site in &sites {
        let scheme = |fields| direct(site, fields).map(|seen| seen["wsgi.url_scheme"].as_str().unwrap().to_owned());
        for (fields, expected) in [
            ("", Ok("http")),
            ("X-Tls: on\r\n", Ok("https")),
            ("X-Tls: ON\r\n", Ok("http")),
            ("X-Forwarded-Proto: https\r\n", Ok("https")),
            ("X-Forwarded-Ssl: on\r\n", Ok("http")),
            ("X-Tls: on\r\nX-Forwarded-Proto: https\r\n", Ok("https")),
            ("X-Tls: on\r\nX-Forwarded-Proto: http\r\n", Err(400)),
        ] {
            assert_eq!(scheme(fields), expected.map(str::to_owned), "{fields}");
        }
    }
    let stranger =
        Rig::with_source(SOURCE).file("gunicorn.conf.py", GUNICORN).option("--forwarded-allow-ips", "192.0.2.1");
    let stranger = stranger.start();
    let seen = direct(&stranger, "X-Tls: on\r\n").unwrap();
    assert_eq!(seen["wsgi.url_scheme"], "http");
    assert_eq!(seen.get("HTTP_X_TLS"), None, "it does not reach the application from a stranger");
    let none = Rig::with_source(SOURCE).file("gunicorn.conf.py", "secure_scheme_headers = {}\n").start();
    assert_eq!(direct(&none, "X-Forwarded-Proto: https\r\n").unwrap()["wsgi.url_scheme"], "http");
}

#[test]
fn gunicorn_s_forwarder_headers_reach_the_application() {
    let fields = "SCRIPT_NAME: /app\r\nREMOTE_USER: anna\r\nX_Other: 1\r\n";
    let seen = |rig: Rig| direct(&rig.start(), fields).unwrap();
    let file = |text| Rig::with_source(SOURCE).file("gunicorn.conf.py", text);
    let named = seen(file("forwarder_headers = ['SCRIPT_NAME', 'REMOTE_USER']\n"));
    let expected = ["SCRIPT_NAME", "PATH_INFO", "HTTP_REMOTE_USER", "HTTP_SCRIPT_NAME"].map(|key| named[key].clone());
    assert_eq!(expected, ["/app", "/x", "anna", "/app"]);
    assert!(named["HTTP_X_OTHER"].is_null() && named["REMOTE_USER"].is_null());
    let usual = seen(file("workers = 1\n"));
    assert_eq!(
        (&usual["SCRIPT_NAME"], &usual["HTTP_REMOTE_USER"]),
        (&"/app".into(), &Value::Null),
        "gunicorn's default"
    );
    for rig in [
        Rig::with_source(SOURCE),
        file("forwarder_headers = 'SCRIPT_NAME'\nforwarded_allow_ips = '192.0.2.1'\n"),
        file("forwarder_headers = ''\n"),
    ] {
        let seen = seen(rig);
        assert_eq!((&seen["SCRIPT_NAME"], &seen["PATH_INFO"]), (&"".into(), &"/app/x".into()));
        assert!(seen["HTTP_SCRIPT_NAME"].is_null());
    }
    let site = file("header_map = 'refuse'\n").start();
    assert!(direct(&site, "SCRIPT_NAME: /app\r\n").is_ok());
    assert_eq!(direct(&site, "REMOTE_USER: anna\r\n"), Err(400));
    assert_eq!(direct(&site, "SCRIPT_NAME: //evil\r\n"), Err(400));
}

#[test]
fn settings_of_header_fields_are_checked() {
    for (option, value, why) in [
        ("--secure-scheme-headers", "X-Tls", "expected KEY=VALUE"),
        ("--secure-scheme-headers", "X Tls=on", "is no name of a header field"),
        ("--forwarder-headers", "SCRIPT NAME", "expected the name of a header field, or *"),
    ] {
        Rig::with_source(SOURCE).option(option, value).refuse().says(2, &[option, why]);
    }
}
