//! The typed messages between master, template and worker.

use std::{path::PathBuf, time::Duration};

use serde::{Deserialize, Serialize};

use crate::{
    channel::{fit, fit_sentence},
    meters::MoveReason,
    settings::{Boot, TicketKeys, Tls},
};

/// From the master to a template.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub enum ToTemplate {
    /// The first message; to a worker that is to be the template, that it is. Its descriptors, in this order: the scoreboard, the exchange's sending end, the
    /// exchange's receiving end, the access log if [`Boot::access_log`], then one for each [`Boot::listeners`].
    Boot(Box<Boot>),
    /// Fork a worker for this slot. Its descriptors: the worker's channel and, with [`Boot::tls`], its socket to the key keeper.
    Fork {
        /// The slot of the scoreboard that the worker writes.
        slot: u16,
    },
    /// Go on in this error log (standard output and standard error go along where they lead to the one before);
    /// the second, if there is one, replaces the access log. For workers forked from now on.
    Reopen,
    /// What is shared was made anew, because an application has broken it. Its descriptors: the exchange's two ends and the listeners, in
    /// the order of [`ToTemplate::Boot`]. For workers forked from now on.
    Inherit,
    /// Certificates were renewed. For workers forked from now on.
    Certificates(Box<Tls>),
    /// The keys of session tickets have changed. For workers forked from now on.
    TicketKeys(TicketKeys),
    /// End. Workers that it forked are not its children any more and live on.
    Quit,
    /// The first message to an interpreter that becomes no template, but calls the hooks of gunicorn's master: the settings to begin with,
    /// or, later, those of a reload.
    Hooks(Box<Boot>),
    /// To that one: a hook's moment has come.
    Hook(MasterHook),
}

/// When a hook of gunicorn's master is called. Workers are named by what gunicorn calls their age, which here is the slot and one.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum MasterHook {
    /// `when_ready(server)`: the addresses are bound, and no worker is forked yet.
    WhenReady,
    /// `pre_fork(server, worker)`
    PreFork {
        /// The worker's.
        age: u32,
    },
    /// No hook's: this worker was forked.
    Forked {
        /// The worker's.
        age: u32,
        /// Its process.
        pid: i32,
    },
    /// `child_exit(server, worker)`: it has ended.
    ChildExit {
        /// Its process.
        pid: i32,
    },
    /// `nworkers_changed(server, new, old)`
    WorkersChanged {
        /// How many there are to be.
        new: u16,
        /// How many there were to be.
        old: Option<u16>,
    },
    /// `on_exit(server)`; the process ends after it.
    OnExit,
}

/// From a template to the master.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub enum FromTemplate {
    /// The interpreter runs, and the application is imported, if it was to be. Workers can be forked.
    Loaded(Loaded),
    /// The application's own code runs from now on. The template can be asked for stacks by [`crate::stacks_signal`].
    Begins(BootStep),
    /// The answer to that.
    Stacks(String),
    /// The application could not be imported or is none. The template ends after this.
    Failed(BootFailure),
    /// A worker was forked for this slot; the master is its parent.
    Forked {
        /// As asked for.
        slot: u16,
        /// The worker.
        pid: i32,
    },
    /// fork(2) gave this error.
    ForkFailed {
        /// As asked for.
        slot: u16,
        /// The system's words.
        error: String,
    },
}

/// What the application's code is run for before workers are forked.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum BootStep {
    /// Its import, and its factory's call.
    Import,
    /// `--warm-up`
    WarmUp,
}

/// What a template says of itself when it is ready to fork.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Loaded {
    /// [`crate::VERSION`] of the engine.
    pub wire: u32,
    /// `3.11.7`
    pub python: String,
    /// `sys.executable`
    pub executable: String,
    /// Whether the workers share the application with the template (`preload`), or import it for themselves.
    pub preloaded: bool,
    /// With `preload = auto` and `preloaded = false`: what the import left behind that forking would share, one
    /// phrase each, such as `thread "flush-queue"` or `socket connected to 10.0.0.5:5432`.
    pub unsafe_to_fork: Vec<String>,
    /// How long the import took.
    pub import: Duration,
    /// With `--reload`: it came to nothing, and that is what the workers show.
    #[serde(default)]
    pub failed: bool,
}

/// Why a template or a worker could not boot.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct BootFailure {
    /// Decides the exit code.
    pub kind: BootFailureKind,
    /// One sentence: what, which, why.
    pub message: String,
    /// The Python traceback, or empty.
    pub traceback: String,
    /// With `--reload`: whose change may mend it.
    #[serde(default)]
    pub files: Vec<SeenFile>,
}

impl BootFailure {
    /// A failure whose texts are cut to fit a packet.
    pub fn new(kind: BootFailureKind, message: &str, traceback: &str) -> BootFailure {
        BootFailure { kind, message: fit_sentence(message), traceback: fit(traceback), files: Vec::new() }
    }
}

/// A file or directory as it was at a moment.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SeenFile {
    /// Absolute.
    pub path: PathBuf,
    /// None if it was not there.
    pub mark: Option<FileMark>,
}

