//! Requests whose thread waits for what a call needs: in Python, for the interpreter lock, while another thread holds it in a call into
//! C. The application has not seen such a request, so the loop takes it back into the queue, from where it may move to a sibling.
//! The thread goes on waiting. No calls begin until it has the lock, because no other thread would get it either.

use std::{
    sync::{Arc, Mutex, PoisonError},
    time::{Duration, Instant},
};

use slog::warn;

use crate::{
    connection::Phase,
    event_loop::{Loop, clock::took},
    request::work::Work,
};

/// After this time a request is taken back.
const PATIENCE: Duration = Duration::from_millis(1);
/// A lock that is held for this long is logged.
const WORTH_SAYING: Duration = Duration::from_secs(1);

/// Where a request is while its thread waits for what the call needs.
#[derive(Default)]
pub(crate) struct Pending(Mutex<Option<Box<Work>>>);

impl Pending {
    pub fn put(&self, work: Box<Work>) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = Some(work);
    }

    /// Taken by the thread when it can call, or by the loop when that takes too long, whichever comes first.
    pub fn take(&self) -> Option<Box<Work>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).take()
    }

    fn since(&self) -> Option<Instant> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).as_ref().map(|work| work.started)
    }
}

/// The requests whose threads wait; since when the lock is held by another thread, and whether the log has said so.
pub(crate) struct Held {
    /// For each Python thread.
    pub pending: Arc<[Pending]>,
    since: Option<Instant>,
    said: bool,
}

impl Held {
    pub fn new(threads: u16) -> Held {
        Held { pending: (0..threads).map(|_| Pending::default()).collect(), since: None, said: false }
    }

    /// Whether a thread still waits although its request was taken back.
    pub fn is(&self) -> bool {
        self.since.is_some()
    }

    /// When the oldest request is to be taken back.
    fn recall_due(&self) -> Option<Instant> {
        self.pending.iter().filter_map(Pending::since).min().map(|since| since + PATIENCE)
    }

    /// Takes the thread's request, if it has waited for too long.
    fn take_late(&self, thread: usize, now: Instant) -> Option<Box<Work>> {
        let late = self.pending[thread].since().is_some_and(|since| took(since, now) >= PATIENCE);
        if late { self.pending[thread].take() } else { None }
    }

    /// When to log that the lock is held.
    pub fn due(&self) -> Option<Instant> {
        self.since.filter(|_| !self.said).map(|since| since + WORTH_SAYING)
    }
}

impl Loop {
    /// When a request that waits for its thread is to be taken back.
    pub(crate) fn recall_due(&self) -> Option<Instant> {
        if self.calls.under_way == 0 { None } else { self.held.recall_due() }
    }

    /// Takes back the requests that have waited too long for their threads. Returns whether there were any.
    pub(crate) fn recall(&mut self) -> bool {
        let mut any = false;
        for thread in 0..self.held.pending.len() {
            if self.calls.under_way > 0
                && let Some(work) = self.held.take_late(thread, self.clock.now)
            {
                self.take_back(thread as u16, work);
                any = true;
            }
        }
        any
    }

    fn take_back(&mut self, seat: u16, work: Box<Work>) {
        self.calls.under_way -= 1;
        self.shared.scoreboard.activity(self.shared.slot, seat).end();
        self.held.since.get_or_insert(work.started);
        self.busy_since.get_or_insert(self.clock.now);
        self.arm();
        let token = work.outgoing.token;
        let Some(connection) = self.connection(token) else { return self.pool.keep(work) };
        connection.phase = Phase::Ready(work);
        connection.deadline.clear();
        self.ready.push_front(token);
        self.count_queue();
    }

    /// A thread whose request was taken back has got the lock.
    pub(crate) fn lock_acquired(&mut self) {
        self.read_clock();
        if self.held.said {
            self.log_held_lock("interpreter lock free again");
        }
        (self.held.since, self.held.said) = (None, false);
    }

    /// Logs, once, that the lock is held.
    pub(crate) fn report_held_lock(&mut self) {
        if self.held.due().is_some_and(|due| due <= self.clock.now) {
            self.log_held_lock("interpreter lock held");
            self.held.said = true;
        }
    }

    fn log_held_lock(&self, what: &'static str) {
        let Some(since) = self.held.since else { return };
        let calls = self.shared.seats.iter().enumerate().filter_map(|(seat, _)| {
            let (line, _) = self.shared.scoreboard.activity(self.shared.slot, seat as u16).current()?;
            Some(format!("thread {seat}: {}", String::from_utf8_lossy(&line)))
        });
        let calls: Vec<String> = calls.collect();
        let by = if calls.is_empty() { "a thread of the application's own".into() } else { calls.join(", ") };
        warn!(self.shared.log, "{}", what; "by" => by, "for_ms" => took(since, self.clock.now).as_millis() as u64,
            "requests_waiting" => self.ready.len());
    }
}
