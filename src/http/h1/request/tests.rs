//! Each head is read at once, byte by byte, and with another request behind it; all three must agree.

use super::*;
use crate::Framing;

mod generated;

const LIMITS: Limits = Limits { line: 4094, fields: 100, field: 8190, head: 65536 };

/// What was read, as latin-1 text.
#[derive(Debug, Default, PartialEq, Eq)]
struct Seen {
    method: String,
    target: String,
    path: String,
    query: String,
    authority: Option<String>,
    http10: bool,
    fields: Vec<(String, String)>,
    framing: Framing,
    keep_alive: bool,
    expects_continue: bool,
    host: Option<String>,
    length: usize,
}

fn seen(head: &RequestHead, bytes: &[u8]) -> Seen {
    let text = |span: Span| span.of(bytes).iter().map(|&byte| char::from(byte)).collect::<String>();
    Seen {
        method: text(head.method),
        target: text(head.target),
        path: text(head.path),
        query: text(head.query),
        authority: head.authority.map(text),
        http10: head.version == Version::Http10,
        fields: head.fields.iter().map(|field| (text(field.name), text(field.value))).collect(),
        framing: head.framing,
        keep_alive: head.keep_alive,
        expects_continue: head.expects_continue,
        host: head.host.map(|index| text(head.fields[usize::from(index)].value)),
        length: head.length,
    }
}

/// Reads in all ways. `None`: incomplete.
fn read_within(bytes: &[u8], limits: &Limits) -> Result<Option<Seen>, Refusal> {
    let mut head = RequestHead::default();
    let verdict = RequestReader::default().read(&mut head, bytes, limits);
    let whole = verdict.map(|parse| (parse == Parse::Complete).then(|| seen(&head, bytes)));
    head.clear();
    let mut reader = RequestReader::default();
    let one_by_one = (0..=bytes.len()).map(|end| reader.read(&mut head, &bytes[..end], limits));
    let verdict = one_by_one.into_iter().find(|verdict| *verdict != Ok(Parse::Partial)).unwrap_or(Ok(Parse::Partial));
    let pieces = verdict.map(|parse| (parse == Parse::Complete).then(|| seen(&head, bytes)));
    assert_eq!(pieces, whole, "byte by byte: {}", bytes.escape_ascii());
    if whole != Ok(None) {
        let longer = [bytes, b"GET /next HTTP/1.1\r\nHost: next\r\n\r\n"].concat();
        head.clear();
        let verdict = RequestReader::default().read(&mut head, &longer, limits);
        let followed = verdict.map(|parse| (parse == Parse::Complete).then(|| seen(&head, &longer)));
        assert_eq!(followed, whole, "with a request behind it: {}", bytes.escape_ascii());
    }
    whole
}

fn read(text: &str) -> Result<Seen, u16> {
    let verdict = read_within(text.as_bytes(), &LIMITS);
    verdict.map(|seen| seen.unwrap_or_else(|| panic!("incomplete: {text:?}"))).map_err(|refusal| refusal.status)
}

/// Reads the fields behind a plain request line; Host is among them only if given.
fn fields(lines: &str) -> Result<Seen, u16> {
    read(&format!("POST / HTTP/1.1\r\n{lines}\r\n"))
}

/// Reads the fields of a request that has a Host.
fn with_host(lines: &str) -> Result<Seen, u16> {
    fields(&format!("Host: a\r\n{lines}"))
}

fn refused<T: AsRef<str>>(read: impl Fn(&str) -> Result<Seen, u16>, cases: &[(u16, T)]) {
    for (status, case) in cases {
        let case = case.as_ref();
        assert_eq!(read(case).map(|_| ()), Err(*status), "{case:?}");
    }
}

/// Reads a request line; the rest is plain.
fn line(line: &str) -> Result<Seen, u16> {
    read(&format!("{line}\r\nHost: a\r\n\r\n"))
}

#[test]
fn a_whole_head() {
    let text = "\r\nPOST /a%20b/c?d=e?f HTTP/1.1\r\nHost: example.com:8000\r\nX-Empty:\r\nX-Spaces: \t a \t b\t \r\n\
                content-length:5\r\nExpect: 100-Continue\r\n\r\n";
    let field = |name: &str, value: &str| (name.to_owned(), value.to_owned());
    let expected = Seen {
        method: "POST".into(),
        target: "/a%20b/c?d=e?f".into(),
        path: "/a%20b/c".into(),
        query: "d=e?f".into(),
        authority: None,
        http10: false,
        fields: vec![
            field("Host", "example.com:8000"),
            field("X-Empty", ""),
            field("X-Spaces", "a \t b"),
            field("content-length", "5"),
            field("Expect", "100-Continue"),
        ],
        framing: Framing::Length(5),
        keep_alive: true,
        expects_continue: true,
        host: Some("example.com:8000".into()),
        length: text.len(),
    };
    assert_eq!(read(text), Ok(expected));
}

