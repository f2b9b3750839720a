//! From data to the socket. What the caller hears to be sent has left for the kernel, so that nothing is half out when a connection moves.

use std::{
    io,
    os::fd::{BorrowedFd, OwnedFd},
};

use nix::sys::uio::pread;
use ostler_tls::CLOSE_NOTIFY;

use super::{Stage, Tls, kernel};

/// So much data is sealed before it is sent: four records.
const BATCH: usize = 4 * ostler_tls::PLAINTEXT;

/// What was sealed and has not left for the kernel.
#[derive(Default)]
pub(super) struct Unsent {
    sealed: Vec<u8>,
    /// How much data it holds, or held, that was not reported as sent. The caller's next bytes are these.
    pub owed: usize,
}

impl Unsent {
    pub fn is_empty(&self) -> bool {
        self.sealed.is_empty() && self.owed == 0
    }

    /// Where to append what is to be sent next.
    pub fn sealed(&mut self) -> &mut Vec<u8> {
        &mut self.sealed
    }

    /// Sends it. Returns whether the kernel has all of it.
    pub fn flush(&mut self, socket: &OwnedFd) -> io::Result<bool> {
        let mut sent = 0;
        while sent < self.sealed.len()
            && let Some(taken) = super::super::send(socket, &self.sealed[sent..])?
        {
            sent += taken;
        }
        if sent == self.sealed.len() {
            self.sealed = Vec::new();
        } else {
            self.sealed.drain(..sent);
        }
        Ok(self.sealed.is_empty())
    }

    /// Reports data that was sent meanwhile.
    pub fn report(&mut self, most: usize) -> usize {
        let reported = self.owed.min(most);
        self.owed -= reported;
        reported
    }
}

impl Tls {
    /// Sends a prefix of the parts. The bytes that it does not report must come again.
    pub fn send(&mut self, socket: &OwnedFd, parts: &[&[u8]]) -> io::Result<Option<usize>> {
        let all: usize = parts.iter().map(|part| part.len()).sum();
        if self.is_left_to_kernel() {
            return self.send_by_kernel(socket, all, || super::super::send_parts(socket, parts));
        }
        let mut sent = 0;
        loop {
            if !self.unsent.flush(socket)? {
                return Ok((sent > 0).then_some(sent));
            }
            sent += self.unsent.report(all - sent);
            if sent == all {
                return Ok(Some(sent));
            }
            self.seal(socket, parts, sent)?;
        }
    }

    /// Seals the next batch of the parts, behind the first `skip` bytes.
    fn seal(&mut self, socket: &OwnedFd, parts: &[&[u8]], skip: usize) -> io::Result<()> {
        let sealed = match &mut self.stage {
            Stage::Open(open) => open.records.seal(parts, skip, BATCH, &mut self.unsent.sealed),
            Stage::Lacking => {
                self.unsent.sealed = parts.concat().split_off(skip);
                Ok(self.unsent.sealed.len())
            }
            Stage::Fresh(_) | Stage::Shaking(_) | Stage::Over(_) => return Err(io::ErrorKind::BrokenPipe.into()),
        };
        self.unsent.owed = sealed.map_err(|fault| self.end_by(fault, socket))?;
        Ok(())
    }

    /// Sends a prefix of a file's part; moves `offset`. `Some(0)` where the file is shorter than that.
    pub fn send_file(
        &mut self,
        socket: &OwnedFd,
        file: BorrowedFd,
        offset: &mut u64,
        length: usize,
    ) -> io::Result<Option<usize>> {
        if length >= BATCH {
            self.leave_to_kernel(socket);
        }
        if self.is_left_to_kernel() {
            let mut end = *offset;
            let sent =
                self.send_by_kernel(socket, length, || super::super::send_file(socket, file, &mut end, length))?;
            *offset += sent.unwrap_or(0) as u64;
            return Ok(sent);
        }
        let mut sent = 0;
        let mut buffer = Vec::new();
        while sent < length {
            if !self.unsent.flush(socket)? {
                return Ok((sent > 0).then_some(sent));
            }
            let reported = self.unsent.report(length - sent);
            sent += reported;
            *offset += reported as u64;
            if reported == 0 {
                buffer.resize(BATCH.min(length - sent), 0);
                let read = pread(file, &mut buffer, *offset as i64)?;
                if read == 0 {
                    break;
                }
                self.seal(socket, &[&buffer[..read]], 0)?;
            }
        }
        Ok(Some(sent))
    }

    /// Says that nothing more comes (close_notify), if nothing is half out and everything was said.
    pub fn say_goodbye(&mut self, socket: &OwnedFd) {
        if self.unsent.is_empty() {
            self.alert(socket, CLOSE_NOTIFY);
        }
    }

    /// Sends an alert behind what waits. A client that has closed does not hear it, and need not.
    pub(super) fn alert(&mut self, socket: &OwnedFd, description: u8) {
        let Stage::Open(open) = &mut self.stage else { return };
        if open.records.is_left_to_kernel() {
            kernel::send_alert(socket, description);
        } else if open.records.alert(description, self.unsent.sealed()).is_ok() {
            let _ = self.unsent.flush(socket);
        }
    }
}
