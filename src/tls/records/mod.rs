//! The record layer after the handshake, of a server: TLS 1.3 (RFC 8446, 5) and 1.2 (RFC 5246, 6.2). Its state can be exported, and goes on
//! in another process.

mod kernel;
mod keys;
mod state;
#[cfg(test)]
mod tests;

use self::keys::Keys;
use crate::suite::{Suite, Version};

/// The most content of one record.
pub const PLAINTEXT: usize = 1 << 14;
/// Kind, version, length.
const HEADER: usize = 5;

const CHANGE_CIPHER_SPEC: u8 = 20;
/// The kind of a record with an alert.
pub const ALERT: u8 = 21;
const HANDSHAKE: u8 = 22;
const DATA: u8 = 23;

/// The alert that says that nothing more comes.
pub const CLOSE_NOTIFY: u8 = 0;
const UNEXPECTED_MESSAGE: u8 = 10;
const BAD_RECORD_MAC: u8 = 20;
const RECORD_OVERFLOW: u8 = 22;
const PROTOCOL_VERSION: u8 = 70;
const INTERNAL_ERROR: u8 = 80;
const USER_CANCELED: u8 = 90;
const NO_RENEGOTIATION: u8 = 100;

const UNREADABLE: Fault = Fault::theirs(BAD_RECORD_MAC, "a record cannot be decrypted");
const USED_UP: Fault = Fault { alert: None, why: "the keys have sealed as many records as they may" };
/// Records in a row that bring no data. OpenSSL and rustls allow as many.
const MOST_FRUITLESS: u8 = 32;
/// KeyUpdate, of one byte (RFC 8446, 4.6.3); then whether the other side is to update, too.
const KEY_UPDATE: [u8; 4] = [24, 0, 0, 1];

/// What ends a connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Fault {
    /// What the peer is told; none where it has said so itself.
    pub alert: Option<u8>,
    /// For people.
    pub why: &'static str,
}

impl Fault {
    const fn theirs(alert: u8, why: &'static str) -> Fault {
        Fault { alert: Some(alert), why }
    }
}

/// Both directions of a connection.
pub struct Records {
    receiving: Keys,
    sending: Keys,
    /// The peer has asked for other keys. They come before the next data.
    update_asked: bool,
    /// The beginning of a KeyUpdate, whose rest is in the next record.
    begun: Vec<u8>,
    fruitless: u8,
    /// The peer has said that it sends no more.
    ended: bool,
    /// The kernel makes what is sent, and has the keys.
    left_to_kernel: bool,
}

/// What [`Records::open`] has made of the bytes.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Opened {
    /// The first so many bytes are data now.
    pub data: usize,
    /// So many bytes were whole records. The beginning of the next is behind them.
    pub consumed: usize,
}

impl Records {
    /// With the suite's number, and each direction's secret ([`Suite::secret_length`]) and next number.
    pub(crate) fn new(suite: &'static Suite, receiving: (&[u8], u64), sending: (&[u8], u64)) -> Option<Records> {
        Some(Records {
            receiving: Keys::new(suite, receiving.0, receiving.1)?,
            sending: Keys::new(suite, sending.0, sending.1)?,
            update_asked: false,
            begun: Vec::new(),
            fruitless: 0,
            ended: false,
            left_to_kernel: false,
        })
    }

    fn version(&self) -> Version {
        self.sending.suite.version
    }

    /// The suite's number (IANA).
    pub fn suite(&self) -> u16 {
        self.sending.suite.number
    }

    /// Whether the peer has said that it sends no more (close_notify).
    pub fn has_ended(&self) -> bool {
        self.ended
    }

    /// Whether its keys are nearly used up and it cannot get others: TLS 1.2 has no KeyUpdate, nor has the kernel. A last response fits.
    pub fn is_worn(&self) -> bool {
        let stays = self.version() == Version::Tls12 || self.left_to_kernel;
        stays && self.sending.sequence >= self.sending.suite.most_records / 4 * 3
    }

    fn is_used_up(&self) -> bool {
        self.sending.sequence + 1 >= self.sending.suite.most_records
    }

