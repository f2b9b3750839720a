//! Drains the part of a response that the kernel has not taken at once, while the client takes it fast enough.

use ostler_wire::scoreboard::Underway;
use slog::info;

use super::Loop;
use crate::{
    connection::{Interest, Next, Phase},
    poll::timers::{Token, end_of},
    storage::outbox::{DrainOutcome, Gone},
};

impl Loop {
    /// Sends more of a response.
    pub(super) fn drain_outbox(&mut self, token: Token) {
        let (now, worker) = (self.clock.now, &self.shared.boot.worker);
        let Some(connection) = self.connections.get(token) else { return };
        let (backlog, next) = match &mut connection.phase {
            Phase::Writing(work, backlog, next) => (backlog, Some((work, *next))),
            Phase::Called(_, Some(backlog)) => (backlog, None),
            _ => return,
        };
        match (backlog.outbox.drain(&connection.transport), next) {
            (Ok(DrainOutcome::Empty), Some((_, next))) => self.written(token, next),
            (Ok(DrainOutcome::Empty), None) => {
                backlog.has_emptied();
            }
            (Ok(DrainOutcome::More), _) => {
                // The client is not slow: it takes everything that is sent.
                backlog.deadline.clear();
                self.turn.go_on_later(token);
            }
            (Ok(DrainOutcome::Blocked { taken }), call_over) => {
                if let Some((work, _)) = call_over {
                    work.slim();
                }
                let (progress, slow) = backlog.is_blocked(taken, worker.min_rate, now);
                if progress {
                    self.timers.set(token, &mut backlog.deadline, end_of(now, worker.write_timeout));
                }
                self.watch(token, Interest::ReadWrite);
                if slow {
                    self.too_slow_to_answer(token, "the client took its response more slowly than --min-rate");
                }
            }
            (Err(_), Some(_)) => self.close(token),
            // The call learns of it when it sends its next block.
            (Err(_), None) => backlog.outbox.give_up(Gone::Left),
        }
    }

    /// Cuts the response of a client that takes it too slowly, or not at all. A call that is still under way learns of it when it sends
    /// its next block.
    pub(super) fn too_slow_to_answer(&mut self, token: Token, why: &'static str) {
        let shared = self.shared.clone();
        let Some(connection) = self.connections.get(token) else { return };
        let mut client = connection.peer(&shared).client.clone();
        let (request, id, backlog, call_over) = match &connection.phase {
            Phase::Called(seat, Some(backlog)) => {
                let underway = shared.underway(*seat);
                let request = underway.as_ref().map(Underway::line).unwrap_or_default();
                (request, underway.and_then(|underway| underway.id()), backlog, false)
            }
            Phase::Writing(work, backlog, _) => {
                client = work.incoming.client.clone();
                (work.incoming.line(), work.incoming.id().map(String::from), backlog, true)
            }
            _ => return,
        };
        backlog.outbox.give_up(Gone::GivenUp);
        if self.client_lines.admit(self.clock.now) {
            info!(shared.log, "response cut"; "reason" => why, "client" => &client.address, "request" => request,
                "request_id" => id, "taken" => backlog.taken(), "left" => backlog.outbox.left());
        }
        if call_over {
            self.written(token, Next::Reset);
        }
    }
}
