//! What becomes known of a generation's workers, from the fork to the end.

use std::time::Duration;

use ostler_wire::Recycle;

use super::{Decision, Generation, MARGIN, Stage, orders::kill};
use crate::{
    exit::{Exit, Failure},
    master::{
        event::{Action, Number},
        notes::{Note, Why},
        slots::{Worker, WorkerStage},
    },
    sys::{clock::Moment, process::Ending},
};

/// How long a process may live on after it closed its channel: it ends, or the application has executed another program in its place.
const CLOSED: Duration = Duration::from_secs(1);
/// The log is told of a process that signals stop and continue only so often.
const BETWEEN_STOPS: Duration = Duration::from_secs(60);

impl Generation {
    /// The template has forked; the worker may have been quicker to tell that it is ready, or may be dead already.
    pub fn forked(&mut self, slot: u16, pid: i32, decision: &mut Decision) {
        let number = self.number;
        let Some(worker) = self.slots.at(slot).filter(|worker| worker.stage == WorkerStage::Forking) else { return };
        worker.pid = Some(pid);
        worker.stage = WorkerStage::Booting;
        if worker.ready.is_some() {
            mark_ready(worker, number, decision);
        }
    }

    /// A worker says that it serves.
    pub fn ready(&mut self, slot: u16, decision: &mut Decision) {
        let number = self.number;
        let Some(worker) = self.slots.at(slot) else { return };
        match worker.stage {
            WorkerStage::Forking => worker.ready = Some(decision.now),
            WorkerStage::Booting => mark_ready(worker, number, decision),
            WorkerStage::Ready | WorkerStage::Draining | WorkerStage::Killed => {}
        }
    }

    /// A worker wants to be replaced. One whose state is not to be trusted does not wait for its turn.
    pub fn replace(&mut self, slot: u16, why: Recycle, decision: &mut Decision) {
        let number = self.number;
        let untrusted = matches!(why, Recycle::Timeout | Recycle::Panic);
        if untrusted {
            self.distrust_candidate(slot, &Why::Asked(why).to_string(), decision);
        }
        let Some(worker) = self.slots.at(slot).filter(|worker| !worker.leaving) else { return };
        worker.asked = Some(Why::Asked(why));
        if untrusted {
            worker.leaving = true;
            decision.note(Note::Replacing(worker.name(number), Why::Asked(why)));
        }
    }

    /// A worker has answered enough requests to be worth sharing.
    pub fn warmed(&mut self, slot: u16) {
        if let Some(worker) = self.slots.at(slot) {
            worker.warm = true;
        }
    }

    /// A worker has nothing under way any more, and ends.
    pub fn drained(&mut self, slot: u16, now: Moment) {
        let within = self.plan.graceful_timeout + MARGIN;
        if let Some(worker) = self.slots.at(slot).filter(|worker| worker.stage == WorkerStage::Ready) {
            worker.stage = WorkerStage::Draining;
            worker.deadline = Some(now + within);
        }
    }

    /// A worker was looked at. One that does not turn may only have nothing to turn for: it is asked.
    pub fn pulse(&mut self, slot: u16, alive: bool, decision: &mut Decision) {
        let number = self.number;
        let Some(worker) = self.slots.at(slot).filter(|worker| worker.stage == WorkerStage::Ready) else { return };
        if alive {
            worker.silent = None;
        } else if worker.silent.is_none() {
            worker.silent = Some(decision.now);
            decision.act(Action::Nudge { generation: number, slot });
        }
    }

    /// A child, of this generation or not, was stopped by a signal or continued.
    pub fn stopped(&mut self, pid: i32, stopped: bool, decision: &mut Decision) {
        let number = self.number;
        if self.template.pid() == Some(pid)
            && stop_is_told(&mut self.template_stopped, &mut self.told_template_stopped, stopped, decision.now)
        {
            decision.note(Note::TemplateStopped(number, stopped));
        }
        if let Some(worker) = self.slots.iter_mut().find(|worker| worker.pid == Some(pid))
            && stop_is_told(&mut worker.stopped, &mut worker.told_stopped, stopped, decision.now)
        {
            decision.note(Note::Stopped(worker.name(number), stopped));
        }
    }

    /// A worker's channel is closed: its end is near, or something is wrong with it.
    pub fn closed(&mut self, slot: u16, now: Moment) {
        if let Some(worker) = self.slots.at(slot)
            && matches!(worker.stage, WorkerStage::Booting | WorkerStage::Ready)
        {
            worker.deadline = Some(now + CLOSED);
        }
    }

