//! What is true: the settings, parsed, checked and typed. What was typed is in options.
//!
//! Resolving looks at the world (directories, users, the interpreter) but changes nothing in it, so that a reload can do
//! it again and drop the result.

use std::{
    ffi::OsString,
    net::IpAddr,
    num::NonZeroU16,
    os::unix::fs::MetadataExt,
    path::{Path, PathBuf},
    time::Duration,
};

use ostler_wire::{self as wire, Protocol, scoreboard::MOST_WORKERS};
use serde::{Deserialize, Serialize};

use crate::{
    exit::{Exit, Failure, words},
    options::{Invocation, Layer, Options},
    sys::{identity::Identity, names, process::Guise},
};

mod address;
mod answers;
mod boot;
mod control;
mod environment;
mod identity;
mod interpreter;
mod logging;
mod page;
mod parse;
mod passed;
mod program;
mod python;
mod rollout;
mod room;
mod smoke;
mod static_files;
mod statsd;
#[cfg(test)]
mod tests;
mod tls;
mod workers;

pub use address::Address;
pub use control::{Access, find as find_control, instances};
use environment::{Surroundings, environment, masks};
use interpreter::{engine, interpreter};
pub use page::PageAddress;
pub use parse::duration;
pub use passed::{Passed, STORED};
pub use program::{gather, refuse_weak_program, says as program_says};
use python::Interpreter;
pub use rollout::{Rollout, Share};
pub use smoke::SmokeTest;
pub use statsd::Statsd;
pub use tls::TlsSettings;
pub use workers::WorkerRange;

/// Everything that the master obeys. Paths are absolute. Made afresh by each reload.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Settings {
    /// The settings file.
    pub file: Option<PathBuf>,
    /// See [`Options::embedding_file`].
    #[serde(default)]
    pub embedding_file: Option<PathBuf>,
    /// `--bind`, in the order given.
    pub binds: Vec<Address>,
    /// What is spoken at each of these; HTTP where this says nothing.
    #[serde(default)]
    pub protocols: Vec<Protocol>,
    /// What systemd has passed.
    #[serde(default)]
    pub passed: Passed,
    /// The addresses of hosts that are named, where they have been looked up already.
    #[serde(default)]
    pub hosts: Vec<(String, Vec<IpAddr>)>,
    /// `--backlog`: of listen(2).
    pub backlog: i32,
    /// The mode of Unix sockets.
    pub socket_mode: u32,
    /// `--workers`, or the fewest of them
    pub workers: NonZeroU16,
    /// `--workers`, where two numbers say between which it follows the load.
    #[serde(default)]
    pub range: Option<WorkerRange>,
    /// `--shrink-after`
    #[serde(default)]
    pub shrink_after: Duration,
    /// `--python`: what to execute; `bin/python` of a virtual environment is not resolved further, so that it finds itself.
    pub python: PathBuf,
    /// Its version: `3.11.7`.
    pub python_version: String,
    /// The engine's file.
    pub engine: PathBuf,
    /// The whole environment of template and workers: the master's own with `--env` laid over it.
    pub environment: Vec<(OsString, OsString)>,
    /// `--user` and `--group`, looked up; for template and workers. Supplementary groups are the user's own.
    pub identity: Option<Identity>,
    /// `--new-privileges`: the application may gain privileges by executing a set-user-ID program.
    pub new_privileges: bool,
    /// `--umask`
    pub umask: u32,
    /// `--pid`
    pub pid_file: Option<PathBuf>,
    /// `--daemon`
    pub daemon: bool,
    /// A daemon whose logs go to standard error is no mistake: gunicorn's users have that, and see none of them.
    #[serde(default)]
    pub logs_unseen: bool,
    /// `--error-logfile`
    pub error_log: LogTarget,
    /// `--access-logfile`; `Standard` is standard output.
    pub access_log: Option<LogTarget>,
    /// `--capture-output`: standard output of template and workers goes to the error log.
    pub capture_output: bool,
    /// `--control`: the path of the control socket; none with `--control=off`.
    pub control: Option<PathBuf>,
    /// Whether `--control` or `--name` chose that path; if not, and another ostler has it, going on without is better
    /// than not serving.
    pub control_chosen: bool,
    /// Who may connect to it.
    #[serde(default)]
    pub control_access: Access,
    /// `--boot-timeout`: for the template's import and each worker's readiness; zero for no bound.
    pub boot_timeout: Duration,
    /// `--canary`
    pub canary: Option<Share>,
    /// `--canary-time`; zero for no end.
    #[serde(default)]
    pub canary_time: Duration,
    /// `--watch`; zero not to.
    #[serde(default)]
    pub watch: Duration,
    /// `--ready-after-watch`
    #[serde(default)]
    pub ready_after_watch: bool,
    /// `--smoke`, in the order given.
    #[serde(default)]
    pub smoke: Vec<SmokeTest>,
    /// `--smoke-timeout`: for each of them.
    #[serde(default)]
    pub smoke_timeout: Duration,
    /// `--graceful-timeout`
    pub graceful_timeout: Duration,
    /// `--drain-delay`
    pub drain_delay: Duration,
    /// `--statsd-host` and what goes with it.
    #[serde(default)]
    pub statsd: Option<Statsd>,
    /// `--metrics`
    #[serde(default)]
    pub page: Option<PageAddress>,
    /// `--keep-previous`: keep the last serving generation's template for a rollback.
    pub keep_previous: bool,
    /// What was asked for and is more than the system gives, a sentence each. The site runs nevertheless, with less.
    #[serde(default)]
    pub out_of_reach: Vec<String>,
    /// The executable is not the one that is installed now.
    #[serde(default)]
    pub new_version: bool,
    /// Whether gunicorn's configuration has hooks for the master.
    #[serde(default)]
    pub master_hooks: bool,
    /// How the settings were understood, where that is not plain; a sentence each.
    #[serde(default)]
    pub understood: Vec<String>,
    /// Settings that were taken and have no effect here, and why nothing is lost; a sentence each.
    #[serde(default)]
    pub needless: Vec<String>,
    /// What looks like a mistake and was passed over, as gunicorn does; a sentence each.
    #[serde(default)]
    pub suspicious: Vec<String>,
    /// Device and inode of the working directory, as they were then.
    #[serde(default)]
    pub directory: Option<(u64, u64)>,
    /// What the peers of each listener are believed.
    #[serde(default)]
    pub trust: wire::Trust,
    /// What listeners that speak TLS do; none if there is no certificate.
    #[serde(default)]
    pub tls: Option<TlsSettings>,
    /// What a template is told; `generation`, `slots`, `listeners` and `tls` are filled in by the master.
    pub boot: wire::Boot,
}

