//! `ostler status`: what is there and what it does, gathered from the state machine, the scoreboards and /proc.

use std::{collections::BTreeMap, os::fd::AsFd, time::SystemTime};

use ostler_tls::certificates::Expiry;
use ostler_wire::{counters, scoreboard};
use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::{
    events::Event,
    generation::{Canary, CanaryStep, Generation, Stage},
    metrics::{self, Series},
    perform::Performer,
    sampling::{Memory, Sampling},
    slots::{Worker, WorkerStage},
    state::State,
    team::Team,
    turns::Longest,
};
use crate::{
    resources::listen::Bound,
    settings::WorkerRange,
    sys::{clock::Moment, diag},
};

pub use comparison::{COMPARED, FiguresStatus};
pub use text::{age, size, time};

mod comparison;
mod health;
mod text;

/// All of it. Times are seconds, memory is bytes.
#[derive(Debug, Serialize, Deserialize)]
pub struct Status {
    /// The master's release.
    pub version: String,
    /// The master's process.
    pub pid: u32,
    /// What is listened on.
    pub addresses: Vec<String>,
    /// How many wait there to be accepted, in the same order.
    #[serde(default)]
    pub queues: Vec<Queue>,
    /// For how long clients have waited to be accepted while no worker was idle.
    #[serde(default)]
    pub crowded: Option<f64>,
    /// The certificates that clients are shown, in the order of `--certfile`.
    #[serde(default)]
    pub certificates: Vec<CertificateStatus>,
    /// In the order of their numbers.
    pub generations: Vec<GenerationStatus>,
    /// What is not as it should be, a sentence each; the worst first.
    #[serde(default)]
    pub problems: Vec<String>,
    /// The last reload, if nothing came of it.
    #[serde(default)]
    pub failed_reload: Option<FailedReloadStatus>,
    /// The generation that is judged, where the site is not ready before (`--ready-after-watch`).
    #[serde(default)]
    pub awaits_verdict: Option<u32>,
    /// In what time a new template is started, if the one of the serving generation is lost.
    #[serde(default)]
    pub recovers_in: Option<f64>,
    /// How many workers were replaced, by cause.
    pub restarts: BTreeMap<String, u64>,
    /// How many generations after the first came to serve (`success`), or were discarded (`failure`).
    #[serde(default)]
    pub reloads: BTreeMap<String, u64>,
    /// When the last of them did, in microseconds since 1970.
    #[serde(default)]
    pub last_reloads: BTreeMap<String, u64>,
    /// How old the figures of memory are.
    #[serde(default)]
    pub memory_age: Option<f64>,
    /// The longest time for which the master heard nobody.
    #[serde(default)]
    pub longest_turn: Longest,
    /// All that is counted, by the names that Prometheus will know.
    #[serde(default)]
    pub metrics: Series,
    /// The last of what the master told its log, the oldest first.
    #[serde(default)]
    pub events: Vec<EventStatus>,
}

/// Something that happened to the site.
#[derive(Debug, Serialize, Deserialize)]
pub struct EventStatus {
    /// Since then.
    pub age: f64,
    /// `info`, `warning`, `error` or `critical`
    pub level: String,
    /// A sentence, in which nothing moves a terminal.
    pub text: String,
}

/// A listener's queue in the kernel; nothing where the kernel does not say.
#[derive(Debug, Serialize, Deserialize)]
pub struct Queue {
    /// Connections that wait to be accepted.
    pub waiting: Option<u32>,
    /// How many may.
    pub room: Option<u32>,
    /// Whether the file of a Unix socket was removed or replaced: no client finds the queue.
    #[serde(default)]
    pub file_gone: bool,
}

/// A certificate.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct CertificateStatus {
    /// The first of its names.
    pub name: String,
    /// When it ends, in seconds since 1970.
    pub expires: u64,
    /// In how many seconds; less than none if it has ended.
    pub expires_in: f64,
    /// It should have been renewed by now.
    pub is_late: bool,
}

/// A reload of which nothing came.
#[derive(Debug, Serialize, Deserialize)]
pub struct FailedReloadStatus {
    /// The generation that was discarded.
    pub generation: u32,
    /// Why: a sentence.
    pub reason: String,
    /// Since then.
    pub age: f64,
}

