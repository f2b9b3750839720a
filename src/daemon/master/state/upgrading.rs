//! An upgrade's steps: it waits, a child tries the new executable, and then the master executes it.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::State;
use crate::{
    exit::{Exit, Failure},
    master::{
        event::{Action, PROVEN},
        generation::Decision,
        notes::Note,
    },
    resources::control::Asker,
    sys::{clock::Moment, process::Ending},
};

/// How long a new executable may take to read our state.
const TRIAL: Duration = Duration::from_secs(10);

/// How far an upgrade has come.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum Upgrade {
    None,
    /// A reload is under way.
    Queued(Vec<Asker>),
    /// A child tries the new executable.
    Trying {
        pid: Option<i32>,
        deadline: Moment,
        askers: Vec<Asker>,
    },
    /// The order to execute it was given.
    Executing(Vec<Asker>),
}

impl State {
    pub(super) fn queue_upgrade(&mut self, asker: Option<Asker>, decision: &mut Decision) {
        match &mut self.upgrade {
            Upgrade::None => {
                decision.note(Note::UpgradeAsked);
                self.upgrade = Upgrade::Queued(asker.into_iter().collect());
            }
            Upgrade::Queued(askers) | Upgrade::Trying { askers, .. } | Upgrade::Executing(askers) => {
                askers.extend(asker);
            }
        }
    }

    pub(super) fn try_upgrade(&mut self, askers: Vec<Asker>, decision: &mut Decision) {
        self.upgrade = Upgrade::Trying { pid: None, deadline: decision.now + TRIAL, askers };
        decision.act(Action::TryUpgrade);
    }

    pub(super) fn end_late_trial(&mut self, decision: &mut Decision) {
        if let Upgrade::Trying { pid: Some(pid), deadline, .. } = self.upgrade
            && deadline <= decision.now
        {
            decision.act(Action::Kill(pid));
            self.upgrade_failed(
                &format!("the new executable did not read the state within {} s", TRIAL.as_secs()),
                decision,
            );
        }
    }

    pub(super) fn trial_ended(&mut self, exit: Ending, decision: &mut Decision) {
        let Upgrade::Trying { askers, .. } = &mut self.upgrade else { return };
        if exit == Ending::Status(PROVEN.into()) {
            self.upgrade = Upgrade::Executing(std::mem::take(askers));
            decision.act(Action::Execute);
        } else {
            self.upgrade_failed(&format!("the new executable did not read the state: {exit}"), decision);
        }
    }

    pub(super) fn upgrade_failed(&mut self, why: &str, decision: &mut Decision) {
        let (Upgrade::Trying { askers, .. } | Upgrade::Executing(askers)) = &mut self.upgrade else { return };
        let mut askers = std::mem::take(askers);
        self.upgrade = Upgrade::None;
        decision.note(Note::UpgradeFailed(why.to_owned()));
        let failure = Failure::new(Exit::System, format!("the upgrade came to nothing: {why}"));
        decision.answer(&mut askers, Err(&failure));
    }

    pub(super) fn upgraded(&mut self, decision: &mut Decision) {
        if let Upgrade::Executing(askers) = std::mem::replace(&mut self.upgrade, Upgrade::None) {
            decision.note(Note::Upgraded);
            self.reload.get_or_insert_default().askers.extend(askers);
        }
    }
}
