//! What each worker is doing, in memory that the master shares and that outlives the worker.
//!
//! One page-aligned mapping for each generation: a slot for each worker, and within it a record for each of its
//! Python threads. A worker writes its own slot only; the master and siblings read. All fields are atomics; a
//! request line is written between two steps of a sequence number, so that a reader never takes a torn one for true.
//!
//! The application shares this memory and may write anything anywhere in it: a reader believes no number that it has not
//! bounded, waits for no writer, and decides nothing of weight by what it reads. The memory's length is sealed, because a
//! read beyond a shortened file is a SIGBUS.

mod activity;
mod own;
mod slot;

use std::{
    io,
    num::NonZeroUsize,
    os::fd::{AsFd, BorrowedFd, OwnedFd},
    ptr::NonNull,
    sync::atomic::Ordering::*,
};

use nix::{
    fcntl::{FcntlArg, SealFlag, fcntl},
    sys::{
        memfd::{MFdFlags, memfd_create},
        mman::{MapFlags, ProtFlags, mmap, munmap},
    },
    unistd::ftruncate,
};

pub use activity::{Activity, REQUEST_ID, REQUEST_LINE, Underway};
pub use own::Own;
pub use slot::{Slot, WorkerState};

use crate::meters::{self, Meters};

/// The number of slots of a generation. Those that are never used cost address space, but no memory.
pub const MOST_SLOTS: u16 = 1024;
/// The largest number of workers of a generation: half of the slots are for those that come while others go.
pub const MOST_WORKERS: u16 = MOST_SLOTS / 2;
/// How many of the requests that wait in a worker are named.
pub const QUEUE_SHOWN: u16 = 8;

/// The mapping.
pub struct Scoreboard {
    memory: NonNull<u8>,
    length: NonZeroUsize,
    descriptor: OwnedFd,
    slots: u16,
    threads: u16,
    /// Whether it holds [`Meters`]. Those of earlier releases do not.
    metered: bool,
}

impl Scoreboard {
    /// Makes an empty one. Memory that is not used is not allocated.
    pub fn new(slots: u16, threads: u16) -> io::Result<Scoreboard> {
        let descriptor = memfd_create("ostler-scoreboard", MFdFlags::MFD_CLOEXEC | MFdFlags::MFD_ALLOW_SEALING)?;
        ftruncate(&descriptor, size(slots, threads).get() as i64)?;
        fcntl(&descriptor, FcntlArg::F_ADD_SEALS(seals()))?;
        Scoreboard::open(descriptor, slots, threads)
    }

    /// Maps one that another process has made for the same numbers of slots and threads. Refuses memory that could be shortened under
    /// the mapping.
    pub fn open(descriptor: OwnedFd, slots: u16, threads: u16) -> io::Result<Scoreboard> {
        let length = size(slots, threads);
        if !SealFlag::from_bits_retain(fcntl(&descriptor, FcntlArg::F_GET_SEALS)?).contains(seals()) {
            return Err(io::Error::other("the scoreboard is not sealed"));
        }
        let there = nix::sys::stat::fstat(&descriptor)?.st_size;
        if there < end_of_slots(slots, threads) as i64 {
            return Err(io::Error::other("the scoreboard is smaller than its slots"));
        }
        let metered = there >= length.get() as i64;
        let length = if metered { length } else { nonzero(end_of_slots(slots, threads)) };
        let protection = ProtFlags::PROT_READ | ProtFlags::PROT_WRITE;
        // SAFETY: a new shared mapping of a memfd that is at least as long; it aliases nothing of this process.
        let memory = unsafe { mmap(None, length, protection, MapFlags::MAP_SHARED, &descriptor, 0) }?.cast();
        Ok(Scoreboard { memory, length, descriptor, slots, threads, metered })
    }

    /// The number of slots.
    pub fn slots(&self) -> u16 {
        self.slots
    }

    /// The number of Python threads of each worker.
    pub fn threads(&self) -> u16 {
        self.threads
    }

    /// The slot of a worker. Panics where `slot` is not below [`Scoreboard::slots`].
    pub fn slot(&self, slot: u16) -> &Slot {
        assert!(slot < self.slots, "a slot below the number of slots");
        let offset = usize::from(slot) * stride(self.threads);
        // SAFETY: in bounds by the assertion.
        let place = unsafe { self.memory.byte_add(offset) };
        // SAFETY: aligned, because the stride is a multiple of 64; and any bytes are a valid Slot, which holds only atomics.
        unsafe { place.cast::<Slot>().as_ref() }
    }

