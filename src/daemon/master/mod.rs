//! The master's loop: signals, messages and time become events; what state.rs makes of them, perform.rs does.

use std::collections::VecDeque;

use nix::{
    errno::Errno,
    poll::{PollFd, PollFlags, PollTimeout, poll},
    sys::signal::Signal,
};
use slog::error;
use std::os::fd::AsFd;

use self::{
    event::{Event, Moment, Number, Stop},
    perform::Performer,
    state::State,
};
use crate::{
    exit::{self, Exit, words},
    listen::Listeners,
    settings::Settings,
    sys::{descriptors, process, signals::Signals},
};

pub mod event;
mod generation;
mod notes;
mod perform;
mod slots;
mod state;

/// Runs until it is told to stop, or the first generation could not boot. Called while the process has one thread.
pub fn run(settings: Settings, reread: &dyn Fn() -> Result<Settings, exit::Failure>) -> Result<Exit, exit::Failure> {
    let system =
        |error: std::io::Error| exit::Failure::new(Exit::System, format!("could not start: {}", words(&error)));
    let mut listeners = Listeners::default();
    listeners.adopt(&settings)?;
    descriptors::reserve_channel_place().map_err(system)?;
    let signals = Signals::collect().map_err(system)?;
    process::adopt_orphans().map_err(system)?;
    process::raise_descriptor_limit().map_err(system)?;
    let daemon = settings.daemon;
    let performer = Performer::new(settings, listeners, reread)?;
    let mut master = Master { state: State::new(), performer, signals, daemon };
    master.handle(Event::Start);
    Ok(master.turn())
}

struct Master<'a> {
    state: State,
    performer: Performer<'a>,
    signals: Signals,
    /// `--daemon`: WINCH means something.
    daemon: bool,
}

/// Whose descriptor is readable.
#[derive(Clone, Copy)]
enum Source {
    Signals,
    Template(Number),
    Worker(Number, u16),
}

impl Master<'_> {
    fn turn(mut self) -> Exit {
        loop {
            if let Some(result) = self.performer.ended.take() {
                return result.map_or_else(|failure| failure.exit, |()| Exit::Success);
            }
            for source in self.wait() {
                match source {
                    Source::Signals => self.take_signals(),
                    Source::Template(generation) => self.hear_template(generation),
                    Source::Worker(generation, slot) => self.hear_worker(generation, slot),
                }
            }
            self.performer.notify.alive(Moment::now());
            self.handle(Event::Tick);
        }
    }

    /// Waits until something happens or becomes due.
    fn wait(&self) -> Vec<Source> {
        let mut sources = vec![Source::Signals];
        let mut polled = vec![PollFd::new(self.signals.as_fd(), PollFlags::POLLIN)];
        for (&number, team) in &self.performer.teams {
            sources.extend(team.template.as_ref().map(|_| Source::Template(number)));
            polled.extend(team.template.as_ref().map(|channel| PollFd::new(channel.as_fd(), PollFlags::POLLIN)));
            sources.extend(team.workers.keys().map(|&slot| Source::Worker(number, slot)));
            polled.extend(team.workers.values().map(|channel| PollFd::new(channel.as_fd(), PollFlags::POLLIN)));
        }
        match poll(&mut polled, self.timeout()) {
            Ok(_) => {}
            Err(Errno::EINTR) => return Vec::new(),
            Err(error) => error!(self.performer.log, "poll failed"; "reason" => error.desc()),
        }
        let ready = polled.iter().map(|fd| fd.any().unwrap_or(true));
        sources.into_iter().zip(ready).filter_map(|(source, ready)| ready.then_some(source)).collect()
    }

    fn timeout(&self) -> PollTimeout {
        let now = Moment::now();
        let deadline = [self.state.deadline(now), self.performer.notify.deadline()].into_iter().flatten().min();
        match deadline {
            None => PollTimeout::NONE,
            Some(deadline) => PollTimeout::try_from(deadline - now).unwrap_or(PollTimeout::MAX),
        }
    }

    /// One event, and what its actions bring about at once.
    fn handle(&mut self, event: Event) {
        let mut events = VecDeque::from([event]);
        while let Some(event) = events.pop_front() {
            for action in self.state.handle(event, Moment::now()) {
                events.extend(self.performer.perform(action));
            }
        }
    }

    fn take_signals(&mut self) {
        loop {
            match self.signals.next() {
                Ok(Some(Signal::SIGCHLD)) => self.bury_children(),
                Ok(Some(signal)) => self.obey(signal),
                Ok(None) => return,
                Err(error) => return error!(self.performer.log, "signals not read"; "reason" => words(&error)),
            }
        }
    }

    fn obey(&mut self, signal: Signal) {
        match signal {
            Signal::SIGTERM => self.handle(Event::Stop(Stop::Graceful, None)),
            Signal::SIGINT | Signal::SIGQUIT => self.handle(Event::Stop(Stop::Quick, None)),
            Signal::SIGHUP => self.handle(Event::Reload(None)),
            Signal::SIGUSR1 => self.reopen_logs(),
            Signal::SIGUSR2 => self.handle(Event::Upgrade(None)),
            Signal::SIGTTIN => self.handle(Event::Scale(1, None)),
            Signal::SIGTTOU => self.handle(Event::Scale(-1, None)),
            Signal::SIGWINCH if self.daemon => self.handle(Event::Rest),
            _ => {}
        }
    }

    fn reopen_logs(&mut self) {
        let serving = self.state.serving().map(|generation| generation.number);
        if let Err(why) = self.performer.reopen_logs(serving) {
            error!(self.performer.log, "logs not reopened"; "reason" => %why);
        }
    }

    /// What the dead have said before they died comes first.
    fn bury_children(&mut self) {
        let numbers: Vec<Number> = self.performer.teams.keys().copied().collect();
        for number in numbers {
            self.hear_template(number);
            let team = self.performer.teams.get(&number);
            let slots: Vec<u16> = team.map(|team| team.workers.keys().copied().collect()).unwrap_or_default();
            for slot in slots {
                self.hear_worker(number, slot);
            }
        }
        while let Some((pid, exit)) = process::reap() {
            self.handle(Event::Exited { pid, exit });
        }
    }

    fn hear_template(&mut self, generation: Number) {
        while let Some(event) = self.performer.hear_template(generation) {
            self.handle(event);
        }
    }

    fn hear_worker(&mut self, generation: Number, slot: u16) {
        while let Some(event) = self.performer.hear_worker(generation, slot) {
            self.handle(event);
        }
    }
}

/// Boots a template that imports and reports, and nothing more (`ostler check`).
pub fn check(settings: Settings) -> Exit {
    let _ = settings;
    Exit::Internal
}

/// Sends a command to a running master, and prints what comes of it.
pub fn ask(socket: &std::path::Path, words: &[String]) -> Result<Exit, exit::Failure> {
    let _ = (socket, words);
    Ok(Exit::Internal)
}
