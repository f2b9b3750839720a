//! From the end of a call to the connection's next request, or to its close.

use std::time::Duration;

use ostler_wire::{FromWorker, Recycle};

use super::Loop;
use crate::{
    connection::{Backlog, Connection, Interest, Next, Phase, work::Work},
    poll::{clock::took, timers::Token},
    threads::lead::worth_handing_on,
    transport::TURN,
};

/// How many bytes that a client still sends are read and discarded after a refusal, so that the client sees the answer.
const LINGER_BYTES: u64 = 4 << 20;
/// And for how long.
const LINGER_TIME: Duration = Duration::from_secs(3);

impl Loop {
    /// Whether the response of a call that begins now may wait for others.
    pub(super) fn may_group(&self) -> bool {
        !self.threads.expects_waits() && self.more_at_hand() && self.group.admits(self.calls.usual(), self.clock.now)
    }

    fn more_at_hand(&self) -> bool {
        self.at_hand() > 1
    }

    /// Goes on with a connection whose call is over, at once or together with others.
    pub(super) fn finish(&mut self, mut work: Box<Work>) {
        self.read_clock();
        let length = took(work.started, self.clock.now);
        work.call = Some(length);
        self.calls.learn(length);
        self.threads.learn(work.slept && worth_handing_on(length));
        if let Some(seat) = work.outgoing.thread {
            self.shared.end_call(seat);
        }
        let waits = work.outgoing.may_wait && work.outgoing.outbox.is_some();
        self.group.add(work);
        if !waits || !self.more_at_hand() || self.group.is_due(self.clock.now) {
            self.finish_group();
        }
    }

    /// Sends the responses that wait for each other.
    pub(super) fn finish_group(&mut self) {
        let mut group = self.group.take();
        for work in group.drain(..) {
            self.finish_one(work);
        }
        self.group.keep(group);
    }

    /// Goes on with a connection whose call is over.
    fn finish_one(&mut self, mut work: Box<Work>) {
        self.calls.end();
        let token = work.outgoing.token;
        let given_up = self.calls.take_given_up(token);
        let answered = given_up.as_ref().is_some_and(|given_up| given_up.answered);
        if !answered && !work.outgoing.private {
            let queued = work.queue_time();
            let lasted = work.call.unwrap_or_default();
            let (outgoing, method) = (&work.outgoing, work.incoming.method());
            self.shared.count_answer(outgoing.status, method, outgoing.body_bytes, queued, lasted);
            let is_left = outgoing.outbox.as_ref().is_some_and(|outbox| outbox.is_given_up());
            if outgoing.broken && given_up.is_none() && !is_left {
                self.shared.count_broken(outgoing.status);
            }
        }
        if work.panicked {
            self.ask_replacement(Recycle::Panic);
        }
        if !work.outgoing.private {
            self.count_request();
        } else if !work.outgoing.raised.is_empty() {
            // Before the connection is closed: the master knows it before it hears what its client has seen.
            self.tell(FromWorker::Raised(std::mem::take(&mut work.outgoing.raised)));
        }
        if let Some(live) = work.outgoing.live.take() {
            let (complete, received, read, behind) = live.take_back();
            self.tally.received += read;
            work.outgoing.keep_alive &= complete;
            work.incoming.arrival.body = received;
            if let Some(connection) = self.connection(token) {
                // The rest of the body may still come. A reset would then discard the answer.
                connection.readable |= !complete;
            }
            work.incoming.append(&behind);
        }
        if given_up.is_some() {
            if answered {
                self.pool.keep(work)
            } else {
                self.record_request(work)
            }
            return self.close(token);
        }
        self.answered(token, work);
    }

    /// The response is made. Drains what the client has not taken yet, before the next request.
    pub(super) fn answered(&mut self, token: Token, work: Box<Work>) {
        let next = work.next();
        let outbox = work.outgoing.outbox.clone().filter(|outbox| !outbox.is_given_up());
        let incoming = &work.incoming;
        let behind = &incoming.bytes[incoming.consumed..incoming.filled];
        let Some(connection) = self.connections.get(token) else {
            return self.record_request(work);
        };
        connection.requests = connection.requests.saturating_add(1);
        if !behind.is_empty() {
            connection.keep(behind);
        }
        match outbox {
            Some(outbox) => {
                connection.deadline.clear();
                connection.phase = Phase::Writing(work, Backlog::new(outbox), next);
                self.drain_outbox(token);
            }
            None => {
                self.record_request(work);
                self.after(token, next);
            }
        }
    }

    /// Nothing more of a response is to be sent.
    pub(super) fn written(&mut self, token: Token, next: Next) {
        if let Some(connection) = self.connection(token)
            && let Phase::Writing(work, ..) = std::mem::replace(&mut connection.phase, Phase::Head)
        {
            self.record_request(work);
        }
        self.after(token, next);
    }

    /// Goes on after a response: with the next request, or the close.
    pub(super) fn after(&mut self, token: Token, next: Next) {
        let Some(connection) = self.connection(token) else { return };
        match next {
            Next::Request => {
                connection.phase = Phase::Head;
                let begun = connection.partial.is_some();
                if !begun && !connection.readable {
                    self.wait_for_request(token);
                } else if !(begun && self.life.hands_over().is_some() && self.give(token)) {
                    self.turn.go_on_later(token);
                }
            }
            Next::Close if connection.half_closed || connection.partial.is_none() && !connection.readable => {
                // Closing sends no FIN while a child of the application has the same socket.
                connection.transport.finish_sending();
                self.close(token);
            }
            Next::Close => self.begin_lingering(token),
            Next::Reset => {
                connection.transport.reset_on_close();
                self.close(token);
            }
        }
    }

    fn begin_lingering(&mut self, token: Token) {
        let Some(connection) = self.connection(token) else { return };
        connection.transport.finish_sending();
        connection.partial = None;
        connection.phase = Phase::Lingering(LINGER_BYTES);
        self.watch(token, Interest::Read);
        self.set_deadline(token, self.clock.now, LINGER_TIME);
        self.turn.go_on_later(token);
    }

    /// Reads and discards what the client still sends.
    pub(super) fn linger(&mut self, token: Token) {
        let mut scratch = std::mem::take(&mut self.scratch);
        let alone = self.ends_alone();
        if let Some(Connection { phase: Phase::Lingering(left), transport, .. }) = self.connection(token) {
            let (mut turn, mut received) = (0, 0);
            let over = loop {
                match transport.receive(&mut scratch) {
                    Ok(None) => break alone,
                    Ok(Some(length @ 1..)) if *left > length as u64 => {
                        received += length as u64;
                        *left -= length as u64;
                        turn += length;
                    }
                    _ => break true,
                }
                if turn >= TURN {
                    self.turn.go_on_later(token);
                    break false;
                }
            };
            self.tally.received += received;
            if over {
                self.close(token);
            }
        }
        self.scratch = scratch;
    }
}
