//! A request's head as a value: spans of the bytes that it was read from, and what they mean. h1/ reads them.

use crate::syntax::is_name;

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
    #[inline]
    pub fn of<'a>(&self, bytes: &'a [u8]) -> &'a [u8] {
        &bytes[self.start as usize..self.end as usize]
    }

    #[inline]
    pub(crate) fn new(start: usize, end: usize) -> Self {
        Self { start: start as u32, end: end as u32 }
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
    /// How the body ends.
    pub framing: Framing,
    /// Whether the connection may be used again, as far as the request says.
    pub keep_alive: bool,
    /// `Expect: 100-continue` from a peer that speaks 1.1 and has a body to send.
    pub expects_continue: bool,
    /// Index into `fields` of the Host field.
    pub host: Option<u16>,
    /// Bytes of the head, the empty line included.
    pub length: usize,
    /// Whether a field has a name with an underscore.
    pub(crate) odd_name: bool,
    /// Whether a field tells what proxies have seen; see proxy/forwarded.rs.
    pub forwarding: bool,
}

impl RequestHead {
    /// Makes it ready for the next request.
    pub fn clear(&mut self) {
        let mut fields = std::mem::take(&mut self.fields);
        fields.clear();
        *self = Self { fields, ..Self::default() };
    }

    /// The value of the first field of this name, which is of small letters and hyphens. `bytes` are the head's.
    #[inline]
    pub fn value<'a, const N: usize>(&self, bytes: &'a [u8], name: &[u8; N]) -> Option<&'a [u8]> {
        self.first(bytes, |known| is_name(known, name))
    }

    /// The same for any name; names compare without case.
    pub fn value_of_any<'a>(&self, bytes: &'a [u8], name: &[u8]) -> Option<&'a [u8]> {
        self.first(bytes, |known| known.eq_ignore_ascii_case(name))
    }

    /// The values of all fields of a name, in the order of the wire; names compare without case.
    pub fn values<'a>(&'a self, bytes: &'a [u8], name: &'a [u8]) -> impl Iterator<Item = &'a [u8]> {
        let same = self.fields.iter().filter(move |field| field.name.of(bytes).eq_ignore_ascii_case(name));
        same.map(|field| field.value.of(bytes))
    }

    fn first<'a>(&self, bytes: &'a [u8], is_it: impl Fn(&[u8]) -> bool) -> Option<&'a [u8]> {
        self.fields.iter().find(|field| is_it(field.name.of(bytes))).map(|field| field.value.of(bytes))
    }
}
