//! Deadlines of connections. A request moves its connection's deadline several times, so moving it later costs nothing:
//! the heap holds at most the earliest time at which a connection may be due, and looks again when that comes.

use std::{cmp::Reverse, collections::BinaryHeap, time::Duration};

use crate::moment::Moment;

/// Names a connection: its place in the slab, and a serial number that tells it from an earlier one at that place.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Token {
    pub place: u32,
    pub serial: u32,
}

/// What a connection keeps of its deadline.
#[derive(Debug, Default)]
pub(crate) struct Deadline {
    due: Option<Moment>,
    queued: Option<Moment>,
}

impl Deadline {
    pub fn clear(&mut self) {
        self.due = None;
    }

    pub fn due(&self) -> Option<Moment> {
        self.due
    }
}

/// The end of a period that began at `since`; `None` if `bound` is zero, which means no bound.
pub(crate) fn end_of(since: Moment, bound: Duration) -> Option<Moment> {
    (!bound.is_zero()).then(|| since + bound)
}

#[derive(Debug, Default)]
pub(crate) struct Timers(BinaryHeap<Reverse<(Moment, Token)>>);

impl Timers {
    /// Moves a connection's deadline; `None` for no deadline.
    pub fn set(&mut self, token: Token, deadline: &mut Deadline, due: Option<Moment>) {
        deadline.due = due;
        let Some(due) = due else { return };
        if deadline.queued.is_none_or(|queued| due < queued) {
            deadline.queued = Some(due);
            self.0.push(Reverse((due, token)));
        }
    }

    /// Frees memory that is not needed any more.
    pub fn shrink(&mut self) {
        self.0.shrink_to_fit();
    }

    /// When the next connection's time may have come.
    pub fn due(&self) -> Option<Moment> {
        self.0.peek().map(|Reverse((due, _))| *due)
    }

    /// The next connection whose time may have come; pass what it keeps to [`Timers::is_due`].
    pub fn pop(&mut self, now: Moment) -> Option<(Token, Moment)> {
        match self.0.peek() {
            Some(Reverse((due, _))) if *due <= now => self.0.pop().map(|Reverse((due, token))| (token, due)),
            _ => None,
        }
    }

    /// Whether a connection that was popped is really due; if not, it is queued again.
    pub fn is_due(&mut self, token: Token, deadline: &mut Deadline, popped: Moment, now: Moment) -> bool {
        if deadline.queued != Some(popped) {
            return false;
        }
        deadline.queued = None;
        match deadline.due {
            Some(due) if due <= now => {
                deadline.due = None;
                true
            }
            due => {
                self.set(token, deadline, due);
                false
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const TOKEN: Token = Token { place: 1, serial: 7 };

    #[test]
    fn a_deadline_moved_later_is_looked_at_again_and_kept() {
        let start = Moment::now();
        let second = Duration::from_secs(1);
        let (mut timers, mut deadline) = (Timers::default(), Deadline::default());
        timers.set(TOKEN, &mut deadline, Some(start + second));
        timers.set(TOKEN, &mut deadline, Some(start + 3 * second));
        assert_eq!(timers.due(), Some(start + second));
        let (token, popped) = timers.pop(start + second).unwrap();
        assert!(!timers.is_due(token, &mut deadline, popped, start + second));
        assert_eq!(timers.due(), Some(start + 3 * second));
        let (token, popped) = timers.pop(start + 3 * second).unwrap();
        assert!(timers.is_due(token, &mut deadline, popped, start + 3 * second));
        assert!(timers.pop(start + 9 * second).is_none());
    }

    #[test]
    fn a_deadline_moved_earlier_comes_early_and_once() {
        let start = Moment::now();
        let second = Duration::from_secs(1);
        let (mut timers, mut deadline) = (Timers::default(), Deadline::default());
        timers.set(TOKEN, &mut deadline, Some(start + 3 * second));
        timers.set(TOKEN, &mut deadline, Some(start + second));
        let (token, popped) = timers.pop(start + second).unwrap();
        assert!(timers.is_due(token, &mut deadline, popped, start + second));
        let (token, popped) = timers.pop(start + 3 * second).unwrap();
        assert!(!timers.is_due(token, &mut deadline, popped, start + 3 * second));
    }
}
