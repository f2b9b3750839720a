//! What the load may bring about in the simulated world: a number of workers within its range, and nothing that disturbs a reload.

use super::World;
use crate::master::{
    event::{Event, Number},
    generation::Stage,
    state::State,
};

/// An event by which the number of workers follows the load, and what there was before.
pub struct Load {
    grows: bool,
    generation: Number,
    before: u16,
    /// A shrinking site disturbs nothing.
    free: bool,
}

impl Load {
    pub fn of(event: &Event, state: &State) -> Option<Load> {
        let (grows, generation) = match event {
            Event::Grow { generation, .. } => (true, *generation),
            Event::Shrink { generation, .. } => (false, *generation),
            _ => return None,
        };
        let stages = [Stage::Booting, Stage::Canary];
        let reloads = state.generations().iter().any(|generation| stages.contains(&generation.stage));
        let watched = state.serving().is_some_and(|serving| serving.watched.is_some());
        Some(Load { grows, generation, before: whole(state), free: !reloads && !watched })
    }
}

impl World {
    /// What holds after each event, and after one of the load.
    pub fn check_load(&self, load: Option<Load>) {
        for generation in self.state.generations().iter().filter(|generation| generation.has_begun()) {
            let beside = if generation.stage == Stage::Serving { given(&self.state) } else { 0 };
            let (all, range) = (generation.full() + beside, generation.range);
            let within = range.is_none_or(|range| generation.wanted == 0 || range.nearest(all) == all);
            self.ensure(within, &format!("generation {} has {all} workers, outside of {range:?}", generation.number));
        }
        let Some(Load { grows, generation, before, free }) = load else { return };
        let now = whole(&self.state);
        let elastic =
            self.state.serving().is_some_and(|serving| serving.number == generation && serving.range.is_some());
        self.ensure(now == before || elastic, "the load changes a number that is fixed");
        self.ensure(now == before || !self.stopped, "the load changes the number of workers while the site stops");
        match grows {
            true => self.ensure(now >= before, "it grows by fewer workers"),
            false => self
                .ensure(now == before || free && now + 1 == before, "it shrinks by more than one, or during a reload"),
        }
    }
}

fn whole(state: &State) -> u16 {
    state.serving().map_or(0, |serving| serving.wanted) + given(state)
}

fn given(state: &State) -> u16 {
    state.canary().and_then(|canary| canary.canary.as_ref()).map_or(0, |canary| canary.given)
}
