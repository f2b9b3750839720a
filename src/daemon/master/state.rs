//! Decides what the master does next. Makes no system call; perform.rs acts.
//!
//! At most one generation boots, one serves, and one is kept for a roll-back; any number drains. A generation that
//! boots takes over only when all of it is ready and has passed its smoke tests: before that moment anything that goes wrong with it discards it
//! whole, and the one that serves goes on. If the very first is discarded, no other serves, and the master ends.

use std::{collections::BTreeMap, path::PathBuf, time::Duration};

use serde::{Deserialize, Serialize};

use super::{
    event::{Action, Event, Number, Reload, Stop},
    generation::{Backoff, Decision, Generation, Stage, Template},
    notes::Note,
    slots::{Worker, WorkerStage},
};
use crate::{
    exit::{Exit, Failure},
    resources::control::Asker,
    settings::Rollout,
    sys::{clock::Moment, process::Ending},
};

mod canary;
mod commands;
mod elasticity;
mod processes;
mod reforking;
mod standing;
mod stopping;
mod switching;
mod upgrading;
mod warming;
mod watching;

use commands::refuse;
use switching::Switched;
use upgrading::Upgrade;
pub use watching::Judged;

/// So many changes of files are remembered; workers tell of each within a second or two.
const MOST_CHANGED: usize = 1024;

/// All that the master knows.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct State {
    phase: Phase,
    /// In the order of their numbers.
    generations: Vec<Generation>,
    last: Number,
    /// A reload that waits for the one under way.
    reload: Option<QueuedReload>,
    upgrade: Upgrade,
    /// Exits of unknown children while a template's report of a fork is outstanding: it may be about them.
    strangers: Vec<(i32, Ending)>,
    /// Delays reloads without a command, which follow when the serving generation has lost its template.
    recovery: Backoff,
    /// The commands whose generation serves, and that wait until the one before accepts no more.
    #[serde(default)]
    switched: Vec<Switched>,
    /// The last reload, if nothing came of it.
    #[serde(default)]
    failed_reload: Option<FailedReload>,
    /// The release on disk, as far as is known, was worse than the one that serves: it is not booted unless somebody asks for it.
    #[serde(default)]
    suspect: bool,
    /// The commands that wait for the end.
    stopping: Vec<Asker>,
    /// The changes of files that were heard of (`--reload`).
    #[serde(default)]
    changed: BTreeMap<PathBuf, i64>,
}

/// A reload that is to begin.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
struct QueuedReload {
    /// Who waits until it has taken over, if only with a share.
    askers: Vec<Asker>,
    /// Who waits until it is the site.
    #[serde(default)]
    waiting: Vec<Asker>,
    /// As the last of them has asked.
    #[serde(default)]
    rollout: Rollout,
}

/// A generation that was to take over and was discarded.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct FailedReload {
    /// Its number.
    pub generation: Number,
    /// A sentence.
    pub why: String,
    /// When it was discarded.
    pub at: Moment,
}

/// The life of the master.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
enum Phase {
    /// No generation has served yet.
    Starting,
    /// One serves.
    Serving,
    /// All are told to go.
    Stopping {
        how: Stop,
        result: Result<(), Failure>,
        /// Until when we keep the listening sockets, too; none once we have let go of them.
        listens: Option<Moment>,
        /// When processes that cannot be killed are left behind.
        give_up: Option<Moment>,
    },
    /// The order to exit was given.
    Ended,
}

impl State {
    /// Before the first event, which is [`Event::Start`].
    pub fn new() -> State {
        State {
            phase: Phase::Starting,
            generations: Vec::new(),
            last: Number(0),
            reload: None,
            upgrade: Upgrade::None,
            strangers: Vec::new(),
            recovery: Backoff::NONE,
            switched: Vec::new(),
            failed_reload: None,
            suspect: false,
            stopping: Vec::new(),
            changed: BTreeMap::new(),
        }
    }

