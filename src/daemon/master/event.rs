//! What can happen to the master, and what it can do about it. Data only: state.rs decides, perform.rs acts.

use std::{fmt, time::Duration};

use ostler_wire::{FromTemplate, FromWorker, meters::MoveReason};
use serde::{Deserialize, Serialize};

use super::notes::Note;
use crate::{
    exit::Failure,
    resources::{
        control::{Asker, Change},
        listen::ListenerId,
        smoke::Verdict,
    },
    settings::{Rollout, Share, WorkerRange},
    sys::process::Ending,
};

/// The exit status of an upgrade's trial that went well.
pub const PROVEN: u8 = 87;

/// The number of a generation; counts from 1.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Number(pub u32);

/// What happened.
#[derive(Debug, Clone)]
pub enum Event {
    /// The master begins: boot the first generation.
    Start,
    /// TERM, INT, QUIT, `ostler stop`.
    Stop(Stop, Option<Asker>),
    /// HUP, `ostler reload`.
    Reload(Reload),
    /// `ostler promote`
    Promote(Option<Asker>),
    /// The figures say that a generation is worse than the one before.
    Worse {
        /// Which.
        generation: Number,
        /// A sentence.
        why: String,
    },
    /// What the figures say of a generation that is judged, as long as they do not speak against it: a sentence.
    Judged {
        /// Which.
        generation: Number,
        /// That.
        told: String,
    },
    /// `ostler rollback`
    Rollback(Option<Asker>),
    /// USR2, `ostler upgrade`.
    Upgrade(Option<Asker>),
    /// `ostler recycle`: replace every worker by one of the same code.
    Recycle(Option<Asker>),
    /// TTIN, TTOU, `ostler scale`.
    Scale(Change, Option<Asker>),
    /// The load needs more workers.
    Grow {
        /// Which generation's.
        generation: Number,
        /// How many more.
        by: u16,
        /// A sentence.
        why: String,
    },
    /// The load does not need this worker.
    Shrink {
        /// Whose.
        generation: Number,
        /// Which: one that is in no call.
        slot: u16,
        /// A sentence.
        why: String,
    },
    /// WINCH of a daemon: let all workers go; the master and the template stay.
    LetAllGo,
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
    /// What a worker says that is to become the template of its generation.
    Candidate {
        /// Whose.
        generation: Number,
        /// What it says.
        says: FromTemplate,
    },
    /// It says something else than such a worker does, or has closed its channel: why it is given up.
    CandidateLost(Number, String),
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
    /// What came of a smoke test.
    Smoked {
        /// Whose.
        generation: Number,
        /// Which, by its place in [`Plan::smoke`].
        test: usize,
        /// That.
        verdict: Verdict,
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

/// What is asked for with a reload.
#[derive(Debug, Clone, Default)]
pub struct Reload {
    /// Who asks.
    pub asker: Option<Asker>,
    /// Whether that waits until the new generation is the site, and found no worse.
    pub wait: bool,
    /// How it takes over.
    pub rollout: Rollout,
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
    /// Have a worker answer a smoke test; answered by Smoked.
    Smoke {
        /// Whose.
        generation: Number,
        /// Which worker.
        slot: u16,
        /// Which test, by its place in [`Plan::smoke`].
        test: usize,
    },
    /// Send a worker [`ostler_wire::ToWorker::Serve`].
    Admit {
        /// Whose.
        generation: Number,
        /// Which.
        slot: u16,
    },
    /// Send a worker [`ostler_wire::ToWorker::Drain`].
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
        /// Why they move.
        why: MoveReason,
    },
    /// Send a worker [`ostler_wire::ToWorker::TakeTurns`].
    TakeTurns {
        /// Whose.
        generation: Number,
        /// Which.
        slot: u16,
        /// That.
        turns: bool,
    },
    /// Send a worker [`ostler_wire::ToWorker::Nudge`].
    Nudge {
        /// Whose.
        generation: Number,
        /// Which.
        slot: u16,
    },
    /// Send a worker [`ostler_wire::ToWorker::Stacks`].
    Stacks {
        /// Whose.
        generation: Number,
        /// Which.
        slot: u16,
    },
    /// Send a worker [`ostler_wire::ToWorker::Quit`].
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
    /// Send a process that has said that it hears it [`ostler_wire::stacks_signal`].
    AskStacks(i32),
    /// Send a worker [`ostler_wire::ToWorker::BecomeTemplate`]. What it says on the new channel is [`Event::Candidate`].
    Refork {
        /// Whose.
        generation: Number,
        /// Which.
        slot: u16,
        /// The bound on its drain.
        within: Duration,
    },
    /// Close that channel.
    GiveUpCandidate(Number),
    /// What was told on that channel is the template's word from now on. The template so far is kept aside.
    Succeed {
        /// Whose.
        generation: Number,
        /// What it is told.
        plan: Plan,
    },
    /// Close the channel of the template that was kept aside, and let it go.
    EndFormer(Number),
    /// It is the template again. Close the channel of the one that has followed it.
    FallBack(Number),
    /// Send a template [`ostler_wire::ToTemplate::Quit`].
    EndTemplate(Number),
    /// Close a template's channel.
    CloseTemplate(Number),
    /// A generation is complete and serves from now on.
    TakeOver(Number),
    /// Close the listening sockets: once the workers have, too, clients are refused rather than kept waiting.
    StopListening,
    /// A generation is gone: close all that only it used.
    Forget(Number),
    /// Start the new executable as a child that reads our state; answered by TrialStarted or UpgradeFailed.
    TryUpgrade,
    /// Execute the new executable in this process; answered by UpgradeFailed, or by Upgraded over there.
    Execute,
    /// Newer code does not come up: have this generation show it, if its settings say so (`--reload`).
    Show(Number, Failure),
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
            Action::Smoke { .. } => "smoke test",
            Action::Admit { .. }
            | Action::TakeTurns { .. }
            | Action::Nudge { .. }
            | Action::Drain { .. }
            | Action::Refork { .. }
            | Action::Quit { .. } => "order to a worker",
            Action::Abandon { .. } | Action::Release { .. } => "close a worker's channel",
            Action::Kill(_) => "kill",
            Action::EndTemplate(_)
            | Action::CloseTemplate(_)
            | Action::GiveUpCandidate(_)
            | Action::EndFormer(_)
            | Action::FallBack(_) => "end a template",
            Action::Succeed { .. } => "change the template",
            Action::TakeOver(_) => "take over",
            Action::StopListening | Action::Forget(_) => "close what is not used",
            Action::TryUpgrade | Action::Execute => "upgrade",
            Action::Show(..) => "show what failed",
            Action::Answer(..) => "answer",
            Action::Note(_) => "log",
            Action::AskStacks(_) | Action::Stacks { .. } => "ask for stacks",
            Action::Exit(_) => "exit",
        }
    }
}

