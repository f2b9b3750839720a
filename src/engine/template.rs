//! A generation's template: imports the application if that is wanted and safe, and forks workers until it is told to end.

use std::{
    io,
    os::fd::{AsFd, AsRawFd, FromRawFd, OwnedFd, RawFd},
    sync::Arc,
    time::{Duration, Instant},
};

use ostler_wire::{
    Boot, BootFailure, BootFailureKind, CHANNEL_FD, Channel, Errand, FromTemplate, Loaded, Preload, ToTemplate,
    VERSION, channel::fit_sentence, limits, log, scoreboard::Scoreboard,
};
use pyo3::{prelude::*, types::PyList};
use slog::{Level, Logger, error, info, warn};

use crate::{
    children,
    embedded::{self, LEFTOVERS, SERVING, WARMING, unexpected},
    fork::{self, Side},
    restart::{self, Kept, Origin},
    signals, stacks,
    text::shown,
    title::Title,
    worker,
};

/// What the master gave, for all workers.
pub struct Given {
    pub boot: Boot,
    pub scoreboard: Arc<Scoreboard>,
    pub exchange_give: OwnedFd,
    pub exchange_take: OwnedFd,
    pub access_log: Option<OwnedFd>,
    pub listeners: Vec<OwnedFd>,
}

/// A template that is ready to fork.
struct Template {
    channel: Channel,
    given: Given,
    /// None where each worker imports for itself.
    application: Option<Py<PyAny>>,
    title: Option<Title>,
    log: Logger,
}

/// An import: the application, if this process may be forked with it.
#[derive(Default)]
struct Import {
    application: Option<Py<PyAny>>,
    unsafe_to_fork: Vec<String>,
    took: Duration,
}

/// Ends with the process.
pub fn run(py: Python<'_>, kept: Option<RawFd>) -> ! {
    // SAFETY: the master has put its channel there for this, and nobody else in this process knows of it.
    let channel = Channel::from(unsafe { OwnedFd::from_raw_fd(CHANNEL_FD) });
    signals::disregard();
    // Without a descriptor to spare there is no site either; then it stays at 2.
    let _ = log::keep();
    // While TZ is what the daemon was started with.
    log::now();
    match boot(py, &channel, kept) {
        Ok((given, import, title)) => Template::new(py, channel, given, import, title).serve(py),
        Err(failure) => {
            let reason = failure.message.clone();
            if let Err(error) = channel.send(&FromTemplate::Failed(failure), &[]) {
                let log = log::logger("template", Level::Error);
                error!(log, "master not told"; "reason" => error.to_string(), "of" => reason);
            }
            fork::exit(1)
        }
    }
}

fn boot(py: Python<'_>, channel: &Channel, kept: Option<RawFd>) -> Result<(Given, Import, Option<Title>), BootFailure> {
    restart::close_on_exec(CHANNEL_FD, true).map_err(|error| broken("keep its channel", &error))?;
    let origin = Origin::note().map_err(|error| broken("read how it was started", &error))?;
    let (given, earlier) = match kept {
        None => (Given::receive(channel)?, None),
        Some(note) => {
            let (kept, descriptors) = Kept::read(note).map_err(|error| broken("read what it had kept", &error))?;
            let import = Import { application: None, unsafe_to_fork: kept.unsafe_to_fork, took: kept.import };
            (Given::new(kept.boot, descriptors)?, Some(import))
        }
    };
    let mut title = Title::find();
    if let Some(title) = &mut title {
        let generation = given.boot.generation;
        title.set(&given.title(&format!("template g{generation}")), &format!("ostler g{generation}"));
    }
    dress(py, &given.boot).and_then(|()| stacks::arm(py, CHANNEL_FD)).map_err(|error| unexpected(py, &error))?;
    let import = match earlier {
        Some(import) => import,
        None => match import(py, channel, &given, origin) {
            Ok(import) => import,
            Err(failure) => {
                // The application may have closed them already.
                std::mem::forget(given);
                return Err(failure);
            }
        },
    };
    Ok((given, import, title))
}

/// Gives the interpreter the look of a program that runs the application.
fn dress(py: Python<'_>, boot: &Boot) -> PyResult<()> {
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
    SERVING.import(py).map(drop)
}