/// Where a log goes.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum LogTarget {
    /// `-`
    Standard,
    /// Opened for appending, reopened on USR1.
    File(PathBuf),
}

impl Settings {
    /// Parses and checks what was typed. What was not given but found out is noted in the options.
    pub fn resolve(invocation: &Invocation, options: &mut Options) -> Result<Settings, Failure> {
        let application = application(options)?;
        Settings::for_application(application, invocation, options)
    }

    /// The same for somebody who only looks: no application need be named.
    pub fn look(invocation: &Invocation, options: &mut Options) -> Result<(), Failure> {
        let application = if options.is_given("app") { application(options)? } else { String::new() };
        Settings::for_application(application, invocation, options).map(drop)
    }

    /// The interpreter, as far as the layers above a settings file tell.
    fn interpreter(
        invocation: &Invocation,
        options: &mut Options,
        surroundings: Surroundings,
    ) -> Result<Interpreter, Failure> {
        let chdir = working_directory(invocation, options)?;
        let application = if options.is_given("app") { application(options)? } else { String::new() };
        let boot = wire::Boot { application, chdir, ..wire::Boot::default() };
        interpreter(invocation, options, &boot, surroundings)
    }

    fn for_application(
        application: String,
        invocation: &Invocation,
        options: &mut Options,
    ) -> Result<Settings, Failure> {
        let chdir = working_directory(invocation, options)?;
        let passed = Passed::read(invocation)?;
        let tls = tls::tls(options, &chdir)?;
        let binds = binds(&passed, options, &chdir, tls.is_some())?;
        tls::refuse_binds(tls.as_ref(), &binds, options)?;
        let (binds, protocols) = binds.into_iter().unzip();
        let range = workers(options)?;
        let workers = NonZeroU16::new(range.least).expect("at least 1 was asked for");
        let identity = identity::identity(options)?;
        let environment = environment(invocation, options, identity.as_ref())?;
        let new_privileges = options.switch("new-privileges")?;
        let (umask, socket_mode) = masks(options)?;
        let (error_log, access_log) = logs(options, &chdir)?;
        let control = control::choose(invocation, options, &chdir)?;
        let trust = boot::trust(options)?;
        let mut boot = boot::boot(options, application, &chdir, range.most)?;
        boot.access_log = access_log.is_some();
        boot.logging = logging::logging(options, &chdir)?;
        boot.gunicorn = program::for_workers(invocation, options);
        let guise = Guise { identity: identity.as_ref(), new_privileges, directory: &chdir };
        let surroundings = Surroundings { environment: &environment, guise };
        let python = interpreter(invocation, options, &boot, surroundings)?;
        let mut settings = Settings {
            file: options.file.clone(),
            embedding_file: options.embedding_file.clone(),
            binds,
            protocols,
            passed,
            hosts: Vec::new(),
            backlog: options.value("backlog", parse::count(1..=i32::MAX as u64))?,
            socket_mode,
            workers,
            range: range.elastic(),
            shrink_after: options.value("shrink-after", parse::duration)?,
            python: python.executable,
            python_version: python.version,
            engine: engine(invocation)?,
            environment,
            identity,
            new_privileges,
            umask,
            pid_file: options.optional("pid", |text| path(&chdir, text))?,
            daemon: options.switch("daemon")?,
            logs_unseen: options.gunicorn.is_some(),
            error_log,
            access_log,
            capture_output: options.switch("capture-output")?,
            control,
            control_access: control::access(options)?,
            control_chosen: options.is_given("control") || options.is_given("name"),
            boot_timeout: options.value("boot-timeout", parse::duration)?,
            canary: options.optional("canary", str::parse)?,
            canary_time: options.value("canary-time", parse::duration)?,
            watch: options.value("watch", rollout::watch)?,
            ready_after_watch: options.switch("ready-after-watch")?,
            smoke: options.list("smoke", str::parse)?,
            smoke_timeout: options.value("smoke-timeout", smoke::timeout)?,
            graceful_timeout: boot.worker.graceful_timeout,
            drain_delay: options.value("drain-delay", parse::duration)?,
            keep_previous: options.switch("keep-previous")?,
            statsd: statsd::statsd(options, &chdir)?,
            page: page::page(options, &chdir)?,
            out_of_reach: Vec::new(),
            new_version: false,
            master_hooks: options.master_hooks,
            understood: options
                .gunicorn
                .iter()
                .map(|from| in_force(from, range, options))
                .chain(options.understood.iter().cloned())
                .collect(),
            needless: options.needless.clone(),
            suspicious: options.suspicious.clone(),
            directory: chdir.metadata().ok().map(|found| (found.dev(), found.ino())),
            trust,
            tls,
            boot,
        };
        settings.go_together(options)?;
        settings.out_of_reach = room::out_of_reach(&settings, options);
        settings.identity.as_ref().map_or(Ok(()), |identity| settings.keep_from(identity))?;
        Ok(settings)
    }

