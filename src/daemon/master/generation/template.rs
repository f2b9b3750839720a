//! The life of a template, from its start to its end.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::{Decision, Generation};
use crate::{
    master::{event::Action, slots::WorkerStage},
    sys::clock::Moment,
};

/// How long a template may take to end.
pub(super) const PROMPTLY: Duration = Duration::from_secs(2);

/// The life of a template.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum Template {
    /// Its start was ordered.
    Awaited,
    /// It imports.
    Loading {
        /// Its process.
        pid: i32,
        /// When patience ends.
        deadline: Moment,
    },
    /// It can fork.
    Loaded {
        /// Its process.
        pid: i32,
    },
    /// It was told to end, or closed its channel.
    Ending {
        /// Its process.
        pid: i32,
        /// When patience ends.
        deadline: Moment,
    },
    /// SIGKILL was sent.
    Killed {
        /// Its process.
        pid: i32,
    },
    /// There is none.
    Gone,
}

impl Template {
    /// Its process, while there is one.
    pub fn pid(self) -> Option<i32> {
        match self {
            Template::Loading { pid, .. }
            | Template::Loaded { pid }
            | Template::Ending { pid, .. }
            | Template::Killed { pid } => Some(pid),
            Template::Awaited | Template::Gone => None,
        }
    }

    pub(super) fn kill(&mut self, decision: &mut Decision) {
        match *self {
            Template::Loading { pid, .. } | Template::Loaded { pid } | Template::Ending { pid, .. } => {
                decision.act(Action::Kill(pid));
                *self = Template::Killed { pid };
            }
            Template::Awaited | Template::Killed { .. } | Template::Gone => {}
        }
    }
}

impl Generation {
    /// The template's channel is closed: its end is near.
    pub fn template_closed(&mut self, now: Moment) {
        if let Template::Loading { pid, .. } | Template::Loaded { pid } = self.template {
            self.template = Template::Ending { pid, deadline: now + PROMPTLY };
        }
    }

    /// The template has ended. What it was told to fork may live or not; without a channel it will not live for long.
    pub fn template_exited(&mut self, decision: &mut Decision) {
        self.template = Template::Gone;
        self.template_stopped = None;
        self.abandon_forks(decision);
    }

    /// What a template was told to fork that is gone.
    pub(super) fn abandon_forks(&mut self, decision: &mut Decision) {
        let orphans: Vec<u16> =
            self.slots.iter().filter(|worker| worker.stage == WorkerStage::Forking).map(|worker| worker.slot).collect();
        for slot in orphans {
            self.slots.remove(slot);
            decision.act(Action::Abandon { generation: self.number, slot });
        }
    }

    /// The template, if it has said that it answers [`ostler_wire::stacks_signal`].
    pub fn hearing_template(&self) -> Option<i32> {
        match self.template {
            Template::Loading { pid, .. } if self.step.is_some() => Some(pid),
            Template::Loaded { pid } => Some(pid),
            _ => None,
        }
    }

    /// One that imports hears nothing, so it is not asked.
    pub(super) fn end_template(&mut self, decision: &mut Decision) {
        match self.template {
            Template::Loading { .. } => self.template.kill(decision),
            Template::Loaded { pid } => {
                decision.act(Action::EndTemplate(self.number));
                self.template = Template::Ending { pid, deadline: decision.now + PROMPTLY };
            }
            // The child that looks at the settings need not end first.
            Template::Awaited => self.template = Template::Gone,
            Template::Ending { .. } | Template::Killed { .. } | Template::Gone => {}
        }
    }
}
