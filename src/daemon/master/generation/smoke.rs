//! Smoke tests (`--smoke`): when a generation is complete, a worker answers requests before any client has one of its workers. They are
//! asked one after the other, each by a process that the master does not wait for. What that process, or the worker, does not tell in
//! time, a deadline does.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::{Decision, Generation, Stage};
use crate::{
    exit::{Exit, Failure},
    master::{event::Action, notes::Note, slots::Worker},
    resources::smoke::Verdict,
    sys::{clock::Moment, process::Ending},
};

/// How much later than it should a verdict may come.
const SLACK: Duration = Duration::from_secs(5);

/// How long a worker may take to end after its connection.
const ENDING: Duration = Duration::from_secs(1);

/// How far a generation has come with its smoke tests.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub struct Smoke {
    /// This many are passed, and the next is under way, or due.
    passed: usize,
    underway: Option<Underway>,
}

/// A smoke test under way.
#[derive(Debug, Clone, Serialize, Deserialize)]
struct Underway {
    slot: u16,
    deadline: Moment,
    /// How its worker has ended. The verdict follows at once.
    ended: Option<Ending>,
    /// The verdict is that there was no answer. The worker's end follows at once, unless it has only closed the connection.
    closed: bool,
}

impl Generation {
    /// Whether a complete generation has passed all smoke tests. If not, orders the next, unless one is under way. Without an application
    /// (`--reload`) there is nothing to test.
    pub fn smoke_tested(&mut self, decision: &mut Decision) -> bool {
        if self.failed.is_some() || self.smoke.passed >= self.plan.smoke.len() {
            return true;
        }
        if self.smoke.underway.is_none()
            && let Some(slot) = self.slots.iter().find(|worker| Worker::serves(worker)).map(|worker| worker.slot)
        {
            let deadline = decision.now + self.plan.smoke_timeout + SLACK;
            self.smoke.underway = Some(Underway { slot, deadline, ended: None, closed: false });
            decision.act(Action::Smoke { generation: self.number, slot, test: self.smoke.passed });
        }
        false
    }

    /// The verdict on a test. Why the generation has to go, if it has.
    pub fn smoked(&mut self, test: usize, verdict: Verdict, decision: &mut Decision) -> Option<Failure> {
        let is_this = self.stage == Stage::Booting && self.smoke.passed == test;
        let underway = self.smoke.underway.as_mut().filter(|_| is_this)?;
        match (underway.ended, verdict) {
            (Some(exit), _) => Some(self.ended_in_smoke(exit)),
            (None, Verdict::Failed(failure)) => Some(failure),
            (None, Verdict::Closed) => {
                (underway.closed, underway.deadline) = (true, decision.now + ENDING);
                None
            }
            (None, Verdict::Passed) => {
                self.smoke = Smoke { passed: test + 1, underway: None };
                if self.smoke.passed == self.plan.smoke.len() {
                    decision.note(Note::SmokeTested(self.number, self.smoke.passed));
                }
                None
            }
        }
    }

    /// The worker whose test was under way when the generation was discarded. Its call may never end, and nobody waits for it.
    pub(super) fn tested(&self) -> Option<u16> {
        self.smoke.underway.as_ref().map(|underway| underway.slot)
    }

    /// A worker of a generation that boots has ended by itself. Why the generation has to go, unless that is told with a verdict.
    pub fn death(&mut self, slot: u16, exit: Ending) -> Option<Failure> {
        match self.smoke.underway.as_mut().filter(|underway| underway.slot == slot) {
            Some(underway) if underway.closed => Some(self.ended_in_smoke(exit)),
            Some(underway) => {
                underway.ended = Some(exit);
                None
            }
            None => Some(Failure { exit: Exit::Import, ..self.ended("a worker", exit) }),
        }
    }

    /// Why a test has taken too long, if it has.
    pub(super) fn smoke_overdue(&self, now: Moment) -> Option<Failure> {
        let underway = self.smoke.underway.as_ref().filter(|underway| underway.deadline <= now)?;
        Some(match underway.ended {
            Some(exit) => self.ended_in_smoke(exit),
            None if underway.closed => {
                let what = format!(
                    "the smoke test {:?} was not answered: the worker closed its connection",
                    self.smoke_test()
                );
                Failure::new(Exit::Smoke, what)
            }
            None => {
                let (typed, within) = (self.smoke_test(), self.plan.smoke_timeout.as_secs_f64());
                Failure::new(Exit::Smoke, format!("the smoke test {typed:?} was not answered within {within} s"))
            }
        })
    }

    /// When that is due.
    pub(super) fn smoke_deadline(&self) -> Option<Moment> {
        self.smoke.underway.as_ref().filter(|_| self.stage == Stage::Booting).map(|underway| underway.deadline)
    }

    /// `smoke test 1 of 3`, if one is under way.
    pub fn smoking(&self) -> Option<String> {
        self.smoke.underway.as_ref()?;
        Some(format!("smoke test {} of {}", self.smoke.passed + 1, self.plan.smoke.len()))
    }

    fn ended_in_smoke(&self, exit: Ending) -> Failure {
        Failure::new(Exit::Smoke, format!("the worker of the smoke test {:?} ended: {exit}", self.smoke_test()))
    }

    /// The test under way, as typed.
    fn smoke_test(&self) -> &str {
        self.plan.smoke.get(self.smoke.passed).map_or("", String::as_str)
    }
}
