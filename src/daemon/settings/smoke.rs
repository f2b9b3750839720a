//! `--smoke`: a request, and what has to come of it: `[METHOD ]TARGET[=STATUS][ TEXT]`.

use std::{fmt, ops::RangeInclusive, str::FromStr, time::Duration};

use ostler_wire::OwnRequest;
use serde::{Deserialize, Serialize};

use super::parse;

/// Where no status is typed: success, or the way to another page.
const FINE: RangeInclusive<u16> = 200..=399;

/// One test. Written and read as it is typed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct SmokeTest {
    /// What is asked.
    pub request: OwnRequest,
    /// The statuses that it may be answered with.
    status: RangeInclusive<u16>,
    /// What has to be in the body.
    pub text: Option<String>,
}

impl SmokeTest {
    /// Whether it may be answered with this status.
    pub fn admits(&self, status: u16) -> bool {
        self.status.contains(&status)
    }

    /// `200`, `2xx` or `2xx or 3xx`.
    pub fn expected(&self) -> String {
        let (from, to) = (self.status.start(), self.status.end());
        match to - from {
            0 => from.to_string(),
            99 => format!("{}xx", from / 100),
            _ => "2xx or 3xx".into(),
        }
    }
}

impl FromStr for SmokeTest {
    type Err = String;

    fn from_str(typed: &str) -> Result<SmokeTest, String> {
        let (method, rest) = match typed.split_once(' ') {
            Some((method, rest)) if !OwnRequest::is_target(method) => (Some(method), rest),
            _ => (None, typed),
        };
        let (word, text) = match rest.split_once(' ') {
            Some((word, text)) => (word, Some(parse::line(text)?)),
            None => (rest, None),
        };
        let (target, status) = split_status(word)?;
        let request: OwnRequest = method.into_iter().chain([target]).collect::<Vec<_>>().join(" ").parse()?;
        match &text {
            Some(text) if text.trim().is_empty() => Err("no text stands behind the last space".into()),
            Some(_) if request.method == "HEAD" => Err("an answer to HEAD has no body that could hold a text".into()),
            _ => Ok(SmokeTest { request, status, text }),
        }
    }
}

/// The status stands behind the last `=`. A target that has a `=` of its own there needs one, so that it is plain which is which.
fn split_status(word: &str) -> Result<(&str, RangeInclusive<u16>), String> {
    let Some((target, last)) = word.rsplit_once('=') else { return Ok((word, FINE)) };
    let is_complete = target
        .split_once('?')
        .is_none_or(|(_, query)| query.rsplit('&').next().is_some_and(|parameter| parameter.contains('=')));
    match status(last) {
        Some(status) if is_complete => Ok((target, status)),
        Some(_) => Err(format!(
            "={last} can be the status or a part of the query: write {word}=2xx to ask for all of it, \
             or {target}=={last} to expect that status"
        )),
        None if is_complete => Err(format!(
            "{last:?} is no status from 200 to 599 and no class such as 2xx; to ask for all of it, write {word}=2xx"
        )),
        None => Ok((word, FINE)),
    }
}

fn status(text: &str) -> Option<RangeInclusive<u16>> {
    match text.as_bytes() {
        [b'2'..=b'5', b'0'..=b'9', b'0'..=b'9'] => text.parse().ok().map(|status| status..=status),
        [class @ b'2'..=b'5', b'x', b'x'] => {
            let first = u16::from(class - b'0') * 100;
            Some(first..=first + 99)
        }
        _ => None,
    }
}

/// `--smoke-timeout`
pub fn timeout(text: &str) -> Result<Duration, String> {
    match parse::duration(text)? {
        Duration::ZERO => Err("expected more than 0: without a bound, a reload could wait for ever".into()),
        timeout => Ok(timeout),
    }
}

impl fmt::Display for SmokeTest {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        let status = if self.status == FINE { String::new() } else { format!("={}", self.expected()) };
        let text = self.text.iter().map(|text| format!(" {text}")).collect::<String>();
        write!(f, "{}{status}{text}", self.request)
    }
}

impl TryFrom<String> for SmokeTest {
    type Error = String;

