//! A worker that has served becomes the template of its generation (`--refork`), so that the others share what it has loaded.
//!
//! chosen → replaced by a fork of the old template → drains and prepares (candidate) → template, on trial → proven. On trial it forks one
//! worker. If that becomes ready, the old template ends, and the other workers are replaced one at a time. If not, the old
//! template, which has waited, goes on. What goes wrong before that costs one worker that is replaced.

use std::time::Duration;

use ostler_wire::FromTemplate;
use serde::{Deserialize, Serialize};

use super::{Decision, Generation, MARGIN, Stage, Template, Warming, orders::kill, template::PROMPTLY};
use crate::{
    master::{
        event::{Action, Number, Plan},
        notes::{Note, Why},
        slots::{Worker, WorkerStage},
    },
    sys::clock::Moment,
};

/// How often a generation has a new template at most. Each time there is less to gain.
const MOST: u32 = 2;
/// By what the requests grow, each time, after which a worker is warm.
const FURTHER: u32 = 10;
/// How long a worker that has drained may take to become a template: it collects its garbage, however much that is.
const PREPARES: Duration = Duration::from_secs(60);

/// What its channel or its exit tells of a worker that was to be the template.
pub const ENDED: &str = "the worker that was to be the template has ended, or closed its channel";

/// How far a generation is with that.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub struct Refork {
    /// How often it has a new template so far.
    pub times: u32,
    /// It came to nothing, and is not tried again.
    given_up: bool,
    /// The first time comes early, where a generation boots beside a site at work, and does not count.
    #[serde(default)]
    pub(super) early: bool,
    step: Step,
    /// Templates that are not needed any more, until they have ended.
    leaving: Vec<Template>,
}

#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
enum Step {
    #[default]
    None,
    /// This worker is to be the template, as soon as another has taken its place.
    Chosen { slot: u16 },
    /// It was told. It is a worker that drains, until it is `ready` to be the template.
    Prepares { slot: u16, pid: i32, ready: bool },
    /// The template was a worker. The one before waits until the first fork, once that is ordered, is ready.
    Trial { former: i32, ordered: bool },
}

impl Refork {
    /// Whether this worker is to be the template.
    pub(super) fn chose(&self, worker: &Worker) -> bool {
        self.step == Step::Chosen { slot: worker.slot }
    }

    /// Has it drain, and become that.
    pub(super) fn order(&mut self, worker: &mut Worker, generation: Number, within: Duration, decision: &mut Decision) {
        let slot = worker.slot;
        decision.act(Action::Refork { generation, slot, within });
        worker.stage = WorkerStage::Draining;
        worker.deadline = Some(decision.now + within + MARGIN + PREPARES);
        self.step = Step::Prepares { slot, pid: worker.pid.unwrap_or_default(), ready: false };
    }

    fn most(&self) -> u32 {
        MOST + u32::from(self.early)
    }

    /// Whether a worker was chosen.
    pub(super) fn is_under_way(&self) -> bool {
        self.step != Step::None
    }

    /// How many of those that are missing are to be forked now: of a template on trial one, once.
    pub(super) fn bound(&mut self, missing: usize) -> usize {
        match &mut self.step {
            Step::Trial { ordered: true, .. } => 0,
            Step::Trial { ordered, .. } => {
                *ordered = missing > 0;
                missing.min(1)
            }
            Step::None | Step::Chosen { .. } | Step::Prepares { .. } => missing,
        }
    }

    /// The templates beside the one that forks.
    pub fn templates(&self) -> impl Iterator<Item = i32> {
        let former = if let Step::Trial { former, .. } = self.step { Some(former) } else { None };
        former.into_iter().chain(self.leaving.iter().filter_map(|template| template.pid()))
    }

    /// Whether none of these is left that was not sent SIGKILL.
    pub(super) fn only_killed(&self) -> bool {
        let on_trial = matches!(self.step, Step::Trial { .. });
        !on_trial && self.leaving.iter().all(|template| matches!(template, Template::Killed { .. }))
    }

    pub(super) fn deadlines(&self) -> impl Iterator<Item = Moment> {
        self.leaving.iter().filter_map(|template| match template {
            Template::Ending { deadline, .. } => Some(*deadline),
            _ => None,
        })
    }
}

