//! Boots that take too long, or end by themselves: what the application was run for, and where it hangs.
//!
//! A late process is asked for its Python stacks by a signal, which is answered even in the middle of an import, and has a moment to
//! answer before its time is over.

use std::time::Duration;

use ostler_wire::BootStep;

use super::{Decision, Generation, Stage, Template};
use crate::{
    exit::{Exit, Failure},
    master::{
        event::Action,
        notes::Note,
        slots::{self, WorkerStage},
    },
    sys::process::Ending,
};

/// How long the answer may take.
pub const ANSWER: Duration = Duration::from_secs(1);

/// What did not come in time.
pub const NOT_IMPORTED: &str = "the application was not imported";
const NOT_READY: &str = "a worker was not ready";

/// One more moment for a worker that boots.
pub fn ask_worker(worker: &mut slots::Worker, decision: &mut Decision) {
    worker.hangs = true;
    worker.deadline = Some(decision.now + ANSWER);
    if let Some(pid) = worker.pid {
        decision.act(Action::AskStacks(pid));
    }
}

impl Generation {
    /// `importing mysite`, if that is what the template, or a worker that boots, is doing.
    pub fn doing(&self) -> Option<String> {
        let words = match self.step? {
            BootStep::Import => "importing",
            BootStep::WarmUp => "warming up",
        };
        Some(format!("{words} {}", self.plan.application))
    }

    /// Why there is no template, or no worker, before there was one.
    pub fn ended(&self, who: &str, exit: Ending) -> Failure {
        // With --preload=off, it is the workers that import. There are some once the template is loaded.
        let was_loaded = matches!(self.template, Template::Gone) && self.slots.iter().next().is_some();
        match self.doing().filter(|_| !was_loaded) {
            Some(doing) => Failure::new(Exit::Import, format!("{who} ended while {doing}: {exit}")),
            None => Failure::new(Exit::Interpreter, format!("{who} ended by itself: {exit}")),
        }
    }

    /// Why a boot has taken too long, if it has.
    pub fn overdue(&mut self, decision: &mut Decision) -> Option<Failure> {
        let now = decision.now;
        if let Some(failure) = self.smoke_overdue(now) {
            return Some(failure);
        }
        if let Template::Loading { pid, deadline } = &mut self.template
            && *deadline <= now
        {
            if self.step.is_none() || std::mem::replace(&mut self.hangs, true) {
                return Some(self.late(NOT_IMPORTED));
            }
            *deadline = now + ANSWER;
            decision.act(Action::AskStacks(*pid));
        }
        let late = |w: &&mut slots::Worker| w.counts() && w.deadline.is_some_and(|deadline| deadline <= now);
        let worker = self.slots.iter_mut().find(late)?;
        if worker.hangs || worker.pid.is_none() {
            return Some(self.late(NOT_READY));
        }
        ask_worker(worker, decision);
        None
    }

    /// That it takes too long.
    pub fn late(&self, what: &str) -> Failure {
        let within = self.plan.boot_timeout.as_secs_f64();
        let doing = self.doing().map_or_else(String::new, |doing| format!("; it is still {doing}"));
        Failure::new(Exit::Import, format!("{what} within {within} s{doing}"))
    }

    /// The template's stacks: why its boot is late, if it was asked for that.
    pub fn template_hangs(&self, stacks: String) -> Option<Failure> {
        let asked = self.hangs && matches!(self.template, Template::Loading { .. });
        asked.then(|| Failure { traceback: stacks, ..self.late(NOT_IMPORTED) })
    }

    /// The same of a worker; where it is to replace another, it alone is given up.
    pub fn worker_hangs(&mut self, slot: u16, stacks: String, decision: &mut Decision) -> Option<Failure> {
        let number = self.number;
        let worker = self.slots.at(slot).filter(|w| w.stage == WorkerStage::Booting && w.hangs)?;
        worker.deadline = Some(decision.now);
        if matches!(self.stage, Stage::Booting | Stage::Canary) {
            return Some(Failure { traceback: stacks, ..self.late(NOT_READY) });
        }
        decision.note(Note::BootHangs(worker.name(number), stacks));
        None
    }
}
