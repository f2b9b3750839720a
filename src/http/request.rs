//! Reads request heads.

/// A part of the head's bytes.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Span {
    /// Offset of the first byte.
    pub start: u32,
    /// Offset behind the last byte.
    pub end: u32,
}

impl Span {
    /// The bytes it stands for.
    pub fn of<'a>(&self, bytes: &'a [u8]) -> &'a [u8] {
        &bytes[self.start as usize..self.end as usize]
    }
}

/// `HTTP/1.0` or `HTTP/1.1`; a later minor version counts as 1.1 (RFC 9110 §2.5).
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Version {
    /// HTTP/1.0
    Http10,
    /// HTTP/1.1
    #[default]
    Http11,
}

/// How the end of the request's body is known (RFC 9112 §6.3).
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Framing {
    /// There is no body.
    #[default]
    None,
    /// `Content-Length`, in bytes; zero is possible.
    Length(u64),
    /// `Transfer-Encoding: chunked`
    Chunked,
}

/// One field line, white space around the value removed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Field {
    /// As sent, not lower-cased.
    pub name: Span,
    /// May be empty.
    pub value: Span,
}

/// Limits in bytes or lines.
#[derive(Debug, Clone, Copy)]
pub struct Limits {
    /// Of the request line without its CRLF; 414 above.
    pub line: usize,
    /// Number of field lines; 431 above.
    pub fields: usize,
    /// Of one field line without its CRLF; 431 above.
    pub field: usize,
    /// Of the whole head; 431 above.
    pub head: usize,
}

/// A request that is not answered by the application: the status and one phrase for the log.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Refusal {
    /// 400, 413, 414, 417, 431, 501 or 505
    pub status: u16,
    /// What is wrong, for the log; never holds the peer's bytes.
    pub why: &'static str,
}

/// Whether there was enough to read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Parse {
    /// The head is complete; its length is [`RequestHead::length`].
    Complete,
    /// More bytes are needed. Nothing is wrong so far.
    Partial,
}

/// A request head. Reused from request to request, so that its list of fields is allocated once.
#[derive(Debug, Default)]
pub struct RequestHead {
    /// A token (RFC 9110 §9.1).
    pub method: Span,
    /// As sent.
    pub target: Span,
    /// The target's path, still percent-encoded; for the absolute form what follows the authority (`/` if nothing
    /// does); `*` for the asterisk form.
    pub path: Span,
    /// What follows the target's first `?`; empty if there is none.
    pub query: Span,
    /// The authority of an absolute-form target, which replaces the Host field (RFC 9112 §3.2.2).
    pub authority: Option<Span>,
    /// As sent.
    pub version: Version,
    /// In the order of the wire.
    pub fields: Vec<Field>,
    /// The only reading that there is.
    pub framing: Framing,
    /// Whether the connection may be used again, as far as the request says.
    pub keep_alive: bool,
    /// `Expect: 100-continue` from a peer that speaks 1.1.
    pub expects_continue: bool,
    /// Index into `fields` of the Host field.
    pub host: Option<u16>,
    /// Bytes of the head, the empty line included.
    pub length: usize,
}

impl RequestHead {
    /// Reads a head from the beginning of `input`. Call again with more input after [`Parse::Partial`] (the same bytes
    /// and more behind them): it goes on where it left off. After [`Parse::Complete`] call [`RequestHead::clear`] first.
    pub fn parse(&mut self, input: &[u8], limits: &Limits) -> Result<Parse, Refusal> {
        let _ = (input, limits);
        unimplemented!()
    }

    /// Makes it ready for the next request.
    pub fn clear(&mut self) {
        unimplemented!()
    }
}
