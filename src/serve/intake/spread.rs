//! Spreads connections over the workers. Of the workers that sleep, the kernel wakes the one that has listened for longest. So a
//! worker that has more connections than its siblings ceases to listen and begins again, which puts it behind them. It still accepts
//! if no sibling does: no connection waits because of this.

use std::{sync::atomic::Ordering::Relaxed, time::Duration};

use ostler_wire::scoreboard::WorkerState;

use crate::{moment::Moment, shared::Shared};

/// How many connections are admitted between two looks at the siblings.
const BETWEEN_LOOKS: u32 = 8;
/// How many connections more than its siblings a worker may have without doing anything about it.
const SLACK: usize = 8;
/// How long a worker that has more connections leaves idle ones to its siblings.
const PAUSE: Duration = Duration::from_millis(5);
/// How long a worker that begins to take turns does.
const LEFT_TO_NEWER: Duration = Duration::from_millis(20);

/// Whether this worker leaves connections to its siblings.
#[derive(Debug, Default)]
pub(crate) struct Spread {
    /// Until when it leaves idle connections to its siblings.
    paused_until: Option<Moment>,
    /// Connections admitted since the last look at the siblings.
    admitted: u32,
    /// Each newcomer is to wake another worker than the last.
    takes_turns: bool,
}

impl Spread {
    /// When that pause ends.
    pub fn due(&self) -> Option<Moment> {
        self.paused_until
    }

    /// Ends the pause if it is over by now.
    pub fn end_pause(&mut self, now: Moment) -> bool {
        self.paused_until.take_if(|until| *until <= now).is_some()
    }

    pub fn count_admitted(&mut self) {
        self.admitted += 1;
    }

    /// From now on, or not any more. A worker that has connections when that begins leaves idle ones to newer workers for a moment: so a
    /// canary gets those of the workers whose place it takes, and its share of the connections that are kept.
    pub fn take_turns(&mut self, takes_turns: bool, own: usize, now: Moment) {
        if takes_turns && !self.takes_turns && own > 0 {
            self.paused_until = Some(now + LEFT_TO_NEWER);
        }
        self.takes_turns = takes_turns;
    }

    /// Whether the next newcomer should wake another worker. Checks, once in [`BETWEEN_LOOKS`] connections, whether this one, with `own`
    /// connections, has more than its share.
    pub fn leaves_the_next(&mut self, own: usize, shared: &Shared) -> bool {
        if self.takes_turns {
            return true;
        }
        if self.admitted < BETWEEN_LOOKS {
            return false;
        }
        self.admitted = 0;
        own > SLACK && own > Connections::of_workers(own, shared).mean * 9 / 8 + SLACK
    }

    /// After a packet of idle connections: a worker with more than its share pauses.
    pub fn pause_with_too_many(&mut self, own: usize, at_once: usize, shared: &Shared, now: Moment) {
        if own > Connections::of_workers(own, shared).fewest + 2 * at_once {
            self.paused_until = Some(now + PAUSE);
        }
    }
}

/// The connections of the workers that serve, this one among them.
struct Connections {
    mean: usize,
    /// The fewest that a worker has which would take more.
    fewest: usize,
}

impl Connections {
    fn of_workers(own: usize, shared: &Shared) -> Connections {
        let (mut workers, mut all, mut fewest) = (1, own, own);
        for slot in shared.scoreboard.siblings(shared.slot) {
            let connections = slot.connections.load(Relaxed) as usize;
            match slot.state() {
                WorkerState::Idle | WorkerState::Working => fewest = fewest.min(connections),
                WorkerState::Busy => {}
                WorkerState::Empty | WorkerState::Booting | WorkerState::Draining => continue,
            }
            workers += 1;
            all = all.saturating_add(connections);
        }
        Connections { mean: all / workers, fewest }
    }
}

/// Whether another worker would take a newcomer. All workers have the same bound, `most`.
pub(crate) fn sibling_has_room(most: usize, shared: &Shared) -> bool {
    let siblings = shared.scoreboard.siblings(shared.slot);
    siblings
        .filter(|slot| matches!(slot.state(), WorkerState::Idle | WorkerState::Working))
        .any(|slot| (slot.connections.load(Relaxed) as usize) < most)
}
