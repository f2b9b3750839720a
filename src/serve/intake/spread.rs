//! Spreads connections over the workers. Of the workers that sleep, the kernel wakes the one that has listened for longest. So a
//! worker that has more connections than its siblings ceases to listen and begins again, which puts it behind them. It still accepts
//! if no sibling does: no connection waits because of this.

use std::time::{Duration, Instant};

use ostler_wire::scoreboard::WorkerState;

use super::Armed;
use crate::event_loop::Loop;

/// How many connections are admitted between two looks at the siblings.
const BETWEEN_LOOKS: u32 = 8;
/// How many connections more than its siblings a worker may have without doing anything about it.
const SLACK: usize = 8;
/// How long a worker that has more connections leaves idle ones to its siblings.
const PAUSE: Duration = Duration::from_millis(5);

/// Whether this worker leaves connections to its siblings.
#[derive(Debug, Default)]
pub(crate) struct Spread {
    /// Until when it leaves idle connections to its siblings.
    paused_until: Option<Instant>,
    /// Connections admitted since the last look at the siblings.
    admitted: u32,
}

impl Spread {
    /// When that pause ends.
    pub fn due(&self) -> Option<Instant> {
        self.paused_until
    }
}

/// The connections of the workers that serve, this one among them.
struct Connections {
    mean: usize,
    /// The fewest that a worker has which would take more.
    fewest: usize,
}

impl Loop {
    /// Whether this worker has room for another packet of idle connections, and does not leave it to its siblings.
    pub(crate) fn takes_idle(&self) -> bool {
        let room = self.intake.most.saturating_sub(self.connections.len());
        room >= self.handover.at_once && self.spread.paused_until.is_none()
    }

    /// Checks, once in [`BETWEEN_LOOKS`] connections, whether this worker has more than its share: then the next newcomer wakes another.
    pub(crate) fn let_siblings_accept(&mut self) {
        self.spread.admitted += 1;
        if !self.intake.armed.newcomers || self.spread.admitted < BETWEEN_LOOKS {
            return;
        }
        self.spread.admitted = 0;
        let own = self.connections.len();
        if own > SLACK && own > self.of_workers().mean * 9 / 8 + SLACK {
            let armed = self.intake.armed;
            self.listen_to(Armed { idle: armed.idle, ..Armed::default() });
            self.listen_to(armed);
        }
    }

    /// After each packet of idle connections: the next one wakes another worker. A worker with more than its share pauses.
    pub(crate) fn let_siblings_take(&mut self) {
        self.listen_to(Armed { idle: false, ..self.intake.armed });
        if self.connections.len() > self.of_workers().fewest + 2 * self.handover.at_once {
            self.spread.paused_until = Some(self.clock.now + PAUSE);
        }
        self.arm();
    }

    /// Ends the pause if it is over.
    pub(crate) fn end_pause(&mut self) {
        if self.spread.paused_until.is_some_and(|until| until <= self.clock.now) {
            self.spread.paused_until = None;
            self.arm();
        }
    }

    fn of_workers(&self) -> Connections {
        let own = self.connections.len();
        let (mut workers, mut all, mut fewest) = (1, own, own);
        for slot in self.shared.scoreboard.siblings(self.shared.slot) {
            let connections = slot.connections.load(std::sync::atomic::Ordering::Relaxed) as usize;
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
