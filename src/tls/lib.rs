//! TLS (RFC 8446, RFC 5246) without sockets: handshakes through rustls, records with keys that can move to another process.
//!
//! A connection begins with a [`Handshake`], which an [`Acceptor`] makes. It ends in [`Established`], and rustls knows nothing of the
//! connection any more: [`Records`] go on, whose state is a few hundred bytes.
#![forbid(unsafe_code)]

mod facts;
mod handshake;
mod records;
mod suite;

use std::io;

pub use facts::Facts;
pub use handshake::{Established, Failure, Handshake, acceptor::Acceptor};
pub use records::{Fault, Opened, PLAINTEXT, Records};

/// Signs with keys that this process does not have.
pub trait Sign: Send + Sync {
    /// Signs a message with this key ([`ostler_wire::Certificate::key`]) and this scheme (RFC 8446, 4.2.3).
    fn sign(&self, key: u64, scheme: u16, message: &[u8]) -> io::Result<Vec<u8>>;
}
