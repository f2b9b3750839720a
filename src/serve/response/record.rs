//! Records each request in the access log, however it ended: answered, cut, dropped by its client, or given up.

use std::{
    sync::atomic::Ordering::Relaxed,
    time::{Duration, Instant},
};

use ostler_http::h1::RequestReader;
use slog::info;

use crate::{
    connection::Phase,
    event_loop::{Loop, clock::took, timers::Token},
    life::Life,
    request::work::{Incoming, Work},
};

/// nginx's status for a client that left before it had an answer.
const CLIENT_LEFT: u16 = 499;

impl Loop {
    /// Records a request that is over.
    pub(crate) fn record_request(&mut self, work: Box<Work>) {
        if self.access_log.is_on() {
            self.access_log.record(&work, took(work.started, self.clock.now));
        }
        self.pool.keep(work);
    }

    /// Records a request that ends without a call and without an answer.
    pub(crate) fn record_dropped(&mut self, mut work: Box<Work>, since: Instant) {
        work.started = since;
        // There is no status if the worker ends.
        work.outgoing.status = if matches!(self.life, Life::Over(_)) { 0 } else { CLIENT_LEFT };
        self.record_request(work);
    }

    /// Copies a request's head, because the loop may have to answer or record the request while its call still owns it.
    pub(crate) fn keep_head(&mut self, seat: u16, incoming: &Incoming) {
        self.access_log.keep_head(seat, &incoming.bytes[..incoming.head.length]);
    }

    /// New work for a request whose call has not ended and still owns its own work. It has a copy of the head.
    pub(crate) fn unended(&mut self, token: Token, seat: u16) -> Option<Box<Work>> {
        let begun = self.shared.scoreboard.activity(self.shared.slot, seat).current();
        let mut work = self.work_for(token)?;
        let incoming = &mut work.incoming;
        incoming.bytes = self.access_log.take_head(seat);
        incoming.filled = incoming.bytes.len();
        // It was parsed before, without a fault.
        let _ = RequestReader::default().read(&mut incoming.head, &incoming.bytes, &self.limits);
        let _ = incoming.describe(&self.shared);
        let age = begun.map_or(0, |(_, since)| self.clock.milliseconds().saturating_sub(since));
        work.started = self.clock.now.checked_sub(Duration::from_millis(age)).unwrap_or(self.clock.now);
        Some(work)
    }

    /// Counts a request for which the application was called: the status that its client was sent, and the bytes of the body.
    pub(crate) fn count_answer(&self, status: u16, body: u64) {
        let slot = self.slot();
        slot.requests.store(slot.requests.load(Relaxed).wrapping_add(1), Relaxed);
        slot.sent.store(slot.sent.load(Relaxed).wrapping_add(body), Relaxed);
        if status >= 500 {
            slot.errors.fetch_add(1, Relaxed);
        }
    }

    /// The worker ends: records all requests that are still under way.
    pub(crate) fn record_unfinished(&mut self) {
        let tokens: Vec<Token> = self.connections.tokens();
        for token in tokens {
            if let Some(Phase::Called(seat, _)) = self.connection(token).map(|connection| &connection.phase) {
                let seat = *seat;
                if !self.calls.is_answered(token) {
                    self.unended(token, seat).into_iter().for_each(|work| self.record_request(work));
                }
            }
            self.close(token);
        }
        self.log_left_out();
    }

    /// Logs how many lines about clients were left out.
    pub(crate) fn log_left_out(&mut self) {
        let over = matches!(self.life, Life::Over(_));
        match self.client_lines.take_left_out(if over {
            self.clock.now + Duration::from_secs(1)
        } else {
            self.clock.now
        }) {
            0 => {}
            count => info!(self.shared.log, "more clients refused or cut"; "count" => count),
        }
    }
}
