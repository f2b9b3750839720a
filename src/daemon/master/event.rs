//! What can happen to the master, and what it can do about it. Data only: state.rs decides, perform.rs acts.

use std::{
    fmt,
    ops::{Add, Sub},
    time::Duration,
};

use ostler_wire::{self as wire, BootFailure, BootFailureKind, FromTemplate, FromWorker, Loaded, Recycle};
use serde::{Deserialize, Serialize};

use crate::exit::{self, Exit};

/// The number of a generation; counts from 1.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Number(pub u32);

/// A moment of CLOCK_MONOTONIC in milliseconds: the scoreboard's clock, and still true after an upgrade.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Moment(pub u64);

/// Somebody at the control socket who waits for an outcome.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Asker(pub u64);

/// A bound socket, as the performer numbers them.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct ListenerId(pub u32);

/// What happened.
#[derive(Debug, Clone)]
pub enum Event {
    /// The master begins: boot the first generation.
    Start,
    /// TERM, INT, QUIT, `ostler stop`.
    Stop(Stop, Option<Asker>),
    /// HUP, `ostler reload`.
    Reload(Option<Asker>),
    /// `ostler rollback`
    Rollback(Option<Asker>),
    /// USR2, `ostler upgrade`.
    Upgrade(Option<Asker>),
    /// `ostler recycle`: replace every worker by one of the same code.
    Recycle(Option<Asker>),
    /// TTIN, TTOU, `ostler scale`.
    Scale(Change, Option<Asker>),
    /// WINCH of a daemon: let all workers go, keep the rest.
    Rest,
    /// [`Action::Boot`] has started a template.
    Spawned {
        /// Whose.
        generation: Number,
        /// The template.
        pid: i32,
        /// What its settings say.
        plan: Plan,
    },
    /// [`Action::Boot`] came to nothing.
    Unbootable {
        /// Whose.
        generation: Number,
        /// Why.
        failure: Failure,
    },
    /// A template's message.
    Template {
        /// Whose.
        generation: Number,
        /// What it says.
        says: FromTemplate,
    },
    /// A template says that it has forked a worker, but names a process that is no child of the master, or not any more.
    Alleged {
        /// Whose.
        generation: Number,
        /// As it says.
        slot: u16,
        /// As it says.
        pid: i32,
    },
    /// A template's channel is closed at its end.
    TemplateClosed(Number),
    /// A template's channel brought something that no template sends. It is closed.
    TemplateNonsense(Number, String),
    /// A worker's message.
    Worker {
        /// Whose.
        generation: Number,
        /// Which.
        slot: u16,
        /// What it says.
        says: FromWorker,
    },
    /// A worker's channel is closed at its end.
    WorkerClosed {
        /// Whose.
        generation: Number,
        /// Which.
        slot: u16,
    },
    /// A worker's channel brought something that no worker sends. It is closed.
    WorkerNonsense {
        /// Whose.
        generation: Number,
        /// Which.
        slot: u16,
        /// What is wrong with it.
        why: String,
    },
    /// A worker was looked at.
    Pulse {
        /// Whose.
        generation: Number,
        /// Which.
        slot: u16,
        /// It has nothing to do, or its loop has turned since it was last looked at.
        alive: bool,
    },
    /// A child was stopped by a signal, or continued.
    Stopped {
        /// Which.
        pid: i32,
        /// Continued, if not.
        stopped: bool,
    },
    /// A child has ended: a template, a worker, a trial, or a stranger.
    Exited {
        /// Which.
        pid: i32,
        /// How.
        exit: Ending,
    },
    /// [`Action::TryUpgrade`] has started the new executable.
    TrialStarted(i32),
    /// The new executable could not be started, or has not replaced this one.
    UpgradeFailed(String),
    /// This is the new executable, and it has the old one's state.
    Upgraded,
    /// Time has passed.
    Tick,
}

