//! The program `ostler`: options, then settings, then the master, then the exit code. It runs no Python and knows no HTTP.
//!
//! ```text
//! command line ┐
//! environment  ├─▶ options (texts) ─▶ settings (values) ─▶ master ─────────────────────────────▶ exit
//! ostler.toml  ┘                                             │
//!                       events: signals, messages, deaths ─▶ state ─▶ actions ─▶ perform ─▶ template, workers
//!                                                                                resources: listeners, logs, pid file, control socket
//! ```
//!
//! `ostler reload` and its like are clients: `cli::ask` sends their words to the control socket of a running master and prints the answer.
//!
//! ```text
//! $ ostler --workers 2 shop:app &
//! $ ostler reload
//! generation 2 serves with 2 workers
//! ```

use std::{os::fd::RawFd, path::Path, process::ExitCode};

mod background;
mod cli;
mod exit;
#[cfg(test)]
mod fixture;
mod master;
mod migrate;
mod options;
mod report;
mod resources;
mod settings;
mod sys;
#[cfg(test)]
mod units;

use cli::{Task, Typed, View};
use exit::{Exit, Failure};
use master::upgrade::{self, SavedMaster, UpgradeRole};
use options::{GUNICORN_ARGS, Invocation, Options, Texts};
use resources::{control::Command, notify::Notify};
use settings::Settings;
use sys::{descriptors, signals};

fn main() -> ExitCode {
    descriptors::keep_from_children();
    if let Err(error) = signals::survive_limits() {
        eprintln!("ostler: could not ignore SIGXFSZ: {error}");
    }
    let ended = match UpgradeRole::from_environment() {
        None => here().inspect_err(tell_systemd).and_then(|invocation| run(&invocation)).map(ExitCode::from),
        Some(UpgradeRole::Prove(state)) => upgrade::prove(state).map(ExitCode::from),
        Some(UpgradeRole::Take(state)) => go_on(state).map(ExitCode::from),
    };
    match ended {
        Ok(exit) => exit,
        Err(failure) => {
            report::complain(&failure.to_string());
            failure.exit.into()
        }
    }
}

fn here() -> Result<Invocation, Failure> {
    let mut invocation = Invocation::here().map_err(|error| {
        Failure::new(Exit::System, format!("the working directory is gone: {}", exit::words(&error)))
    })?;
    invocation.gunicorn_args =
        invocation.variable(GUNICORN_ARGS).map(cli::gunicorn_args).transpose()?.map(|typed| typed.texts);
    Ok(invocation)
}

/// An upgrade has put us into a running master's process.
fn go_on(state: RawFd) -> Result<Exit, Failure> {
    let saved = SavedMaster::read(state)?;
    let invocation = Invocation { directory: saved.directory.clone(), usual_file: saved.settings_file(), ..here()? };
    let executable = upgrade::executable(&invocation.directory);
    master::resume(saved, &|| reread(&invocation, &executable))
}

fn run(invocation: &Invocation) -> Result<Exit, Failure> {
    let Typed { task, texts, needless, suspicious } = cli::parse(&invocation.arguments).inspect_err(tell_systemd)?;
    if let Task::Print(text) = task {
        return report::print(&text);
    }
    if let Task::Migrate(file) = task {
        return report::print(&migrate::migrate(invocation, &file)?);
    }
    let mut options = match &task {
        Task::Control { .. } if names_a_socket(&texts) || options::file_is_program(invocation, &texts) => {
            // A program that lies in the directory is not run for the sake of a command, which may be root's.
            Options::without_file(invocation, &texts)?
        }
        Task::Control { .. } => Options::gather(invocation, &texts)?,
        Task::Settings { .. } => {
            settings::refuse_weak_program(invocation, &texts)?;
            settings::gather(invocation, &texts)?
        }
        Task::Serve => settings::gather(invocation, &texts).inspect_err(tell_systemd)?,
        _ => settings::gather(invocation, &texts)?,
    };
    options.needless.extend(needless);
    options.suspicious.extend(suspicious);
    match task {
        Task::Serve if invocation.arguments.is_empty() && !options.is_given("app") => {
            eprint!("{}", cli::short_help());
            Ok(Exit::Usage)
        }
        Task::Serve => {
            cli::misspelt_command(invocation, &options)?;
            signals::hold_back()
                .map_err(|error| Failure::new(Exit::System, format!("could not start: {}", exit::words(&error))))?;
            let settings = Settings::resolve(invocation, &mut options).inspect_err(tell_systemd)?;
            if settings.daemon && settings.error_log == settings::LogTarget::Standard {
                report::complain(
                    "nobody will see the error log of the daemon, as with gunicorn. Say --error-logfile FILE.",
                );
            }
            let announce = settings.daemon.then(background::enter).transpose()?;
            let executable = upgrade::executable(&invocation.directory);
            let reread = || reread(invocation, &executable);
            master::run(settings, invocation.directory.clone(), &reread, announce).inspect_err(tell_systemd)
        }
        Task::Check => master::check(Settings::resolve(invocation, &mut options)?),
        Task::Settings { json } => {
            // What is wrong with them is said last, so that it stands below where it came from.
            let looked = Settings::look(invocation, &mut options);
            report::print(&if json { report::json(&options) } else { report::table(&options) })?;
            looked.map(|()| Exit::Success)
        }
        Task::Control { command, view } => {
            let named = options.is_given("control") || options.is_given("name");
            if !named && command != Command::Status {
                cli::refuse_two_of_one_name(settings::instances(invocation), &options)?;
            } else if !named {
                let running = cli::answering(settings::instances(invocation));
                match running.as_slice() {
                    [(_, socket, _)] => return cli::ask(socket, false, command, view),
                    [_, _, ..] if view == View::Text => return cli::list(&running),
                    // Programs are answered by the one of the usual name.
                    _ => {}
                }
            }
            let socket = settings::find_control(invocation, &options)?;
            cli::ask(&socket, options.is_given("control"), command, view)
        }
        Task::Print(_) | Task::Migrate(_) => unreachable!("printed above"),
    }
}

/// Why the start has failed is what `systemctl status` shows.
fn tell_systemd(failure: &Failure) {
    Notify::from_environment().failed(failure);
}

/// A typing error in the settings file is not to come between an operator who names the socket and the site.
fn names_a_socket(texts: &Texts) -> bool {
    texts.get("control").is_some_and(|paths| paths.iter().all(|path| path.starts_with('/')))
}

/// What a reload does: everything is looked at afresh.
fn reread(invocation: &Invocation, executable: &Path) -> Result<Settings, Failure> {
    let Typed { texts, .. } = cli::parse(&invocation.arguments)?;
    let settings = Settings::resolve(invocation, &mut settings::gather(invocation, &texts)?)?;
    Ok(Settings { new_version: upgrade::is_replaced(executable), ..settings })
}
