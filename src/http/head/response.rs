//! A response's head as a value: a status, a phrase and fields. It holds applications to PEP 3333 while they build it.
//!
//! Each field is checked as it comes; nothing that was not checked reaches the buffer.

use std::ops::Range;

use crate::syntax::{decimal, is_field_value, is_name, is_token_text};

/// What an application may not put into a head.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Misuse {
    /// What and why, for a Python exception.
    pub text: String,
    /// It is a well-formed field that only the server may send. Without it the response is right.
    pub hop_by_hop: bool,
}

/// A response head while the application builds it: the status and the fields in the order given, checked one by one.
/// Reused from response to response, so that its buffer is allocated once.
#[derive(Debug, Default)]
pub struct ResponseHead {
    /// `200 OK` and the fields as `Name: value`, each with CRLF: so HTTP/1 sends them with one copy. Other protocols ask for
    /// [`ResponseHead::fields`].
    pub(crate) lines: Vec<u8>,
    /// Where the first field stands in `lines`.
    fields_start: usize,
    /// 0 before `begin`.
    status: u16,
    content_length: Option<u64>,
    /// Where Content-Length stands in `lines`.
    pub(crate) length_line: Range<usize>,
    pub(crate) has_date: bool,
    pub(crate) has_server: bool,
    pub(crate) has_request_id: bool,
    names_file: bool,
}

impl ResponseHead {
    /// Starts over with this status, `200 OK` (without `HTTP/1.1 `): three digits from 200 to 599, a space, and a phrase without
    /// control characters.
    #[inline]
    pub fn begin(&mut self, status: &[u8]) -> Result<(), Misuse> {
        self.clear();
        let code = match status {
            [hundreds @ b'2'..=b'5', tens @ b'0'..=b'9', ones @ b'0'..=b'9', b' ', phrase @ ..]
                if is_field_value(phrase) && !phrase.contains(&b'\t') =>
            {
                [hundreds, tens, ones].iter().fold(0, |code, &digit| code * 10 + u16::from(digit - b'0'))
            }
            _ => return Err(misuse("status is not three digits from 200 to 599, a space and a phrase", status)),
        };
        self.status = code;
        self.lines.extend_from_slice(status);
        self.lines.extend_from_slice(b"\r\n");
        self.fields_start = self.lines.len();
        Ok(())
    }

    /// Appends a field. Refused: a name that is no token, a value with CR, LF or NUL or another control character but HTAB, hop-by-hop fields
    /// (PEP 3333), a Content-Length that is no number or a second, different one.
    pub fn field(&mut self, name: &[u8], value: &[u8]) -> Result<(), Misuse> {
        check(name, value)?;
        match name.len() {
            4 if is_name(name, b"date") => self.has_date = true,
            6 if is_name(name, b"server") => self.has_server = true,
            10 if is_name(name, b"x-sendfile") => self.names_file = true,
            16 if is_name(name, b"x-accel-redirect") => self.names_file = true,
            12 if matches!(name[0], b'x' | b'X') && is_name(name, b"x-request-id") => self.has_request_id = true,
            14 if is_name(name, b"content-length") => return self.length_field(name, value),
            _ => {}
        }
        append_line(&mut self.lines, name, value);
        Ok(())
    }

    /// A second, equal Content-Length is left out (RFC 9110 §8.6).
    fn length_field(&mut self, name: &[u8], value: &[u8]) -> Result<(), Misuse> {
        let length = decimal(value).ok_or_else(|| misuse("Content-Length is no number", value))?;
        match self.content_length.replace(length) {
            None => {
                let start = self.lines.len();
                append_line(&mut self.lines, name, value);
                self.length_line = start..self.lines.len();
                Ok(())
            }
            Some(first) if first == length => Ok(()),
            Some(_) => Err(misuse("second Content-Length differs from the first", value)),
        }
    }

    /// Whether `begin` has been called since the last `clear`.
    pub fn begun(&self) -> bool {
        self.status != 0
    }

