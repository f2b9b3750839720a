//! What the log is told: the notes, and a stable phrase and keys for each.

use std::{fmt, path::PathBuf, sync::atomic::Ordering::Relaxed, time::Duration};

use ostler_wire::{
    Loaded, Recycle,
    scoreboard::{Activity, QUEUE_SHOWN, Scoreboard, Underway},
};
use serde::{Deserialize, Serialize};
use slog::{KV, Logger, Record, Serializer, crit, error, info, warn};

use super::{
    event::{Number, Stop},
    events::ROUTINE,
};
use crate::{
    exit::{Exit, Failure},
    settings::WorkerRange,
    sys::{clock::Moment, process::Ending},
};

/// A template may say that its import left more behind than anybody wants to read.
const MOST_LEFTOVERS: usize = 32;

/// What the log is told.
#[derive(Debug, Clone)]
pub enum Note {
    /// `--reload`: this file of the site has changed, and a reload follows.
    FileChanged(PathBuf),
    /// A reload begins.
    ReloadAsked,
    /// A reload waits for the one under way.
    ReloadQueued,
    /// A roll-back begins, to this generation.
    RollbackAsked(Number),
    /// What a signal asked for is not possible now.
    Refused(String),
    /// An upgrade begins.
    UpgradeAsked,
    /// It came to nothing.
    UpgradeFailed(String),
    /// It is done.
    Upgraded,
    /// A generation begins.
    Booting(Number),
    /// A worker is late with its boot: where it hangs.
    BootHangs(WorkerName, String),
    /// Its template can fork.
    Loaded(Number, Loaded),
    /// A worker serves.
    WorkerReady {
        /// Which.
        worker: WorkerName,
        /// From fork to ready.
        took: Duration,
    },
    /// A generation has passed this many smoke tests.
    SmokeTested(Number, usize),
    /// A canary is complete, and waits until the generation beside which it is to serve has been watched to the end.
    CanaryWaits(Number, Number),
    /// A release that was found worse is booted, because nothing else is left.
    SuspectBooted(Number),
    /// A generation serves beside the old one.
    Canary {
        /// Which.
        generation: Number,
        /// With how many workers.
        workers: u16,
        /// Of how many.
        of: u16,
        /// For how long; zero for no end.
        time: Duration,
    },
    /// The rest of its workers follow: so many there will be, and what the figures say.
    Promoted(Number, u16, Option<String>),
    /// A generation was watched, and what the figures say.
    Watched(Number, Option<String>),
    /// A generation is not watched, or not to the end: why.
    NotWatched(Number, &'static str),
    /// The figures speak against a generation, and there is nothing to go back to.
    Stays(Number, Failure),
    /// The figures speak against a generation.
    WentBack {
        /// That.
        from: Number,
        /// The one before, which is the site again.
        to: Number,
        /// What they say.
        failure: Failure,
    },
    /// It goes, and the old generation is to have all its workers again.
    TakenBack(Number, Failure),
    /// A generation serves.
    Serving(Number, u16),
    /// Another generation serves; this one's workers drain.
    Draining(Number),
    /// A generation's template stays for a roll-back.
    Kept(Number),
    /// Nothing of a generation is left.
    Gone(Number),
    /// A generation never served.
    Discarded(Number, Failure),
    /// A worker is about to be replaced.
    Replacing(WorkerName, Why),
    /// A worker died by itself.
    WorkerLost {
        /// Which.
        worker: WorkerName,
        /// How.
        exit: Ending,
        /// Since its fork.
        uptime: Duration,
        /// When its successor is forked; none if it needs none.
        retry: Option<Duration>,
    },
    /// What a worker says is not believed any more. It is replaced.
    WorkerDistrusted(WorkerName, String),
    /// What a template says is not believed any more. A new generation follows, if it served.
    TemplateDistrusted(Number, String),
    /// A worker could not import the application.
    WorkerFailed(WorkerName, Failure),
    /// A worker ended because it was told to.
    WorkerDrained(WorkerName),
    /// A worker is killed because it did not end, or become ready, in time.
    Straggler(WorkerName, Late),
    /// A worker was stopped by a signal, or continued.
    Stopped(WorkerName, bool),
    /// A template was stopped by a signal, or continued.
    TemplateStopped(Number, bool),
    /// A template is killed because it did not fork in time.
    TemplateLate(Number),
    /// The template could not fork.
    ForkFailed(Number, String),
    /// The serving generation's template died; a reload follows.
    TemplateLost(Number, Ending, &'static str),
    /// A worker has become the template, and has forked a worker that is ready.
    Reforked {
        /// Whose.
        generation: Number,
        /// Its process.
        pid: i32,
        /// How often that has happened.
        times: u32,
    },
    /// The first worker of a generation that boots answers requests, to become warm.
    Warming(WorkerName),
    /// It came to nothing: why.
    NotReforked(Number, String),
    /// The number of workers changes, or between which numbers it does.
    Scaled {
        /// How many there are to be.
        workers: u16,
        /// Between which numbers that follows the load, if it does.
        range: Option<WorkerRange>,
        /// Whether the load is the reason, and there are more or fewer; and why.
        load: Option<(Direction, String)>,
    },
    /// The master ends.
    Stopping(Stop),
    /// Processes that do not even die by SIGKILL are left behind.
    LeftBehind(Vec<i32>),
}

/// Which way the number of workers goes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Direction {
    Up,
    Down,
}

/// A worker, as the log names it.
#[derive(Debug, Clone, Copy)]
pub struct WorkerName {
    /// Whose.
    pub generation: Number,
    /// Which.
    pub slot: u16,
    /// Its process, if known.
    pub pid: Option<i32>,
}

/// What a straggler was late with.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Late {
    /// `--boot-timeout`
    Boot,
    /// `--graceful-timeout`
    Drain,
    /// Its channel is closed, and yet it lives.
    Closed,
    /// A turn of its loop: `--timeout` and a little more have passed without one.
    Turn,
    /// SIGCONT, for as long.
    Stopped,
}

