//! The end of a turn and the beginning of the next: for how long the leader waits for events, and what time alone has brought about.

use std::{
    sync::atomic::Ordering::Relaxed,
    time::{Duration, Instant},
};

use nix::sys::epoll::{EpollEvent, EpollTimeout};
use ostler_wire::{FromWorker, log, scoreboard::State};
use slog::error;

use super::{Loop, Step};
use crate::life::Life;

/// How often a waiting request looks for an idle sibling.
const RETRY: Duration = Duration::from_millis(1);
/// A wait so long was a sleep: nothing had happened when it began.
const SLEPT: Duration = Duration::from_millis(1);
/// Stands for no bound where there is one to compare with.
const A_DAY: Duration = Duration::from_secs(86_400);
impl Loop {
    /// Wakes the leader if it would wait for too long now.
    pub fn hurry(&self) {
        if let (Some(until), Some(due)) = (self.poll.waits_until, self.due())
            && due < until
        {
            self.shared.wake();
        }
    }

    /// The leader is about to wait for events, or only to look if there is something left to do: where they go, and for how long.
    pub fn begin_wait(&mut self) -> (Vec<EpollEvent>, EpollTimeout) {
        self.access_log.flush();
        self.turn.end();
        self.sleeps = !self.has_more_to_do();
        if self.sleeps {
            self.give_back_memory();
        }
        let at_rest = match (&self.life, self.thread_free()) {
            (Life::Waiting, _) => State::Booting,
            (Life::Serving, true) if !self.sleeps => State::Working,
            (Life::Serving, true) => State::Idle,
            (Life::Serving, false) => State::Busy,
            _ => State::Draining,
        };
        self.slot().enter(at_rest);
        let due = self.due();
        self.poll.waits_until = Some(due.unwrap_or_else(|| self.clock.now + A_DAY));
        // Rounded up: waking before the deadline would only mean waiting again.
        let wait = due.map_or(EpollTimeout::NONE, |due| {
            let round = if self.sleeps { Duration::from_micros(999) } else { Duration::ZERO };
            let wait = due.saturating_duration_since(self.clock.now) + round;
            EpollTimeout::try_from(wait).unwrap_or(EpollTimeout::MAX)
        });
        (self.poll.lend(), wait)
    }

    /// The leader has waited, and this has happened. Another thread may lead by now, and be busy with other events.
    pub fn end_wait(&mut self, seat: Option<u16>, events: Vec<EpollEvent>, filled: nix::Result<usize>) {
        let filled = match filled {
            Ok(filled) => filled,
            Err(nix::errno::Errno::EINTR) => 0,
            Err(error) => {
                // Only who closes or replaces descriptors that are not its own can bring this about.
                error!(self.shared.log, "descriptors lost"; "error" => %error, "by" => "the application");
                self.steps.push_back(Step::Abandon(70));
                0
            }
        };
        self.poll.add(events, filled);
        self.handover.turn();
        if self.leads(seat) {
            self.poll.waits_until = None;
            if self.slot().state() == State::Idle {
                self.slot().enter(State::Working);
            }
        }
        if self.intake.armed {
            self.intake.called = 0;
        }
        self.count_turn();
        let before = self.clock.now;
        self.read_clock();
        if self.intake.armed && self.sleeps && self.clock.now - before >= SLEPT {
            self.intake.looked.fill(self.clock.now);
        }
        self.turn.begin(self.clock.now);
        self.look_around();
    }

    /// The loop turns: the master sees that, and is woken if it does not look.
    fn count_turn(&self) {
        let slot = self.slot();
        slot.turns.store(slot.turns.load(Relaxed).wrapping_add(1).max(1), Relaxed);
        if slot.watched.load(Relaxed) == 0 {
            slot.watched.store(1, Relaxed);
            self.tell(FromWorker::AtWork);
        }
    }

    /// Whether the next turn has something to do whatever happens until then.
    fn has_more_to_do(&self) -> bool {
        self.turn.left() > 0 || self.shared.store.has_rubbish() || !self.ready.is_empty() && self.thread_free()
    }

    /// When time alone brings something about.
    fn due(&self) -> Option<Instant> {
        if self.has_more_to_do() {
            return Some(self.clock.now);
        }
        let soon = (!self.ready.is_empty()).then(|| self.clock.now + RETRY);
        let logs = self.access_log.due().into_iter().chain(log_due()).min().map(|wait| self.clock.now + wait);
        let dues = [
            soon,
            self.timers.due(),
            self.intake.paused_until,
            self.life.due(),
            self.recycling.due(),
            self.lets_in_at(),
            self.recall_due(),
            self.held.due(),
            self.client_lines.due(),
            self.spread.due(),
            self.handover.due(self.clock.now),
            logs,
        ];
        dues.into_iter().flatten().min()
    }

    /// What time alone brings about, apart from the connections' deadlines.
    fn look_around(&mut self) {
        if self.intake.paused_until.is_some_and(|until| until <= self.clock.now) {
            self.intake.paused_until = None;
            self.arm();
        }
        if self.lets_in_at().is_some_and(|at| at <= self.clock.now) {
            self.arm();
        }
        self.recall();
        self.look_at_held();
        self.take_again();
        if self.shared.store.has_rubbish() {
            self.shared.store.clear_away();
        }
        self.unpark();
        if self.intake.crowded && self.has_room() {
            self.intake.crowded = false;
            self.arm();
        }
        self.shed();
        self.drain_goes_on();
        self.look_at_age_and_memory();
        if log::lost() > 0 && self.lost_told + log::BETWEEN_TRIES <= self.clock.now {
            self.lost_told = self.clock.now;
            log::tell_lost(&self.shared.log);
        }
        self.say_left_out();
    }
}

/// When lost lines of the error log are to be told.
fn log_due() -> Option<Duration> {
    (log::lost() > 0).then_some(log::BETWEEN_TRIES)
}
