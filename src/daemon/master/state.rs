//! Decides what the master does next. Makes no system call; perform.rs acts.
//!
//! At most one generation boots, one serves, and one is kept for a roll-back; any number drains. A generation that
//! boots takes over only when all of it is ready: before that moment anything that goes wrong with it discards it
//! whole, and the one that serves goes on. Only the very first has nobody to fall back on: then the master ends.

use std::time::Duration;

use ostler_wire::{Errand, FromTemplate, FromWorker, scoreboard::MOST_SLOTS};
use serde::{Deserialize, Serialize};

use super::{
    event::{Action, Event, Number, PROVEN, Stop},
    generation::{Backoff, Generation, Stage, Template, Turn},
    notes::Note,
    slots,
};
use crate::{
    exit::{Exit, Failure},
    resources::control::{Asker, Change},
    sys::{clock::Moment, process::Ending},
};

/// How long a new executable may take to read our state.
const TRIAL: Duration = Duration::from_secs(10);
/// How long the master waits for processes that SIGKILL does not end.
const GIVE_UP: Duration = Duration::from_secs(5);

/// All that the master knows.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct State {
    phase: Phase,
    /// In the order of their numbers.
    generations: Vec<Generation>,
    last: Number,
    /// A reload that waits for the one under way, and who waits for it.
    reload: Option<Vec<Asker>>,
    upgrade: Upgrade,
    /// Exits of unknown children while a template's report of a fork is outstanding: it may be about them.
    strangers: Vec<(i32, Ending)>,
    /// Reloads that nobody asked for, because the serving generation has lost its template.
    recovery: Backoff,
    /// Who waits for the end.
    stopping: Vec<Asker>,
}

/// The life of the master.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
enum Phase {
    /// No generation has served yet.
    Starting,
    /// One serves.
    Serving,
    /// All are told to go.
    Stopping {
        how: Stop,
        result: Result<(), Failure>,
        /// Until when we keep the listening sockets, too; none once we have let go of them.
        listens: Option<Moment>,
        /// When processes that cannot be killed are left behind.
        give_up: Option<Moment>,
    },
    /// The order to exit was given.
    Ended,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
enum Upgrade {
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
    /// Before the first event, which is [`Event::Start`].
    pub fn new() -> State {
        State {
            phase: Phase::Starting,
            generations: Vec::new(),
            last: Number(0),
            reload: None,
            upgrade: Upgrade::None,
            strangers: Vec::new(),
            recovery: Backoff::NONE,
            stopping: Vec::new(),
        }
    }

    /// One step: what happened becomes known, and what follows from it is ordered.
    pub fn handle(&mut self, event: Event, now: Moment) -> Vec<Action> {
        let mut turn = Turn { now, actions: Vec::new() };
        self.take(event, &mut turn);
        self.tend(&mut turn);
        turn.actions
    }

    /// All generations that there are.
    pub fn generations(&self) -> &[Generation] {
        &self.generations
    }

    /// The one that the site runs on.
    pub fn serving(&self) -> Option<&Generation> {
        self.generations.iter().find(|generation| generation.stage == Stage::Serving)
    }

    /// When [`Event::Tick`] is due.
    pub fn deadline(&self, now: Moment) -> Option<Moment> {
        let mut deadlines: Vec<Moment> = self.generations.iter().flat_map(|g| g.deadlines(now)).collect();
        if let Upgrade::Trying { deadline, .. } = self.upgrade {
            deadlines.push(deadline);
        }
        if let Phase::Stopping { listens, give_up, .. } = self.phase {
            deadlines.extend(listens.into_iter().chain(give_up));
        }
        if self.template_lost() && self.free() {
            deadlines.push(self.recovery.until);
        }
        deadlines.into_iter().min()
    }

