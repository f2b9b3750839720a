//! Request lines (RFC 9112 §3), how lines end, and bytes that are another protocol.

use super::*;

#[test]
fn rfc9112_2_2_one_empty_line_before_the_request_line_is_skipped() {
    assert_eq!(read("\r\nGET / HTTP/1.0\r\n\r\n").unwrap().method, "GET");
    refused(read, &[(400, "\r\n\r\nGET / HTTP/1.0\r\n\r\n"), (400, "\nGET / HTTP/1.0\r\n\r\n"), (400, "\r\rGET /")]);
}

#[test]
fn rfc9112_2_2_lines_end_with_crlf_and_hold_no_control_characters() {
    refused(
        read,
        &[
            (400, "GET / HTTP/1.1\nHost: a\n\n"),
            (400, "GET / HTTP/1.1\r\nHost: a\n\r\n"),
            (400, "GET / HTTP/1.1\r\nHost: a\r\n\n"),
            (400, "GET / HTTP/1.1\r\nHost: a\r\n\r\r\n"),
            (400, "GET / HTTP/1.1\rHost: a\r\n\r\n"),
            (400, "GET / HTTP/1.1\r\r\nHost: a\r\n\r\n"),
            (400, "GET /\0 HTTP/1.1\r\nHost: a\r\n\r\n"),
            (400, "GET /\x7f HTTP/1.1\r\nHost: a\r\n\r\n"),
        ],
    );
    for control in (0..32).chain([127]).filter(|&control| control != 9) {
        let control = char::from(control);
        refused(with_host, &[(400, format!("X: a{control}b\r\n")), (400, format!("X{control}: a\r\n"))]);
    }
}

#[test]
fn rfc9112_3_request_lines() {
    assert!(line("get / HTTP/1.1").is_ok(), "a method is a token, and its case counts");
    assert_eq!(line("!#$%&'*+-.^_`|~09 / HTTP/1.1").unwrap().method, "!#$%&'*+-.^_`|~09");
    refused(
        line,
        &[
            (400, "GET  / HTTP/1.1"),
            (400, "GET /  HTTP/1.1"),
            (400, "GET / HTTP/1.1 "),
            (400, " GET / HTTP/1.1"),
            (400, "GET\t/ HTTP/1.1"),
            (400, "GET /\tHTTP/1.1"),
            (400, "GET / a HTTP/1.1"),
            (400, "G@T / HTTP/1.1"),
            (400, "G\u{e9}T / HTTP/1.1"),
            (400, "GET HTTP/1.1"),
            (400, "GET"),
            (400, "GET "),
            (400, "GET  HTTP/1.1"),
            (400, "/ HTTP/1.1"),
        ],
    );
}

#[test]
fn rfc9112_2_3_versions() {
    assert!(line("GET / HTTP/1.0").unwrap().http10);
    assert!(!line("GET / HTTP/1.9").unwrap().http10, "a later minor version is read as 1.1");
    refused(
        line,
        &[
            (400, "GET /"),
            (505, "GET / HTTP/0.9"),
            (505, "GET / HTTP/2.0"),
            (505, "GET / HTTP/3.0"),
            (400, "GET / HTTP/1"),
            (400, "GET / HTTP/2"),
            (400, "GET / HTTP/1."),
            (400, "GET / HTTP/.1"),
            (400, "GET / HTTP/1.10"),
            (400, "GET / HTTP/01.1"),
            (400, "GET / HTTP/+1.1"),
            (400, "GET / HTTP/1,1"),
            (400, "GET / http/1.1"),
            (400, "GET / HTTP 1.1"),
            (400, "GET / HTTPS/1.1"),
            (400, "GET / ICAP/1.0"),
        ],
    );
}

#[test]
fn other_protocols_are_refused_at_once() {
    refused(read, &[(505, "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"), (400, "GET /\r\n"), (400, "SSH-2.0-OpenSSH_9.2\r\n")]);
    let hello = b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03";
    assert_eq!(read_within(&hello[..1], &LIMITS).unwrap_err().status, 400, "TLS is known by its first byte");
    assert_eq!(read_within(hello, &LIMITS).unwrap_err().status, 400);
    assert_eq!(read_within(b"\x80\x2e\x01\x00\x02", &LIMITS).unwrap_err().status, 400, "an SSL 2 hello");
}

#[test]
fn rfc9112_3_2_targets() {
    for (target, path, query, authority) in [
        ("/", "/", "", None),
        ("/?", "/", "", None),
        ("/a?b?c", "/a", "b?c", None),
        ("//a/b", "//a/b", "", None),
        ("/a|b[c]^{d}\"<>`\\", "/a|b[c]^{d}\"<>`\\", "", None),
        ("http://example.com", "/", "", Some("example.com")),
        ("http://example.com?a", "/", "a", Some("example.com")),
        ("HTTP://example.com/a?b", "/a", "b", Some("example.com")),
        ("https://[::1]:443/a", "/a", "", Some("[::1]:443")),
    ] {
        let seen = line(&format!("GET {target} HTTP/1.1")).unwrap_or_else(|status| panic!("{target}: {status}"));
        let expected = (path.to_owned(), query.to_owned(), authority.map(str::to_owned));
        assert_eq!((seen.path, seen.query, seen.authority), expected, "{target}");
    }
    assert_eq!(line("OPTIONS * HTTP/1.1").unwrap().path, "*");
    refused(
        |target| line(&format!("GET {target} HTTP/1.1")),
        &[
            (400, "*"),
            (400, "a"),
            (400, "example.com"),
            (400, "example.com:80"),
            (400, "?a"),
            (400, "/a#b"),
            (400, "/a\u{e9}"),
            (400, "http:/a"),
            (400, "http:///a"),
            (400, "http://:80/"),
            (400, "http://user@example.com/"),
            (400, "http://example.com:99999/"),
            (400, "http://exa mple.com/"),
            (400, "http://[::1/"),
            (400, "http://a\"b/"),
            (400, "ftp://example.com/"),
        ],
    );
    refused(line, &[(400, "OPTIONS ** HTTP/1.1"), (400, "options * HTTP/1.1")]);
}

#[test]
fn rfc3986_2_1_escapes_in_the_path_are_whole() {
    for good in ["/%20%2F%ff%7e", "/%0d%0a", "/?%zz%", "http://a/%20?%"] {
        assert!(line(&format!("GET {good} HTTP/1.1")).is_ok(), "{good}");
    }
    let bad = ["/%", "/%2", "/%zz", "/%2g", "/%%20", "/%u0041", "/%+1", "/%00", "/a%00.png", "/%?20", "http://a/%2"];
    refused(|target| line(&format!("GET {target} HTTP/1.1")), &bad.map(|target| (400, target)));
}

#[test]
fn rfc9110_9_3_6_connect_is_not_implemented() {
    refused(
        line,
        &[
            (501, "CONNECT example.com:443 HTTP/1.1"),
            (501, "CONNECT [::1]:443 HTTP/1.1"),
            (400, "CONNECT example.com HTTP/1.1"),
            (400, "CONNECT / HTTP/1.1"),
            (400, "CONNECT http://example.com/ HTTP/1.1"),
        ],
    );
}
