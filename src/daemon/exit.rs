//! How the program ends: one code for each kind of failure, and the sentence that goes with it. The man page lists them.

use std::{fmt, process::ExitCode};

use ostler_wire::{
    BootFailure, BootFailureKind, FailedCode, SeenFile,
    channel::{fit, fit_sentence},
};
use serde::{Deserialize, Serialize};

/// What the shell, systemd or a deploy script learns from the end of the program. systemd prints a name of its own beside the codes
/// from 2 to 7 (systemd.exec(5)), so a code of these is used only where that name says what has happened.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[repr(u8)]
pub enum Exit {
    /// All went well.
    Success = 0,
    /// A defect of ostler, or something that no other code says.
    Internal = 1,
    /// The command line, the environment or the settings file. INVALIDARGUMENT for systemd.
    Usage = 2,
    /// A control command found no running ostler. NOTRUNNING for systemd, as for LSB.
    NotRunning = 7,
    /// A control command was understood, but its outcome is not what was asked for.
    Refused = 9,
    /// The import of the application raised an exception.
    Import = 10,
    /// The module has no such attribute, or it cannot be called.
    Application = 11,
    /// An address could not be bound.
    Bind = 12,
    /// The Python interpreter or ostler's engine.
    Interpreter = 13,
    /// Privileges, the pid file, a log file or the control socket.
    System = 14,
    /// A smoke test was not answered as it should be.
    Smoke = 15,
    /// A generation was taken back because it was worse than the one before.
    Worse = 16,
}

impl Exit {
    /// What is looked at is there, and is not as it should be. Monitors know this code for a warning.
    pub const DEGRADED: Exit = Exit::Internal;

    /// Every code, in order, with what it means; for the man page.
    pub const MEANINGS: [(Exit, &str); 12] = [
        (Exit::Success, "All went well; after a TERM, INT or QUIT too."),
        (
            Exit::Internal,
            "A defect of ostler, or something that no other code says; of `ostler status` and `ostler doctor`, that the site has a problem, which they name.",
        ),
        (Exit::Usage, "The command line, the environment or the settings file says something that cannot be."),
        (Exit::NotRunning, "A control command found no running ostler at its socket."),
        (
            Exit::Refused,
            "A control command was refused, or `ostler status --ready` found that the site is not ready. A command that failed ends with the code of its cause.",
        ),
        (Exit::Import, "The import of the application raised an exception, or a worker did not become ready in time."),
        (Exit::Application, "The module has no such attribute, it cannot be called, or the factory failed."),
        (Exit::Bind, "An address could not be bound."),
        (Exit::Interpreter, "The Python interpreter or ostler's engine could not be used."),
        (Exit::System, "Privileges, a directory, the pid file, a log file or the control socket."),
        (Exit::Smoke, "A request of --smoke was not answered as it should be."),
        (Exit::Worse, "A generation was taken back because it was worse than the one before (--canary, --watch)."),
    ];
}

impl From<Exit> for ExitCode {
    fn from(exit: Exit) -> ExitCode {
        ExitCode::from(exit as u8)
    }
}

/// Why the program, a generation or a command cannot go on: a sentence for people and the code that goes with it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Failure {
    /// What the program or the command ends with.
    pub exit: Exit,
    /// What, which, why; then a hint, if there is one.
    pub message: String,
    /// The Python traceback, or empty.
    pub traceback: String,
    /// With `--reload`: whose change may mend it.
    #[serde(default)]
    pub files: Vec<SeenFile>,
}

impl Failure {
    /// One without a traceback.
    pub fn new(exit: Exit, message: impl Into<String>) -> Failure {
        Failure { exit, message: message.into(), traceback: String::new(), files: Vec::new() }
    }

    /// Something typed that cannot be.
    pub fn usage(message: impl Into<String>) -> Failure {
        Failure::new(Exit::Usage, message)
    }

    /// The same, with what came of it said first.
    pub fn after(&self, what: &str) -> Failure {
        Failure { message: format!("{what}: {}", self.message), ..self.clone() }
    }
}

impl From<BootFailure> for Failure {
    fn from(BootFailure { kind, message, traceback, files }: BootFailure) -> Failure {
        let exit = match kind {
            BootFailureKind::Interpreter => Exit::Interpreter,
            BootFailureKind::Settings => Exit::Usage,
            BootFailureKind::Import => Exit::Import,
            BootFailureKind::Application => Exit::Application,
        };
        Failure { exit, message, traceback, files }
    }
}

impl From<Failure> for FailedCode {
    fn from(Failure { message, traceback, files, .. }: Failure) -> FailedCode {
        FailedCode { message: fit_sentence(&message), traceback: fit(&traceback), files }
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        f.write_str(&self.message)?;
        if !self.traceback.is_empty() {
            write!(f, "\n{}", self.traceback.trim_end())?;
        }
        Ok(())
    }
}

impl std::error::Error for Failure {}

/// The system's words for people: `permission denied`, without the number.
pub fn words(error: &std::io::Error) -> String {
    let text = error.to_string().to_lowercase();
    match text.split_once(" (os error") {
        Some((words, _)) => words.into(),
        None => text,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_codes_are_in_order_and_none_is_named_otherwise_by_systemd() {
        let codes = Exit::MEANINGS.map(|(exit, _)| exit as u8);
        assert!(codes.is_sorted_by(|before, after| before < after));
        assert!(Exit::MEANINGS.iter().all(|(_, meaning)| meaning.ends_with('.')));
        // NOTIMPLEMENTED, NOPERMISSION, NOTINSTALLED, NOTCONFIGURED; those of sysexits.h; those of systemd's own failures.
        let named = |code: &u8| matches!(code, 3..=6 | 64..=78 | 200..);
        assert!(!codes.iter().any(named));
    }
}
