//! When a generation may have a worker become its template: generation/refork.rs does it.

use super::{Phase, State, Upgrade};
use crate::master::generation::{Decision, Stage};

impl State {
    /// Only the generation that serves, and nothing that begins later waits for it.
    pub(super) fn refork(&mut self, decision: &mut Decision) {
        let disturbed = self.phase != Phase::Serving || self.upgrade != Upgrade::None;
        for generation in &mut self.generations {
            generation.abandon_refork(disturbed, decision);
        }
        if !disturbed
            && self.reload.is_none()
            && self.free()
            && let Some(serving) = self.staged(Stage::Serving)
        {
            serving.begin_refork();
        }
    }
}