/// Imports, where that is to happen before the fork. Where it makes forking unsafe, this process starts over without it.
fn import(py: Python<'_>, channel: &Channel, given: &Given, origin: Origin) -> Result<Import, BootFailure> {
    let boot = &given.boot;
    if boot.preload == Preload::Off && !boot.check_only {
        return Ok(Import::default());
    }
    let unexpected = |error: PyErr| unexpected(py, &error);
    let executable = executable(py).map_err(unexpected)?;
    let leftovers = LEFTOVERS.import(py).map_err(unexpected)?;
    let before = leftovers.call_method0("descriptors").map_err(unexpected)?;
    let begins =
        |errand| channel.send(&FromTemplate::Begins(errand), &[]).map_err(|error| broken("tell what it does", &error));
    begins(Errand::Import)?;
    let started = Instant::now();
    let application = embedded::load(py, &boot.application, given.descriptors().into_iter().chain([CHANNEL_FD]))?;
    let took = started.elapsed();
    if let Some(url) = &boot.warm_up {
        begins(Errand::WarmUp)?;
        warm_up(&application, url, given);
    }
    let application = Some(application.unbind());
    let mut unsafe_to_fork = Vec::new();
    if boot.preload == Preload::Auto {
        fork::trial().map_err(|error| broken("fork", &error))?;
        // The application may have put its own in the place of what the look-out uses.
        let found = leftovers.call_method1("leftovers", (before,)).and_then(|found| phrases(&found));
        unsafe_to_fork = found.unwrap_or_else(|error| vec![fit_sentence(&format!("what could not be told: {error}"))]);
    }
    if unsafe_to_fork.is_empty() || boot.check_only {
        return Ok(Import { application, unsafe_to_fork, took });
    }
    let kept = Kept { boot: boot.clone(), descriptors: given.descriptors(), unsafe_to_fork, import: took };
    Err(broken("execute itself again", &origin.execute(&executable, &kept)))
}

fn phrases(found: &Bound<'_, PyAny>) -> PyResult<Vec<String>> {
    found.try_iter()?.map(|phrase| Ok(fit_sentence(&shown(&phrase?)?))).collect()
}

/// Has the application load what it only loads when it is asked. What that leaves behind counts as the import's.
fn warm_up(application: &Bound<'_, PyAny>, url: &str, given: &Given) {
    let (py, boot, log) = (application.py(), &given.boot, given.template_logger());
    let (started, process) = (Instant::now(), std::process::id());
    let arguments = (application, url, &boot.worker.root_path, boot.worker.threads > 1, boot.workers > 1);
    let asked = WARMING.import(py).and_then(|warming| warming.call_method1("warm_up", arguments));
    children::end_if_not(py, process);
    match asked.and_then(|status| shown(&status)) {
        Ok(status) => {
            info!(log, "warmed up"; "url" => url, "status" => status, "took" => format!("{:.3}", started.elapsed().as_secs_f64()))
        }
        Err(error) => warn!(log, "not warmed up"; "url" => url, "traceback" => embedded::traceback(py, &error)),
    }
}

fn executable(py: Python<'_>) -> PyResult<String> {
    py.import("sys")?.getattr("executable")?.extract()
}

fn broken(what: &str, error: &io::Error) -> BootFailure {
    let message = format!("the template could not {what}: {error}");
    BootFailure::new(BootFailureKind::Interpreter, &message, "")
}

impl Given {
    /// Waits for the master's first word.
    fn receive(channel: &Channel) -> Result<Given, BootFailure> {
        match channel.receive() {
            Ok(Some((ToTemplate::Boot(boot), descriptors))) => Given::new(*boot, descriptors),
            Ok(Some(_)) => Err(broken("boot", &io::Error::other("the first message was another"))),
            Ok(None) => fork::exit(0),
            Err(error) => Err(broken("understand the master", &error)),
        }
    }

    fn new(boot: Boot, descriptors: Vec<OwnedFd>) -> Result<Given, BootFailure> {
        if boot.wire != VERSION {
            let why = format!("the master speaks version {}, this engine {VERSION}", boot.wire);
            return Err(broken("understand the master", &io::Error::other(why)));
        }
        let mut descriptors = descriptors.into_iter();
        let mut next =
            || descriptors.next().ok_or_else(|| broken("boot", &io::Error::other("a descriptor is missing")));
        let scoreboard = Scoreboard::open(next()?, boot.slots, boot.worker.threads)
            .map_err(|error| broken("map the scoreboard", &error))?;
        Ok(Given {
            scoreboard: Arc::new(scoreboard),
            exchange_give: next()?,
            exchange_take: next()?,
            access_log: if boot.access_log { Some(next()?) } else { None },
            listeners: boot.listeners.iter().map(|_| next()).collect::<Result<_, _>>()?,
            boot,
        })
    }

