//! A new generation proves itself beside the old one, with a share of the workers. Then the rest follow, or it goes.

use super::{FailedReload, State, refuse};
use crate::{
    exit::{Exit, Failure},
    master::{
        event::{Action, Number},
        generation::{CanaryStep, Decision, Generation, Stage, Template, replaced},
        notes::Note,
        slots::Worker,
    },
    resources::control::Asker,
    settings::{Rollout, Share},
};

impl State {
    /// The settings of a generation that boots are known: whether it has to prove itself. Without an old generation that serves there is
    /// nothing to compare it with.
    pub(super) fn plan_canary(&mut self, number: Number, decision: &mut Decision) {
        let old = self.old_workers();
        let Some(new) = self.at(number) else { return };
        let (Some(share), Some(old)) = (new.share(), old) else { return };
        match share.of(new.wanted).and_then(|workers| fits(share, workers, old)) {
            Ok(workers) => new.plan_canary(workers),
            Err(why) => self.discard(number, Failure::new(Exit::Usage, why), decision),
        }
    }

    /// Why a share leaves no old worker, whatever the settings say that are yet to be read.
    pub(super) fn leaves_none(&self, rollout: Rollout) -> Option<String> {
        let Rollout::Canary(share) = rollout else { return None };
        let least = if let Share::Workers(workers) = share { workers } else { 1 };
        fits(share, least, self.old_workers()?).err()
    }

    /// How many workers a canary can serve beside, those included whose place another has taken.
    fn old_workers(&self) -> Option<u16> {
        let given = self.canary().and_then(|canary| canary.canary.as_ref()).map_or(0, |canary| canary.given);
        let old = self.serving().filter(|old| old.failed.is_none() && old.wanted > 0);
        old.map(|old| old.wanted + given)
    }

    /// Which generation proves itself, if one does.
    pub fn canary(&self) -> Option<&Generation> {
        self.generations.iter().find(|generation| generation.stage == Stage::Canary)
    }

    /// A canary that is complete serves; the old generation gives up as many workers.
    pub(super) fn begin_canary(&mut self, number: Number, decision: &mut Decision) {
        let alone = self.serving().is_none_or(|old| old.wanted == 0);
        let Some(new) = self.at(number) else { return };
        if alone {
            // All its workers were let go meanwhile.
            return new.need_no_proof(decision);
        }
        new.begin_canary(decision);
        new.supervise(decision);
        let workers = new.wanted;
        (self.failed_reload, self.suspect) = (None, false);
        // Before connections move, so that some move to the canary.
        self.have_turns_taken(decision);
        let Some(old) = self.staged(Stage::Serving) else { return };
        // It may have been scaled down meanwhile, and keeps one.
        let given = workers.min(old.wanted.saturating_sub(1));
        old.wanted -= given;
        old.supervise(decision);
        if let Some(canary) = self.at(number).and_then(|new| new.canary.as_mut()) {
            canary.given = given;
        }
    }

    /// `ostler promote`. Said again, it waits with the first. A canary that waits for the end of a watch needs no proof any more.
    pub(super) fn promote(&mut self, asker: Option<Asker>, decision: &mut Decision) {
        if let Some(waits) =
            self.staged(Stage::Booting).filter(|booting| booting.canary.is_some() && booting.told.is_some())
        {
            waits.waiting.extend(asker);
            return waits.need_no_proof(decision);
        }
        let Some(canary) = self.staged(Stage::Canary).filter(|canary| !canary.leaves()) else {
            return refuse(asker, "there is no canary to promote", decision);
        };
        canary.judged.extend(asker);
        if matches!(canary.canary_step(), Some(CanaryStep::Beside(_))) {
            canary.promote(decision);
        }
    }

