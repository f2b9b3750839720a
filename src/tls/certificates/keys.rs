//! Private keys, by the names that they have for workers. They are nowhere but in the key keeper.

use std::{collections::BTreeMap, sync::Arc};

use ring::digest::{SHA256, digest};
use rustls::{SignatureScheme, sign::SigningKey};

/// What keys can sign, best first.
const SCHEMES: [SignatureScheme; 9] = [
    SignatureScheme::ED25519,
    SignatureScheme::ECDSA_NISTP256_SHA256,
    SignatureScheme::ECDSA_NISTP384_SHA384,
    SignatureScheme::RSA_PSS_SHA256,
    SignatureScheme::RSA_PSS_SHA384,
    SignatureScheme::RSA_PSS_SHA512,
    SignatureScheme::RSA_PKCS1_SHA256,
    SignatureScheme::RSA_PKCS1_SHA384,
    SignatureScheme::RSA_PKCS1_SHA512,
];

/// The keys of a keeper.
#[derive(Debug, Default)]
pub struct Keys(BTreeMap<u64, Arc<dyn SigningKey>>);

impl Keys {
    /// One more.
    pub fn add(&mut self, key: Arc<dyn SigningKey>) {
        self.0.insert(name(&*key), key);
    }

    /// None if there is no such key, or it cannot sign so.
    pub fn sign(&self, key: u64, scheme: SignatureScheme, message: &[u8]) -> Option<Vec<u8>> {
        self.0.get(&key)?.choose_scheme(&[scheme])?.sign(message).ok()
    }
}

/// The beginning of its public key's hash: the same in each keeper that has it.
pub fn name(key: &dyn SigningKey) -> u64 {
    let public = key.public_key();
    let hash = digest(&SHA256, public.as_deref().unwrap_or_default());
    u64::from_le_bytes(*hash.as_ref().first_chunk().expect("the hash has 32 bytes"))
}

/// What it can sign, by numbers (RFC 8446, 4.2.3), best first.
pub fn schemes(key: &dyn SigningKey) -> Vec<u16> {
    SCHEMES.into_iter().filter(|&scheme| key.choose_scheme(&[scheme]).is_some()).map(u16::from).collect()
}
