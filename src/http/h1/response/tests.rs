//! What applications may say, and what is sent for it.

use super::*;
use crate::h1::{Limits, Parse, RequestReader};

const ADDED: Additions =
    Additions { date: b"Sun, 06 Nov 1994 08:49:37 GMT", server: b"ostler", request_id: b"", more: &[] };

fn request(text: &str) -> RequestHead {
    let mut head = RequestHead::default();
    let limits = Limits { line: 100, fields: 10, field: 100, head: 1000 };
    assert_eq!(RequestReader::default().read(&mut head, text.as_bytes(), &limits), Ok(Parse::Complete));
    head
}

fn http11() -> RequestHead {
    request("GET / HTTP/1.1\r\nHost: a\r\n\r\n")
}

fn http10() -> RequestHead {
    request("GET / HTTP/1.0\r\n\r\n")
}

fn head(status: &str, fields: &[(&str, &str)]) -> ResponseHead {
    let mut head = ResponseHead::default();
    head.begin(status.as_bytes()).unwrap();
    for (name, value) in fields {
        head.field(name.as_bytes(), value.as_bytes()).unwrap();
    }
    head
}

fn written(head: &ResponseHead, framing: ResponseFraming, version: Version, keep_alive: bool) -> String {
    let mut out = b"before;".to_vec();
    head.write(&mut out, framing, version, keep_alive, ADDED);
    String::from_utf8(out).unwrap().strip_prefix("before;").unwrap().to_owned()
}

#[test]
fn a_whole_head() {
    let head =
        head("200 OK", &[("Content-Type", "text/plain"), ("Set-Cookie", "a=b"), ("Set-Cookie", "c=d"), ("X", "")]);
    assert_eq!(
        written(&head, ResponseFraming::Length(13), Version::Http11, true),
        "HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\nSet-Cookie: a=b\r\nSet-Cookie: c=d\r\nX: \r\n\
         Date: Sun, 06 Nov 1994 08:49:37 GMT\r\nServer: ostler\r\nContent-Length: 13\r\n\r\n"
    );
}

#[test]
fn more_fields_stand_before_the_framing_s() {
    let mut out = Vec::new();
    let added = Additions { more: &[b"X-Ostler-Generation: 4\r\n"], ..ADDED };
    head("200 OK", &[]).write(&mut out, ResponseFraming::Length(0), Version::Http11, true, added);
    let written = String::from_utf8(out).unwrap();
    assert!(written.ends_with("Server: ostler\r\nX-Ostler-Generation: 4\r\nContent-Length: 0\r\n\r\n"), "{written}");
}

#[test]
fn a_request_s_id_is_added_unless_the_application_tells_one() {
    let write = |fields: &[(&str, &str)]| {
        let mut out = Vec::new();
        let added = Additions { request_id: b"4711", ..ADDED };
        head("200 OK", fields).write(&mut out, ResponseFraming::Length(0), Version::Http11, true, added);
        String::from_utf8(out).unwrap()
    };
    assert!(write(&[]).contains("\r\nX-Request-ID: 4711\r\n"));
    let own = write(&[("x-request-id", "mine")]);
    assert!(own.contains("\r\nx-request-id: mine\r\n") && !own.contains("4711"), "{own}");
}

#[test]
fn what_the_application_gives_is_not_given_twice() {
    let head =
        head("200 OK", &[("date", "then"), ("SERVER", "mine"), ("content-length", "3"), ("Content-Length", "3")]);
    assert_eq!(
        written(&head, ResponseFraming::Length(3), Version::Http11, true),
        "HTTP/1.1 200 OK\r\ndate: then\r\nSERVER: mine\r\ncontent-length: 3\r\n\r\n"
    );
    assert_eq!((head.content_length(), head.value(b"Content-Length")), (Some(3), Some(b"3".as_slice())));
}

#[test]
fn no_server_field_where_its_setting_is_empty() {
    let mut out = Vec::new();
    head("200 OK", &[]).write(
        &mut out,
        ResponseFraming::Chunked,
        Version::Http11,
        true,
        Additions { server: b"", ..ADDED },
    );
    assert!(!out.windows(6).any(|window| window == b"Server"));
}

