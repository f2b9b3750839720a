//! The server's own answers: small, without version or path, in HTML or JSON as the client prefers (RFC 9110 §12.5.1).

use crate::{response::append, syntax::trim};

/// Appends a whole answer of the server's own, small and without version or path, in JSON or HTML as `accept` prefers; without
/// the body where `head_request`. `fields` are written as they are. Returns how many bytes of body there are.
#[expect(clippy::too_many_arguments, reason = "each is a part of the answer, and all callers have all of them at hand")]
pub fn error_answer(
    out: &mut Vec<u8>,
    status: u16,
    accept: Option<&[u8]>,
    head_request: bool,
    keep_alive: bool,
    date: &[u8; 29],
    server: &[u8],
    fields: &[(&str, &str)],
) -> u64 {
    let phrase = phrase(status);
    let (kind, body) = if prefers_json(accept.unwrap_or_default()) {
        ("application/json", format!("{{\"status\": {status}, \"error\": \"{phrase}\"}}\n"))
    } else {
        let title = format!("{status} {phrase}");
        let page = format!("<!doctype html>\n<html lang=\"en\"><title>{title}</title><h1>{title}</h1></html>\n");
        ("text/html; charset=utf-8", page)
    };
    out.extend_from_slice(format!("HTTP/1.1 {status} {phrase}\r\n").as_bytes());
    append(out, b"Content-Type", kind.as_bytes());
    append(out, b"Content-Length", body.len().to_string().as_bytes());
    append(out, b"Date", date);
    if !server.is_empty() {
        append(out, b"Server", server);
    }
    for (name, value) in fields {
        append(out, name.as_bytes(), value.as_bytes());
    }
    append(out, b"Connection", if keep_alive { b"keep-alive" } else { b"close" });
    out.extend_from_slice(b"\r\n");
    if head_request {
        return 0;
    }
    out.extend_from_slice(body.as_bytes());
    body.len() as u64
}

/// Of the statuses that the server itself answers with (RFC 9110 §15, RFC 6585 §5).
fn phrase(status: u16) -> &'static str {
    match status {
        400 => "Bad Request",
        403 => "Forbidden",
        404 => "Not Found",
        408 => "Request Timeout",
        413 => "Content Too Large",
        414 => "URI Too Long",
        417 => "Expectation Failed",
        431 => "Request Header Fields Too Large",
        500 => "Internal Server Error",
        501 => "Not Implemented",
        502 => "Bad Gateway",
        503 => "Service Unavailable",
        504 => "Gateway Timeout",
        505 => "HTTP Version Not Supported",
        _ => "Error",
    }
}

/// Whether JSON is wanted more than HTML. What cannot be read has no say: an error answer is better than none.
fn prefers_json(accept: &[u8]) -> bool {
    quality(accept, b"application", b"json") > quality(accept, b"text", b"html")
}

/// The quality, in thousandths, that the most specific matching range gives to a media type; 0 without one.
fn quality(accept: &[u8], kind: &[u8], subtype: &[u8]) -> u16 {
    let ranges = accept.split(|&byte| byte == b',').filter_map(|range| {
        let mut parts = range.split(|&byte| byte == b';').map(trim);
        let mut names = parts.next()?.splitn(2, |&byte| byte == b'/');
        let specific = match (names.next()?, names.next()?) {
            (b"*", b"*") => 0,
            (range, b"*") if range.eq_ignore_ascii_case(kind) => 1,
            (range, of) if range.eq_ignore_ascii_case(kind) && of.eq_ignore_ascii_case(subtype) => 2,
            _ => return None,
        };
        let weight = parts.find_map(|part| part.strip_prefix(b"q=").or(part.strip_prefix(b"Q=")));
        Some((specific, weight.map_or(Some(1000), thousandths)?))
    });
    ranges.max().map_or(0, |(_, quality)| quality)
}

/// `0.5` and the like, up to three decimals (RFC 9110 §12.4.2).
fn thousandths(text: &[u8]) -> Option<u16> {
    let (whole, decimals) = match text {
        [whole @ (b'0' | b'1')] => (*whole, &[][..]),
        [whole @ (b'0' | b'1'), b'.', decimals @ ..] if decimals.len() <= 3 => (*whole, decimals),
        _ => return None,
    };
    let mut value = u16::from(whole - b'0');
    for place in 0..3 {
        let digit = *decimals.get(place).unwrap_or(&b'0');
        value = value * 10 + digit.is_ascii_digit().then(|| u16::from(digit - b'0'))?;
    }
    (value <= 1000).then_some(value)
}

#[cfg(test)]
mod tests {
    use super::*;

    const DATE: &[u8; 29] = b"Sun, 06 Nov 1994 08:49:37 GMT";

    fn answer(status: u16, accept: Option<&str>, head_request: bool) -> String {
        let mut out = Vec::new();
        let fields = [("Retry-After", "1")];
        error_answer(&mut out, status, accept.map(str::as_bytes), head_request, false, DATE, b"ostler", &fields);
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn an_answer_is_whole_and_small() {
        assert_eq!(
            answer(503, None, false),
            "HTTP/1.1 503 Service Unavailable\r\nContent-Type: text/html; charset=utf-8\r\nContent-Length: 110\r\n\
             Date: Sun, 06 Nov 1994 08:49:37 GMT\r\nServer: ostler\r\nRetry-After: 1\r\nConnection: close\r\n\r\n\
             <!doctype html>\n<html lang=\"en\"><title>503 Service Unavailable</title><h1>503 Service Unavailable</h1></html>\n"
        );
        let json = answer(400, Some("application/json"), false);
        assert!(json.ends_with("\r\n\r\n{\"status\": 400, \"error\": \"Bad Request\"}\n"), "{json}");
    }

    #[test]
    fn an_answer_to_head_has_the_length_but_not_the_body() {
        let (with, without) = (answer(400, None, false), answer(400, None, true));
        assert!(without.ends_with("\r\n\r\n") && with.starts_with(&without));
        let (_, body) = with.split_once("\r\n\r\n").unwrap();
        assert!(without.contains(&format!("Content-Length: {}\r\n", body.len())), "{without}");
    }

    #[test]
    fn rfc9110_12_5_1_json_where_it_is_wanted_more_than_html() {
        for (accept, json) in [
            ("", false),
            ("*/*", false),
            ("application/json", true),
            ("Application/JSON ; charset=utf-8", true),
            ("text/html,application/json", false),
            ("text/html;q=0.5, application/json;q=0.501", true),
            ("text/html;q=0.5, application/json;q=0.4", false),
            ("text/html,application/xhtml+xml,application/xml;q=0.9,*/*;q=0.8", false),
            ("application/*, text/html;q=0.9", true),
            ("*/*, text/html;q=0", true),
            ("application/json;q=0", false),
            ("application/json;q=2", false),
            ("application/json;q=1.001", false),
            ("application/json;q=0.1234", false),
            ("application/json;q=x", false),
            ("image/png", false),
            ("/,;;,=", false),
        ] {
            assert_eq!(prefers_json(accept.as_bytes()), json, "{accept}");
        }
    }
}
