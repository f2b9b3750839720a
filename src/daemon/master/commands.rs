//! What operators ask for, by a signal or by a command at the control socket.

use std::{collections::BTreeMap, io::IsTerminal};

use nix::sys::signal::Signal;
use ostler_wire::log;
use slog::{info, warn};

use super::{
    Master, doctor,
    event::{Event, Reload, Stop},
    perform::Performer,
    slots,
    stacks_request::Asked,
    status::Status,
};
use crate::{
    exit::{Exit, Failure, words},
    resources::control::{Asker, Brought, Change, Command},
    sys::clock::Moment,
};

impl Master<'_> {
    pub(super) fn obey(&mut self, signal: Signal) {
        match signal {
            Signal::SIGTERM => self.handle(Event::Stop(Stop::Graceful, None)),
            Signal::SIGINT | Signal::SIGQUIT => self.handle(Event::Stop(Stop::Quick, None)),
            Signal::SIGHUP => self.handle(Event::Reload(Reload::default())),
            // What comes of it is in the log.
            Signal::SIGUSR1 => drop(self.reopen_logs()),
            Signal::SIGUSR2 => self.handle(Event::Upgrade(None)),
            Signal::SIGTTIN => self.handle(Event::Scale(Change::By(1), None)),
            Signal::SIGTTOU => self.handle(Event::Scale(Change::By(-1), None)),
            Signal::SIGWINCH if self.daemon => self.handle(Event::LetAllGo),
            Signal::SIGWINCH if !log::place().is_terminal() => {
                let why = "it is obeyed only with --daemon";
                info!(self.performer.log, "signal ignored"; "signal" => "WINCH", "reason" => why);
            }
            _ => {}
        }
    }

    pub(super) fn reopen_logs(&mut self) -> Result<(), Failure> {
        let serving = self.state.serving().map(|generation| generation.number);
        self.performer.reopen_logs(serving)
    }

    pub(super) fn take_connection(&mut self) {
        if let Err(error) = self.performer.control.accept() {
            warn!(self.performer.log, "connection to the control socket refused"; "reason" => words(&error));
        }
    }

    pub(super) fn hear_asker(&mut self, asker: Asker) {
        self.performer.control.send(asker);
        match self.performer.control.hear(asker) {
            Brought::Nothing => {}
            Brought::Command(command) => self.obey_command(asker, command),
            Brought::End => drop(self.performer.control.conversations.remove(&asker)),
        }
    }

    pub(super) fn obey_command(&mut self, asker: Asker, command: Command) {
        match command {
            Command::Status => self.ask_for_status(asker),
            Command::Doctor => self.ask_doctor(asker),
            Command::Reload { wait, rollout } => {
                self.handle(Event::Reload(Reload { asker: Some(asker), wait, rollout }))
            }
            Command::Promote => self.handle(Event::Promote(Some(asker))),
            Command::Rollback => self.handle(Event::Rollback(Some(asker))),
            Command::Upgrade => self.handle(Event::Upgrade(Some(asker))),
            Command::Scale(change) => self.handle(Event::Scale(change, Some(asker))),
            Command::Recycle => self.handle(Event::Recycle(Some(asker))),
            Command::Stacks(pid) => self.request_stacks(asker, pid),
            Command::Reopen => {
                let outcome = self.reopen_logs().map(|()| "the log files are open again".to_owned());
                self.performer.control.answer(asker, outcome);
            }
            Command::Stop => self.handle(Event::Stop(Stop::Graceful, Some(asker))),
        }
    }

    /// Answered at once, or when the figures of memory have been read, but not much later.
    pub(super) fn ask_for_status(&mut self, asker: Asker) {
        if let Err(error) = self.performer.sampling.ask(asker, self.state.pids(), Moment::now()) {
            warn!(self.performer.log, "memory not read"; "reason" => words(&error));
        }
        self.answer_status(Moment::now());
    }

    pub(super) fn answer_status(&mut self, now: Moment) {
        for asker in self.performer.sampling.due(now) {
            self.performer.turns.doing("status");
            self.performer.count(&self.state);
            let status = serde_json::to_string_pretty(&Status::gather(&self.state, &self.performer));
            let failed = |error: serde_json::Error| Failure::new(Exit::Internal, error.to_string());
            self.performer.control.answer(asker, status.map_err(failed));
        }
    }

    /// Answered when a child has looked at the machine.
    fn ask_doctor(&mut self, asker: Asker) {
        let generations = self.state.generations();
        let examined = self.state.serving().or(generations.last()).map(|generation| generation.number);
        self.performer.count(&self.state);
        let status = Status::gather(&self.state, &self.performer);
        let Performer { teams, doctor, control, .. } = &mut self.performer;
        let begun = match examined.and_then(|number| teams.get(&number)) {
            Some(team) => doctor.ask(asker, &status, team).map_err(|error| doctor::not_begun(&error)),
            None => Err(Failure::new(Exit::Refused, "no generation is there that could be looked at")),
        };
        if let Err(failure) = begun {
            control.answer(asker, Err(failure));
        }
    }

    /// Every process that still has a channel can be asked.
    pub(super) fn request_stacks(&mut self, asker: Asker, pid: Option<i32>) {
        let mut asked = BTreeMap::new();
        for generation in self.state.generations() {
            let Some(team) = self.performer.teams.get(&generation.number) else { continue };
            if let Some(template) = generation.hearing_template()
                && (pid.is_none() || pid == Some(template))
            {
                asked.insert((generation.number, None), Asked::BySignal(template));
            }
            let wanted = |worker: &&slots::Worker| pid.is_none() || worker.pid == pid;
            for worker in
                generation.slots.iter().filter(wanted).filter(|worker| team.workers.contains_key(&worker.slot))
            {
                let by = if worker.stage == slots::WorkerStage::Booting { Asked::BySignal } else { Asked::ByMessage };
                asked.insert((generation.number, Some(worker.slot)), by(worker.pid.unwrap_or(0)));
            }
        }
        match pid.filter(|_| asked.is_empty()) {
            Some(pid) => {
                let failure = Failure::new(Exit::Refused, format!("no worker or template is process {pid}"));
                self.performer.control.answer(asker, Err(failure));
            }
            None => self.performer.request_stacks(asker, asked),
        }
    }
}
