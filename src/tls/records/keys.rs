//! One direction's keys, and the next record's number.

use ring::{
    aead::{Aad, LessSafeKey, NONCE_LEN, Nonce, UnboundKey},
    hkdf::{KeyType, Prk},
};
use zeroize::Zeroizing;

use super::{Fault, INTERNAL_ERROR};
use crate::suite::{Suite, Version};

/// A key and the number that the sequence numbers of its records are mixed with (RFC 8446, 5.3).
type RawKey = (Zeroizing<Vec<u8>>, Zeroizing<[u8; NONCE_LEN]>);

/// The longest secret: of a hash with 384 bits.
const LONGEST: usize = 48;
const TAG: usize = 16;

/// Of one direction.
pub(super) struct Keys {
    pub suite: &'static Suite,
    secret: Zeroizing<[u8; LONGEST]>,
    key: LessSafeKey,
    iv: Zeroizing<[u8; NONCE_LEN]>,
    /// The number of the next record.
    pub sequence: u64,
}

impl Keys {
    /// `None` for a secret that is not as long as the suite's are.
    pub fn new(suite: &'static Suite, secret: &[u8], sequence: u64) -> Option<Keys> {
        if secret.len() != suite.secret_length() {
            return None;
        }
        let mut kept = Zeroizing::new([0; LONGEST]);
        kept[..secret.len()].copy_from_slice(secret);
        let (key, iv) = derived(suite, secret)?;
        let key = LessSafeKey::new(UnboundKey::new(suite.aead, &key).ok()?);
        Some(Keys { suite, secret: kept, key, iv, sequence })
    }

    pub fn secret(&self) -> &[u8] {
        &self.secret[..self.suite.secret_length()]
    }

    /// The key itself, and the IV.
    pub fn raw(&self) -> Option<RawKey> {
        derived(self.suite, self.secret())
    }

    /// TLS 1.3: goes over to the next keys (RFC 8446, 7.2).
    pub fn update(&mut self) -> Result<(), Fault> {
        let next = expand(self.suite, self.secret(), b"traffic upd", self.suite.secret_length());
        *self = next.and_then(|next| Keys::new(self.suite, &next, 0)).ok_or(Fault::ours("no next keys"))?;
        Ok(())
    }

    /// How many bytes a record has more than its content.
    pub fn overhead(&self) -> usize {
        let kind = usize::from(self.suite.version == Version::Tls13);
        super::HEADER + self.suite.explicit_nonce() + kind + TAG
    }

    /// Appends a record whose content `fill` appends.
    pub fn seal(&mut self, kind: u8, out: &mut Vec<u8>, fill: impl FnOnce(&mut Vec<u8>)) -> Result<(), Fault> {
        let nonce = self.nonce();
        let begin = out.len();
        out.extend([0; super::HEADER]);
        out.extend(&nonce[NONCE_LEN - self.suite.explicit_nonce()..]);
        let content = out.len();
        fill(out);
        let plain = out.len() - content;
        let outer = match self.suite.version {
            Version::Tls12 => kind,
            Version::Tls13 => {
                out.push(kind);
                super::DATA
            }
        };
        let length = (out.len() - begin - super::HEADER + TAG) as u16;
        let header = [outer, 3, 3, (length >> 8) as u8, length as u8];
        out[begin..begin + super::HEADER].copy_from_slice(&header);
        let nonce = Nonce::assume_unique_for_key(nonce);
        let sealed = match self.suite.version {
            Version::Tls12 => {
                let aad = Aad::from(self.aad12(kind, plain));
                self.key.seal_in_place_separate_tag(nonce, aad, &mut out[content..])
            }
            Version::Tls13 => self.key.seal_in_place_separate_tag(nonce, Aad::from(header), &mut out[content..]),
        };
        out.extend(sealed.map_err(|_| Fault::ours("a record is too long"))?.as_ref());
        self.count()
    }