    fn take(&mut self, event: Event, turn: &mut Turn) {
        match (&self.phase, event) {
            (Phase::Ended, _) => {}
            (Phase::Starting, Event::Start) => self.boot(Vec::new(), None, turn),
            (Phase::Serving | Phase::Stopping { .. }, Event::Start) => {}

            (_, Event::Stop(how, asker)) => self.stop(how, asker, turn),
            (Phase::Starting | Phase::Serving, Event::Reload(asker)) => self.queue_reload(asker, turn),
            (Phase::Serving, Event::Rollback(asker)) => self.rollback(asker, turn),
            (Phase::Serving, Event::Upgrade(asker)) => self.queue_upgrade(asker, turn),
            (Phase::Serving, Event::Recycle(asker)) => self.recycle(asker),
            (Phase::Starting | Phase::Serving, Event::Scale(change, asker)) => self.scale(change, asker, turn),
            (Phase::Serving, Event::Rest) => self.rest(turn),
            (Phase::Starting, Event::Rollback(asker) | Event::Upgrade(asker) | Event::Recycle(asker)) => {
                refuse(asker, "the first generation is still booting", turn)
            }
            (
                Phase::Stopping { .. },
                Event::Reload(asker)
                | Event::Rollback(asker)
                | Event::Upgrade(asker)
                | Event::Recycle(asker)
                | Event::Scale(_, asker),
            ) => refuse(asker, "the master is stopping", turn),
            (Phase::Starting | Phase::Stopping { .. }, Event::Rest) => {}

            (_, Event::Spawned { generation, pid, plan }) => {
                if let Some(generation) = self.at(generation) {
                    generation.spawned(pid, plan, turn.now);
                }
            }
            (_, Event::Unbootable { generation, failure }) => {
                if let Some(generation) = self.at(generation) {
                    generation.template = Template::Gone;
                }
                self.discard(generation, failure, turn);
            }
            (_, Event::Template { generation, says }) => self.template_says(generation, says, turn),
            (_, Event::Alleged { generation, slot, pid }) => self.alleged(generation, slot, pid, turn),
            (_, Event::TemplateNonsense(generation, why)) => self.distrust_template(generation, &why, turn),
            (_, Event::TemplateClosed(generation)) => {
                if let Some(generation) = self.at(generation) {
                    generation.template_closed(turn.now);
                }
            }
            (_, Event::Worker { generation, slot, says }) => self.worker_says(generation, slot, says, turn),
            (_, Event::WorkerClosed { generation, slot }) => {
                if let Some(generation) = self.at(generation) {
                    generation.closed(slot, turn.now);
                }
            }
            (_, Event::WorkerNonsense { generation, slot, why }) => self.distrust_worker(generation, slot, &why, turn),
            (_, Event::Pulse { generation, slot, alive }) => {
                if let Some(generation) = self.at(generation) {
                    generation.pulse(slot, alive, turn);
                }
            }
            (_, Event::Stopped { pid, stopped }) => {
                self.generations.iter_mut().for_each(|generation| generation.stopped(pid, stopped, turn));
            }
            (_, Event::Exited { pid, exit }) => self.exited(pid, exit, turn),
            (_, Event::TrialStarted(started)) => {
                if let Upgrade::Trying { pid, .. } = &mut self.upgrade {
                    *pid = Some(started);
                }
            }
            (_, Event::UpgradeFailed(why)) => self.upgrade_failed(&why, turn),
            (_, Event::Upgraded) => self.upgraded(turn),
            (_, Event::Tick) => {}
        }
    }

    /// After each event: what is due, what follows, what is over, what waited.
    fn tend(&mut self, turn: &mut Turn) {
        if self.phase == Phase::Ended {
            return;
        }
        self.end_late_trial(turn);
        let booting = self.generations.iter_mut().find(|generation| generation.stage == Stage::Booting);
        if let Some((number, failure)) = booting.and_then(|g| Some((g.number, g.overdue(turn)?))) {
            self.discard(number, failure, turn);
        }
        for generation in &mut self.generations {
            generation.tend(turn);
        }
        self.switch(turn);
        self.bury(turn);
        if !self.generations.iter().flat_map(|g| g.slots.iter()).any(|w| w.stage == slots::Stage::Forking) {
            self.strangers.clear();
        }
        self.begin_what_waits(turn);
        self.end(turn);
    }

    fn at(&mut self, number: Number) -> Option<&mut Generation> {
        self.generations.iter_mut().find(|generation| generation.number == number)
    }

    fn staged(&mut self, stage: Stage) -> Option<&mut Generation> {
        self.generations.iter_mut().find(|generation| generation.stage == stage)
    }

    /// Nothing under way that a reload would disturb.
    fn free(&self) -> bool {
        self.phase == Phase::Serving
            && matches!(self.upgrade, Upgrade::None | Upgrade::Queued(_))
            && !self.generations.iter().any(|generation| generation.stage == Stage::Booting)
    }

    fn template_lost(&self) -> bool {
        self.serving().is_some_and(|generation| generation.template == Template::Gone)
    }

