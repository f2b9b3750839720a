//! What the log is told, and systemd, and who opens the log afresh.

use std::os::fd::AsFd;

use ostler_wire::{self as wire, Recycle, ToTemplate, ToWorker, counters::part, sink};
use slog::{Level, error, info};

use super::{Performer, system};
use crate::{
    exit::{Exit, Failure, words},
    master::{
        event::Number,
        notes::{self, Direction, Late, Note, Why},
        slots::Worker,
        state::State,
        statsd::{self, Statsd},
    },
    sys::{clock::Moment, diag},
};

impl Performer<'_> {
    /// Makes a generation's error log and level the master's own.
    pub fn use_log_of(&mut self, generation: Number) {
        let Some(team) = self.teams.get(&generation) else { return };
        if let Err(error) = wire::log::replace(team.logs.error(), &[2]) {
            error!(self.log, "log not replaced"; "reason" => words(&error));
        }
        let logger =
            wire::log::logger(wire::log::Process::Master, team.settings.log_level(), &team.settings.boot.logging);
        self.log = self.events.along(logger);
    }

    /// Makes a generation's statsd the master's own.
    pub fn use_statsd_of(&mut self, generation: Number) {
        let settings = self.teams.get(&generation).and_then(|team| team.settings.statsd.clone());
        self.statsd = Statsd::next(self.statsd.take(), settings, &self.totals);
    }

    /// Tells it what has been counted.
    pub fn tell_statsd(&mut self, state: &State) {
        let Some(mut statsd) = self.statsd.take() else { return };
        self.count(state);
        let queues = self.listeners.iter().filter_map(|bound| diag::queue(bound.socket.as_fd()));
        let now = statsd::Now {
            workers: state.serving().into_iter().chain(state.canary()).map(|one| one.slots.count(Worker::serves)).sum(),
            backlog: queues.map(|(waiting, _)| u64::from(waiting)).sum(),
        };
        statsd.send(&self.totals, now, Moment::now(), &self.log);
        self.statsd = Some(statsd);
    }

    pub(super) fn note(&mut self, note: &Note) {
        if matches!(note, Note::Stopping(_)) {
            // A process that a signal has stopped would not hear that the master stops.
            self.children.values().for_each(|child| drop(child.signal(nix::libc::SIGCONT)));
        }
        match note {
            Note::ReloadAsked | Note::RollbackAsked(_) | Note::UpgradeAsked => self.notify.reloading(),
            Note::Stopping(_) => self.notify.stopping(),
            Note::Discarded(number, failure) => {
                self.notify.not_reloaded(&format!("generation {number} was discarded: {}", failure.message));
            }
            Note::Canary { .. } => self.notify.ready(),
            Note::TakenBack(number, failure) => {
                self.notify.taken_back(&format!("generation {number} was taken back: {}", failure.message));
            }
            Note::UpgradeFailed(why) => self.notify.not_reloaded(&format!("upgrade failed: {why}")),
            _ => {}
        }
        if let Note::Scaled { workers: count, .. } = note
            && let Some(hooks) = &mut self.hooks
        {
            hooks.count_is(*count, &self.log);
        }
        let cause = match note {
            Note::Replacing(_, why) => Some(why.to_string()),
            Note::WorkerLost { exit, .. } => Some(exit.to_string()),
            Note::Straggler(_, Late::Boot) => Some("boot-timeout".to_owned()),
            Note::Straggler(_, Late::Closed) => Some("closed channel".to_owned()),
            Note::Straggler(_, Late::Turn) => Some("no progress".to_owned()),
            Note::Straggler(_, Late::Stopped) => Some("stopped by a signal".to_owned()),
            _ => None,
        };
        if let Some(cause) = cause {
            *self.restarts.entry(cause).or_default() += 1;
        }
        // The first generation comes to serve once by the start, and again by roll-backs alone.
        let was_rolled_back = self.totals.of(&part("rollbacks", &[])) > 0;
        let outcome = match note {
            Note::Serving(number, _) if *number > Number(1) || was_rolled_back => Some("success"),
            Note::Discarded(Number(2..), why) | Note::TakenBack(_, why) if why.exit != Exit::Refused => Some("failure"),
            Note::WentBack { .. } => Some("failure"),
            _ => None,
        };
        if let Some(outcome) = outcome {
            *self.reloads.entry(outcome.into()).or_default() += 1;
            let now = std::time::UNIX_EPOCH.elapsed().unwrap_or_default();
            self.last_reloads.insert(outcome.into(), now.as_micros() as u64);
        }
        match note {
            Note::Scaled { load: Some((direction, _)), .. } => {
                let direction = if *direction == Direction::Up { "up" } else { "down" };
                self.totals.add(&part("scalings", &[direction]), 1);
            }
            Note::RollbackAsked(_) => self.totals.add(&part("rollbacks", &[]), 1),
            Note::Reforked { .. } => self.totals.add(&part("reforks", &["success"]), 1),
            Note::NotReforked(..) => self.totals.add(&part("reforks", &["failure"]), 1),
            Note::Upgraded => self.totals.add(&part("upgrades", &["success"]), 1),
            Note::UpgradeFailed(_) => self.totals.add(&part("upgrades", &["failure"]), 1),
            _ => {}
        }
        let worker = match note {
            Note::WorkerLost { worker, .. } | Note::Straggler(worker, _) | Note::Stopped(worker, _) => {
                Some(worker.generation)
            }
            _ => None,
        };
        match note {
            Note::WorkerLost { worker, .. } => {
                if let Some(team) = self.teams.get_mut(&worker.generation) {
                    team.crashes.count += 1;
                    team.crashes.last = notes::called(Some(&team.scoreboard), worker);
                }
            }
            Note::Replacing(worker, Why::Asked(Recycle::Timeout)) | Note::Straggler(worker, Late::Turn) => {
                self.teams.entry(worker.generation).and_modify(|team| team.timeouts += 1);
            }
            Note::Canary { .. } => self.canary_begins(),
            _ => {}
        }
        let scoreboard = worker.and_then(|generation| Some(&self.teams.get(&generation)?.scoreboard));
        let hint = match note {
            Note::WorkerLost { exit, .. } | Note::TemplateLost(_, exit, _) => self.oom_kills.explain(*exit),
            _ => String::new(),
        };
        notes::write(&self.log, note, scoreboard, &hint);
    }

    /// Workers of the generation that serves show what has failed, those that it will have, too.
    pub(super) fn show(&mut self, generation: Number, failure: Failure) {
        let Some(team) = self.teams.get_mut(&generation).filter(|team| team.settings.boot.reload.is_some()) else {
            return;
        };
        let slots: Vec<u16> = team.workers.keys().copied().collect();
        let shown = ToWorker::Show(Box::new(failure.into()));
        for &slot in &slots {
            self.tell(generation, slot, &shown);
        }
        self.teams.entry(generation).and_modify(|team| team.failed_code = Some(shown));
    }

    pub(super) fn admit(&mut self, generation: Number, slot: u16) {
        self.tell(generation, slot, &ToWorker::Serve);
        if let Some(shown) = self.teams.get(&generation).and_then(|team| team.failed_code.clone()) {
            self.tell(generation, slot, &shown);
        }
    }

    /// A first start that fails says why where it was started, too, if the log is elsewhere.
    pub(super) fn tell_who_started(&self, failure: &Failure) {
        let terminal = self.standard.error.as_fd();
        if !wire::log::is_at(terminal) && wire::log::entry(terminal, Level::Error, &failure.to_string()).is_none() {
            sink::write(terminal, sink::FileKind::of(terminal), format!("ostler: {failure}\n").as_bytes());
        }
    }

    /// The log files were moved: opens them afresh, and hands them to everybody. Fails if one stays as it was.
    pub fn reopen_logs(&mut self, serving: Option<Number>) -> Result<(), Failure> {
        let mut outcome = Ok(());
        for (number, team) in &mut self.teams {
            outcome = outcome.and(team.logs.reopen(&self.standard));
            let carried = team.logs.both();
            for line in team.workers.values_mut() {
                let _ = line.send(&ToWorker::Reopen, &carried);
            }
            for template in team.template.iter_mut().chain(&mut team.beside) {
                let _ = template.send(&ToTemplate::Reopen, &carried);
            }
            if let Some(hooks) = self.hooks.as_mut().filter(|_| Some(*number) == serving) {
                hooks.reopen(&team.logs);
            }
            if Some(*number) == serving
                && let Err(error) = wire::log::replace(team.logs.error(), &[2])
            {
                outcome = outcome.and(Err(system("go on in the error log", error)));
            }
        }
        match &outcome {
            Ok(()) => info!(self.log, "logs reopened"),
            Err(why) => error!(self.log, "logs not reopened"; "reason" => %why),
        }
        outcome
    }
}
