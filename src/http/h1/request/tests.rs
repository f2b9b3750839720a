//! Each head is read at once, byte by byte, and with another request behind it; all three must agree.

use super::*;
use crate::Framing;

mod fields;
mod framing;
mod generated;
mod limits;
mod request_line;

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
