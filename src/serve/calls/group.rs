//! Responses that are sent in groups. Sending to a client that sleeps wakes it (an interrupt on another processor), which costs the
//! sender several times what sending costs. So the responses of short calls wait for each other while more requests are ready. They
//! are sent before the last of those is called, so that clients work while Python does. If a call turns out to be long, the
//! stand-by leads and sends them (see `threads`), a tick or two later. To keep that rare, responses are sent one by one for a while
//! after a long call. Behind nginx over TCP this saves up to an eighth of the processor time (docs/comparison.md).

use std::time::Duration;

use crate::{connection::work::Work, moment::Moment, poll::clock::took};

/// A group is sent when its first call began this long ago.
const LONGEST: Duration = Duration::from_millis(1);
/// Clients of shorter calls do not sleep between two responses.
const SHORTEST_CALL: Duration = Duration::from_micros(20);
/// How long responses are sent one by one after a long call.
const AFTER_LONG_CALL: Duration = Duration::from_millis(100);

/// Finished calls whose responses wait for each other.
pub(crate) struct Group {
    #[allow(clippy::vec_box)]
    works: Vec<Box<Work>>,
    /// Until when every response is sent at once.
    single_until: Moment,
}

impl Group {
    pub fn new(now: Moment) -> Group {
        Group { works: Vec::new(), single_until: now }
    }

    pub fn is_empty(&self) -> bool {
        self.works.is_empty()
    }

    /// Whether the response of a call that begins now may wait for others, where calls usually take that long.
    pub fn admits(&self, usual: Duration, now: Moment) -> bool {
        (SHORTEST_CALL..LONGEST).contains(&usual) && now >= self.single_until
    }

    pub fn add(&mut self, work: Box<Work>) {
        self.works.push(work);
    }

    /// Whether its oldest response has waited for as long as it may.
    pub fn is_due(&self, now: Moment) -> bool {
        self.works.first().is_some_and(|work| took(work.started, now) > LONGEST)
    }

    /// A call is long: sends every response at once for a while.
    pub fn pause(&mut self, now: Moment) {
        self.single_until = now + AFTER_LONG_CALL;
    }

    /// All of them, to be sent. Give the emptied buffer back with [`Group::keep`].
    #[allow(clippy::vec_box)]
    pub fn take(&mut self) -> Vec<Box<Work>> {
        std::mem::take(&mut self.works)
    }

    #[allow(clippy::vec_box)]
    pub fn keep(&mut self, emptied: Vec<Box<Work>>) {
        self.works = emptied;
    }
}