    /// One step: what happened becomes known, and what follows from it is ordered.
    pub fn handle(&mut self, event: Event, now: Moment) -> Vec<Action> {
        let mut decision = Decision { now, actions: Vec::new() };
        self.take(event, &mut decision);
        self.follow_up(&mut decision);
        decision.actions
    }

    /// All generations that there are.
    pub fn generations(&self) -> &[Generation] {
        &self.generations
    }

    /// The one that the site runs on.
    pub fn serving(&self) -> Option<&Generation> {
        self.generations.iter().find(|generation| generation.stage == Stage::Serving)
    }

    /// The last reload, if nothing came of it.
    pub fn failed_reload(&self) -> Option<&FailedReload> {
        self.failed_reload.as_ref()
    }

    /// In what time a new template is started, if the one of the serving generation is lost.
    pub fn recovers_in(&self, now: Moment) -> Option<Duration> {
        self.recovers().then(|| self.recovery.until - now)
    }

    /// When [`Event::Tick`] is due.
    pub fn deadline(&self, now: Moment) -> Option<Moment> {
        let mut deadlines: Vec<Moment> = self.generations.iter().flat_map(|g| g.deadlines(now)).collect();
        if let Upgrade::Trying { deadline, .. } = self.upgrade {
            deadlines.push(deadline);
        }
        if let Phase::Stopping { listens, give_up, .. } = self.phase {
            deadlines.extend(listens.into_iter().chain(give_up));
        }
        deadlines.extend(self.switched.iter().map(|switched| switched.due));
        if self.recovers() {
            deadlines.push(self.recovery.until);
        }
        deadlines.into_iter().min()
    }