    /// Opens the record at `bytes[from..]`, which ends where `bytes` does, and moves its content to `bytes[to..]`. Returns its kind and
    /// its length.
    pub fn open(&mut self, bytes: &mut [u8], to: usize, from: usize) -> Result<(u8, usize), Fault> {
        let mut header = [0; super::HEADER];
        header.copy_from_slice(&bytes[from..from + super::HEADER]);
        let mut nonce = self.nonce();
        let content = from + super::HEADER + self.suite.explicit_nonce();
        let Some(plain) = bytes.len().checked_sub(content + TAG) else { return Err(super::UNREADABLE) };
        nonce[NONCE_LEN - self.suite.explicit_nonce()..].copy_from_slice(&bytes[from + super::HEADER..content]);
        let nonce = Nonce::assume_unique_for_key(nonce);
        let within = content - to..;
        let opened = match self.suite.version {
            Version::Tls12 => {
                let aad = Aad::from(self.aad12(header[0], plain));
                self.key.open_within(nonce, aad, &mut bytes[to..], within)
            }
            Version::Tls13 => self.key.open_within(nonce, Aad::from(header), &mut bytes[to..], within),
        };
        let opened = opened.map_err(|_| super::UNREADABLE)?;
        let (kind, length) = match self.suite.version {
            Version::Tls12 => (header[0], opened.len()),
            // The kind is behind the content, and zeros may be behind that (RFC 8446, 5.4).
            Version::Tls13 => match opened.iter().rposition(|byte| *byte != 0) {
                Some(at) => (opened[at], at),
                None => return Err(Fault::theirs(super::UNEXPECTED_MESSAGE, "a record has no kind")),
            },
        };
        if length > super::PLAINTEXT {
            return Err(Fault::theirs(super::RECORD_OVERFLOW, "a record is too long"));
        }
        self.count()?;
        Ok((kind, length))
    }

    fn count(&mut self) -> Result<(), Fault> {
        self.sequence = self.sequence.checked_add(1).ok_or(Fault::ours("the records have used up their numbers"))?;
        Ok(())
    }

    /// The IV combined with the next record's number (RFC 8446, 5.3; RFC 7905). TLS 1.2 with GCM leaves open what it is (RFC 5288), and
    /// rustls makes it like that, too, so that none occurs twice.
    fn nonce(&self) -> [u8; NONCE_LEN] {
        let mut nonce = *self.iv;
        for (byte, number) in nonce[4..].iter_mut().zip(self.sequence.to_be_bytes()) {
            *byte ^= number;
        }
        nonce
    }

    fn aad12(&self, kind: u8, length: usize) -> [u8; 13] {
        let mut aad = [kind, 3, 3, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0];
        aad.copy_within(..3, 8);
        aad[..8].copy_from_slice(&self.sequence.to_be_bytes());
        aad[11..].copy_from_slice(&(length as u16).to_be_bytes());
        aad
    }

    /// Overwrites the keys. (ring does not do it when it drops one.)
    pub fn wipe(&mut self) {
        self.secret.fill(0);
        self.iv.fill(0);
        if let Ok(zeros) = UnboundKey::new(self.suite.aead, &[0; 32][..self.suite.aead.key_len()]) {
            self.key = LessSafeKey::new(zeros);
        }
        // Without this the compiler may leave out what nobody reads.
        std::hint::black_box(self);
    }
}

impl Drop for Keys {
    fn drop(&mut self) {
        self.wipe();
    }
}

/// The key and the IV that a secret stands for.
fn derived(suite: &Suite, secret: &[u8]) -> Option<RawKey> {
    Some(match suite.version {
        Version::Tls12 => {
            let (key, iv) = secret.split_at(suite.aead.key_len());
            (Zeroizing::new(key.to_vec()), Zeroizing::new(iv.try_into().ok()?))
        }
        Version::Tls13 => {
            let mut iv = Zeroizing::new([0; NONCE_LEN]);
            iv.copy_from_slice(&expand(suite, secret, b"iv", NONCE_LEN)?);
            (expand(suite, secret, b"key", suite.aead.key_len())?, iv)
        }
    })
}

/// HKDF-Expand-Label without a context (RFC 8446, 7.1).
fn expand(suite: &Suite, secret: &[u8], label: &[u8], length: usize) -> Option<Zeroizing<Vec<u8>>> {
    struct Length(usize);
    impl KeyType for Length {
        fn len(&self) -> usize {
            self.0
        }
    }
    let lengths = ([length as u8], [6 + label.len() as u8]);
    let info: [&[u8]; 6] = [&[0], &lengths.0, &lengths.1, b"tls13 ", label, &[0]];
    let mut out = Zeroizing::new(vec![0; length]);
    Prk::new_less_safe(suite.hash, secret).expand(&info, Length(length)).ok()?.fill(&mut out).ok()?;
    Some(out)
}

impl Fault {
    fn ours(why: &'static str) -> Fault {
        Fault { alert: Some(INTERNAL_ERROR), why }
    }
}
