//! Which thread runs the loop, which threads are free to, and when the leader hands the loop on before it makes a call.
//!
//! One thread leads: it waits for events. While calls are short, the leader makes them itself, and nobody leads meanwhile. A call
//! that waits (for a database, for another site) would keep the loop for its length, so where calls do that, the leader hands the
//! loop to a free thread first. What calls do is learned from those that have ended, and from one that the stand-by has found waiting.

use std::time::Duration;

/// Calls shorter than this never count as waiting.
const WORTH_HANDING_ON: Duration = Duration::from_micros(200);
/// After a call that waited, the next calls are expected to wait, until this many in a row have not.
const MEMORY: u32 = 128;

/// Who waits for events.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Lead {
    /// This Python thread, now or as soon as it wakes.
    Thread(u16),
    /// Nobody: this Python thread was leading when it made a call that should be short. The first thread that returns to the loop leads.
    Calling(u16),
    /// The stand-by, because every Python thread is in a long call.
    Standby,
}

/// The threads of a worker, as its loop sees them.
#[derive(Debug)]
pub(crate) struct Threads {
    lead: Lead,
    /// Python threads that have nothing to do.
    free: Vec<u16>,
    /// How many calls were made while nobody led. The stand-by watches the count.
    unled: u64,
    /// The stand-by sleeps until the next such call.
    standby_sleeps: bool,
    /// How many calls more are expected to wait. See [`MEMORY`].
    expected: u32,
}

/// Whom a thread wakes before its call.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Wake {
    Nobody,
    /// It leads from now on.
    Thread(u16),
    /// It leads if the call turns out to be long.
    Standby,
}

impl Threads {
    /// The main thread leads first. The others are added when they are free.
    pub fn new() -> Threads {
        Threads { lead: Lead::Thread(0), free: Vec::new(), unled: 0, standby_sleeps: false, expected: 0 }
    }

    pub fn lead(&self) -> Lead {
        self.lead
    }

    /// The stand-by leads.
    pub fn standby_leads(&mut self) {
        self.lead = Lead::Standby;
    }

    /// The stand-by sleeps until a call is made while nobody leads.
    pub fn standby_sleeps(&mut self) {
        self.standby_sleeps = true;
    }

    /// How many calls were made while nobody led.
    pub fn unled(&self) -> u64 {
        self.unled
    }

    /// Whether a request would be dispatched now.
    pub fn any_free(&self) -> bool {
        matches!(self.lead, Lead::Thread(_)) || !self.free.is_empty()
    }

    /// How many calls can begin before one ends.
    pub fn count_free(&self) -> usize {
        self.free.len() + usize::from(matches!(self.lead, Lead::Thread(_)))
    }

    /// A Python thread is about to make a call.
    pub fn call_begins(&mut self, thread: u16) -> Wake {
        if self.lead != Lead::Thread(thread) {
            return Wake::Nobody;
        }
        if self.expects_waits()
            && let Some(next) = self.free.pop()
        {
            self.lead = Lead::Thread(next);
            return Wake::Thread(next);
        }
        self.lead = Lead::Calling(thread);
        self.unled += 1;
        if std::mem::take(&mut self.standby_sleeps) { Wake::Standby } else { Wake::Nobody }
    }

    /// A Python thread returns from a call, or was promoted. It leads unless another Python thread does. Returns whether it has taken the
    /// lead from the stand-by.
    pub fn enter(&mut self, thread: u16) -> bool {
        let before = self.lead;
        if !matches!(before, Lead::Thread(_)) {
            self.lead = Lead::Thread(thread);
        }
        before == Lead::Standby
    }

    /// A Python thread has nothing to do.
    pub fn add_free(&mut self, thread: u16) {
        self.free.push(thread);
    }

    /// Makes a free thread the leader.
    pub fn promote(&mut self) -> Option<u16> {
        let next = self.free.pop()?;
        self.lead = Lead::Thread(next);
        Some(next)
    }

    /// Whether calls are expected to wait.
    pub fn expects_waits(&self) -> bool {
        self.expected > 0
    }

    /// Learns from a call that has ended, or that the stand-by has seen waiting.
    pub fn learn(&mut self, waited: bool) {
        self.expected = if waited { MEMORY } else { self.expected.saturating_sub(1) };
    }
}

/// Whether a call of this length may be worth handing the loop on.
pub(crate) fn worth_handing_on(length: Duration) -> bool {
    length >= WORTH_HANDING_ON
}

#[cfg(test)]
mod tests {
    use super::*;

    fn threads(count: u16) -> Threads {
        let mut threads = Threads::new();
        (1..count).rev().for_each(|thread| threads.add_free(thread));
        threads
    }

    #[test]
    fn short_calls_are_made_by_the_leader_and_nobody_is_woken() {
        let mut threads = threads(4);
        for _ in 0..3 {
            assert_eq!(threads.call_begins(0), Wake::Nobody);
            assert_eq!(threads.lead, Lead::Calling(0));
            assert!(!threads.enter(0));
            threads.learn(false);
        }
        assert_eq!((threads.lead, threads.unled), (Lead::Thread(0), 3));
    }

    #[test]
    fn the_lead_is_handed_on_before_calls_that_wait_until_no_thread_is_free() {
        let mut threads = threads(3);
        threads.learn(true);
        assert_eq!(threads.call_begins(0), Wake::Thread(1));
        assert_eq!(threads.call_begins(1), Wake::Thread(2));
        assert!(threads.any_free());
        assert_eq!(threads.call_begins(2), Wake::Nobody);
        assert_eq!((threads.lead, threads.any_free()), (Lead::Calling(2), false));
        // The thread whose call ends first leads. The one that called while nobody led finds a leader when it returns.
        assert!(!threads.enter(1));
        threads.enter(2);
        assert_eq!(threads.lead, Lead::Thread(1));
        threads.add_free(2);
        assert_eq!(threads.call_begins(1), Wake::Thread(2));
    }

    #[test]
    fn what_calls_do_is_remembered_for_a_while_and_then_forgotten() {
        let mut threads = threads(2);
        threads.learn(true);
        for _ in 0..MEMORY {
            assert!(threads.expects_waits());
            threads.learn(false);
        }
        assert!(!threads.expects_waits());
        assert_eq!(threads.call_begins(0), Wake::Nobody);
    }

    #[test]
    fn the_standby_is_woken_for_a_call_that_leaves_nobody_to_lead() {
        let mut threads = threads(1);
        threads.standby_sleeps = true;
        assert_eq!(threads.call_begins(0), Wake::Standby);
        assert!(!threads.standby_sleeps);
        threads.lead = Lead::Standby;
        assert!(threads.enter(0));
        assert_eq!(threads.lead, Lead::Thread(0));
    }
}