/// What to do.
#[derive(Debug, Clone)]
pub enum Action {
    /// Start a template; answered by Spawned or Unbootable.
    Boot {
        /// The new generation.
        generation: Number,
        /// The generation whose settings it has, too; none to look at settings, binds and interpreter afresh, which only an
        /// operator has done.
        like: Option<Number>,
    },
    /// Have the template fork a worker.
    Fork {
        /// Whose.
        generation: Number,
        /// Which.
        slot: u16,
    },
    /// Send a worker [`wire::ToWorker::Serve`].
    Admit {
        /// Whose.
        generation: Number,
        /// Which.
        slot: u16,
    },
    /// Send a worker [`wire::ToWorker::Drain`].
    Drain {
        /// Whose.
        generation: Number,
        /// Which.
        slot: u16,
        /// The bound.
        within: Duration,
        /// Whether connections move.
        hand_over: bool,
        /// Accept for this long first.
        delay: Duration,
    },
    /// Send a worker [`wire::ToWorker::Nudge`].
    Nudge {
        /// Whose.
        generation: Number,
        /// Which.
        slot: u16,
    },
    /// Send a worker [`wire::ToWorker::Quit`].
    Quit {
        /// Whose.
        generation: Number,
        /// Which.
        slot: u16,
    },
    /// Close the channel of a worker that may or may not exist: its template died before it told the process number.
    Abandon {
        /// Whose.
        generation: Number,
        /// Which.
        slot: u16,
    },
    /// A worker is gone: close its channel.
    Release {
        /// Whose.
        generation: Number,
        /// Which.
        slot: u16,
    },
    /// SIGKILL.
    Kill(i32),
    /// Send a process that has said that it hears it [`wire::stacks_signal`].
    AskStacks(i32),
    /// Send a template [`wire::ToTemplate::Quit`].
    EndTemplate(Number),
    /// Close a template's channel.
    CloseTemplate(Number),
    /// A generation is complete and serves from now on.
    Serve(Number),
    /// Let go of the listening sockets: once the workers have, too, nobody is kept waiting for a site that has ended.
    StopListening,
    /// A generation is gone: close all that only it used.
    Forget(Number),
    /// Start the new executable as a child that reads our state; answered by TrialStarted or UpgradeFailed.
    TryUpgrade,
    /// Execute the new executable in this process; answered by UpgradeFailed, or by Upgraded over there.
    Execute,
    /// Tell somebody what came of what they asked for.
    Answer(Asker, Result<String, Failure>),
    /// Write to the log.
    Note(Note),
    /// Clean up and end.
    Exit(Result<(), Failure>),
}

impl Action {
    /// What the master is doing when it does this.
    pub fn name(&self) -> &'static str {
        match self {
            Action::Boot { .. } => "boot",
            Action::Fork { .. } => "fork",
            Action::Admit { .. } | Action::Nudge { .. } | Action::Drain { .. } | Action::Quit { .. } => {
                "order to a worker"
            }
            Action::Abandon { .. } | Action::Release { .. } => "close a worker's channel",
            Action::Kill(_) => "kill",
            Action::EndTemplate(_) | Action::CloseTemplate(_) => "end a template",
            Action::Serve(_) => "serve",
            Action::StopListening | Action::Forget(_) => "close what is not used",
            Action::TryUpgrade | Action::Execute => "upgrade",
            Action::Answer(..) => "answer",
            Action::Note(_) => "log",
            Action::AskStacks(_) => "ask for stacks",
            Action::Exit(_) => "exit",
        }
    }
}

/// What the log is told.
#[derive(Debug, Clone)]
pub enum Note {
    /// A reload begins.
    ReloadAsked,
    /// A reload waits for the one under way.
    ReloadQueued,
    /// A roll-back begins, to this generation.
    RollbackAsked(Number),
    /// What a signal asked for is not possible now.
    Refused(String),
    /// An upgrade begins.
    UpgradeAsked,
    /// It came to nothing.
    UpgradeFailed(String),
    /// It is done.
    Upgraded,
    /// A generation begins.
    Booting(Number),
    /// A worker is late with its boot: where it hangs.
    BootHangs(WorkerName, String),
    /// Its template can fork.
    Loaded(Number, Loaded),
    /// A worker serves.
    WorkerReady {
        /// Which.
        worker: WorkerName,
        /// From fork to ready.
        took: Duration,
    },
    /// A generation serves.
    Serving(Number, u16),
    /// Another generation serves; this one's workers drain.
    Draining(Number),
    /// A generation's template stays for a roll-back.
    Kept(Number),
    /// Nothing of a generation is left.
    Gone(Number),
    /// A generation never served.
    Discarded(Number, Failure),
    /// A worker is about to be replaced.
    Replacing(WorkerName, Why),
    /// A worker died by itself.
    WorkerLost {
        /// Which.
        worker: WorkerName,
        /// How.
        exit: Ending,
        /// Since its fork.
        uptime: Duration,
        /// When its successor is forked; none if it needs none.
        retry: Option<Duration>,
    },
    /// What a worker says is not believed any more. It is replaced.
    WorkerDistrusted(WorkerName, String),
    /// What a template says is not believed any more. A new generation follows, if it served.
    TemplateDistrusted(Number, String),
    /// A worker could not import the application.
    WorkerFailed(WorkerName, Failure),
    /// A worker ended because it was told to.
    WorkerDrained(WorkerName),
    /// A worker is killed because it did not end, or become ready, in time.
    Straggler(WorkerName, Late),
    /// A worker was stopped by a signal, or continued.
    Stopped(WorkerName, bool),
    /// A template was stopped by a signal, or continued.
    TemplateStopped(Number, bool),
    /// A template is killed because it did not fork in time.
    TemplateLate(Number),
    /// The template could not fork.
    ForkFailed(Number, String),
    /// The serving generation's template died; a reload follows.
    TemplateLost(Number, Ending),
    /// The number of workers changes.
    Scaled(u16),
    /// The master ends.
    Stopping(Stop),
    /// Processes that do not even die by SIGKILL are left behind.
    LeftBehind(Vec<i32>),
}

