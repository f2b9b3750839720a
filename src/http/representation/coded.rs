//! Responses of the application that are compressed on their way out (RFC 9110 §8.4): which may be, and what their heads say then.

use super::{
    encodings::members,
    media_types::{self},
};
use crate::{RequestHead, ResponseHead, syntax::trim};

/// Fields that speak of the very bytes of the body: it is sent as it is, because what they say would not be true.
const OF_THE_BYTES: [&[u8]; 6] =
    [b"content-encoding", b"content-md5", b"digest", b"content-digest", b"repr-digest", b"signature-input"];

/// What is said of a body in a coding.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Said {
    /// This client gets it as it is; others do not.
    Plain,
    /// This client gets it in this coding, of this length; without one in answer to HEAD.
    Coded(&'static str, Option<u64>),
    /// This client has it in a coding already.
    Kept,
}

/// Whether a body may be sent in a coding, as far as its head tells: it is of one of `types`, and neither a part nor coded. A type may hold
/// one `*`: `text/*`, `application/*+json`.
pub fn may_be_coded(head: &ResponseHead, types: &[String]) -> bool {
    if matches!(head.status(), 204 | 205 | 206 | 304) {
        return false;
    }
    let mut is_listed = false;
    for (name, value) in head.fields() {
        if name.eq_ignore_ascii_case(b"content-type") {
            let media = trim(value.split(|&byte| byte == b';').next().unwrap_or_default());
            is_listed = types.iter().any(|known| is_of(media, known)) && !media_types::is_compressed(media);
        } else if name.eq_ignore_ascii_case(b"cache-control") {
            if list(value).any(|directive| directive.eq_ignore_ascii_case(b"no-transform")) {
                return false;
            }
        } else if OF_THE_BYTES.iter().any(|field| name.eq_ignore_ascii_case(field)) {
            return false;
        }
    }
    is_listed
}

/// Whether this 304 tells a client that what it has in a coding is fresh: the client has named the entity tag as weak, and the application
/// knows it only as strong.
pub fn is_kept_coded(head: &ResponseHead, request: &RequestHead, bytes: &[u8]) -> bool {
    let Some(etag) = head.value(b"etag").filter(|etag| head.status() == 304 && etag.starts_with(b"\"")) else {
        return false;
    };
    let mut tags = members(request, bytes, b"if-none-match");
    tags.any(|tag| tag.strip_prefix(b"W/") == Some(etag))
}

/// The head with what is said of the body in its coding. The entity tag is weak then: what it stands for is the same, and its bytes are not
/// (RFC 9110 §8.8.1). Parts are not offered: the application would cut them out of other bytes.
pub fn said_of(head: &ResponseHead, said: Said) -> ResponseHead {
    let mut new = ResponseHead::default();
    // All of it was taken from the application, and what is added is plain.
    let _ = new.begin(head.status_line());
    let mut vary: Vec<u8> = Vec::new();
    for (name, value) in head.fields() {
        let is = |known: &[u8]| name.eq_ignore_ascii_case(known);
        if is(b"vary") {
            append(&mut vary, value);
        } else if is(b"etag") && said != Said::Plain && value.starts_with(b"\"") {
            let _ = new.field(name, &[b"W/", value].concat());
        } else if !matches!(said, Said::Coded(..)) || !(is(b"content-length") || is(b"accept-ranges")) {
            let _ = new.field(name, value);
        }
    }
    if let Said::Coded(coding, length) = said {
        let _ = new.field(b"Content-Encoding", coding.as_bytes());
        if let Some(length) = length {
            let _ = new.field(b"Content-Length", itoa::Buffer::new().format(length).as_bytes());
        }
    }
    if !list(&vary).any(|name| name == b"*" || name.eq_ignore_ascii_case(b"accept-encoding")) {
        append(&mut vary, b"Accept-Encoding");
    }
    let _ = new.field(b"Vary", &vary);
    new
}

fn append(list: &mut Vec<u8>, members: &[u8]) {
    if !list.is_empty() && !members.is_empty() {
        list.extend_from_slice(b", ");
    }
    list.extend_from_slice(members);
}

fn list(value: &[u8]) -> impl Iterator<Item = &[u8]> {
    value.split(|&byte| byte == b',').map(trim)
}

