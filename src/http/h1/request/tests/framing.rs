//! How the body ends, whether the connection stays, and what is expected (RFC 9112 §6 and §9, RFC 9110 §10.1.1).

use super::*;

#[test]
fn rfc9112_6_2_content_length_is_one_number() {
    for (value, length) in [("0", 0), ("007", 7), ("18446744073709551615", u64::MAX)] {
        assert_eq!(with_host(&format!("Content-Length: {value}\r\n")).unwrap().framing, Framing::Length(length));
    }
    assert_eq!(with_host("").unwrap().framing, Framing::None);
    let bad =
        ["", "+5", "-5", "5 5", "5,5", "5, 5", "5;", "0x5", "1_0", "5.0", "five", "\"5\"", "\u{661}", "5a", "1e1"];
    refused(|value| with_host(&format!("Content-Length: {value}\r\n")), &bad.map(|value| (400, value)));
    refused(
        with_host,
        &[
            (413, "Content-Length: 18446744073709551616\r\n"),
            (400, "Content-Length: 5\r\nContent-Length: 5\r\n"),
            (400, "Content-Length: 5\r\nContent-Length: 6\r\n"),
            (400, "Content-Length: 0\r\ncontent-length: 0\r\n"),
            (400, "Content_Length: 5\r\n"),
            (400, "Content-Length: 5\r\nCONTENT_LENGTH: 5\r\n"),
        ],
    );
}

#[test]
fn rfc9112_6_1_transfer_encoding_is_chunked_and_nothing_else() {
    for good in ["chunked", "Chunked", "\tCHUNKED "] {
        assert_eq!(with_host(&format!("Transfer-Encoding: {good}\r\n")).unwrap().framing, Framing::Chunked);
    }
    refused(
        |value| with_host(&format!("Transfer-Encoding: {value}\r\n")),
        &[
            (400, ""),
            (400, "chunked, chunked"),
            (400, "chunked,"),
            (400, ",chunked"),
            (400, "chunked;a=b"),
            (400, "chunked, gzip"),
            (400, "gzip"),
            (400, "identity"),
            (400, "xchunked"),
            (400, "chunked x"),
            (400, "\"chunked\""),
            (400, "gzip, chunked, chunked"),
            (501, "gzip, chunked"),
            (501, "identity, chunked"),
        ],
    );
    refused(
        with_host,
        &[
            (400, "Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n"),
            (400, "Transfer-Encoding: chunked\r\nTransfer-Encoding: identity\r\n"),
            (501, "Transfer-Encoding: gzip\r\nTransfer-Encoding: chunked\r\n"),
            (400, "Transfer_Encoding: chunked\r\n"),
        ],
    );
}

#[test]
fn rfc9112_6_1_one_framing_only() {
    refused(
        with_host,
        &[
            (400, "Content-Length: 5\r\nTransfer-Encoding: chunked\r\n"),
            (400, "Transfer-Encoding: chunked\r\nContent-Length: 5\r\n"),
            (400, "Transfer-Encoding: chunked\r\nContent-Length: 0\r\n"),
            (400, "Transfer-Encoding: gzip, chunked\r\nContent-Length: 0\r\n"),
        ],
    );
    refused(read, &[(400, "POST / HTTP/1.0\r\nTransfer-Encoding: chunked\r\n\r\n")]);
}

#[test]
fn rfc9112_9_3_persistence() {
    for (version, connection, keep_alive) in [
        ("1.1", "", true),
        ("1.1", "Connection: close\r\n", false),
        ("1.1", "Connection: Keep-Alive, CLOSE\r\n", false),
        ("1.1", "Connection: upgrade\r\nConnection: close\r\n", false),
        ("1.1", "Connection: closed\r\n", true),
        ("1.1", "Connection: upgrade, HTTP2-Settings\r\n", true),
        ("1.0", "", false),
        ("1.0", "Connection: keep-alive\r\n", true),
        ("1.0", "Connection: keep-alive, close\r\n", false),
        ("1.2", "", true),
    ] {
        let seen = read(&format!("GET / HTTP/{version}\r\nHost: a\r\n{connection}\r\n")).unwrap();
        assert_eq!(seen.keep_alive, keep_alive, "{version} {connection}");
    }
}

#[test]
fn rfc9110_10_1_1_expectations() {
    let expect = |version: &str, fields: &str| {
        read(&format!("POST / HTTP/{version}\r\nHost: a\r\n{fields}\r\n")).map(|seen| seen.expects_continue)
    };
    assert_eq!(expect("1.1", "Expect: 100-continue\r\nContent-Length: 1\r\n"), Ok(true));
    assert_eq!(expect("1.1", "Transfer-Encoding: chunked\r\nExpect: 100-CONTINUE\r\n"), Ok(true));
    assert_eq!(expect("1.1", "Expect: 100-continue\r\n"), Ok(false), "there is no body to wait for");
    assert_eq!(expect("1.1", "Expect: 100-continue\r\nContent-Length: 0\r\n"), Ok(false));
    assert_eq!(expect("1.0", "Expect: 100-continue\r\nContent-Length: 1\r\n"), Ok(false), "1.0 does not know it");
    for other in ["200-ok", "", "100-continue, a", "100-continue;a"] {
        assert_eq!(expect("1.1", &format!("Expect: {other}\r\nContent-Length: 1\r\n")), Err(417), "{other}");
    }
}
