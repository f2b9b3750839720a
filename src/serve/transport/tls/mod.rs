//! A connection within TLS: its handshake first, then its records. Between requests it holds its keys and no buffers.

mod kernel;
mod receiving;
mod sending;
#[cfg(test)]
mod tests;

use std::{io, os::fd::OwnedFd, sync::Arc};

use ostler_tls::{Acceptor, Established, Facts, Fault, Handshake, Records};
use zeroize::Zeroizing;

use self::{receiving::Received, sending::Unsent};

/// The content type that each handshake begins with (RFC 8446, 5.1).
const HANDSHAKE: u8 = 22;

/// Room for what moves, received bytes and a client's certificate aside: secrets, a name, lengths.
const STATE: usize = 512;

/// The state of one connection.
pub(crate) struct Tls {
    stage: Stage,
    received: Received,
    unsent: Unsent,
}

enum Stage {
    /// Nothing has come yet.
    Fresh(Arc<Acceptor>),
    Shaking(Box<Handshake>),
    Open(Box<Open>),
    /// The client speaks without TLS.
    Lacking,
    /// Nothing more is opened or sealed; what was wrong, for the log.
    Over(String),
}

struct Open {
    records: Records,
    facts: Facts,
}

/// How far a handshake has come.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Shaken {
    /// It is over, or there is none.
    Over,
    /// More must come.
    Waiting,
    /// More may have come already.
    More,
    /// The client has left.
    Left,
}

impl Tls {
    /// A connection that begins with these bytes.
    pub fn new(acceptor: Arc<Acceptor>, behind: Vec<u8>) -> Tls {
        Tls { stage: Stage::Fresh(acceptor), received: Received::of(behind), unsent: Unsent::default() }
    }

    fn expects_handshake(&self) -> bool {
        matches!(self.stage, Stage::Fresh(_) | Stage::Shaking(_))
    }

    pub fn shakes(&self) -> bool {
        matches!(self.stage, Stage::Shaking(_))
    }

    pub fn is_blocked(&self) -> bool {
        !self.unsent.is_empty()
    }

    pub fn is_lacking(&self) -> bool {
        matches!(self.stage, Stage::Lacking)
    }

    pub fn fault(&self) -> Option<String> {
        match &self.stage {
            Stage::Over(why) if !why.is_empty() => Some(why.clone()),
            _ => None,
        }
    }

    pub fn facts(&self) -> Option<&Facts> {
        match &self.stage {
            Stage::Open(open) => Some(&open.facts),
            _ => None,
        }
    }

    /// Whether its keys are nearly used up: the next response is to be the last.
    pub fn is_worn(&self) -> bool {
        matches!(&self.stage, Stage::Open(open) if open.records.is_worn())
    }

    // The handshake --------------------------------------------------------------------------------------------------

    /// Goes on with the handshake by what one receive brings.
    pub fn shake(&mut self, socket: &OwnedFd, scratch: &mut [u8]) -> io::Result<Shaken> {
        if !self.expects_handshake() {
            return Ok(Shaken::Over);
        }
        if !self.unsent.flush(socket)? {
            return Ok(Shaken::Waiting);
        }
        let (mut bytes, mut more) = (self.received.take_raw(), true);
        if bytes.is_empty() {
            match super::receive(socket, scratch)? {
                None => return Ok(Shaken::Waiting),
                Some(0) => return Ok(Shaken::Left),
                Some(length) => {
                    bytes.extend_from_slice(&scratch[..length]);
                    more = length == scratch.len();
                }
            }
        }
        self.step(socket, bytes)?;
        Ok(match more {
            _ if !self.expects_handshake() => Shaken::Over,
            true => Shaken::More,
            false => Shaken::Waiting,
        })
    }