#[test]
fn a_head_that_is_used_again_forgets_all_of_the_one_before() {
    let first =
        b"POST http://b/c?d HTTP/1.0\r\nHost: a\r\nX_Y: 1\r\nForwarded: for=_a\r\nTransfer-Encoding: chunked\r\n\r\n";
    let second = b"GET / HTTP/1.0\r\n\r\n";
    let mut head = RequestHead::default();
    assert!(RequestReader::default().read(&mut head, first, &LIMITS).is_err());
    head.clear();
    assert_eq!(RequestReader::default().read(&mut head, second, &LIMITS), Ok(Parse::Complete));
    let mut fresh = RequestHead::default();
    assert_eq!(RequestReader::default().read(&mut fresh, second, &LIMITS), Ok(Parse::Complete));
    assert_eq!(format!("{head:?}"), format!("{fresh:?}"));
}

#[test]
fn a_value_is_found_by_its_name() {
    let bytes = b"GET / HTTP/1.1\r\nHost: a\r\nACCEPT: b\r\nAccept: c\r\n\r\n";
    let mut head = RequestHead::default();
    assert_eq!(RequestReader::default().read(&mut head, bytes, &LIMITS), Ok(Parse::Complete));
    assert_eq!(head.value(bytes, b"accept"), Some(b"b".as_slice()));
    assert_eq!(head.value(bytes, b"accep"), None);
}

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

#[test]
fn limits_hold_exactly() {
    let limits = Limits { line: 20, fields: 3, field: 16, head: 80 };
    let status = |text: &str| read_within(text.as_bytes(), &limits).map(|seen| seen.is_some()).map_err(|r| r.status);
    let line = |length: usize| format!("GET /{} HTTP/1.0", "a".repeat(length - 14));
    assert_eq!(status(&format!("{}\r\n\r\n", line(20))), Ok(true));
    assert_eq!(status(&format!("{}\r\n\r\n", line(21))), Err(414));
    assert_eq!(status(&"a".repeat(20)), Ok(false));
    assert_eq!(status(&"a".repeat(21)), Err(414), "before its end has come");
    assert_eq!(status(&format!("{}\r", "a".repeat(20))), Ok(false), "the line's end does not count");

    let field = |length: usize| format!("X: {}\r\n", "a".repeat(length - 3));
    let fields = |fields: &[String]| status(&format!("{}\r\n{}\r\n", line(20), fields.concat()));
    assert_eq!(fields(&[field(16)]), Ok(true));
    assert_eq!(fields(&[field(17)]), Err(431));
    assert_eq!(status(&format!("{}\r\nX: {}", line(20), "a".repeat(14))), Err(431), "before its end has come");
    assert_eq!(fields(&vec![field(5); 3]), Ok(true));
    assert_eq!(fields(&vec![field(5); 4]), Err(431));

    assert_eq!(fields(&[field(16), field(16), field(16)]), Ok(true), "22 + 3 * 18 + 2 is 78");
    let limits = Limits { head: 78, ..limits };
    let status = |text: &str| read_within(text.as_bytes(), &limits).map(|seen| seen.is_some()).map_err(|r| r.status);
    let whole = format!("{}\r\n{}\r\n", line(20), field(16).repeat(3));
    assert_eq!(status(&whole), Ok(true));
    assert_eq!(status(&whole[..77]), Ok(false));
    let limits = Limits { head: 77, ..limits };
    assert_eq!(read_within(whole.as_bytes(), &limits).unwrap_err().status, 431);
    let limits = Limits { head: 10, ..limits };
    assert_eq!(read_within(whole.as_bytes(), &limits).unwrap_err().status, 414);
}

#[test]
fn without_limits_a_head_may_be_long() {
    let none = Limits { line: 0, fields: 0, field: 0, head: 0 };
    let text = format!(
        "GET /{0} HTTP/1.1\r\nHost: a\r\n{1}\r\n",
        "a".repeat(5000),
        format!("X: {}\r\n", "b".repeat(50)).repeat(300)
    );
    assert_eq!(read_within(text.as_bytes(), &none).unwrap().unwrap().fields.len(), 301);
}

/// A line that comes byte by byte must not be read again from its beginning each time: sixteen megabytes would take hours.
#[test]
fn the_cost_of_bytes_that_come_one_by_one_grows_with_their_number() {
    let none = Limits { line: 0, fields: 0, field: 0, head: 0 };
    let text = format!("GET / HTTP/1.1\r\nHost: a\r\nX:{}", "\t".repeat(1 << 24));
    let mut head = RequestHead::default();
    let mut reader = RequestReader::default();
    for end in 0..text.len() {
        assert_eq!(reader.read(&mut head, &text.as_bytes()[..end], &none), Ok(Parse::Partial));
    }
}