    /// How long the record will be that `bytes` begin; `None` as long as they do not tell.
    pub fn length(bytes: &[u8]) -> Option<usize> {
        let [_, _, _, high, low, ..] = bytes else { return None };
        Some(HEADER + usize::from(u16::from_be_bytes([*high, *low])))
    }

    // Receiving ------------------------------------------------------------------------------------------------------

    /// Opens the whole records that `bytes` begin with, in place.
    pub fn open(&mut self, bytes: &mut [u8]) -> Result<Opened, Fault> {
        let mut opened = Opened::default();
        while !self.ended
            && let Some(length) = self.whole(&bytes[opened.consumed..])?
        {
            let end = opened.consumed + length;
            let (kind, length) = self.receiving.open(&mut bytes[..end], opened.data, opened.consumed)?;
            let content = &bytes[opened.data..opened.data + length];
            match kind {
                DATA if length > 0 => {
                    opened.data += length;
                    self.fruitless = 0;
                }
                DATA => self.count_fruitless()?,
                ALERT => self.alerted(content)?,
                HANDSHAKE => self.message(content)?,
                _ => return Err(Fault::theirs(UNEXPECTED_MESSAGE, "a record of a kind that cannot come now")),
            }
            if kind != HANDSHAKE && !self.begun.is_empty() {
                return Err(Fault::theirs(UNEXPECTED_MESSAGE, "a message is broken off"));
            }
            opened.consumed = end;
        }
        if self.ended {
            // What comes behind it is ignored (RFC 8446, 6.1).
            opened.consumed = bytes.len();
        }
        Ok(opened)
    }

    /// The length of the whole record at the beginning, if there is one.
    fn whole(&self, bytes: &[u8]) -> Result<Option<usize>, Fault> {
        let Some(length) = Records::length(bytes) else { return Ok(None) };
        let expansion = match self.version() {
            Version::Tls12 => 2048,
            Version::Tls13 => 256,
        };
        match bytes[0] {
            DATA => {}
            ALERT | HANDSHAKE | CHANGE_CIPHER_SPEC if self.version() == Version::Tls12 => {}
            _ => return Err(Fault::theirs(UNEXPECTED_MESSAGE, "a record of a kind that cannot come now")),
        }
        if bytes[1..3] != [3, 3] {
            return Err(Fault::theirs(PROTOCOL_VERSION, "a record of another version"));
        }
        if length > HEADER + PLAINTEXT + expansion {
            return Err(Fault::theirs(RECORD_OVERFLOW, "a record is too long"));
        }
        Ok((length <= bytes.len()).then_some(length))
    }

    fn alerted(&mut self, content: &[u8]) -> Result<(), Fault> {
        let [level, description] = content else {
            return Err(Fault::theirs(UNEXPECTED_MESSAGE, "an alert has two bytes"));
        };
        let warning = match self.version() {
            Version::Tls12 => *level == 1,
            Version::Tls13 => *description == USER_CANCELED,
        };
        match *description {
            CLOSE_NOTIFY => self.ended = true,
            _ if warning => self.count_fruitless()?,
            _ => return Err(Fault { alert: None, why: "the client has sent an alert" }),
        }
        Ok(())
    }

    /// A message of the handshake's kind: a KeyUpdate.
    fn message(&mut self, content: &[u8]) -> Result<(), Fault> {
        if self.version() == Version::Tls12 {
            return Err(Fault::theirs(NO_RENEGOTIATION, "there is no renegotiation"));
        }
        self.count_fruitless()?;
        self.begun.extend(content.iter().take(KEY_UPDATE.len() + 2));
        let known = self.begun.len().min(KEY_UPDATE.len());
        match &self.begun[..] {
            // Nothing may follow it in its record: what follows has other keys (RFC 8446, 5.1).
            [24, 0, 0, 1, 1] if self.left_to_kernel => Err(kernel::CANNOT_UPDATE),
            [24, 0, 0, 1, asks @ (0 | 1)] => {
                self.update_asked |= *asks == 1;
                self.begun.clear();
                self.receiving.update()
            }
            [] => Err(Fault::theirs(UNEXPECTED_MESSAGE, "a message is empty")),
            begun if begun.len() <= known && begun == &KEY_UPDATE[..known] => Ok(()),
            _ => Err(Fault::theirs(UNEXPECTED_MESSAGE, "a message that cannot come now")),
        }
    }

