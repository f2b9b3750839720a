//! Chunked bodies, read and written (RFC 9112 §7.1).

use crate::Refusal;

/// Reads a chunked body.
#[derive(Debug, Default, Clone)]
pub struct ChunkedDecoder {}

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

impl ChunkedDecoder {
    /// Takes what it can from the beginning of `input`: framing, then data up to the end of the chunk or of the input.
    /// `consumed == 0 && !done` means that more input is needed first.
    pub fn step(&mut self, input: &[u8]) -> Result<Step, Refusal> {
        let _ = input;
        unimplemented!()
    }
}

/// Appends the line before a chunk of `length` bytes (`length` > 0). Behind the data comes CRLF.
pub fn chunk_start(out: &mut Vec<u8>, length: usize) {
    let _ = (out, length);
    unimplemented!()
}

/// The last chunk, with an empty trailer section.
pub const LAST_CHUNK: &[u8] = b"0\r\n\r\n";
