//! A generation's template: imports the application if that is wanted and safe, and forks workers until it is told to end.

use std::os::fd::{AsFd, AsRawFd, FromRawFd, OwnedFd, RawFd};

use nix::unistd::{AccessFlags, access};
use ostler_wire::{
    Boot, BootFailure, CHANNEL_FD, Channel, FromTemplate, Loaded, Logging, Preload, ToTemplate, VERSION,
    channel::fit_sentence,
    limits,
    log::{self, Process},
    title::{self, Title},
};
use pyo3::{prelude::*, types::PyList};
use slog::{Level, Logger, error, warn};

use super::{
    LEAVING,
    fork::{self, Side},
    gunicorn,
    import::{self, Import, executable, import, unexpected},
    inherited::{Inherited, broken},
    refork,
    restart::{self, Execution, RestartState},
    signals, streams, watching, worker,
};
use crate::{
    python::{heap, stacks, walking::WALKING},
    wsgi::SERVING,
};

/// A template that is ready to fork.
pub struct Template {
    pub channel: Channel,
    pub inherited: Inherited,
    /// None where each worker imports for itself.
    pub application: Option<Py<PyAny>>,
    pub title: Option<Title>,
    pub log: Logger,
}

/// Ends with the process.
pub fn run(py: Python<'_>, restarted: Option<RawFd>) -> ! {
    // SAFETY: the master has put its channel there for this, and nobody else in this process knows of it.
    let channel = Channel::from(unsafe { OwnedFd::from_raw_fd(CHANNEL_FD) });
    signals::disregard();
    // If that fails for want of a descriptor, the log stays at 2; the template will fail soon anyway.
    let _ = log::keep();
    // Reads the time zone now, before the application can change TZ.
    log::now();
    match boot(py, &channel, restarted) {
        Ok((inherited, import, title)) => Template::new(py, channel, inherited, import, title).serve(py),
        Err(failure) => {
            streams::end_lines(py);
            let reason = failure.message.clone();
            if let Err(error) = channel.send(&FromTemplate::Failed(failure), &[]) {
                let log = log::logger(Process::Template(None), Level::Error, &Logging::default());
                error!(log, "master not told"; "reason" => error.to_string(), "of" => reason);
            }
            fork::exit(1)
        }
    }
}

fn boot(
    py: Python<'_>,
    channel: &Channel,
    restarted: Option<RawFd>,
) -> Result<(Inherited, Import, Option<Title>), BootFailure> {
    restart::close_on_exec(CHANNEL_FD, true).map_err(|error| broken("keep its channel", &error))?;
    let origin = Execution::note().map_err(|error| broken("read how it was started", &error))?;
    let (inherited, earlier) = match restarted {
        None => (Inherited::receive(py, channel)?, None),
        Some(note) => {
            let (state, descriptors) =
                RestartState::read(note).map_err(|error| broken("read what it had kept", &error))?;
            let import = Import { unsafe_to_fork: state.unsafe_to_fork, took: state.import, ..Import::default() };
            (Inherited::new(state.boot, descriptors)?, Some(import))
        }
    };
    let mut title = Title::find();
    entitle(&mut title, &inherited.boot);
    prepare_interpreter(py, &inherited.boot)
        .and_then(|()| streams::install(py, inherited.template_log().clone()))
        .and_then(|()| stacks::arm(py, CHANNEL_FD))
        .map_err(|error| unexpected(py, &error))?;
    if inherited.boot.reload.is_some() {
        watching::note_imports(py).map_err(|error| unexpected(py, &error))?;
    }
    gunicorn::make_loggers(py, &inherited.boot, &inherited.template_logger())
        .map_err(|error| unexpected(py, &error))?;
    gunicorn::run(py, &inherited.boot, gunicorn::launched(&inherited.boot))?;
    let import = match earlier {
        Some(import) => import,
        None => match import(py, channel, &inherited, origin) {
            Ok(import) => import,
            Err(failure) => {
                // The application may have closed them already.
                std::mem::forget(inherited);
                return Err(failure);
            }
        },
    };
    Ok((inherited, import, title))
}

/// Sets sys.argv and sys.path as for a program that runs the application.
pub fn prepare_interpreter(py: Python<'_>, boot: &Boot) -> PyResult<()> {
    let sys = py.import("sys")?;
    sys.setattr("argv", [&boot.application])?;
    let path = sys.getattr("path")?.cast_into::<PyList>()?;
    // What is imported later comes from the same release: --chdir, through which the working directory was reached, may be a
    // symbolic link, and point elsewhere by then.
    let here = std::env::current_dir()?;
    for (index, directory) in [&here].into_iter().chain(&boot.pythonpath).enumerate() {
        let real = std::fs::canonicalize(directory);
        path.insert(index, real.as_ref().unwrap_or(directory).as_os_str())?;
    }
    py.import("faulthandler")?.call_method1("enable", (log::place().as_raw_fd(),))?;
    LEAVING.import(py)?;
    WALKING.import(py)?;
    SERVING.import(py).map(drop)
}