#[test]
fn pep3333_status_lines() {
    let mut head = ResponseHead::default();
    for good in ["200 OK", "404 ", "299 It's \u{e9}", "599 a", "451 Unavailable For Legal Reasons"] {
        assert_eq!(head.begin(good.as_bytes()), Ok(()), "{good}");
        assert!(head.begun());
        assert_eq!(head.status().to_string(), good[..3]);
    }
    for bad in [
        "",
        "200",
        "200OK",
        " 200 OK",
        "2000 OK",
        "20 OK",
        "100 Continue",
        "103 Early Hints",
        "600 a",
        "099 a",
        "None",
        "2x0 OK",
        "+20 OK",
        "200 OK\r\nX: y",
        "200 OK\n",
        "200 \0",
        "200 a\tb",
        "200\tOK",
        "HTTP/1.1 200 OK",
    ] {
        assert!(head.begin(bad.as_bytes()).is_err(), "{bad:?}");
        assert!(!head.begun(), "{bad:?}");
    }
}

#[test]
fn pep3333_fields_that_are_refused() {
    let refused = |name: &str, value: &str| {
        let mut head = head("200 OK", &[("X", "y")]);
        let before = head.lines.clone();
        let misuse = head.field(name.as_bytes(), value.as_bytes()).expect_err(name);
        assert_eq!(head.lines, before, "nothing of it is kept");
        assert!(!misuse.text.chars().any(char::is_control), "{:?}", misuse.text);
        misuse.hop_by_hop
    };
    for name in ["", "X Y", "X:", "X\r\nY", "\u{e9}", "X\0", "(X)", " X"] {
        assert!(!refused(name, "a"), "{name}");
    }
    for value in ["a\r\nX: b", "a\nb", "a\rb", "\0", "a\x7f", "\x0b"] {
        for name in ["X-Value", "Content-Length", "Connection"] {
            assert!(!refused(name, value), "{name}");
        }
    }
    for name in [
        "Connection",
        "keep-alive",
        "Proxy-Authenticate",
        "Proxy-Authorization",
        "TE",
        "Trailers",
        "Trailer",
        "Transfer-Encoding",
        "UPGRADE",
        "Proxy-Connection",
    ] {
        assert!(refused(name, "a"), "{name}");
    }
    for length in ["", "-1", "+1", "1, 1", "0x1", "1_0", " 1", "18446744073709551616"] {
        assert!(!refused("Content-Length", length));
    }
    assert!(head("200 OK", &[("X", "a\tb\u{e9} "), ("Tea", "a"), ("X_Y", "z")]).value(b"x_y").is_some());
}

#[test]
fn rfc9110_8_6_one_content_length() {
    let mut head = head("200 OK", &[("Content-Length", "3")]);
    assert!(head.field(b"Content-Length", b"03").is_ok(), "the same number");
    assert!(head.field(b"content-length", b"4").is_err());
}

#[test]
fn rfc9112_6_3_framing() {
    let with_length = head("200 OK", &[("Content-Length", "5")]);
    let without = head("200 OK", &[]);
    for (head, request, whole, framing) in [
        (&with_length, http11(), None, ResponseFraming::Length(5)),
        (&with_length, http10(), Some(3), ResponseFraming::Length(5)),
        (&without, http11(), Some(3), ResponseFraming::Length(3)),
        (&without, http10(), Some(0), ResponseFraming::Length(0)),
        (&without, http11(), None, ResponseFraming::Chunked),
        (&without, http10(), None, ResponseFraming::Close),
    ] {
        assert_eq!(head.framing(&request, false, whole), framing);
        assert_eq!(head.framing(&request, true, whole), ResponseFraming::Bodiless, "HEAD");
    }
    for status in ["204 No Content", "304 Not Modified"] {
        for whole in [None, Some(5)] {
            assert_eq!(
                head(status, &[("Content-Length", "5")]).framing(&http11(), false, whole),
                ResponseFraming::Bodiless
            );
        }
    }
}

