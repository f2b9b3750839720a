//! One generation: a template, its workers, and the way back to as many of them as are wanted.
//!
//! booting → serving → draining (or kept) → gone. Events change what is known; [`Generation::tend`] then compares it
//! with what should be, and orders the difference. Pure, like state.rs, which decides between generations.

use std::time::Duration;

use ostler_wire::{Errand, Recycle};
use serde::{Deserialize, Serialize};

use super::{
    event::{Action, Number, Plan, Stop},
    late,
    notes::{Late, Note, Why},
    slots::{self, Slots, Worker},
};
use crate::{
    exit::{Exit, Failure},
    resources::control::Asker,
    sys::{clock::Moment, process::Ending},
};

/// How long a worker may take beyond `--graceful-timeout`, in which it logs its stragglers and leaves by itself.
const MARGIN: Duration = Duration::from_secs(2);
/// How long a worker may take to end at once, and a template to end.
const PROMPTLY: Duration = Duration::from_secs(2);
/// How long a process may live on after it closed its channel: it ends, or the application has executed another program in its place.
const CLOSED: Duration = Duration::from_secs(1);
/// The log is told of a process that signals stop and continue only so often.
const BETWEEN_STOPS: Duration = Duration::from_secs(60);

/// The events of one step become actions here.
#[derive(Debug)]
pub struct Turn {
    /// When the step is.
    pub now: Moment,
    /// In the order in which they have to be done.
    pub actions: Vec<Action>,
}

/// A template and its workers.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Generation {
    /// Counts from 1.
    pub number: Number,
    /// How far it has come.
    pub stage: Stage,
    /// What its settings say; empty until the template is spawned.
    pub plan: Plan,
    /// Its template.
    pub template: Template,
    /// Since when a signal has stopped that.
    #[serde(default)]
    template_stopped: Option<Moment>,
    /// The last stop that the log was told of.
    #[serde(default)]
    told_template_stopped: Option<Moment>,
    /// Its workers.
    pub slots: Slots,
    /// How many workers there should be.
    pub wanted: u16,
    /// What the application's code is run for, by the template or by workers that boot.
    pub errand: Option<Errand>,
    /// The template boots for too long, and was asked for its stacks.
    pub hangs: bool,
    /// When lost workers are replaced.
    pub backoff: Backoff,
    /// Who waits: for its boot while it boots, for the right number of workers while it serves.
    pub waiting: Vec<Asker>,
}

/// The life of a generation.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum Stage {
    /// Template and all workers have to become ready, or it is discarded.
    Booting,
    /// The one that the site runs on.
    Serving,
    /// Its workers go, and the template waits for a roll-back.
    Kept,
    /// All of it goes.
    Draining,
}

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

/// For what never became ready; a worker that has served is replaced at once. Exponential: the first failure is mended at once, the next ones after 250 ms, 500 ms … 30 s.
#[derive(Debug, Clone, Copy, Serialize, Deserialize)]
pub struct Backoff {
    failures: u32,
    /// Nothing is tried before.
    pub until: Moment,
}

impl Backoff {
    /// No failure yet.
    pub const NONE: Backoff = Backoff { failures: 0, until: Moment(0) };

    /// Notes a failure. Failures during a pause are one with that which began it.
    pub fn strike(&mut self, now: Moment) {
        if now < self.until {
            return;
        }
        if now - self.until > Duration::from_secs(60) {
            self.failures = 0;
        }
        let pause = match self.failures {
            0 => 0,
            failures => (125_u64 << failures.min(10)).min(30_000),
        };
        self.failures += 1;
        self.until = now + Duration::from_millis(pause);
    }
}

impl Turn {
    /// Orders one thing.
    pub fn act(&mut self, action: Action) {
        self.actions.push(action);
    }

    /// Logs one thing.
    pub fn note(&mut self, note: Note) {
        self.act(Action::Note(note));
    }

    /// Answers all who wait.
    pub fn answer(&mut self, waiting: &mut Vec<Asker>, outcome: Result<&str, &Failure>) {
        for asker in waiting.drain(..) {
            self.act(Action::Answer(asker, outcome.map(str::to_owned).map_err(Failure::clone)));
        }
    }
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