/// One generation.
#[derive(Debug, Serialize, Deserialize)]
pub struct GenerationStatus {
    /// Its number.
    pub generation: u32,
    /// `booting`, `canary`, `serving`, `draining` (its workers end) or `kept` (they have ended, and its template waits for a roll-back).
    pub stage: String,
    /// What becomes of a canary.
    #[serde(default)]
    pub canary: Option<CanaryStatus>,
    /// For how long it has been.
    #[serde(default)]
    pub since: f64,
    /// How many workers it should have.
    pub wanted: u16,
    /// Between which numbers that follows the load, if it does.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub range: Option<WorkerRange>,
    /// How many of them serve, or would.
    pub ready: usize,
    /// Why it serves no application, if it does not (`--reload`): a sentence.
    #[serde(default)]
    pub serves_nothing: Option<String>,
    /// How many boot, of which nothing says that they will not come to serve.
    #[serde(default)]
    pub coming: usize,
    /// How many workers have died by themselves.
    pub crashed: u64,
    /// The request for which the last of these was called, if it was.
    pub last_crash: Option<String>,
    /// While there is a canary: what it and the generation that serves have done since it began.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub figures: Option<FiguresStatus>,
    /// While it is judged: what the figures say of it so far.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub verdict: Option<String>,
    /// In how many seconds a missing worker is tried again, if that has to wait.
    pub next: Option<f64>,
    /// Its template's process.
    pub template: Option<i32>,
    /// How often that was another one before: a worker has become the template (`--refork`).
    #[serde(default)]
    pub reforked: u32,
    /// The template's memory.
    pub memory: Option<Memory>,
    /// The oldest first.
    pub workers: Vec<WorkerStatus>,
}

/// A canary.
#[derive(Debug, Serialize, Deserialize)]
pub struct CanaryStatus {
    /// How many workers are to follow.
    pub rest: u16,
    /// In how many seconds, if that is known.
    pub follows_in: Option<f64>,
    /// `beside` (the generation that serves), `follows` (the rest boot) or `leaves`.
    pub step: String,
}

/// One worker.
#[derive(Debug, Serialize, Deserialize)]
pub struct WorkerStatus {
    /// Its place on the scoreboard.
    pub slot: u16,
    /// Its process.
    pub pid: Option<i32>,
    /// `booting`, `ready` (for its generation to serve), `idle`, `working`, `busy`, `draining` or `killed`.
    pub state: String,
    /// Why it is to be replaced, if it is.
    pub replaced: Option<String>,
    /// Since it became ready.
    pub age: Option<f64>,
    /// In what time its boot or its drain is ended.
    #[serde(default)]
    pub ends_in: Option<f64>,
    /// What its Python threads are doing.
    pub doing: Vec<RequestStatus>,
    /// The first of those that wait for a thread, the oldest first.
    #[serde(default)]
    pub waiting: Vec<RequestStatus>,
    /// What holds up all of it, and for how long, if it makes no progress.
    #[serde(default)]
    pub stuck: Option<RequestStatus>,
    /// Its memory.
    pub memory: Option<Memory>,
    /// What it has counted: the fields of [`counters::METRICS`], each by its name.
    #[serde(flatten)]
    pub counts: BTreeMap<String, Value>,
}

/// A request under way.
#[derive(Debug, Serialize, Deserialize)]
pub struct RequestStatus {
    /// Its first line.
    pub line: String,
    /// What it is called, with --request-id.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub id: Option<String>,
    /// For how long it has been in the application.
    pub age: f64,
}

impl Status {
    /// As it is now.
    pub fn gather(state: &State, performer: &Performer) -> Status {
        let now = Moment::now();
        let is_compared = |generation: &Generation| {
            state.canary().is_some() && matches!(generation.stage, Stage::Serving | Stage::Canary)
        };
        let judged = state.judged().map(|judged| judged.new);
        let generation = |generation: &Generation| GenerationStatus {
            figures: is_compared(generation).then(|| performer.figures_beside_canary(generation.number).into()),
            verdict: generation.told.clone().filter(|_| judged == Some(generation.number)),
            ..GenerationStatus::gather(generation, performer.teams.get(&generation.number), &performer.sampling)
        };
        let mut status = Status {
            version: env!("CARGO_PKG_VERSION").into(),
            pid: std::process::id(),
            addresses: performer.listeners.iter().map(|bound| bound.told.name.clone()).collect(),
            queues: performer.listeners.iter().map(Queue::of).collect(),
            crowded: performer.watch.crowded.map(|since| (now - since).as_secs_f64()),
            certificates: certificates(state, performer),
            generations: state.generations().iter().map(generation).collect(),
            problems: Vec::new(),
            awaits_verdict: state.awaits_verdict().map(|number| number.0),
            failed_reload: state.failed_reload().map(|failed| FailedReloadStatus {
                generation: failed.generation.0,
                reason: failed.why.clone(),
                age: (now - failed.at).as_secs_f64(),
            }),
            recovers_in: state.recovers_in(now).map(|pause| pause.as_secs_f64()),
            restarts: performer.restarts.clone(),
            reloads: performer.reloads.clone(),
            last_reloads: performer.last_reloads.clone(),
            memory_age: performer.sampling.taken().map(|taken| (now - taken).as_secs_f64()),
            longest_turn: performer.turns.longest(),
            metrics: Series::new(),
            events: performer.events.all().into_iter().map(|event| EventStatus::of(event, now)).collect(),
        };
        status.metrics = metrics::series(&status, &performer.totals);
        status.problems = health::problems(&status);
        status
    }

