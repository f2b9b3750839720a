//! What a request is called and when it began, as a proxy in front says: X-Request-ID, traceparent (W3C Trace Context) and X-Request-Start.
//!
//! Only what a trusted peer says counts. Nothing here may be read from another.

use std::time::Duration;

use crate::{RequestHead, syntax};

const REQUEST_ID: &[u8] = b"x-request-id";
/// The longest name of a request.
pub const LONGEST_ID: usize = 64;

/// What a trusted peer calls a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Told<'a> {
    /// By X-Request-ID.
    Id(&'a str),
    /// By the trace of its traceparent: 32 hexadecimal digits.
    Trace(&'a str),
    /// By an X-Request-ID that is none: too long, with other characters than letters, digits and `+-./:=@_`, or there are two,
    /// or its name is spelt with an underscore.
    Unclean,
    /// Not at all.
    Nothing,
}

/// What the head's fields call the request.
pub fn told<'a>(head: &RequestHead, bytes: &'a [u8]) -> Told<'a> {
    let mut ids = head.fields.iter().filter(|field| is_request_id(field.name.of(bytes)));
    match (ids.next(), ids.next()) {
        (None, _) => head.value(bytes, b"traceparent").and_then(trace).map_or(Told::Nothing, Told::Trace),
        (Some(id), None) if id.name.of(bytes).eq_ignore_ascii_case(REQUEST_ID) => {
            clean(id.value.of(bytes)).map_or(Told::Unclean, Told::Id)
        }
        (Some(_), _) => Told::Unclean,
    }
}

/// Adds the fields that become the variable of X-Request-ID to those that are hidden, in their order.
pub fn hide(head: &RequestHead, bytes: &[u8], hidden: &mut Vec<u16>) {
    let fields = (0..).zip(&head.fields).filter(|(_, field)| is_request_id(field.name.of(bytes)));
    for (index, _) in fields {
        if let Err(place) = hidden.binary_search(&index) {
            hidden.insert(place, index);
        }
    }
}

fn is_request_id(name: &[u8]) -> bool {
    name.len() == REQUEST_ID.len() && syntax::is_same_variable(name, REQUEST_ID)
}

fn clean(id: &[u8]) -> Option<&str> {
    let all = id.iter().all(|byte| byte.is_ascii_alphanumeric() || b"+-./:=@_".contains(byte));
    let id = std::str::from_utf8(id).ok()?;
    (all && (1..=LONGEST_ID).contains(&id.len())).then_some(id)
}

/// The trace's id: `00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01`. A later version may say more behind it.
fn trace(value: &[u8]) -> Option<&str> {
    let value = std::str::from_utf8(value).ok()?;
    let [version, trace, parent, flags] = value.splitn(4, '-').collect::<Vec<_>>()[..] else { return None };
    let is_hex = |text: &str, length| {
        text.len() == length && text.bytes().all(|byte| byte.is_ascii_digit() || (b'a'..=b'f').contains(&byte))
    };
    let ends = match version {
        "00" => is_hex(flags, 2),
        _ => {
            flags.get(..2).is_some_and(|first| is_hex(first, 2)) && matches!(flags.as_bytes().get(2), None | Some(b'-'))
        }
    };
    let well_formed = is_hex(version, 2) && version != "ff" && is_hex(parent, 16) && is_hex(trace, 32) && ends;
    (well_formed && trace.bytes().any(|byte| byte != b'0')).then_some(trace)
}

/// When the head's X-Request-Start says that the proxy had the request, since 1970: `t=1512379167.574` of nginx, and a number of seconds,
/// milliseconds or microseconds with or without the `t=`.
pub fn request_start(head: &RequestHead, bytes: &[u8]) -> Option<Duration> {
    let value = head.value(bytes, b"x-request-start")?;
    let value = value.strip_prefix(b"t=").unwrap_or(value);
    let (whole, fraction) = match memchr::memchr(b'.', value) {
        Some(point) => (&value[..point], &value[point + 1..]),
        None => (value, &b""[..]),
    };
    let whole = syntax::decimal(whole)?;
    // Which unit it is tells its size: until the year 5138, seconds have no more than eleven digits.
    match whole {
        0..100_000_000_000 => Some(Duration::from_secs(whole) + fraction_of_a_second(fraction)?),
        100_000_000_000..100_000_000_000_000 => Some(Duration::from_millis(whole)),
        100_000_000_000_000..100_000_000_000_000_000 => Some(Duration::from_micros(whole)),
        _ => None,
    }
}

