//! How connections spread over the workers. Of the workers that sleep the kernel wakes the one that has listened for longest. So a
//! worker that has more connections than its siblings ceases to listen and begins again, and others come first. It still takes what
//! nobody else does: no connection waits because of this.

use std::time::{Duration, Instant};

use ostler_wire::scoreboard::WorkerState;

use super::Armed;
use crate::event_loop::Loop;

/// Siblings are looked at after so many connections.
const BETWEEN_LOOKS: u32 = 8;
/// So many more than its siblings are not worth anything.
const SLACK: usize = 8;
/// A worker that is ahead leaves resting connections to its siblings for so long.
const PAUSE: Duration = Duration::from_millis(5);

/// Whether this worker lets its siblings come first.
#[derive(Debug, Default)]
pub(crate) struct Spread {
    /// Until then resting connections are left to siblings.
    paused_until: Option<Instant>,
    /// Connections since siblings were looked at.
    admitted: u32,
}

impl Spread {
    /// When time alone changes something.
    pub fn due(&self) -> Option<Instant> {
        self.paused_until
    }
}

/// The connections of the workers that serve, this one among them.
struct Connections {
    mean: usize,
    /// Of those who would take more.
    fewest: usize,
}

impl Loop {
    /// Whether this worker has room for another packet of resting connections, and does not leave it to others.
    pub(crate) fn takes_resting(&self) -> bool {
        let room = self.intake.most.saturating_sub(self.connections.len());
        room >= self.handover.at_once && self.spread.paused_until.is_none()
    }

    /// After each few connections: where this worker has more than its share, the next newcomer wakes another one.
    pub(crate) fn let_siblings_accept(&mut self) {
        self.spread.admitted += 1;
        if !self.intake.armed.newcomers || self.spread.admitted < BETWEEN_LOOKS {
            return;
        }
        self.spread.admitted = 0;
        let own = self.connections.len();
        if own > SLACK && own > self.of_workers().mean * 9 / 8 + SLACK {
            let armed = self.intake.armed;
            self.listen_to(Armed { resting: armed.resting, ..Armed::default() });
            self.listen_to(armed);
        }
    }

    /// After each packet of resting connections: the next one wakes another worker. One that is ahead takes none for a while.
    pub(crate) fn let_siblings_take(&mut self) {
        self.listen_to(Armed { resting: false, ..self.intake.armed });
        if self.connections.len() > self.of_workers().fewest + 2 * self.handover.at_once {
            self.spread.paused_until = Some(self.clock.now + PAUSE);
        }
        self.arm();
    }

    /// A pause may be over.
    pub(crate) fn take_again(&mut self) {
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