    /// What else a worker counts, if there is a place for it. Panics where `slot` is not below [`Scoreboard::slots`].
    pub fn meters(&self, slot: u16) -> Option<&Meters> {
        assert!(slot < self.slots, "a slot below the number of slots");
        let offset = end_of_slots(self.slots, self.threads) + usize::from(slot) * meters::ROOM;
        // SAFETY: in bounds by the assertion, where the memory reaches so far.
        let place = self.metered.then(|| unsafe { self.memory.byte_add(offset) })?;
        // SAFETY: aligned, because both sizes are multiples of 64; and any bytes are valid Meters, which hold only atomics.
        Some(unsafe { place.cast::<Meters>().as_ref() })
    }

    /// The slots that siblings of a worker may have. To look at one that was never used would allocate its memory.
    pub fn siblings(&self, own: u16) -> impl Iterator<Item = &Slot> {
        let reach = match self.slot(own).reach.load(Relaxed) {
            0 => self.slots,
            reach => u16::try_from(reach).unwrap_or(u16::MAX).min(self.slots),
        };
        (0..reach).filter(move |slot| *slot != own).map(|slot| self.slot(slot))
    }

    /// What one Python thread of a worker is doing. Panics where either number is too large.
    pub fn activity(&self, slot: u16, thread: u16) -> &Activity {
        assert!(thread < self.threads, "a thread of a worker that there is");
        self.record(slot, thread)
    }

    /// The records of a worker: first those of its threads, then those of its queue.
    fn record(&self, slot: u16, index: u16) -> &Activity {
        assert!(slot < self.slots && index < self.threads + QUEUE_SHOWN, "a record of a worker that there is");
        let offset =
            usize::from(slot) * stride(self.threads) + size_of::<Slot>() + usize::from(index) * size_of::<Activity>();
        // SAFETY: in bounds by the assertion.
        let place = unsafe { self.memory.byte_add(offset) };
        // SAFETY: as in `slot`.
        unsafe { place.cast::<Activity>().as_ref() }
    }

    /// One of the requests that wait in a worker, the oldest first. Panics where `slot` is not below
    /// [`Scoreboard::slots`], or `place` not below [`QUEUE_SHOWN`].
    pub fn waiting(&self, slot: u16, place: u16) -> &Activity {
        assert!(place < QUEUE_SHOWN, "a place of the queue that there is");
        self.record(slot, self.threads + place)
    }

    /// Makes a slot look as if it had never been used.
    pub fn clear(&self, slot: u16) {
        let Slot {
            pid,
            state,
            since,
            connections,
            queued,
            requests,
            errors,
            refused,
            waits,
            waited,
            taken,
            given,
            sends,
            sent,
            turns,
            watched,
            reach,
            lines_lost,
            unbelieved,
        } = self.slot(slot);
        pid.store(0, Relaxed);
        for word in [state, connections, queued, turns, watched, reach, lines_lost] {
            word.store(0, Relaxed);
        }
        for word in [since, requests, errors, refused, waits, waited, taken, given, sends, sent, unbelieved] {
            word.store(0, Relaxed);
        }
        for index in 0..self.threads + QUEUE_SHOWN {
            self.record(slot, index).end();
        }
        self.meters(slot).into_iter().for_each(Meters::clear);
    }
}

impl AsFd for Scoreboard {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.descriptor.as_fd()
    }
}

impl Drop for Scoreboard {
    fn drop(&mut self) {
        // SAFETY: the mapping was made in `open` with this length, and no reference to it outlives `self`.
        let _ = unsafe { munmap(self.memory.cast(), self.length.get()) };
    }
}

// SAFETY: all that can be reached through a Scoreboard are atomics.
unsafe impl Send for Scoreboard {}
// SAFETY: as above.
unsafe impl Sync for Scoreboard {}

fn stride(threads: u16) -> usize {
    size_of::<Slot>() + usize::from(threads + QUEUE_SHOWN) * size_of::<Activity>()
}

/// No process can change the memory's length or add another seal. Every process that shares it may write.
fn seals() -> SealFlag {
    SealFlag::F_SEAL_SHRINK | SealFlag::F_SEAL_GROW | SealFlag::F_SEAL_SEAL
}

/// Where the slots and their records end. The meters follow.
fn end_of_slots(slots: u16, threads: u16) -> usize {
    usize::from(slots) * stride(threads)
}

fn size(slots: u16, threads: u16) -> NonZeroUsize {
    nonzero(end_of_slots(slots, threads) + usize::from(slots) * meters::ROOM)
}

fn nonzero(length: usize) -> NonZeroUsize {
    NonZeroUsize::new(length.max(1)).expect("at least one")
}

