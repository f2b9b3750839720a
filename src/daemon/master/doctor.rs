//! `ostler doctor`: looks at the running site and its machine, and says what is wrong or unwise.
//!
//! The master gives its settings and status to a child ([`Errand`]), which gathers [`Facts`] from the machine, passes the checks, and
//! brings a [`Report`]. The master waits for nothing. The checks are pure: they see the facts alone.

use std::{io, time::Duration};

use serde::{Deserialize, Serialize};

use super::{status::Status, team::Team};
use crate::{
    exit::{Exit, Failure, words},
    resources::control::{Asker, Control},
    sys::{clock::Moment, errand::Errand},
};

mod checks;
mod facts;
mod machine;
mod processes;

use facts::Facts;

/// A directory may lie on a server that does not answer; then nothing comes of it.
const PATIENCE: Duration = Duration::from_secs(30);

/// What came of it.
#[derive(Debug, Serialize, Deserialize)]
pub struct Report {
    /// The master's release.
    pub version: String,
    /// The master's process.
    pub pid: u32,
    /// What is listened on.
    pub addresses: Vec<String>,
    /// What `ostler status` says is wrong.
    pub problems: Vec<String>,
    /// What is unwise beside that.
    pub findings: Vec<Finding>,
    /// What was looked at, a word or two each.
    pub looked_at: Vec<String>,
    /// What could not be read, and why.
    pub unread: Vec<String>,
}

/// One thing that is wrong or unwise.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Finding {
    /// Which check has found it: one of [`Report::looked_at`].
    pub about: String,
    /// What is so: a sentence.
    pub what: String,
    /// The numbers, and where they were read.
    pub evidence: String,
    /// What to do: a sentence or more.
    pub advice: String,
}

/// The examination that is under way, and who waits for it.
#[derive(Debug, Default)]
pub struct Doctor {
    underway: Option<(Errand, Vec<Asker>)>,
}

impl Report {
    fn of(status: &Status, facts: &Facts) -> Report {
        let found = checks::ALL
            .iter()
            .filter_map(|(about, check)| check(facts).map(|finding| Finding { about: (*about).into(), ..finding }));
        Report {
            version: status.version.clone(),
            pid: status.pid,
            addresses: status.addresses.clone(),
            problems: status.problems.clone(),
            findings: found.collect(),
            looked_at: checks::ALL.iter().map(|(about, _)| (*about).into()).collect(),
            unread: facts.unread.clone(),
        }
    }
}

impl Doctor {
    /// Somebody asks about the site as this status and this generation's files have it. One examination is made at a time.
    pub fn ask(&mut self, asker: Asker, status: &Status, team: &Team) -> io::Result<()> {
        if let Some((_, askers)) = &mut self.underway {
            askers.push(asker);
            return Ok(());
        }
        let examine = || {
            let report = Report::of(status, &Facts::gather(status, &team.settings, &team.logs));
            serde_json::to_string_pretty(&report).expect("texts and numbers are JSON")
        };
        self.underway = Some((Errand::begin(PATIENCE, examine)?, vec![asker]));
        Ok(())
    }

    /// Whether this is the process that looked; it has ended, and those who wait are answered.
    pub fn ended(&mut self, pid: i32, control: &mut Control) -> bool {
        let Some((errand, askers)) = self.underway.take_if(|(errand, _)| errand.pid == pid) else { return false };
        let late = || {
            let why = format!("nothing came of it within {} s: a directory may not answer", PATIENCE.as_secs());
            Failure::new(Exit::Internal, why)
        };
        let text = errand.outcome::<String>().ok_or_else(late);
        askers.into_iter().for_each(|asker| control.answer(asker, text.clone()));
        true
    }

    /// Gives up what has taken too long. Its end follows.
    pub fn expire(&mut self, now: Moment) {
        if let Some((errand, _)) = self.underway.as_mut().filter(|(errand, _)| errand.deadline <= now) {
            errand.give_up();
            errand.deadline = now + PATIENCE;
        }
    }

    /// When [`Doctor::expire`] is to be called.
    pub fn deadline(&self) -> Option<Moment> {
        self.underway.as_ref().map(|(errand, _)| errand.deadline)
    }

    /// Another executable takes the place of this one, which cannot wait.
    pub fn give_up(&mut self, control: &mut Control) {
        for asker in self.underway.take().into_iter().flat_map(|(_, askers)| askers) {
            control.answer(asker, Err(Failure::new(Exit::Refused, "an upgrade came in between; ask again")));
        }
    }
}

/// Why nothing can be looked at.
pub fn not_begun(error: &io::Error) -> Failure {
    Failure::new(Exit::System, format!("could not fork: {}", words(error)))
}