/// A worker, as the log names it.
#[derive(Debug, Clone, Copy)]
pub struct WorkerName {
    /// Whose.
    pub generation: Number,
    /// Which.
    pub slot: u16,
    /// Its process, if known.
    pub pid: Option<i32>,
}

/// What a straggler was late with.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Late {
    /// `--boot-timeout`
    Boot,
    /// `--graceful-timeout`
    Drain,
    /// Its channel is closed, and yet it lives.
    Closed,
    /// A turn of its loop: `--timeout` and a little more have passed without one.
    Turn,
    /// SIGCONT, for as long.
    Stopped,
}

/// Why a worker is replaced.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum Why {
    /// It asked.
    Asked(Recycle),
    /// `ostler recycle`
    Operator,
}

/// How the number of workers changes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum Change {
    /// By so many more, or fewer.
    By(i32),
    /// To so many.
    To(u16),
}

/// How to stop.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub enum Stop {
    /// TERM: requests under way are finished.
    Graceful,
    /// INT and QUIT, or a second TERM: workers end at once.
    Quick,
    /// Whoever is asked a third time has to go.
    Kill,
}

/// What the machine needs to know of a generation's settings.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Plan {
    /// As typed, for people.
    pub application: String,
    /// `--workers`
    pub workers: u16,
    /// The scoreboard's slots. Half of them are for workers that come while others go.
    pub slots: u16,
    /// `--boot-timeout`
    pub boot_timeout: Duration,
    /// `--graceful-timeout`
    pub graceful_timeout: Duration,
    /// `--drain-delay`
    pub drain_delay: Duration,
    /// How long a worker that has something to do may make no progress, or be stopped by a signal; zero for no bound.
    #[serde(default)]
    pub patience: Duration,
    /// `--keep-previous`
    pub keep_previous: bool,
    /// What it listens on.
    pub listeners: Vec<ListenerId>,
}

/// How a process ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum Ending {
    /// By exit(2).
    Status(i32),
    /// By a signal.
    Signal(i32),
    /// By the kernel, for want of memory.
    OutOfMemory,
}

/// Why a generation, or the master, could not boot.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Failure {
    /// Decides the exit code.
    pub exit: Exit,
    /// What, which, why; one sentence and perhaps a hint.
    pub message: String,
    /// The Python traceback, or empty.
    pub traceback: String,
}

impl Failure {
    /// The same, with what came of it said first.
    pub fn after(&self, what: &str) -> Failure {
        Failure { message: format!("{what}: {}", self.message), ..self.clone() }
    }

    /// One without a traceback.
    pub fn new(exit: Exit, message: impl Into<String>) -> Failure {
        Failure { exit, message: message.into(), traceback: String::new() }
    }
}

impl From<BootFailure> for Failure {
    fn from(BootFailure { kind, message, traceback }: BootFailure) -> Failure {
        let exit = match kind {
            BootFailureKind::Interpreter => Exit::Interpreter,
            BootFailureKind::Import => Exit::Import,
            BootFailureKind::Application => Exit::Application,
        };
        Failure { exit, message, traceback }
    }
}

impl From<Failure> for exit::Failure {
    fn from(failure: Failure) -> exit::Failure {
        exit::Failure::new(failure.exit, failure.to_string())
    }
}

impl From<exit::Failure> for Failure {
    fn from(exit::Failure { exit, message }: exit::Failure) -> Failure {
        Failure::new(exit, message)
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

impl fmt::Display for Ending {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        match *self {
            Ending::Status(status) => write!(f, "exit status {status}"),
            Ending::Signal(signal) => match nix::sys::signal::Signal::try_from(signal) {
                Ok(name) => write!(f, "{name}"),
                Err(_) => write!(f, "signal {signal}"),
            },
            Ending::OutOfMemory => f.write_str("SIGKILL by the kernel, for want of memory"),
        }
    }
}

impl fmt::Display for Why {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        f.write_str(match self {
            Why::Asked(Recycle::Requests) => "max-requests",
            Why::Asked(Recycle::Memory { .. }) => "max-memory",
            Why::Asked(Recycle::Age) => "max-age",
            Why::Asked(Recycle::Timeout) => "timeout",
            Why::Asked(Recycle::Signal) => "SIGTERM",
            Why::Asked(Recycle::Panic) => "panic",
            Why::Operator => "recycle",
        })
    }
}

impl fmt::Display for Number {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl Moment {
    /// This moment.
    pub fn now() -> Moment {
        Moment(wire::scoreboard::now())
    }
}

impl Add<Duration> for Moment {
    type Output = Moment;
    fn add(self, duration: Duration) -> Moment {
        Moment(self.0.saturating_add(u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)))
    }
}

impl Sub for Moment {
    type Output = Duration;
    fn sub(self, earlier: Moment) -> Duration {
        Duration::from_millis(self.0.saturating_sub(earlier.0))
    }
}
