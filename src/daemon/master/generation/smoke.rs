//! Smoke tests (`--smoke`): when a generation is complete, a worker answers requests before any client has one of its workers. They are
//! asked one after the other, each by a process that the master does not wait for. What that process, or the worker, does not tell in
//! time, a deadline does.

use std::time::Duration;

use ostler_wire::channel::fit;
use serde::{Deserialize, Serialize};

use super::{Decision, Generation, Stage, late::ANSWER};
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
    /// The verdict, while more is to be known of it: how the worker ends, or where it hangs.
    seen: Option<Failure>,
    /// What the application has raised, as the worker tells.
    raised: String,
}

impl Generation {
    /// Whether a complete generation has passed all smoke tests. If not, orders the next, unless one is under way. Without an application
    /// (`--reload`), or where all workers were let go, there is nothing to test.
    pub fn smoke_tested(&mut self, decision: &mut Decision) -> bool {
        if self.failed.is_some() || self.wanted == 0 || self.smoke.passed >= self.plan.smoke.len() {
            return true;
        }
        if self.smoke.underway.is_none()
            && let Some(slot) = self.slots.iter().find(|worker| Worker::serves(worker)).map(|worker| worker.slot)
        {
            let deadline = decision.now + self.plan.smoke_timeout + SLACK;
            self.smoke.underway = Some(Underway { slot, deadline, ended: None, seen: None, raised: String::new() });
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
            (None, Verdict::Failed(failure)) => Some(underway.with_raised(failure)),
            (None, Verdict::Late(failure)) => {
                (underway.seen, underway.deadline) = (Some(failure), decision.now + ANSWER);
                decision.act(Action::Stacks { generation: self.number, slot: underway.slot });
                None
            }
            (None, Verdict::Closed(failure)) => {
                (underway.seen, underway.deadline) = (Some(failure), decision.now + ENDING);
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
            Some(underway) if underway.seen.is_some() => Some(self.ended_in_smoke(exit)),
            Some(underway) => {
                underway.ended = Some(exit);
                None
            }
            None => Some(Failure { exit: Exit::Import, ..self.ended("a worker", exit) }),
        }
    }

    /// What the application has raised, or logged as raised, in a worker's test.
    pub fn raised_in_smoke(&mut self, slot: u16, traceback: String) {
        if let Some(underway) = self.smoke.underway.as_mut().filter(|underway| underway.slot == slot) {
            underway.raised = traceback;
        }
    }

    /// The stacks of a worker, if it was asked for them because it is late with its test: why the generation has to go.
    pub fn hangs_in_smoke(&mut self, slot: u16, stacks: &str) -> Option<Failure> {
        let underway = self.smoke.underway.as_mut().filter(|underway| underway.slot == slot)?;
        let failure = underway.seen.take().filter(|_| self.stage == Stage::Booting)?;
        underway.raised = stacks.to_owned();
        Some(underway.with_raised(failure))
    }

    /// Why a test has taken too long, if it has.
    pub(super) fn smoke_overdue(&self, now: Moment) -> Option<Failure> {
        let underway = self.smoke.underway.as_ref().filter(|underway| underway.deadline <= now)?;
        Some(match (underway.ended, &underway.seen) {
            (Some(exit), _) => self.ended_in_smoke(exit),
            (None, Some(seen)) => underway.with_raised(seen.clone()),
            (None, None) => {
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

impl Underway {
    /// A failure with what the worker has told, before what its client has seen.
    fn with_raised(&self, failure: Failure) -> Failure {
        let told = [self.raised.trim_end(), &failure.traceback];
        let told: Vec<&str> = told.into_iter().filter(|text| !text.is_empty()).collect();
        Failure { traceback: fit(&told.join("\n")), ..failure }
    }
}