    fn count_fruitless(&mut self) -> Result<(), Fault> {
        self.fruitless += 1;
        if self.fruitless > MOST_FRUITLESS {
            return Err(Fault::theirs(UNEXPECTED_MESSAGE, "many records without data"));
        }
        Ok(())
    }

    // Sending --------------------------------------------------------------------------------------------------------

    /// Appends records with the data of the parts behind the first `skip` bytes, at most `most` of it. Returns how much data they hold.
    /// Where others have to come, the keys are changed first.
    pub fn seal(&mut self, parts: &[&[u8]], skip: usize, most: usize, out: &mut Vec<u8>) -> Result<usize, Fault> {
        let all: usize = parts.iter().map(|part| part.len()).sum();
        let length = all.saturating_sub(skip).min(most);
        let records = length.div_ceil(PLAINTEXT);
        out.reserve(length + records * self.sending.overhead() + self.sending.overhead() + KEY_UPDATE.len() + 1);
        let mut parts = Parts { rest: parts, at: skip };
        let mut sealed = 0;
        while sealed < length {
            self.change_keys(out)?;
            let next = (length - sealed).min(PLAINTEXT);
            self.sending.seal(DATA, out, |out| parts.copy(next, out))?;
            sealed += next;
        }
        Ok(sealed)
    }

    /// Sends a KeyUpdate where the peer has asked for one, or the keys have sealed as many records as they may.
    fn change_keys(&mut self, out: &mut Vec<u8>) -> Result<(), Fault> {
        let used_up = self.is_used_up();
        match self.version() {
            _ if self.left_to_kernel => Err(kernel::HAS_KEYS),
            Version::Tls12 if used_up => Err(USED_UP),
            Version::Tls13 if used_up || self.update_asked => self.update(out),
            Version::Tls12 | Version::Tls13 => Ok(()),
        }
    }

    fn update(&mut self, out: &mut Vec<u8>) -> Result<(), Fault> {
        self.update_asked = false;
        self.sending.seal(HANDSHAKE, out, |out| {
            out.extend(KEY_UPDATE);
            out.push(0);
        })?;
        self.sending.update()
    }

    /// Appends an alert.
    pub fn alert(&mut self, description: u8, out: &mut Vec<u8>) -> Result<(), Fault> {
        self.sending.seal(ALERT, out, |out| out.extend(Records::alert_content(description)))
    }

    /// The level and the description.
    pub fn alert_content(description: u8) -> [u8; 2] {
        [if description == CLOSE_NOTIFY { 1 } else { 2 }, description]
    }

    /// Overwrites the keys: the connection goes on in another process, and no number may be used twice.
    pub fn wipe(&mut self) {
        self.receiving.wipe();
        self.sending.wipe();
    }
}

/// What a fuzzer's client does that ours does not.
#[cfg(fuzzing)]
impl Records {
    /// Appends a record of any kind.
    pub fn seal_any(&mut self, kind: u8, content: &[u8], out: &mut Vec<u8>) {
        let _ = self.sending.seal(kind, out, |out| out.extend_from_slice(content));
    }

    /// Goes over to the next keys without a word.
    pub fn change_sending_keys(&mut self) {
        let _ = self.sending.update();
    }
}

/// Data in parts, and how much of the first ones was taken.
struct Parts<'p> {
    rest: &'p [&'p [u8]],
    at: usize,
}

impl Parts<'_> {
    /// Appends the next `length` bytes.
    fn copy(&mut self, mut length: usize, out: &mut Vec<u8>) {
        while let [first, rest @ ..] = self.rest {
            match first.get(self.at..).filter(|left| !left.is_empty()) {
                None => {
                    self.at -= first.len();
                    self.rest = rest;
                }
                Some(_) if length == 0 => return,
                Some(left) => {
                    let piece = &left[..left.len().min(length)];
                    out.extend_from_slice(piece);
                    self.at += piece.len();
                    length -= piece.len();
                }
            }
        }
    }
}

impl std::fmt::Debug for Records {
    fn fmt(&self, f: &mut std::fmt::Formatter) -> std::fmt::Result {
        write!(f, "Records({})", self.sending.suite.name)
    }
}