    fn boot(&mut self, waiting: Vec<Asker>, like: Option<Number>, turn: &mut Turn) {
        self.last = Number(self.last.0 + 1);
        self.generations.push(Generation::new(self.last, waiting));
        turn.note(Note::Booting(self.last));
        turn.act(Action::Boot { generation: self.last, like });
    }

    fn queue_reload(&mut self, asker: Option<Asker>, turn: &mut Turn) {
        if !self.free() {
            turn.note(Note::ReloadQueued);
        }
        self.reload.get_or_insert_default().extend(asker);
    }

    fn queue_upgrade(&mut self, asker: Option<Asker>, turn: &mut Turn) {
        match &mut self.upgrade {
            Upgrade::None => {
                turn.note(Note::UpgradeAsked);
                self.upgrade = Upgrade::Queued(asker.into_iter().collect());
            }
            Upgrade::Queued(askers) | Upgrade::Trying { askers, .. } | Upgrade::Executing(askers) => {
                askers.extend(asker);
            }
        }
    }

    /// An upgrade reloads too, so it goes first and takes those along who wait for a reload.
    fn begin_what_waits(&mut self, turn: &mut Turn) {
        if !self.free() {
            return;
        }
        if let Upgrade::Queued(askers) = &mut self.upgrade {
            let askers = std::mem::take(askers);
            self.upgrade = Upgrade::Trying { pid: None, deadline: turn.now + TRIAL, askers };
            turn.act(Action::TryUpgrade);
        } else if let Some(waiting) = self.reload.take() {
            turn.note(Note::ReloadAsked);
            self.boot(waiting, None, turn);
        } else if self.template_lost() && self.recovery.until <= turn.now {
            self.recovery.strike(turn.now);
            // The application can bring this about, and may have written the settings file before.
            let like = self.serving().map(|serving| serving.number);
            self.boot(Vec::new(), like, turn);
        }
    }

    fn rollback(&mut self, asker: Option<Asker>, turn: &mut Turn) {
        if !self.free() {
            return refuse(asker, "a reload or an upgrade is under way", turn);
        }
        let wanted = self.serving().map_or(0, |generation| generation.wanted);
        let loaded = |generation: &&mut Generation| matches!(generation.template, Template::Loaded { .. });
        let Some(generation) = self.staged(Stage::Kept).filter(loaded) else {
            return refuse(asker, "there is no previous generation to go back to", turn);
        };
        generation.stage = Stage::Booting;
        generation.wanted = wanted;
        generation.backoff = Backoff::NONE;
        generation.waiting.extend(asker);
        turn.note(Note::RollbackAsked(generation.number));
    }

    fn recycle(&mut self, asker: Option<Asker>) {
        if let Some(serving) = self.staged(Stage::Serving) {
            serving.recycle();
            serving.waiting.extend(asker);
        }
    }

    /// The one that serves and the one that is to follow it. Half of the slots are for replacements.
    fn scale(&mut self, change: Change, asker: Option<Asker>, turn: &mut Turn) {
        let begun = |generation: &&mut Generation| {
            matches!(generation.stage, Stage::Booting | Stage::Serving) && generation.template != Template::Awaited
        };
        let mut refusal = None;
        for generation in self.generations.iter_mut().filter(begun) {
            let most = i32::from(generation.slots.capacity() / 2);
            let wanted = match change {
                Change::By(more) => i32::from(generation.wanted).saturating_add(more),
                Change::To(wanted) => i32::from(wanted),
            };
            if !(1..=most).contains(&wanted) {
                refusal.get_or_insert(format!("there can be from 1 to {most} workers, not {wanted}"));
            } else if generation.wanted != wanted as u16 {
                generation.wanted = wanted as u16;
                turn.note(Note::Scaled(generation.wanted));
            }
        }
        let whose = self.generations.iter_mut().find(|generation| begun(generation));
        match (refusal, whose) {
            (Some(refusal), _) => refuse(asker, &refusal, turn),
            (None, Some(generation)) => generation.waiting.extend(asker),
            (None, None) => refuse(asker, "the first generation is still booting", turn),
        }
    }

    fn rest(&mut self, turn: &mut Turn) {
        if let Some(serving) = self.staged(Stage::Serving).filter(|serving| serving.wanted > 0) {
            serving.wanted = 0;
            turn.note(Note::Scaled(0));
        }
    }

