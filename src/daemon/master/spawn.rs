//! Starts a template: the configured interpreter, which loads the engine and then listens on its channel.

use std::{
    io::{self, IsTerminal},
    os::fd::OwnedFd,
    process::{Command, Stdio},
};

use ostler_wire::limits;

use crate::{
    exit::{Exit, Failure},
    resources::{line::Line, logs::Logs},
    settings::Settings,
    sys::{pidfd::PidFd, process},
};

/// What the interpreter runs first: it loads the engine, whose path is its first argument, and never returns.
const BOOT_CODE: &str = include_str!("../../engine/boot.py");

/// Starts one; its process and our end of its channel.
pub fn template(settings: &Settings, logs: &Logs) -> Result<(i32, PidFd, Line), Failure> {
    start(settings, logs).map_err(|error| {
        let (python, directory) = (settings.python.display(), settings.boot.chdir.display());
        let text = format!("could not execute {python} in {directory}: {}", limits::explain(&error));
        Failure::new(Exit::Interpreter, text)
    })
}

fn start(settings: &Settings, logs: &Logs) -> io::Result<(i32, PidFd, Line)> {
    let (ours, theirs) = Line::pair()?;
    let error = || logs.error().try_clone_to_owned().map(Stdio::from);
    let mut command = Command::new(&settings.python);
    command.arg("-c").arg(BOOT_CODE).arg(&settings.engine);
    command.env_clear().envs(settings.environment.iter().cloned());
    // A debugger in a view asks there. A daemon in the background has no terminal any more.
    let input = if io::stdin().is_terminal() { Stdio::inherit() } else { Stdio::null() };
    command.stdin(input).stderr(error()?);
    command.stdout(if settings.capture_output { error()? } else { Stdio::inherit() });
    process::disguise(&mut command, settings.guise())?;
    let (pid, held) = process::spawn(command, OwnedFd::from(theirs), settings.umask)?;
    Ok((pid, held, ours))
}
