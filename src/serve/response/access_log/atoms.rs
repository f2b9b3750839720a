//! gunicorn's atoms.

use std::{borrow::Cow, time::Duration};

use super::{batch::Batch, line::told};
use crate::{request::incoming::Incoming, response::Outgoing};

/// `%(t)s`, for strftime(3).
pub const TIME: &str = "[%d/%b/%Y:%H:%M:%S %z]";

/// What stands for the atom of this letter. Not inlined: lines of JSON would make ready what atoms need.
#[inline(never)]
pub fn atom(batch: &mut Batch, letter: u8, incoming: &Incoming, outgoing: &Outgoing, took: Duration) {
    let head = &incoming.head;
    let mut number = |value: u64| batch.extend_number(value);
    match letter {
        b's' if outgoing.status > 0 => number(outgoing.status.into()),
        b'B' => number(outgoing.body_sent()),
        b'b' if outgoing.body_sent() > 0 => number(outgoing.body_sent()),
        b'T' => number(took.as_secs()),
        b'M' => number(took.as_millis() as u64),
        b'D' => number(took.as_micros() as u64),
        b'L' => batch.extend(format!("{:.6}", took.as_secs_f64()).as_bytes()),
        b'p' => batch.extend(format!("<{}>", std::process::id()).as_bytes()),
        b'h' => quoted(batch, told(incoming.client.address.as_bytes())),
        b'r' => quoted(batch, told(incoming.line_bytes())),
        b'm' => quoted(batch, told(head.method.of(&incoming.bytes))),
        b'U' => quoted(batch, Some(head.path.of(&incoming.bytes))),
        b'q' => quoted(batch, Some(head.query.of(&incoming.bytes))),
        b'H' => batch.extend(incoming.version()),
        b'f' => quoted(batch, head.value(&incoming.bytes, b"referer")),
        b'a' => quoted(batch, head.value(&incoming.bytes, b"user-agent")),
        b'u' => quoted(batch, user(incoming).as_deref()),
        _ => batch.push(b'-'),
    }
}

/// A value from outside, escaped so that it cannot end the line or the quotes around it. `-` where there is none.
pub fn quoted(batch: &mut Batch, value: Option<&[u8]>) {
    let Some(value) = value else { return batch.push(b'-') };
    let is_plain = |byte: u8| matches!(byte, b' '..=b'~') && !b"\"\\".contains(&byte);
    if value.iter().fold(true, |all, &byte| all & is_plain(byte)) {
        return batch.extend(value);
    }
    for &byte in value {
        match byte {
            b'"' | b'\\' => batch.extend(&[b'\\', byte]),
            byte if is_plain(byte) => batch.push(byte),
            byte => batch.extend(format!("\\x{byte:02x}").as_bytes()),
        }
    }
}

/// Who uses the client: as a web server says that speaks the uwsgi protocol, or as the client's own credentials say.
pub fn user(incoming: &Incoming) -> Option<Cow<'_, [u8]>> {
    let told = incoming.client.variables.iter().rfind(|(name, _)| name == "REMOTE_USER");
    let told = told.map(|(_, user)| user).filter(|user| !user.is_empty());
    let claimed = || incoming.head.value(&incoming.bytes, b"authorization").and_then(basic_user).map(Cow::Owned);
    told.map(|user| Cow::Borrowed(&user[..])).or_else(claimed)
}

/// The user's name in Basic credentials (RFC 7617).
fn basic_user(credentials: &[u8]) -> Option<Vec<u8>> {
    let (scheme, encoded) = credentials.split_at_checked(6)?;
    if !scheme.eq_ignore_ascii_case(b"basic ") {
        return None;
    }
    let mut decoded = Vec::new();
    let (mut bits, mut count) = (0u32, 0);
    for byte in encoded.trim_ascii().iter().take_while(|byte| **byte != b'=') {
        let value =
            b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/".iter().position(|b| b == byte)?;
        (bits, count) = (bits << 6 | value as u32, count + 6);
        if count >= 8 {
            count -= 8;
            decoded.push((bits >> count) as u8);
        }
    }
    decoded.split(|byte| *byte == b':').next().map(<[u8]>::to_vec)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nobody_can_forge_a_line() {
        let mut batch = Batch::default();
        quoted(&mut batch, Some(b"a\"b\nc\xff d \\x0a\\"));
        assert_eq!(batch.bytes(), b"a\\\"b\\x0ac\\xff d \\\\x0a\\\\");
    }

    #[test]
    fn the_user_is_named() {
        assert_eq!(basic_user(b"Basic YWxhZGRpbjpvcGVuc2VzYW1l").unwrap(), b"aladdin");
        assert_eq!(basic_user(b"Bearer YWxhZGRpbjpvcGVuc2VzYW1l"), None);
        assert_eq!(basic_user(b"Basic !"), None);
    }
}