/// Differs after a change. Of a file: when it was changed in seconds and nanoseconds, which it is, and its length. Of a directory: its
/// names.
pub type FileMark = (i64, i64, u64, u64);

/// Code that does not come up, as `--reload` shows it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct FailedCode {
    /// One sentence: what, which, why.
    pub message: String,
    /// The Python traceback, or empty.
    pub traceback: String,
    /// Whose change may mend it.
    pub files: Vec<SeenFile>,
}

impl From<BootFailure> for FailedCode {
    fn from(BootFailure { message, traceback, files, .. }: BootFailure) -> FailedCode {
        FailedCode { message, traceback, files }
    }
}

/// The kinds of failure that have exit codes of their own.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum BootFailureKind {
    /// The interpreter or the engine did not come up.
    Interpreter,
    /// The settings file, if that is a program.
    Settings,
    /// The import raised an exception.
    Import,
    /// The module has no such attribute, or it is not callable, or the factory failed.
    Application,
}

/// From the master to a worker.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub enum ToWorker {
    /// The generation is complete: accept from now on. Until then the worker is ready, but takes no connection from listeners or exchange.
    Serve,
    /// Accept no more, finish what is under way, then end.
    Drain {
        /// The bound on all of it; then the worker logs its stragglers with their stacks and exits.
        within: Duration,
        /// Whether idle connections move to the exchange (reload, recycle, scale-down) or are told
        /// `Connection: close` because no worker is left to take them (stop).
        hand_over: bool,
        /// Go on accepting for this long first (`--drain-delay`); then empty the accept queue.
        delay: Duration,
        /// By their places, the listeners that close for good with the last worker: the site stops, and nobody has passed them on to it.
        #[serde(default)]
        closes: Vec<u16>,
        /// Why connections move, if they do.
        #[serde(default)]
        why: MoveReason,
    },
    /// Drain by hand-over within this time, end all threads, and become the template of the generation, on the channel that comes along.
    /// Its master says [`ToTemplate::Boot`] there once it has heard [`FromTemplate::Loaded`].
    BecomeTemplate {
        /// The bound on the drain.
        within: Duration,
    },
    /// End at once, without waiting for requests.
    Quit,
    /// The log files were rotated. Descriptors: as in [`ToTemplate::Reopen`].
    Reopen,
    /// Serve the connection that comes along, as if a listener had brought it: a smoke test, whose other end is the master's. It is no
    /// client's, so that it does not move and is not counted.
    Smoke {
        /// Whether its client came by https.
        https: bool,
        /// The port that its client has used.
        port: u16,
    },
    /// Whether to let the others accept after each connection. Else the kernel wakes the one that has listened for longest, and where few
    /// clients come at once a canary, which is younger than all, would have none of them.
    TakeTurns(bool),
    /// Send back the Python stacks of all threads.
    Stacks,
    /// `--reload`: newer code does not come up. Show it to browsers, and serve on.
    Show(Box<FailedCode>),
    /// As [`ToTemplate::Inherit`], with the same descriptors.
    Inherit,
    /// These certificates hold for connections from now on. Its descriptor: the worker's socket to the key keeper that has their keys, in
    /// place of the one before.
    Certificates(Box<Tls>),
    /// The keys of session tickets from now on.
    TicketKeys(TicketKeys),
    /// The loop has made no turn for a while. Its answer is the next turn, which the scoreboard counts.
    Nudge,
}

/// From a worker to the master.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub enum FromWorker {
    /// The application is loaded and the loop runs.
    Ready,
    /// `--reload`, before that: there is no application, because the code does not come up. Why, in a sentence; requests are answered with
    /// the same.
    NoApplication(String),
    /// The application could not be imported. The worker exits after this.
    Failed(BootFailure),
    /// The worker has answered [`crate::WorkerSettings::refork`] requests: what it has loaded for them is worth sharing.
    Warm,
    /// The worker wants to be replaced, and then drained: a limit was reached or a request is stuck.
    Replace(Recycle),
    /// The drain has begun: from here on the worker takes no connection.
    AcceptsNoMore,
    /// The drain is over: nothing is under way any more, or its bound has passed. The worker exits after this.
    Drained,
    /// The answer to [`ToWorker::Stacks`].
    Stacks(String),
    /// What the application has raised, or logged as raised, while it answered [`ToWorker::Smoke`]: the traceback.
    Raised(String),
    /// `--reload`: a file has changed.
    Changed {
        /// Which.
        path: PathBuf,
        /// Tells this change from another one of the same file.
        stamp: i64,
    },
    /// The worker has something to do, and the master does not look (see [`crate::scoreboard::Slot::watched`]).
    AtWork,
}

/// Why a worker asks to be replaced.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum Recycle {
    /// `--max-requests`
    Requests,
    /// `--max-memory`
    Memory {
        /// Bytes that it holds.
        held: u64,
        /// Bytes that it may hold.
        limit: u64,
    },
    /// `--max-age`
    Age,
    /// A request passed `--timeout`; its thread cannot be freed.
    Timeout,
    /// The worker was sent SIGTERM by another process than the master.
    Signal,
    /// A panic in the loop or in a call; the process is not trusted any more.
    Panic,
}