    /// `--log-level`
    pub fn log_level(&self) -> slog::Level {
        wire::log::level(&self.boot.log_level).unwrap_or(slog::Level::Info)
    }

    /// Refuses a settings file that an application of this identity, or everybody, could write or replace: it says what the
    /// master does, who may do more than the application.
    pub fn keep_from(&self, identity: &Identity) -> Result<(), Failure> {
        self.file.iter().chain(&self.embedding_file).try_for_each(|file| {
            names::keep_from(file, identity).map_err(|why| {
                let what = format!("the application could change what {} has root do", file.display());
                Failure::new(Exit::System, format!("{what}: {why}"))
            })
        })
    }

    /// How many workers there may be at most, unless somebody scales by hand.
    pub fn most_workers(&self) -> u16 {
        self.range.map_or(self.workers.get(), |range| range.most)
    }

    /// As whom and where template and workers run.
    pub fn guise(&self) -> Guise<'_> {
        Guise { identity: self.identity.as_ref(), new_privileges: self.new_privileges, directory: &self.boot.chdir }
    }

    /// Refuses what excludes each other.
    fn go_together(&self, options: &Options) -> Result<(), Failure> {
        let worker = &self.boot.worker;
        let refuse = |name, why: &str| Err(options.failure(name, "", why));
        if let Some(share) = self.canary
            && let Err(why) = share.of(self.workers.get())
        {
            return refuse("canary", &why);
        }
        if !self.watch.is_zero() && !self.keep_previous {
            return refuse("watch", "it goes back to the generation before, and --no-keep-previous keeps none");
        }
        if !worker.timeout.is_zero() && worker.slow_request >= worker.timeout {
            return refuse("slow-request", "such a request is ended by --timeout before it could be logged");
        }
        if worker.max_requests == 0 && worker.max_requests_jitter > 0 {
            return refuse("max-requests-jitter", "it is added to --max-requests, which is off");
        }
        if worker.max_requests > 0 && u64::from(worker.refork) >= worker.max_requests {
            return refuse("refork", "--max-requests replaces a worker before it has answered as many");
        }
        if let Some(root) = static_files::out_of_reach(worker) {
            let why = format!("clients ask below --root-path. Say {}{}=…", worker.root_path, root.prefix);
            return Err(options.failure("static", &format!("{}=…", root.prefix), &why));
        }
        let logging = &self.boot.logging;
        let elsewhere =
            logging.form == wire::LogForm::Journald || logging.syslog.as_ref().is_some_and(|syslog| syslog.only);
        if self.daemon && !self.logs_unseen && !elsewhere && self.error_log == LogTarget::Standard {
            return refuse("daemon", "nobody would see the error log. Say --error-logfile FILE.");
        }
        if self.daemon && !self.logs_unseen && self.access_log == Some(LogTarget::Standard) {
            return refuse("daemon", "nobody would see the access log. Say --access-logfile FILE.");
        }
        if self.control.is_none() && self.control_access.is_shared() {
            return refuse("control-mode", "there is no control socket with --control=off");
        }
        if let Some(bind) = self.page.iter().flat_map(|page| self.binds.iter().filter(|bind| page.is_at(bind))).next() {
            let given = options.given("metrics").texts.concat();
            let why = format!("the site itself listens there, by --bind {bind}. Name another address.");
            return Err(options.failure("metrics", &given, &why));
        }
        boot::access_log_is_ours(options)?;
        room::threads_have_room(self).or_else(|why| refuse("threads", &why))
    }
}