/// Why a worker is replaced.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum Why {
    /// It asked.
    Asked(Recycle),
    /// `ostler recycle`
    Operator,
    /// `--refork`: it is to become the template, or has the one before.
    Refork,
    /// Its connections are to move to a worker of a generation that boots, and becomes warm.
    Warming,
}

impl fmt::Display for Why {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        f.write_str(match self {
            Why::Asked(Recycle::Requests) => "max-requests",
            Why::Asked(Recycle::Memory { .. }) => "max-memory",
            Why::Asked(Recycle::Age) => "max-age",
            Why::Asked(Recycle::Timeout) => "timeout",
            Why::Asked(Recycle::Signal) => "SIGTERM",
            Why::Asked(Recycle::Panic) => "panic",
            Why::Operator => "recycle",
            Why::Refork => "refork",
            Why::Warming => "warming",
        })
    }
}

/// Writes one note. `scoreboard` is that of the worker in question, if the note is about one; `hint` stands behind how a
/// process ended.
pub fn write(log: &Logger, note: &Note, scoreboard: Option<&Scoreboard>, hint: &str) {
    match note {
        Note::FileChanged(path) => info!(log, "file changed"; "path" => %path.display()),
        Note::ReloadAsked => info!(log, "reload asked for"),
        Note::ReloadQueued => info!(log, "reload queued"),
        Note::RollbackAsked(generation) => info!(log, "rollback asked for"; "generation" => generation.0),
        Note::Refused(why) => warn!(log, "signal not obeyed"; "reason" => why),
        Note::UpgradeAsked => info!(log, "upgrade asked for"),
        Note::UpgradeFailed(why) => error!(log, "upgrade failed"; "reason" => why),
        Note::Upgraded => info!(log, "upgraded"; "version" => env!("CARGO_PKG_VERSION")),
        Note::Booting(generation) => info!(log, "generation booting"; "generation" => generation.0),
        Note::BootHangs(worker, stacks) => {
            error!(log, "worker hangs in its boot";
                "generation" => worker.generation.0, "slot" => worker.slot, "pid" => pid(worker), "stacks" => stacks);
        }
        // The template has said why.
        Note::Loaded(_, Loaded { failed: true, .. }) => {}
        Note::Loaded(generation, loaded) => {
            info!(log, #ROUTINE, "application imported";
                "generation" => generation.0, "python" => &loaded.python, "executable" => &loaded.executable,
                "preloaded" => loaded.preloaded, "took" => seconds(loaded.import));
            for leftover in loaded.unsafe_to_fork.iter().take(MOST_LEFTOVERS) {
                warn!(log, "not preloaded"; "generation" => generation.0, "reason" => leftover);
            }
        }
        Note::WorkerReady { worker, took } => {
            info!(log, #ROUTINE, "worker ready";
                "generation" => worker.generation.0, "slot" => worker.slot, "pid" => pid(worker), "took" => seconds(*took));
        }
        Note::SmokeTested(generation, tests) => {
            info!(log, "smoke tests passed"; "generation" => generation.0, "tests" => tests);
        }
        Note::CanaryWaits(generation, serving) => {
            info!(log, "canary waits"; "generation" => generation.0, "for" => format!("the end of the watch of generation {serving}"));
        }
        Note::SuspectBooted(generation) => {
            warn!(log, "release booted again"; "generation" => generation.0,
                "reason" => "no worker and no template of the generation before is left, and the release on disk was found worse or called off");
        }
        Note::Canary { generation, workers, of, time } => {
            info!(log, "canary serving"; "generation" => generation.0, "workers" => workers, "of" => of,
                "for" => if time.is_zero() { "as long as nobody promotes it".to_owned() } else { format!("{} s", time.as_secs()) });
        }
        Note::Promoted(generation, workers, told) => {
            info!(log, "canary promoted"; "generation" => generation.0, "workers" => workers, "figures" => told.as_deref());
        }
        Note::Watched(generation, told) => {
            info!(log, "generation watched"; "generation" => generation.0, "figures" => told.as_deref());
        }
        Note::NotWatched(generation, why) => {
            warn!(log, "generation not watched"; "generation" => generation.0, "reason" => why);
        }
        Note::Stays(generation, failure) => {
            error!(log, "could not go back"; "generation" => generation.0, Reason(failure));
        }
        Note::WentBack { from, to, failure } => {
            error!(log, "went back"; "from" => from.0, "to" => to.0, Reason(failure));
        }
        Note::TakenBack(generation, failure) if failure.exit == Exit::Refused => {
            info!(log, "canary taken back"; "generation" => generation.0, Reason(failure));
        }
        Note::TakenBack(generation, failure) => {
            error!(log, "canary taken back"; "generation" => generation.0, Reason(failure));
        }
        Note::Serving(generation, workers) => {
            info!(log, "generation serving"; "generation" => generation.0, "workers" => workers);
        }
        Note::Draining(generation) => info!(log, #ROUTINE, "generation draining"; "generation" => generation.0),
        Note::Kept(generation) => {
            info!(log, #ROUTINE, "generation kept"; "generation" => generation.0, "for" => "rollback")
        }
        Note::Gone(generation) => info!(log, #ROUTINE, "generation gone"; "generation" => generation.0),
        Note::Discarded(generation, failure) if failure.exit == Exit::Refused => {
            info!(log, "generation discarded"; "generation" => generation.0, Reason(failure));
        }
        Note::Discarded(generation, failure) => {
            error!(log, "generation discarded"; "generation" => generation.0, Reason(failure));
        }
        Note::Replacing(worker, why) => {
            info!(log, "worker replaced";
                "generation" => worker.generation.0, "slot" => worker.slot, "pid" => pid(worker), "reason" => %why, HowMuch(*why));
        }
        Note::WorkerLost { worker, exit, uptime, retry } => {
            let retry = retry.map_or_else(|| "no".to_owned(), |pause| format!("{:.3}", pause.as_secs_f64()));
            error!(log, "worker lost";
                "generation" => worker.generation.0, "slot" => worker.slot, "pid" => pid(worker), "exit" => format!("{exit}{hint}"),
                "uptime" => seconds(*uptime), "requests" => requests(scoreboard, worker), "queued" => queued(scoreboard, worker),
                "retry" => retry);
        }
        Note::WorkerDistrusted(worker, why) => {
            error!(log, "worker distrusted";
                "generation" => worker.generation.0, "slot" => worker.slot, "pid" => pid(worker), "reason" => why,
                "then" => "its channel is closed, and it is replaced");
        }
        Note::TemplateDistrusted(generation, why) => {
            error!(log, "template distrusted"; "generation" => generation.0, "reason" => why, "then" => "its channel is closed");
        }
        Note::WorkerFailed(worker, failure) => {
            error!(log, "worker could not boot";
                "generation" => worker.generation.0, "slot" => worker.slot, "pid" => pid(worker), Reason(failure));
        }
        Note::WorkerDrained(worker) => {
            info!(log, #ROUTINE, "worker drained"; "generation" => worker.generation.0, "slot" => worker.slot, "pid" => pid(worker));
        }
        Note::Straggler(worker, late) => {
            let because = match late {
                Late::Boot => "not ready within boot-timeout",
                Late::Drain => "not drained within graceful-timeout",
                Late::Closed => "its channel is closed",
                Late::Turn => "no progress within timeout",
                Late::Stopped => "stopped by a signal for longer than timeout",
            };
            error!(log, "worker killed";
                "generation" => worker.generation.0, "slot" => worker.slot, "pid" => pid(worker), "reason" => because,
                "state" => doing(scoreboard, worker), "requests" => requests(scoreboard, worker), "queued" => queued(scoreboard, worker));
        }
        Note::Stopped(worker, true) => {
            warn!(log, "worker stopped by a signal";
                "generation" => worker.generation.0, "slot" => worker.slot, "pid" => pid(worker),
                "requests" => requests(scoreboard, worker));
        }
        Note::Stopped(worker, false) => {
            warn!(log, "worker continued"; "generation" => worker.generation.0, "slot" => worker.slot, "pid" => pid(worker));
        }
        Note::TemplateStopped(generation, true) => {
            warn!(log, "template stopped by a signal"; "generation" => generation.0);
        }
        Note::TemplateStopped(generation, false) => warn!(log, "template continued"; "generation" => generation.0),
        Note::TemplateLate(generation) => {
            error!(log, "template killed"; "generation" => generation.0, "reason" => "it did not fork in time");
        }
        Note::ForkFailed(generation, why) => error!(log, "fork failed"; "generation" => generation.0, "reason" => why),
        Note::TemplateLost(generation, exit, then) => {
            error!(log, "template lost"; "generation" => generation.0, "exit" => format!("{exit}{hint}"), "then" => then);
        }
        Note::Reforked { generation, pid, times } => {
            info!(log, "template reforked"; "generation" => generation.0, "pid" => pid, "times" => times);
        }
        Note::Warming(worker) => {
            info!(log, "worker warms"; "generation" => worker.generation.0, "slot" => worker.slot, "pid" => pid(worker));
        }
        Note::NotReforked(generation, why) => {
            warn!(log, "not reforked"; "generation" => generation.0, "reason" => why, "then" => "the template stays as it is");
        }
        Note::Scaled { workers, range, load } => {
            info!(log, "scaled"; "workers" => workers, "range" => range.map(|range| range.to_string()), "reason" => load.as_ref().map(|(_, why)| why));
        }
        Note::Stopping(how) => {
            let how = match how {
                Stop::Graceful => "graceful",
                Stop::Quick => "quick",
                Stop::Kill => "kill",
            };
            info!(log, "stopping"; "how" => how);
        }
        Note::LeftBehind(pids) => crit!(log, "processes left behind"; "pids" => format!("{pids:?}")),
    }
}

/// A failure's reason, and its traceback if there is one.
struct Reason<'a>(&'a Failure);

impl KV for Reason<'_> {
    fn serialize(&self, _: &Record, into: &mut dyn Serializer) -> slog::Result {
        into.emit_str("reason", &self.0.message)?;
        if self.0.traceback.is_empty() { Ok(()) } else { into.emit_str("traceback", &self.0.traceback) }
    }
}

/// How much of what limit a worker has, where that is why it is replaced.
struct HowMuch(Why);

impl KV for HowMuch {
    fn serialize(&self, _: &Record, into: &mut dyn Serializer) -> slog::Result {
        let Why::Asked(Recycle::Memory { held, limit }) = self.0 else { return Ok(()) };
        // slog gives the last first.
        into.emit_str("of", &megabytes(limit))?;
        into.emit_str("held", &megabytes(held))
    }
}

fn megabytes(bytes: u64) -> String {
    format!("{:.1}M", bytes as f64 / f64::from(1 << 20))
}

fn seconds(duration: Duration) -> String {
    format!("{:.3}", duration.as_secs_f64())
}

fn pid(worker: &WorkerName) -> i32 {
    worker.pid.unwrap_or(0)
}

/// The worker's own word on its state.
fn doing(scoreboard: Option<&Scoreboard>, worker: &WorkerName) -> String {
    let known = scoreboard.filter(|scoreboard| worker.slot < scoreboard.slots());
    known.map_or_else(
        || "unknown".into(),
        |scoreboard| format!("{:?}", scoreboard.slot(worker.slot).state()).to_lowercase(),
    )
}

/// The requests that a worker was called for, with their ages.
fn requests(scoreboard: Option<&Scoreboard>, worker: &WorkerName) -> String {
    let Some(scoreboard) = of(scoreboard, worker) else { return "none".into() };
    let held = listed((0..scoreboard.threads()).map(|thread| scoreboard.activity(worker.slot, thread)));
    if held.is_empty() { "none".into() } else { held.join(", ") }
}

/// How many requests waited in a worker, and the oldest of them.
fn queued(scoreboard: Option<&Scoreboard>, worker: &WorkerName) -> String {
    let Some(scoreboard) = of(scoreboard, worker) else { return "0".into() };
    let count = scoreboard.slot(worker.slot).queued.load(Relaxed);
    let oldest = listed((0..QUEUE_SHOWN).map(|place| scoreboard.waiting(worker.slot, place)));
    if oldest.is_empty() { count.to_string() } else { format!("{count}: {}", oldest.join(", ")) }
}

fn of<'a>(scoreboard: Option<&'a Scoreboard>, worker: &WorkerName) -> Option<&'a Scoreboard> {
    scoreboard.filter(|scoreboard| worker.slot < scoreboard.slots())
}

fn listed<'a>(activities: impl Iterator<Item = &'a Activity>) -> Vec<String> {
    let shown = |underway: Underway| {
        let age = Moment::now() - Moment(underway.started);
        format!("{} ({:.3} s)", underway.told(), age.as_secs_f64())
    };
    activities.filter_map(Activity::current).map(shown).collect()
}

/// What a worker was called for, if it was: the first of it.
pub fn called(scoreboard: Option<&Scoreboard>, worker: &WorkerName) -> Option<String> {
    let scoreboard = of(scoreboard, worker)?;
    let mut held = (0..scoreboard.threads()).filter_map(|thread| scoreboard.activity(worker.slot, thread).current());
    held.next().map(|underway| underway.told())
}
