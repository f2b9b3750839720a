//! Reads request heads (RFC 9112 §2 to §6), strictly: a head has one reading or is refused.
//!
//! It reads line by line. Each byte is looked at once to find the line's end, and once more when the line is whole. So a head that comes
//! byte by byte costs hardly more than one that comes at once, and gets the same verdict.

use super::reading::{NextLine, Position};
use crate::{
    Field, Refusal, RequestHead, Span, Version,
    syntax::{self, LineEnd, PLAIN, TARGET, TOKEN, run, trim_end, trim_start},
    target,
};

mod meaning;

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
            let Position { stage, line: start, seen } = self.reading.progress;
            let limit = bound(if stage == NextLine::Fields { limits.field } else { limits.line });
            let end = match syntax::line(input, start, seen, limit)? {
                LineEnd::EndsAt(end) => end,
                LineEnd::Open(_) if input.len() == whole => return Err(self.too_large()),
                LineEnd::Open(seen) => {
                    self.reading.progress.seen = seen;
                    return Ok(Parse::Partial);
                }
                LineEnd::TooLong => return Err(self.too_large()),
            };
            self.reading.progress = Position { stage, line: end + 2, seen: end + 2 };
            self.reading.progress.stage = match stage {
                NextLine::Start if end == start => NextLine::RequestLine,
                NextLine::Start | NextLine::RequestLine => {
                    self.request_line(input, start, end)?;
                    NextLine::Fields
                }
                NextLine::Fields if end == start => {
                    self.length = end + 2;
                    return self.conclude().map(|()| Parse::Complete);
                }
                NextLine::Fields if self.fields.len() >= bound(limits.fields).min(usize::from(u16::MAX)) => {
                    return Err(Refusal::fields_too_large("too many fields"));
                }
                NextLine::Fields => {
                    self.field(input, start, end)?;
                    NextLine::Fields
                }
            };
        }
    }

    fn too_large(&self) -> Refusal {
        match self.reading.progress.stage {
            NextLine::Start | NextLine::RequestLine => Refusal::line_too_long("request line too long"),
            NextLine::Fields => Refusal::fields_too_large("fields too long"),
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