    fn kill(&mut self, turn: &mut Turn) {
        match *self {
            Template::Loading { pid, .. } | Template::Loaded { pid } | Template::Ending { pid, .. } => {
                turn.act(Action::Kill(pid));
                *self = Template::Killed { pid };
            }
            Template::Awaited | Template::Killed { .. } | Template::Gone => {}
        }
    }
}

impl Generation {
    /// One whose template is yet to be started.
    pub fn new(number: Number, waiting: Vec<Asker>) -> Generation {
        Generation {
            number,
            stage: Stage::Booting,
            plan: Plan::default(),
            template: Template::Awaited,
            template_stopped: None,
            told_template_stopped: None,
            slots: Slots::default(),
            wanted: 0,
            errand: None,
            hangs: false,
            backoff: Backoff::NONE,
            waiting,
        }
    }

    /// The template runs and imports.
    pub fn spawned(&mut self, pid: i32, plan: Plan, now: Moment) {
        self.template = Template::Loading { pid, deadline: now + plan.boot_timeout };
        self.wanted = plan.workers;
        self.slots = Slots::new(plan.slots);
        self.plan = plan;
    }

    /// The template has forked; the worker may have been quicker to tell that it is ready, or may be dead already.
    pub fn forked(&mut self, slot: u16, pid: i32, turn: &mut Turn) {
        let number = self.number;
        let Some(worker) = self.slots.at(slot).filter(|worker| worker.stage == slots::Stage::Forking) else { return };
        worker.pid = Some(pid);
        worker.stage = slots::Stage::Booting;
        if worker.ready.is_some() {
            serve(worker, number, turn);
        }
    }

    /// A worker says that it serves.
    pub fn ready(&mut self, slot: u16, turn: &mut Turn) {
        let number = self.number;
        let Some(worker) = self.slots.at(slot) else { return };
        match worker.stage {
            slots::Stage::Forking => worker.ready = Some(turn.now),
            slots::Stage::Booting => serve(worker, number, turn),
            slots::Stage::Ready | slots::Stage::Draining | slots::Stage::Killed => {}
        }
    }

    /// A worker wants to be replaced. One whose state is not to be trusted does not wait for its turn.
    pub fn replace(&mut self, slot: u16, why: Recycle, turn: &mut Turn) {
        let number = self.number;
        let Some(worker) = self.slots.at(slot).filter(|worker| !worker.leaving) else { return };
        worker.asked = Some(Why::Asked(why));
        if matches!(why, Recycle::Timeout | Recycle::Panic) {
            worker.leaving = true;
            turn.note(Note::Replacing(worker.name(number), Why::Asked(why)));
        }
    }

    /// A worker has nothing under way any more, and ends.
    pub fn drained(&mut self, slot: u16, now: Moment) {
        let within = self.plan.graceful_timeout + MARGIN;
        if let Some(worker) = self.slots.at(slot).filter(|worker| worker.stage == slots::Stage::Ready) {
            worker.stage = slots::Stage::Draining;
            worker.deadline = Some(now + within);
        }
    }

    /// A worker was looked at. One that does not turn may only have nothing to turn for: it is asked.
    pub fn pulse(&mut self, slot: u16, alive: bool, turn: &mut Turn) {
        let number = self.number;
        let Some(worker) = self.slots.at(slot).filter(|worker| worker.stage == slots::Stage::Ready) else { return };
        if alive {
            worker.silent = None;
        } else if worker.silent.is_none() {
            worker.silent = Some(turn.now);
            turn.act(Action::Nudge { generation: number, slot });
        }
    }

    /// A child, of this generation or not, was stopped by a signal or continued.
    pub fn stopped(&mut self, pid: i32, stopped: bool, turn: &mut Turn) {
        let number = self.number;
        if self.template.pid() == Some(pid)
            && stop_is_told(&mut self.template_stopped, &mut self.told_template_stopped, stopped, turn.now)
        {
            turn.note(Note::TemplateStopped(number, stopped));
        }
        if let Some(worker) = self.slots.iter_mut().find(|worker| worker.pid == Some(pid))
            && stop_is_told(&mut worker.stopped, &mut worker.told_stopped, stopped, turn.now)
        {
            turn.note(Note::Stopped(worker.name(number), stopped));
        }
    }