fn entitle(title: &mut Option<Title>, boot: &Boot) {
    if let Some(title) = title {
        title.set(title::of(boot, Process::Template(Some(boot.generation))));
    }
}

impl Template {
    /// Tells the master that workers can be forked.
    fn new(py: Python<'_>, channel: Channel, inherited: Inherited, import: Import, title: Option<Title>) -> Template {
        let log = inherited.template_logger();
        let spool = &inherited.boot.worker.spool_directory;
        if let Err(error) = access(spool, AccessFlags::W_OK | AccessFlags::X_OK) {
            warn!(log, "spool directory not writable"; "directory" => %spool.display(), "reason" => error.desc());
        }
        let version = py.version_info();
        let loaded = Loaded {
            wire: VERSION,
            python: format!("{}.{}.{}", version.major, version.minor, version.patch),
            executable: fit_sentence(&executable(py).unwrap_or_default()),
            preloaded: import.application.is_some() && import.unsafe_to_fork.is_empty(),
            unsafe_to_fork: import.unsafe_to_fork,
            import: import.took,
            failed: import.failed,
        };
        if loaded.preloaded && inherited.boot.worker.refork > 0 {
            refork::note(py, &log);
        }
        // Garbage would be copied into every worker.
        import::freeze(py, &log);
        heap::close_gaps();
        if let Err(error) = channel.send(&FromTemplate::Loaded(loaded), &[]) {
            error!(log, "master not told"; "reason" => error.to_string());
        }
        Template { channel, inherited, application: import.application, title, log }
    }

    /// One that was a worker.
    pub fn entitle(mut self) -> Template {
        entitle(&mut self.title, &self.inherited.boot);
        self
    }

    pub fn serve(mut self, py: Python<'_>) -> ! {
        loop {
            match py.detach(|| self.channel.receive()) {
                Ok(Some((ToTemplate::Fork { slot }, descriptors))) => {
                    let mut descriptors = descriptors.into_iter();
                    let (Some(channel), keeper) = (descriptors.next(), descriptors.next()) else {
                        self.tell(FromTemplate::ForkFailed { slot, error: "its channel is missing".into() });
                        continue;
                    };
                    self.look_for_threads();
                    match fork::worker(py) {
                        Ok(Side::Worker) => {
                            // A worker must not hold the template's channel: the master would take it for the template.
                            let Template { channel: templates, inherited, application, title, log } = self;
                            drop((templates, log));
                            worker::run(py, inherited, application, title, slot, channel.into(), keeper)
                        }
                        Ok(Side::Template(pid)) => self.tell(FromTemplate::Forked { slot, pid: pid.as_raw() }),
                        Err(error) => self.tell(FromTemplate::ForkFailed { slot, error: limits::explain(&error) }),
                    }
                }
                Ok(Some((ToTemplate::Reopen, descriptors))) => self.reopen(descriptors),
                Ok(Some((ToTemplate::Inherit, descriptors))) => self.inherited.renew(descriptors),
                Ok(Some((ToTemplate::Certificates(tls), _))) => self.inherited.boot.tls = Some(*tls),
                Ok(Some((ToTemplate::TicketKeys(keys), _))) => self.inherited.boot.ticket_keys = Some(keys),
                Ok(Some((ToTemplate::Quit, _)) | None) => fork::exit(0),
                Ok(Some((ToTemplate::Boot(_) | ToTemplate::Hooks(_) | ToTemplate::Hook(_), _))) => {
                    error!(self.log, "told to boot twice")
                }
                Err(error) => {
                    error!(self.log, "master not understood"; "reason" => error.to_string());
                    fork::exit(1)
                }
            }
        }
    }

    /// A forked child has only the thread that forked, and locks that other threads held stay locked there for ever. The engine starts
    /// no threads in a template. With `--preload=auto` the application has left none either; one that it has started since is logged.
    fn look_for_threads(&self) {
        let others = fork::other_threads();
        assert!(
            !others.iter().any(|name| name.starts_with("ostler-")),
            "a thread of the engine's in a template: {others:?}"
        );
        if self.inherited.boot.preload == Preload::Auto && !others.is_empty() {
            error!(self.log, "forking beside other threads"; "threads" => others.join(", "));
        }
    }

    fn tell(&self, message: FromTemplate) {
        if let Err(error) = self.channel.send(&message, &[]) {
            error!(self.log, "master not told"; "reason" => error.to_string());
        }
    }

    /// Takes over rotated logs.
    fn reopen(&mut self, descriptors: Vec<OwnedFd>) {
        let mut descriptors = descriptors.into_iter();
        if let Some(error_log) = descriptors.next()
            && let Err(error) = log::replace(error_log.as_fd(), &[1, 2])
        {
            error!(self.log, "error log not reopened"; "reason" => error.to_string());
        }
        if let Some(access_log) = descriptors.next() {
            self.inherited.access_log = Some(access_log);
        }
    }
}