    fn template_says(&mut self, number: Number, says: FromTemplate, turn: &mut Turn) {
        let known = matches!(says, FromTemplate::Forked { pid, .. } if self.knows(pid));
        let Some(generation) = self.at(number) else { return };
        match says {
            FromTemplate::Loaded(loaded) => {
                if let Template::Loading { pid, .. } = generation.template {
                    generation.template = Template::Loaded { pid };
                    generation.errand = (!loaded.preloaded).then_some(Errand::Import);
                    turn.note(Note::Loaded(number, loaded));
                }
            }
            FromTemplate::Begins(errand) => generation.errand = Some(errand),
            FromTemplate::Stacks(stacks) => {
                if let Some(failure) = generation.template_hangs(stacks) {
                    self.discard(number, failure, turn);
                }
            }
            FromTemplate::Failed(failure) => self.discard(number, failure.into(), turn),
            FromTemplate::Forked { slot, pid } if known => {
                let why = format!("it says that process {pid} is its worker {slot}, and that is another");
                self.distrust_template(number, &why, turn);
            }
            FromTemplate::Forked { slot, pid } => {
                generation.forked(slot, pid, turn);
                self.bury_stranger(pid, turn);
            }
            FromTemplate::ForkFailed { slot, error } => {
                generation.fork_failed(slot, &error, turn);
                let failure = Failure::new(Exit::System, format!("could not fork a worker: {error}"));
                self.discard(number, failure, turn);
            }
        }
    }

    /// A worker may have ended before its template has told of it. Nobody else is taken for a worker.
    fn alleged(&mut self, number: Number, slot: u16, pid: i32, turn: &mut Turn) {
        if !self.strangers.iter().any(|&(stranger, _)| stranger == pid) {
            let why = format!("it says that process {pid} is its worker {slot}, and that is no child of the master");
            return self.distrust_template(number, &why, turn);
        }
        if let Some(generation) = self.at(number) {
            generation.forked(slot, pid, turn);
        }
        self.bury_stranger(pid, turn);
    }

    fn bury_stranger(&mut self, pid: i32, turn: &mut Turn) {
        if let Some(index) = self.strangers.iter().position(|&(stranger, _)| stranger == pid) {
            let (pid, exit) = self.strangers.remove(index);
            self.exited(pid, exit, turn);
        }
    }

    /// Whether a process is a template, a worker or a trial already.
    fn knows(&self, pid: i32) -> bool {
        let of = |g: &Generation| g.template.pid() == Some(pid) || g.slots.by_pid(pid).is_some();
        let trial = matches!(self.upgrade, Upgrade::Trying { pid: Some(trial), .. } if trial == pid);
        trial || self.generations.iter().any(of)
    }

    /// The application speaks in the template's name. What it has forked so far goes on.
    fn distrust_template(&mut self, number: Number, why: &str, turn: &mut Turn) {
        let Some(generation) = self.at(number) else { return };
        turn.note(Note::TemplateDistrusted(number, why.to_owned()));
        turn.act(Action::CloseTemplate(number));
        generation.template_closed(turn.now);
        self.discard(number, Failure::new(Exit::Interpreter, format!("the template is not believed: {why}")), turn);
    }

    fn distrust_worker(&mut self, number: Number, slot: u16, why: &str, turn: &mut Turn) {
        let Some(generation) = self.at(number) else { return };
        generation.distrust(slot, why, turn);
        self.discard(number, Failure::new(Exit::Import, format!("a worker is not believed: {why}")), turn);
    }

    fn worker_says(&mut self, number: Number, slot: u16, says: FromWorker, turn: &mut Turn) {
        let Some(generation) = self.at(number) else { return };
        match says {
            FromWorker::Ready => generation.ready(slot, turn),
            FromWorker::Failed(failure) => {
                let failure = Failure::from(failure);
                if generation.stage == Stage::Booting {
                    self.discard(number, failure, turn);
                } else if let Some(worker) = generation.slots.at(slot).filter(|worker| worker.ready.is_none()) {
                    turn.note(Note::WorkerFailed(worker.name(number), failure));
                }
            }
            FromWorker::Replace(why) => generation.replace(slot, why, turn),
            FromWorker::Drained => generation.drained(slot, turn.now),
            // The performer has handed them on to whoever asked.
            FromWorker::Stacks(stacks) => {
                if let Some(failure) = generation.worker_hangs(slot, stacks, turn) {
                    self.discard(number, failure, turn);
                }
            }
            // The performer looks from now on.
            FromWorker::AtWork => {}
        }
    }

