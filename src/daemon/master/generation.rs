//! One generation: a template, its workers, and the way back to as many of them as are wanted.
//!
//! booting → (canary →) serving → draining (or kept) → gone. Events change what is known; [`Generation::supervise`] then compares it
//! with what should be, and orders the difference. Pure, like state.rs, which decides between generations.

use std::time::Duration;

use ostler_wire::BootStep;
use serde::{Deserialize, Serialize};

use super::{
    event::{Action, Number, Plan},
    notes::{Late, Note},
    slots::{Slots, Worker, WorkerStage},
    state::FailedReload,
};
use crate::{
    exit::{Exit, Failure},
    resources::control::Asker,
    settings::{Rollout, WorkerRange},
    sys::clock::Moment,
};

mod backoff;
mod canary;
pub mod late;
mod orders;
pub mod refork;
mod smoke;
mod template;
pub mod warming;
mod workers;

pub use backoff::Backoff;
pub use canary::{Canary, CanaryStep, replaced};
pub use refork::Refork;
pub use smoke::Smoke;
pub use template::Template;
pub use warming::Warming;

/// How long a worker may take beyond `--graceful-timeout`, in which it logs its stragglers and leaves by itself.
const MARGIN: Duration = Duration::from_secs(2);

/// How many workers there should be, and between which numbers that follows the load, if it does.
pub type Size = (u16, Option<WorkerRange>);

/// What follows from an event.
#[derive(Debug)]
pub struct Decision {
    /// When the event is.
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
    /// Since when.
    #[serde(default = "Moment::now")]
    pub since: Moment,
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
    /// How far it is with a template that was a worker.
    #[serde(default)]
    pub refork: Refork,
    /// How far it is with becoming warm before it takes over.
    #[serde(default)]
    pub warming: Warming,
    /// Its workers.
    pub slots: Slots,
    /// How many workers there should be.
    pub wanted: u16,
    /// Between which numbers that follows the load, if it does.
    #[serde(default)]
    pub range: Option<WorkerRange>,
    /// What the application's code is run for, by the template or by workers that boot.
    pub step: Option<BootStep>,
    /// With --reload: why its code does not come up. Its workers show that, and have no application.
    #[serde(default)]
    pub failed: Option<String>,
    /// The template boots for too long, and was asked for its stacks.
    pub hangs: bool,
    /// How far it has come with its smoke tests.
    #[serde(default)]
    pub smoke: Smoke,
    /// When lost workers are replaced.
    pub backoff: Backoff,
    /// How it takes over, as it was asked for.
    #[serde(default)]
    pub rollout: Rollout,
    /// What it needs as a canary, from the moment when it is known to be one until it is the site.
    #[serde(default)]
    pub canary: Option<Canary>,
    /// Until when it is watched, while it is the site.
    #[serde(default)]
    pub watched: Option<Moment>,
    /// What the figures say of it, if they do not speak against it.
    #[serde(default)]
    pub told: Option<String>,
    /// The site went back to it, so that it need not be judged; and from which generation, if that was not the operator's doing.
    #[serde(default)]
    pub returns: Option<Option<FailedReload>>,
    /// The commands that wait until it is the site and found no worse, or is not to be.
    #[serde(default)]
    pub judged: Vec<Asker>,
    /// The commands that wait: for its boot while it boots, for the right number of workers while it serves.
    pub waiting: Vec<Asker>,
}

/// The life of a generation.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum Stage {
    /// Template and all workers have to become ready, or it is discarded.
    Booting,
    /// It serves beside the one that the site runs on, with a share of the workers, until it is that itself, or goes.
    Canary,
    /// The one that the site runs on.
    Serving,
    /// Its workers go, and the template waits for a roll-back.
    Kept,
    /// All of it goes.
    Draining,
}

impl Decision {
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

impl Generation {
    /// One whose template is yet to be started.
    pub fn new(number: Number, waiting: Vec<Asker>, now: Moment) -> Generation {
        Generation {
            number,
            stage: Stage::Booting,
            since: now,
            plan: Plan::default(),
            template: Template::Awaited,
            template_stopped: None,
            told_template_stopped: None,
            refork: Refork::default(),
            warming: Warming::Over,
            slots: Slots::default(),
            wanted: 0,
            range: None,
            step: None,
            failed: None,
            hangs: false,
            smoke: Smoke::default(),
            backoff: Backoff::NONE,
            rollout: Rollout::AsSet,
            canary: None,
            watched: None,
            told: None,
            returns: None,
            judged: Vec::new(),
            waiting,
        }
    }

    /// Its next stage begins. Only the site is watched, and only what boots warms itself.
    pub fn enter(&mut self, stage: Stage, now: Moment) {
        (self.stage, self.since, self.watched, self.warming) = (stage, now, None, Warming::Over);
    }

    /// The site goes back to it; without being asked, if there is a reload that has `failed`.
    pub fn come_back(&mut self, (wanted, range): Size, failed: Option<FailedReload>, now: Moment) {
        self.enter(Stage::Booting, now);
        (self.wanted, self.range, self.backoff, self.returns) = (wanted, range, Backoff::NONE, Some(failed));
    }