/// How to stop.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub enum Stop {
    /// TERM: requests under way are finished.
    Graceful,
    /// INT and QUIT, or a second TERM: workers end at once.
    Quick,
    /// The third request to stop: SIGKILL.
    Kill,
}

/// What the machine needs to know of a generation's settings.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Plan {
    /// As typed, for people.
    pub application: String,
    /// `--workers`, or the fewest of them
    pub workers: u16,
    /// Between which numbers it follows the load, if it does.
    #[serde(default)]
    pub range: Option<WorkerRange>,
    /// `--shrink-after`
    #[serde(default)]
    pub shrink_after: Duration,
    /// The scoreboard's slots. Half of them are for workers that come while others go.
    pub slots: u16,
    /// `--boot-timeout`
    pub boot_timeout: Duration,
    /// `--smoke`, as typed.
    #[serde(default)]
    pub smoke: Vec<String>,
    /// `--smoke-timeout`
    #[serde(default)]
    pub smoke_timeout: Duration,
    /// `--graceful-timeout`
    pub graceful_timeout: Duration,
    /// `--drain-delay`
    pub drain_delay: Duration,
    /// How long a worker that has something to do may make no progress, or be stopped by a signal; zero for no bound.
    #[serde(default)]
    pub patience: Duration,
    /// `--canary`
    #[serde(default)]
    pub canary: Option<Share>,
    /// `--canary-time`; zero for no end.
    #[serde(default)]
    pub canary_time: Duration,
    /// `--watch`
    #[serde(default)]
    pub watch: Duration,
    /// `--ready-after-watch`
    #[serde(default)]
    pub ready_after_watch: bool,
    /// `--keep-previous`
    pub keep_previous: bool,
    /// `--refork`: after how many requests a worker is warm; zero for never.
    #[serde(default)]
    pub refork: u32,
    /// The site is at work, so that the first worker warms itself with its requests, and the others are forked from it.
    #[serde(default)]
    pub warms: bool,
    /// What it listens on.
    pub listeners: Vec<ListenerId>,
    /// The engine may be of another version than the master.
    #[serde(default)]
    pub new_version: bool,
}

impl fmt::Display for Number {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        self.0.fmt(f)
    }
}