#[test]
fn rfc9110_8_6_the_applications_length_stays_where_it_may() {
    let line = "X: y\r\nContent-Length: 5\r\nZ: z\r\n";
    let fields = [("X", "y"), ("Content-Length", "5"), ("Z", "z")];
    for (status, framing, stays) in [
        ("200 OK", ResponseFraming::Length(5), true),
        ("200 OK", ResponseFraming::Bodiless, true),
        ("304 Not Modified", ResponseFraming::Bodiless, true),
        ("204 No Content", ResponseFraming::Bodiless, false),
    ] {
        let text = written(&head(status, &fields), framing, Version::Http11, true);
        assert_eq!(text.contains(line), stays, "{text}");
        assert_eq!(text.matches("Content-Length").count(), usize::from(stays), "{text}");
        assert!(text.contains("Z: z\r\n"), "{text}");
    }
    let text = written(&head("200 OK", &[]), ResponseFraming::Bodiless, Version::Http11, true);
    assert!(!text.contains("Content-Length") && !text.contains("Transfer-Encoding"), "{text}");
}

#[test]
fn rfc9112_9_connection() {
    let head = head("200 OK", &[]);
    for (framing, version, keep_alive, line) in [
        (ResponseFraming::Length(0), Version::Http11, true, None),
        (ResponseFraming::Length(0), Version::Http11, false, Some("close")),
        (ResponseFraming::Length(0), Version::Http10, true, Some("keep-alive")),
        (ResponseFraming::Length(0), Version::Http10, false, Some("close")),
        (ResponseFraming::Close, Version::Http10, true, Some("close")),
        (ResponseFraming::Chunked, Version::Http11, true, None),
    ] {
        let text = written(&head, framing, version, keep_alive);
        let said = text.split("\r\n").find_map(|line| line.strip_prefix("Connection: "));
        assert_eq!(said, line, "{text}");
        assert_eq!(text.contains("Transfer-Encoding: chunked\r\n"), framing == ResponseFraming::Chunked);
    }
}

#[test]
fn a_status_that_is_set_again_replaces_all_of_the_first() {
    let mut head = head("200 OK", &[("X", "y"), ("Content-Length", "3"), ("Date", "then"), ("Server", "mine")]);
    head.begin(b"500 Oh").unwrap();
    assert_eq!(
        written(&head, ResponseFraming::Length(0), Version::Http11, true),
        "HTTP/1.1 500 Oh\r\nDate: Sun, 06 Nov 1994 08:49:37 GMT\r\nServer: ostler\r\nContent-Length: 0\r\n\r\n"
    );
    head.clear();
    assert!(!head.begun());
}

#[test]
fn values_are_found_for_the_access_log() {
    let head = head("200 OK", &[("X-A", "1"), ("X-B", ""), ("x-a", "2"), ("X-C", "a: b")]);
    for (name, value) in
        [("x-a", Some("1")), ("X-B", Some("")), ("x-c", Some("a: b")), ("X", None), ("HTTP/1.1 200 OK", None)]
    {
        assert_eq!(head.value(name.as_bytes()), value.map(str::as_bytes), "{name}");
    }
}

#[test]
fn a_head_gives_its_parts_for_another_protocol() {
    let head = head("404 Not Found", &[("Content-Type", "text/plain"), ("X", ""), ("Content-Length", "3")]);
    assert_eq!((head.status(), head.phrase()), (404, b"Not Found".as_slice()));
    let fields: Vec<_> =
        head.fields().map(|(name, value)| [name, value].map(|part| str::from_utf8(part).unwrap())).collect();
    assert_eq!(fields, [["Content-Type", "text/plain"], ["X", ""], ["Content-Length", "3"]]);
    assert_eq!(ResponseHead::default().fields().count(), 0);
    assert_eq!(ResponseHead::default().phrase(), b"");
}

#[test]
fn rfc8297_early_hints_follow_the_same_rules() {
    let mut hints = ResponseHead::default();
    assert_eq!(hints.field(b"Link", b"</a.css>; rel=preload"), Ok(()));
    for (name, value) in [("X", "a\r\nb"), ("Connection", "close"), ("a b", "")] {
        assert!(hints.field(name.as_bytes(), value.as_bytes()).is_err(), "{name}");
    }
    let mut out = Vec::new();
    hints.write_early_hints(&mut out);
    assert_eq!(out, b"HTTP/1.1 103 Early Hints\r\nLink: </a.css>; rel=preload\r\n\r\n");
}
