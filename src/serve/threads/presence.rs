//! Threads that enter the loop: to work on it, to wait for work, or to lead it.

use ostler_wire::scoreboard::WorkerState;

use super::lead::Lead;
use crate::event_loop::Loop;

impl Loop {
    /// A Python thread begins to work on the loop.
    pub fn thread_enters(&mut self, seat: u16) {
        if self.threads.enter(seat) {
            // Ends the stand-by's wait for events.
            self.shared.wake();
        }
        if !self.held.is() {
            self.busy_since = None;
        }
        let armed = self.intake.armed.newcomers;
        self.arm();
        let at_hand = self.ready.len() + self.turn.left() + self.poll.left();
        if self.intake.armed.newcomers && !armed && at_hand > 0 {
            self.accept_more();
        }
    }

    /// A Python thread has nothing to do, and may be promoted.
    pub fn add_free_thread(&mut self, seat: u16) {
        self.threads.add_free(seat);
        self.arm();
        if self.threads.lead == Lead::Standby {
            self.shared.wake();
        }
    }

    /// The stand-by leads, because a call that was made without a leader is long. `waits`: that call waits for something.
    pub fn standby_leads(&mut self, waits: bool) {
        self.read_clock();
        self.threads.lead = Lead::Standby;
        if !self.recall() && waits {
            self.threads.learn(true);
        }
        self.slot().enter(WorkerState::Busy);
        self.busy_since.get_or_insert(self.clock.now);
        self.end_grouping();
        self.arm();
    }

    /// Whether a request would be dispatched now.
    pub fn thread_free(&self) -> bool {
        !self.held.is() && self.threads.any_free()
    }
}
