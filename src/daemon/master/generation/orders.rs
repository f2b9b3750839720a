//! What is ordered, so that a generation has the workers that it should have.

use std::time::Duration;

use ostler_wire::meters::MoveReason;

use super::{Decision, Generation, MARGIN, Stage, Template, late};
use crate::master::{
    event::{Action, Number, Stop},
    notes::{Late, Note, Why},
    slots::{Worker, WorkerStage},
};

/// How long a worker may take to drain that nobody has asked to go: no request is cut for it, unless `--timeout` does.
pub(super) const UNHURRIED: Duration = Duration::from_secs(24 * 3600);
/// How long a worker may take to end at once.
const PROMPTLY: Duration = Duration::from_secs(2);

impl Generation {
    /// Orders what brings the generation nearer to what it should be.
    pub fn supervise(&mut self, decision: &mut Decision) {
        self.follow_refork(decision);
        self.kill_stragglers(decision);
        match self.stage {
            Stage::Booting => self.fork_missing(decision),
            Stage::Serving => {
                self.admit_ready(decision);
                self.promote_asked(decision);
                self.fork_missing(decision);
                self.drain_excess(decision);
            }
            Stage::Canary if self.leaves() => {}
            Stage::Canary => {
                self.admit_ready(decision);
                self.promote_asked(decision);
                self.fork_missing(decision);
                self.drain_excess(decision);
            }
            Stage::Kept => self.drain_all(decision),
            Stage::Draining => {
                self.drain_all(decision);
                self.end_template(decision);
            }
        }
    }

    /// What a command that has waited for the generation is answered.
    pub fn outcome(&self) -> String {
        let s = if self.wanted == 1 { "" } else { "s" };
        let range = self.range.map(|range| format!(" of {range}")).unwrap_or_default();
        format!("generation {} serves with {} worker{s}{range}{}", self.number, self.wanted, self.hint())
    }

