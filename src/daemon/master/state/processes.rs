//! What templates and workers say, what is not believed, and how they end.

use std::path::PathBuf;

use ostler_wire::{BootStep, FromTemplate, FromWorker, scoreboard::MOST_SLOTS};

use super::{MOST_CHANGED, Phase, State, Upgrade};
use crate::{
    exit::{Exit, Failure},
    master::{
        event::{Action, Number, Reload},
        generation::{Decision, Generation, Stage, Template},
        notes::Note,
    },
    sys::process::Ending,
};

impl State {
    pub(super) fn template_says(&mut self, number: Number, says: FromTemplate, decision: &mut Decision) {
        let known = matches!(says, FromTemplate::Forked { pid, .. } if self.knows(pid));
        let Some(generation) = self.at(number) else { return };
        match says {
            FromTemplate::Loaded(loaded) => {
                if let Template::Loading { pid, .. } = generation.template {
                    generation.template = Template::Loaded { pid };
                    generation.step = (!loaded.preloaded).then_some(BootStep::Import);
                    if !loaded.preloaded {
                        generation.need_not_warm();
                    }
                    decision.note(Note::Loaded(number, loaded));
                }
            }
            FromTemplate::Begins(step) => generation.step = Some(step),
            FromTemplate::Stacks(stacks) => {
                if let Some(failure) = generation.template_hangs(stacks) {
                    self.discard(number, failure, decision);
                }
            }
            FromTemplate::Failed(failure) => self.discard(number, failure.into(), decision),
            FromTemplate::Forked { slot, pid } if known => {
                let why = format!("it says that process {pid} is its worker {slot}, and that is another");
                self.distrust_template(number, &why, decision);
            }
            FromTemplate::Forked { slot, pid } => {
                generation.forked(slot, pid, decision);
                self.bury_stranger(pid, decision);
            }
            FromTemplate::ForkFailed { slot, error } => {
                generation.fork_failed(slot, &error, decision);
                let failure = Failure::new(Exit::System, format!("could not fork a worker: {error}"));
                self.discard(number, failure, decision);
            }
        }
    }

    /// A worker may have ended before its template has told of it. No other process is taken for a worker.
    pub(super) fn alleged(&mut self, number: Number, slot: u16, pid: i32, decision: &mut Decision) {
        if !self.strangers.iter().any(|&(stranger, _)| stranger == pid) {
            let why = format!("it says that process {pid} is its worker {slot}, and that is no child of the master");
            return self.distrust_template(number, &why, decision);
        }
        if let Some(generation) = self.at(number) {
            generation.forked(slot, pid, decision);
        }
        self.bury_stranger(pid, decision);
    }

    pub(super) fn bury_stranger(&mut self, pid: i32, decision: &mut Decision) {
        if let Some(index) = self.strangers.iter().position(|&(stranger, _)| stranger == pid) {
            let (pid, exit) = self.strangers.remove(index);
            self.exited(pid, exit, decision);
        }
    }

    /// Whether a process is a template, a worker or a trial already.
    pub(super) fn knows(&self, pid: i32) -> bool {
        let of = |g: &Generation| {
            g.template.pid() == Some(pid) || g.refork.templates().any(|one| one == pid) || g.slots.by_pid(pid).is_some()
        };
        let trial = matches!(self.upgrade, Upgrade::Trying { pid: Some(trial), .. } if trial == pid);
        trial || self.generations.iter().any(of)
    }

    /// The application speaks in the template's name. What it has forked so far goes on.
    pub(super) fn distrust_template(&mut self, number: Number, why: &str, decision: &mut Decision) {
        let Some(generation) = self.at(number) else { return };
        decision.note(Note::TemplateDistrusted(number, why.to_owned()));
        decision.act(Action::CloseTemplate(number));
        generation.template_closed(decision.now);
        self.discard(number, Failure::new(Exit::Interpreter, format!("the template is not believed: {why}")), decision);
    }

    pub(super) fn distrust_worker(&mut self, number: Number, slot: u16, why: &str, decision: &mut Decision) {
        let Some(generation) = self.at(number) else { return };
        generation.distrust(slot, why, decision);
        self.discard(number, Failure::new(Exit::Import, format!("a worker is not believed: {why}")), decision);
    }

