//! The body of a request, as the application gets it.

use std::{io, ops::Deref};

use super::{budget::Room, store::SpoolFile};

/// A request's body.
#[derive(Default)]
pub enum Body {
    /// There is none, or its length is zero, or it was taken.
    #[default]
    Empty,
    /// All of it.
    Memory(BodyBytes),
    /// All of it, in an unlinked file; and its length in bytes.
    File(SpoolFile, u64),
    /// It is still arriving (`--no-request-buffering`).
    Live(LiveBody),
}

impl Body {
    /// How many bytes there are to read; `None` where that is not known.
    pub fn length(&self) -> Option<u64> {
        match self {
            Body::Empty => Some(0),
            Body::Memory(bytes) => Some(bytes.len() as u64),
            Body::File(_, length) => Some(*length),
            Body::Live(body) => body.length,
        }
    }
}

/// A body in memory. It counts towards the budget for bodies until it is dropped.
pub struct BodyBytes {
    bytes: Vec<u8>,
    /// None for a small one.
    _room: Option<Room>,
}

impl BodyBytes {
    pub(crate) fn new(bytes: Vec<u8>, room: Option<Room>) -> BodyBytes {
        BodyBytes { bytes, _room: room }
    }
}

impl Deref for BodyBytes {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        &self.bytes
    }
}

/// A body that is read from the connection while the application runs. Reading blocks: give the interpreter lock back first.
pub struct LiveBody {
    pub(crate) source: Box<dyn io::Read + Send>,
    /// The declared length; `None` for chunked.
    pub length: Option<u64>,
}

impl io::Read for LiveBody {
    /// Blocks until there is something; 0 at the body's end; an error if the client breaks off, is too slow, or the
    /// call is over.
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        self.source.read(into)
    }
}
