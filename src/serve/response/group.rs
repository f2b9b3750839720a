//! Responses that are sent in groups. Sending to a client that sleeps wakes it (an interrupt on another processor), which costs the
//! sender several times what sending costs. So the responses of short calls wait for each other while more requests are ready. They
//! are sent before the last of those is called, so that clients work while Python does. If a call turns out to be long, the
//! stand-by leads and sends them (see `threads`), a tick or two later. To keep that rare, responses are sent one by one for a while
//! after a long call. Behind nginx over TCP this saves up to an eighth of the processor time (docs/comparison.md).

use std::time::{Duration, Instant};

use crate::{
    event_loop::{Loop, clock::took},
    request::work::Work,
    threads::lead::worth_handing_on,
};

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
    single_until: Instant,
}

impl Group {
    pub fn new(now: Instant) -> Group {
        Group { works: Vec::new(), single_until: now }
    }

    pub fn is_empty(&self) -> bool {
        self.works.is_empty()
    }
}

impl Loop {
    /// Whether the response of a call that begins now may wait for others.
    pub(crate) fn may_group(&self) -> bool {
        !self.threads.expects_waits()
            && self.more_at_hand()
            && (SHORTEST_CALL..LONGEST).contains(&self.calls.usual)
            && self.clock.now >= self.group.single_until
    }

    /// Goes on with a connection whose call is over, at once or together with others.
    pub(crate) fn finish(&mut self, work: Box<Work>) {
        self.read_clock();
        let length = took(work.started, self.clock.now);
        self.calls.learn(length);
        self.threads.learn(work.slept && worth_handing_on(length));
        if let Some(seat) = work.outgoing.thread {
            self.shared.scoreboard.activity(self.shared.slot, seat).end();
        }
        let waits = work.outgoing.may_wait && work.outgoing.outbox.is_some();
        self.group.works.push(work);
        if !waits || !self.more_at_hand() || took(self.group.works[0].started, self.clock.now) > LONGEST {
            self.finish_group();
        }
    }

    /// A call is long, so the stand-by leads: sends the responses that wait, and begins no group for a while.
    pub(crate) fn end_grouping(&mut self) {
        self.group.single_until = self.clock.now + AFTER_LONG_CALL;
        self.finish_group();
    }

    /// Sends the responses that wait for each other.
    pub(crate) fn finish_group(&mut self) {
        let mut group = std::mem::take(&mut self.group.works);
        for work in group.drain(..) {
            self.finish_one(work);
        }
        self.group.works = group;
    }

    fn more_at_hand(&self) -> bool {
        self.ready.len() + self.turn.left() + self.poll.left() > 1
    }
}
