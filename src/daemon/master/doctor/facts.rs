//! What the checks see: the settings in force, what the status tells, and what was read from the machine. What could not be read is none.

use std::{
    collections::BTreeMap,
    fs,
    path::PathBuf,
    time::{Duration, SystemTime},
};

use nix::unistd::geteuid;
use ostler_wire::{Trust, WorkerSettings, limits};
use serde_json::Number;

use super::{
    machine::{self, Filesystem, LogFile, NewerFiles, Place},
    processes::{self, Process},
};
use crate::{
    master::status::{CertificateStatus, Queue, Status},
    resources::logs::Logs,
    settings::{Access, Settings, TlsSettings},
    sys::identity::Identity,
};

/// The name of the template among the processes.
const TEMPLATE: &str = "template";

/// All of it.
#[derive(Debug, Default)]
pub struct Facts {
    // The settings in force.
    pub workers: u64,
    pub worker: WorkerSettings,
    pub trust: Trust,
    pub tls: Option<TlsSettings>,
    /// As whom the application runs, if not as the master.
    pub identity: Option<Identity>,
    pub backlog: u64,
    pub boot_timeout: Duration,
    pub drain_delay: Duration,
    pub control: Access,
    pub python: PathBuf,
    pub python_version: String,
    pub reload: bool,
    pub directory: PathBuf,
    /// Where that led when the settings were read.
    pub directory_then: Option<Place>,

    // What the status tells.
    pub generation: u32,
    pub listeners: Vec<Listener>,
    pub requests: u64,
    /// Of these, those whose forwarding fields were ignored.
    pub unbelieved: u64,
    /// How many had to wait for a thread, and how long, taken together.
    pub waits: u64,
    pub waited: Duration,
    /// How many workers were replaced, by cause.
    pub restarts: BTreeMap<String, u64>,
    pub certificates: Vec<CertificateStatus>,

    // The machine.
    pub now: Option<SystemTime>,
    pub processors: Option<u64>,
    pub somaxconn: Option<u64>,
    /// A number, and where it was read.
    pub most_memory: Option<(u64, String)>,
    pub most_tasks: Option<(u64, String)>,
    pub directory_now: Option<Place>,
    pub newer_files: Option<NewerFiles>,
    pub newer_packages: Option<NewerFiles>,
    /// Of the spool directory, or why there is none.
    pub spool: Option<Result<Filesystem, String>>,
    pub logs: Vec<LogFile>,
    /// The unit of systemd, and how long it lets a stop take; none for ever.
    pub unit: Option<(String, Option<Duration>)>,
    /// The master, and its executable if that is no longer on disk.
    pub master: u32,
    pub master_deleted: Option<PathBuf>,
    /// The template and the workers.
    pub processes: Vec<Process>,
    /// What could not be read, and why.
    pub unread: Vec<String>,
}

/// One that clients connect to.
#[derive(Debug, Clone, Default)]
pub struct Listener {
    /// `http://127.0.0.1:8000`
    pub name: String,
    /// How many connections may wait there.
    pub room: Option<u64>,
}

impl Facts {
    /// Reads all of it. May take its time.
    pub fn gather(status: &Status, settings: &Settings, logs: &Logs) -> Facts {
        let boot = &settings.boot;
        let mut facts = Facts {
            workers: settings.most_workers().into(),
            worker: boot.worker.clone(),
            trust: settings.trust.clone(),
            tls: settings.tls.clone(),
            identity: settings.identity.clone(),
            backlog: settings.backlog.unsigned_abs().into(),
            boot_timeout: settings.boot_timeout,
            drain_delay: settings.drain_delay,
            control: settings.control_access,
            python: settings.python.clone(),
            python_version: settings.python_version.clone(),
            reload: boot.reload.is_some(),
            directory: boot.chdir.clone(),
            directory_then: settings.directory.map(|(device, inode)| Place { device, inode }),
            ..Facts::default()
        };
        facts.read_status(status);
        facts.read_machine(settings, logs);
        facts
    }

    fn read_status(&mut self, status: &Status) {
        let named = |prefix: &str| {
            let numbers = status.metrics.iter().filter(|(name, _)| name.starts_with(prefix));
            numbers.filter_map(|(_, number)| number.as_u64()).fold(0, u64::saturating_add)
        };
        self.requests = named("ostler_requests_total{");
        self.unbelieved = named("ostler_forwarded_ignored_total");
        self.waits = named("ostler_request_waits_total");
        let waited = status.metrics.get("ostler_request_wait_seconds_total").and_then(Number::as_f64);
        self.waited = waited.and_then(|seconds| Duration::try_from_secs_f64(seconds).ok()).unwrap_or_default();
        self.restarts = status.restarts.clone();
        self.certificates = status.certificates.clone();
        self.master = status.pid;
        let listener =
            |(name, queue): (&String, &Queue)| Listener { name: name.clone(), room: queue.room.map(u64::from) };
        self.listeners = status.addresses.iter().zip(&status.queues).map(listener).collect();
        let serving = status.generations.iter().find(|generation| generation.stage == "serving");
        let Some(serving) = serving.or(status.generations.last()) else { return };
        self.generation = serving.generation;
        let template = serving.template.map(|pid| (TEMPLATE.to_owned(), pid));
        let workers =
            serving.workers.iter().filter_map(|worker| Some((format!("worker {}", worker.slot), worker.pid?)));
        for (name, pid) in template.into_iter().chain(workers) {
            self.processes.push(Process::read(name, pid, &mut self.unread));
        }
        if serving.stage == "serving" {
            let since = SystemTime::now().checked_sub(Duration::from_secs_f64(serving.since.max(0.0)));
            let looked = since.filter(|_| !self.reload);
            self.newer_files = looked.and_then(|since| NewerFiles::find(&self.directory, since));
            let packages = machine::packages(&self.python, &self.python_version);
            self.newer_packages = packages.zip(since).and_then(|(packages, since)| NewerFiles::of(packages, since));
        }
    }

    fn read_machine(&mut self, settings: &Settings, logs: &Logs) {
        let user = settings.identity.as_ref().map_or_else(|| geteuid().as_raw(), |identity| identity.user);
        self.now = Some(SystemTime::now());
        self.processors = std::thread::available_parallelism().ok().map(|count| count.get() as u64);
        self.somaxconn = machine::number("/proc/sys/net/core/somaxconn", &mut self.unread);
        self.most_memory = limits::most_memory();
        self.most_tasks = limits::most_tasks(user);
        self.directory_now = Place::of(&self.directory);
        self.spool = Some(Filesystem::of_path(&self.worker.spool_directory));
        self.logs = LogFile::all(logs);
        self.unit = machine::unit(&mut self.unread);
        // A child of the master runs the same.
        self.master_deleted = fs::read_link("/proc/self/exe").ok().filter(|path| processes::is_deleted(path));
    }

    /// The workers among the processes.
    pub fn each_worker(&self) -> impl Iterator<Item = &Process> {
        self.processes.iter().filter(|process| process.name != TEMPLATE)
    }
}
