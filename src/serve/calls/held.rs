//! Requests whose thread waits for what a call needs: in Python, for the interpreter lock, while another thread holds it in a call into
//! C. The application has not seen such a request, so the loop takes it back into the queue, from where it may move to a sibling.
//! The thread goes on waiting. No calls begin until it has the lock, because no other thread would get it either.

use std::{
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use slog::warn;

use crate::{connection::work::Work, moment::Moment, poll::clock::took, shared::Shared};

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

    fn since(&self) -> Option<Moment> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).as_ref().map(|work| work.started)
    }
}

/// The requests whose threads wait; since when the lock is held by another thread, and whether the log has said so.
pub(crate) struct Held {
    /// For each Python thread.
    pending: Arc<[Pending]>,
    since: Option<Moment>,
    said: bool,
}

impl Held {
    pub fn new(threads: u16) -> Held {
        Held { pending: (0..threads).map(|_| Pending::default()).collect(), since: None, said: false }
    }

    /// For the threads.
    pub fn pending(&self) -> Arc<[Pending]> {
        self.pending.clone()
    }

    /// Whether a thread still waits although its request was taken back.
    pub fn is(&self) -> bool {
        self.since.is_some()
    }

    /// When the oldest request is to be taken back.
    pub fn recall_due(&self) -> Option<Moment> {
        self.pending.iter().filter_map(Pending::since).min().map(|since| since + PATIENCE)
    }

    /// Takes back a request whose thread has waited for too long, and tells which thread that is.
    pub fn take_late(&mut self, now: Moment) -> Option<(u16, Box<Work>)> {
        let late = |pending: &Pending| pending.since().is_some_and(|since| took(since, now) >= PATIENCE);
        let (thread, work) = self.pending.iter().enumerate().find_map(|(thread, pending)| {
            let work = if late(pending) { pending.take() } else { None };
            Some((thread as u16, work?))
        })?;
        self.since.get_or_insert(work.started);
        Some((thread, work))
    }

    /// When to log that the lock is held.
    pub fn due(&self) -> Option<Moment> {
        self.since.filter(|_| !self.said).map(|since| since + WORTH_SAYING)
    }

    /// Logs, once, that the lock is held for long. `waiting`: how many requests wait.
    pub fn report(&mut self, shared: &Shared, waiting: usize, now: Moment) {
        if self.due().is_some_and(|due| due <= now) {
            self.log("interpreter lock held", shared, waiting, now);
            self.said = true;
        }
    }

    /// A thread whose request was taken back has got the lock.
    pub fn end(&mut self, shared: &Shared, waiting: usize, now: Moment) {
        if self.said {
            self.log("interpreter lock free again", shared, waiting, now);
        }
        (self.since, self.said) = (None, false);
    }

    fn log(&self, what: &'static str, shared: &Shared, waiting: usize, now: Moment) {
        let Some(since) = self.since else { return };
        let calls = shared
            .seats
            .iter()
            .enumerate()
            .filter_map(|(seat, _)| Some(format!("thread {seat}: {}", shared.underway(seat as u16)?.told())));
        let calls: Vec<String> = calls.collect();
        let by = if calls.is_empty() { "a thread of the application's own".into() } else { calls.join(", ") };
        warn!(shared.log, "{}", what; "by" => by, "for_ms" => took(since, now).as_millis() as u64,
            "requests_waiting" => waiting);
    }
}
