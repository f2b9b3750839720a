//! Reads request heads (RFC 9112 §2 to §6), strictly: a head has one reading or is refused.
//!
//! The line is the unit. Bytes are looked at once to find a line's end, and once more when the line is whole; so a head that comes byte
//! by byte costs no more than one that comes at once, and gets the same verdict.

use crate::{
    Refusal,
    syntax::{self, Line, PLAIN, TARGET, TOKEN, run, trim_end, trim_start},
    target,
};

mod meaning;

use meaning::{Codings, Connection};

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
    fn new(start: usize, end: usize) -> Self {
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

/// Limits in bytes or lines. Zero stands for none.
#[derive(Debug, Clone, Copy)]
pub struct Limits {
    /// Of the request line without its CRLF; 414 above.
    pub line: usize,
    /// Number of field lines; 431 above. Never more than 65535.
    pub fields: usize,
    /// Of one field line without its CRLF; 431 above.
    pub field: usize,
    /// Of the whole head; 431 above (414 if the request line alone is longer). Never more than 4 GiB.
    pub head: usize,
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
    /// `Expect: 100-continue` from a peer that speaks 1.1 and has a body to send.
    pub expects_continue: bool,
    /// Index into `fields` of the Host field.
    pub host: Option<u16>,
    /// Bytes of the head, the empty line included.
    pub length: usize,
    /// Whether a field has a name with an underscore.
    pub(crate) odd_name: bool,
    /// Whether a field tells what proxies have seen; see forwarded.rs.
    pub(crate) forwarding: bool,
    has_content_type: bool,
    progress: Progress,
    codings: Codings,
    connection: Connection,
}

/// How far the reading has come.
#[derive(Debug, Default)]
struct Progress {
    stage: Stage,
    /// Offset of the line that is being read.
    line: usize,
    /// Offset behind the bytes of it that have been looked at.
    seen: usize,
}

#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
enum Stage {
    #[default]
    Start,
    RequestLine,
    Fields,
}

impl RequestHead {
    /// Reads a head from the beginning of `input`. Call again with more input after [`Parse::Partial`] (the same bytes
    /// and more behind them): it goes on where it left off. After [`Parse::Complete`] or a refusal call
    /// [`RequestHead::clear`] first.
    ///
    /// One empty line before the request line is skipped (RFC 9112 §2.2), and counts in [`RequestHead::length`].
    pub fn parse(&mut self, input: &[u8], limits: &Limits) -> Result<Parse, Refusal> {
        // A span's offsets have 32 bits.
        let whole = bound(limits.head).min(u32::MAX as usize);
        let input = &input[..input.len().min(whole)];
        loop {
            let Progress { stage, line: start, seen } = self.progress;
            let limit = bound(if stage == Stage::Fields { limits.field } else { limits.line });
            let end = match syntax::line(input, start, seen, limit)? {
                Line::EndsAt(end) => end,
                Line::Open(_) if input.len() == whole => return Err(self.too_large()),
                Line::Open(seen) => {
                    self.progress.seen = seen;
                    return Ok(Parse::Partial);
                }
                Line::TooLong => return Err(self.too_large()),
            };
            self.progress = Progress { stage, line: end + 2, seen: end + 2 };
            self.progress.stage = match stage {
                Stage::Start if end == start => Stage::RequestLine,
                Stage::Start | Stage::RequestLine => {
                    self.request_line(input, start, end)?;
                    Stage::Fields
                }
                Stage::Fields if end == start => {
                    self.length = end + 2;
                    return self.conclude().map(|()| Parse::Complete);
                }
                Stage::Fields if self.fields.len() >= bound(limits.fields).min(usize::from(u16::MAX)) => {
                    return Err(Refusal::fields_too_large("too many fields"));
                }
                Stage::Fields => {
                    self.field(input, start, end)?;
                    Stage::Fields
                }
            };
        }
    }

    /// Makes it ready for the next request.
    pub fn clear(&mut self) {
        let mut fields = std::mem::take(&mut self.fields);
        fields.clear();
        *self = Self { fields, ..Self::default() };
    }

    /// The value of the first field of this name; names compare without case. `bytes` are the head's.
    pub fn value<'a>(&self, bytes: &'a [u8], name: &[u8]) -> Option<&'a [u8]> {
        let mut fields = self.fields.iter();
        fields.find(|field| field.name.of(bytes).eq_ignore_ascii_case(name)).map(|field| field.value.of(bytes))
    }

    fn too_large(&self) -> Refusal {
        match self.progress.stage {
            Stage::Start | Stage::RequestLine => Refusal::line_too_long("request line too long"),
            Stage::Fields => Refusal::fields_too_large("fields too long"),
        }
    }

    /// `method SP request-target SP HTTP-version` (RFC 9112 §3), with single spaces.
    fn request_line(&mut self, input: &[u8], start: usize, end: usize) -> Result<(), Refusal> {
        let line = &input[start..end];
        let method = run(line, TOKEN);
        if method == 0 || line.get(method) != Some(&b' ') {
            return Err(Refusal::malformed("no method at the beginning"));
        }
        let target = method + 1;
        let behind = target + run(&line[target..], TARGET);
        if behind == target {
            return Err(Refusal::malformed("no target behind the method"));
        }
        self.version = match &line[behind..] {
            b" HTTP/1.1" => Version::Http11,
            b" HTTP/1.0" => Version::Http10,
            [b' ', b'H', b'T', b'T', b'P', b'/', major @ b'0'..=b'9', b'.', b'0'..=b'9'] => match major {
                b'1' => Version::Http11,
                _ => return Err(Refusal::version("version of HTTP other than 1")),
            },
            [] => return Err(Refusal::malformed("no version behind the target")),
            [b' ', ..] => return Err(Refusal::malformed("no version of HTTP behind the target")),
            _ => return Err(Refusal::malformed("target with a character that has no place there")),
        };
        let parts = target::parts(&line[..method], &line[target..behind])?;
        let base = start + target;
        let span = |(from, to): (usize, usize)| Span::new(base + from, base + to);
        self.method = Span::new(start, start + method);
        self.target = Span::new(base, start + behind);
        self.path = span(parts.path);
        self.query = span(parts.query);
        self.authority = parts.authority.map(span);
        Ok(())
    }

    /// `field-name ":" OWS field-value OWS` (RFC 9112 §5).
    #[inline]
    fn field(&mut self, input: &[u8], start: usize, end: usize) -> Result<(), Refusal> {
        let line = &input[start..end];
        let (length, classes) = syntax::token(line);
        if length == 0 || line.get(length) != Some(&b':') {
            return Err(no_name(line, length));
        }
        let name = &line[..length];
        let rest = trim_start(&line[length + 1..]);
        let (begin, value) = (end - rest.len(), trim_end(rest));
        self.odd_name |= classes & PLAIN == 0;
        self.fields
            .push(Field { name: Span::new(start, start + length), value: Span::new(begin, begin + value.len()) });
        self.note(name, value)
    }
}

fn bound(limit: usize) -> usize {
    if limit == 0 { usize::MAX } else { limit }
}

/// Says what is wrong with a field line that begins with a token of this length.
#[cold]
fn no_name(line: &[u8], length: usize) -> Refusal {
    Refusal::malformed(match (length, line.get(length)) {
        (_, None) => "field line without a colon",
        (0, Some(b' ' | b'\t')) => "folded field line",
        (0, Some(_)) => "field without a name",
        (_, Some(b' ' | b'\t')) => "white space behind a field's name",
        (_, Some(_)) => "field's name with a character that has no place there",
    })
}

#[cfg(test)]
mod tests;