fn is_of(media: &[u8], known: &str) -> bool {
    let (start, end) = known.split_once('*').unwrap_or((known, ""));
    let (start, end) = (start.as_bytes(), end.as_bytes());
    let fits = if known.contains('*') { media.len() >= start.len() + end.len() } else { media.len() == start.len() };
    fits && media[..start.len()].eq_ignore_ascii_case(start)
        && media[media.len() - end.len()..].eq_ignore_ascii_case(end)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::h1::{Limits, RequestReader};

    fn head(status: &str, fields: &str) -> ResponseHead {
        let mut head = ResponseHead::default();
        head.begin(status.as_bytes()).unwrap();
        for (name, value) in fields.lines().filter_map(|line| line.split_once(": ")) {
            head.field(name.as_bytes(), value.as_bytes()).unwrap();
        }
        head
    }

    fn fields(head: &ResponseHead) -> String {
        let text = |bytes| String::from_utf8_lossy(bytes).into_owned();
        head.fields().map(|(name, value)| format!("{}: {}\n", text(name), text(value))).collect()
    }

    #[test]
    fn a_body_is_coded_where_its_type_is_listed_and_nothing_forbids_it() {
        let types = ["text/*", "application/json", "application/*+json", "application/*"].map(String::from);
        for (status, fields, coded) in [
            ("200 OK", "Content-Type: text/html; charset=utf-8", true),
            ("200 OK", "content-type: Application/JSON", true),
            ("404 Not Found", "Content-Type: application/problem+json", true),
            ("200 OK", "Content-Type: texts/html", false),
            ("200 OK", "Content-Type: image/png", false),
            ("200 OK", "Content-Type: application/zip", false),
            ("200 OK", "Content-Type: text/", true),
            ("200 OK", "Content-Type: ", false),
            ("200 OK", "", false),
            ("206 Partial Content", "Content-Type: text/plain", false),
            ("304 Not Modified", "Content-Type: text/plain", false),
            ("200 OK", "Content-Type: text/plain\nCache-Control: private, No-Transform", false),
            ("200 OK", "Content-Type: text/plain\nCache-Control: no-cache", true),
            ("200 OK", "Content-Type: text/plain\nContent-Encoding: identity", false),
            ("200 OK", "Content-Type: text/plain\nContent-MD5: x", false),
            ("200 OK", "Repr-Digest: x\nContent-Type: text/plain", false),
        ] {
            assert_eq!(may_be_coded(&head(status, fields), &types), coded, "{status} {fields}");
        }
        let one = |known: &str| [known.to_string()];
        let json = head("200 OK", "Content-Type: application/json");
        assert!(!may_be_coded(&json, &one("application/js")) && !may_be_coded(&json, &one("application/*+json")));
    }

    #[test]
    fn a_coded_body_has_a_weak_tag_its_own_length_and_no_parts() {
        let plain = head(
            "200 Fine",
            "Vary: Cookie\nETag: \"a\"\nContent-Length: 9\nAccept-Ranges: bytes\nSet-Cookie: b\nVary: Accept",
        );
        let coded = said_of(&plain, Said::Coded("gzip", Some(5)));
        let expected = "ETag: W/\"a\"\nSet-Cookie: b\nContent-Encoding: gzip\nContent-Length: 5\nVary: Cookie, Accept, Accept-Encoding\n";
        assert_eq!((fields(&coded).as_str(), coded.status_line()), (expected, &b"200 Fine"[..]));
        let of_head = said_of(&plain, Said::Coded("gzip", None));
        assert_eq!(of_head.content_length(), None);
        let expected = "ETag: \"a\"\nContent-Length: 9\nAccept-Ranges: bytes\nSet-Cookie: b\nVary: Cookie, Accept, Accept-Encoding\n";
        assert_eq!(fields(&said_of(&plain, Said::Plain)), expected);
    }

    #[test]
    fn vary_names_the_field_once() {
        for (given, expected) in [
            ("", "Accept-Encoding"),
            ("Vary: *", "*"),
            ("Vary: Cookie, accept-encoding", "Cookie, accept-encoding"),
            ("Vary: X-Accept-Encoding", "X-Accept-Encoding, Accept-Encoding"),
            ("Vary: ", "Accept-Encoding"),
        ] {
            let new = said_of(&head("200 OK", given), Said::Plain);
            assert_eq!(new.value(b"vary"), Some(expected.as_bytes()), "{given}");
        }
    }

    #[test]
    fn a_304_names_the_tag_as_the_client_has_it() {
        for (etag, asked, kept) in [
            ("\"a\"", "W/\"a\"", true),
            ("\"a\"", "\"b\", W/\"a\"", true),
            ("\"a\"", "\"a\"", false),
            ("\"a\"", "*", false),
            ("\"a\"", "W/\"b\"", false),
            ("W/\"a\"", "W/\"a\"", false),
        ] {
            let bytes = format!("GET / HTTP/1.1\r\nHost: a\r\nIf-None-Match: {asked}\r\n\r\n");
            let limits = Limits { line: 0, fields: 0, field: 0, head: 1 << 16 };
            let mut request = RequestHead::default();
            RequestReader::default().read(&mut request, bytes.as_bytes(), &limits).expect("it is a request");
            let of = |status| is_kept_coded(&head(status, &format!("ETag: {etag}")), &request, bytes.as_bytes());
            assert_eq!((of("304 Not Modified"), of("200 OK")), (kept, false), "{etag} {asked}");
        }
        let weak = said_of(&head("304 Not Modified", "ETag: \"a\""), Said::Kept);
        assert_eq!(fields(&weak), "ETag: W/\"a\"\nVary: Accept-Encoding\n");
    }
}
