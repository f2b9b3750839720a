//! The server's own answers: small, correct, without version or path, in HTML or JSON as Accept asks.

use ostler_tests::{Answer, Rig, Site};

/// Each status that the server answers by itself, and a request that causes it.
const REQUESTS: [(u16, &str); 11] = [
    (400, "GET /site/ HTTP/1.1\r\n{accept}Host: a\r\nX : y\r\n\r\n"),
    (404, "GET /elsewhere HTTP/1.1\r\nHost: a\r\n{accept}\r\n"),
    (408, "POST /site/ HTTP/1.1\r\nHost: a\r\n{accept}Content-Length: 5\r\n\r\nslow"),
    (413, "POST /site/ HTTP/1.1\r\nHost: a\r\n{accept}Content-Length: 101\r\n\r\n"),
    (414, "GET /site/{long} HTTP/1.1\r\nHost: a\r\n{accept}\r\n"),
    (417, "POST /site/ HTTP/1.1\r\nHost: a\r\n{accept}Expect: much\r\nContent-Length: 1\r\n\r\n"),
    (431, "GET /site/ HTTP/1.1\r\nHost: a\r\n{accept}X: {long}\r\n\r\n"),
    (500, "GET /site/ HTTP/1.1\r\nHost: a\r\n{accept}\r\n"),
    (501, "POST /site/ HTTP/1.1\r\nHost: a\r\n{accept}Transfer-Encoding: gzip, chunked\r\n\r\n"),
    (505, "GET /site/ HTTP/3.0\r\nHost: a\r\n{accept}\r\n"),
    (505, "HEAD /site/ HTTP/3.0\r\nHost: a\r\n{accept}\r\n"),
];

fn site() -> Site {
    Rig::with_source("def app(environ, start_response):\n    raise RuntimeError('secret of the page')\n")
        .option("--root-path", "/site")
        .option("--limit-request-body", "100")
        .option("--body-timeout", "0.2")
        .start()
}

fn asked(site: &Site, request: &str, accept: &str) -> Answer {
    let mut client = site.connect();
    client.send(request.replace("{accept}", accept).replace("{long}", &"x".repeat(20_000)));
    client.answer()
}

#[test]
fn rfc9110_15_each_is_small_and_correct_and_tells_nothing_of_the_server() {
    let site = site();
    for (status, request) in &REQUESTS[..10] {
        let answer = asked(&site, request, "");
        assert_eq!(answer.status, *status, "{request}");
        assert_eq!(answer.field("content-type"), Some("text/html; charset=utf-8"), "{status}");
        assert_eq!(answer.field("server"), Some("ostler"), "{status}");
        assert!(answer.field("date").is_some() && answer.field("content-length").is_some(), "{status}");
        assert!(answer.body.len() < 200 && answer.text().contains(&format!("<h1>{status} {}</h1>", answer.reason)));
        let told = format!("{:?}{}", answer.fields, answer.text());
        for secret in ["0.1", "/site", "elsewhere", "secret", "Error:", ".py", "ostler/", "python"] {
            assert!(!told.to_ascii_lowercase().contains(&secret.to_ascii_lowercase()), "{status}: {secret} in {told}");
        }
    }
}

#[test]
fn rfc9110_12_5_1_they_are_json_where_accept_asks_for_it() {
    let site = site();
    for (status, request) in &REQUESTS[..10] {
        let answer = asked(&site, request, "Accept: application/json\r\n");
        assert_eq!(answer.status, *status, "{request}");
        // The Accept field is known if it comes before the fault.
        let readable = !matches!(status, 414 | 505);
        assert_eq!(answer.field("content-type") == Some("application/json"), readable, "{status}");
        if readable {
            let expected = format!("{{\"status\": {status}, \"error\": \"{}\"}}\n", answer.reason);
            assert_eq!(answer.text(), expected);
        }
    }
}

#[test]
fn an_internal_error_keeps_the_connection() {
    let site = site();
    let mut client = site.connect();
    for _ in 0..2 {
        let answer = client.get("/site/");
        assert_eq!((answer.status, answer.field("connection")), (500, None));
    }
}
