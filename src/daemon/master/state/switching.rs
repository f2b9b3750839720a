//! One generation takes over from another. Who asked for that is answered when nobody reaches the old code any more.

use std::{mem, time::Duration};

use serde::{Deserialize, Serialize};

use super::{Phase, State};
use crate::{
    exit::{Exit, Failure},
    master::{
        event::Action,
        generation::{Backoff, CanaryStep, Decision, Generation, Stage, Template},
        notes::Note,
        slots::Worker,
    },
    resources::control::Asker,
    sys::clock::Moment,
};

/// How long workers of the old code may take to hear that they accept no more. One that a signal has stopped does not hear it.
const HEARING: Duration = Duration::from_secs(1);

/// Those who asked for a generation that serves by now.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Switched {
    pub(super) askers: Vec<Asker>,
    /// What they are answered.
    outcome: Result<String, Failure>,
    /// They have asked for a roll-back.
    #[serde(default)]
    pub(super) returns: bool,
    /// When at the latest.
    pub due: Moment,
}

impl State {
    /// The new generation is complete: from here on it is the site.
    pub(super) fn switch(&mut self, decision: &mut Decision) {
        let is_next = |g: &Generation| g.stage == Stage::Booting || g.canary_step() == Some(CanaryStep::Follows);
        let Some(new) = self.generations.iter().position(|g| is_next(g) && g.complete()) else { return };
        if !self.generations[new].smoke_tested(decision) {
            return;
        }
        if self.canary().is_some_and(|canary| canary.number != self.generations[new].number) {
            return self.replace_canary(decision);
        }
        if self.generations[new].canary_step() == Some(CanaryStep::Booting) {
            if let Some(number) = self.serving().filter(|serving| serving.watched.is_some()).map(|it| it.number) {
                return self.generations[new].wait_for_watch(number, decision);
            }
            return self.begin_canary(self.generations[new].number, decision);
        }
        self.generations[new].canary = None;
        // One that was not watched to the end is not what the next one goes back to.
        let unproven = self.serving().is_some_and(|serving| serving.watched.is_some());
        self.watch_no_more("another has taken over", decision);
        let (keep, listeners) =
            (self.generations[new].plan.keep_previous, self.generations[new].plan.listeners.clone());
        self.generations[new].enter(Stage::Serving, decision.now);
        let returns = self.generations[new].returns.take();
        let came_back = returns.is_some();
        let watch = Some(self.generations[new].plan.watch).filter(|watch| !watch.is_zero() && !came_back);
        let (number, wanted) = (self.generations[new].number, self.generations[new].wanted);
        self.phase = Phase::Serving;
        self.recovery = Backoff::NONE;
        self.suspect &= came_back;
        self.failed_reload = returns.flatten();
        decision.act(Action::TakeOver(number));
        decision.note(Note::Serving(number, wanted));
        let outcome = self.generations[new].outcome();
        let mut askers = mem::take(&mut self.generations[new].waiting);
        let mut judged = mem::take(&mut self.generations[new].judged);
        self.generations[new].supervise(decision);
        for generation in self.generations.iter_mut().filter(|generation| generation.number != number) {
            match generation.stage {
                Stage::Serving => {
                    decision.note(Note::Draining(generation.number));
                    askers.append(&mut generation.waiting);
                    let whole = matches!(generation.template, Template::Loaded { .. })
                        && generation.failed.is_none()
                        && generation.plan.listeners.iter().all(|listener| listeners.contains(listener));
                    let kept = keep && whole && !unproven && self.failed_reload.is_none();
                    generation.enter(if kept { Stage::Kept } else { Stage::Draining }, decision.now);
                }
                Stage::Kept if unproven => {}
                Stage::Kept => generation.enter(Stage::Draining, decision.now),
                Stage::Booting | Stage::Canary | Stage::Draining => {}
            }
            generation.supervise(decision);
        }
        let kept = self.staged(Stage::Kept).is_some();
        if watch.is_some() && !kept && self.generations.len() > 1 {
            decision.note(Note::NotWatched(number, "there is nothing to go back to"));
        }
        match (watch.filter(|_| kept), &self.failed_reload) {
            (Some(watch), _) => {
                self.generations[new].watched = Some(decision.now + watch);
                self.generations[new].judged = judged;
            }
            (None, Some(failed)) => {
                let what = format!("generation {} was taken back", failed.generation);
                let failure = Failure::new(Exit::Worse, failed.why.clone()).after(&what);
                self.answer_when_switched(judged, Err(failure), false, decision);
            }
            (None, None) => askers.append(&mut judged),
        }
        self.answer_when_switched(askers, Ok(outcome), came_back, decision);
    }

    /// Has them answered when nobody reaches the code any more that has just begun to drain.
    pub(super) fn answer_when_switched(
        &mut self,
        askers: Vec<Asker>,
        outcome: Result<String, Failure>,
        returns: bool,
        decision: &Decision,
    ) {
        if !askers.is_empty() {
            self.switched.push(Switched { askers, outcome, returns, due: decision.now + HEARING });
        }
    }

    /// Answers them when no worker of the old code accepts any more, or does not say so in time; or when the site stops.
    pub(super) fn answer_switched(&mut self, decision: &mut Decision) {
        let old = self.generations.iter().filter(|generation| generation.stage != Stage::Serving);
        let over = !old.flat_map(|generation| generation.slots.iter()).any(Worker::accepts);
        let (over, now) = (over || !matches!(self.phase, Phase::Serving), decision.now);
        for Switched { mut askers, outcome, .. } in self.switched.extract_if(.., |switched| over || switched.due <= now)
        {
            decision.answer(&mut askers, outcome.as_deref());
        }
    }
}
