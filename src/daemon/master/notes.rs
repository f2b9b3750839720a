//! What the log is told: a stable phrase for each note, and its keys.

use std::sync::atomic::Ordering::Relaxed;

use ostler_wire::{
    Recycle,
    scoreboard::{Activity, QUEUE_SHOWN, Scoreboard},
};
use slog::{KV, Logger, Record, Serializer, crit, error, info, warn};

use super::event::{Failure, Late, Moment, Note, Stop, Why as ReplacedFor, WorkerName};

/// A template may say that its import left more behind than anybody wants to read.
const MOST_LEFTOVERS: usize = 32;

/// Writes one note. `scoreboard` is that of the worker in question, if the note is about one; `hint` stands behind how a
/// process ended.
pub fn write(log: &Logger, note: &Note, scoreboard: Option<&Scoreboard>, hint: &str) {
    match note {
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
        Note::Loaded(generation, loaded) => {
            info!(log, "application imported";
                "generation" => generation.0, "python" => &loaded.python, "executable" => &loaded.executable,
                "preloaded" => loaded.preloaded, "took" => seconds(loaded.import));
            for leftover in loaded.unsafe_to_fork.iter().take(MOST_LEFTOVERS) {
                warn!(log, "not preloaded"; "generation" => generation.0, "because" => leftover);
            }
        }
        Note::WorkerReady { worker, took } => {
            info!(log, "worker ready";
                "generation" => worker.generation.0, "slot" => worker.slot, "pid" => pid(worker), "took" => seconds(*took));
        }
        Note::Serving(generation, workers) => {
            info!(log, "generation serving"; "generation" => generation.0, "workers" => workers);
        }
        Note::Draining(generation) => info!(log, "generation draining"; "generation" => generation.0),
        Note::Kept(generation) => info!(log, "generation kept"; "generation" => generation.0, "for" => "rollback"),
        Note::Gone(generation) => info!(log, "generation gone"; "generation" => generation.0),
        Note::Discarded(generation, failure) => {
            error!(log, "generation discarded"; "generation" => generation.0, Why(failure));
        }
        Note::Replacing(worker, why) => {
            info!(log, "worker replaced";
                "generation" => worker.generation.0, "slot" => worker.slot, "pid" => pid(worker), "because" => %why, HowMuch(*why));
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
                "generation" => worker.generation.0, "slot" => worker.slot, "pid" => pid(worker), Why(failure));
        }
        Note::WorkerDrained(worker) => {
            info!(log, "worker drained"; "generation" => worker.generation.0, "slot" => worker.slot, "pid" => pid(worker));
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
                "generation" => worker.generation.0, "slot" => worker.slot, "pid" => pid(worker), "because" => because,
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
            error!(log, "template killed"; "generation" => generation.0, "because" => "it did not fork in time");
        }
        Note::ForkFailed(generation, why) => error!(log, "fork failed"; "generation" => generation.0, "reason" => why),
        Note::TemplateLost(generation, exit) => {
            error!(log, "template lost"; "generation" => generation.0, "exit" => format!("{exit}{hint}"), "then" => "a new generation boots");
        }
        Note::Scaled(workers) => info!(log, "scaled"; "workers" => workers),
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
struct Why<'a>(&'a Failure);

impl KV for Why<'_> {
    fn serialize(&self, _: &Record, into: &mut dyn Serializer) -> slog::Result {
        into.emit_str("reason", &self.0.message)?;
        if self.0.traceback.is_empty() { Ok(()) } else { into.emit_str("traceback", &self.0.traceback) }
    }
}

/// How much of what limit a worker has, where that is why it is replaced.
struct HowMuch(ReplacedFor);

impl KV for HowMuch {
    fn serialize(&self, _: &Record, into: &mut dyn Serializer) -> slog::Result {
        let ReplacedFor::Asked(Recycle::Memory { held, limit }) = self.0 else { return Ok(()) };
        // slog gives the last first.
        into.emit_str("of", &megabytes(limit))?;
        into.emit_str("held", &megabytes(held))
    }
}

fn megabytes(bytes: u64) -> String {
    format!("{:.1}M", bytes as f64 / f64::from(1 << 20))
}

fn seconds(duration: std::time::Duration) -> String {
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
    let shown = |(line, started): (Vec<u8>, u64)| {
        let age = Moment::now() - Moment(started);
        format!("{} ({:.3} s)", String::from_utf8_lossy(&line), age.as_secs_f64())
    };
    activities.filter_map(Activity::current).map(shown).collect()
}

/// What a worker was called for, if it was: the first of it.
pub fn called(scoreboard: Option<&Scoreboard>, worker: &WorkerName) -> Option<String> {
    let scoreboard = of(scoreboard, worker)?;
    let lines = (0..scoreboard.threads()).filter_map(|thread| scoreboard.activity(worker.slot, thread).current());
    lines.map(|(line, _)| String::from_utf8_lossy(&line).into_owned()).next()
}
