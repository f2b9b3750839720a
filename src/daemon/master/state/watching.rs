//! After the switch a generation is watched for a while (`--watch`). If the figures speak against it, the one before it is the site again.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::{FailedReload, QueuedReload, State};
use crate::{
    exit::{Exit, Failure},
    master::{
        event::Number,
        generation::{CanaryStep, Decision, Generation, Stage, Template},
        notes::Note,
        verdict::Against,
    },
};

/// By then a generation that is found worse is found so again.
const NEXT_LOOK: Duration = Duration::from_secs(2);

/// A generation that is judged now.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Judged {
    pub new: Number,
    /// The one that it is compared with.
    pub old: Number,
    /// In what time.
    pub against: Against,
}

impl State {
    /// Which generation is judged now, if one is.
    pub fn judged(&self) -> Option<Judged> {
        let serving = self.serving()?;
        if let Some(canary) = self.canary() {
            let judged = Judged { new: canary.number, old: serving.number, against: Against::SameTime };
            return (canary.canary_step() != Some(CanaryStep::Leaves)).then_some(judged);
        }
        let old = self.generations.iter().find(|generation| generation.stage == Stage::Kept)?.number;
        serving.watched.map(|_| Judged { new: serving.number, old, against: Against::LastHour })
    }

    /// The figures say that a generation is worse than the one before: a sentence.
    pub(super) fn found_worse(&mut self, number: Number, why: &str, decision: &mut Decision) {
        let failure = Failure::new(Exit::Worse, why);
        if self.judged().is_none_or(|judged| judged.new != number) {
            return;
        }
        if self.canary().is_some() {
            return self.take_back(&failure, decision);
        }
        self.put_off_boot(decision);
        if self.free() {
            self.go_back(number, failure, decision);
        } else if let Some(serving) = self.staged(Stage::Serving) {
            // An upgrade is tried. The next look will say the same.
            serving.watched = serving.watched.max(Some(decision.now + NEXT_LOOK));
        }
    }

    /// Clients do not wait for what boots, which may take long: the site goes back first, and the reload begins anew.
    fn put_off_boot(&mut self, decision: &mut Decision) {
        let Some(booting) = self.staged(Stage::Booting) else { return };
        let (number, rollout) = (booting.number, booting.rollout);
        let (askers, waiting) = (std::mem::take(&mut booting.waiting), std::mem::take(&mut booting.judged));
        let queued = self.reload.get_or_insert(QueuedReload { rollout, ..QueuedReload::default() });
        queued.askers.splice(0..0, askers);
        queued.waiting.splice(0..0, waiting);
        self.discard(
            number,
            Failure::new(Exit::Refused, "the site goes back first; then the reload begins anew"),
            decision,
        );
    }

    /// The site goes back, by itself, and once: what returns is not judged.
    fn go_back(&mut self, from: Number, failure: Failure, decision: &mut Decision) {
        let Some(worse) = self.at(from) else { return };
        let (size, mut askers) = (worse.size(), std::mem::take(&mut worse.judged));
        worse.watched = None;
        let loaded = |generation: &&mut Generation| matches!(generation.template, Template::Loaded { .. });
        let Some(kept) = self.staged(Stage::Kept).filter(loaded) else {
            let stays = failure
                .after(&format!("generation {from} is worse, but the one before it can fork no worker any more"));
            decision.note(Note::Stays(from, stays.clone()));
            return decision.answer(&mut askers, Err(&stays));
        };
        let failed = FailedReload { generation: from, why: failure.message.clone(), at: decision.now };
        kept.come_back(size, Some(failed), decision.now);
        kept.judged = askers;
        decision.note(Note::WentBack { from, to: kept.number, failure });
        self.suspect = true;
    }

    /// The time is over, and nothing speaks against the generation.
    pub(super) fn end_watch(&mut self, decision: &mut Decision) {
        let now = decision.now;
        if self.staged(Stage::Kept).is_none() && !self.generations.iter().any(|one| one.returns.is_some()) {
            self.watch_no_more("the generation before it has lost its template", decision);
        }
        let Some(serving) = self.staged(Stage::Serving) else { return };
        if serving.watched.take_if(|until| *until <= now).is_none() {
            return;
        }
        let told = serving.told.take();
        let verdict = told.clone().map_or_else(String::new, |told| format!("; {told}"));
        let outcome = format!("{}{verdict}", serving.outcome());
        decision.note(Note::Watched(serving.number, told));
        let mut askers = std::mem::take(&mut serving.judged);
        decision.answer(&mut askers, Ok(&outcome));
    }

    /// Something else was asked for before the time was over.
    pub(super) fn watch_no_more(&mut self, why: &'static str, decision: &mut Decision) {
        let Some(serving) = self.staged(Stage::Serving) else { return };
        if serving.watched.take().is_some() {
            decision.note(Note::NotWatched(serving.number, why));
            let failure =
                Failure::new(Exit::Refused, format!("generation {} was not watched to the end: {why}", serving.number));
            let mut askers = std::mem::take(&mut serving.judged);
            decision.answer(&mut askers, Err(&failure));
        }
    }
}