    /// When patience with a worker ends, and with what it is late then.
    fn due(&self, worker: &Worker) -> Option<(Moment, Late)> {
        let within = |since: Moment| (!self.plan.patience.is_zero()).then(|| since + self.plan.patience);
        let ready = |late: Option<Moment>| late.filter(|_| worker.stage == slots::Stage::Ready).and_then(within);
        let forking = self.template_stopped.filter(|_| worker.stage == slots::Stage::Forking);
        let late = match worker.stage {
            slots::Stage::Forking | slots::Stage::Booting => Late::Boot,
            slots::Stage::Ready => Late::Closed,
            slots::Stage::Draining | slots::Stage::Killed => Late::Drain,
        };
        [
            worker.deadline.map(|due| (due, late)),
            ready(worker.stopped).map(|due| (due, Late::Stopped)),
            ready(worker.silent).map(|due| (due, Late::Turn)),
            forking.and_then(|since| within(since.max(worker.since))).map(|due| (due, Late::Boot)),
        ]
        .into_iter()
        .flatten()
        .min_by_key(|(due, _)| *due)
    }

    /// A worker's channel is closed: its end is near, or something is wrong with it.
    pub fn closed(&mut self, slot: u16, now: Moment) {
        if let Some(worker) = self.slots.at(slot)
            && matches!(worker.stage, slots::Stage::Booting | slots::Stage::Ready)
        {
            worker.deadline = Some(now + CLOSED);
        }
    }

    /// The application speaks in a worker's name, and its channel is closed. Another takes its place; it ends what it has begun,
    /// as every worker does whose master is gone.
    pub fn distrust(&mut self, slot: u16, why: &str, turn: &mut Turn) {
        let (number, within) = (self.number, self.plan.graceful_timeout + MARGIN);
        let Some(worker) = self.slots.at(slot) else { return };
        turn.note(Note::WorkerDistrusted(worker.name(number), why.to_owned()));
        if worker.ready.is_none() {
            self.backoff.strike(turn.now);
        }
        match worker.stage {
            slots::Stage::Forking => worker.leaving = true,
            slots::Stage::Booting => kill(worker, turn),
            slots::Stage::Ready => {
                worker.stage = slots::Stage::Draining;
                worker.deadline = Some(turn.now + within);
            }
            slots::Stage::Draining | slots::Stage::Killed => {}
        }
    }

    /// A worker has ended. Whether it did so by itself.
    pub fn exited(&mut self, slot: u16, exit: Ending, turn: &mut Turn) -> bool {
        let Some(worker) = self.slots.remove(slot) else { return false };
        let lost = match (worker.stage, exit) {
            (slots::Stage::Killed, _) if worker.ready.is_none() && self.stage == Stage::Serving => {
                self.backoff.strike(turn.now);
                false
            }
            (slots::Stage::Killed, _) => false,
            (slots::Stage::Draining, Ending::Status(_)) => {
                turn.note(Note::WorkerDrained(worker.name(self.number)));
                false
            }
            (slots::Stage::Draining, Ending::Signal(_) | Ending::OutOfMemory) => {
                self.note_lost(&worker, exit, None, turn);
                false
            }
            (slots::Stage::Forking | slots::Stage::Booting | slots::Stage::Ready, _) => {
                self.lost(&worker, exit, turn);
                true
            }
        };
        turn.act(Action::Release { generation: self.number, slot });
        if self.stage == Stage::Kept && self.slots.is_empty() {
            turn.note(Note::Kept(self.number));
        }
        lost
    }

