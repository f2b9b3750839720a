//! The part of a response that a slow client has still to take. The call fills it while the loop drains it.

use std::{
    fmt, io,
    os::fd::{AsFd, OwnedFd},
    sync::{
        Arc, Condvar, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, Ordering::AcqRel},
    },
};

use super::{
    budget::Room,
    spool::{Front, Spool},
    store::{DescriptorPermit, Shortage, Store},
};
use crate::transport::{TURN, Transport};

/// Up to this many bytes a response waits in memory, above it in spool files.
pub(crate) const ROOM: usize = 256 * 1024;
/// Up to this many bytes it waits in spool files, above it the application waits.
pub(crate) const LARGEST: u64 = 64 << 20;
/// The size of each of those files. A file is deleted when it is sent.
const SEGMENT: u64 = 16 << 20;

/// Why nothing more can be sent.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Gone {
    /// The client has left.
    Left,
    /// This worker has given the request up, and has said why in the log: `--timeout`, a client that was too slow, a full disk.
    GivenUp,
}

/// A body in the application's own memory. It may be dropped by any thread, without the interpreter lock.
pub type Kept = Box<dyn AsRef<[u8]> + Send>;

/// Shared by the loop and, until the call ends, the thread that makes the response.
#[derive(Debug, Default)]
pub(crate) struct Outbox {
    content: Mutex<Content>,
    drained: Condvar,
    /// The loop was asked to drain it, and has not done so yet.
    told: AtomicBool,
}

#[derive(Debug)]
struct Content {
    spool: Spool,
    file: Option<FilePart>,
    held: Option<RemainingBody>,
    taken: u64,
    broken: Option<Gone>,
    /// The application waits until no more bytes than this are left.
    wanted: Option<u64>,
}

impl Default for Content {
    fn default() -> Self {
        Content { spool: Spool::new(LARGEST, SEGMENT), file: None, held: None, taken: 0, broken: None, wanted: None }
    }
}

/// A part of a file that follows everything else.
#[derive(Debug)]
pub(crate) struct FilePart {
    pub file: OwnedFd,
    pub offset: u64,
    pub left: u64,
    pub _permit: DescriptorPermit,
}

/// The rest of a whole body, in the application's own memory. It follows everything else.
pub(crate) struct RemainingBody {
    pub body: Kept,
    pub at: usize,
    pub end: usize,
    pub _room: Room,
}

impl fmt::Debug for RemainingBody {
    fn fmt(&self, to: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(to, "RemainingBody({}..{})", self.at, self.end)
    }
}

/// The result of [`Outbox::drain`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum DrainOutcome {
    /// The kernel has everything.
    Empty,
    /// There is more, but enough was sent for one turn of the loop.
    More,
    /// The client must take some first. How many bytes it has taken since the response began.
    Blocked { taken: u64 },
}

impl Outbox {
    /// For the rest of a response of which the kernel has taken `taken` bytes.
    pub fn behind(taken: u64) -> Arc<Outbox> {
        let outbox = Outbox::default();
        outbox.content().taken = taken;
        Arc::new(outbox)
    }

    fn content(&self) -> MutexGuard<'_, Content> {
        // A panic while it was locked may have left bytes out or in twice. The response of a call that panics is cut anyway.
        self.content.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Appends a prefix of `bytes`, and leaves the rest in `bytes`. Returns why there is a rest.
    pub fn push(&self, bytes: &mut &[u8], store: &Arc<Store>) -> Result<Option<Shortage>, Gone> {
        // Piece by piece, so that the loop never waits long for the lock while a disk is slow.
        while !bytes.is_empty() {
            let mut content = self.content();
            if let Some(why) = content.broken {
                return Err(why);
            }
            let (piece, rest) = bytes.split_at(bytes.len().min(TURN));
            match content.spool.push(piece, ROOM, store) {
                // Without a file, up to ROOM bytes wait in memory.
                Err(_) if content.spool.length() < ROOM as u64 => content.spool.keep(piece),
                Err(shortage) => return Ok(Some(shortage)),
                Ok(()) => {}
            }
            *bytes = rest;
        }
        Ok(None)
    }

