//! Session tickets (RFC 8446, 4.6.1; RFC 5077): sealed with keys that all workers have, so that each of them resumes the sessions of all.

use std::sync::{PoisonError, RwLock};

use ostler_wire::TicketKeys;
use ring::{
    aead::{AES_256_GCM, Aad, LessSafeKey, NONCE_LEN, Nonce, UnboundKey},
    digest::{SHA256, digest},
    rand::{SecureRandom, SystemRandom},
};
use rustls::server::ProducesTickets;

/// A client need not try a ticket for longer. Keys stay for at least as long as this after they have made their last ticket.
const LIFETIME_SECONDS: u32 = 3600;
/// A ticket is the key's name, a nonce, and the sealed session.
const NAME: usize = 8;

/// Current, previous, next. Without keys there are no tickets.
pub(super) struct Tickets(RwLock<Vec<TicketKey>>);

struct TicketKey {
    name: [u8; NAME],
    key: LessSafeKey,
}

impl Tickets {
    pub fn new(keys: Option<&TicketKeys>) -> Tickets {
        Tickets(RwLock::new(keys.map(all).unwrap_or_default()))
    }

    pub fn change(&self, keys: &TicketKeys) {
        *self.0.write().unwrap_or_else(PoisonError::into_inner) = all(keys);
    }
}

fn all(keys: &TicketKeys) -> Vec<TicketKey> {
    [&keys.current, &keys.previous, &keys.next].into_iter().filter_map(TicketKey::new).collect()
}

impl TicketKey {
    fn new(key: &[u8; 32]) -> Option<TicketKey> {
        let name = digest(&SHA256, key).as_ref()[..NAME].try_into().ok()?;
        Some(TicketKey { name, key: LessSafeKey::new(UnboundKey::new(&AES_256_GCM, key).ok()?) })
    }

    fn seal(&self, session: &[u8]) -> Option<Vec<u8>> {
        let mut nonce = [0; NONCE_LEN];
        SystemRandom::new().fill(&mut nonce).ok()?;
        let mut ticket = [&self.name[..], &nonce, session].concat();
        let (nonce, aad) = (Nonce::assume_unique_for_key(nonce), Aad::from(self.name));
        let tag = self.key.seal_in_place_separate_tag(nonce, aad, &mut ticket[NAME + NONCE_LEN..]).ok()?;
        ticket.extend(tag.as_ref());
        Some(ticket)
    }

    fn open(&self, nonce: &[u8], sealed: &[u8]) -> Option<Vec<u8>> {
        let mut sealed = sealed.to_vec();
        let nonce = Nonce::try_assume_unique_for_key(nonce).ok()?;
        let length = self.key.open_in_place(nonce, Aad::from(self.name), &mut sealed).ok()?.len();
        sealed.truncate(length);
        Some(sealed)
    }
}

impl ProducesTickets for Tickets {
    fn enabled(&self) -> bool {
        !self.0.read().unwrap_or_else(PoisonError::into_inner).is_empty()
    }

    fn lifetime(&self) -> u32 {
        LIFETIME_SECONDS
    }

    fn encrypt(&self, session: &[u8]) -> Option<Vec<u8>> {
        self.0.read().unwrap_or_else(PoisonError::into_inner).first()?.seal(session)
    }

    fn decrypt(&self, ticket: &[u8]) -> Option<Vec<u8>> {
        let (name, rest) = ticket.split_at_checked(NAME)?;
        let (nonce, sealed) = rest.split_at_checked(NONCE_LEN)?;
        let keys = self.0.read().unwrap_or_else(PoisonError::into_inner);
        keys.iter().find(|key| key.name == name)?.open(nonce, sealed)
    }
}

impl std::fmt::Debug for Tickets {
    fn fmt(&self, f: &mut std::fmt::Formatter) -> std::fmt::Result {
        f.write_str("Tickets")
    }
}
