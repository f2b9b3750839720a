//! Writes response heads (RFC 9112 §4 to §6), and holds applications to PEP 3333 while they build them.
//!
//! Fields are checked and laid out as they come, so that sending is a copy; nothing that was not checked reaches the buffer.

use std::ops::Range;

pub use crate::answer::{Answer, error_answer};
use crate::{
    RequestHead, Version,
    syntax::{decimal, is_field_value, is_name, is_token_text},
};

/// What an application may not put into a head.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Misuse {
    /// What and why, for a Python exception.
    pub text: String,
    /// It is a sound field that only the server may send: without it the response is right.
    pub hop_by_hop: bool,
}

/// A response head while the application builds it: status line and fields in the order given, checked one by one.
/// Reused from response to response, so that its buffer is allocated once.
#[derive(Debug, Default)]
pub struct ResponseHead {
    /// Status line and field lines as they are sent.
    lines: Vec<u8>,
    /// 0 before `begin`.
    status: u16,
    content_length: Option<u64>,
    /// Where Content-Length stands in `lines`.
    length_line: Range<usize>,
    has_date: bool,
    has_server: bool,
}

/// How the end of a response's body is made known.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ResponseFraming {
    /// `Content-Length`, as the application said or as the server counted.
    Length(u64),
    /// `Transfer-Encoding: chunked`
    Chunked,
    /// The connection's end (to an HTTP/1.0 client).
    Close,
    /// The status or the method forbids a body (RFC 9110 §6.4.1). A Content-Length of the application's stays (HEAD, 304).
    Bodiless,
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
        self.lines.extend_from_slice(b"HTTP/1.1 ");
        self.lines.extend_from_slice(status);
        self.lines.extend_from_slice(b"\r\n");
        Ok(())
    }

    /// Appends a field. Refused: a name that is no token, a value with CR, LF or NUL or another control character but HTAB, hop-by-hop fields
    /// (PEP 3333), a Content-Length that is no number or a second, different one.
    #[inline]
    pub fn field(&mut self, name: &[u8], value: &[u8]) -> Result<(), Misuse> {
        check(name, value)?;
        match name.len() {
            4 if is_name(name, b"date") => self.has_date = true,
            6 if is_name(name, b"server") => self.has_server = true,
            14 if is_name(name, b"content-length") => return self.length_field(name, value),
            _ => {}
        }
        append(&mut self.lines, name, value);
        Ok(())
    }

    /// A second, equal Content-Length is left out (RFC 9110 §8.6).
    fn length_field(&mut self, name: &[u8], value: &[u8]) -> Result<(), Misuse> {
        let length = decimal(value).ok_or_else(|| misuse("Content-Length is no number", value))?;
        match self.content_length.replace(length) {
            None => {
                let start = self.lines.len();
                append(&mut self.lines, name, value);
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

    /// The application's Content-Length.
    pub fn content_length(&self) -> Option<u64> {
        self.content_length
    }

    /// How a body of this response to this request is framed; `whole` is its length where all of it is known. The application's
    /// Content-Length goes before it.
    pub fn framing(&self, request: &RequestHead, head_request: bool, whole: Option<u64>) -> ResponseFraming {
        if head_request || matches!(self.status, 204 | 304) {
            return ResponseFraming::Bodiless;
        }
        match (self.content_length.or(whole), request.version) {
            (Some(length), _) => ResponseFraming::Length(length),
            (None, Version::Http11) => ResponseFraming::Chunked,
            (None, Version::Http10) => ResponseFraming::Close,
        }
    }

    /// Appends the whole head to `out`: status line, the application's fields, and `Date`, `Server` (unless the application gave
    /// them; no Server where `server` is empty), the framing's field, `Connection: close` or, to a 1.0 client that asked for it,
    /// `keep-alive`; and the empty line. `date` is an IMF-fixdate. A body that ends with the connection always closes it.
    pub fn write(
        &self,
        out: &mut Vec<u8>,
        framing: ResponseFraming,
        version: Version,
        keep_alive: bool,
        date: &[u8; 29],
        server: &[u8],
    ) {
        out.reserve(self.lines.len() + server.len() + 160);
        match (framing, self.status) {
            // RFC 9110 §8.6: no Content-Length with 204, nor beside another framing.
            (ResponseFraming::Chunked | ResponseFraming::Close, _) | (ResponseFraming::Bodiless, 204) => {
                out.extend_from_slice(&self.lines[..self.length_line.start]);
                out.extend_from_slice(&self.lines[self.length_line.end..]);
            }
            (ResponseFraming::Length(_) | ResponseFraming::Bodiless, _) => out.extend_from_slice(&self.lines),
        }
        if !self.has_date {
            append(out, b"Date", date);
        }
        if !self.has_server && !server.is_empty() {
            append(out, b"Server", server);
        }
        match framing {
            ResponseFraming::Length(length) if self.content_length.is_none() => {
                append(out, b"Content-Length", itoa::Buffer::new().format(length).as_bytes());
            }
            ResponseFraming::Chunked => out.extend_from_slice(b"Transfer-Encoding: chunked\r\n"),
            ResponseFraming::Length(_) | ResponseFraming::Close | ResponseFraming::Bodiless => {}
        }
        if !keep_alive || framing == ResponseFraming::Close {
            out.extend_from_slice(b"Connection: close\r\n");
        } else if version == Version::Http10 {
            out.extend_from_slice(b"Connection: keep-alive\r\n");
        }
        out.extend_from_slice(b"\r\n");
    }

    /// The value of the application's first field of this name, for the access log's `%({name}o)s`. Names compare without case.
    pub fn value(&self, name: &[u8]) -> Option<&[u8]> {
        let lines = self.lines.split(|&byte| byte == b'\n').skip(1);
        let mut fields = lines.filter_map(|line| line.strip_suffix(b"\r")).filter_map(|line| {
            let colon = memchr::memchr(b':', line)?;
            Some((&line[..colon], &line[colon + 2..]))
        });
        fields.find(|(field, _)| field.eq_ignore_ascii_case(name)).map(|(_, value)| value)
    }
}

/// Checks one field of a 103 (Early Hints), by the same rules as a response's, and appends its line to `lines`.
pub fn early_hint(lines: &mut Vec<u8>, name: &[u8], value: &[u8]) -> Result<(), Misuse> {
    check(name, value)?;
    if name.eq_ignore_ascii_case(b"content-length") {
        return Err(misuse("field has no place in early hints", name));
    }
    append(lines, name, value);
    Ok(())
}

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

// Always, because a constant name is then moved rather than copied by a call.
#[inline(always)]
pub(crate) fn append(out: &mut Vec<u8>, name: &[u8], value: &[u8]) {
    out.reserve(name.len() + value.len() + 4);
    out.extend_from_slice(name);
    out.extend_from_slice(b": ");
    out.extend_from_slice(value);
    out.extend_from_slice(b"\r\n");
}

#[cold]
fn misuse(what: &str, culprit: &[u8]) -> Misuse {
    Misuse { text: format!("{what}: '{}'", culprit.escape_ascii()), hop_by_hop: false }
}

/// `HTTP/1.1 100 Continue`
pub const CONTINUE: &[u8] = b"HTTP/1.1 100 Continue\r\n\r\n";

#[cfg(test)]
mod tests;
