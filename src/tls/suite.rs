//! The cipher suites that records know: what rustls has with ring.

use ring::{
    aead::{AES_128_GCM, AES_256_GCM, Algorithm, CHACHA20_POLY1305},
    hkdf::{self, HKDF_SHA256, HKDF_SHA384},
};

/// A version of the protocol.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Version {
    Tls12,
    Tls13,
}

#[derive(Debug)]
pub(crate) struct Suite {
    /// IANA's.
    pub number: u16,
    /// As OpenSSL calls it.
    pub name: &'static str,
    pub version: Version,
    pub aead: &'static Algorithm,
    /// TLS 1.3: what its keys are derived with.
    pub hash: hkdf::Algorithm,
    /// How many records may be sealed with one key (RFC 8446, 5.5).
    pub most_records: u64,
}

/// 2^24.5 full records leave an attacker a chance of 2^-57; rustls stops at the same number.
const MOST_GCM: u64 = 1 << 24;
/// The sequence number overflows first.
const MOST_CHACHA: u64 = u64::MAX;

static SUITES: [Suite; 9] = [
    tls13(0x1301, "TLS_AES_128_GCM_SHA256", &AES_128_GCM, HKDF_SHA256, MOST_GCM),
    tls13(0x1302, "TLS_AES_256_GCM_SHA384", &AES_256_GCM, HKDF_SHA384, MOST_GCM),
    tls13(0x1303, "TLS_CHACHA20_POLY1305_SHA256", &CHACHA20_POLY1305, HKDF_SHA256, MOST_CHACHA),
    tls12(0xc02b, "ECDHE-ECDSA-AES128-GCM-SHA256", &AES_128_GCM, MOST_GCM),
    tls12(0xc02c, "ECDHE-ECDSA-AES256-GCM-SHA384", &AES_256_GCM, MOST_GCM),
    tls12(0xcca9, "ECDHE-ECDSA-CHACHA20-POLY1305", &CHACHA20_POLY1305, MOST_CHACHA),
    tls12(0xc02f, "ECDHE-RSA-AES128-GCM-SHA256", &AES_128_GCM, MOST_GCM),
    tls12(0xc030, "ECDHE-RSA-AES256-GCM-SHA384", &AES_256_GCM, MOST_GCM),
    tls12(0xcca8, "ECDHE-RSA-CHACHA20-POLY1305", &CHACHA20_POLY1305, MOST_CHACHA),
];

const fn tls13(
    number: u16,
    name: &'static str,
    aead: &'static Algorithm,
    hash: hkdf::Algorithm,
    most_records: u64,
) -> Suite {
    Suite { number, name, version: Version::Tls13, aead, hash, most_records }
}

const fn tls12(number: u16, name: &'static str, aead: &'static Algorithm, most_records: u64) -> Suite {
    Suite { number, name, version: Version::Tls12, aead, hash: HKDF_SHA256, most_records }
}

impl Suite {
    pub fn of(number: u16) -> Option<&'static Suite> {
        SUITES.iter().find(|suite| suite.number == number)
    }

    /// TLS 1.2 with GCM sends eight bytes of the nonce with each record (RFC 5288).
    pub fn explicit_nonce(&self) -> usize {
        if self.version == Version::Tls12 && *self.aead != CHACHA20_POLY1305 { 8 } else { 0 }
    }

    /// How many bytes one direction's secret has: TLS 1.3's traffic secret; TLS 1.2's key and IV.
    pub fn secret_length(&self) -> usize {
        match self.version {
            Version::Tls13 => self.hash.hmac_algorithm().digest_algorithm().output_len(),
            Version::Tls12 => self.aead.key_len() + self.aead.nonce_len(),
        }
    }
}