fn application(options: &Options) -> Result<String, Failure> {
    if options.is_given("paste") {
        let layer = |name| &options.given(name).layer;
        if matches!(layer("paste"), Layer::File(..)) {
            return Err(options.failure("paste", "", "it stands on the command line or in OSTLER_PASTE only"));
        }
        if options.given("paste").texts.iter().all(String::is_empty) {
            return Err(options.failure("paste", "", "expected a file"));
        }
        if !matches!(layer("app"), Layer::File(..)) {
            return Err(options.failure("app", "", "--paste names the application already. Leave one of them out."));
        }
    }
    match options.optional("app", parse::line)? {
        Some(application) if !application.trim().is_empty() => Ok(application),
        _ => Err(Failure::usage("no application is named. Say `ostler module:attribute`, as in `ostler mysite.wsgi`.")),
    }
}

fn working_directory(invocation: &Invocation, options: &mut Options) -> Result<PathBuf, Failure> {
    let chdir = options.optional("chdir", |text| path(&invocation.directory, text))?;
    let chdir = chdir.unwrap_or_else(|| invocation.directory.clone());
    let found = chdir.metadata().map_err(|error| options.failure("chdir", &chdir.to_string_lossy(), &words(&error)))?;
    if !found.is_dir() {
        return Err(options.failure("chdir", &chdir.to_string_lossy(), "not a directory"));
    }
    if !options.is_given("chdir") {
        options.found("chdir", chdir.to_string_lossy());
    }
    Ok(chdir)
}

