//! TLS (RFC 8446, RFC 5246) without sockets: handshakes through rustls, records with keys that can move to another process.
//!
//! A connection begins with a [`Handshake`], which an [`Acceptor`] makes. It ends in [`Established`], and rustls knows nothing of the
//! connection any more: [`Records`] go on, whose state is a few hundred bytes.
//!
//! No process that runs Python has a private key: [`keeper`] is what the process does that has them, and how workers ask it to sign;
//! [`certificates`] reads and checks the files.
#![forbid(unsafe_code)]

pub mod certificates;
mod facts;
mod handshake;
pub mod keeper;
mod names;
mod records;
mod suite;
pub mod ticket_keys;

use std::io;

pub use facts::{Facts, Shown};
pub use handshake::{Established, Failure, Handshake, acceptor::Acceptor};
pub use records::{ALERT, CLOSE_NOTIFY, Fault, Opened, PLAINTEXT, Records};

/// Signs for handshakes with keys that are elsewhere.
pub trait Sign: Send + Sync {
    /// The signature of what a handshake has to be signed. `key` is [`ostler_wire::Certificate::key`], and `scheme` one of its schemes.
    fn sign(&self, key: u64, scheme: u16, message: &[u8]) -> io::Result<Vec<u8>>;
}
