//! What a request at the address of `--metrics` asks for. It does no I/O.

use super::{Answer, PLAIN};

/// What was asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Question {
    pub of: Subject,
    /// HEAD: the answer has no body.
    pub(super) head: bool,
}

/// What an answer is about.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Subject {
    /// `/`, for people.
    People,
    /// `/metrics`, in the format of OpenMetrics or in Prometheus' own.
    Metrics { open: bool },
    /// `/status`
    Status,
    /// `/health`, or with `?ready` whether new clients are to come.
    Health { ready: bool },
}

/// What the head of a request asks for, without its end; or the answer to what is no question.
pub(super) fn question(head: &[u8]) -> Result<Question, Answer> {
    let malformed = || refusal("400 Bad Request");
    let head = std::str::from_utf8(head).map_err(|_| malformed())?;
    let mut lines = head.split("\r\n");
    let line: Vec<&str> = lines.next().unwrap_or_default().split(' ').collect();
    let [method, target, version] = line[..] else { return Err(malformed()) };
    if !target.starts_with('/') || !["HTTP/1.1", "HTTP/1.0"].contains(&version) {
        return Err(malformed());
    }
    let head = match method {
        "GET" => false,
        "HEAD" => true,
        _ => return Err(refusal("405 Method Not Allowed")),
    };
    let fields = lines.filter_map(|line| line.split_once(':'));
    let accept = fields.filter(|(name, _)| name.eq_ignore_ascii_case("accept")).map(|(_, value)| value);
    let (path, query) = target.split_once('?').unwrap_or((target, ""));
    // What is not known in a query is somebody else's, and ignored.
    let has = |name| query.split('&').any(|part| part.split('=').next() == Some(name));
    let of = match path {
        "/" => Subject::People,
        "/metrics" => Subject::Metrics { open: prefers_open_metrics(&accept.collect::<Vec<_>>().join(",")) },
        "/status" => Subject::Status,
        "/health" => Subject::Health { ready: has("ready") },
        _ => return Err(refusal("404 Not Found")),
    };
    Ok(Question { of, head })
}

/// Whether these fields name OpenMetrics, and plain text with no larger weight: RFC 9110, section 12.5.1.
fn prefers_open_metrics(accept: &str) -> bool {
    let weight = |kind: &str| {
        let ranges = accept.split(',').filter_map(|range| {
            let mut parts = range.split(';').map(str::trim);
            parts.next()?.eq_ignore_ascii_case(kind).then(|| {
                let weight = parts.find_map(|part| part.strip_prefix("q=").or(part.strip_prefix("Q=")));
                weight.map_or(1.0, |weight| weight.parse().unwrap_or(0.0))
            })
        });
        ranges.fold(0.0, f32::max)
    };
    let open = weight("application/openmetrics-text");
    open > 0.0 && open >= weight("text/plain")
}

pub(super) fn refusal(status: &'static str) -> Answer {
    let body = match status {
        "404 Not Found" => "There are / for people, /metrics, /health, /health?ready and /status.\n".to_owned(),
        _ => format!("{status}\n"),
    };
    Answer { status, kind: PLAIN, fields: "", body }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn asked(head: &str) -> Result<(Subject, bool), &'static str> {
        question(head.as_bytes()).map(|question| (question.of, question.head)).map_err(|answer| answer.status)
    }

    #[test]
    fn a_question_is_one_of_a_few() {
        let metrics = |open| Subject::Metrics { open };
        assert_eq!(asked("GET /metrics HTTP/1.1\r\nHost: a"), Ok((metrics(false), false)));
        let open = "HEAD /metrics?x HTTP/1.0\r\naccept: application/openmetrics-text;version=1.0.0,text/plain;q=0.5";
        assert_eq!(asked(open), Ok((metrics(true), true)));
        assert_eq!(asked("GET /health HTTP/1.1"), Ok((Subject::Health { ready: false }, false)));
        for (query, ready) in [("ready", true), ("x=1&ready=", true), ("x", false), ("readyx", false), ("", false)] {
            let expected = Ok((Subject::Health { ready }, false));
            assert_eq!(asked(&format!("GET /health?{query} HTTP/1.1")), expected, "{query}");
        }
        assert_eq!(asked("GET / HTTP/1.1"), Ok((Subject::People, false)));
        assert_eq!(asked("GET /status HTTP/1.1"), Ok((Subject::Status, false)));
        for (head, status) in [
            ("GET /other HTTP/1.1", "404 Not Found"),
            ("GET /healthx HTTP/1.1", "404 Not Found"),
            ("POST /metrics HTTP/1.1", "405 Method Not Allowed"),
            ("GET /metrics", "400 Bad Request"),
            ("GET  /metrics HTTP/1.1", "400 Bad Request"),
            ("GET http://a/metrics HTTP/1.1", "400 Bad Request"),
            ("GET /metrics HTTP/2.0", "400 Bad Request"),
            ("", "400 Bad Request"),
        ] {
            assert_eq!(asked(head), Err(status), "{head}");
        }
        assert!(question(b"GET /\xff HTTP/1.1").is_err());
    }

    #[test]
    fn open_metrics_is_for_those_who_prefer_it() {
        for (accept, is_preferred) in [
            (
                "application/openmetrics-text;version=1.0.0;q=0.5,application/openmetrics-text;q=0.3,text/plain;q=0.2,*/*;q=0.1",
                true,
            ),
            ("text/plain; q=0.5, Application/OpenMetrics-Text; version=1.0.0", true),
            ("application/openmetrics-text;q=0, text/plain", false),
            ("application/openmetrics-text;q=0.0", false),
            ("application/openmetrics-text;Q=0.1, text/plain;q=0.2", false),
            ("application/openmetrics-text;q=x", false),
            ("application/openmetrics-texts", false),
            ("*/*", false),
            ("", false),
        ] {
            assert_eq!(prefers_open_metrics(accept), is_preferred, "{accept}");
        }
    }
}
