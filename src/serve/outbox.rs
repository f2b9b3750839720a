//! What a slow client has still to take of a response. The call fills it, the loop drains it, both at once.

use std::{
    io,
    os::fd::{AsFd, AsRawFd, OwnedFd},
    path::Path,
    sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError},
};

use crate::{
    application::{Gone, Waiting},
    connection::TURN,
    socket,
    spool::{Front, Spool},
};

/// Up to here a response waits in memory, above it in a spool file.
const ROOM: usize = 256 * 1024;
/// Up to here it waits in a spool file, above it the application waits.
const LARGEST: u64 = 1 << 30;

/// Shared by the loop and, until the call ends, the thread that makes the response.
#[derive(Debug, Default)]
pub(crate) struct Outbox {
    waiting: Mutex<State>,
    drained: Condvar,
}

#[derive(Debug, Default)]
struct State {
    spool: Spool,
    file: Option<FilePart>,
    taken: u64,
    broken: Option<Gone>,
}

/// A part of a file that follows everything else.
#[derive(Debug)]
pub(crate) struct FilePart {
    pub file: OwnedFd,
    pub offset: u64,
    pub left: u64,
}

/// How far [`Outbox::drain`] came.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Drained {
    /// The kernel has it all.
    Empty,
    /// Enough for one turn of the loop.
    More,
    /// The client must take some first. How many bytes it has taken since the response began.
    Blocked { taken: u64 },
}

impl Outbox {
    /// For what is left of a response of which the kernel has taken so many bytes already.
    pub fn behind(taken: u64) -> Arc<Outbox> {
        let outbox = Outbox::default();
        outbox.state().taken = taken;
        Arc::new(outbox)
    }

    fn state(&self) -> MutexGuard<'_, State> {
        // A panic while it was held can only have left bytes out or in twice: the panicking call's response is cut anyway.
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Appends bytes; waits, inside `wait`, while there are too many. The outer error is the spool file's.
    pub fn push(&self, bytes: &[u8], directory: &Path, wait: Waiting) -> io::Result<Result<(), Gone>> {
        if self.state().spool.length() > LARGEST {
            wait(&mut || {
                let full = |state: &mut State| state.spool.length() > LARGEST / 2 && state.broken.is_none();
                drop(self.drained.wait_while(self.state(), full));
            });
        }
        let mut state = self.state();
        if let Some(why) = state.broken {
            return Ok(Err(why));
        }
        // After a failure the file may end with a part of these bytes: nothing may follow them.
        state.spool.push(bytes, ROOM, directory).inspect_err(|_| state.broken = Some(Gone::GivenUp)).map(Ok)
    }

    /// Appends a part of a file; nothing can follow it.
    pub fn push_file(&self, part: FilePart) {
        self.state().file = Some(part);
    }

    /// Hands to the kernel what it takes.
    pub fn drain(&self, to: &OwnedFd) -> io::Result<Drained> {
        let mut state = self.state();
        let until = state.taken + TURN as u64;
        while let Some(sent) = state.send(to)? {
            state.taken += sent as u64;
            if sent == 0 {
                return Ok(Drained::Empty);
            }
            if state.taken >= until {
                return Ok(Drained::More);
            }
            if state.spool.length() <= LARGEST / 2 {
                self.drained.notify_all();
            }
        }
        Ok(Drained::Blocked { taken: state.taken })
    }

    /// Whether nobody may wait for the client any more.
    pub fn is_given_up(&self) -> bool {
        self.state().broken.is_some()
    }

    /// How many bytes wait.
    pub fn left(&self) -> u64 {
        let state = self.state();
        state.spool.length() + state.file.as_ref().map_or(0, |part| part.left)
    }

    /// The client is gone, or given up: nobody may wait for it.
    pub fn give_up(&self, why: Gone) {
        self.state().broken.get_or_insert(why);
        self.drained.notify_all();
    }
}

impl State {
    /// Hands one piece to the kernel: how much it took, 0 when nothing is left, `None` when it takes nothing now.
    fn send(&mut self, to: &OwnedFd) -> io::Result<Option<usize>> {
        let sent = match self.spool.front() {
            Front::Memory(bytes) => socket::send(to.as_raw_fd(), bytes)?,
            Front::File(file, mut offset, left) => socket::send_file(to.as_fd(), file, &mut offset, left)?,
            Front::Empty => return self.file.as_mut().map_or(Ok(Some(0)), |part| part.send(to)),
        };
        self.spool.take(sent.unwrap_or(0));
        Ok(sent)
    }
}

impl FilePart {
    fn send(&mut self, to: &OwnedFd) -> io::Result<Option<usize>> {
        if self.left == 0 {
            return Ok(Some(0));
        }
        let sent = socket::send_file(to.as_fd(), self.file.as_fd(), &mut self.offset, self.left)?;
        if sent == Some(0) {
            // The file has shrunk since its length was promised.
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        self.left -= sent.unwrap_or(0) as u64;
        Ok(sent)
    }
}
