//! Reads request heads (RFC 9112 §2 to §6), strictly: a head has one reading or is refused.
//!
//! It reads line by line. Each byte is looked at once to find the line's end, and once more when the line is whole. So a head that comes
//! byte by byte costs hardly more than one that comes at once, and gets the same verdict.

use crate::{
    Field, Refusal, RequestHead, Span, Version,
    syntax::{self, LineEnd, PLAIN, TARGET, TOKEN, run, trim_end, trim_start},
    target,
};
use fields::{Codings, ConnectionOptions};

mod fields;

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

/// Reads one head, at once or in pieces: this is what it keeps from one piece to the next. Each head has a new one.
#[derive(Debug, Default)]
pub struct RequestReader {
    next: NextLine,
    /// Offset of the line that is being read.
    line: usize,
    /// Offset behind the bytes that have been searched for its end.
    seen: usize,
    codings: Codings,
    connection: ConnectionOptions,
    has_content_type: bool,
}

/// What the next line is.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
enum NextLine {
    #[default]
    Start,
    RequestLine,
    Fields,
}

impl RequestReader {
    /// Reads a head from the beginning of `input` into `head`, which is clear. Call again with more input after [`Parse::Partial`] (the same
    /// bytes and more behind them): it goes on where it left off. After [`Parse::Complete`] or a refusal it is of no more use.
    ///
    /// One empty line before the request line is skipped (RFC 9112 §2.2), and counts in [`RequestHead::length`].
    pub fn read(&mut self, head: &mut RequestHead, input: &[u8], limits: &Limits) -> Result<Parse, Refusal> {
        // A span's offsets have 32 bits.
        let whole = bound(limits.head).min(u32::MAX as usize);
        let input = &input[..input.len().min(whole)];
        loop {
            let start = self.line;
            let limit = bound(if self.next == NextLine::Fields { limits.field } else { limits.line });
            let end = match syntax::line(input, start, self.seen, limit).map_err(|refusal| explained(input, refusal))? {
                LineEnd::EndsAt(end) => end,
                LineEnd::Open(_) if input.len() == whole => return Err(self.too_large()),
                LineEnd::Open(seen) => {
                    self.seen = seen;
                    return Ok(Parse::Partial);
                }
                LineEnd::TooLong => return Err(self.too_large()),
            };
            (self.line, self.seen) = (end + 2, end + 2);
            self.next = match self.next {
                NextLine::Start if end == start => NextLine::RequestLine,
                NextLine::Start | NextLine::RequestLine => {
                    request_line(head, input, start, end)?;
                    NextLine::Fields
                }
                NextLine::Fields if end == start => {
                    head.length = end + 2;
                    return self.conclude(head).map(|()| Parse::Complete);
                }
                NextLine::Fields if head.fields.len() >= bound(limits.fields).min(usize::from(u16::MAX)) => {
                    return Err(Refusal::fields_too_large("too many fields"));
                }
                NextLine::Fields => {
                    self.field(head, input, start, end)?;
                    NextLine::Fields
                }
            };
        }
    }

    fn too_large(&self) -> Refusal {
        match self.next {
            NextLine::Start | NextLine::RequestLine => Refusal::line_too_long("request line too long"),
            NextLine::Fields => Refusal::fields_too_large("fields too long"),
        }
    }

    /// `field-name ":" OWS field-value OWS` (RFC 9112 §5).
    #[inline]
    fn field(&mut self, head: &mut RequestHead, input: &[u8], start: usize, end: usize) -> Result<(), Refusal> {
        let line = &input[start..end];
        let (length, classes) = syntax::token(line);
        if length == 0 || line.get(length) != Some(&b':') {
            return Err(no_name(line, length));
        }
        let name = &line[..length];
        let rest = trim_start(&line[length + 1..]);
        let (begin, value) = (end - rest.len(), trim_end(rest));
        head.odd_name |= classes & PLAIN == 0;
        head.fields
            .push(Field { name: Span::new(start, start + length), value: Span::new(begin, begin + value.len()) });
        self.note(head, name, value)
    }
}

/// `method SP request-target SP HTTP-version` (RFC 9112 §3), with single spaces.
fn request_line(head: &mut RequestHead, input: &[u8], start: usize, end: usize) -> Result<(), Refusal> {
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
    head.version = match &line[behind..] {
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
    head.method = Span::new(start, start + method);
    head.target = Span::new(base, start + behind);
    head.path = span(parts.path);
    head.query = span(parts.query);
    head.authority = parts.authority.map(span);
    Ok(())
}

/// Names the usual mistake behind a NUL at the beginning: a packet of the uwsgi protocol.
#[cold]
fn explained(input: &[u8], refusal: Refusal) -> Refusal {
    match input.first() {
        Some(0) => Refusal::malformed("the uwsgi protocol where HTTP is spoken"),
        _ => refusal,
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
