//! Threads that come to the loop: to work on it, to wait for work, to take it over.

use ostler_wire::scoreboard::WorkerState;

use super::lead::Lead;
use crate::event_loop::Loop;

impl Loop {
    /// A Python thread begins to work on the loop.
    pub fn comes(&mut self, seat: u16) {
        if self.threads.comes(seat) {
            // The stand-by has nothing to wait for any more.
            self.shared.wake();
        }
        if !self.held.is() {
            self.busy_since = None;
        }
        let armed = self.intake.armed.newcomers;
        self.arm();
        let at_hand = self.ready.len() + self.turn.left() + self.poll.left();
        if self.intake.armed.newcomers && !armed && at_hand > 0 {
            self.let_in();
        }
    }

    /// A Python thread is there, and has nothing to do.
    pub fn joins(&mut self, seat: u16) {
        self.threads.rests(seat);
        self.arm();
        if self.threads.lead == Lead::Standby {
            self.shared.wake();
        }
    }

    /// The stand-by leads, because nobody else has for a while. Whether the call that it found waits.
    pub fn standby_comes(&mut self, waits: bool) {
        self.read_clock();
        self.threads.lead = Lead::Standby;
        if !self.recall() && waits {
            self.threads.learn(true);
        }
        self.slot().enter(WorkerState::Busy);
        self.busy_since.get_or_insert(self.clock.now);
        self.call_is_long();
        self.arm();
    }

    /// Whether a request would be dispatched now.
    pub fn thread_free(&self) -> bool {
        !self.held.is() && self.threads.any_free()
    }
}
