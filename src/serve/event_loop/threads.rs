//! Threads that enter the loop: to work on it, to wait for work, or to lead it.

use ostler_wire::scoreboard::WorkerState;

use super::Loop;
use crate::threads::lead::Lead;

impl Loop {
    /// A Python thread begins to work on the loop.
    pub(super) fn thread_enters(&mut self, seat: u16) {
        if self.threads.enter(seat) {
            // Ends the stand-by's wait for events.
            self.shared.wake();
        }
        if !self.held.is() {
            self.busy_since = None;
        }
        let armed = self.intake.armed().newcomers;
        self.arm();
        if self.intake.armed().newcomers && !armed && self.at_hand() > 0 {
            self.accept_more();
        }
    }

    /// A Python thread has nothing to do, and may be promoted.
    pub(super) fn add_free_thread(&mut self, seat: u16) {
        self.threads.add_free(seat);
        self.arm();
        if self.threads.lead() == Lead::Standby {
            self.shared.wake();
        }
    }

    /// The stand-by leads, because a call that was made without a leader is long. `waits`: that call waits for something.
    pub(super) fn standby_leads(&mut self, waits: bool) {
        self.read_clock();
        self.threads.standby_leads();
        if !self.recall() && waits {
            self.threads.learn(true);
        }
        self.shared.slot().enter(WorkerState::Busy);
        self.busy_since.get_or_insert(self.clock.now);
        self.group.pause(self.clock.now);
        self.finish_group();
        self.arm();
    }

    /// Whether a request would be dispatched now.
    pub(super) fn thread_free(&self) -> bool {
        !self.held.is() && self.threads.any_free()
    }

    /// How many requests, connections and events can be dealt with at once.
    pub(super) fn at_hand(&self) -> usize {
        self.queue.len() + self.turn.left() + self.poll.left()
    }
}