    /// Why it was discarded, if the site was to go back to it: then what it was to replace stays, although it is worse.
    pub fn cannot_come_back(&mut self, failure: Failure) -> Failure {
        let Some(Some(failed)) = self.returns.take() else { return failure };
        let FailedReload { generation, why, .. } = failed;
        let what =
            format!("generation {generation} is worse: {why}; and generation {} could not come back", self.number);
        Failure { exit: Exit::Worse, ..failure.after(&what) }
    }

    /// How many workers there should be, and between which numbers that may change.
    pub fn size(&self) -> Size {
        (self.wanted, self.range)
    }

    /// The template runs and imports. The site has had `before` workers.
    pub fn spawned(&mut self, pid: i32, plan: Plan, before: u16, now: Moment) {
        self.template = Template::Loading { pid, deadline: now + plan.boot_timeout };
        self.range = plan.range;
        self.wanted = plan.range.map_or(plan.workers, |range| range.nearest(before));
        self.slots = Slots::new(plan.slots);
        self.plan = plan;
        self.plan_warming();
    }

    /// When patience with a worker ends, and with what it is late then.
    fn due(&self, worker: &Worker) -> Option<(Moment, Late)> {
        let within = |since: Moment| (!self.plan.patience.is_zero()).then(|| since + self.plan.patience);
        let ready = |late: Option<Moment>| late.filter(|_| worker.stage == WorkerStage::Ready).and_then(within);
        // One that drains may do so for long.
        let clients = matches!(worker.stage, WorkerStage::Ready | WorkerStage::Draining);
        let stopped = worker.stopped.filter(|_| clients).and_then(within);
        let forking = self.template_stopped.filter(|_| worker.stage == WorkerStage::Forking);
        let late = match worker.stage {
            WorkerStage::Forking | WorkerStage::Booting => Late::Boot,
            WorkerStage::Ready => Late::Closed,
            WorkerStage::Draining | WorkerStage::Killed => Late::Drain,
        };
        [
            worker.deadline.map(|due| (due, late)),
            stopped.map(|due| (due, Late::Stopped)),
            ready(worker.silent).map(|due| (due, Late::Turn)),
            forking.and_then(|since| within(since.max(worker.since))).map(|due| (due, Late::Boot)),
        ]
        .into_iter()
        .flatten()
        .min_by_key(|(due, _)| *due)
    }

    /// Whether its workers take clients, and lost ones are replaced.
    pub fn serves(&self) -> bool {
        matches!(self.stage, Stage::Serving | Stage::Canary) && !self.leaves()
    }

    /// Whether all that is wanted is ready.
    pub fn complete(&self) -> bool {
        matches!(self.template, Template::Loaded { .. }) && self.slots.count(Worker::serves) >= usize::from(self.wanted)
    }

    /// Whether exactly what is wanted serves, and nothing is under way.
    pub fn settled(&self) -> bool {
        self.slots.count(|worker| worker.stage == WorkerStage::Ready) == usize::from(self.wanted)
            && self.slots.count(|worker| worker.counts() && !worker.serves() || worker.asked.is_some()) == 0
    }

    /// Nothing is left of it.
    pub fn gone(&self) -> bool {
        let templates = self.template.pid().into_iter().chain(self.refork.templates());
        self.stage == Stage::Draining
            && self.slots.is_empty()
            && templates.count() == 0
            && self.template == Template::Gone
    }

    /// All that is left has been sent SIGKILL.
    pub fn only_killed(&self) -> bool {
        matches!(self.template, Template::Killed { .. } | Template::Gone)
            && self.refork.only_killed()
            && self.slots.iter().all(|worker| worker.stage == WorkerStage::Killed)
    }

    /// Why it serves no application, if it does not: a sentence.
    pub fn serves_nothing(&self) -> Option<String> {
        let why = self.failed.as_ref()?;
        Some(format!("generation {} serves no application: {why}", self.number))
    }

    /// After what time missing workers are forked, if not at once.
    pub fn retry(&self, now: Moment) -> Option<Duration> {
        let missing = self.slots.count(Worker::counts) < usize::from(self.wanted);
        let waits = self.serves() && missing && self.backoff.until > now;
        waits.then(|| self.backoff.until - now)
    }

    /// How many workers boot, unless others have failed to shortly before.
    pub fn coming(&self, now: Moment) -> usize {
        let boots = |worker: &Worker| worker.counts() && worker.stage != WorkerStage::Ready && !worker.hangs;
        if self.backoff.is_recent(now) { 0 } else { self.slots.count(boots) }
    }

    /// When something becomes due.
    pub fn deadlines(&self, now: Moment) -> impl Iterator<Item = Moment> + '_ {
        let template = match self.template {
            Template::Loading { deadline, .. } | Template::Ending { deadline, .. } => Some(deadline),
            Template::Awaited | Template::Loaded { .. } | Template::Killed { .. } | Template::Gone => None,
        };
        let backoff = self.retry(now).map(|pause| now + pause);
        let workers = self.slots.iter().filter_map(|worker| self.due(worker)).map(|(due, _)| due);
        workers
            .chain(template)
            .chain(backoff)
            .chain(self.smoke_deadline())
            .chain(self.canary_deadline())
            .chain(self.watched)
            .chain(self.refork.deadlines())
            .chain(self.warming_deadline())
    }
}
