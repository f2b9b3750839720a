//! What is ordered, so that a generation has the workers that it should have.

use std::time::Duration;

use super::{Generation, MARGIN, Stage, Template, Turn, late};
use crate::master::{
    event::{Action, Number, Stop},
    notes::{Late, Note},
    slots::{self, Worker},
};

/// How long a worker may take to end at once.
const PROMPTLY: Duration = Duration::from_secs(2);

impl Generation {
    /// Orders what brings the generation nearer to what it should be.
    pub fn supervise(&mut self, turn: &mut Turn) {
        self.kill_stragglers(turn);
        match self.stage {
            Stage::Booting => self.fork_missing(turn),
            Stage::Serving => {
                self.admit_ready(turn);
                self.promote_asked(turn);
                self.fork_missing(turn);
                self.drain_excess(turn);
                if !self.waiting.is_empty() && self.settled() {
                    let text = self.outcome();
                    turn.answer(&mut self.waiting, Ok(&text));
                }
            }
            Stage::Kept => self.drain_all(turn),
            Stage::Draining => {
                self.drain_all(turn);
                self.end_template(turn);
            }
        }
    }

    /// What a command that has waited for the generation is answered.
    pub fn outcome(&self) -> String {
        let s = if self.wanted == 1 { "" } else { "s" };
        format!("generation {} serves with {} worker{s}", self.number, self.wanted)
    }

    pub(super) fn kill_stragglers(&mut self, turn: &mut Turn) {
        let (number, now) = (self.number, turn.now);
        for worker in self.slots.iter_mut().filter(|worker| worker.leaving && worker.stage == slots::Stage::Booting) {
            kill(worker, turn);
        }
        let late =
            |worker: &Worker| self.due(worker).filter(|(due, _)| *due <= now).map(|(_, late)| (worker.slot, late));
        let stragglers: Vec<(u16, Late)> = self.slots.iter().filter_map(late).collect();
        for (slot, late) in stragglers {
            let serving = self.stage == Stage::Serving;
            let Some(worker) = self.slots.at(slot) else { continue };
            worker.deadline = None;
            match worker.stage {
                slots::Stage::Forking => {
                    self.template_stopped = None;
                    turn.note(Note::TemplateLate(number));
                    self.template.kill(turn);
                }
                slots::Stage::Booting if serving && !worker.hangs => late::ask_worker(worker, turn),
                slots::Stage::Booting | slots::Stage::Ready | slots::Stage::Draining => {
                    turn.note(Note::Straggler(worker.name(number), late));
                    kill(worker, turn);
                }
                slots::Stage::Killed => {}
            }
        }
        if matches!(self.template, Template::Ending { deadline, .. } if deadline <= now) {
            self.template.kill(turn);
        }
    }

    pub(super) fn fork_missing(&mut self, turn: &mut Turn) {
        if !matches!(self.template, Template::Loaded { .. }) || turn.now < self.backoff.until {
            return;
        }
        let missing = usize::from(self.wanted).saturating_sub(self.slots.count(Worker::counts));
        for _ in 0..missing {
            let Some(slot) = self.slots.take(turn.now, turn.now + self.plan.boot_timeout) else { break };
            turn.act(Action::Fork { generation: self.number, slot });
        }
    }

    pub(super) fn admit_ready(&mut self, turn: &mut Turn) {
        let number = self.number;
        for worker in self.slots.iter_mut() {
            if worker.stage == slots::Stage::Ready && !worker.admitted {
                worker.admitted = true;
                turn.act(Action::Admit { generation: number, slot: worker.slot });
            }
        }
    }

    /// One at a time, and only when nothing else is amiss.
    pub(super) fn promote_asked(&mut self, turn: &mut Turn) {
        let number = self.number;
        if self.slots.count(|worker| worker.leaving && worker.stage == slots::Stage::Ready) > 0 {
            return;
        }
        if let Some(worker) = self.slots.iter_mut().find(|worker| worker.asked.is_some() && worker.serves()) {
            worker.leaving = true;
            let why = worker.asked.expect("it was just found");
            turn.note(Note::Replacing(worker.name(number), why));
        }
    }

    /// Those who are replaced, and the oldest of those who are too many.
    pub(super) fn drain_excess(&mut self, turn: &mut Turn) {
        let serving = self.slots.count(Worker::serves);
        let Some(mut excess) = serving.checked_sub(usize::from(self.wanted)) else { return };
        let (number, within) = (self.number, self.plan.graceful_timeout);
        for worker in self.slots.iter_mut().filter(|worker| worker.stage == slots::Stage::Ready) {
            if worker.leaving {
                drain(worker, number, within, true, Duration::ZERO, turn);
            } else if excess > 0 {
                excess -= 1;
                drain(worker, number, within, true, Duration::ZERO, turn);
            }
        }
    }

    /// A worker that serves moves its connections and ends; a worker that boots has none.
    pub(super) fn drain_all(&mut self, turn: &mut Turn) {
        let (number, within) = (self.number, self.plan.graceful_timeout);
        for worker in self.slots.iter_mut() {
            match worker.stage {
                slots::Stage::Ready => drain(worker, number, within, true, Duration::ZERO, turn),
                slots::Stage::Booting => kill(worker, turn),
                slots::Stage::Forking | slots::Stage::Draining | slots::Stage::Killed => {}
            }
        }
    }

    /// The master stops: all workers end, and no other takes their connections.
    pub fn stop(&mut self, how: Stop, turn: &mut Turn) {
        self.stage = Stage::Draining;
        let (number, plan) = (self.number, &self.plan);
        for worker in self.slots.iter_mut() {
            match (worker.stage, how) {
                (slots::Stage::Forking | slots::Stage::Killed, _) => {}
                (slots::Stage::Booting, _) | (_, Stop::Kill) => kill(worker, turn),
                (slots::Stage::Ready | slots::Stage::Draining, Stop::Graceful) => {
                    drain(worker, number, plan.graceful_timeout, false, plan.drain_delay, turn);
                }
                (slots::Stage::Ready | slots::Stage::Draining, Stop::Quick) => {
                    turn.act(Action::Quit { generation: number, slot: worker.slot });
                    worker.stage = slots::Stage::Draining;
                    worker.deadline = Some(turn.now + PROMPTLY);
                }
            }
        }
        if how == Stop::Kill {
            self.template.kill(turn);
        }
    }
}

fn drain(worker: &mut Worker, number: Number, within: Duration, hand_over: bool, delay: Duration, turn: &mut Turn) {
    turn.act(Action::Drain { generation: number, slot: worker.slot, within, hand_over, delay });
    worker.stage = slots::Stage::Draining;
    worker.deadline = Some(turn.now + delay + within + MARGIN);
}

pub(super) fn kill(worker: &mut Worker, turn: &mut Turn) {
    worker.stage = slots::Stage::Killed;
    worker.deadline = None;
    if let Some(pid) = worker.pid {
        turn.act(Action::Kill(pid));
    }
}
