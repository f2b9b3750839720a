//! What the access log says of each request, however it ended: answered, cut, dropped by its client, or given up.

use std::time::{Duration, Instant};

use slog::info;

use crate::{
    access_log::took,
    connection::{Incoming, Phase, Work},
    event_loop::Loop,
    moving::Life,
    timers::Token,
};

/// nginx's number for a client that left before it had an answer.
const CLIENT_LEFT: u16 = 499;

impl Loop {
    /// A request is over.
    pub(crate) fn over(&mut self, work: Box<Work>) {
        self.access_log.record(&work, took(work.started, self.clock.now));
        self.pool.keep(work);
    }

    /// A request ends before it is called, without an answer.
    pub(crate) fn dropped(&mut self, mut work: Box<Work>, since: Instant) {
        work.started = since;
        // Where the worker itself ends, there is no status.
        work.outgoing.status = if matches!(self.life, Life::Over(_)) { 0 } else { CLIENT_LEFT };
        self.over(work);
    }

    /// Keeps a head whose request may have to be recorded while its call still holds it.
    pub(crate) fn keep_head(&mut self, seat: u16, incoming: &Incoming) {
        if self.access_log.is_on() {
            self.access_log.keep_head(seat, &incoming.bytes[..incoming.head.length]);
        }
    }

    /// Records a request whose call has not ended, with the status that its client has seen; zero for none.
    pub(crate) fn log_unended(&mut self, token: Token, seat: u16, status: u16, body: u64) {
        if !self.access_log.is_on() {
            return;
        }
        let Some(mut work) = self.work_for(token) else { return };
        let incoming = &mut work.incoming;
        incoming.bytes = self.access_log.take_head(seat);
        incoming.filled = incoming.bytes.len();
        // It was read and described before, so that both succeed.
        let _ = incoming.head.parse(&incoming.bytes, &self.limits);
        let _ = self.describe(incoming);
        let begun = self.shared.scoreboard.activity(self.shared.slot, seat).current();
        let age = begun.map_or(0, |(_, since)| self.clock.milliseconds().saturating_sub(since));
        work.started = self.clock.now.checked_sub(Duration::from_millis(age)).unwrap_or(self.clock.now);
        work.outgoing.status = status;
        work.outgoing.body_bytes = body;
        self.over(work);
    }

    /// The worker ends: what is still under way gets no more than it has.
    pub(crate) fn log_the_rest(&mut self) {
        let tokens: Vec<Token> = self.connections.tokens();
        for token in tokens {
            if let Some(Phase::Called(seat, _)) = self.connection(token).map(|connection| &connection.phase) {
                let seat = *seat;
                if !self.calls.is_answered(token) {
                    self.log_unended(token, seat, 0, 0);
                }
            }
            self.close(token);
        }
        self.say_left_out();
    }

    /// How many lines about clients were left out of the log.
    pub(crate) fn say_left_out(&mut self) {
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