/// Milliseconds of CLOCK_MONOTONIC, the clock of [`Slot::since`].
pub fn now() -> u64 {
    let time = nix::time::clock_gettime(nix::time::ClockId::CLOCK_MONOTONIC).expect("Linux has this clock");
    time.tv_sec() as u64 * 1000 + time.tv_nsec() as u64 / 1_000_000
}

#[cfg(test)]
mod tests {
    use super::*;

    fn underway(line: &str, id: Option<&str>, started: u64) -> Underway {
        Underway { line: line.into(), id: id.map(Into::into), started }
    }

    #[test]
    fn another_mapping_sees_what_a_worker_wrote() {
        let ours = Scoreboard::new(3, 2).unwrap();
        let theirs = Scoreboard::open(ours.as_fd().try_clone_to_owned().unwrap(), 3, 2).unwrap();
        theirs.slot(2).enter(WorkerState::Idle);
        theirs.activity(2, 1).begin(b"GET /slow HTTP/1.1", b"", 12_345);
        assert_eq!(ours.slot(2).state(), WorkerState::Idle);
        assert_eq!(ours.slot(1).state(), WorkerState::Empty);
        assert_eq!(ours.activity(2, 1).current(), Some(underway("GET /slow HTTP/1.1", None, 12_345)));
        assert_eq!(ours.activity(2, 0).current(), None);
        theirs.activity(2, 1).end();
        assert_eq!(ours.activity(2, 1).current(), None);
        theirs.activity(2, 1).begin(&[b'x'; 1000], b"", 1);
        assert_eq!(ours.activity(2, 1).current().unwrap().line.len(), REQUEST_LINE);
        theirs.activity(2, 1).begin(&[b'x'; 1000], &[b'y'; 1000], 1);
        let cut = ["x".repeat(REQUEST_LINE - REQUEST_ID), "y".repeat(REQUEST_ID)];
        assert_eq!(ours.activity(2, 1).current(), Some(underway(&cut[0], Some(&cut[1]), 1)));
        theirs.activity(2, 1).begin(b"GET /slow HTTP/1.1", b"4711", 1);
        assert_eq!(ours.activity(2, 1).current(), Some(underway("GET /slow HTTP/1.1", Some("4711"), 1)));
        theirs.waiting(2, 7).begin(b"GET /later HTTP/1.1", b"", 2);
        assert_eq!(ours.waiting(2, 7).current(), Some(underway("GET /later HTTP/1.1", None, 2)));
        ours.clear(2);
        assert_eq!(theirs.slot(2).state(), WorkerState::Empty);
        assert_eq!(theirs.waiting(2, 7).current(), None);
    }

    #[test]
    fn what_an_earlier_release_has_made_holds_no_meters() {
        let board = Scoreboard::new(3, 2).unwrap();
        board.meters(2).unwrap().count(200, b"GET", 1, 1);
        board.clear(2);
        assert_eq!(board.meters(2).unwrap().statuses().count(), 0);
        let earlier = memfd_create("earlier", MFdFlags::MFD_CLOEXEC | MFdFlags::MFD_ALLOW_SEALING).unwrap();
        ftruncate(&earlier, end_of_slots(3, 2) as i64).unwrap();
        fcntl(&earlier, FcntlArg::F_ADD_SEALS(seals())).unwrap();
        let earlier = Scoreboard::open(earlier, 3, 2).unwrap();
        assert!(earlier.meters(2).is_none());
        earlier.clear(2);
    }

    #[test]
    fn a_worker_looks_no_further_than_the_master_says() {
        let board = Scoreboard::new(5, 1).unwrap();
        let seen = |reach| {
            board.slot(1).reach.store(reach, Relaxed);
            board.siblings(1).count()
        };
        assert_eq!([0, 1, 2, 4, u32::MAX].map(seen), [4, 1, 1, 3, 4]);
    }

    #[test]
    fn nobody_takes_the_memory_away() {
        let board = Scoreboard::new(3, 2).unwrap();
        for length in [0, 1 << 20] {
            assert_eq!(ftruncate(&board.descriptor, length), Err(nix::errno::Errno::EPERM));
        }
        assert!(fcntl(&board.descriptor, FcntlArg::F_ADD_SEALS(SealFlag::F_SEAL_FUTURE_WRITE)).is_err());
        let unsealed = memfd_create("unsealed", MFdFlags::MFD_CLOEXEC | MFdFlags::MFD_ALLOW_SEALING).unwrap();
        ftruncate(&unsealed, 1 << 20).unwrap();
        assert!(Scoreboard::open(unsealed, 3, 2).is_err());
    }
}