    /// Forgets everything but its buffer.
    pub fn clear(&mut self) {
        let mut lines = std::mem::take(&mut self.lines);
        lines.clear();
        *self = Self { lines, ..Self::default() };
    }

    /// The status code; 0 before `begin`.
    pub fn status(&self) -> u16 {
        self.status
    }

    /// Whether it names a file that is to be sent instead of the body, by X-Sendfile or X-Accel-Redirect.
    #[inline]
    pub fn names_file(&self) -> bool {
        self.names_file
    }

    /// The application's Content-Length.
    pub fn content_length(&self) -> Option<u64> {
        self.content_length
    }

    /// The phrase behind the status; may be empty.
    pub fn phrase(&self) -> &[u8] {
        self.status_line().get(4..).unwrap_or_default()
    }

    /// What stands before the fields: `200 OK`, as [`ResponseHead::begin`] takes it.
    pub fn status_line(&self) -> &[u8] {
        self.lines.get(..self.fields_start.saturating_sub(2)).unwrap_or_default()
    }

    /// The fields as (name, value), in the order given.
    pub fn fields(&self) -> impl Iterator<Item = (&[u8], &[u8])> {
        let lines = self.field_lines().split(|&byte| byte == b'\n');
        lines.filter_map(|line| line.strip_suffix(b"\r")).filter_map(|line| {
            let colon = memchr::memchr(b':', line)?;
            Some((&line[..colon], &line[colon + 2..]))
        })
    }

    /// The fields as `Name: value` with CRLF.
    pub(crate) fn field_lines(&self) -> &[u8] {
        &self.lines[self.fields_start..]
    }

    /// The value of the application's first field of this name, for the access log's `%({name}o)s`. Names compare without case.
    pub fn value(&self, name: &[u8]) -> Option<&[u8]> {
        self.fields().find(|(field, _)| field.eq_ignore_ascii_case(name)).map(|(_, value)| value)
    }
}

/// Checks one field.
#[inline]
fn check(name: &[u8], value: &[u8]) -> Result<(), Misuse> {
    if !is_token_text(name) {
        return Err(misuse("field's name is no token", name));
    }
    if !is_field_value(value) {
        return Err(misuse("field's value has a control character", name));
    }
    if is_hop_by_hop(name) {
        return Err(Misuse { hop_by_hop: true, ..misuse("field is the server's own (PEP 3333, hop-by-hop)", name) });
    }
    Ok(())
}

/// PEP 3333's list (RFC 2616 §13.5.1, with its `Trailers` and the `Trailer` that it meant) and the old `Proxy-Connection`.
fn is_hop_by_hop(name: &[u8]) -> bool {
    let candidates: &[&[u8]] = match name.len() {
        2 => &[b"te"],
        7 => &[b"upgrade", b"trailer"],
        8 => &[b"trailers"],
        10 => &[b"connection", b"keep-alive"],
        16 => &[b"proxy-connection"],
        17 => &[b"transfer-encoding"],
        18 => &[b"proxy-authenticate"],
        19 => &[b"proxy-authorization"],
        _ => return false,
    };
    candidates.iter().any(|candidate| name.eq_ignore_ascii_case(candidate))
}

#[cold]
fn misuse(what: &str, culprit: &[u8]) -> Misuse {
    Misuse { text: format!("{what}: '{}'", culprit.escape_ascii()), hop_by_hop: false }
}

/// Appends `Name: value` and CRLF.
// Always inlined: a constant name is then stored by instructions rather than copied by a call.
#[inline(always)]
pub(crate) fn append_line(out: &mut Vec<u8>, name: &[u8], value: &[u8]) {
    out.reserve(name.len() + value.len() + 4);
    out.extend_from_slice(name);
    out.extend_from_slice(b": ");
    out.extend_from_slice(value);
    out.extend_from_slice(b"\r\n");
}
