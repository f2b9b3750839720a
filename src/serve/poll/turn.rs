//! One turn of the loop: which connections go on in it, and how much it may do. A connection that has had its share goes on in the
//! next turn, after everything else, so that a client that always has more to send does not hold up the others.

use std::{collections::VecDeque, time::Duration};

use super::timers::Token;
use crate::moment::Moment;

/// The most connections that go on, and timers, in one turn.
const STEPS: u32 = 128;
/// How long one turn calls waiting requests, before the loop looks for new events.
const CALLS: Duration = Duration::from_millis(5);

pub(crate) struct Turn {
    /// Connections that can go on without waiting.
    now: VecDeque<Token>,
    /// The same, of those that have had their share.
    later: VecDeque<Token>,
    calls_until: Moment,
    steps_left: u32,
}

impl Turn {
    pub fn new(now: Moment) -> Turn {
        Turn { now: VecDeque::new(), later: VecDeque::new(), calls_until: now + CALLS, steps_left: STEPS }
    }

    /// Ends the turn: connections that have had their share go on in the next.
    pub fn end(&mut self) {
        if !self.later.is_empty() {
            self.now.append(&mut self.later);
        }
    }

    pub fn begin(&mut self, now: Moment) {
        self.calls_until = now + CALLS;
        self.steps_left = STEPS;
    }

    /// This connection goes on in this turn.
    pub fn go_on(&mut self, token: Token) {
        self.now.push_back(token);
    }

    /// This connection goes on in the next turn.
    pub fn go_on_later(&mut self, token: Token) {
        self.later.push_back(token);
    }

    /// The next connection that goes on, while the turn may do more.
    pub fn next(&mut self) -> Option<Token> {
        if !self.may_step() {
            return None;
        }
        let token = self.now.pop_front()?;
        self.steps_left -= 1;
        Some(token)
    }

    /// Whether the turn may do more.
    pub fn may_step(&self) -> bool {
        self.steps_left > 0
    }

    /// Counts a connection or a timer.
    pub fn step(&mut self) {
        self.steps_left = self.steps_left.saturating_sub(1);
    }

    /// Whether the turn may still call waiting requests.
    pub fn may_call(&self, now: Moment) -> bool {
        now < self.calls_until
    }

    /// How many connections can go on, in this turn or in the next.
    pub fn left(&self) -> usize {
        self.now.len() + self.later.len()
    }

    /// Whether this connection goes on in this turn.
    pub fn holds(&self, token: Token) -> bool {
        self.now.contains(&token)
    }

    /// Frees memory that is not needed any more.
    pub fn shrink(&mut self) {
        self.now.shrink_to_fit();
        self.later.shrink_to_fit();
    }
}
