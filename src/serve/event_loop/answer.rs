//! Answers that the loop itself makes instead of the application: refusals, 503 where too many requests wait, and answers in place of
//! calls that were given up.

use std::{sync::atomic::Ordering::Relaxed, time::Duration};

use ostler_http::{Refusal, h1::RequestReader};
use slog::info;

use super::Loop;
use crate::{
    connection::work::Work,
    poll::{clock::took, timers::Token},
};

/// For people whose client has left out TLS.
const WANTS_HTTPS: &str = "This port speaks TLS alone: use https:// in the address.";

impl Loop {
    /// Answers a request that the application must not see, and closes its connection.
    pub(super) fn refuse(&mut self, token: Token, mut work: Box<Work>, refusal: Refusal) {
        if work.incoming.id.is_empty() {
            work.incoming.identify(&self.shared);
        }
        if self.client_lines.admit(self.clock.now) {
            let incoming = &work.incoming;
            info!(self.shared.log, "request refused"; "status" => refusal.status, "reason" => refusal.why,
                "client" => &incoming.client.address, "request" => incoming.line(), "request_id" => incoming.id());
        }
        self.count_own(refusal.status, &work);
        work.outgoing.date = self.clock.date;
        work.outgoing.keep_alive = false;
        work.started = self.clock.now;
        match work.outgoing.transport().lacks_tls() {
            true => work.response().explained(refusal.status, WANTS_HTTPS),
            false => work.response().error(refusal.status, &[]),
        }
        let Some(connection) = self.connection(token) else { return self.pool.keep(work) };
        // More of the refused request may come: it is read and discarded.
        connection.readable = true;
        connection.partial = None;
        work.incoming.consumed = work.incoming.filled;
        self.answered(token, work);
    }

    /// Answers 503 to a request that has waited too long.
    pub(super) fn overloaded(&mut self, token: Token, mut work: Box<Work>) {
        self.count_own(503, &work);
        work.outgoing.date = self.clock.date;
        work.started = work.ready;
        work.response().error(503, &[("Retry-After", "1")]);
        self.answered(token, work);
    }

    fn count_own(&self, status: u16, work: &Work) {
        if work.outgoing.private {
            return;
        }
        // A client is not to blame where the server has no room.
        let slot = self.shared.slot();
        if status < 500 { &slot.refused } else { &slot.errors }.fetch_add(1, Relaxed);
        if let Some(meters) = self.shared.meters() {
            meters.count_own(status, work.incoming.method());
        }
    }

    /// Answers in place of a call that was given up, unless the call has begun to answer, and sends FIN.
    /// Returns whether it did answer; then the access log has the request, too.
    pub(super) fn answer_for(&mut self, token: Token, seat: u16, status: u16) -> bool {
        let answers = self.shared.seats[usize::from(seat)].revoke();
        if answers && let Some(mut work) = self.unended(token, seat) {
            work.outgoing.date = self.clock.date;
            work.outgoing.keep_alive = false;
            work.response().error(status, &[]);
            if !work.outgoing.private {
                let lasted = took(work.started, self.clock.now);
                let method = work.incoming.method();
                self.shared.count_answer(status, method, work.outgoing.body_bytes, work.queue_time(), lasted);
            }
            self.record_request(work);
        }
        if let Some(connection) = self.connection(token) {
            // Nothing more is sent, whether the answer is complete or not.
            if answers {
                connection.transport.finish_sending();
            } else {
                connection.transport.cut_sending();
            }
        }
        answers
    }

    /// New work for a request whose call has not ended and still owns its own work. It has a copy of the head.
    pub(super) fn unended(&mut self, token: Token, seat: u16) -> Option<Box<Work>> {
        let begun = self.shared.underway(seat);
        let mut work = self.work_for(token)?;
        let incoming = &mut work.incoming;
        let kept = self.access_log.take_kept(seat);
        (incoming.bytes, incoming.id) = (kept.head, kept.id);
        (incoming.arrival, work.ready) = kept.arrival.unwrap_or((incoming.arrival, self.clock.now));
        incoming.filled = incoming.bytes.len();
        // It was parsed before, without a fault.
        let _ = RequestReader::default().read(&mut incoming.head, &incoming.bytes, &self.limits);
        let _ = incoming.describe(&self.shared, &self.clock);
        let age = begun.map_or(0, |begun| self.clock.milliseconds().saturating_sub(begun.started));
        let age = Duration::from_millis(age);
        work.started = self.clock.now.checked_sub(age).unwrap_or(self.clock.now);
        work.call = Some(age);
        Some(work)
    }
}
