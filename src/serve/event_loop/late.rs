//! Expired deadlines: of heads and bodies, of idle connections, of calls.

use std::{sync::atomic::Ordering::Relaxed, time::Duration};

use ostler_http::Refusal;
use ostler_wire::Recycle;

use super::{Loop, Step, read::NO_ROOM};
use crate::{calls::first_look, connection::Phase, poll::timers::Token};

/// The shortest time between two looks at a call. While it waits for its client, its own time does not advance.
const LOOK_AGAIN: Duration = Duration::from_millis(100);
const LATE_HEAD: Refusal = Refusal { status: 408, why: "the head did not come within --header-timeout" };
const LATE_BODY: Refusal = Refusal { status: 408, why: "the body paused for --body-timeout" };

impl Loop {
    /// A connection's deadline has expired.
    pub(super) fn timed_out(&mut self, token: Token) {
        let Some(connection) = self.connection(token) else { return };
        match &mut connection.phase {
            Phase::Head => match connection.partial.take() {
                Some(partial) => {
                    let Some(mut work) = self.work_for(token) else { return };
                    work.take_head(*partial);
                    self.refuse(token, work, LATE_HEAD);
                }
                // No request has begun, so there is nothing to answer.
                None => self.ended(token),
            },
            Phase::Body(..) => {
                if let Phase::Body(work, reader) = std::mem::replace(&mut connection.phase, Phase::Head) {
                    self.refuse(token, work, if reader.parked.is_some() { NO_ROOM } else { LATE_BODY });
                }
            }
            Phase::Called(seat, _) => {
                let seat = *seat;
                self.call_is_late(token, seat);
            }
            Phase::Lingering(_) => self.close(token),
            // Waiting is bounded by --max-queue-time, writing by the backlog's own deadline.
            Phase::Ready(_) | Phase::Writing(..) => {}
        }
    }

    /// A call may have lasted for `--slow-request` or for `--timeout`.
    fn call_is_late(&mut self, token: Token, seat: u16) {
        let worker = &self.shared.boot.worker;
        let explained = &self.shared.call_times[usize::from(seat)].explained;
        let age = self.shared.call_age(seat, self.clock.milliseconds());
        // The scoreboard counts in whole milliseconds.
        let over = |bound: Duration| !bound.is_zero() && age + Duration::from_millis(2) >= bound;
        if !over(worker.timeout) {
            if over(worker.slow_request) && !explained.swap(true, Relaxed) {
                self.steps.push_back(Step::Explain(seat, "slow request"));
            }
            let next = if explained.load(Relaxed) { worker.timeout } else { first_look(worker) };
            if !next.is_zero() {
                self.set_deadline(token, self.clock.now, next.saturating_sub(age).max(LOOK_AGAIN));
            }
            return;
        }
        self.steps.push_back(Step::Explain(seat, "request timed out"));
        self.ask_replacement(Recycle::Timeout);
        let answered = self.answer_for(token, seat, 504);
        self.calls.give_up(token, answered);
    }
}