    fn take(&mut self, event: Event, decision: &mut Decision) {
        match (&self.phase, event) {
            (Phase::Ended, _) => {}
            (Phase::Starting, Event::Start) => self.boot(QueuedReload::default(), None, decision),
            (Phase::Serving | Phase::Stopping { .. }, Event::Start) => {}

            (_, Event::Stop(how, asker)) => self.stop(how, asker, decision),
            (Phase::Starting | Phase::Serving, Event::Reload(reload)) => self.queue_reload(reload, decision),
            (Phase::Serving, Event::Promote(asker)) => self.promote(asker, decision),
            (Phase::Serving, Event::Worse { generation, why }) => self.found_worse(generation, &why, decision),
            (Phase::Starting | Phase::Stopping { .. }, Event::Worse { .. }) => {}
            (_, Event::Judged { generation, told }) => {
                if let Some(generation) = self.at(generation) {
                    generation.told = Some(told);
                }
            }
            (Phase::Serving, Event::Rollback(asker)) => self.rollback(asker, decision),
            (Phase::Serving, Event::Upgrade(asker)) => self.queue_upgrade(asker, decision),
            (Phase::Serving, Event::Recycle(asker)) => self.recycle(asker),
            (Phase::Starting | Phase::Serving, Event::Scale(change, asker)) => self.scale(change, asker, decision),
            (Phase::Serving, Event::Grow { generation, by, why }) => self.grow(generation, by, &why, decision),
            (Phase::Serving, Event::Shrink { generation, slot, why }) => self.shrink(generation, slot, &why, decision),
            (Phase::Starting | Phase::Stopping { .. }, Event::Grow { .. } | Event::Shrink { .. }) => {}
            (Phase::Serving, Event::LetAllGo) => self.let_all_go(decision),
            (
                Phase::Starting,
                Event::Promote(asker) | Event::Rollback(asker) | Event::Upgrade(asker) | Event::Recycle(asker),
            ) => refuse(asker, "the first generation is still booting", decision),
            (
                Phase::Stopping { .. },
                Event::Reload(Reload { asker, .. })
                | Event::Promote(asker)
                | Event::Rollback(asker)
                | Event::Upgrade(asker)
                | Event::Recycle(asker)
                | Event::Scale(_, asker),
            ) => refuse(asker, "the master is stopping", decision),
            (Phase::Starting | Phase::Stopping { .. }, Event::LetAllGo) => {}

            (_, Event::Spawned { generation, pid, plan }) => {
                let before = self.whole();
                if let Some(found) = self.at(generation) {
                    found.spawned(pid, plan, before, decision.now);
                    self.plan_canary(generation, decision);
                }
            }
            (_, Event::Unbootable { generation, failure }) => {
                if let Some(generation) = self.at(generation) {
                    generation.template = Template::Gone;
                }
                self.discard(generation, failure, decision);
            }
            (_, Event::Template { generation, says }) => self.template_says(generation, says, decision),
            (_, Event::Alleged { generation, slot, pid }) => self.alleged(generation, slot, pid, decision),
            (_, Event::TemplateNonsense(generation, why)) => self.distrust_template(generation, &why, decision),
            (_, Event::TemplateClosed(generation)) => {
                if let Some(generation) = self.at(generation) {
                    generation.template_closed(decision.now);
                }
            }
            (_, Event::Worker { generation, slot, says }) => self.worker_says(generation, slot, says, decision),
            (_, Event::WorkerClosed { generation, slot }) => {
                if let Some(generation) = self.at(generation) {
                    generation.closed(slot, decision.now);
                }
            }
            (_, Event::WorkerNonsense { generation, slot, why }) => {
                self.distrust_worker(generation, slot, &why, decision)
            }
            (_, Event::Candidate { generation, says }) => {
                if let Some(generation) = self.at(generation) {
                    generation.candidate_says(says, decision);
                }
            }
            (_, Event::CandidateLost(generation, why)) => {
                if let Some(generation) = self.at(generation) {
                    generation.candidate_lost(&why, decision);
                }
            }
            (_, Event::Pulse { generation, slot, alive }) => {
                if let Some(generation) = self.at(generation) {
                    generation.pulse(slot, alive, decision);
                }
            }
            (_, Event::Stopped { pid, stopped }) => {
                self.generations.iter_mut().for_each(|generation| generation.stopped(pid, stopped, decision));
            }
            (_, Event::Exited { pid, exit }) => self.exited(pid, exit, decision),
            (_, Event::Smoked { generation, test, verdict }) => {
                if let Some(failure) = self.at(generation).and_then(|found| found.smoked(test, verdict, decision)) {
                    self.discard(generation, failure, decision);
                }
            }
            (_, Event::TrialStarted(started)) => {
                if let Upgrade::Trying { pid, .. } = &mut self.upgrade {
                    *pid = Some(started);
                }
            }
            (_, Event::UpgradeFailed(why)) => self.upgrade_failed(&why, decision),
            (_, Event::Upgraded) => self.upgraded(decision),
            (_, Event::Tick) => {}
        }
    }

    /// After each event: what is due, what follows, what is over, what waited.
    fn follow_up(&mut self, decision: &mut Decision) {
        if self.phase == Phase::Ended {
            return;
        }
        self.end_late_trial(decision);
        let booting = self.generations.iter_mut().find(|generation| generation.stage == Stage::Booting);
        if let Some((number, failure)) = booting.and_then(|g| Some((g.number, g.overdue(decision)?))) {
            self.discard(number, failure, decision);
        }
        self.warm(decision);
        self.refork(decision);
        for generation in &mut self.generations {
            generation.supervise(decision);
        }
        self.answer_settled(decision);
        self.refuse_without_template(decision);
        self.go_on_with_canary(decision);
        self.end_watch(decision);
        self.switch(decision);
        self.have_turns_taken(decision);
        self.answer_switched(decision);
        self.bury(decision);
        if !self.generations.iter().flat_map(|g| g.slots.iter()).any(|w| w.stage == WorkerStage::Forking) {
            self.strangers.clear();
        }
        self.begin_what_waits(decision);
        self.end(decision);
    }