impl Generation {
    /// Chooses a worker, if one is warm and all is quiet.
    pub fn begin_refork(&mut self) {
        let refork = &self.refork;
        let wanted =
            self.plan.refork > 0 && refork.times < refork.most() && !refork.given_up && refork.step == Step::None;
        let quiet = self.may_refork()
            && self.watched.is_none()
            && self.waiting.is_empty()
            && self.failed.is_none()
            && self.slots.iter().all(|worker| worker.serves() && worker.asked.is_none())
            && self.settled();
        if wanted
            && quiet
            && let Some(worker) = self.slots.iter_mut().find(|worker| worker.warm)
        {
            worker.asked = Some(Why::Refork);
            self.refork.step = Step::Chosen { slot: worker.slot };
        }
    }

    /// Whether what has begun may go on.
    fn may_refork(&self) -> bool {
        let on_trial = matches!(self.refork.step, Step::Trial { .. });
        (self.stage == Stage::Serving || matches!(self.warming, Warming::Prepares { .. }))
            && self.wanted > 1
            && (on_trial || matches!(self.template, Template::Loaded { .. }))
    }

    /// Something else is under way, or about to be: all stays as it is, and may be tried again later. `anyway`: whatever the generation
    /// itself would say.
    pub fn abandon_refork(&mut self, anyway: bool, decision: &mut Decision) {
        if !anyway && self.may_refork() {
            return;
        }
        match self.refork.step {
            Step::None => {}
            Step::Chosen { slot } => {
                self.refork.step = Step::None;
                if let Some(worker) = self.slots.at(slot).filter(|worker| !worker.leaving) {
                    worker.asked = None;
                }
            }
            // It finds that out when it has drained, and ends as others do.
            Step::Prepares { .. } => {
                self.refork.step = Step::None;
                decision.act(Action::GiveUpCandidate(self.number));
            }
            Step::Trial { .. } if self.is_proven() => self.let_former_go(decision),
            Step::Trial { former, .. } => self.fall_back(former, decision),
        }
    }

    /// The worker that is to be the template says something.
    pub fn candidate_says(&mut self, says: FromTemplate, decision: &mut Decision) {
        let Step::Prepares { ready, .. } = &mut self.refork.step else { return };
        match says {
            FromTemplate::Loaded(_) => *ready = true,
            FromTemplate::Failed(failure) => self.give_up_candidate(&failure.message, decision),
            _ => self.give_up_candidate("it does not say what it should", decision),
        }
    }

    /// Its channel is closed, or that of the template which is kept until it is proven: then there is none to fall back to.
    pub fn candidate_lost(&mut self, why: &str, decision: &mut Decision) {
        match self.refork.step {
            Step::None | Step::Chosen { .. } => {}
            Step::Prepares { .. } => self.give_up_candidate(why, decision),
            Step::Trial { .. } => self.let_former_go(decision),
        }
    }

    /// The state of a worker is not to be trusted.
    pub(super) fn distrust_candidate(&mut self, slot: u16, why: &str, decision: &mut Decision) {
        match self.refork.step {
            Step::Chosen { slot: chosen } if chosen == slot => self.refork.step = Step::None,
            Step::Prepares { slot: chosen, .. } if chosen == slot => self.give_up_candidate(why, decision),
            _ => {}
        }
    }

    fn give_up_candidate(&mut self, why: &str, decision: &mut Decision) {
        (self.refork.step, self.refork.given_up) = (Step::None, true);
        decision.act(Action::GiveUpCandidate(self.number));
        decision.note(Note::NotReforked(self.number, why.to_owned()));
    }

    /// What follows from what has become known.
    pub(super) fn follow_refork(&mut self, decision: &mut Decision) {
        match self.refork.step {
            Step::None => {}
            Step::Chosen { slot } => {
                if self.slots.at(slot).is_none_or(|worker| worker.stage != WorkerStage::Ready) {
                    self.refork.step = Step::None;
                }
            }
            Step::Prepares { pid, .. }
                if self.slots.by_pid(pid).is_none_or(|worker| worker.stage == WorkerStage::Killed) =>
            {
                self.give_up_candidate(ENDED, decision);
            }
            Step::Prepares { slot, pid, ready } => {
                let forks = self.slots.count(|worker| worker.stage == WorkerStage::Forking) > 0;
                if let Template::Loaded { pid: former } = self.template
                    && ready
                    && !forks
                {
                    self.succeed(slot, pid, former, decision);
                }
            }
            Step::Trial { .. } if self.is_proven() => self.let_former_go(decision),
            Step::Trial { former, ordered } => {
                let why = match self.template {
                    Template::Loaded { .. } if !ordered || self.tries() => return,
                    Template::Loaded { .. } => "what the new template forked did not become ready",
                    _ => "the new template has ended",
                };
                self.refork.given_up = true;
                decision.note(Note::NotReforked(self.number, why.to_owned()));
                self.fall_back(former, decision);
            }
        }
    }

