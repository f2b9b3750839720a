//! `--daemon`: the process that was started stays until the site is being served, and ends with the outcome.

use std::{
    fs::File,
    io::{Read, Write, pipe},
    os::fd::OwnedFd,
    process,
};

use daemonize::{Daemonize, Outcome};
use nix::sys::stat::{Mode, umask};

use crate::{
    exit::{Exit, Failure, words},
    report,
};

/// Of a message, in bytes.
const MOST: usize = 32 * 1024;

/// Tells the process that was started how the first boot went.
#[derive(Debug)]
pub struct Announce(File);

impl Announce {
    /// Tells the outcome, if the process still waits. A pipe that is still empty takes [`MOST`] bytes without waiting (pipe(7)).
    pub fn tell(mut self, exit: Exit, message: &str) {
        let message = &message.as_bytes()[..message.len().min(MOST)];
        let _ = self.0.write_all(&[&[exit as u8], message].concat());
    }
}

/// Goes on in the background. The process that was started waits there for [`Announce::tell`], and ends.
pub fn enter() -> Result<Announce, Failure> {
    let failed = |why: String| Failure::new(Exit::System, format!("could not go into the background: {why}"));
    let (mut reader, writer) = pipe().map_err(|error| failed(words(&error)))?;
    let directory = std::env::current_dir().map_err(|error| failed(words(&error)))?;
    let mask = umask(Mode::empty());
    match Daemonize::new().working_directory(directory).umask(mask.bits()).execute() {
        Outcome::Child(entered) => {
            entered.map_err(|error| failed(error.to_string()))?;
            drop(reader);
            Ok(Announce(File::from(OwnedFd::from(writer))))
        }
        Outcome::Parent(left) => {
            left.map_err(|error| failed(error.to_string()))?;
            drop(writer);
            let mut told = Vec::new();
            reader.read_to_end(&mut told).map_err(|error| failed(words(&error)))?;
            let Some((&exit, message)) = told.split_first() else {
                return Err(failed("it ended without a word. The error log says more.".into()));
            };
            if !message.is_empty() {
                report::complain(&String::from_utf8_lossy(message));
            }
            process::exit(exit.into());
        }
    }
}
