//! Answers that the loop itself makes instead of the application: refusals, and 503 where too many requests wait.

use std::sync::atomic::Ordering::Relaxed;

use ostler_http::Refusal;
use slog::info;

use crate::{
    event_loop::{Loop, timers::Token},
    request::work::Work,
};

impl Loop {
    /// Answers a request that the application must not see, and closes its connection.
    pub(crate) fn refuse(&mut self, token: Token, mut work: Box<Work>, refusal: Refusal) {
        if self.client_lines.admit(self.clock.now) {
            let (client, request) = (work.incoming.client.address.clone(), work.incoming.line());
            info!(self.shared.log, "request refused"; "status" => refusal.status, "why" => refusal.why,
                "client" => client, "request" => request);
        }
        // A client is not to blame where the server has no room.
        let slot = self.slot();
        if refusal.status < 500 { &slot.refused } else { &slot.errors }.fetch_add(1, Relaxed);
        work.outgoing.date = self.clock.date;
        work.outgoing.keep_alive = false;
        work.started = self.clock.now;
        work.response().error(refusal.status, &[]);
        let Some(connection) = self.connection(token) else { return self.pool.keep(work) };
        // More of the refused request may come: it is read and discarded.
        connection.readable = true;
        connection.partial = None;
        work.incoming.consumed = work.incoming.filled;
        self.answered(token, work);
    }

    /// Answers 503 to a request that has waited too long.
    pub(crate) fn overloaded(&mut self, token: Token, mut work: Box<Work>) {
        self.slot().errors.fetch_add(1, Relaxed);
        work.outgoing.date = self.clock.date;
        work.started = work.ready;
        work.response().error(503, &[("Retry-After", "1")]);
        self.answered(token, work);
    }
}
