//! The calls of a worker: how many are under way, which were given up, and how long they usually take.

use std::time::Duration;

use crate::event_loop::timers::Token;

#[derive(Default)]
pub(crate) struct Calls {
    pub under_way: u16,
    /// Calls of these that were given up and have not returned.
    pub stuck: Vec<Stuck>,
    /// A moving average of how long calls take.
    pub usual: Duration,
}

/// A call that was given up.
pub(crate) struct Stuck {
    pub token: Token,
    /// The client was told so, and the access log has it.
    pub answered: bool,
}

impl Calls {
    /// Updates the average with a call that has ended.
    pub fn learn(&mut self, length: Duration) {
        self.usual = (self.usual * 7 + length) / 8;
    }

    /// Whether calls are under way that may still end.
    pub fn any_may_end(&self) -> bool {
        usize::from(self.under_way) > self.stuck.len()
    }

    /// Whether this connection's request was given up before its call ended; forgets it.
    pub fn take_stuck(&mut self, token: Token) -> Option<Stuck> {
        let place = self.stuck.iter().position(|stuck| stuck.token == token)?;
        Some(self.stuck.swap_remove(place))
    }

    /// Whether its client has had an answer from the loop.
    pub fn is_answered(&self, token: Token) -> bool {
        self.stuck.iter().any(|stuck| stuck.token == token && stuck.answered)
    }
}
