//! The log files of a generation: opened for appending, by the master only, and handed to everybody else as descriptors.

use std::{
    fs::OpenOptions,
    os::fd::{AsFd, BorrowedFd, OwnedFd},
};

use nix::fcntl::OFlag;

use crate::{
    exit::{Exit, Failure, words},
    names::Place,
    settings::{LogTarget, Settings},
    sys::descriptors,
};

/// What the master was started with; `-` means these for as long as it lives.
#[derive(Debug)]
pub struct Standard {
    /// Standard output.
    pub output: OwnedFd,
    /// Standard error, before a log file took its place.
    pub error: OwnedFd,
}

/// A generation's error and access log.
#[derive(Debug)]
pub struct Logs {
    /// Where the error log goes.
    pub error_target: LogTarget,
    /// Where the access log goes.
    pub access_target: Option<LogTarget>,
    error: OwnedFd,
    access: Option<OwnedFd>,
}

impl Standard {
    /// Copies of the descriptors 1 and 2; of /dev/null where they are closed.
    pub fn remember() -> std::io::Result<Standard> {
        let null = || OpenOptions::new().write(true).open("/dev/null").map(OwnedFd::from);
        let copy = |number| descriptors::inherited(number).or_else(|_| null());
        Ok(Standard { output: copy(1)?, error: copy(2)? })
    }
}

impl Logs {
    /// Opens both.
    pub fn open(settings: &Settings, standard: &Standard) -> Result<Logs, Failure> {
        Logs::open_targets(settings.error_log.clone(), settings.access_log.clone(), standard)
    }

    /// Takes both back after an upgrade.
    pub fn reclaimed(
        error_target: LogTarget,
        access_target: Option<LogTarget>,
        error: OwnedFd,
        access: Option<OwnedFd>,
    ) -> Logs {
        Logs { error_target, access_target, error, access }
    }

    /// Opens the same paths afresh: somebody has moved the files.
    pub fn reopened(&self, standard: &Standard) -> Result<Logs, Failure> {
        Logs::open_targets(self.error_target.clone(), self.access_target.clone(), standard)
    }

    fn open_targets(
        error_target: LogTarget,
        access_target: Option<LogTarget>,
        standard: &Standard,
    ) -> Result<Logs, Failure> {
        let error = open(&error_target, standard.error.as_fd(), "error log")?;
        let access = match &access_target {
            Some(target) => Some(open(target, standard.output.as_fd(), "access log")?),
            None => None,
        };
        Ok(Logs { error_target, access_target, error, access })
    }

    /// The error log.
    pub fn error(&self) -> BorrowedFd<'_> {
        self.error.as_fd()
    }

    /// The access log.
    pub fn access(&self) -> Option<BorrowedFd<'_>> {
        self.access.as_ref().map(OwnedFd::as_fd)
    }

    /// Both, as [`ostler_wire::ToWorker::Reopen`] carries them.
    pub fn both(&self) -> Vec<BorrowedFd<'_>> {
        std::iter::once(self.error()).chain(self.access()).collect()
    }
}

fn open(target: &LogTarget, standard: BorrowedFd, what: &str) -> Result<OwnedFd, Failure> {
    let append = OFlag::O_WRONLY | OFlag::O_APPEND | OFlag::O_CREAT;
    let opened = match target {
        LogTarget::Standard => standard.try_clone_to_owned().map_err(|error| words(&error)),
        LogTarget::File(path) => Place::of(path).and_then(|place| place.open(append, 0o666)).map(OwnedFd::from),
    };
    opened.map_err(|why| {
        let what = match target {
            LogTarget::Standard => what.to_owned(),
            LogTarget::File(path) => format!("{what} {}", path.display()),
        };
        Failure::new(Exit::System, format!("could not open the {what}: {why}"))
    })
}
