//! Chunked bodies, read and written (RFC 9112 §7.1).
//!
//! The decoder takes every byte once and keeps no data. Extensions and trailer fields are read and dropped.

use crate::{
    Refusal,
    syntax::{TOKEN, class, hexadecimal, is_field_value, run},
};

/// Reads a chunked body.
#[derive(Debug, Default, Clone)]
pub struct ChunkedDecoder {
    state: State,
    /// Digits of the present chunk's size so far, then bytes of its extensions so far.
    length: u32,
    /// Data of all chunks that have begun, less the extensions of all chunks.
    balance: i64,
    /// The trailer line that is being read; nearly always empty and unallocated.
    line: Vec<u8>,
    /// Bytes of the trailer section so far.
    trailer: usize,
}

/// What the next byte belongs to.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
enum State {
    #[default]
    FirstDigit,
    /// The size so far.
    Size(u64),
    Extension(u64, Extension),
    SizeLineFeed(u64),
    /// Bytes that are still to come, at least one.
    Data(u64),
    DataReturn,
    DataLineFeed,
    Trailer,
    TrailerLineFeed,
    Done,
}

/// How far a chunk's extensions are read: `*( BWS ";" BWS name [ BWS "=" BWS ( token / quoted-string ) ] )`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Extension {
    /// White space behind the size or a value.
    Gap,
    Semicolon,
    Name,
    /// White space behind a name.
    NameGap,
    Equals,
    Token,
    Quoted,
    Escaped,
    QuoteEnd,
}

impl Extension {
    /// What a byte leads to, if it may stand here (RFC 9112 §7.1.1, RFC 9110 §5.6.4).
    fn next(self, byte: u8) -> Option<Extension> {
        use Extension::*;
        let (is_token, is_blank) = (class(byte) & TOKEN != 0, matches!(byte, b' ' | b'\t'));
        let next = match (self, byte) {
            (Quoted, b'"') => QuoteEnd,
            (Quoted, b'\\') => Escaped,
            (Quoted | Escaped, byte) if is_blank || !byte.is_ascii_control() => Quoted,
            (Quoted | Escaped, _) => return None,
            (Semicolon | Equals, _) if is_blank => self,
            (Name | NameGap, _) if is_blank => NameGap,
            (_, _) if is_blank => Gap,
            (Gap | Name | NameGap | Token | QuoteEnd, b';') => Semicolon,
            (Name | NameGap, b'=') => Equals,
            (Equals, b'"') => Quoted,
            (Semicolon | Name, _) if is_token => Name,
            (Equals | Token, _) if is_token => Token,
            _ => return None,
        };
        Some(next)
    }

    fn may_end(self) -> bool {
        matches!(self, Extension::Name | Extension::Token | Extension::QuoteEnd)
    }
}

/// What one step of the decoder found at the beginning of its input.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Decoded {
    /// Bytes of the input that are dealt with; the data stands at their end.
    pub consumed: usize,
    /// How many of them, the last ones, are body data.
    pub data: usize,
    /// The body and its trailer section are complete; what follows is the next request.
    pub done: bool,
}

/// Hexadecimal digits of a size: 64 bits.
const DIGITS: u32 = 16;
/// Bytes of one chunk's extensions.
const EXTENSIONS: u32 = 1024;
/// Bytes by which extensions may exceed data in a whole body. Signed chunks stay below this; a body whose chunks each have a kilobyte of
/// extensions and one byte of data does not.
const EXCESS: i64 = 16 * 1024;
/// Bytes of the trailer section.
const TRAILER: usize = 8 * 1024;

impl ChunkedDecoder {
    /// Takes what it can from the beginning of `input`: framing, then data up to the end of the chunk or of the input.
    /// `consumed == 0 && !done` means that the input is empty; everything before has been taken. After the end it returns `done`
    /// and takes nothing.
    pub fn step(&mut self, input: &[u8]) -> Result<Decoded, Refusal> {
        let mut consumed = 0;
        while self.state != State::Done {
            if let State::Data(left) = self.state {
                let data = (input.len() - consumed).min(usize::try_from(left).unwrap_or(usize::MAX));
                let left = left - data as u64;
                self.state = if left == 0 { State::DataReturn } else { State::Data(left) };
                return Ok(Decoded { consumed: consumed + data, data, done: false });
            }
            let Some(&byte) = input.get(consumed) else {
                return Ok(Decoded { consumed, data: 0, done: false });
            };
            self.state = self.framing(byte)?;
            consumed += 1;
        }
        Ok(Decoded { consumed, data: 0, done: true })
    }

