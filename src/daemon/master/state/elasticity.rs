//! The number of workers follows the load, where it may: what elastic.rs decides is obeyed here, if nothing forbids it.

use super::{State, Upgrade};
use crate::master::{
    event::Number,
    generation::{Decision, Generation, Stage, Template},
    notes::{Direction, Note},
    slots::Worker,
};

impl State {
    /// How many workers the site should have; those that the old generation has given to a canary are its own.
    pub(super) fn whole(&self) -> u16 {
        self.serving().map_or(0, |serving| serving.wanted) + self.given()
    }

    /// How many of them the old generation has given to a canary.
    pub(super) fn given(&self) -> u16 {
        self.canary().and_then(|canary| canary.canary.as_ref()).map_or(0, |canary| canary.given)
    }

    /// Whether one worker fewer would disturb nothing: not while a reload or an upgrade is under way or waits, a release is judged, or a worker
    /// is being replaced.
    pub fn may_shrink(&self) -> bool {
        let at_rest = |serving: &Generation| serving.watched.is_none() && serving.settled();
        self.free() && self.upgrade == Upgrade::None && self.reload.is_none() && self.serving().is_some_and(at_rest)
    }

    /// More workers, as far as the range allows: for the generation that serves, and for one that is to follow it.
    pub(super) fn grow(&mut self, number: Number, by: u16, why: &str, decision: &mut Decision) {
        let (whole, given) = (self.whole(), self.given());
        let can = |serving: &&Generation| {
            serving.number == number && serving.wanted > 0 && matches!(serving.template, Template::Loaded { .. })
        };
        let Some(range) = self.serving().filter(can).and_then(|serving| serving.range) else { return };
        let wanted = range.nearest(whole.saturating_add(by));
        if wanted <= whole {
            return;
        }
        for generation in self.generations.iter_mut().filter(|generation| generation.has_begun()) {
            let beside = if generation.stage == Stage::Serving { given } else { 0 };
            let Some(own) = generation.range else { continue };
            let full = own.nearest(wanted).max(generation.full() + beside);
            generation.scale(full - beside);
        }
        decision.note(Note::Scaled {
            workers: wanted,
            range: Some(range),
            load: Some((Direction::Up, why.to_owned())),
        });
    }

    /// One worker fewer: this one.
    pub(super) fn shrink(&mut self, number: Number, slot: u16, why: &str, decision: &mut Decision) {
        if !self.may_shrink() {
            return;
        }
        let Some(serving) = self.staged(Stage::Serving).filter(|serving| serving.number == number) else { return };
        let Some(range) = serving.range.filter(|range| range.least < serving.wanted) else { return };
        if serving.slots.at(slot).is_some_and(|worker| Worker::serves(worker)) {
            serving.wanted -= 1;
            let workers = serving.wanted;
            decision.note(Note::Scaled { workers, range: Some(range), load: Some((Direction::Down, why.to_owned())) });
            serving.drain_one(slot, decision);
        }
    }
}