    fn lost(&mut self, worker: &Worker, exit: Ending, turn: &mut Turn) {
        if worker.ready.is_none() {
            self.backoff.strike(turn.now);
        }
        let needed = self.stage == Stage::Serving && self.slots.count(Worker::counts) < usize::from(self.wanted);
        self.note_lost(worker, exit, needed.then(|| self.backoff.until - turn.now), turn);
        if self.stage == Stage::Serving {
            let text = format!("a worker was lost: {exit}. The error log says more.");
            turn.answer(&mut self.waiting, Err(&Failure::new(Exit::Refused, text)));
        }
    }

    fn note_lost(&self, worker: &Worker, exit: Ending, retry: Option<Duration>, turn: &mut Turn) {
        let (worker, uptime) = (worker.name(self.number), turn.now - worker.since);
        turn.note(Note::WorkerLost { worker, exit, uptime, retry });
    }

    /// The template could not fork.
    pub fn fork_failed(&mut self, slot: u16, error: &str, turn: &mut Turn) {
        if self.slots.at(slot).is_none_or(|worker| worker.stage != slots::Stage::Forking) {
            return;
        }
        self.slots.remove(slot);
        turn.act(Action::Release { generation: self.number, slot });
        self.backoff.strike(turn.now);
        turn.note(Note::ForkFailed(self.number, error.to_owned()));
        if self.stage == Stage::Serving {
            turn.answer(&mut self.waiting, Err(&Failure::new(Exit::System, format!("could not fork: {error}"))));
        }
    }

    /// The template's channel is closed: its end is near.
    pub fn template_closed(&mut self, now: Moment) {
        if let Template::Loading { pid, .. } | Template::Loaded { pid } = self.template {
            self.template = Template::Ending { pid, deadline: now + PROMPTLY };
        }
    }

    /// The template has ended. What it was told to fork may live or not; without a channel it will not live for long.
    pub fn template_exited(&mut self, turn: &mut Turn) {
        self.template = Template::Gone;
        self.template_stopped = None;
        let orphans: Vec<u16> = self
            .slots
            .iter()
            .filter(|worker| worker.stage == slots::Stage::Forking)
            .map(|worker| worker.slot)
            .collect();
        for slot in orphans {
            self.slots.remove(slot);
            turn.act(Action::Abandon { generation: self.number, slot });
        }
    }

    /// Marks all workers for replacement by others of the same code.
    pub fn recycle(&mut self) {
        for worker in self.slots.iter_mut().filter(|worker| worker.counts()) {
            worker.asked.get_or_insert(Why::Operator);
        }
    }

    /// The template, if it has said that it answers [`ostler_wire::stacks_signal`].
    pub fn hearing_template(&self) -> Option<i32> {
        match self.template {
            Template::Loading { pid, .. } if self.errand.is_some() => Some(pid),
            Template::Loaded { pid } => Some(pid),
            _ => None,
        }
    }

    /// Whether all that is wanted is ready.
    pub fn complete(&self) -> bool {
        matches!(self.template, Template::Loaded { .. }) && self.slots.count(Worker::serves) >= usize::from(self.wanted)
    }

    /// Whether exactly what is wanted serves, and nothing is under way.
    pub fn settled(&self) -> bool {
        self.slots.count(|worker| worker.stage == slots::Stage::Ready) == usize::from(self.wanted)
            && self.slots.count(|worker| worker.counts() && !worker.serves() || worker.asked.is_some()) == 0
    }

    /// Orders what brings the generation nearer to what it should be.
    pub fn tend(&mut self, turn: &mut Turn) {
        self.kill_stragglers(turn);
        match self.stage {
            Stage::Booting => self.fork_missing(turn),
            Stage::Serving => {
                self.admit_ready(turn);
                self.promote_asked(turn);
                self.fork_missing(turn);
                self.drain_excess(turn);
                if !self.waiting.is_empty() && self.settled() {
                    let text = format!("generation {} serves with {} workers", self.number, self.wanted);
                    turn.answer(&mut self.waiting, Ok(&text));
                }
            }
            Stage::Kept => self.drain_all(turn),
            Stage::Draining => {
                self.drain_all(turn);
                self.end_template(turn);
            }
        }
    }