    /// Appends a few bytes whatever the limits are: the caller cannot wait.
    pub fn keep(&self, bytes: &[u8]) {
        self.content().spool.keep(bytes);
    }

    /// Waits until half of it is drained, or it is given up.
    pub fn wait_for_room(&self) {
        let mut content = self.content();
        let wanted = content.spool.length() / 2;
        content.wanted = Some(wanted);
        let full = |content: &mut Content| content.spool.length() > wanted && content.broken.is_none();
        let waited = self.drained.wait_while(content, full);
        waited.unwrap_or_else(PoisonError::into_inner).wanted = None;
    }

    /// Appends a part of a file; nothing can follow it.
    pub fn push_file(&self, part: FilePart) {
        self.content().file = Some(part);
    }

    /// Appends the rest of a whole body; nothing can follow it.
    pub fn hold(&self, held: RemainingBody) -> Result<(), Gone> {
        let mut content = self.content();
        content.held = Some(held);
        content.broken.map_or(Ok(()), Err)
    }

    /// Sends what the kernel takes.
    pub fn drain(&self, to: &Transport) -> io::Result<DrainOutcome> {
        self.told.swap(false, AcqRel);
        let mut content = self.content();
        let until = content.taken + TURN as u64;
        while let Some(sent) = content.send(to)? {
            content.taken += sent as u64;
            if sent == 0 {
                return Ok(DrainOutcome::Empty);
            }
            if content.wanted.is_some_and(|wanted| content.spool.length() <= wanted) {
                self.drained.notify_all();
            }
            if content.taken >= until {
                return Ok(DrainOutcome::More);
            }
        }
        Ok(DrainOutcome::Blocked { taken: content.taken })
    }

    /// Marks that the loop is asked to drain it. Returns whether it was not asked since it last looked.
    pub fn mark_told(&self) -> bool {
        !self.told.swap(true, AcqRel)
    }

    /// Whether it was given up.
    pub fn is_given_up(&self) -> bool {
        self.content().broken.is_some()
    }

    /// How many bytes of the response the kernel has taken.
    pub fn taken(&self) -> u64 {
        self.content().taken
    }

    /// How many bytes wait.
    pub fn left(&self) -> u64 {
        let content = self.content();
        let held = content.held.as_ref().map_or(0, |held| held.end - held.at);
        content.spool.length() + content.file.as_ref().map_or(0, |part| part.left) + held as u64
    }

    /// The client has left or was given up: ends all waits for it.
    pub fn give_up(&self, why: Gone) {
        self.content().broken.get_or_insert(why);
        self.drained.notify_all();
    }
}

impl Content {
    /// Sends one piece. Returns how much the kernel took: 0 when nothing is left, `None` when it takes nothing now.
    fn send(&mut self, to: &Transport) -> io::Result<Option<usize>> {
        let sent = match self.spool.front() {
            Front::Memory(bytes) => to.send(bytes)?,
            Front::File(file, mut offset, left) => match to.send_file(file, &mut offset, left)? {
                // Another process has shortened the file.
                Some(0) => return Err(io::ErrorKind::UnexpectedEof.into()),
                sent => sent,
            },
            Front::Empty if self.held.is_some() => return self.send_held(to),
            Front::Empty => return self.file.as_mut().map_or(Ok(Some(0)), |part| part.send(to)),
        };
        self.spool.take(sent.unwrap_or(0));
        Ok(sent)
    }

    fn send_held(&mut self, to: &Transport) -> io::Result<Option<usize>> {
        let Some(held) = &mut self.held else { return Ok(Some(0)) };
        let end = held.end.min(held.at + TURN);
        let sent = to.send(&(*held.body).as_ref()[held.at..end])?;
        held.at += sent.unwrap_or(0);
        if held.at == held.end {
            self.held = None;
        }
        Ok(sent)
    }
}

impl FilePart {
    fn send(&mut self, to: &Transport) -> io::Result<Option<usize>> {
        if self.left == 0 {
            return Ok(Some(0));
        }
        let sent = to.send_file(self.file.as_fd(), &mut self.offset, self.left)?;
        if sent == Some(0) {
            // The file has shrunk since its length was promised.
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        self.left -= sent.unwrap_or(0) as u64;
        Ok(sent)
    }
}