    pub(super) fn worker_says(&mut self, number: Number, slot: u16, says: FromWorker, decision: &mut Decision) {
        if let FromWorker::Changed { path, stamp } = says {
            return self.file_changed(number, path, stamp, decision);
        }
        let Some(generation) = self.at(number) else { return };
        match says {
            FromWorker::Ready => generation.ready(slot, decision),
            FromWorker::NoApplication(why) => generation.failed = Some(why),
            FromWorker::Failed(failure) => {
                let failure = Failure::from(failure);
                if matches!(generation.stage, Stage::Booting | Stage::Canary) {
                    self.discard(number, failure, decision);
                } else if let Some(worker) = generation.slots.at(slot).filter(|worker| worker.ready.is_none()) {
                    decision.note(Note::WorkerFailed(worker.name(number), failure));
                }
            }
            FromWorker::Warm => generation.warmed(slot),
            FromWorker::Replace(why) => generation.replace(slot, why, decision),
            FromWorker::AcceptsNoMore => {
                if let Some(worker) = generation.slots.at(slot) {
                    worker.deaf = true;
                }
            }
            FromWorker::Raised(traceback) => generation.raised_in_smoke(slot, traceback),
            FromWorker::Drained => generation.drained(slot, decision.now),
            // The performer has handed them to the command that asked.
            FromWorker::Stacks(stacks) => {
                let hangs = generation.hangs_in_smoke(slot, &stacks);
                if let Some(failure) = hangs.or_else(|| generation.worker_hangs(slot, stacks, decision)) {
                    self.discard(number, failure, decision);
                }
            }
            // The performer looks from now on; the change of a file is handled above.
            FromWorker::AtWork | FromWorker::Changed { .. } => {}
        }
    }

    /// `--reload`. Each worker tells of the same change; the first is heard, and only of a generation that serves, or that is to and has
    /// been imported already.
    fn file_changed(&mut self, number: Number, path: PathBuf, stamp: i64, decision: &mut Decision) {
        let is_new =
            self.at(number).is_some_and(|one| matches!(one.stage, Stage::Booting | Stage::Canary | Stage::Serving));
        let is_path = path.as_os_str().len() < nix::libc::PATH_MAX as usize;
        let goes_on = matches!(self.phase, Phase::Starting | Phase::Serving);
        if goes_on && is_new && is_path && self.changed.get(&path) != Some(&stamp) {
            decision.note(Note::FileChanged(path.clone()));
            if self.changed.len() >= MOST_CHANGED {
                self.changed.clear();
            }
            self.changed.insert(path, stamp);
            self.queue_reload(Reload::default(), decision);
        }
    }

    pub(super) fn exited(&mut self, pid: i32, exit: Ending, decision: &mut Decision) {
        if let Some(index) = self.generations.iter().position(|g| g.template.pid() == Some(pid)) {
            return self.template_exited(index, exit, decision);
        }
        if let Some(generation) = self.generations.iter_mut().find(|g| g.refork.templates().any(|one| one == pid)) {
            return generation.other_template_exited(pid, decision);
        }
        for generation in &mut self.generations {
            if let Some(worker) = generation.slots.by_pid(pid) {
                let (number, slot, served) = (generation.number, worker.slot, worker.ready.is_some());
                let replaced = served && generation.stage == Stage::Canary;
                if generation.exited(slot, exit, decision)
                    && !replaced
                    && let Some(failure) = generation.death(slot, exit)
                {
                    self.discard(number, failure, decision);
                }
                return;
            }
        }
        if matches!(self.upgrade, Upgrade::Trying { pid: Some(trial), .. } if trial == pid) {
            return self.trial_ended(exit, decision);
        }
        if self.strangers.len() >= usize::from(MOST_SLOTS) {
            self.strangers.remove(0);
        }
        self.strangers.push((pid, exit));
    }

    pub(super) fn template_exited(&mut self, index: usize, exit: Ending, decision: &mut Decision) {
        let generation = &mut self.generations[index];
        generation.template_exited(decision);
        let number = generation.number;
        match generation.stage {
            Stage::Booting | Stage::Canary => {
                let failure = generation.ended("the template", exit);
                self.discard(number, failure, decision);
            }
            Stage::Serving if generation.can_fall_back() => {}
            Stage::Serving => {
                let then = match self.recovers() {
                    true => "a new generation boots",
                    false if self.canary().is_some() => "no worker is replaced until the canary is promoted",
                    false if self.suspect => "no worker is replaced until somebody asks for a reload",
                    false => "a new generation boots when the present reload is over",
                };
                decision.note(Note::TemplateLost(number, exit, then));
            }
            Stage::Kept => generation.enter(Stage::Draining, decision.now),
            Stage::Draining => {}
        }
    }
}