    fn kill_stragglers(&mut self, turn: &mut Turn) {
        let (number, now) = (self.number, turn.now);
        for worker in self.slots.iter_mut().filter(|worker| worker.leaving && worker.stage == slots::Stage::Booting) {
            kill(worker, turn);
        }
        let late =
            |worker: &Worker| self.due(worker).filter(|(due, _)| *due <= now).map(|(_, late)| (worker.slot, late));
        let stragglers: Vec<(u16, Late)> = self.slots.iter().filter_map(late).collect();
        for (slot, late) in stragglers {
            let serving = self.stage == Stage::Serving;
            let Some(worker) = self.slots.at(slot) else { continue };
            worker.deadline = None;
            match worker.stage {
                slots::Stage::Forking => {
                    self.template_stopped = None;
                    turn.note(Note::TemplateLate(number));
                    self.template.kill(turn);
                }
                slots::Stage::Booting if serving && !worker.hangs => late::ask_worker(worker, turn),
                slots::Stage::Booting | slots::Stage::Ready | slots::Stage::Draining => {
                    turn.note(Note::Straggler(worker.name(number), late));
                    kill(worker, turn);
                }
                slots::Stage::Killed => {}
            }
        }
        if matches!(self.template, Template::Ending { deadline, .. } if deadline <= now) {
            self.template.kill(turn);
        }
    }

    fn fork_missing(&mut self, turn: &mut Turn) {
        if !matches!(self.template, Template::Loaded { .. }) || turn.now < self.backoff.until {
            return;
        }
        let missing = usize::from(self.wanted).saturating_sub(self.slots.count(Worker::counts));
        for _ in 0..missing {
            let Some(slot) = self.slots.take(turn.now, turn.now + self.plan.boot_timeout) else { break };
            turn.act(Action::Fork { generation: self.number, slot });
        }
    }

    fn admit_ready(&mut self, turn: &mut Turn) {
        let number = self.number;
        for worker in self.slots.iter_mut() {
            if worker.stage == slots::Stage::Ready && !worker.admitted {
                worker.admitted = true;
                turn.act(Action::Admit { generation: number, slot: worker.slot });
            }
        }
    }

    /// One at a time, and only when nothing else is amiss.
    fn promote_asked(&mut self, turn: &mut Turn) {
        let number = self.number;
        if self.slots.count(|worker| worker.leaving && worker.stage == slots::Stage::Ready) > 0 {
            return;
        }
        if let Some(worker) = self.slots.iter_mut().find(|worker| worker.asked.is_some() && worker.serves()) {
            worker.leaving = true;
            let why = worker.asked.expect("it was just found");
            turn.note(Note::Replacing(worker.name(number), why));
        }
    }

    /// Those who are replaced, and the oldest of those who are too many.
    fn drain_excess(&mut self, turn: &mut Turn) {
        let serving = self.slots.count(Worker::serves);
        let Some(mut excess) = serving.checked_sub(usize::from(self.wanted)) else { return };
        let (number, within) = (self.number, self.plan.graceful_timeout);
        for worker in self.slots.iter_mut().filter(|worker| worker.stage == slots::Stage::Ready) {
            if worker.leaving {
                drain(worker, number, within, true, Duration::ZERO, turn);
            } else if excess > 0 {
                excess -= 1;
                drain(worker, number, within, true, Duration::ZERO, turn);
            }
        }
    }

    /// Whoever serves moves its connections and goes; whoever boots has none.
    fn drain_all(&mut self, turn: &mut Turn) {
        let (number, within) = (self.number, self.plan.graceful_timeout);
        for worker in self.slots.iter_mut() {
            match worker.stage {
                slots::Stage::Ready => drain(worker, number, within, true, Duration::ZERO, turn),
                slots::Stage::Booting => kill(worker, turn),
                slots::Stage::Forking | slots::Stage::Draining | slots::Stage::Killed => {}
            }
        }
    }

    /// One that imports hears nothing, so it is not asked.
    fn end_template(&mut self, turn: &mut Turn) {
        match self.template {
            Template::Loading { .. } => self.template.kill(turn),
            Template::Loaded { pid } => {
                turn.act(Action::EndTemplate(self.number));
                self.template = Template::Ending { pid, deadline: turn.now + PROMPTLY };
            }
            // Whoever looks at the settings need not come to an end.
            Template::Awaited => self.template = Template::Gone,
            Template::Ending { .. } | Template::Killed { .. } | Template::Gone => {}
        }
    }

