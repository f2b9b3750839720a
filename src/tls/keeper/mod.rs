//! The key keeper: the one process that has the private keys. It runs no Python, and does nothing but sign.
//!
//! ```text
//! master ── a worker's socket ──▶ key keeper ◀── what is to be signed ── worker g1.0
//!        ◀─ Report ──────────────            ─── the signature ────────▶
//! ```
//!
//! Each worker has a socket of its own to it, so that what an application does to its worker's socket is its own loss. A keeper has
//! the keys that it was born with: another one takes its place where certificates are renewed or it has ended.

mod client;
mod process;

use ostler_wire::{Certificate, Channel};
use serde::{Deserialize, Serialize};

pub use client::Keeper;
pub use process::keep;

use crate::certificates::Expiry;

/// What a keeper says to the master: the first thing, and that it lives when it is asked.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub enum Report {
    /// It has the keys, and signs from now on.
    Keeps(Kept),
    /// The files are not as they should be: a sentence. It ends after this.
    Refused(String),
    /// It answers a [`ToKeeper`] without a socket.
    Lives,
}

/// What it has read, without the keys.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Kept {
    /// In the order of `--certfile`.
    pub certificates: Vec<Certificate>,
    /// Of `--ca-certs`: PEM.
    pub client_authorities: String,
    /// Until when the certificates hold.
    pub expiries: Vec<Expiry>,
    /// What is unwise about the files, or could not be done for their safety; a sentence each.
    pub warnings: Vec<String>,
    /// What the files, and the links on the way to them, are called in directories that are watched; or why they are not.
    pub watched: Result<Vec<String>, String>,
    /// Why the memory with the keys may be written to a swap file, if it may.
    pub unlocked: Option<String>,
    /// Why the kernel makes no records of TLS, if it makes none. It is a keeper that asks it: root has it look for the module.
    pub without_kernel: Option<String>,
}

impl Default for Kept {
    fn default() -> Kept {
        Kept {
            certificates: Vec::new(),
            client_authorities: String::new(),
            expiries: Vec::new(),
            warnings: Vec::new(),
            watched: Ok(Vec::new()),
            unlocked: None,
            without_kernel: None,
        }
    }
}

/// What a master says to a keeper: the message carries a worker's socket, or none, and wants an answer.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct ToKeeper;

/// A question is its number (4 bytes), the key (8) and the scheme (2), each with its lowest byte first, and what is to be signed.
const HEAD: usize = 14;
/// What a handshake has to be signed is shorter.
const LONGEST: usize = 512;
/// An answer is the question's number and the signature, which is empty if there is none.
const NUMBER: usize = 4;

/// Whether this is what a server signs in a handshake, and nothing else that somebody may want to have signed by its key: the
/// transcript's hash of TLS 1.3 (RFC 8446, 4.4.3), or the two randoms and the parameters of an ECDHE exchange (RFC 8422, 5.4).
///
/// Who asks may choose the randoms, and could hide there the beginning of what X.509 and CMS have signed, which is one SEQUENCE of DER. No
/// such thing is signed. Randoms that look like one come in one of 2^24 handshakes.
fn is_of_handshake(message: &[u8]) -> bool {
    const CONTEXT: &[u8] = b"TLS 1.3, server CertificateVerify\0";
    let tls13 = message.len() > 64 + CONTEXT.len()
        && message[..64].iter().all(|&byte| byte == b' ')
        && message[64..].starts_with(CONTEXT);
    // Behind the randoms: named_curve, x25519, secp256r1 or secp384r1, and the point, which is not compressed.
    let tls12 = match message.get(64..) {
        Some([3, 0, 29, 32, point @ ..]) => point.len() == 32,
        Some([3, 0, 23, 65, point @ ..]) => point.len() == 65 && point[0] == 4,
        Some([3, 0, 24, 97, point @ ..]) => point.len() == 97 && point[0] == 4,
        _ => false,
    };
    tls13 || tls12 && !is_sequence(message)
}

/// Whether it is one SEQUENCE in DER (X.690, 8.1), of the lengths that are possible here. One of 98 bytes, which one of 2^16 randoms look
/// like, has no room for a name and a key.
fn is_sequence(message: &[u8]) -> bool {
    matches!(message, [0x30, 0x81, length, rest @ ..] if rest.len() == usize::from(*length))
}

/// Both ends of what ties a worker to a keeper.
pub fn pair() -> std::io::Result<(Channel, Channel)> {
    Channel::pair()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_but_handshakes_is_signed() {
        let tls13 = [&[b' '; 64][..], b"TLS 1.3, server CertificateVerify\0", &[7; 32]].concat();
        let tls12 = [&[9; 64][..], &[3, 0, 29, 32], &[5; 32]].concat();
        assert!(is_of_handshake(&tls13) && is_of_handshake(&tls12));
        assert!(!is_of_handshake(&tls13[1..]) && !is_of_handshake(&tls12[..99]));
        let as_client = [&[b' '; 64][..], b"TLS 1.3, client CertificateVerify\0", &[7; 32]].concat();
        assert!(!is_of_handshake(&as_client));
        let tls12 = [&[9; 64][..], &[3, 0, 23, 65, 4], &[5; 64]].concat();
        assert!(is_of_handshake(&tls12));
        // A certificate request may have these bytes in its name.
        let request = [&[0x30, 0x81, 130][..], &tls12[3..]].concat();
        let compressed = [&tls12[..68], &[2], &tls12[69..]].concat();
        assert!(!is_of_handshake(&request) && !is_of_handshake(&compressed));
        assert!(!is_of_handshake(b"") && !is_of_handshake(&[0; 200]));
    }
}