fn fraction_of_a_second(digits: &[u8]) -> Option<Duration> {
    let all = digits.iter().all(u8::is_ascii_digit) && digits.len() <= 9;
    let value = digits.iter().fold(0, |value, digit| value * 10 + u64::from(digit - b'0'));
    all.then(|| Duration::from_nanos(value * 10u64.pow(9 - digits.len() as u32)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::h1::{Limits, Parse, RequestReader};

    fn with<T>(fields: &str, look: impl FnOnce(&RequestHead, &[u8]) -> T) -> T {
        let bytes = format!("GET / HTTP/1.1\r\nHost: a\r\n{fields}\r\n");
        let mut head = RequestHead::default();
        let limits = Limits { line: 100, fields: 10, field: 300, head: 1000 };
        assert_eq!(
            RequestReader::default().read(&mut head, bytes.as_bytes(), &limits),
            Ok(Parse::Complete),
            "{fields}"
        );
        look(&head, bytes.as_bytes())
    }

    #[test]
    fn a_clean_id_is_taken_and_no_other() {
        let told = |fields: &str, expected: Told| {
            with(fields, |head, bytes| assert_eq!(told(head, bytes), expected, "{fields}"))
        };
        for id in ["a", "6f9619ff-8b86-d011-b42d-00c04fc964ff", "0A0A:1F_8.b/c=+@", &"x".repeat(64)] {
            told(&format!("x-request-ID:  {id} \r\n"), Told::Id(id));
        }
        for id in ["", "a b", "a,b", "é", "a\"b", "a\\b", "<a>", &"x".repeat(65)] {
            told(&format!("X-Request-Id: {id}\r\n"), Told::Unclean);
        }
        told("X-Request-Id: a\r\nX-Request-Id: a\r\n", Told::Unclean);
        told("X-Request-Id: a\r\nX_Request_Id: b\r\n", Told::Unclean);
        told("X_Request-Id: a\r\n", Told::Unclean);
        told("X-Request-Ix: a\r\n", Told::Nothing);
    }

    #[test]
    fn a_trace_names_a_request_that_has_no_id() {
        const TRACE: &str = "4bf92f3577b34da6a3ce929d0e0e4736";
        let told = |value: &str| {
            with(&format!("TraceParent: {value}\r\n"), |head, bytes| told(head, bytes) == Told::Trace(TRACE))
        };
        for value in ["00-T-00f067aa0ba902b7-01", "01-T-00f067aa0ba902b7-01", "01-T-00f067aa0ba902b7-01-more"] {
            assert!(told(&value.replace('T', TRACE)), "{value}");
        }
        let zeros = "00-00000000000000000000000000000000-00f067aa0ba902b7-01";
        for value in [
            zeros,
            "ff-T-00f067aa0ba902b7-01",
            "00-T-00f067aa0ba902b7-01-more",
            "00-T-00f067aa0ba902b-01",
            "00-T",
            "",
            "00-T-00F067AA0BA902B7-01",
            "é-T-00f067aa0ba902b7-é",
            "01-T-00f067aa0ba902b7-é",
        ] {
            assert!(!told(&value.replace('T', TRACE)), "{value}");
        }
    }

    #[test]
    fn what_is_hidden_stays_in_order() {
        let fields = "X-Request-ID: a\r\nB: c\r\nx_request_id: b\r\n";
        let mut hidden = vec![0, 3];
        with(fields, |head, bytes| hide(head, bytes, &mut hidden));
        assert_eq!(hidden, [0, 1, 3]);
    }

    #[test]
    fn the_start_is_told_in_any_unit() {
        let start = |value: &str| with(&format!("X-Request-Start: {value}\r\n"), request_start);
        for (value, micros) in [
            ("t=1512379167.574", 1_512_379_167_574_000),
            ("1512379167", 1_512_379_167_000_000),
            ("1512379167.5", 1_512_379_167_500_000),
            ("t=1512379167574", 1_512_379_167_574_000),
            ("1512379167574.2", 1_512_379_167_574_000),
            ("t=1512379167574123", 1_512_379_167_574_123),
            ("0", 0),
        ] {
            assert_eq!(start(value), Some(Duration::from_micros(micros)), "{value}");
        }
        for value in
            ["", "t=", "now", "-1", "1512379167.x", "1512379167.0123456789", "99999999999999999999", "1e9", "t=t=1"]
        {
            assert_eq!(start(value), None, "{value}");
        }
    }
}
