//! A head is read the same however it arrives, everything in it can be looked at, and what was accepted is accepted again when it is written
//! out plainly.
#![no_main]

use libfuzzer_sys::fuzz_target;
use ostler_http::{
    Refusal, RequestHead, Version,
    h1::{Limits, Parse, RequestReader},
    proxy::{
        forwarded,
        hidden::{OddNames, hidden_fields},
        identity, proxy_protocol,
    },
    target::decode_path,
};

const ALL: forwarded::Believed = forwarded::Believed {
    address: true,
    proto: true,
    protocol: true,
    ssl: true,
    host: true,
    port: true,
    prefix: true,
    standard: true,
    schemes: None,
    own: Vec::new(),
    start: true,
};
const LIMITS: Limits = Limits { line: 200, fields: 8, field: 300, head: 1000 };

fuzz_target!(|input: &[u8]| {
    // Where the input is cut in two is told by its first byte.
    let Some((&place, bytes)) = input.split_first() else { return };
    let cut = bytes.len().min(usize::from(place));
    header(bytes, cut);
    let (mut whole, mut parts) = (RequestHead::default(), RequestHead::default());
    let verdict = RequestReader::default().read(&mut whole, bytes, &LIMITS);
    let mut reader = RequestReader::default();
    let first = reader.read(&mut parts, &bytes[..cut], &LIMITS);
    let in_parts = if first == Ok(Parse::Partial) { reader.read(&mut parts, bytes, &LIMITS) } else { first };
    assert_eq!(verdict, in_parts);
    if verdict == Ok(Parse::Complete) {
        assert_eq!(format!("{whole:?}"), format!("{parts:?}"));
        look(&whole, bytes);
    }
});

/// The same for a PROXY header: an answer to a part stays the answer to all.
fn header(bytes: &[u8], cut: usize) {
    let (whole, part) = (proxy_protocol::parse(bytes), proxy_protocol::parse(&bytes[..cut]));
    assert!(part == Ok(None) || part == whole);
    assert!(whole.is_err() || whole.is_ok_and(|header| header.is_none_or(|(length, _)| length <= bytes.len())));
}

fn look(head: &RequestHead, bytes: &[u8]) {
    let mut hidden = Vec::new();
    for (odd_names, trusted) in [(OddNames::Drop, false), (OddNames::Refuse, true), (OddNames::Dangerous, false)] {
        match hidden_fields(head, bytes, odd_names, &ALL, trusted, &mut hidden) {
            Ok(()) => {
                assert!(hidden.is_sorted() && hidden.last().is_none_or(|last| usize::from(*last) < head.fields.len()))
            }
            Err(Refusal { status, .. }) => assert_eq!(status, 400),
        }
    }
    identity::hide(head, bytes, &mut hidden);
    assert!(hidden.is_sorted() && hidden.last().is_none_or(|last| usize::from(*last) < head.fields.len()));
    if let identity::Told::Id(id) | identity::Told::Trace(id) = identity::told(head, bytes) {
        assert!((1..=identity::LONGEST_ID).contains(&id.len()) && id.bytes().all(|byte| byte.is_ascii_graphic()));
    }
    let _ = identity::request_start(head, bytes);
    let none = forwarded::origin(head, bytes, &forwarded::Believed::default(), |_| true);
    assert!(none == Ok(forwarded::Origin::default()), "what is not believed is not looked at");
    if let Ok(origin) = forwarded::origin(head, bytes, &ALL, |address| address.is_loopback()) {
        assert!(origin.prefix.is_none_or(|prefix| prefix.starts_with('/') && !prefix.ends_with('/')));
    }
    let mut path = Vec::new();
    decode_path(head.path.of(bytes), &mut path);
    let escapes = head.path.of(bytes).iter().filter(|byte| **byte == b'%').count();
    assert!(!path.contains(&0) && path.len() + 2 * escapes == head.path.of(bytes).len());
    again(head, bytes);
}

/// Writes it out plainly and reads that.
fn again(head: &RequestHead, bytes: &[u8]) {
    let version: &[u8] = if head.version == Version::Http10 { b" HTTP/1.0\r\n" } else { b" HTTP/1.1\r\n" };
    let mut plain = [head.method.of(bytes), b" ", head.target.of(bytes), version].concat();
    for field in &head.fields {
        plain.extend([field.name.of(bytes), b":", field.value.of(bytes), b"\r\n"].concat());
    }
    plain.extend(b"\r\n");
    let mut second = RequestHead::default();
    assert_eq!(RequestReader::default().read(&mut second, &plain, &LIMITS), Ok(Parse::Complete));
    assert_eq!((second.framing, second.keep_alive, second.length), (head.framing, head.keep_alive, plain.len()));
    assert_eq!(second.path.of(&plain), head.path.of(bytes));
}