    /// What is to be done beside: an engine of a new version may not understand this master.
    pub fn hint(&self) -> &'static str {
        if self.plan.new_version { "; a new version is installed: run `ostler upgrade`" } else { "" }
    }

    pub(super) fn kill_stragglers(&mut self, decision: &mut Decision) {
        let (number, now) = (self.number, decision.now);
        for worker in self.slots.iter_mut().filter(|worker| worker.leaving && worker.stage == WorkerStage::Booting) {
            kill(worker, decision);
        }
        let late =
            |worker: &Worker| self.due(worker).filter(|(due, _)| *due <= now).map(|(_, late)| (worker.slot, late));
        let stragglers: Vec<(u16, Late)> = self.slots.iter().filter_map(late).collect();
        for (slot, late) in stragglers {
            let serving = matches!(self.stage, Stage::Serving | Stage::Canary);
            let Some(worker) = self.slots.at(slot) else { continue };
            worker.deadline = None;
            match worker.stage {
                WorkerStage::Forking => {
                    self.template_stopped = None;
                    decision.note(Note::TemplateLate(number));
                    self.template.kill(decision);
                }
                WorkerStage::Booting if serving && !worker.hangs => late::ask_worker(worker, decision),
                WorkerStage::Booting | WorkerStage::Ready | WorkerStage::Draining => {
                    decision.note(Note::Straggler(worker.name(number), late));
                    kill(worker, decision);
                }
                WorkerStage::Killed => {}
            }
        }
        if matches!(self.template, Template::Ending { deadline, .. } if deadline <= now) {
            self.template.kill(decision);
        }
        self.kill_late_templates(decision);
    }

    pub(super) fn fork_missing(&mut self, decision: &mut Decision) {
        if !matches!(self.template, Template::Loaded { .. }) || decision.now < self.backoff.until {
            return;
        }
        let missing = usize::from(self.wanted).saturating_sub(self.slots.count(Worker::counts));
        for _ in 0..self.forkable(missing) {
            let Some(slot) = self.slots.take(decision.now, decision.now + self.plan.boot_timeout) else { break };
            decision.act(Action::Fork { generation: self.number, slot });
        }
    }

    pub(super) fn admit_ready(&mut self, decision: &mut Decision) {
        let number = self.number;
        for worker in self.slots.iter_mut() {
            if worker.stage == WorkerStage::Ready && !worker.admitted {
                worker.admitted = true;
                decision.act(Action::Admit { generation: number, slot: worker.slot });
            }
        }
    }

    /// One at a time, and only when nothing else is amiss.
    pub(super) fn promote_asked(&mut self, decision: &mut Decision) {
        let number = self.number;
        if self.slots.count(|worker| worker.leaving && worker.stage == WorkerStage::Ready) > 0 {
            return;
        }
        if let Some(worker) = self.slots.iter_mut().find(|worker| worker.asked.is_some() && worker.serves()) {
            worker.leaving = true;
            let why = worker.asked.expect("it was just found");
            decision.note(Note::Replacing(worker.name(number), why));
        }
    }

    /// Those who are replaced, and the oldest of those who are too many.
    pub(super) fn drain_excess(&mut self, decision: &mut Decision) {
        let serving = self.slots.count(Worker::serves);
        let Some(mut excess) = serving.checked_sub(usize::from(self.wanted)) else { return };
        let (number, within) = (self.number, self.plan.graceful_timeout);
        for worker in self.slots.iter_mut().filter(|worker| worker.stage == WorkerStage::Ready) {
            let within = if worker.asked == Some(Why::Refork) { within.max(UNHURRIED) } else { within };
            if worker.leaving && self.refork.chose(worker) {
                self.refork.order(worker, number, within, decision);
            } else if worker.leaving {
                drain(worker, number, within, Some(MoveReason::Recycle), Duration::ZERO, decision);
            } else if excess > 0 {
                excess -= 1;
                drain(worker, number, within, Some(MoveReason::Scale), Duration::ZERO, decision);
            }
        }
    }

    /// A worker is not needed any more.
    pub fn drain_one(&mut self, slot: u16, decision: &mut Decision) {
        let (number, within) = (self.number, self.plan.graceful_timeout);
        if let Some(worker) = self.slots.at(slot) {
            drain(worker, number, within, Some(MoveReason::Scale), Duration::ZERO, decision);
        }
    }

    /// A worker that serves moves its connections and ends; a worker that boots, or has not passed a smoke test, has none.
    pub(super) fn drain_all(&mut self, decision: &mut Decision) {
        let (number, within, tested) = (self.number, self.plan.graceful_timeout, self.tested());
        for worker in self.slots.iter_mut() {
            match worker.stage {
                WorkerStage::Ready if tested == Some(worker.slot) => quit(worker, number, decision),
                WorkerStage::Ready => drain(worker, number, within, Some(MoveReason::Reload), Duration::ZERO, decision),
                WorkerStage::Booting => kill(worker, decision),
                WorkerStage::Forking | WorkerStage::Draining | WorkerStage::Killed => {}
            }
        }
    }

    /// The master stops: all workers end, and no other takes their connections.
    pub fn stop(&mut self, how: Stop, decision: &mut Decision) {
        self.enter(Stage::Draining, decision.now);
        let (number, plan) = (self.number, &self.plan);
        for worker in self.slots.iter_mut() {
            match (worker.stage, how) {
                (WorkerStage::Forking | WorkerStage::Killed, _) => {}
                (WorkerStage::Booting, _) | (_, Stop::Kill) => kill(worker, decision),
                // It has no clients, and what it may be asked by a smoke test is nobody's.
                (WorkerStage::Ready, Stop::Graceful) if !worker.admitted => quit(worker, number, decision),
                (WorkerStage::Ready | WorkerStage::Draining, Stop::Graceful) => {
                    drain(worker, number, plan.graceful_timeout, None, plan.drain_delay, decision);
                }
                (WorkerStage::Ready | WorkerStage::Draining, Stop::Quick) => quit(worker, number, decision),
            }
        }
        if how == Stop::Kill {
            self.template.kill(decision);
        }
    }
}

/// `why`: connections move, for this reason; none if they are closed.
fn drain(
    worker: &mut Worker,
    number: Number,
    within: Duration,
    why: Option<MoveReason>,
    delay: Duration,
    decision: &mut Decision,
) {
    let (hand_over, why) = (why.is_some(), why.unwrap_or_default());
    decision.act(Action::Drain { generation: number, slot: worker.slot, within, hand_over, delay, why });
    worker.stage = WorkerStage::Draining;
    worker.deadline = Some(decision.now + delay + within + MARGIN);
}

fn quit(worker: &mut Worker, number: Number, decision: &mut Decision) {
    decision.act(Action::Quit { generation: number, slot: worker.slot });
    worker.stage = WorkerStage::Draining;
    worker.deadline = Some(decision.now + PROMPTLY);
}

pub(super) fn kill(worker: &mut Worker, decision: &mut Decision) {
    worker.stage = WorkerStage::Killed;
    worker.deadline = None;
    if let Some(pid) = worker.pid {
        decision.act(Action::Kill(pid));
    }
}