    fn exited(&mut self, pid: i32, exit: Ending, turn: &mut Turn) {
        if let Some(index) = self.generations.iter().position(|g| g.template.pid() == Some(pid)) {
            return self.template_exited(index, exit, turn);
        }
        for generation in &mut self.generations {
            if let Some(slot) = generation.slots.by_pid(pid).map(|worker| worker.slot) {
                let number = generation.number;
                if generation.exited(slot, exit, turn) {
                    let failure = Failure { exit: Exit::Import, ..generation.ended("a worker", exit) };
                    self.discard(number, failure, turn);
                }
                return;
            }
        }
        if matches!(self.upgrade, Upgrade::Trying { pid: Some(trial), .. } if trial == pid) {
            return self.trial_ended(exit, turn);
        }
        if self.strangers.len() >= usize::from(MOST_SLOTS) {
            self.strangers.remove(0);
        }
        self.strangers.push((pid, exit));
    }

    fn template_exited(&mut self, index: usize, exit: Ending, turn: &mut Turn) {
        let generation = &mut self.generations[index];
        generation.template_exited(turn);
        let number = generation.number;
        match generation.stage {
            Stage::Booting => {
                let failure = generation.ended("the template", exit);
                self.discard(number, failure, turn);
            }
            Stage::Serving => turn.note(Note::TemplateLost(number, exit)),
            Stage::Kept => generation.stage = Stage::Draining,
            Stage::Draining => {}
        }
    }

    /// A generation that boots comes to nothing. None of its workers has ever accepted a connection.
    fn discard(&mut self, number: Number, failure: Failure, turn: &mut Turn) {
        let Some(generation) = self.at(number).filter(|generation| generation.stage == Stage::Booting) else { return };
        generation.stage = Stage::Draining;
        let mut waiting = std::mem::take(&mut generation.waiting);
        turn.answer(&mut waiting, Err(&failure.after(&format!("generation {number} was discarded"))));
        turn.note(Note::Discarded(number, failure.clone()));
        if self.phase == Phase::Starting {
            self.phase = Phase::Stopping { how: Stop::Graceful, result: Err(failure), listens: None, give_up: None };
            self.refuse_waiting(turn);
        }
    }

    /// The new generation is complete: from here on it is the site.
    fn switch(&mut self, turn: &mut Turn) {
        let Some(new) = self.generations.iter().position(|g| g.stage == Stage::Booting && g.complete()) else { return };
        let (keep, listeners) =
            (self.generations[new].plan.keep_previous, self.generations[new].plan.listeners.clone());
        self.generations[new].stage = Stage::Serving;
        let (number, wanted) = (self.generations[new].number, self.generations[new].wanted);
        self.phase = Phase::Serving;
        self.recovery = Backoff::NONE;
        turn.act(Action::Serve(number));
        turn.note(Note::Serving(number, wanted));
        let text = format!("generation {number} serves with {wanted} workers");
        turn.answer(&mut self.generations[new].waiting, Ok(&text));
        self.generations[new].tend(turn);
        for generation in self.generations.iter_mut().filter(|generation| generation.number != number) {
            match generation.stage {
                Stage::Serving => {
                    turn.note(Note::Draining(generation.number));
                    turn.answer(&mut generation.waiting, Ok(&text));
                    let whole = matches!(generation.template, Template::Loaded { .. })
                        && generation.plan.listeners.iter().all(|listener| listeners.contains(listener));
                    generation.stage = if keep && whole { Stage::Kept } else { Stage::Draining };
                }
                Stage::Kept => generation.stage = Stage::Draining,
                Stage::Booting | Stage::Draining => {}
            }
            generation.tend(turn);
        }
    }

    fn bury(&mut self, turn: &mut Turn) {
        self.generations.retain(|generation| {
            if generation.gone() {
                turn.act(Action::Forget(generation.number));
                turn.note(Note::Gone(generation.number));
            }
            !generation.gone()
        });
    }

