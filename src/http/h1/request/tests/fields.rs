//! Field lines, and the Host field (RFC 9112 §3.2 and §5).

use super::*;

#[test]
fn rfc9112_3_2_host_is_there_once_and_well_formed() {
    for host in [
        "example.com",
        "example.com:8000",
        "example.com:",
        "EXAMPLE_1.com",
        "127.0.0.1:80",
        "[::1]",
        "[2001:db8::1]:80",
        "a%20b",
        "",
    ] {
        let seen = fields(&format!("Host: {host}\r\n")).unwrap_or_else(|status| panic!("{host}: {status}"));
        assert_eq!(seen.host.as_deref(), Some(host));
    }
    refused(
        fields,
        &[
            (400, ""),
            (400, "X-Host: a\r\n"),
            (400, "Host: a\r\nHost: a\r\n"),
            (400, "Host: a\r\nhOST: b\r\n"),
            (400, "Host: a, b\r\n"),
            (400, "Host: a b\r\n"),
            (400, "Host: a/b\r\n"),
            (400, "Host: a@b\r\n"),
            (400, "Host: http://a\r\n"),
            (400, "Host: a:b\r\n"),
            (400, "Host: a:1:2\r\n"),
            (400, "Host: a:+1\r\n"),
            (400, "Host: a:65536\r\n"),
            (400, "Host: :80\r\n"),
            (400, "Host: a%2\r\n"),
            (400, "Host: a%zz\r\n"),
            (400, "Host: [::1\r\n"),
            (400, "Host: []\r\n"),
            (400, "Host: [::1]a\r\n"),
            (400, "Host: [fe80::1%25eth0]\r\n"),
            (400, "Host: [1.2.3.4]\r\n"),
            (400, "Host: ::1\r\n"),
            (400, "Host: a?b\r\n"),
            (400, "Host: a#b\r\n"),
            (400, "Host: a\\b\r\n"),
            (400, "Host: \u{e9}\r\n"),
        ],
    );
    assert!(read("GET / HTTP/1.0\r\n\r\n").unwrap().host.is_none(), "1.0 does without");
    refused(read, &[(400, "GET / HTTP/1.0\r\nHost: a\r\nHost: a\r\n\r\n"), (400, "GET http://a/ HTTP/1.1\r\n\r\n")]);
}

#[test]
fn rfc9112_5_field_lines() {
    for good in ["a:b\r\n", "!#$%&'*+-.^_`|~09: \r\n", "X: \u{e9}\u{ff}\r\n", "X: a:b\r\n", "X:\t\r\n"] {
        assert!(with_host(good).is_ok(), "{good:?}");
    }
    refused(
        with_host,
        &[
            (400, "X : a\r\n"),
            (400, "X\t: a\r\n"),
            (400, " X: a\r\n"),
            (400, "\tX: a\r\n"),
            (400, ": a\r\n"),
            (400, "X\r\n"),
            (400, "X Y: a\r\n"),
            (400, "X(Y): a\r\n"),
            (400, "X\u{e9}: a\r\n"),
            (400, "\"X\": a\r\n"),
        ],
    );
}

#[test]
fn rfc9112_5_2_folded_lines_are_refused() {
    refused(
        with_host,
        &[(400, "X: a\r\n b\r\n"), (400, "X: a\r\n\tb\r\n"), (400, "X:\r\n a\r\n"), (400, "X: a\r\n \r\n")],
    );
    refused(read, &[(400, "GET / HTTP/1.1\r\n Host: a\r\n\r\n")]);
}
