//! Responses that leave in groups. To send to a client that sleeps is to wake it, and that costs the sender several times what
//! sending costs (an interrupt on another processor). So, while more requests are at hand, the responses of short calls wait for
//! each other. Nobody waits for the last request at hand, so that clients have theirs to think about while Python works, nor for
//! a call that turns out to be long: the stand-by takes over and sends (see `threads`). That takes a tick or two, so it shall not happen
//! often: where one call was long, others may be, and responses leave one by one for a while.

use std::time::{Duration, Instant};

use crate::{
    event_loop::{Loop, clock::took},
    request::work::Work,
    threads::lead::worth_handing_on,
};

/// A group leaves when its first call began so long ago.
const LONGEST: Duration = Duration::from_millis(1);
/// Clients of shorter calls have no time to fall asleep.
const SHORTEST_CALL: Duration = Duration::from_micros(20);
/// After a long call there are no groups for so long.
const AFTER_LONG_CALL: Duration = Duration::from_millis(100);

/// Finished calls whose responses wait for each other.
pub(crate) struct Group {
    #[allow(clippy::vec_box)]
    works: Vec<Box<Work>>,
    /// Until then every response leaves at once.
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

    /// Takes up a connection whose call is over, at once or with others.
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

    /// The stand-by leads because of a long call: nobody waits for that, nor for the next thread's.
    pub(crate) fn call_is_long(&mut self) {
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