    fn stop(&mut self, how: Stop, asker: Option<Asker>, turn: &mut Turn) {
        self.stopping.extend(asker);
        let how = match self.phase {
            Phase::Stopping { how: Stop::Graceful, .. } => how.max(Stop::Quick),
            Phase::Stopping { .. } => Stop::Kill,
            Phase::Starting | Phase::Serving | Phase::Ended => how,
        };
        turn.note(Note::Stopping(how));
        let delay = self.serving().filter(|_| how == Stop::Graceful).map(|serving| serving.plan.drain_delay);
        let listens = turn.now + delay.unwrap_or_default();
        match &mut self.phase {
            Phase::Stopping { how: earlier, listens: Some(until), .. } => (*earlier, *until) = (how, listens),
            Phase::Stopping { how: earlier, .. } => *earlier = how,
            phase => *phase = Phase::Stopping { how, result: Ok(()), listens: Some(listens), give_up: None },
        }
        self.refuse_waiting(turn);
        for generation in &mut self.generations {
            generation.stop(how, turn);
        }
    }

    /// There will be no other generation.
    fn refuse_waiting(&mut self, turn: &mut Turn) {
        let mut waiting = self.reload.take().unwrap_or_default();
        match std::mem::replace(&mut self.upgrade, Upgrade::None) {
            Upgrade::None => {}
            Upgrade::Queued(askers) | Upgrade::Executing(askers) => waiting.extend(askers),
            Upgrade::Trying { pid, askers, .. } => {
                waiting.extend(askers);
                turn.actions.extend(pid.map(Action::Kill));
            }
        }
        self.generations.iter_mut().for_each(|generation| waiting.append(&mut generation.waiting));
        turn.answer(&mut waiting, Err(&Failure::new(Exit::Refused, "the master is stopping")));
    }

    fn end(&mut self, turn: &mut Turn) {
        let Phase::Stopping { result, listens, give_up, .. } = &mut self.phase else { return };
        if listens.take_if(|until| *until <= turn.now).is_some() {
            turn.act(Action::StopListening);
        }
        if !self.generations.is_empty() {
            if !self.generations.iter().all(Generation::only_killed) {
                *give_up = None;
                return;
            }
            if *give_up.get_or_insert(turn.now + GIVE_UP) > turn.now {
                return;
            }
            let templates = self.generations.iter().filter_map(|generation| generation.template.pid());
            let workers = self.generations.iter().flat_map(|g| g.slots.iter()).filter_map(|worker| worker.pid);
            turn.note(Note::LeftBehind(templates.chain(workers).collect()));
        }
        let result = std::mem::replace(result, Ok(()));
        self.phase = Phase::Ended;
        turn.act(Action::Exit(result));
        turn.answer(&mut self.stopping, Ok("stopped"));
    }

    fn end_late_trial(&mut self, turn: &mut Turn) {
        if let Upgrade::Trying { pid: Some(pid), deadline, .. } = self.upgrade
            && deadline <= turn.now
        {
            turn.act(Action::Kill(pid));
            self.upgrade_failed(
                &format!("the new executable did not read the state within {} s", TRIAL.as_secs()),
                turn,
            );
        }
    }

    fn trial_ended(&mut self, exit: Ending, turn: &mut Turn) {
        let Upgrade::Trying { askers, .. } = &mut self.upgrade else { return };
        if exit == Ending::Status(PROVEN.into()) {
            self.upgrade = Upgrade::Executing(std::mem::take(askers));
            turn.act(Action::Execute);
        } else {
            self.upgrade_failed(&format!("the new executable did not read the state: {exit}"), turn);
        }
    }

    fn upgrade_failed(&mut self, why: &str, turn: &mut Turn) {
        let (Upgrade::Trying { askers, .. } | Upgrade::Executing(askers)) = &mut self.upgrade else { return };
        let mut askers = std::mem::take(askers);
        self.upgrade = Upgrade::None;
        turn.note(Note::UpgradeFailed(why.to_owned()));
        let failure = Failure::new(Exit::System, format!("the upgrade came to nothing: {why}"));
        turn.answer(&mut askers, Err(&failure));
    }

    fn upgraded(&mut self, turn: &mut Turn) {
        if let Upgrade::Executing(askers) = std::mem::replace(&mut self.upgrade, Upgrade::None) {
            turn.note(Note::Upgraded);
            self.reload.get_or_insert_default().extend(askers);
        }
    }
}

fn refuse(asker: Option<Asker>, why: &str, turn: &mut Turn) {
    match asker {
        Some(asker) => turn.act(Action::Answer(asker, Err(Failure::new(Exit::Refused, why)))),
        None => turn.note(Note::Refused(why.to_owned())),
    }
}
