//! What an operator asks for, and what of it has to wait.

use super::{QueuedReload, State, Upgrade};
use crate::{
    exit::{Exit, Failure},
    master::{
        event::{Action, Number, Reload},
        generation::{Decision, Generation, Smoke, Stage, Template},
        notes::Note,
    },
    resources::control::{Asker, Change},
    settings::{Rollout, WorkerRange},
};

impl State {
    pub(super) fn queue_reload(&mut self, Reload { asker, wait, rollout }: Reload, decision: &mut Decision) {
        let begins = self.may_boot();
        if let Some(why) = begins.then(|| self.leaves_none(rollout)).flatten() {
            return refuse_as(Exit::Usage, asker, &why, decision);
        }
        if !begins {
            decision.note(Note::ReloadQueued);
        }
        let queued = self.reload.get_or_insert_default();
        // Who has said nothing of canaries goes along with those who have; of these, the last one decides.
        if rollout != Rollout::AsSet && queued.rollout != rollout {
            if queued.rollout != Rollout::AsSet {
                let mut overruled = std::mem::take(&mut queued.askers);
                overruled.append(&mut queued.waiting);
                let why = "another reload was asked for meanwhile, which is to begin with other workers";
                decision.answer(&mut overruled, Err(&Failure::new(Exit::Refused, why)));
            }
            queued.rollout = rollout;
        }
        (if wait { &mut queued.waiting } else { &mut queued.askers }).extend(asker);
    }

    /// An upgrade reloads too, so it goes first and takes those along who wait for a reload.
    pub(super) fn begin_what_waits(&mut self, decision: &mut Decision) {
        if matches!(self.upgrade, Upgrade::Queued(_)) {
            self.give_way("an upgrade was asked for", decision);
            self.go_on_with_canary(decision);
        }
        if !self.may_boot() {
            return;
        }
        if let Upgrade::Queued(askers) = &mut self.upgrade {
            let askers = std::mem::take(askers);
            self.try_upgrade(askers, decision);
        } else if let Some(reload) = self.reload.take() {
            decision.note(Note::ReloadAsked);
            self.suspect = false;
            self.boot(reload, None, decision);
        } else if self.recovers() && self.recovery.until <= decision.now {
            self.recovery.strike(decision.now);
            // The application can bring this about, and may have written the settings file before.
            let like = self.serving().map(|serving| serving.number);
            if self.suspect {
                decision.note(Note::SuspectBooted(Number(self.last.0 + 1)));
            }
            self.boot(QueuedReload { rollout: Rollout::Whole, ..QueuedReload::default() }, like, decision);
        }
    }

    /// Said again while one is under way, it waits with the first. What has been taken back is not left for the generation before it.
    pub(super) fn rollback(&mut self, asker: Option<Asker>, decision: &mut Decision) {
        if self.canary().is_some() {
            self.roll_canary_back(asker, decision);
            return self.call_off(decision);
        }
        match self.staged(Stage::Booting) {
            Some(booting) if booting.returns.is_some() => return booting.waiting.extend(asker),
            Some(_) => {
                if let Some(serving) = self.serving() {
                    let outcome = serving.serves_again();
                    decision.note(Note::RollbackAsked(serving.number));
                    self.answer_when_switched(asker.into_iter().collect(), outcome, true, decision);
                }
                return self.call_off(decision);
            }
            None => {}
        }
        if !self.free() {
            return refuse(asker, "an upgrade is under way", decision);
        }
        if let Some(switched) = self.switched.iter_mut().find(|switched| switched.returns) {
            return switched.askers.extend(asker);
        }
        if let Some(serving) = self.serving().filter(|_| self.suspect) {
            let number = serving.number;
            let why = format!("the last release was taken back already, and generation {number} serves");
            return refuse(asker, &why, decision);
        }
        let size = self.serving().map_or((0, None), Generation::size);
        let loaded = |generation: &&mut Generation| matches!(generation.template, Template::Loaded { .. });
        let Some(generation) = self.staged(Stage::Kept).filter(loaded) else {
            return refuse(asker, "there is no previous generation to go back to", decision);
        };
        generation.come_back(size, None, decision.now);
        generation.smoke = Smoke::default();
        generation.waiting.extend(asker);
        decision.note(Note::RollbackAsked(generation.number));
        self.watch_no_more("a roll-back was asked for", decision);
    }

    /// A roll-back while a generation still boots, or hangs in a smoke test: there is nothing to go back from yet.
    fn call_off(&mut self, decision: &mut Decision) {
        let Some(number) = self.staged(Stage::Booting).map(|booting| booting.number) else { return };
        let called_off = Failure::new(Exit::Refused, "a roll-back was asked for");
        let QueuedReload { mut askers, waiting, .. } = self.reload.take().unwrap_or_default();
        askers.extend(waiting);
        if let Upgrade::Queued(upgrading) = &mut self.upgrade {
            askers.append(upgrading);
            self.upgrade = Upgrade::None;
        }
        decision.answer(&mut askers, Err(&called_off));
        self.suspect = true;
        self.discard(number, called_off, decision);
    }

