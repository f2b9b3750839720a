//! The values of JSON (RFC 8259).

use std::time::Duration;

use ostler_wire::{access_format::Field, log::is_unprintable};

use super::{
    atoms::user,
    batch::Batch,
    line::{Finished, told},
};
use crate::shared::Shared;

/// The present second, for strftime(3): the milliseconds are filled in.
pub const TIME: &str = "%Y-%m-%dT%H:%M:%S.000%:z";
/// Where those are.
const MILLISECONDS: usize = "2026-11-27T08:00:00.".len();

/// What a worker tells again and again, as it is written.
pub fn constant(field: Field, shared: &Shared) -> Option<String> {
    match field {
        Field::Worker => Some(shared.slot.to_string()),
        Field::Generation => Some(shared.boot.generation.to_string()),
        Field::Pid => Some(std::process::id().to_string()),
        _ => None,
    }
}

/// Appends the value of a field. `time`: the present second.
#[inline]
pub fn value(batch: &mut Batch, field: Field, finished: Finished, time: &str) {
    let Finished { incoming, outgoing, times } = finished;
    let (head, bytes) = (&incoming.head, &incoming.bytes[..]);
    match field {
        Field::Time => moment(batch, time, times.millisecond),
        Field::RequestId => text(batch, told(incoming.id.as_bytes())),
        Field::Client => text(batch, told(incoming.client.address.as_bytes())),
        Field::Method => text(batch, told(head.method.of(bytes))),
        Field::Path => text(batch, told(head.path.of(bytes))),
        Field::Query => text(batch, told(head.path.of(bytes)).map(|_| head.query.of(bytes))),
        Field::Status => number(batch, (outgoing.status > 0).then_some(outgoing.status.into())),
        Field::BytesIn => number(batch, Some(incoming.arrival.body)),
        Field::BytesOut => number(batch, Some(outgoing.body_sent())),
        Field::QueueTime => seconds(batch, times.queue),
        Field::ApplicationTime => seconds(batch, times.call),
        Field::TotalTime => seconds(batch, Some(times.total)),
        Field::UserAgent => text(batch, head.value(bytes, b"user-agent")),
        Field::Referrer => text(batch, head.value(bytes, b"referer")),
        Field::Host => match &incoming.client.host {
            Some(host) => text(batch, Some(host.as_bytes())),
            None => text(batch, head.value(bytes, b"host")),
        },
        Field::Scheme => text(batch, Some(if incoming.client.https { b"https" } else { b"http" })),
        Field::Protocol => text(batch, told(head.method.of(bytes)).map(|_| incoming.version())),
        Field::User => text(batch, user(incoming).as_deref()),
        // A text by now: see `constant`.
        Field::Worker | Field::Generation | Field::Pid => {}
    }
}

/// As in the error log.
fn moment(batch: &mut Batch, time: &str, millisecond: u32) {
    batch.push(b'"');
    let free = batch.free(time.len());
    free[..time.len()].copy_from_slice(time.as_bytes());
    if let Some(place) = free[..time.len()].get_mut(MILLISECONDS..MILLISECONDS + 3) {
        place.copy_from_slice(&[100, 10, 1].map(|unit| digit(millisecond / unit)));
    }
    batch.fill(time.len());
    batch.push(b'"');
}

/// With six digits behind the point.
#[inline(never)]
fn seconds(batch: &mut Batch, duration: Option<Duration>) {
    let Some(duration) = duration else { return batch.extend(b"null") };
    batch.extend_number(duration.as_secs());
    let micros = duration.subsec_micros();
    let digits = [100_000, 10_000, 1000, 100, 10, 1].map(|unit| digit(micros / unit));
    batch.extend(&[b'.', digits[0], digits[1], digits[2], digits[3], digits[4], digits[5]]);
}

fn digit(number: u32) -> u8 {
    b'0' + (number % 10) as u8
}

fn number(batch: &mut Batch, number: Option<u64>) {
    match number {
        Some(number) => batch.extend_number(number),
        None => batch.extend(b"null"),
    }
}

/// Appends a text from outside, or null. What is not UTF-8 becomes U+FFFD; what a terminal would obey is escaped.
pub fn text(batch: &mut Batch, value: Option<&[u8]>) {
    let Some(value) = value else { return batch.extend(b"null") };
    if !batch.extend_quoted(value) {
        escaped(batch, value);
    }
}

#[cold]
fn escaped(batch: &mut Batch, value: &[u8]) {
    batch.push(b'"');
    for c in String::from_utf8_lossy(value).chars() {
        match c {
            '"' | '\\' => batch.extend(&[b'\\', c as u8]),
            // All of these have four digits.
            c if is_unprintable(c) => batch.extend(format!("\\u{:04x}", u32::from(c)).as_bytes()),
            c => batch.extend(c.encode_utf8(&mut [0; 4]).as_bytes()),
        }
    }
    batch.push(b'"');
}

#[cfg(test)]
mod tests {
    use super::*;

    fn json(append: impl Fn(&mut Batch)) -> serde_json::Value {
        let mut batch = Batch::default();
        append(&mut batch);
        let batch = batch.bytes();
        assert!(!batch.iter().any(u8::is_ascii_control), "{}", batch.escape_ascii());
        serde_json::from_slice(batch).unwrap_or_else(|error| panic!("{}: {error}", batch.escape_ascii()))
    }

    #[test]
    fn whatever_a_client_sends_is_a_text_of_json() {
        assert_eq!(json(|batch| text(batch, None)), serde_json::Value::Null);
        // A sequence that looks random (Knuth's generator), of the bytes that matter.
        let telling = b"\"\\/\x00\x08\n\r\t\x1b\x1f\x7f\x80\xa8\xbf\xc2\xe2\xed\xf0\xf4\xff u{}a";
        let mut state = 1u64;
        for length in (0..50).cycle().take(5000) {
            let mut next = || {
                state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
                telling[(state >> 33) as usize % telling.len()]
            };
            let sent: Vec<u8> = (0..length).map(|_| next()).collect();
            assert_eq!(json(|batch| text(batch, Some(&sent))), String::from_utf8_lossy(&sent).as_ref());
        }
        for c in (0..=0xffff).filter_map(char::from_u32) {
            let sent = c.to_string();
            assert_eq!(json(|batch| text(batch, Some(sent.as_bytes()))), sent);
        }
    }

    #[test]
    fn times_are_numbers_of_seconds() {
        let of = |micros| json(|batch| seconds(batch, Some(Duration::from_micros(micros)))).as_f64();
        assert_eq!([0, 7, 250_000, 61_000_001].map(of), [0.0, 0.000_007, 0.25, 61.000_001].map(Some));
        let mut batch = Batch::default();
        moment(&mut batch, "2026-11-27T08:00:00.000+01:00", 47);
        assert_eq!(batch.bytes(), b"\"2026-11-27T08:00:00.047+01:00\"");
    }
}
