//! From the socket to data: records are received into the reader's buffer and opened there, in place.

use std::{io, os::fd::OwnedFd};

use ostler_tls::{Fault, Records};

use super::{Stage, Tls};

/// What was received and not taken. Empty while the connection idles.
#[derive(Default)]
pub(super) struct Received {
    /// Of a record that is not whole yet; behind a handshake also whole ones.
    raw: Vec<u8>,
    /// What a record held that did not fit the reader's buffer.
    data: Vec<u8>,
}

impl Received {
    /// Bytes that were not opened yet.
    pub fn of(raw: Vec<u8>) -> Received {
        Received { raw, data: Vec::new() }
    }

    /// Bytes that came without TLS.
    pub fn plain(data: Vec<u8>) -> Received {
        Received { raw: Vec::new(), data }
    }

    pub fn take_raw(&mut self) -> Vec<u8> {
        std::mem::take(&mut self.raw)
    }

    pub fn is_empty(&self) -> bool {
        self.length() == 0
    }

    pub fn length(&self) -> usize {
        self.raw.len() + self.data.len()
    }

    /// Takes data that waits.
    fn take(&mut self, buffer: &mut [u8]) -> usize {
        let length = buffer.len().min(self.data.len());
        buffer[..length].copy_from_slice(&self.data[..length]);
        self.data.drain(..length);
        if self.data.is_empty() {
            self.data = Vec::new();
        }
        length
    }

    /// How many bytes the record that has begun will have, as far as its bytes tell; `None` if no record has begun.
    fn wanted(&self) -> Option<usize> {
        (!self.raw.is_empty()).then(|| Records::length(&self.raw).unwrap_or(self.raw.len() + 1))
    }

    fn has_whole_record(&self) -> bool {
        Records::length(&self.raw).is_some_and(|length| length <= self.raw.len())
    }

    /// Opens the whole records that wait.
    fn open(&mut self, records: &mut Records) -> Result<(), Fault> {
        let opened = records.open(&mut self.raw)?;
        let rest = self.raw.split_off(opened.consumed);
        self.raw.truncate(opened.data);
        self.data.append(&mut self.raw);
        self.raw = rest;
        Ok(())
    }

    /// Appends both parts, each behind its length.
    pub fn export(&self, out: &mut Vec<u8>) {
        for part in [&self.raw, &self.data] {
            out.extend((part.len() as u32).to_le_bytes());
            out.extend(part);
        }
    }

    /// Reads them from the beginning of `bytes`.
    pub fn import(bytes: &mut &[u8]) -> Option<Received> {
        let mut part = || {
            let length = u32::from_le_bytes(bytes.split_off(..4)?.try_into().ok()?);
            bytes.split_off(..length as usize).map(<[u8]>::to_vec)
        };
        Some(Received { raw: part()?, data: part()? })
    }
}

impl Tls {
    /// Whether there is data, or the client's end, of which the kernel knows nothing any more.
    pub fn has_more(&self) -> bool {
        let ended = matches!(&self.stage, Stage::Open(open) if open.records.has_ended());
        ended || !self.received.data.is_empty() || self.received.has_whole_record()
    }

    /// Receives what is there, up to the buffer's length: less than that only if the socket had no more.
    pub fn receive(&mut self, socket: &OwnedFd, buffer: &mut [u8]) -> io::Result<Option<usize>> {
        self.unsent.flush(socket)?;
        let Stage::Open(open) = &mut self.stage else { return self.receive_without(socket, buffer) };
        match receive(&mut self.received, &mut open.records, socket, buffer) {
            Ok(received) => Ok(received),
            Err(Ended::By(error)) => Err(error),
            Err(Ended::Fault(fault)) => Err(self.end_by(fault, socket)),
        }
    }

    /// Before and after its records.
    fn receive_without(&mut self, socket: &OwnedFd, buffer: &mut [u8]) -> io::Result<Option<usize>> {
        match self.stage {
            Stage::Fresh(_) | Stage::Shaking(_) => Ok(None),
            Stage::Lacking if !self.received.data.is_empty() => Ok(Some(self.received.take(buffer))),
            // What comes after the end is read to be discarded.
            Stage::Lacking | Stage::Over(_) | Stage::Open(_) => super::super::receive(socket, buffer),
        }
    }
}

enum Ended {
    By(io::Error),
    Fault(Fault),
}

impl From<io::Error> for Ended {
    fn from(error: io::Error) -> Ended {
        Ended::By(error)
    }
}

impl From<Fault> for Ended {
    fn from(fault: Fault) -> Ended {
        Ended::Fault(fault)
    }
}

fn receive(
    received: &mut Received,
    records: &mut Records,
    socket: &OwnedFd,
    buffer: &mut [u8],
) -> Result<Option<usize>, Ended> {
    let mut filled = received.take(buffer);
    let mut drained = false;
    while filled < buffer.len() && !drained && !records.has_ended() {
        let room = &mut buffer[filled..];
        if received.has_whole_record() {
            received.open(records)?;
            filled += received.take(room);
            continue;
        }
        let begun = received.raw.len();
        let wanted = received.wanted().unwrap_or(1);
        // The rest of a record that does not fit the buffer comes beside it.
        if wanted > room.len() {
            received.raw.resize(wanted, 0);
            let came = super::super::receive(socket, &mut received.raw[begun..]);
            received.raw.truncate(begun + came.as_ref().map_or(0, |came| came.unwrap_or(0)));
            match came? {
                None => drained = true,
                Some(0) => return Ok(ended(filled)),
                Some(length) => drained = begun + length < wanted,
            }
            continue;
        }
        room[..begun].copy_from_slice(&received.raw);
        match super::super::receive(socket, &mut room[begun..])? {
            None => drained = true,
            Some(0) => return Ok(ended(filled)),
            Some(length) => {
                drained = begun + length < room.len();
                received.raw = Vec::new();
                let came = &mut room[..begun + length];
                let opened = records.open(came)?;
                if opened.consumed < came.len() {
                    received.raw = came[opened.consumed..].to_vec();
                }
                filled += opened.data;
            }
        }
    }
    Ok(if filled > 0 || buffer.is_empty() || records.has_ended() { Some(filled) } else { None })
}

/// The client's FIN. Whether it was said before that nothing is missing does not matter: HTTP tells where a request ends.
fn ended(filled: usize) -> Option<usize> {
    Some(filled)
}