    /// In the order of the message that brought them.
    pub fn descriptors(&self) -> Vec<RawFd> {
        let first = [self.scoreboard.as_fd(), self.exchange_give.as_fd(), self.exchange_take.as_fd()];
        let rest = self.access_log.iter().chain(&self.listeners).map(AsFd::as_fd);
        first.into_iter().chain(rest).map(|descriptor| descriptor.as_raw_fd()).collect()
    }

    /// What `ps` shows.
    pub fn title(&self, process: &str) -> String {
        match &self.boot.process_name[..] {
            "ostler" => format!("ostler: {process}"),
            name => format!("ostler: {process} [{name}]"),
        }
    }

    fn template_logger(&self) -> Logger {
        self.logger(&format!("template g{}", self.boot.generation))
    }

    /// The log of a process of this generation.
    pub fn logger(&self, process: &str) -> Logger {
        log::logger(process, log::level(&self.boot.log_level).unwrap_or(Level::Info))
    }
}

impl Template {
    /// Tells the master that workers can be forked.
    fn new(py: Python<'_>, channel: Channel, given: Given, import: Import, title: Option<Title>) -> Template {
        let log = given.template_logger();
        let version = py.version_info();
        let loaded = Loaded {
            wire: VERSION,
            python: format!("{}.{}.{}", version.major, version.minor, version.patch),
            executable: fit_sentence(&executable(py).unwrap_or_default()),
            preloaded: import.application.is_some() && import.unsafe_to_fork.is_empty(),
            unsafe_to_fork: import.unsafe_to_fork,
            import: import.took,
        };
        // What is garbage now would be copied into every worker.
        embedded::freeze(py, &log);
        if let Err(error) = channel.send(&FromTemplate::Loaded(loaded), &[]) {
            error!(log, "master not told"; "reason" => error.to_string());
        }
        Template { channel, given, application: import.application, title, log }
    }

    fn serve(mut self, py: Python<'_>) -> ! {
        loop {
            match py.detach(|| self.channel.receive()) {
                Ok(Some((ToTemplate::Fork { slot }, descriptors))) => {
                    let Some(channel) = descriptors.into_iter().next() else {
                        self.tell(FromTemplate::ForkFailed { slot, error: "its channel is missing".into() });
                        continue;
                    };
                    self.look_for_threads();
                    match fork::worker(py) {
                        Ok(Side::Worker) => {
                            // A worker speaks for itself only: it must not hold what the master takes for the template.
                            let Template { channel: templates, given, application, title, log: _ } = self;
                            drop(templates);
                            worker::run(py, given, application, title, slot, channel.into())
                        }
                        Ok(Side::Template(pid)) => self.tell(FromTemplate::Forked { slot, pid: pid.as_raw() }),
                        Err(error) => self.tell(FromTemplate::ForkFailed { slot, error: limits::explain(&error) }),
                    }
                }
                Ok(Some((ToTemplate::Reopen, descriptors))) => self.reopen(descriptors),
                Ok(Some((ToTemplate::Inherit, descriptors))) => self.inherit(descriptors),
                Ok(Some((ToTemplate::Quit, _)) | None) => fork::exit(0),
                Ok(Some((ToTemplate::Boot(_), _))) => error!(self.log, "told to boot twice"),
                Err(error) => {
                    error!(self.log, "master not understood"; "reason" => error.to_string());
                    fork::exit(1)
                }
            }
        }
    }

    /// Of a process with several threads only one is in the child, and locks that the others held are held there for ever. The engine
    /// starts none here; with `--preload=auto` the application has none either, and if it has begun one since, that is told.
    fn look_for_threads(&self) {
        let others = fork::other_threads();
        assert!(
            !others.iter().any(|name| name.starts_with("ostler-")),
            "a thread of the engine's in a template: {others:?}"
        );
        if self.given.boot.preload == Preload::Auto && !others.is_empty() {
            error!(self.log, "forking beside other threads"; "threads" => others.join(", "));
        }
    }

    fn tell(&self, message: FromTemplate) {
        if let Err(error) = self.channel.send(&message, &[]) {
            error!(self.log, "master not told"; "reason" => error.to_string());
        }
    }

    /// Takes over what was made anew.
    fn inherit(&mut self, descriptors: Vec<OwnedFd>) {
        let mut descriptors = descriptors.into_iter();
        if let (Some(give), Some(take)) = (descriptors.next(), descriptors.next()) {
            (self.given.exchange_give, self.given.exchange_take) = (give, take);
            self.given.listeners = descriptors.collect();
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
            self.given.access_log = Some(access_log);
        }
    }
}
