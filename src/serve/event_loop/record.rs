//! Records each request in the access log, however it ended: answered, cut, dropped by its client, or given up.

use std::time::Duration;

use slog::info;

use super::Loop;
use crate::{
    connection::{Phase, work::Work},
    life::Life,
    moment::Moment,
    poll::timers::Token,
};

/// nginx's status for a client that left before it had an answer.
const CLIENT_LEFT: u16 = 499;

impl Loop {
    /// Records a request that is over.
    pub(super) fn record_request(&mut self, work: Box<Work>) {
        self.tally.sent += work.outgoing.sent();
        if self.access_log.is_on() && !work.outgoing.private {
            self.access_log.record(&work.incoming, &work.outgoing, &work.times(&self.clock));
        }
        self.pool.keep(work);
    }

    /// Records a request that ends without a call and without an answer.
    pub(super) fn record_dropped(&mut self, mut work: Box<Work>, since: Moment) {
        work.started = since;
        // There is no status if the worker ends.
        work.outgoing.status = if matches!(self.life, Life::Over(_)) { 0 } else { CLIENT_LEFT };
        self.record_request(work);
    }

    /// The worker ends: records all requests that are still under way.
    pub(super) fn record_unfinished(&mut self) {
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
    pub(super) fn log_left_out(&mut self) {
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