    /// What takes clients: the generation that serves, and a canary beside it.
    pub fn site(&self) -> impl Iterator<Item = &GenerationStatus> {
        self.generations.iter().filter(|generation| ["serving", "canary"].contains(&generation.stage.as_str()))
    }

    /// Whether new clients are to be sent here, and why.
    pub fn readiness(&self) -> Result<String, String> {
        let at = |stage| self.generations.iter().find(|generation| generation.stage == stage);
        if let Some(generation) = self.awaits_verdict {
            return Err(format!("generation {generation} has yet to prove itself"));
        }
        match (at("serving"), at("booting")) {
            (Some(GenerationStatus { serves_nothing: Some(why), .. }), _) => Err(why.clone()),
            (Some(GenerationStatus { generation, ready: 0, .. }), _)
                if at("canary").is_none_or(|canary| canary.ready == 0) =>
            {
                Err(format!("generation {generation} has no worker that serves"))
            }
            (Some(GenerationStatus { generation, ready, wanted, .. }), _) => {
                Ok(format!("generation {generation} serves, {ready} of {wanted} workers"))
            }
            (None, Some(GenerationStatus { generation, .. })) => Err(format!("generation {generation} is booting")),
            (None, None) => Err("the site is stopping".into()),
        }
    }
}

impl EventStatus {
    fn of(Event { at, level, text }: Event, now: Moment) -> EventStatus {
        EventStatus { age: (now - at).as_secs_f64(), level, text }
    }
}

impl Queue {
    fn of(bound: &Bound) -> Queue {
        let queue = diag::queue(bound.socket.as_fd());
        let file_gone = bound.file.as_ref().is_some_and(|file| !file.is_there());
        Queue { waiting: queue.map(|(waiting, _)| waiting), room: queue.map(|(_, room)| room), file_gone }
    }
}

impl GenerationStatus {
    fn gather(generation: &Generation, team: Option<&Team>, sampling: &Sampling) -> GenerationStatus {
        let stage = match generation.stage {
            Stage::Booting => "booting",
            Stage::Canary => "canary",
            Stage::Serving => "serving",
            Stage::Kept if generation.slots.is_empty() => "kept",
            Stage::Kept | Stage::Draining => "draining",
        };
        let template = generation.template.pid();
        GenerationStatus {
            generation: generation.number.0,
            stage: stage.into(),
            canary: generation.canary.as_ref().filter(|_| generation.stage == Stage::Canary).map(CanaryStatus::of),
            since: (Moment::now() - generation.since).as_secs_f64(),
            wanted: generation.wanted,
            range: generation.range.filter(|_| generation.stage != Stage::Canary),
            ready: generation.slots.count(Worker::serves),
            serves_nothing: generation.serves_nothing(),
            coming: generation.coming(Moment::now()),
            crashed: team.map_or(0, |team| team.crashes.count),
            figures: None,
            verdict: None,
            last_crash: team.and_then(|team| team.crashes.last.clone()),
            next: generation.retry(Moment::now()).map(|pause| pause.as_secs_f64()),
            template,
            reforked: generation.refork.times,
            memory: template.and_then(|pid| sampling.of(pid)),
            workers: generation.slots.iter().map(|worker| WorkerStatus::gather(worker, team, sampling)).collect(),
        }
    }
}

impl CanaryStatus {
    fn of(canary: &Canary) -> CanaryStatus {
        let (step, until) = match canary.step {
            CanaryStep::Booting => ("boots", None),
            CanaryStep::Beside(until) => ("beside", until),
            CanaryStep::Follows => ("follows", None),
            CanaryStep::Leaves => ("leaves", None),
        };
        let follows_in = until.map(|until| (until - Moment::now()).as_secs_f64());
        CanaryStatus { rest: canary.full.saturating_sub(canary.workers), follows_in, step: step.into() }
    }
}