    /// The application speaks in a worker's name, and its channel is closed. Another takes its place; it ends what it has begun,
    /// as every worker does whose master is gone.
    pub fn distrust(&mut self, slot: u16, why: &str, decision: &mut Decision) {
        let (number, within) = (self.number, self.plan.graceful_timeout + MARGIN);
        self.distrust_candidate(slot, why, decision);
        let Some(worker) = self.slots.at(slot) else { return };
        decision.note(Note::WorkerDistrusted(worker.name(number), why.to_owned()));
        if worker.ready.is_none() {
            self.backoff.strike(decision.now);
        }
        match worker.stage {
            WorkerStage::Forking => worker.leaving = true,
            WorkerStage::Booting => kill(worker, decision),
            WorkerStage::Ready => {
                worker.stage = WorkerStage::Draining;
                worker.deadline = Some(decision.now + within);
            }
            WorkerStage::Draining | WorkerStage::Killed => {}
        }
    }

    /// A worker has ended. Whether it did so by itself.
    pub fn exited(&mut self, slot: u16, exit: Ending, decision: &mut Decision) -> bool {
        let Some(worker) = self.slots.remove(slot) else { return false };
        let lost = match (worker.stage, exit) {
            (WorkerStage::Killed, _) if worker.ready.is_none() && self.serves() => {
                self.backoff.strike(decision.now);
                false
            }
            (WorkerStage::Killed, _) => false,
            (WorkerStage::Draining, Ending::Status(_)) => {
                decision.note(Note::WorkerDrained(worker.name(self.number)));
                false
            }
            (WorkerStage::Draining, Ending::Signal(_) | Ending::OutOfMemory) => {
                self.note_lost(&worker, exit, None, decision);
                false
            }
            (WorkerStage::Forking | WorkerStage::Booting | WorkerStage::Ready, _) => {
                self.lost(&worker, exit, decision);
                true
            }
        };
        decision.act(Action::Release { generation: self.number, slot });
        if self.stage == Stage::Kept && self.slots.is_empty() {
            decision.note(Note::Kept(self.number));
        }
        lost
    }

    pub(super) fn lost(&mut self, worker: &Worker, exit: Ending, decision: &mut Decision) {
        if worker.ready.is_none() {
            self.backoff.strike(decision.now);
        }
        let needed = self.serves() && self.slots.count(Worker::counts) < usize::from(self.wanted);
        self.note_lost(worker, exit, needed.then(|| self.backoff.until - decision.now), decision);
        if self.stage == Stage::Serving {
            let text = format!("a worker was lost: {exit}. The error log says more.");
            decision.answer(&mut self.waiting, Err(&Failure::new(Exit::Refused, text)));
        }
    }

    pub(super) fn note_lost(&self, worker: &Worker, exit: Ending, retry: Option<Duration>, decision: &mut Decision) {
        let (worker, uptime) = (worker.name(self.number), decision.now - worker.since);
        decision.note(Note::WorkerLost { worker, exit, uptime, retry });
    }

    /// The template could not fork.
    pub fn fork_failed(&mut self, slot: u16, error: &str, decision: &mut Decision) {
        if self.slots.at(slot).is_none_or(|worker| worker.stage != WorkerStage::Forking) {
            return;
        }
        self.slots.remove(slot);
        decision.act(Action::Release { generation: self.number, slot });
        self.backoff.strike(decision.now);
        decision.note(Note::ForkFailed(self.number, error.to_owned()));
        if self.stage == Stage::Serving {
            decision.answer(&mut self.waiting, Err(&Failure::new(Exit::System, format!("could not fork: {error}"))));
        }
    }

    /// Marks all workers for replacement by others of the same code.
    pub fn recycle(&mut self) {
        for worker in self.slots.iter_mut().filter(|worker| worker.counts()) {
            worker.asked.get_or_insert(Why::Operator);
        }
    }
}

/// Notes that a process was stopped or continued. Whether the log is told: an application can do this as often as it likes.
fn stop_is_told(since: &mut Option<Moment>, told: &mut Option<Moment>, stopped: bool, now: Moment) -> bool {
    let before = std::mem::replace(since, stopped.then_some(now));
    if !stopped {
        return before.is_some() && before == *told;
    }
    let due = told.is_none_or(|last| now - last >= BETWEEN_STOPS);
    if due {
        *told = Some(now);
    }
    due
}

fn mark_ready(worker: &mut Worker, number: Number, decision: &mut Decision) {
    worker.stage = WorkerStage::Ready;
    worker.ready = Some(decision.now);
    worker.deadline = None;
    decision.note(Note::WorkerReady { worker: worker.name(number), took: decision.now - worker.since });
}
