//! Responses that leave in groups. To send to a client that sleeps is to wake it, and that costs the sender several times what
//! sending costs (an interrupt on another processor). So, while more requests are at hand, the responses of short calls wait for
//! each other. Nobody waits for the last request at hand, so that clients have theirs to think about while Python works, nor for
//! a call that turns out to be long: the stand-by takes over and sends (see crew.rs). That takes a tick or two, so it shall not happen
//! often: where one call was long, others may be, and responses leave one by one for a while.

use std::time::{Duration, Instant};

use crate::{access_log::took, connection::Work, event_loop::Loop, lead::worth_handing_on};

/// A group leaves when its first call began so long ago.
const LONGEST: Duration = Duration::from_millis(1);
/// Clients of shorter calls have no time to fall asleep.
const SHORTEST_CALL: Duration = Duration::from_micros(20);
/// After a long call there are no groups for so long.
const AFTER_LONG_CALL: Duration = Duration::from_millis(100);

impl Loop {
    /// Whether the response of a call that begins now may wait for others.
    pub(crate) fn may_group(&self) -> bool {
        !self.threads.expects_waits()
            && self.more_at_hand()
            && (SHORTEST_CALL..LONGEST).contains(&self.service)
            && self.now >= self.single_until
    }

    /// Takes up a connection whose call is over, at once or with others.
    pub(crate) fn finish(&mut self, work: Box<Work>) {
        self.now = Instant::now();
        self.tell_time();
        let length = took(work.started, self.now);
        self.service = (self.service * 7 + length) / 8;
        self.threads.learn(work.slept && worth_handing_on(length));
        if let Some(seat) = work.outgoing.thread {
            self.shared.scoreboard.activity(self.shared.slot, seat).end();
        }
        let waits = work.outgoing.may_wait && work.outgoing.outbox.is_some();
        self.group.push(work);
        if !waits || !self.more_at_hand() || took(self.group[0].started, self.now) > LONGEST {
            self.finish_group();
        }
    }

    /// The stand-by leads because of a long call: nobody waits for that, nor for the next thread's.
    pub(crate) fn call_is_long(&mut self) {
        self.single_until = self.now + AFTER_LONG_CALL;
        self.finish_group();
    }

    /// Sends the responses that wait for each other.
    pub(crate) fn finish_group(&mut self) {
        let mut group = std::mem::take(&mut self.group);
        for work in group.drain(..) {
            self.finish_one(work);
        }
        self.group = group;
    }

    fn more_at_hand(&self) -> bool {
        self.ready.len() + self.again.len() + self.later.len() + self.events_left() > 1
    }
}
