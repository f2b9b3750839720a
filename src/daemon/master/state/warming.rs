//! When a generation that boots takes requests of the site to become warm: generation/warming.rs does it.

use super::State;
use crate::master::{
    generation::{Decision, Stage, Template},
    notes::Why,
};

impl State {
    /// Not before it has passed its smoke tests, and only beside a generation that serves.
    pub(super) fn warm(&mut self, decision: &mut Decision) {
        let beside =
            self.serving().is_some_and(|old| old.wanted > 0 && old.failed.is_none()) && self.canary().is_none();
        let Some(booting) = self.staged(Stage::Booting) else { return };
        if !beside || booting.failed.is_some() {
            booting.need_not_warm();
        } else if booting.may_trickle() && booting.smoke_tested(decision) {
            booting.begin_trickle(decision);
            // Before connections move, so that some move to the worker.
            self.have_turns_taken(decision);
            self.lend_connections();
        }
        if let Some(booting) = self.staged(Stage::Booting) {
            booting.go_on_warming(decision);
        }
    }

    /// Clients that keep their connections would not meet the new worker. So an old one is replaced by another of its code, and
    /// what was connected to it is free to move.
    fn lend_connections(&mut self) {
        let Some(old) = self.staged(Stage::Serving).filter(|old| matches!(old.template, Template::Loaded { .. }))
        else {
            return;
        };
        if let Some(worker) = old.slots.iter_mut().find(|worker| worker.serves() && worker.asked.is_none()) {
            worker.asked = Some(Why::Warming);
        }
    }
}
