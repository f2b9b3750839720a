//! Writes response heads, and the server's own small answers.

use crate::{RequestHead, Version};

/// What an application may not put into a head. The text says what and why, for a Python exception.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Misuse(pub String);

/// A response head while the application builds it: status line and fields in the order given, checked one by one.
/// Reused from response to response, so that its buffer is allocated once.
#[derive(Debug, Default)]
pub struct ResponseHead {}

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
    pub fn begin(&mut self, status: &[u8]) -> Result<(), Misuse> {
        let _ = status;
        unimplemented!()
    }

    /// Appends a field. Refused: a name that is no token, a value with CR, LF or NUL or another control character but HTAB, hop-by-hop fields
    /// (PEP 3333), a Content-Length that is no number or a second, different one.
    pub fn field(&mut self, name: &[u8], value: &[u8]) -> Result<(), Misuse> {
        let _ = (name, value);
        unimplemented!()
    }

    /// Whether `begin` has been called since the last `clear`.
    pub fn begun(&self) -> bool {
        unimplemented!()
    }

    /// Forgets everything but its buffer.
    pub fn clear(&mut self) {
        unimplemented!()
    }

    /// The status code.
    pub fn status(&self) -> u16 {
        unimplemented!()
    }

    /// The application's Content-Length.
    pub fn content_length(&self) -> Option<u64> {
        unimplemented!()
    }

    /// How a body of this response to this request is framed; `whole` is its length where all of it is known.
    pub fn framing(&self, request: &RequestHead, head_request: bool, whole: Option<u64>) -> ResponseFraming {
        let _ = (request, head_request, whole);
        unimplemented!()
    }

    /// Appends the whole head to `out`: status line, the application's fields, and `Date`, `Server` (unless the application gave
    /// them; no Server where `server` is empty), the framing's field, `Connection: close` or, to a 1.0 client that asked for it,
    /// `keep-alive`; and the empty line. `date` is an IMF-fixdate.
    pub fn write(
        &self,
        out: &mut Vec<u8>,
        framing: ResponseFraming,
        version: Version,
        keep_alive: bool,
        date: &[u8; 29],
        server: &[u8],
    ) {
        let _ = (out, framing, version, keep_alive, date, server);
        unimplemented!()
    }

    /// The value of a field of the response, for the access log's `%({name}o)s`. Names compare without case.
    pub fn value(&self, name: &[u8]) -> Option<&[u8]> {
        let _ = name;
        unimplemented!()
    }
}

/// `HTTP/1.1 100 Continue`
pub const CONTINUE: &[u8] = b"HTTP/1.1 100 Continue\r\n\r\n";

/// Appends a whole answer of the server's own, small and without version or path, in JSON or HTML as `accept` prefers; without
/// the body where `head_request`. `fields` are written as they are.
pub fn error_answer(
    out: &mut Vec<u8>,
    status: u16,
    accept: Option<&[u8]>,
    head_request: bool,
    keep_alive: bool,
    date: &[u8; 29],
    server: &[u8],
    fields: &[(&str, &str)],
) {
    let _ = (out, status, accept, head_request, keep_alive, date, server, fields);
    unimplemented!()
}
