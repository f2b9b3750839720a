//! Who runs the loop, who is free to, and when the loop is handed on before a call rather than after.
//!
//! One thread leads: it waits for events. While calls are short, the leader makes them itself, and nobody leads meanwhile. A call
//! that waits (for a database, for another site) would keep the loop for its length, so where calls do that, the leader hands the
//! loop to a free thread first. What calls do is learned from those that have ended, and from one that the stand-by has found waiting.

use std::time::Duration;

/// Calls from this length on are measured, and count as waiting if they waited.
const WORTH_HANDING_ON: Duration = Duration::from_micros(200);
/// After a call that waited, the loop is handed on before so many calls that do not.
const MEMORY: u32 = 128;

/// Who waits for events.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Lead {
    /// This Python thread, now or as soon as it wakes.
    Thread(u16),
    /// Nobody: this Python thread was leading when it made a call that should be short. Whoever comes to the loop first leads.
    Calling(u16),
    /// The stand-by, because every Python thread is in a call that lasts.
    Standby,
}

/// The threads of a worker, as its loop sees them.
#[derive(Debug)]
pub(crate) struct Threads {
    pub lead: Lead,
    /// Python threads that have nothing to do.
    free: Vec<u16>,
    /// Calls for which nobody was left to lead. The stand-by watches those.
    pub unled: u64,
    /// The stand-by sleeps until there is such a call.
    pub standby_sleeps: bool,
    /// How many calls more are expected to wait. See [`MEMORY`].
    expected: u32,
}

/// Whom a thread wakes before its call.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Wake {
    Nobody,
    /// It leads from now on.
    Thread(u16),
    /// It looks after the loop, should the call last.
    Standby,
}

impl Threads {
    /// The main thread leads first. The others are free when they say so.
    pub fn new() -> Threads {
        Threads { lead: Lead::Thread(0), free: Vec::new(), unled: 0, standby_sleeps: false, expected: 0 }
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

    /// A Python thread comes back from a call, or was given the lead. Whether it has taken the lead from the stand-by.
    pub fn comes(&mut self, thread: u16) -> bool {
        let before = self.lead;
        if !matches!(before, Lead::Thread(_)) {
            self.lead = Lead::Thread(thread);
        }
        before == Lead::Standby
    }

    /// A Python thread has nothing to do.
    pub fn rests(&mut self, thread: u16) {
        self.free.push(thread);
    }

    /// A free thread that leads from now on.
    pub fn grant(&mut self) -> Option<u16> {
        let next = self.free.pop()?;
        self.lead = Lead::Thread(next);
        Some(next)
    }

    /// Whether calls are expected to wait.
    pub fn expects_waits(&self) -> bool {
        self.expected > 0
    }

    /// A call has ended, or the stand-by has seen one wait.
    pub fn learn(&mut self, waited: bool) {
        self.expected = if waited { MEMORY } else { self.expected.saturating_sub(1) };
    }
}

/// Whether calls are long enough to be measured, and one of this length to be handed on.
pub(crate) fn worth_handing_on(length: Duration) -> bool {
    length >= WORTH_HANDING_ON
}

#[cfg(test)]
mod tests {
    use super::*;

    fn threads(count: u16) -> Threads {
        let mut threads = Threads::new();
        (1..count).rev().for_each(|thread| threads.rests(thread));
        threads
    }

    #[test]
    fn short_calls_are_made_by_the_leader_and_nobody_is_woken() {
        let mut threads = threads(4);
        for _ in 0..3 {
            assert_eq!(threads.call_begins(0), Wake::Nobody);
            assert_eq!(threads.lead, Lead::Calling(0));
            assert!(!threads.comes(0));
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
        // Whoever ends its call first leads, and the one that called without a leader finds that out.
        assert!(!threads.comes(1));
        threads.comes(2);
        assert_eq!(threads.lead, Lead::Thread(1));
        threads.rests(2);
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
        assert!(threads.comes(0));
        assert_eq!(threads.lead, Lead::Thread(0));
    }
}
