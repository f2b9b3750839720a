//! When a worker is to be replaced: by number of requests, age and memory. It asks the master, and serves until it is replaced.

use std::{
    hash::{BuildHasher, RandomState},
    time::Duration,
};

use ostler_wire::{Recycle, WorkerSettings};

use crate::moment::Moment;

/// A worker over its limit in this many looks in a row is replaced: a single large request is no leak.
const MEMORY_LOOKS: u32 = 3;
/// How long after a request a worker looks at its own memory, and the time between two looks.
const MEMORY_LOOK: Duration = Duration::from_secs(1);

/// The limits of a worker's life.
pub(crate) struct Recycling {
    /// None without `--max-requests`, and when there are none left.
    requests_left: Option<u64>,
    /// How many requests are left until the worker is warm (`--refork`); 0 for never.
    cold: u32,
    /// When it reaches `--max-age`.
    old: Option<Moment>,
    /// Bytes (`--max-memory`); 0 for no limit.
    max_memory: u64,
    look: Option<Moment>,
    looks_over: u32,
    asked: bool,
}

impl Recycling {
    pub fn new(settings: &WorkerSettings, now: Moment) -> Recycling {
        Recycling {
            requests_left: requests_left(settings.max_requests, settings.max_requests_jitter),
            cold: settings.refork,
            old: (!settings.max_age.is_zero()).then(|| now + settings.max_age),
            max_memory: settings.max_memory,
            look: None,
            looks_over: 0,
            asked: false,
        }
    }

    /// When to look at age or memory again.
    pub fn due(&self) -> Option<Moment> {
        let due = self.old.into_iter().chain(self.look).min();
        due.filter(|_| !self.asked)
    }

    /// Whether the master is to be asked for a replacement: once.
    pub fn ask(&mut self) -> bool {
        !std::mem::replace(&mut self.asked, true)
    }

    /// Counts a request; whether the worker is warm with it.
    pub fn warms(&mut self) -> bool {
        let last = self.cold == 1;
        self.cold = self.cold.saturating_sub(1);
        last
    }

    /// Counts a request. Only requests make memory grow, so the worker looks at it [`MEMORY_LOOK`] after one; an idle worker does not.
    pub fn count(&mut self, now: Moment) -> Option<Recycle> {
        if self.max_memory > 0 {
            self.look.get_or_insert(now + MEMORY_LOOK);
        }
        let left = self.requests_left.as_mut()?;
        *left = left.saturating_sub(1);
        (*left == 0).then_some(Recycle::Requests)
    }

    /// Looks at age and memory, if that is due.
    pub fn look(&mut self, now: Moment) -> Option<Recycle> {
        if self.due().is_none_or(|due| due > now) {
            return None;
        }
        if self.old.is_some_and(|old| old <= now) {
            return Some(Recycle::Age);
        }
        if self.look.is_none_or(|look| look > now) {
            return None;
        }
        let limit = self.max_memory;
        let over = resident_memory().filter(|bytes| *bytes > limit);
        self.looks_over = if over.is_some() { self.looks_over + 1 } else { 0 };
        self.look = over.map(|_| now + MEMORY_LOOK);
        over.filter(|_| self.looks_over >= MEMORY_LOOKS).map(|held| Recycle::Memory { held, limit })
    }
}

/// `--max-requests` with its jitter; none for no limit.
fn requests_left(limit: u64, jitter: u64) -> Option<u64> {
    // RandomState has random keys, which differ in each worker. That is all the randomness that the jitter needs.
    let chance = RandomState::new().hash_one(std::process::id());
    (limit > 0).then(|| limit + if jitter > 0 { chance % (jitter + 1) } else { 0 })
}

/// Resident memory in bytes (proc(5), statm).
fn resident_memory() -> Option<u64> {
    let statm = std::fs::read_to_string("/proc/self/statm").ok()?;
    let pages: u64 = statm.split_ascii_whitespace().nth(1)?.parse().ok()?;
    let page = nix::unistd::sysconf(nix::unistd::SysconfVar::PAGE_SIZE).ok()??;
    Some(pages * page as u64)
}