    /// The master stops: all go, and nobody is left to take their connections.
    pub fn stop(&mut self, how: Stop, turn: &mut Turn) {
        self.stage = Stage::Draining;
        let (number, plan) = (self.number, &self.plan);
        for worker in self.slots.iter_mut() {
            match (worker.stage, how) {
                (slots::Stage::Forking | slots::Stage::Killed, _) => {}
                (slots::Stage::Booting, _) | (_, Stop::Kill) => kill(worker, turn),
                (slots::Stage::Ready | slots::Stage::Draining, Stop::Graceful) => {
                    drain(worker, number, plan.graceful_timeout, false, plan.drain_delay, turn);
                }
                (slots::Stage::Ready | slots::Stage::Draining, Stop::Quick) => {
                    turn.act(Action::Quit { generation: number, slot: worker.slot });
                    worker.stage = slots::Stage::Draining;
                    worker.deadline = Some(turn.now + PROMPTLY);
                }
            }
        }
        if how == Stop::Kill {
            self.template.kill(turn);
        }
    }

    /// Nothing is left of it.
    pub fn gone(&self) -> bool {
        self.stage == Stage::Draining && self.slots.is_empty() && self.template == Template::Gone
    }

    /// All that is left has been sent SIGKILL.
    pub fn only_killed(&self) -> bool {
        matches!(self.template, Template::Killed { .. } | Template::Gone)
            && self.slots.iter().all(|worker| worker.stage == slots::Stage::Killed)
    }

    /// After what time missing workers are forked, if not at once.
    pub fn retry(&self, now: Moment) -> Option<Duration> {
        let missing = self.slots.count(Worker::counts) < usize::from(self.wanted);
        let waits = self.stage == Stage::Serving && missing && self.backoff.until > now;
        waits.then(|| self.backoff.until - now)
    }

    /// When something becomes due.
    pub fn deadlines(&self, now: Moment) -> impl Iterator<Item = Moment> + '_ {
        let template = match self.template {
            Template::Loading { deadline, .. } | Template::Ending { deadline, .. } => Some(deadline),
            Template::Awaited | Template::Loaded { .. } | Template::Killed { .. } | Template::Gone => None,
        };
        let backoff = self.retry(now).map(|pause| now + pause);
        let workers = self.slots.iter().filter_map(|worker| self.due(worker)).map(|(due, _)| due);
        workers.chain(template).chain(backoff)
    }
}

/// Notes that a process was stopped or continued. Whether the log is told: an application can do this as often as it likes.
fn stop_is_told(since: &mut Option<Moment>, told: &mut Option<Moment>, stopped: bool, now: Moment) -> bool {
    let before = std::mem::replace(since, stopped.then_some(now));
    if !stopped {
        return before.is_some() && before == *told;
    }
    let due = told.is_none_or(|last| now - last >= BETWEEN_STOPS);
    if due {
        *told = Some(now);
    }
    due
}

fn serve(worker: &mut Worker, number: Number, turn: &mut Turn) {
    worker.stage = slots::Stage::Ready;
    worker.ready = Some(turn.now);
    worker.deadline = None;
    turn.note(Note::WorkerReady { worker: worker.name(number), took: turn.now - worker.since });
}

fn drain(worker: &mut Worker, number: Number, within: Duration, hand_over: bool, delay: Duration, turn: &mut Turn) {
    turn.act(Action::Drain { generation: number, slot: worker.slot, within, hand_over, delay });
    worker.stage = slots::Stage::Draining;
    worker.deadline = Some(turn.now + delay + within + MARGIN);
}

fn kill(worker: &mut Worker, turn: &mut Turn) {
    worker.stage = slots::Stage::Killed;
    worker.deadline = None;
    if let Some(pid) = worker.pid {
        turn.act(Action::Kill(pid));
    }
}
