//! The end of a turn and the beginning of the next: how long the leader waits for events, and what is due when it has waited.

use std::{sync::atomic::Ordering::Relaxed, time::Duration};

use nix::sys::epoll::{EpollEvent, EpollTimeout};
use ostler_wire::{FromWorker, log, scoreboard::WorkerState, standard};
use slog::{error, warn};

use super::{Loop, Step};
use crate::{
    life::Life,
    moment::Moment,
    poll::clock::took,
    threads::{lead::Lead, watch::TICK},
};

/// How often a waiting request looks for an idle sibling.
const RETRY: Duration = Duration::from_millis(1);
/// What makes a whole number of epoll's milliseconds of every longer time.
const ROUND: Duration = Duration::from_micros(999);
/// A wait of this length was a sleep: no event was there when it began.
const SLEPT: Duration = Duration::from_millis(1);

impl Loop {
    /// Wakes the leader if something is due before its wait ends.
    pub(super) fn shorten_wait(&self) {
        if let Some(until) = self.poll.waits_until
            && self.next_due() < until
        {
            self.shared.wake();
        }
    }

    /// The leader is about to wait for events (not at all, if there is more to do). Returns the buffer for them, and the time-out.
    pub(super) fn begin_wait(&mut self) -> (Vec<EpollEvent>, EpollTimeout) {
        self.access_log.end_turn(self.clock.now);
        self.write_tally();
        self.turn.end();
        self.sleeps = !self.has_more_to_do();
        if self.sleeps {
            self.give_back_memory();
        }
        let at_rest = match (&self.life, self.thread_free()) {
            (Life::Waiting, _) => WorkerState::Booting,
            (Life::Serving, true) if !self.sleeps => WorkerState::Working,
            (Life::Serving, true) => WorkerState::Idle,
            (Life::Serving, false) => WorkerState::Busy,
            _ => WorkerState::Draining,
        };
        self.shared.slot().enter(at_rest);
        let due = if self.sleeps { self.due() } else { self.clock.now };
        self.poll.waits_until = Some(due);
        let wait = match due {
            _ if !self.sleeps => EpollTimeout::ZERO,
            Moment::NEVER => EpollTimeout::NONE,
            // Rounded up: waking before the deadline would only mean waiting again.
            due => EpollTimeout::try_from(took(self.clock.now, due) + ROUND).unwrap_or(EpollTimeout::MAX),
        };
        (self.poll.lend(), wait)
    }

    /// The leader's wait has returned. Another thread may lead by now, and may still be handling earlier events.
    pub(super) fn end_wait(&mut self, seat: Option<u16>, events: Vec<EpollEvent>, filled: nix::Result<usize>) {
        let filled = match filled {
            Ok(filled) => filled,
            Err(nix::errno::Errno::EINTR) => 0,
            Err(error) => {
                // The only cause: the application has closed or replaced descriptors that are not its own.
                error!(self.shared.log, "descriptors lost"; "error" => %error, "by" => "the application");
                self.steps.push_back(Step::Abandon(70));
                0
            }
        };
        self.poll.add(events, filled);
        self.handover.turn();
        if self.leads(seat) {
            self.poll.waits_until = None;
            if self.shared.slot().state() == WorkerState::Idle {
                self.shared.slot().enter(WorkerState::Working);
            }
        }
        if self.intake.armed().newcomers {
            self.intake.take_called();
        }
        self.count_turn();
        let before = self.clock.now;
        self.read_clock();
        if self.intake.armed().newcomers && self.sleeps && self.clock.now >= before + SLEPT {
            self.intake.queues_were_empty(self.clock.now);
        }
        self.turn.begin(self.clock.now);
        self.do_what_is_due();
    }

    /// Shows the master that the loop is at work. A master that does not watch the counter gets a message.
    fn count_turn(&self) {
        let slot = self.shared.slot();
        slot.turns.store(slot.turns.load(Relaxed).wrapping_add(1).max(1), Relaxed);
        if slot.watched.load(Relaxed) == 0 {
            slot.watched.store(1, Relaxed);
            self.tell(FromWorker::AtWork);
        }
    }

    /// Whether the next turn has something to do even without a new event.
    fn has_more_to_do(&self) -> bool {
        self.turn.left() > 0 || self.shared.store.has_files_to_delete() || !self.queue.is_empty() && self.thread_free()
    }

    /// When the leader has something to do, with or without an event.
    fn next_due(&self) -> Moment {
        if self.has_more_to_do() { self.clock.now } else { self.due() }
    }

    /// When something is due next.
    fn due(&self) -> Moment {
        let soon = (!self.queue.is_empty()).then(|| self.clock.now + RETRY);
        let dues = [
            soon,
            self.timers.due(),
            self.intake.paused_until(),
            self.life.due(),
            self.recycling.due(),
            self.accepts_while_busy_at(),
            self.recall_due(),
            self.held.due(),
            self.client_lines.due(),
            self.spread.due(),
            self.handover.due(self.clock.now),
            self.access_log.due(self.clock.now),
            log_due().map(|wait| self.clock.now + wait),
            self.reads_notes().then(|| self.clock.now + TICK),
        ];
        dues.into_iter().fold(Moment::NEVER, |first, due| first.min(due.unwrap_or(Moment::NEVER)))
    }

    /// Whether the stand-by, which reads the notes of calls every tick, does that as the leader.
    fn reads_notes(&self) -> bool {
        self.threads.lead() == Lead::Standby && self.shared.notes().are_watched()
    }

    /// Does what is due, apart from the connections' deadlines.
    fn do_what_is_due(&mut self) {
        if self.reads_notes() {
            self.read_notes();
        }
        if self.intake.end_pause(Some(self.clock.now)) {
            self.arm();
        }
        if self.accepts_while_busy_at().is_some_and(|at| at <= self.clock.now) {
            self.arm();
        }
        self.recall();
        self.held.report(&self.shared, self.queue.len(), self.clock.now);
        if self.spread.end_pause(self.clock.now) {
            self.arm();
        }
        if self.shared.store.has_files_to_delete() {
            self.shared.store.delete_piece();
        }
        self.unpark();
        if self.intake.is_crowded() && self.has_room() {
            self.intake.end_crowding();
            self.arm();
        }
        self.shed();
        self.advance_drain();
        if let Some(why) = self.recycling.look(self.clock.now) {
            self.ask_replacement(why);
        }
        if log::lost() > 0 && self.lost_told + log::BETWEEN_TRIES <= self.clock.now {
            self.lost_told = self.clock.now;
            log::tell_lost(&self.shared.log);
        }
        if standard::is_to_be_told() {
            warn!(self.shared.log, "standard descriptor closed"; "by" => "the application", "instead" => "/dev/null");
        }
        self.log_left_out();
    }
}

/// How long the loop may sleep while lost lines of the error log are still to be reported.
fn log_due() -> Option<Duration> {
    (log::lost() > 0).then_some(log::BETWEEN_TRIES)
}