fn binds(
    passed: &Passed,
    options: &mut Options,
    chdir: &Path,
    has_certificate: bool,
) -> Result<Vec<(Address, Protocol)>, Failure> {
    let uwsgi = options.choice("protocol")? == "uwsgi";
    let usual = |address: &Address| match (uwsgi, has_certificate) {
        (true, _) => Protocol::Uwsgi,
        (false, true) => tls::usual(address),
        (false, false) => Protocol::Http,
    };
    if !passed.sockets.is_empty() && (!options.is_given("bind") || from_platform(options)) {
        let passed = Address::Passed(None);
        return Ok(vec![(passed.clone(), usual(&passed))]);
    }
    let with_protocol = |text: &str| Address::with_protocol(text, chdir);
    let spoken = |(address, said): (Address, Option<Protocol>)| {
        let protocol = said.unwrap_or_else(|| usual(&address));
        (address, protocol)
    };
    let binds: Vec<(Address, Protocol)> = options.list("bind", with_protocol)?.into_iter().map(spoken).collect();
    let before = |place: usize, address: &Address| binds[..place].iter().any(|(other, _)| other == address);
    let twice = binds.iter().map(|(address, _)| address).enumerate().find(|(place, address)| before(*place, address));
    match twice {
        _ if binds.is_empty() => Err(options.failure("bind", "", "no address is named")),
        Some((_, Address::Tcp(_, 0))) | None => Ok(binds),
        Some((_, address)) => Err(options.failure("bind", &address.to_string(), "this address is named twice")),
    }
}

fn from_platform(options: &Options) -> bool {
    options.given("bind").layer == Layer::Environment("PORT".into())
}

fn workers(options: &mut Options) -> Result<WorkerRange, Failure> {
    if !options.is_given("workers") && options.gunicorn.is_none() {
        // Knows the affinity mask and the quotas of cgroups, version 1 and 2.
        let cpus = std::thread::available_parallelism().map_or(2, |cpus| cpus.get().clamp(2, MOST_WORKERS.into()));
        options.found("workers", cpus.to_string());
    }
    options.value("workers", str::parse)
}

/// `gunicorn.conf.py in force: workers=1 (gunicorn's default; 4 processors here)`
fn in_force(from: &str, range: WorkerRange, options: &Options) -> String {
    let why = match options.is_given("workers") {
        true => String::new(),
        false => match std::thread::available_parallelism().map_or(1, usize::from) {
            1 => " (gunicorn's default; 1 processor here)".into(),
            count => format!(" (gunicorn's default; {count} processors here)"),
        },
    };
    format!("{from} in force: workers={range}{why}")
}

fn logs(options: &Options, chdir: &Path) -> Result<(LogTarget, Option<LogTarget>), Failure> {
    let target = |text: &str| match text {
        "-" => Ok(LogTarget::Standard),
        _ => path(chdir, text).map(LogTarget::File),
    };
    let error_log = options.value("error-logfile", target)?;
    Ok((
        error_log,
        options
            .optional("access-logfile", |text| if text == "off" { Ok(None) } else { target(text).map(Some) })?
            .flatten(),
    ))
}

fn log_level(options: &Options) -> Result<slog::Level, Failure> {
    let word = options.choice("log-level")?;
    Ok(wire::log::level(&word).expect("every word of the table is a level"))
}

/// Kept as written below `base`: a symbolic link in it is followed anew by each reload.
fn path(base: &Path, text: &str) -> Result<PathBuf, String> {
    match text.is_empty() || text.contains('\0') {
        true => Err("expected a path".into()),
        false => Ok(base.join(text)),
    }
}

fn directory(base: &Path, text: &str) -> Result<PathBuf, String> {
    let path = path(base, text)?;
    match path.is_dir() {
        true => Ok(path),
        false => Err("there is no such directory".into()),
    }
}

/// Part of a file name and of what `ps` shows.
fn name(text: &str) -> Result<String, String> {
    match text.is_empty() || text.starts_with('.') || text.contains(|c: char| c == '/' || c.is_control()) {
        true => Err("expected a word without slashes".into()),
        false => Ok(text.into()),
    }
}
