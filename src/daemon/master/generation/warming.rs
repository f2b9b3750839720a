//! A generation that boots while the site is at work warms itself. Its first worker answers a few of the site's requests, beside the generation
//! that serves; then it becomes the template, and the others are forked from it. So what a first request loads is loaded once, and
//! before the other workers are there.
//!
//! boots → trickle → prepares → over. What goes wrong on the way ends it: then the others are forked from the template that there is, as
//! where the site is at rest. A worker that dies meanwhile has the generation discarded, as each does that dies while it boots.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::{Decision, Generation, Template, orders::UNHURRIED};
use crate::{
    master::{event::Action, notes::Note, slots::Worker},
    sys::clock::Moment,
};

/// After so many requests the first worker is warm: most of what a site loads at requests, it loads at the first ones.
pub const REQUESTS: u32 = 10;
/// How long the first worker may take to answer them.
pub const TRICKLE: Duration = Duration::from_secs(2);
/// How long it may take then to drain, to become the template and to prove itself. After that nobody waits for it, and it still has the time
/// to finish what it has begun.
const PREPARES: Duration = Duration::from_secs(5);
const LATE: &str = "the first worker has taken more than 5 s to become the template";

/// How far a generation is with that.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum Warming {
    /// All workers that are missing may be forked.
    #[default]
    Over,
    /// The first worker boots, alone.
    Boots,
    /// It answers requests, at most until then.
    Trickle {
        /// Which it is.
        slot: u16,
        /// When patience ends.
        until: Moment,
    },
    /// It becomes the template, at most until then.
    Prepares {
        /// When patience ends.
        until: Moment,
    },
}

impl Generation {
    /// Its settings are known.
    pub(super) fn plan_warming(&mut self) {
        let warms = self.plan.warms && self.wanted > 1;
        self.warming = if warms { Warming::Boots } else { Warming::Over };
        self.refork.early = self.plan.warms;
    }

    /// Its workers import for themselves, or nobody has requests for it: then there is nothing to share.
    pub fn need_not_warm(&mut self) {
        self.warming = Warming::Over;
    }

    /// Whether the first worker is ready, and could answer requests.
    pub fn may_trickle(&self) -> bool {
        self.warming == Warming::Boots
            && matches!(self.template, Template::Loaded { .. })
            && self.slots.iter().any(Worker::serves)
    }

    /// Has the first worker answer requests.
    pub fn begin_trickle(&mut self, decision: &mut Decision) {
        let number = self.number;
        let Some(worker) = self.slots.iter_mut().find(|worker| worker.serves()) else { return };
        worker.admitted = true;
        decision.act(Action::Admit { generation: number, slot: worker.slot });
        decision.note(Note::Warming(worker.name(number)));
        self.warming = Warming::Trickle { slot: worker.slot, until: decision.now + TRICKLE };
    }

    /// Whether the first worker answers requests.
    pub fn trickles(&self) -> bool {
        matches!(self.warming, Warming::Trickle { .. })
    }

    /// The first worker becomes the template when it is warm. When that is over, the others are forked.
    pub fn go_on_warming(&mut self, decision: &mut Decision) {
        match self.warming {
            Warming::Over | Warming::Boots => {}
            Warming::Trickle { slot, until } => {
                let within = self.plan.graceful_timeout.max(UNHURRIED);
                let worker = self.slots.at(slot).filter(|worker| worker.serves() && worker.asked.is_none());
                self.warming = match worker {
                    Some(worker) if worker.warm => {
                        self.refork.order(worker, self.number, within, decision);
                        Warming::Prepares { until: decision.now + PREPARES }
                    }
                    Some(_) if until > decision.now => return,
                    _ => Warming::Over,
                };
            }
            Warming::Prepares { until } => {
                if until <= decision.now {
                    self.abandon_refork(true, decision);
                    decision.note(Note::NotReforked(self.number, LATE.into()));
                }
                if !self.refork.is_under_way() {
                    self.warming = Warming::Over;
                }
            }
        }
    }

    /// How many of those that are missing are to be forked now.
    pub(super) fn forkable(&mut self, missing: usize) -> usize {
        match self.warming {
            Warming::Boots if self.slots.count(Worker::counts) == 0 => missing.min(1),
            Warming::Boots | Warming::Trickle { .. } => 0,
            Warming::Prepares { .. } if !self.can_fall_back() => 0,
            Warming::Prepares { .. } | Warming::Over => self.refork.bound(missing),
        }
    }

    /// When patience ends.
    pub(super) fn warming_deadline(&self) -> Option<Moment> {
        match self.warming {
            Warming::Trickle { until, .. } | Warming::Prepares { until } => Some(until),
            Warming::Over | Warming::Boots => None,
        }
    }
}
