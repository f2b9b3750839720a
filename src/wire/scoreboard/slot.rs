//! A worker's slot: what it is doing, and what it has counted.

use std::sync::atomic::{AtomicI32, AtomicU32, AtomicU64, Ordering::*};

/// A worker's counters. Times are milliseconds of CLOCK_MONOTONIC, so that the master can compare them with its own.
///
/// After an upgrade the master reads the slots of workers that an earlier release has started. So no field moves, and a new one stands at
/// the end, in what is left of the 128 bytes: there it is 0 in an earlier release's slot.
#[repr(C, align(64))]
#[derive(Default, Debug)]
pub struct Slot {
    /// The process, or 0 while the slot is empty.
    pub pid: AtomicI32,
    /// A [`WorkerState`] as a number.
    pub state: AtomicU32,
    /// When the worker became ready.
    pub since: AtomicU64,
    /// Open connections.
    pub connections: AtomicU32,
    /// Requests that are complete and wait for a Python thread.
    pub queued: AtomicU32,
    /// Requests answered.
    pub requests: AtomicU64,
    /// Of these, answered with 5xx.
    pub errors: AtomicU64,
    /// Requests refused for what was wrong with their bytes (4xx by the server itself).
    pub refused: AtomicU64,
    /// Requests that had to wait for a Python thread, and how long in all, in microseconds.
    pub waits: AtomicU64,
    /// See [`Slot::waits`].
    pub waited: AtomicU64,
    /// Connections taken from the exchange.
    pub taken: AtomicU64,
    /// Connections put on the exchange.
    pub given: AtomicU64,
    /// How often the worker tried to put connections on the exchange, whether it had room or not.
    pub sends: AtomicU64,
    /// Bytes of responses.
    pub sent: AtomicU64,
    /// Turns of the worker's loop; 0 before the first.
    pub turns: AtomicU32,
    /// 0 while the master does not look at the turns: a worker that finds something to do then sends [`crate::FromWorker::AtWork`].
    /// The master writes it, too.
    pub watched: AtomicU32,
    /// The slots of the worker's siblings are below this; 0 while the master has not said. Only the master writes it.
    pub reach: AtomicU32,
    /// Lines of the error log that this worker could not write and has not told: see [`crate::log::count_in`].
    pub lines_lost: AtomicU32,
    /// Requests with forwarding fields of a peer that is not trusted.
    pub unbelieved: AtomicU64,
}

const _: () = assert!(size_of::<Slot>() == 128, "a slot of another size is another format of the upgrade's state");

/// What a worker as a whole is doing.
#[repr(u32)]
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum WorkerState {
    /// No worker.
    Empty = 0,
    /// Forked, not ready.
    Booting = 1,
    /// Waits for something to happen; would take a connection at once.
    Idle = 2,
    /// At work, with a Python thread free or soon free.
    Working = 3,
    /// All Python threads are busy.
    Busy = 4,
    /// Finishes what is under way.
    Draining = 5,
}

impl Slot {
    /// The state, as last written.
    pub fn state(&self) -> WorkerState {
        match self.state.load(Relaxed) {
            1 => WorkerState::Booting,
            2 => WorkerState::Idle,
            3 => WorkerState::Working,
            4 => WorkerState::Busy,
            5 => WorkerState::Draining,
            _ => WorkerState::Empty,
        }
    }

    /// Says what the worker is doing now.
    pub fn enter(&self, state: WorkerState) {
        self.state.store(state as u32, Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_state_that_there_is_not_is_none() {
        let slot = Slot::default();
        slot.state.store(u32::MAX, Relaxed);
        assert_eq!(slot.state(), WorkerState::Empty);
    }
}