    /// The rest of a canary follow when its time is over; one that leaves goes when the old generation is complete again, or will not be
    /// soon. Clients meet one that is worse no longer than they have to: what is left of the old generation takes its connections.
    pub(super) fn go_on_with_canary(&mut self, decision: &mut Decision) {
        let now = decision.now;
        let restored = self.serving().is_none_or(|old| {
            old.complete() || !matches!(old.template, Template::Loaded { .. }) || old.backoff.until > now
        });
        let accepts = |worker: &Worker| worker.admitted && worker.serves();
        let some = self.serving().is_some_and(|old| old.slots.iter().any(accepts));
        let outcome = self.serving().map_or(Ok(String::new()), Generation::serves_again);
        let lost = self.serving().is_none_or(|old| old.template == Template::Gone && old.slots.is_empty());
        let Some(canary) = self.staged(Stage::Canary) else { return };
        let worse = canary.canary.as_ref().is_some_and(|canary| canary.worse);
        match canary.canary_step() {
            Some(CanaryStep::Beside(_)) if lost => {
                canary.told = Some("nothing is left of the old generation".into());
                canary.promote(decision);
            }
            Some(CanaryStep::Beside(Some(until))) if until <= now => canary.promote(decision),
            Some(CanaryStep::Leaves) if restored || worse && some => {
                canary.enter(Stage::Draining, now);
                canary.supervise(decision);
                let mut askers = std::mem::take(&mut canary.waiting);
                match self.staged(Stage::Serving).filter(|_| !restored) {
                    Some(filling) => filling.waiting.append(&mut askers),
                    None => self.answer_when_switched(askers, outcome, true, decision),
                }
            }
            _ => {}
        }
    }

    /// While there is a canary, or a worker becomes warm, the workers of both generations take turns.
    pub(super) fn have_turns_taken(&mut self, decision: &mut Decision) {
        let turns = self.canary().is_some_and(|canary| !canary.leaves())
            || self.generations.iter().any(|generation| generation.trickles());
        for generation in &mut self.generations {
            let number = generation.number;
            let other = |worker: &&mut Worker| worker.admitted && worker.serves() && worker.turns != turns;
            for worker in generation.slots.iter_mut().filter(other) {
                worker.turns = turns;
                decision.act(Action::TakeTurns { generation: number, slot: worker.slot, turns });
            }
        }
    }

    /// The canary comes to nothing: the old generation is to have all its workers again.
    pub(super) fn take_back(&mut self, failure: &Failure, decision: &mut Decision) {
        let Some(canary) = self.staged(Stage::Canary).filter(|canary| !canary.leaves()) else { return };
        let number = canary.number;
        let given = canary.leave(failure, decision);
        self.suspect = true;
        // Who asked for it knows of it.
        if failure.exit != Exit::Refused {
            self.failed_reload =
                Some(FailedReload { generation: number, why: failure.message.clone(), at: decision.now });
        }
        if let Some(old) = self.staged(Stage::Serving) {
            old.wanted += given;
            old.supervise(decision);
        }
    }

    /// Takes the canary back because something else was asked for.
    pub(super) fn give_way(&mut self, why: &str, decision: &mut Decision) {
        self.take_back(&replaced(why), decision);
    }

    /// Another generation is complete, and takes its place when it is gone; or, if the rest of it follow, when it is the site.
    pub(super) fn replace_canary(&mut self, decision: &mut Decision) {
        if self.canary().is_some_and(Generation::is_beside) {
            self.give_way("another reload was asked for", decision);
            self.go_on_with_canary(decision);
        }
        if self.canary().is_none() {
            self.switch(decision);
        }
    }

    /// `ostler rollback` while there is a canary, which has who asked answered when it accepts no more.
    pub(super) fn roll_canary_back(&mut self, asker: Option<Asker>, decision: &mut Decision) {
        decision.note(Note::RollbackAsked(self.serving().map_or(Number(0), |old| old.number)));
        self.give_way("a roll-back was asked for", decision);
        if let Some(canary) = self.staged(Stage::Canary) {
            canary.waiting.extend(asker);
        }
    }
}

fn fits(share: Share, workers: u16, old: u16) -> Result<u16, String> {
    if workers < old {
        return Ok(workers);
    }
    let s = if old == 1 { "" } else { "s" };
    Err(format!("a canary of {share} leaves no worker of the old generation, which has {old} worker{s}"))
}