    fn try_from(typed: String) -> Result<SmokeTest, String> {
        typed.parse()
    }
}

impl From<SmokeTest> for String {
    fn from(test: SmokeTest) -> String {
        test.to_string()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(typed: &str) -> Result<SmokeTest, String> {
        typed.parse()
    }

    #[test]
    fn a_test_is_a_request_a_status_and_a_text() {
        for (typed, method, url, expected, text) in [
            ("/health", "GET", "/health", "2xx or 3xx", None),
            ("/health=200", "GET", "/health", "200", None),
            ("/health=2xx", "GET", "/health", "2xx", None),
            ("/gone=404 no such page", "GET", "/gone", "404", Some("no such page")),
            ("/ all, and = well", "GET", "/", "2xx or 3xx", Some("all, and = well")),
            ("HEAD /", "HEAD", "/", "2xx or 3xx", None),
            ("GET https://shop.example/cart=200", "GET", "https://shop.example/cart", "200", None),
            ("POST http://shop.example:8080=5xx x", "POST", "http://shop.example:8080/", "5xx", Some("x")),
            ("/search?q=shoes", "GET", "/search?q=shoes", "2xx or 3xx", None),
            ("/search?q=shoes=200", "GET", "/search?q=shoes", "200", None),
            ("/page?id=200=2xx", "GET", "/page?id=200", "2xx", None),
            ("/page?id==200", "GET", "/page?id=", "200", None),
            ("/page?a=b&id=20", "GET", "/page?a=b&id=20", "2xx or 3xx", None),
            ("/items;v=20=301", "GET", "/items;v=20", "301", None),
        ] {
            let test = read(typed).unwrap();
            let text = text.map(str::to_owned);
            assert_eq!((test.request.method.as_str(), test.request.url().as_str()), (method, url), "{typed}");
            assert_eq!((test.expected().as_str(), &test.text), (expected, &text), "{typed}");
            assert_eq!(read(&test.to_string()), Ok(test), "it is written as it is typed");
        }
        let [fine, class, one] = ["/", "/=2xx", "/=204"].map(|typed| read(typed).unwrap());
        let admitted = |test: &SmokeTest| [200, 204, 302, 404, 500].map(|status| test.admits(status));
        assert_eq!(admitted(&fine), [true, true, true, false, false]);
        assert_eq!(admitted(&class), [true, true, false, false, false]);
        assert_eq!(admitted(&one), [false, true, false, false, false]);
    }

    #[test]
    fn what_cannot_be_tested_is_refused_in_a_sentence() {
        for (typed, why) in [
            ("", "expected a path"),
            ("=200", "expected a path"),
            ("GET", "expected a path"),
            ("GET =200", "expected a path"),
            ("health=200", "expected a path"),
            ("ftp://shop.example/=200", "expected a path"),
            ("get /", "\"get\" is no method"),
            (" /", "\"\" is no method"),
            ("http://user@shop/", "is no host"),
            ("/caf\u{e9}", "cannot stand in a URL"),
            ("/a#b=200", "cannot stand in a URL"),
            ("/=", "\"\" is no status"),
            ("/=20", "\"20\" is no status"),
            ("/=2000", "\"2000\" is no status"),
            ("/=2XX", "\"2XX\" is no status"),
            ("/=100", "\"100\" is no status"),
            ("/=600", "\"600\" is no status"),
            ("/=ok", "\"ok\" is no status"),
            ("/search?q=a=20", "write /search?q=a=20=2xx"),
            ("/page?id=200", "write /page?id=200=2xx to ask for all of it, or /page?id==200"),
            ("/page?a=b&id=2xx", "can be the status or a part of the query"),
            ("/ ", "no text stands"),
            ("/=200  ", "no text stands"),
            ("/ a\nb", "control characters"),
            ("HEAD / text", "an answer to HEAD"),
        ] {
            let refusal = read(typed).expect_err(typed);
            assert!(refusal.contains(why), "{typed:?}: {refusal}");
            assert!(!refusal.contains('\n'), "{refusal}");
        }
        assert!(timeout("0").is_err() && timeout("x").is_err() && timeout("0.5") == Ok(Duration::from_millis(500)));
    }
}