    /// One step: what these bytes make of the handshake.
    fn step(&mut self, socket: &OwnedFd, bytes: Vec<u8>) -> io::Result<()> {
        let stage = std::mem::replace(&mut self.stage, Stage::Over(String::new()));
        let handshake = match stage {
            // A method's letter: somebody has forgotten the s of https.
            Stage::Fresh(_) if bytes[0].is_ascii_uppercase() => {
                self.received = Received::plain(bytes);
                self.stage = Stage::Lacking;
                return Ok(());
            }
            Stage::Fresh(_) if bytes[0] != HANDSHAKE => return Err(self.end("no TLS has come".to_owned())),
            Stage::Fresh(acceptor) => acceptor.begin().map_err(|failure| self.end(failure.0))?,
            Stage::Shaking(handshake) => *handshake,
            other => {
                self.stage = other;
                return Ok(());
            }
        };
        let taken = handshake.take(&bytes, self.unsent.sealed());
        let sent = self.unsent.flush(socket);
        match taken {
            Err(failure) => return Err(self.end(failure.0)),
            Ok(Err(handshake)) => self.stage = Stage::Shaking(Box::new(handshake)),
            Ok(Ok(Established { records, facts, behind })) => {
                self.received = Received::of(behind);
                self.stage = Stage::Open(Box::new(Open { records, facts }));
            }
        }
        sent.map(|_| ())
    }

    /// Ends it: its keys are dropped. The error is for the caller, the reason for the log.
    fn end(&mut self, why: String) -> io::Error {
        self.stage = Stage::Over(why);
        self.received = Received::default();
        io::ErrorKind::InvalidData.into()
    }

    /// Ends it after a fault that records have shown, and tells the client.
    fn end_by(&mut self, fault: Fault, socket: &OwnedFd) -> io::Error {
        if let Some(alert) = fault.alert {
            self.alert(socket, alert);
        }
        self.end(fault.why.to_owned())
    }

    // Moving ---------------------------------------------------------------------------------------------------------

    /// Whether it can move: nothing has begun that is not over.
    pub fn can_move(&self) -> bool {
        match &self.stage {
            Stage::Fresh(_) => self.received.is_empty(),
            Stage::Open(open) => self.unsent.is_empty() && !open.records.has_ended(),
            Stage::Shaking(_) | Stage::Lacking | Stage::Over(_) => false,
        }
    }

    /// What moves; `None` where its handshake has not begun.
    pub fn export(&self) -> Option<Zeroizing<Vec<u8>>> {
        let Stage::Open(open) = &self.stage else { return None };
        let certificate = open.facts.client_certificate.as_ref().map_or(0, Vec::len);
        // Room at once: a vector that grows leaves a copy of the secrets behind.
        let mut state = Zeroizing::new(Vec::with_capacity(STATE + self.received.length() + certificate));
        open.records.export(&mut state);
        open.facts.export(&mut state);
        self.received.export(&mut state);
        Some(state)
    }

    /// Makes it of what has moved here.
    pub fn import(mut state: &[u8]) -> Option<Tls> {
        let records = Records::import(&mut state)?;
        let facts = Facts::import(records.suite(), &mut state)?;
        let received = Received::import(&mut state)?;
        Some(Tls { stage: Stage::Open(Box::new(Open { records, facts })), received, unsent: Unsent::default() })
    }

    /// How many bytes of it were received and not taken yet.
    pub fn held(&self) -> usize {
        self.received.length()
    }

    /// It has moved: forgets its keys, which are wiped.
    pub fn surrender(&mut self) {
        self.end(String::new());
    }
}

impl std::fmt::Debug for Tls {
    fn fmt(&self, f: &mut std::fmt::Formatter) -> std::fmt::Result {
        f.write_str(match self.stage {
            Stage::Fresh(_) => "Tls(fresh)",
            Stage::Shaking(_) => "Tls(shaking hands)",
            Stage::Open(_) => "Tls(open)",
            Stage::Lacking => "Tls(lacking)",
            Stage::Over(_) => "Tls(over)",
        })
    }
}
