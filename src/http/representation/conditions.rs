//! Preconditions (RFC 9110 §13): whether the client has the representation already, or wants it only if it is still the same.

use std::time::{Duration, UNIX_EPOCH};

use httpdate::parse_http_date;

use super::encodings::members;
use crate::{RequestHead, syntax::trim};

/// What a representation is told from another one by.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Validators<'a> {
    /// A strong entity tag, with its quotes.
    pub etag: &'a [u8],
    /// Seconds since 1970.
    pub modified: u64,
}

/// What the preconditions of a GET or HEAD request come to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verdict {
    /// Answer as if there were none.
    Send,
    /// 304: the client has it.
    NotModified,
    /// 412: it is not what the client asks for.
    Failed,
}

/// Evaluates the preconditions in the order of RFC 9110 §13.2.2.
pub fn evaluate(head: &RequestHead, bytes: &[u8], now: Validators) -> Verdict {
    let is_listed = |name: &[u8], same: fn(&[u8], &[u8]) -> bool| {
        let mut tags = members(head, bytes, name).peekable();
        tags.peek().is_some().then(|| tags.any(|tag| tag == b"*" || same(tag, now.etag)))
    };
    let since = |name: &[u8]| date(head.value_of_any(bytes, name)?);
    let holds = is_listed(b"if-match", is_same)
        .or_else(|| since(b"if-unmodified-since").map(|date| now.modified <= date))
        .unwrap_or(true);
    let fresh = is_listed(b"if-none-match", is_weakly_same)
        .or_else(|| since(b"if-modified-since").map(|date| now.modified <= date))
        .unwrap_or(false);
    match (holds, fresh) {
        (false, _) => Verdict::Failed,
        (true, true) => Verdict::NotModified,
        (true, false) => Verdict::Send,
    }
}

/// Whether a Range field counts: If-Range is not there, or names this very representation (RFC 9110 §13.1.5).
pub fn range_counts(head: &RequestHead, bytes: &[u8], now: Validators) -> bool {
    match head.value_of_any(bytes, b"if-range").map(trim) {
        None => true,
        Some(tag) if tag.ends_with(b"\"") => is_same(tag, now.etag),
        Some(text) => date(text) == Some(now.modified),
    }
}

/// The strong comparison of RFC 9110 §8.8.3.2. `own` is strong.
fn is_same(tag: &[u8], own: &[u8]) -> bool {
    tag == own
}

fn is_weakly_same(tag: &[u8], own: &[u8]) -> bool {
    tag.strip_prefix(b"W/").unwrap_or(tag) == own
}

/// Seconds since 1970; none of a text that is no date, which is ignored (RFC 9110 §13.1.3).
fn date(text: &[u8]) -> Option<u64> {
    let date = parse_http_date(std::str::from_utf8(text).ok()?).ok()?;
    date.duration_since(UNIX_EPOCH).ok().as_ref().map(Duration::as_secs)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::h1::{Limits, RequestReader};

    const NOW: Validators = Validators { etag: b"\"a\"", modified: 784_111_777 };
    const SAME: &str = "Sun, 06 Nov 1994 08:49:37 GMT";
    const EARLIER: &str = "Sun, 06 Nov 1994 08:49:36 GMT";
    const LATER: &str = "Sunday, 06-Nov-94 08:49:38 GMT";

    fn asked<T>(fields: &str, decide: impl Fn(&RequestHead, &[u8], Validators) -> T) -> T {
        let bytes = format!("GET / HTTP/1.1\r\nHost: a\r\n{fields}\r\n");
        let limits = Limits { line: 0, fields: 0, field: 0, head: 1 << 16 };
        let mut head = RequestHead::default();
        RequestReader::default().read(&mut head, bytes.as_bytes(), &limits).expect("it is a request");
        decide(&head, bytes.as_bytes(), NOW)
    }

    #[test]
    fn rfc9110_13_2_2_preconditions_count_in_their_order() {
        use Verdict::{Failed, NotModified, Send};
        for (fields, verdict) in [
            (String::new(), Send),
            ("If-None-Match: \"a\"\r\n".into(), NotModified),
            ("If-None-Match: W/\"a\"\r\n".into(), NotModified),
            ("If-None-Match: \"b\", \"a\"\r\n".into(), NotModified),
            ("If-None-Match: \"b\"\r\nIf-None-Match: \"a\"\r\n".into(), NotModified),
            ("If-None-Match: *\r\n".into(), NotModified),
            ("If-None-Match: \"b\"\r\n".into(), Send),
            ("If-None-Match: a\r\n".into(), Send),
            // The tag counts where there is one, and the date does not.
            (format!("If-None-Match: \"b\"\r\nIf-Modified-Since: {SAME}\r\n"), Send),
            (format!("If-Modified-Since: {SAME}\r\n"), NotModified),
            (format!("If-Modified-Since: {LATER}\r\n"), NotModified),
            (format!("If-Modified-Since: {EARLIER}\r\n"), Send),
            ("If-Modified-Since: yesterday\r\n".into(), Send),
            ("If-Match: \"a\"\r\n".into(), Send),
            ("If-Match: W/\"a\"\r\n".into(), Failed),
            ("If-Match: \"b\"\r\nIf-None-Match: \"a\"\r\n".into(), Failed),
            ("If-Match: \"a\"\r\nIf-None-Match: \"a\"\r\n".into(), NotModified),
            (format!("If-Unmodified-Since: {EARLIER}\r\n"), Failed),
            (format!("If-Unmodified-Since: {SAME}\r\n"), Send),
            (format!("If-Match: *\r\nIf-Unmodified-Since: {EARLIER}\r\n"), Send),
        ] {
            assert_eq!(asked(&fields, evaluate), verdict, "{fields}");
        }
    }

    #[test]
    fn rfc9110_13_1_5_a_range_counts_only_of_the_very_same() {
        for (fields, counts) in [
            (String::new(), true),
            ("If-Range: \"a\"\r\n".into(), true),
            ("If-Range: W/\"a\"\r\n".into(), false),
            ("If-Range: \"b\"\r\n".into(), false),
            (format!("If-Range: {SAME}\r\n"), true),
            (format!("If-Range: {LATER}\r\n"), false),
            (format!("If-Range: {EARLIER}\r\n"), false),
            ("If-Range: x\r\n".into(), false),
        ] {
            assert_eq!(asked(&fields, range_counts), counts, "{fields}");
        }
    }
}