    /// The worker is the template from now on, on trial: one of the others is replaced by its first fork.
    fn succeed(&mut self, slot: u16, pid: i32, former: i32, decision: &mut Decision) {
        let again = self.refork.times + 1;
        let further = FURTHER.saturating_pow(again - u32::from(self.refork.early));
        let warm = if again < self.refork.most() { self.plan.refork.saturating_mul(further) } else { 0 };
        let plan = Plan { workers: self.wanted, refork: warm, warms: false, ..self.plan.clone() };
        self.slots.remove(slot);
        decision.act(Action::Release { generation: self.number, slot });
        decision.act(Action::Succeed { generation: self.number, plan });
        self.template = Template::Loaded { pid };
        (self.template_stopped, self.told_template_stopped) = (None, None);
        self.refork.step = Step::Trial { former, ordered: false };
        self.slots.iter_mut().for_each(|worker| worker.old = true);
        if self.slots.count(Worker::counts) >= usize::from(self.wanted)
            && let Some(worker) = self.slots.iter_mut().find(|worker| worker.serves())
        {
            (worker.asked, worker.leaving) = (Some(Why::Refork), true);
            decision.note(Note::Replacing(worker.name(self.number), Why::Refork));
        }
    }

    /// Whether the template on trial has forked a worker that is ready.
    fn is_proven(&self) -> bool {
        self.slots.iter().any(|worker| !worker.old && worker.ready.is_some() && worker.pid.is_some())
    }

    /// Whether it may yet.
    fn tries(&self) -> bool {
        self.slots.iter().any(|worker| !worker.old && worker.counts() && !worker.hangs)
    }

    /// The template before ends, if it has not. The other workers follow one by one.
    fn let_former_go(&mut self, decision: &mut Decision) {
        let Step::Trial { former, .. } = std::mem::take(&mut self.refork.step) else { return };
        self.refork.times += 1;
        self.refork.leaving.push(Template::Ending { pid: former, deadline: decision.now + PROMPTLY });
        decision.act(Action::EndFormer(self.number));
        if let Some(pid) = self.template.pid() {
            decision.note(Note::Reforked { generation: self.number, pid, times: self.refork.times });
        }
        for worker in self.slots.iter_mut().filter(|worker| worker.old && worker.counts()) {
            worker.asked.get_or_insert(Why::Refork);
        }
    }

    /// The template before is the template again, and the one on trial ends, with what it has begun to fork.
    fn fall_back(&mut self, former: i32, decision: &mut Decision) {
        self.refork.step = Step::None;
        let mut refused = std::mem::replace(&mut self.template, Template::Loaded { pid: former });
        refused.kill(decision);
        self.refork.leaving.extend(refused.pid().map(|_| refused));
        decision.act(Action::FallBack(self.number));
        let begun = |worker: &&mut Worker| !worker.old && worker.stage == WorkerStage::Booting;
        self.slots.iter_mut().filter(begun).for_each(|worker| kill(worker, decision));
        self.abandon_forks(decision);
        self.slots.iter_mut().for_each(|worker| worker.old = false);
    }

    /// A template beside the one that forks has ended.
    pub fn other_template_exited(&mut self, pid: i32, decision: &mut Decision) {
        if matches!(self.refork.step, Step::Trial { former, .. } if former == pid) {
            self.let_former_go(decision);
        }
        self.refork.leaving.retain(|template| template.pid() != Some(pid));
    }

    pub(super) fn kill_late_templates(&mut self, decision: &mut Decision) {
        for template in &mut self.refork.leaving {
            if matches!(template, Template::Ending { deadline, .. } if *deadline <= decision.now) {
                template.kill(decision);
            }
        }
    }

    /// Whether a template waits for its successor to be proven.
    pub fn can_fall_back(&self) -> bool {
        matches!(self.refork.step, Step::Trial { .. })
    }
}
