//! The sending side for the kernel, which then makes the records itself: linux/tls.h, Documentation/networking/tls.rst. It cannot go
//! over to other keys (Linux can since 6.14, which is too new to count on), and gives nothing back.

use ring::aead::{AES_128_GCM, AES_256_GCM};
use zeroize::Zeroizing;

use super::{CLOSE_NOTIFY, Fault, INTERNAL_ERROR, Records, USED_UP};
use crate::suite::Version;

/// RFC 8446, 4.6.3: no data may be sent before the other keys. A request that came with it was not begun, and may be sent again.
pub(super) const CANNOT_UPDATE: Fault =
    Fault { alert: Some(CLOSE_NOTIFY), why: "the client asks for other keys, and the kernel cannot change them" };
/// What would be sealed here.
pub(super) const HAS_KEYS: Fault = Fault { alert: Some(INTERNAL_ERROR), why: "the kernel has the keys" };

// linux/tls.h.
const TLS_CIPHER_AES_GCM_128: u16 = 51;
const TLS_CIPHER_AES_GCM_256: u16 = 52;
const TLS_CIPHER_CHACHA20_POLY1305: u16 = 54;

impl Records {
    /// What the kernel needs to go on with the sending: the bytes of a `struct tls12_crypto_info_…` with version, cipher, IV, key, salt and
    /// the next record's number, which are its last eight bytes. `None` where it has that already, or other keys are to come.
    pub fn for_kernel(&self) -> Option<Zeroizing<Vec<u8>>> {
        if self.left_to_kernel || self.update_asked || self.is_used_up() {
            return None;
        }
        let suite = self.sending.suite;
        let (key, iv) = self.sending.raw()?;
        let (salt, mut nonce) = (&iv[..4], Zeroizing::new(iv[4..].to_vec()));
        if suite.explicit_nonce() > 0 {
            // The kernel counts up from here. Ours differ from the IV in the lower bytes alone, so that none occurs twice.
            nonce[0] ^= 0x80;
            nonce[3..].fill(0);
        }
        let (cipher, parts) = match suite.aead {
            aead if *aead == AES_128_GCM => (TLS_CIPHER_AES_GCM_128, [&nonce[..], &key, salt]),
            aead if *aead == AES_256_GCM => (TLS_CIPHER_AES_GCM_256, [&nonce[..], &key, salt]),
            _ => (TLS_CIPHER_CHACHA20_POLY1305, [&iv[..], &key, &[]]),
        };
        let version: u16 = match suite.version {
            Version::Tls12 => 0x0303,
            Version::Tls13 => 0x0304,
        };
        // Room at once: a vector that grows leaves a copy of the key behind.
        let mut all = Zeroizing::new(Vec::with_capacity(self.kernel_key_length()));
        all.extend([version, cipher].map(u16::to_ne_bytes).concat());
        parts.iter().for_each(|part| all.extend_from_slice(part));
        all.extend(self.sending.sequence.to_be_bytes());
        Some(all)
    }

    /// How many bytes that has.
    pub fn kernel_key_length(&self) -> usize {
        // Version and cipher, IV and salt, key, number.
        4 + 12 + self.sending.suite.aead.key_len() + 8
    }

    /// The kernel has taken it: from now on nothing is sealed here.
    pub fn leave_to_kernel(&mut self) {
        self.left_to_kernel = true;
        self.sending.wipe();
    }

    /// Whether the kernel makes what is sent.
    pub fn is_left_to_kernel(&self) -> bool {
        self.left_to_kernel
    }

    /// The kernel says that its next record has this number. Whether it may make more.
    pub fn kernel_counts(&mut self, sequence: u64) -> Result<(), Fault> {
        self.sending.sequence = sequence;
        if self.is_used_up() { Err(USED_UP) } else { Ok(()) }
    }
}

#[cfg(test)]
mod tests {
    use crate::{Records, suite::Suite};

    fn records(suite: u16) -> Records {
        let suite = Suite::of(suite).unwrap();
        let secret = vec![7; suite.secret_length()];
        Records::new(suite, (&secret, 0), (&secret, 5)).unwrap()
    }

    #[test]
    fn the_kernel_gets_what_its_structures_hold() {
        for (suite, version, cipher, length) in
            [(0x1301, 4, 51, 40), (0x1302, 4, 52, 56), (0x1303, 4, 54, 56), (0xc02f, 3, 51, 40), (0xcca8, 3, 54, 56)]
        {
            let records = records(suite);
            let key = records.for_kernel().expect("it can be left to the kernel");
            assert_eq!((key.len(), records.kernel_key_length()), (length, length), "{suite:x}");
            assert_eq!(key[..4], [0x300 + version, cipher].map(u16::to_ne_bytes).concat());
            assert_eq!(key[length - 8..], 5u64.to_be_bytes());
        }
    }

    #[test]
    fn no_nonce_of_ours_is_one_of_the_kernel_s() {
        let records = records(0xc02f);
        let key = records.for_kernel().unwrap();
        // Ours have the five upper bytes of the IV; the kernel's, this first byte for 2^56 records.
        assert_eq!((key[4], &key[7..12]), (7 ^ 0x80, &[0; 5][..]));
    }

    #[test]
    fn nothing_is_sealed_that_was_left_to_the_kernel_and_other_keys_end_it() {
        let mut server = records(0x1301);
        server.leave_to_kernel();
        assert!(server.for_kernel().is_none() && server.seal(&[b"data"], 0, 4, &mut Vec::new()).is_err());
        let mut state = zeroize::Zeroizing::new(Vec::new());
        server.export(&mut state);
        assert!(state.ends_with(&[0; 32]), "the kernel alone has the secret");
        let mut server = Records::import(&mut &state[..]).unwrap();
        assert!(server.is_left_to_kernel());

        let mut client = records(0x1301);
        client.sending.sequence = 0;
        let mut update = |asks: u8| {
            let mut out = Vec::new();
            client.sending.seal(super::super::HANDSHAKE, &mut out, |out| out.extend([24, 0, 0, 1, asks])).unwrap();
            client.sending.update().unwrap();
            out
        };
        assert!(server.open(&mut update(0)).is_ok(), "what comes may have other keys");
        assert_eq!(server.open(&mut update(1)), Err(super::CANNOT_UPDATE));
    }

    #[test]
    fn the_kernel_s_records_are_counted() {
        let mut server = records(0x1302);
        server.leave_to_kernel();
        assert_eq!((server.kernel_counts(1 << 20), server.is_worn()), (Ok(()), false));
        assert_eq!((server.kernel_counts(3 << 22), server.is_worn()), (Ok(()), true));
        assert!(server.kernel_counts((1 << 24) - 1).is_err());
    }
}
