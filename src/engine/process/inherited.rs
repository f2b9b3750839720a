//! What the master gave the template, and its workers inherit: the settings of the generation, and descriptors.

use std::{
    io,
    os::fd::{AsFd, AsRawFd, OwnedFd, RawFd},
    sync::{Arc, OnceLock},
};

use ostler_wire::{
    Boot, BootFailure, BootFailureKind, Channel, ToTemplate, VERSION,
    log::{self, ErrorLog, Process},
    scoreboard::Scoreboard,
};
use pyo3::Python;
use slog::{Level, Logger};

use super::{fork, hooks};

/// The settings of a generation, and the descriptors that its workers use.
pub struct Inherited {
    pub boot: Boot,
    pub scoreboard: Arc<Scoreboard>,
    pub exchange_give: OwnedFd,
    pub exchange_take: OwnedFd,
    pub access_log: Option<OwnedFd>,
    pub listeners: Vec<OwnedFd>,
    /// That of the template. A worker lets go of it.
    log: OnceLock<ErrorLog>,
}

impl Inherited {
    /// Waits for the master's first message.
    pub fn receive(py: Python<'_>, channel: &Channel) -> Result<Inherited, BootFailure> {
        match channel.receive() {
            Ok(Some((ToTemplate::Hooks(boot), _))) => hooks::serve(py, channel, *boot),
            Ok(Some((ToTemplate::Boot(boot), descriptors))) => Inherited::new(*boot, descriptors),
            Ok(Some(_)) => Err(broken("boot", &io::Error::other("the first message was another"))),
            Ok(None) => fork::exit(0),
            Err(error) if error.kind() == io::ErrorKind::InvalidData => Err(another_release(&error.to_string())),
            Err(error) => Err(broken("understand the master", &error)),
        }
    }

    pub fn new(boot: Boot, descriptors: Vec<OwnedFd>) -> Result<Inherited, BootFailure> {
        if boot.wire != VERSION {
            let why = format!("the master speaks version {}, this engine {VERSION}", boot.wire);
            return Err(another_release(&why));
        }
        let mut descriptors = descriptors.into_iter();
        let mut next =
            || descriptors.next().ok_or_else(|| broken("boot", &io::Error::other("a descriptor is missing")));
        let scoreboard = Scoreboard::open(next()?, boot.slots, boot.worker.threads)
            .map_err(|error| broken("map the scoreboard", &error))?;
        Ok(Inherited {
            scoreboard: Arc::new(scoreboard),
            exchange_give: next()?,
            exchange_take: next()?,
            access_log: if boot.access_log { Some(next()?) } else { None },
            listeners: boot.listeners.iter().map(|_| next()).collect::<Result<_, _>>()?,
            boot,
            log: OnceLock::new(),
        })
    }

    /// In the order of the message that brought them.
    pub fn descriptors(&self) -> Vec<RawFd> {
        let first = [self.scoreboard.as_fd(), self.exchange_give.as_fd(), self.exchange_take.as_fd()];
        let rest = self.access_log.iter().chain(&self.listeners).map(AsFd::as_fd);
        first.into_iter().chain(rest).map(|descriptor| descriptor.as_raw_fd()).collect()
    }

    /// Replaces the exchange and the listeners, which the master has made anew.
    pub fn renew(&mut self, descriptors: Vec<OwnedFd>) {
        let mut descriptors = descriptors.into_iter();
        if let (Some(give), Some(take)) = (descriptors.next(), descriptors.next()) {
            (self.exchange_give, self.exchange_take) = (give, take);
            self.listeners = descriptors.collect();
        }
    }

    /// The log of the template.
    pub fn template_log(&self) -> &ErrorLog {
        self.log.get_or_init(|| error_log(Process::Template(Some(self.boot.generation)), &self.boot))
    }

    pub fn template_logger(&self) -> Logger {
        self.template_log().logger()
    }

    /// The log of a worker, which takes the place of its template's.
    pub fn worker_log(&mut self, slot: u16) -> ErrorLog {
        self.log.take();
        error_log(Process::Worker(self.boot.generation, slot), &self.boot)
    }
}

/// The log of a process, as the settings have it.
pub fn error_log(process: Process, boot: &Boot) -> ErrorLog {
    ErrorLog::new(process, log::level(&boot.log_level).unwrap_or(Level::Info), &boot.logging)
}

/// The engine and the master do not understand each other.
fn another_release(why: &str) -> BootFailure {
    let message = format!(
        "the engine is of another release than ostler: {why}. Install both from one, and say `ostler upgrade` where a \
         site runs."
    );
    BootFailure::new(BootFailureKind::Interpreter, &message, "")
}

/// A failure of the template itself, not of the application.
pub fn broken(what: &str, error: &io::Error) -> BootFailure {
    let message = format!("the template could not {what}: {error}");
    BootFailure::new(BootFailureKind::Interpreter, &message, "")
}
