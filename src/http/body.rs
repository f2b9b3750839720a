//! Chunked bodies, read and written (RFC 9112 §7.1).
//!
//! The decoder takes every byte once and keeps no data. Extensions are skipped and trailer fields dropped, but neither may be anything.

use crate::{
    Refusal,
    syntax::{TOKEN, hexadecimal, is_field_value, run},
};

/// Reads a chunked body.
#[derive(Debug, Default, Clone)]
pub struct ChunkedDecoder {
    state: State,
    /// Digits of the present chunk's size so far, then bytes of its extensions so far.
    length: u32,
    /// Data of all chunks that have begun, less the extensions of all chunks.
    balance: i64,
    /// The trailer line that is being read; stays empty, and unallocated, for nearly everybody.
    line: Vec<u8>,
    /// Bytes of the trailer section so far.
    trailer: usize,
}

/// What the next byte belongs to.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
enum State {
    #[default]
    FirstDigit,
    /// Of the size so far.
    Size(u64),
    Extension(u64),
    SizeLineFeed(u64),
    /// Bytes that are still to come, at least one.
    Data(u64),
    DataReturn,
    DataLineFeed,
    Trailer,
    TrailerLineFeed,
    Done,
}

/// What one step of the decoder found at the beginning of its input.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Step {
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
/// Bytes by which extensions may exceed data in a whole body: signed chunks pass, one byte of data behind a kilobyte of nothing, again and
/// again, does not.
const EXCESS: i64 = 16 * 1024;
/// Bytes of the trailer section.
const TRAILER: usize = 8 * 1024;

impl ChunkedDecoder {
    /// Takes what it can from the beginning of `input`: framing, then data up to the end of the chunk or of the input.
    /// `consumed == 0 && !done` means that the input is empty; all of what came before has been taken. Behind the end it answers `done`
    /// and takes nothing.
    pub fn step(&mut self, input: &[u8]) -> Result<Step, Refusal> {
        let mut consumed = 0;
        while self.state != State::Done {
            if let State::Data(left) = self.state {
                let data = (input.len() - consumed).min(usize::try_from(left).unwrap_or(usize::MAX));
                let left = left - data as u64;
                self.state = if left == 0 { State::DataReturn } else { State::Data(left) };
                return Ok(Step { consumed: consumed + data, data, done: false });
            }
            let Some(&byte) = input.get(consumed) else {
                return Ok(Step { consumed, data: 0, done: false });
            };
            self.state = self.framing(byte)?;
            consumed += 1;
        }
        Ok(Step { consumed, data: 0, done: true })
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
            (State::Size(size), b';') => {
                self.length = 0;
                Ok(State::Extension(size))
            }
            (State::Size(size), byte) => self.digit(size, byte),
            (State::Extension(size), b'\r') => Ok(State::SizeLineFeed(size)),
            (State::Extension(size), byte) => self.extension(size, byte),
            (State::SizeLineFeed(0), b'\n') => Ok(State::Trailer),
            // Whoever reads it as a signed number sees another one.
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

    fn extension(&mut self, size: u64, byte: u8) -> Result<State, Refusal> {
        if byte.is_ascii_control() && byte != b'\t' {
            return Err(Refusal::malformed("control character in a chunk's extension"));
        }
        self.length += 1;
        self.balance -= 1;
        if self.length > EXTENSIONS || self.balance < -EXCESS {
            return Err(Refusal::malformed("chunk extensions too long"));
        }
        Ok(State::Extension(size))
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

/// Fields that change what the message is, who it is for or who sent it (RFC 9110 §6.5.1), and so have no place behind the body.
const FORBIDDEN: [&[u8]; 14] = [
    b"authorization",
    b"connection",
    b"content-encoding",
    b"content-length",
    b"content-range",
    b"content-type",
    b"cookie",
    b"expect",
    b"host",
    b"keep-alive",
    b"te",
    b"trailer",
    b"transfer-encoding",
    b"upgrade",
];

fn check_trailer(line: &[u8]) -> Result<(), Refusal> {
    let length = run(line, TOKEN);
    let (name, rest) = line.split_at(length);
    if name.is_empty() || rest.first() != Some(&b':') || !is_field_value(rest) {
        return Err(Refusal::malformed("trailer is no field"));
    }
    if FORBIDDEN.iter().any(|forbidden| name.eq_ignore_ascii_case(forbidden)) {
        return Err(Refusal::malformed("field that has no place in a trailer"));
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