    fn at(&mut self, number: Number) -> Option<&mut Generation> {
        self.generations.iter_mut().find(|generation| generation.number == number)
    }

    fn staged(&mut self, stage: Stage) -> Option<&mut Generation> {
        self.generations.iter_mut().find(|generation| generation.stage == stage)
    }

    /// Nothing under way that a reload would disturb.
    fn free(&self) -> bool {
        self.may_boot() && self.canary().is_none()
    }

    /// Whether another generation may boot: also beside a canary that serves on meanwhile.
    fn may_boot(&self) -> bool {
        self.phase == Phase::Serving
            && matches!(self.upgrade, Upgrade::None | Upgrade::Queued(_))
            && !self.generations.iter().any(|generation| generation.stage == Stage::Booting)
            && self.canary().is_none_or(Generation::is_beside)
    }

    /// Whether a new template is started for the generation that serves. Not while any worker of it is left and the disk holds a release
    /// that was found worse, or one that is watched: the generation to go back to would have to go.
    fn recovers(&self) -> bool {
        let serving = self.serving();
        let waits = self.suspect || serving.is_some_and(|serving| serving.watched.is_some());
        let serves = || serving.is_some_and(|serving| serving.slots.iter().any(Worker::serves));
        self.template_lost() && self.free() && !(waits && serves())
    }

    fn template_lost(&self) -> bool {
        self.serving().is_some_and(|generation| generation.template == Template::Gone)
    }

    fn boot(&mut self, reload: QueuedReload, like: Option<Number>, decision: &mut Decision) {
        let QueuedReload { askers, waiting, rollout } = reload;
        self.last = Number(self.last.0 + 1);
        let mut generation = Generation::new(self.last, askers, decision.now);
        (generation.rollout, generation.judged) = (rollout, waiting);
        self.generations.push(generation);
        decision.note(Note::Booting(self.last));
        decision.act(Action::Boot { generation: self.last, like });
    }

    /// A generation that boots comes to nothing. None of its workers has ever accepted a connection. A canary is taken back.
    fn discard(&mut self, number: Number, failure: Failure, decision: &mut Decision) {
        if self.canary().is_some_and(|canary| canary.number == number) {
            return self.take_back(&failure, decision);
        }
        let Some(generation) = self.at(number).filter(|generation| generation.stage == Stage::Booting) else { return };
        generation.enter(Stage::Draining, decision.now);
        let failure = generation.cannot_come_back(failure);
        // An engine of another release says the same itself.
        let hint = if failure.message.contains("`ostler upgrade`") { "" } else { generation.hint() };
        let failure = Failure { message: format!("{}{hint}", failure.message), ..failure };
        let shown = failure.clone();
        let failure = Failure { files: Vec::new(), ..failure };
        let mut waiting = std::mem::take(&mut generation.waiting);
        waiting.append(&mut generation.judged);
        decision.answer(&mut waiting, Err(&failure.after(&format!("generation {number} was discarded"))));
        decision.note(Note::Discarded(number, failure.clone()));
        // Who asked for it knows of it.
        if failure.exit != Exit::Refused {
            if let Some(serving) = self.serving() {
                decision.act(Action::Show(serving.number, shown));
            }
            self.failed_reload =
                Some(FailedReload { generation: number, why: failure.message.clone(), at: decision.now });
        }
        if self.phase == Phase::Starting {
            self.phase = Phase::Stopping { how: Stop::Graceful, result: Err(failure), listens: None, give_up: None };
            self.refuse_waiting(decision);
        }
    }

    fn bury(&mut self, decision: &mut Decision) {
        self.generations.retain(|generation| {
            if generation.gone() {
                decision.act(Action::Forget(generation.number));
                decision.note(Note::Gone(generation.number));
            }
            !generation.gone()
        });
    }
}
