//! The server's own answers: small, without version or path, in HTML or JSON as the client prefers (RFC 9110 §12.5.1).

use crate::{
    ResponseHead,
    syntax::{thousandths, trim},
};

/// An answer of the server's own: a value until it is sent like any other response.
#[derive(Debug, Default)]
pub struct Answer {
    /// Status and fields, Content-Length among them.
    pub head: ResponseHead,
    /// The whole body.
    pub body: Vec<u8>,
}

/// The page for an error, in JSON or HTML as the request's Accept prefers. `fields` go into its head.
#[cold]
pub fn error_answer(status: u16, accept: Option<&[u8]>, fields: &[(&str, &str)]) -> Answer {
    explained_answer(status, accept, "", fields)
}

/// The same with a sentence for its reader, which needs no escapes.
#[cold]
pub fn explained_answer(status: u16, accept: Option<&[u8]>, sentence: &str, fields: &[(&str, &str)]) -> Answer {
    let phrase = phrase(status);
    let explained = |before: &str, behind: &str| match sentence {
        "" => String::new(),
        sentence => format!("{before}{sentence}{behind}"),
    };
    let (kind, body) = if prefers_json(accept.unwrap_or_default()) {
        let explanation = explained(", \"explanation\": \"", "\"");
        ("application/json", format!("{{\"status\": {status}, \"error\": \"{phrase}\"{explanation}}}\n"))
    } else {
        let (title, explanation) = (format!("{status} {phrase}"), explained("<p>", "</p>"));
        let page =
            format!("<!doctype html>\n<html lang=\"en\"><title>{title}</title><h1>{title}</h1>{explanation}</html>\n");
        ("text/html; charset=utf-8", page)
    };
    let mut head = ResponseHead::default();
    let length = body.len().to_string();
    let own = [("Content-Type", kind), ("Content-Length", &length)];
    head.begin(format!("{status} {phrase}").as_bytes()).expect("a status of the table");
    for (name, value) in own.iter().chain(fields) {
        head.field(name.as_bytes(), value.as_bytes()).expect("a field that is written in the source");
    }
    Answer { head, body: body.into() }
}

/// The phrases of the statuses that the server itself answers with (RFC 9110 §15, RFC 6585 §5).
fn phrase(status: u16) -> &'static str {
    match status {
        400 => "Bad Request",
        403 => "Forbidden",
        404 => "Not Found",
        408 => "Request Timeout",
        412 => "Precondition Failed",
        413 => "Content Too Large",
        414 => "URI Too Long",
        416 => "Range Not Satisfiable",
        417 => "Expectation Failed",
        421 => "Misdirected Request",
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

/// Whether JSON is wanted more than HTML. An element of Accept that cannot be read is ignored.
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_answer_is_whole_and_small() {
        let answer = error_answer(503, None, &[("Retry-After", "1")]);
        let page = "<!doctype html>\n<html lang=\"en\"><title>503 Service Unavailable</title><h1>503 Service Unavailable</h1></html>\n";
        assert_eq!(answer.head.status(), 503);
        assert_eq!(answer.head.value(b"content-type"), Some(&b"text/html; charset=utf-8"[..]));
        assert_eq!(answer.head.value(b"retry-after"), Some(&b"1"[..]));
        assert_eq!(answer.head.content_length(), Some(page.len() as u64));
        assert_eq!(answer.body, page.as_bytes());
        let json = error_answer(400, Some(b"application/json"), &[]);
        assert_eq!(json.head.value(b"content-type"), Some(&b"application/json"[..]));
        assert_eq!(json.body, b"{\"status\": 400, \"error\": \"Bad Request\"}\n");
        let body = |accept: &[u8]| explained_answer(400, Some(accept), "Say please.", &[]).body;
        assert!(body(b"").ends_with(b"</h1><p>Say please.</p></html>\n"));
        let explained = "{\"status\": 400, \"error\": \"Bad Request\", \"explanation\": \"Say please.\"}\n";
        assert_eq!(body(b"application/json"), explained.as_bytes());
    }

    #[test]
    fn every_status_that_the_server_answers_with_makes_an_answer() {
        for status in 400..=599 {
            assert_eq!(error_answer(status, None, &[]).head.status(), status);
        }
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
