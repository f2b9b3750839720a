//! Calls of the application: the queue before them, those under way, and the finished ones whose responses wait for each other.

pub(crate) mod group;
pub(crate) mod held;
pub(crate) mod queue;

use std::time::Duration;

use ostler_wire::WorkerSettings;

use crate::poll::timers::Token;

/// The calls of a worker: how many are under way, which were given up, and how long they usually take.
#[derive(Default)]
pub(crate) struct Calls {
    under_way: u16,
    /// Calls of these that were given up and have not returned.
    given_up: Vec<GivenUp>,
    /// A moving average of how long calls take.
    usual: Duration,
}

/// A call that was given up.
pub(crate) struct GivenUp {
    token: Token,
    /// The client was told so, and the access log has it.
    pub answered: bool,
}

impl Calls {
    pub fn begin(&mut self) {
        self.under_way += 1;
    }

    /// A call has returned, or never began.
    pub fn end(&mut self) {
        self.under_way -= 1;
    }

    pub fn under_way(&self) -> u16 {
        self.under_way
    }

    /// How long calls usually take.
    pub fn usual(&self) -> Duration {
        self.usual
    }

    /// Updates the average with a call that has ended.
    pub fn learn(&mut self, length: Duration) {
        self.usual = (self.usual * 7 + length) / 8;
    }

    /// A call is given up. `answered`: the loop has answered its client.
    pub fn give_up(&mut self, token: Token, answered: bool) {
        self.given_up.push(GivenUp { token, answered });
    }

    /// How many calls were given up and have not returned.
    pub fn given_up(&self) -> usize {
        self.given_up.len()
    }

    /// Whether calls are under way that may still end.
    pub fn any_may_end(&self) -> bool {
        usize::from(self.under_way) > self.given_up.len()
    }

    /// Whether this connection's request was given up before its call ended; forgets it.
    pub fn take_given_up(&mut self, token: Token) -> Option<GivenUp> {
        let place = self.given_up.iter().position(|call| call.token == token)?;
        Some(self.given_up.swap_remove(place))
    }

    /// Whether its client has had an answer from the loop.
    pub fn is_answered(&self, token: Token) -> bool {
        self.given_up.iter().any(|call| call.token == token && call.answered)
    }
}

/// How long a call has lasted when it is first looked at; zero for never.
pub(crate) fn first_look(worker: &WorkerSettings) -> Duration {
    match (worker.slow_request, worker.timeout) {
        (slow, timeout) if slow.is_zero() || (!timeout.is_zero() && timeout <= slow) => timeout,
        (slow, _) => slow,
    }
}
