//! What the process does: it answers whoever asks, each in turn, until nobody can ask any more.

use std::{
    io::ErrorKind,
    os::fd::{AsFd, BorrowedFd, OwnedFd},
    time::{Duration, Instant},
};

use nix::{
    errno::Errno,
    poll::{PollFd, PollFlags, PollTimeout, poll},
    sys::socket::{MsgFlags, recv},
};
use ostler_wire::{Channel, channel};
use rustls::SignatureScheme;
use std::os::fd::AsRawFd;

use super::{HEAD, LONGEST, NUMBER, Report, ToKeeper, is_of_handshake};
use crate::certificates::Keys;

/// So many sockets are kept; the oldest goes for another. There are never as many workers.
const MOST: usize = 2048;
/// Before another try, where the system does not let it wait for questions.
const PAUSE: Duration = Duration::from_millis(100);
/// How long handshakes may still come that have begun before another keeper took this one's place.
const LINGERS: Duration = Duration::from_secs(30);

/// Answers until the master has closed its end, and every worker, too, or some time has passed since.
pub fn keep(master: Channel, keys: &Keys) {
    let mut keeper = Process { master: Some(master), workers: Vec::new(), until: None };
    while keeper.until.is_none_or(|until| !keeper.workers.is_empty() && Instant::now() < until) {
        keeper.turn(keys);
    }
}

struct Process {
    /// Until it has closed its end.
    master: Option<Channel>,
    workers: Vec<OwnedFd>,
    /// When it ends, once the master has closed its end.
    until: Option<Instant>,
}

impl Process {
    /// One question of each worker that asks: one that asks without end takes no more than its turn.
    fn turn(&mut self, keys: &Keys) {
        let sources = self.master.iter().map(AsFd::as_fd).chain(self.workers.iter().map(AsFd::as_fd));
        let mut polled: Vec<PollFd> = sources.map(|source| PollFd::new(source, PollFlags::POLLIN)).collect();
        let left = self.until.map(|until| until.saturating_duration_since(Instant::now()));
        let timeout = left.map_or(PollTimeout::NONE, |left| PollTimeout::try_from(left).unwrap_or(PollTimeout::MAX));
        if poll(&mut polled, timeout).is_err() {
            // The master ends a keeper that cannot go on.
            std::thread::sleep(PAUSE);
            return;
        }
        let mut ready = polled.iter().map(|one| one.any().unwrap_or(true)).collect::<Vec<_>>().into_iter();
        let hears_master = self.master.is_some() && ready.next() == Some(true);
        self.workers.retain(|worker| ready.next() != Some(true) || answer(worker.as_fd(), keys));
        if hears_master {
            self.hear_master();
        }
    }

    fn hear_master(&mut self) {
        let Some(master) = &self.master else { return };
        match master.receive_now::<ToKeeper>() {
            Ok(Some((ToKeeper, sockets))) if sockets.is_empty() => {
                // A master that does not read is not waited for.
                let _ = master.send(&Report::Lives, &[]);
            }
            Ok(Some((ToKeeper, sockets))) => {
                self.workers.extend(sockets);
                self.workers.drain(..self.workers.len().saturating_sub(MOST));
            }
            Err(error) if error.kind() == ErrorKind::WouldBlock => {}
            _ => (self.master, self.until) = (None, Some(Instant::now() + LINGERS)),
        }
    }
}

/// Answers one question, if there is one. False if nobody asks there any more, or nobody who asks as a worker does.
fn answer(worker: BorrowedFd, keys: &Keys) -> bool {
    let mut question = [0; HEAD + LONGEST + 1];
    let length = match recv(worker.as_raw_fd(), &mut question, MsgFlags::MSG_DONTWAIT) {
        Err(Errno::EAGAIN | Errno::EINTR) => return true,
        Err(_) | Ok(0) => return false,
        Ok(length) => length,
    };
    let Some((head, message)) = question[..length].split_first_chunk::<HEAD>() else { return false };
    if message.len() > LONGEST {
        return false;
    }
    let (number, rest) = head.split_at(NUMBER);
    let (key, scheme) = rest.split_at(8);
    let key = u64::from_le_bytes(key.try_into().expect("it has 8 bytes"));
    let scheme = u16::from_le_bytes(scheme.try_into().expect("it has 2 bytes"));
    let signed = is_of_handshake(message).then(|| keys.sign(key, SignatureScheme::from(scheme), message)).flatten();
    // Who does not read has no answer.
    let _ = channel::send(worker, &[number, &signed.unwrap_or_default()].concat(), &[]);
    true
}