    pub(super) fn recycle(&mut self, asker: Option<Asker>) {
        self.generations.iter_mut().filter(|generation| generation.serves()).for_each(Generation::recycle);
        if let Some(serving) = self.staged(Stage::Serving) {
            serving.waiting.extend(asker);
        }
    }

    /// The one that serves and the one that is to follow it. Half of the slots are for replacements.
    pub(super) fn scale(&mut self, change: Change, asker: Option<Asker>, decision: &mut Decision) {
        let given = self.given();
        let (mut refusal, mut scaled) = (None, None);
        for generation in self.generations.iter_mut().filter(|generation| generation.has_begun()) {
            let beside = if generation.stage == Stage::Serving { given } else { 0 };
            let (least, most) = (generation.least() + beside, generation.slots.capacity() / 2);
            let all = generation.full() + beside;
            let range = generation.range;
            let wanted = match change {
                Change::By(more) => i32::from(all).saturating_add(more),
                Change::To(wanted) => i32::from(wanted),
                Change::Within(range) => i32::from(range.nearest(all)),
            };
            // By hand the number can be moved within the range, and the range be changed; a number alone ends it.
            let (least, most, range) = match (change, range) {
                (Change::By(_), Some(WorkerRange { least: fewest, most: largest })) => {
                    (least.max(fewest), most.min(largest), range)
                }
                (Change::By(_), None) | (Change::To(_), _) => (least, most, None),
                (Change::Within(range), _) => (least, most, Some(range)),
            };
            if !(i32::from(least)..=i32::from(most)).contains(&wanted) {
                refusal.get_or_insert(format!("there can be from {least} to {most} workers, not {wanted}"));
            } else if i32::from(all) != wanted || generation.range != range {
                generation.scale(wanted as u16 - beside);
                generation.range = range;
                scaled = Some(Note::Scaled { workers: wanted as u16, range, load: None });
            }
        }
        decision.actions.extend(scaled.map(Action::Note));
        let whose = self.generations.iter_mut().find(|generation| generation.has_begun());
        match (refusal, whose) {
            (Some(refusal), _) => refuse(asker, &refusal, decision),
            (None, Some(generation)) => generation.waiting.extend(asker),
            (None, None) => refuse(asker, "the first generation is still booting", decision),
        }
    }

    /// Who waits for workers of the site, and has them. Those of a canary count, too.
    pub(super) fn answer_settled(&mut self, decision: &mut Decision) {
        let beside = match self.canary().filter(|canary| !canary.leaves()) {
            Some(canary) => format!(", and a canary with {}", canary.wanted),
            None => String::new(),
        };
        if let Some(serving) = self.staged(Stage::Serving).filter(|serving| serving.settled()) {
            let text = format!("{}{beside}", serving.outcome());
            let mut askers = std::mem::take(&mut serving.waiting);
            decision.answer(&mut askers, Ok(&text));
        }
    }

    /// Who waits for workers that cannot be forked, and will not be unless somebody asks for a reload.
    pub(super) fn refuse_without_template(&mut self, decision: &mut Decision) {
        if !self.template_lost() || self.recovers() || !self.free() && self.canary().is_none() {
            return;
        }
        let Some(serving) = self.staged(Stage::Serving).filter(|serving| !serving.settled()) else { return };
        let why = format!(
            "the template of generation {} is lost, so that no worker can be forked; `ostler reload` starts another",
            serving.number
        );
        let mut askers = std::mem::take(&mut serving.waiting);
        decision.answer(&mut askers, Err(&Failure::new(Exit::Refused, why)));
    }

    pub(super) fn let_all_go(&mut self, decision: &mut Decision) {
        self.give_way("all workers are to go", decision);
        if let Some(serving) = self.staged(Stage::Serving).filter(|serving| serving.wanted > 0) {
            serving.wanted = 0;
            decision.note(Note::Scaled { workers: 0, range: None, load: None });
        }
    }
}

pub(super) fn refuse(asker: Option<Asker>, why: &str, decision: &mut Decision) {
    refuse_as(Exit::Refused, asker, why, decision);
}

fn refuse_as(exit: Exit, asker: Option<Asker>, why: &str, decision: &mut Decision) {
    match asker {
        Some(asker) => decision.act(Action::Answer(asker, Err(Failure::new(exit, why)))),
        None => decision.note(Note::Refused(why.to_owned())),
    }
}
