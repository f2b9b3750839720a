//! The log files of a generation: opened for appending, by the master only, and handed to everybody else as descriptors.
//! Opening one never waits, whatever lies in its place.

use std::{
    fs::OpenOptions,
    os::fd::{AsFd, BorrowedFd, OwnedFd},
    path::Path,
};

use nix::fcntl::{FcntlArg, OFlag, fcntl};
use ostler_wire::sink::FileKind;

use crate::{
    exit::{Exit, Failure, words},
    settings::{LogTarget, Settings},
    sys::{descriptors, names::Place},
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
        let standard = Standard { output: copy(1)?, error: copy(2)? };
        append(standard.output.as_fd());
        append(standard.error.as_fd());
        Ok(standard)
    }
}

/// Both may lead to one file (`>log 2>&1`), and our logs open it anew, to append. What the application prints is written to the file as it
/// was opened: without this it would overwrite our lines from the place where it was then.
fn append(standard: BorrowedFd) {
    if FileKind::of(standard) == FileKind::File
        && let Ok(flags) = fcntl(standard, FcntlArg::F_GETFL)
    {
        let _ = fcntl(standard, FcntlArg::F_SETFL(OFlag::from_bits_retain(flags) | OFlag::O_APPEND));
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

    /// Opens the same paths afresh: somebody has moved the files. One that cannot be opened stays as it was.
    pub fn reopen(&mut self, standard: &Standard) -> Result<(), Failure> {
        let error = open(&self.error_target, standard.error.as_fd(), "error log").map(|file| self.error = file);
        let access = match &self.access_target {
            Some(target) => open(target, standard.output.as_fd(), "access log").map(|file| self.access = Some(file)),
            None => Ok(()),
        };
        error.and(access)
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
    let opened = match target {
        LogTarget::Standard => standard.try_clone_to_owned().map_err(|error| words(&error)),
        LogTarget::File(path) => open_file(path),
    };
    opened.map_err(|why| {
        let what = match target {
            LogTarget::Standard => what.to_owned(),
            LogTarget::File(path) => format!("{what} {}", path.display()),
        };
        Failure::new(Exit::System, format!("could not open the {what}: {why}"))
    })
}

/// A FIFO that nobody reads can only be opened for writing while it is open for reading, too (fifo(7)). Lines are lost until somebody
/// reads, and counted. An application that prints there may wait, as it may anywhere else: the flag is for the opening alone.
fn open_file(path: &Path) -> Result<OwnedFd, String> {
    let place = Place::of(path)?;
    let open = |access: OFlag| place.open(access | OFlag::O_APPEND | OFlag::O_NONBLOCK, 0o666);
    let is_fifo = place.hold().is_ok_and(|found| FileKind::of(found.as_fd()) == FileKind::Pipe);
    let _both_ends = is_fifo.then(|| open(OFlag::O_RDWR)).transpose()?;
    let file = open(OFlag::O_WRONLY | OFlag::O_CREAT)?;
    descriptors::set_nonblocking(file.as_fd(), false).map_err(|error| words(&error))?;
    Ok(file.into())
}