    /// Takes one byte that is not data.
    fn framing(&mut self, byte: u8) -> Result<State, Refusal> {
        let malformed = |why| Err(Refusal::malformed(why));
        match (self.state, byte) {
            (State::FirstDigit, byte) => {
                self.length = 0;
                self.digit(0, byte)
            }
            (State::Size(size), b'\r') => Ok(State::SizeLineFeed(size)),
            (State::Size(size), b';' | b' ' | b'\t') => {
                self.length = 0;
                let begun = if byte == b';' { Extension::Semicolon } else { Extension::Gap };
                Ok(State::Extension(size, begun))
            }
            (State::Size(size), byte) => self.digit(size, byte),
            (State::Extension(size, read), b'\r') if read.may_end() => Ok(State::SizeLineFeed(size)),
            (State::Extension(size, read), byte) => self.extension(size, read, byte),
            (State::SizeLineFeed(0), b'\n') => Ok(State::Trailer),
            // An implementation that reads a signed number would see another one.
            (State::SizeLineFeed(size), b'\n') if size > i64::MAX as u64 => malformed("chunk size above 63 bits"),
            (State::SizeLineFeed(size), b'\n') => {
                self.balance = self.balance.saturating_add_unsigned(size);
                Ok(State::Data(size))
            }
            (State::SizeLineFeed(_), _) => malformed("bare CR in a chunk's size line"),
            (State::DataReturn, b'\r') => Ok(State::DataLineFeed),
            (State::DataLineFeed, b'\n') => Ok(State::FirstDigit),
            (State::DataReturn | State::DataLineFeed, _) => malformed("no CRLF behind a chunk's data"),
            (State::Trailer, b'\r') => Ok(State::TrailerLineFeed),
            (State::Trailer, byte) => self.trailer(byte),
            (State::TrailerLineFeed, b'\n') => self.trailer_line(),
            (State::TrailerLineFeed, _) => malformed("bare CR in a trailer field"),
            // `step` does not ask for these.
            (State::Data(_) | State::Done, _) => Ok(self.state),
        }
    }

    fn digit(&mut self, size: u64, byte: u8) -> Result<State, Refusal> {
        let digit = hexadecimal(byte).ok_or(Refusal::malformed("chunk size is no hexadecimal number"))?;
        self.length += 1;
        if self.length > DIGITS {
            return Err(Refusal::malformed("chunk size above 64 bits"));
        }
        Ok(State::Size(size << 4 | u64::from(digit)))
    }

    fn extension(&mut self, size: u64, read: Extension, byte: u8) -> Result<State, Refusal> {
        let read = read.next(byte).ok_or(Refusal::malformed("chunk extension is malformed"))?;
        self.length += 1;
        self.balance -= 1;
        if self.length > EXTENSIONS || self.balance < -EXCESS {
            return Err(Refusal::malformed("chunk extensions too long"));
        }
        Ok(State::Extension(size, read))
    }

    fn trailer(&mut self, byte: u8) -> Result<State, Refusal> {
        if byte == b'\n' {
            return Err(Refusal::malformed("bare LF in a trailer field"));
        }
        self.trailer += 1;
        if self.trailer > TRAILER {
            return Err(Refusal::fields_too_large("trailer fields too long"));
        }
        self.line.push(byte);
        Ok(State::Trailer)
    }

    fn trailer_line(&mut self) -> Result<State, Refusal> {
        if self.line.is_empty() {
            return Ok(State::Done);
        }
        check_trailer(&self.line)?;
        self.line.clear();
        Ok(State::Trailer)
    }
}

/// RFC 9110 §6.5.1: trailer fields may be ignored, and are; but each must be a well-formed field.
fn check_trailer(line: &[u8]) -> Result<(), Refusal> {
    let length = run(line, TOKEN);
    let (name, rest) = line.split_at(length);
    if name.is_empty() || rest.first() != Some(&b':') || !is_field_value(rest) {
        return Err(Refusal::malformed("trailer is no field"));
    }
    Ok(())
}

/// Appends the line before a chunk of `length` bytes (`length` > 0). Behind the data comes CRLF.
pub fn chunk_start(out: &mut Vec<u8>, length: usize) {
    let digits = (usize::BITS - length.leading_zeros()).div_ceil(4);
    out.extend((0..digits).rev().map(|place| b"0123456789abcdef"[length >> (4 * place) & 15]));
    out.extend_from_slice(b"\r\n");
}

/// The last chunk, with an empty trailer section.
pub const LAST_CHUNK: &[u8] = b"0\r\n\r\n";

#[cfg(test)]
mod tests;
