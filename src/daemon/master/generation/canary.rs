//! A generation that serves beside the old one with a share of the workers, until it is known to be no worse.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::{Decision, Generation, Stage, Template};
use crate::{
    exit::{Exit, Failure},
    master::{event::Number, notes::Note, slots::Worker},
    settings::{Rollout, Share},
    sys::clock::Moment,
};

/// What a generation that is to be a canary, or is one, needs besides.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Canary {
    /// How many workers it has meanwhile.
    pub workers: u16,
    /// How many it has when it is the site.
    pub full: u16,
    /// How many the old generation has given up for it.
    pub given: u16,
    /// How far it has come.
    pub step: CanaryStep,
    /// It leaves because it is worse.
    #[serde(default)]
    pub worse: bool,
}

/// How far a canary has come.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum CanaryStep {
    /// It boots.
    Booting,
    /// It serves beside the old generation; the rest follow at this moment, or when they are told to.
    Beside(Option<Moment>),
    /// The rest of its workers boot.
    Follows,
    /// It goes as soon as the old generation is complete; one that is worse, as soon as a worker of the old generation accepts.
    Leaves,
}

impl Generation {
    /// The share that it has to prove itself with, if it has to.
    pub fn share(&self) -> Option<Share> {
        match self.rollout {
            Rollout::AsSet => self.plan.canary,
            Rollout::Canary(share) => Some(share),
            Rollout::Whole => None,
        }
    }

    /// How many workers it has when it is the site.
    pub fn full(&self) -> u16 {
        self.canary.as_ref().map_or(self.wanted, |canary| canary.full)
    }

    /// How many it has at least then: more than as a canary.
    pub fn least(&self) -> u16 {
        self.canary.as_ref().map_or(1, |canary| canary.workers + 1)
    }

    /// Whether it is the site, or is to be, and its settings are known.
    pub fn has_begun(&self) -> bool {
        matches!(self.stage, Stage::Booting | Stage::Canary | Stage::Serving)
            && self.template != Template::Awaited
            && !self.leaves()
    }

    /// It is to have so many then.
    pub fn scale(&mut self, full: u16) {
        let now = self.canary.as_mut().is_none_or(|canary| {
            canary.full = full;
            canary.step == CanaryStep::Follows
        });
        if now {
            self.wanted = full;
        }
    }

    /// How far it has come as a canary.
    pub fn canary_step(&self) -> Option<CanaryStep> {
        self.canary.as_ref().map(|canary| canary.step)
    }

    /// The settings are known: it is to be a canary of so many workers, or else is wanted whole.
    pub fn plan_canary(&mut self, workers: u16) {
        self.canary = Some(Canary { workers, full: self.wanted, given: 0, step: CanaryStep::Booting, worse: false });
        self.wanted = workers;
        self.need_not_warm();
    }

    /// It is complete, and the one that it is to be compared with is watched itself. Said once.
    pub fn wait_for_watch(&mut self, serving: Number, decision: &mut Decision) {
        if self.told.is_none() {
            self.told = Some(format!("it waits until generation {} has been watched to the end", serving.0));
            decision.note(Note::CanaryWaits(self.number, serving));
        }
    }

    /// There is nothing any more that it could serve beside: it goes on booting, whole.
    pub fn need_no_proof(&mut self, decision: &mut Decision) {
        if let Some(canary) = self.canary.take() {
            self.wanted = canary.full;
            self.supervise(decision);
        }
    }

    /// It is complete as a canary and serves from now on, beside the old generation, for `canary_time`; zero for no end.
    pub fn begin_canary(&mut self, decision: &mut Decision) {
        let (number, time) = (self.number, self.plan.canary_time);
        let Some(canary) = &mut self.canary else { return };
        canary.step = CanaryStep::Beside((!time.is_zero()).then(|| decision.now + time));
        let (workers, of) = (canary.workers, canary.full);
        self.told = None;
        self.enter(Stage::Canary, decision.now);
        decision.note(Note::Canary { generation: number, workers, of, time });
        let s = if workers == 1 { "" } else { "s" };
        let text = format!("generation {number} serves as a canary with {workers} worker{s} of {of}; {}", until(time));
        decision.answer(&mut self.waiting, Ok(&text));
    }

    /// The rest of its workers follow.
    pub fn promote(&mut self, decision: &mut Decision) {
        let Some(canary) = &mut self.canary else { return };
        canary.step = CanaryStep::Follows;
        self.wanted = canary.full;
        decision.note(Note::Promoted(self.number, self.wanted, self.told.take()));
        self.supervise(decision);
    }

    /// Whether it serves beside the old generation, and neither follows nor leaves.
    pub fn is_beside(&self) -> bool {
        matches!(self.canary_step(), Some(CanaryStep::Beside(_)))
    }

    /// Whether it goes as soon as it can.
    pub fn leaves(&self) -> bool {
        self.canary_step() == Some(CanaryStep::Leaves)
    }

    /// It comes to nothing. Why, is for those who wait; returns what it has given up of the site's workers.
    pub fn leave(&mut self, failure: &Failure, decision: &mut Decision) -> u16 {
        let number = self.number;
        let Some(canary) = &mut self.canary else { return 0 };
        let given = std::mem::take(&mut canary.given);
        (canary.step, canary.worse) = (CanaryStep::Leaves, failure.exit == Exit::Worse);
        let mut waiting = std::mem::take(&mut self.judged);
        waiting.append(&mut self.waiting);
        decision.answer(&mut waiting, Err(&failure.after(&format!("generation {number} was taken back"))));
        decision.note(Note::TakenBack(number, failure.clone()));
        given
    }

    /// What is answered when a canary beside it has gone.
    pub fn serves_again(&self) -> Result<String, Failure> {
        if self.complete() {
            return Ok(self.outcome());
        }
        let (number, ready) = (self.number, self.slots.count(Worker::serves));
        let why = format!(
            "generation {number} serves with {ready} of {} workers, and could not fork the others",
            self.wanted
        );
        Err(Failure::new(Exit::Refused, why))
    }

    /// When the rest of its workers follow.
    pub(super) fn canary_deadline(&self) -> Option<Moment> {
        match self.canary_step() {
            Some(CanaryStep::Beside(until)) if self.stage == Stage::Canary => until,
            _ => None,
        }
    }
}

/// Why a canary goes where nothing is wrong with it.
pub fn replaced(why: &str) -> Failure {
    Failure::new(Exit::Refused, why)
}

fn until(time: Duration) -> String {
    match time.is_zero() {
        true => "`ostler promote` has the rest follow".into(),
        false => format!("the rest follow in {} s, or by `ostler promote`", time.as_secs()),
    }
}