impl WorkerStatus {
    fn gather(worker: &Worker, team: Option<&Team>, sampling: &Sampling) -> WorkerStatus {
        let now = Moment::now();
        let board = team.map(|team| &team.scoreboard).filter(|board| worker.slot < board.slots());
        let slot = board.map(|board| board.slot(worker.slot));
        let state = match (worker.stage, slot.map(scoreboard::Slot::state)) {
            (WorkerStage::Forking | WorkerStage::Booting, _) => "booting",
            (WorkerStage::Draining, _) => "draining",
            (WorkerStage::Killed, _) => "killed",
            (WorkerStage::Ready, _) if !worker.admitted => "ready",
            (WorkerStage::Ready, Some(scoreboard::WorkerState::Busy)) => "busy",
            (WorkerStage::Ready, Some(scoreboard::WorkerState::Working)) => "working",
            (WorkerStage::Ready, _) => "idle",
        };
        let threads = |board: &scoreboard::Scoreboard| {
            let called = (0..board.threads()).map(|thread| board.activity(worker.slot, thread));
            RequestStatus::all(called, now)
        };
        let queue = |board: &scoreboard::Scoreboard| {
            let waiting = (0..scoreboard::QUEUE_SHOWN).map(|place| board.waiting(worker.slot, place));
            RequestStatus::all(waiting, now)
        };
        WorkerStatus {
            slot: worker.slot,
            pid: worker.pid,
            state: state.into(),
            replaced: worker.asked.map(|why| why.to_string()),
            ends_in: worker.deadline.map(|deadline| (deadline - now).as_secs_f64()),
            age: worker.ready.map(|ready| (now - ready).as_secs_f64()),
            doing: board.map(threads).unwrap_or_default(),
            waiting: board.map(queue).unwrap_or_default(),
            stuck: stuck(worker, now),
            memory: worker.pid.and_then(|pid| sampling.of(pid)),
            counts: board.map(|board| counts(board, worker.slot)).unwrap_or_default(),
        }
    }

    /// Whether clients are answered by it.
    fn answers(&self) -> bool {
        self.stuck.is_none() && matches!(self.state.as_str(), "idle" | "working" | "busy")
    }

    /// One of its counts.
    pub fn count(&self, field: &str) -> u64 {
        self.counts.get(field).and_then(Value::as_u64).unwrap_or(0)
    }
}

impl RequestStatus {
    fn all<'a>(activities: impl Iterator<Item = &'a scoreboard::Activity>, now: Moment) -> Vec<RequestStatus> {
        let request = |underway: scoreboard::Underway| RequestStatus {
            line: underway.line(),
            id: underway.id(),
            age: (now - Moment(underway.started)).as_secs_f64(),
        };
        activities.filter_map(scoreboard::Activity::current).map(request).collect()
    }
}

fn counts(board: &scoreboard::Scoreboard, slot: u16) -> BTreeMap<String, Value> {
    let numbers = counters::of_worker(board.slot(slot), board.meters(slot));
    numbers.map(|(_, field, count)| (field.into(), count.into())).collect()
}

/// A nudge is answered at once, which is seen at the next look.
const ANSWERS_WITHIN: std::time::Duration = std::time::Duration::from_secs(1);

fn stuck(worker: &Worker, now: Moment) -> Option<RequestStatus> {
    let stopped = worker.stopped.map(|since| ("stopped by a signal", since));
    // Up to then it has only been asked.
    let silent = worker.silent.filter(|since| now - *since >= ANSWERS_WITHIN);
    let (what, since) = stopped.or(silent.map(|since| ("makes no progress", since)))?;
    Some(RequestStatus { line: what.into(), id: None, age: (now - since).as_secs_f64() })
}

/// Those of the generation that serves.
fn certificates(state: &State, performer: &Performer) -> Vec<CertificateStatus> {
    let team = state.serving().and_then(|generation| performer.teams.get(&generation.number));
    let keeper = team.and_then(|team| team.keeper).and_then(|id| performer.keepers.get(id));
    let now = SystemTime::UNIX_EPOCH.elapsed().unwrap_or_default();
    let one = |expiry: &Expiry| CertificateStatus {
        name: expiry.name.clone(),
        expires: expiry.not_after,
        expires_in: expiry.not_after as f64 - now.as_secs_f64(),
        is_late: expiry.is_near(now.as_secs()),
    };
    keeper.and_then(|keeper| keeper.kept.as_ref()).iter().flat_map(|kept| &kept.expiries).map(one).collect()
}
