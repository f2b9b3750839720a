//! The state machine in a simulated world: random histories of deaths, late or missing readiness, failed imports, signals in
//! any order, slow drains, clock jumps and full process tables. What has to hold is checked after every step; when trouble
//! ends, every history has to settle. A history is made from its seed alone; one that fails is told in full.

use std::{
    collections::{BTreeMap, BTreeSet},
    ops::Range,
    panic::catch_unwind,
    sync::atomic::Ordering::Relaxed,
    time::Duration,
};

use ostler_wire::{FromTemplate, FromWorker, Recycle, scoreboard::Slot};

use self::{chance::Chance, load::Load};
use super::{
    event::{Action, Event, Number, Reload},
    generation::{CanaryStep, Generation, Stage, Template},
    notes::Note,
    state::State,
    totals::Totals,
};
use crate::{
    exit::Failure,
    resources::control::Asker,
    sys::{clock::Moment, process::Ending},
};

pub mod chance;
mod counting;
mod load;
mod reforking;
mod trouble;
mod world;

const HISTORIES: u64 = 50_000;
/// Of a history in which nothing new goes wrong; more means that it never settles.
const MOST_STEPS: usize = 4_000;
const KILLED: Ending = Ending::Signal(libc::SIGKILL);

#[test]
fn every_history_keeps_its_promises_and_settles() {
    play(0..HISTORIES, false);
    let reforked = [&reforking::REFORKED, &reforking::FELL_BACK, &reforking::WARMED].map(|count| count.load(Relaxed));
    assert!(reforked.iter().all(|count| *count > HISTORIES / 2_000), "{reforked:?} are few");
}

#[test]
fn every_history_of_deploys_that_are_judged_keeps_them_too() {
    play(0..HISTORIES, true);
}

fn play(seeds: Range<u64>, deploys: bool) {
    for seed in seeds {
        if catch_unwind(|| World::new(seed, deploys, false).run()).is_err() {
            World::new(seed, deploys, true).run();
            panic!("seed {seed} failed once only");
        }
    }
}

/// Something that will happen. What one process brings about happens in order.
struct Pending {
    due: Moment,
    by: i32,
    what: Happening,
}

#[expect(clippy::large_enum_variant, reason = "there are never many of them")]
#[derive(Debug)]
enum Happening {
    /// The master learns this.
    Event(Event),
    /// The settings of a generation have been looked at.
    Read(Number),
    /// A template obeys the order to fork.
    Fork(Number, u16),
    /// A process ends.
    Death(Ending),
}

struct Process {
    generation: Number,
    /// None for a template.
    slot: Option<u16>,
    alive: bool,
    /// SIGKILL was sent by the master.
    killed: bool,
}

/// The master's end of a worker's channel, and what was said on it.
#[derive(Default)]
struct Line {
    pid: Option<i32>,
    open: bool,
    /// Its exit is known, or will never be.
    released: bool,
    admitted: bool,
    /// Drain, Quit or Kill was ordered.
    dismissed: bool,
    /// It has said that it accepts no more.
    deaf: bool,
    /// Its template.
    forked_by: i32,
    /// It has said that it is.
    ready: bool,
    /// Its state is not to be trusted.
    untrusted: bool,
    /// It makes no progress.
    silent: bool,
    /// A signal has stopped it.
    halted: bool,
    /// What it counts.
    record: Slot,
}

struct World {
    seed: u64,
    /// Most of what happens is that releases are deployed and judged.
    deploys: bool,
    chance: Chance,
    now: Moment,
    state: State,
    totals: Totals,
    /// What the workers have counted, and what was told of it last.
    counted: counting::WorkerCounts,
    /// Nothing new goes wrong any more.
    calm: bool,
    pending: Vec<Pending>,
    /// Those that have not been reaped.
    processes: BTreeMap<i32, Process>,
    next_pid: i32,
    /// The template of each generation, and whether the master's end of its channel is open.
    templates: BTreeMap<Number, (i32, bool)>,
    /// The same of the worker that is to be its template, or of the template that is kept until its successor is proven.
    beside: BTreeMap<Number, (i32, bool)>,
    lines: BTreeMap<(Number, u16), Line>,
    waiting: BTreeSet<Asker>,
    /// Those of them who asked for another generation, and when.
    reloading: BTreeMap<Asker, Moment>,
    /// How many smoke tests each generation has, and how many it has passed since it was complete last.
    smoke_tests: BTreeMap<Number, usize>,
    smoked: BTreeMap<Number, usize>,
    /// A canary was taken back.
    canary_left: bool,
    /// One left at once because it was worse, and its predecessor has not all of its workers again.
    filling: bool,
    /// The site went back by itself, and nobody has asked for a reload since.
    went_back: bool,
    /// The last release was found worse.
    suspect: bool,
    /// When generations took over.
    taken_over: Vec<(Number, Moment)>,
    next_asker: u64,
    /// The trial of a new executable.
    trial: Option<i32>,
    booted: u32,
    served: bool,
    /// It has let go of its listeners.
    deaf: bool,
    stopped: bool,
    left_behind: Vec<i32>,
    ended: Option<Result<(), Failure>>,
    /// The history, if it is to be told.
    told: Option<Vec<String>>,
}

impl World {
    fn new(seed: u64, deploys: bool, tell: bool) -> World {
        World {
            seed,
            deploys,
            chance: Chance(seed.wrapping_mul(0xD134_2543_DE82_EF95)),
            now: Moment(1_000_000),
            state: State::new(),
            totals: Totals::default(),
            counted: counting::WorkerCounts::new(seed),
            calm: false,
            pending: Vec::new(),
            processes: BTreeMap::new(),
            next_pid: 100,
            templates: BTreeMap::new(),
            beside: BTreeMap::new(),
            lines: BTreeMap::new(),
            waiting: BTreeSet::new(),
            reloading: BTreeMap::new(),
            smoke_tests: BTreeMap::new(),
            smoked: BTreeMap::new(),
            canary_left: false,
            filling: false,
            went_back: false,
            suspect: false,
            taken_over: Vec::new(),
            next_asker: 0,
            trial: None,
            booted: 0,
            served: false,
            deaf: false,
            stopped: false,
            left_behind: Vec::new(),
            ended: None,
            told: tell.then(Vec::new),
        }
    }

    fn run(mut self) {
        self.happen(Event::Start);
        let steps = if self.deploys { 40 + self.chance.below(80) } else { 10 + self.chance.below(60) };
        for _ in 0..steps {
            if self.chance.percent(40) {
                self.trouble();
            }
            self.step();
        }
        self.calm = true;
        for _ in 0..MOST_STEPS {
            if !self.step() {
                let waits = |canary: &Generation| canary.canary_step() == Some(CanaryStep::Beside(None));
                let lost = |serving: &Generation| serving.template == Template::Gone;
                // An operator follows.
                let order = match &self.state {
                    _ if self.ended.is_some() => return self.judge(),
                    state if state.canary().is_some_and(waits) => Event::Promote(None),
                    state if self.suspect && state.serving().is_some_and(lost) => Event::Reload(Reload::default()),
                    _ => return self.judge(),
                };
                self.happen(order);
            }
        }
        self.fail("it does not settle");
    }

    /// One turn of the master's loop. Whether anything is still to come.
    fn step(&mut self) -> bool {
        if self.ended.is_some() {
            return false;
        }
        let next = self.pending.iter().map(|pending| pending.due).chain(self.state.deadline(self.now)).min();
        let Some(next) = next else { return false };
        self.now = self.now.max(next);
        self.count();
        if let Some(pending) = self.take_due() {
            self.let_happen(pending);
        }
        if self.ended.is_none() {
            self.happen(Event::Tick);
            let due = self.state.deadline(self.now).is_some_and(|deadline| deadline <= self.now);
            self.ensure(!due || self.ended.is_some(), "a deadline passes and nothing is done about it");
        }
        true
    }

    /// Of what is due, the first of one process or another.
    fn take_due(&mut self) -> Option<Pending> {
        let mut sources: Vec<i32> =
            self.pending.iter().filter(|pending| pending.due <= self.now).map(|pending| pending.by).collect();
        sources.dedup();
        if sources.is_empty() {
            return None;
        }
        let by = sources[self.chance.below(sources.len() as u64) as usize];
        let index = self.pending.iter().position(|pending| pending.by == by)?;
        Some(self.pending.remove(index))
    }

    fn later(&mut self, by: i32, delay: Duration, what: Happening) {
        let before = self.pending.iter().rev().find(|pending| pending.by == by).map(|pending| pending.due);
        let due = (self.now + delay).max(before.unwrap_or(self.now));
        self.pending.push(Pending { due, by, what });
    }

    fn let_happen(&mut self, Pending { by, what, .. }: Pending) {
        match what {
            Happening::Event(event) => {
                let event = self.on_its_channel(by, event);
                if self.is_heard(&event) {
                    let event = self.as_verified(event);
                    self.happen(event);
                }
            }
            Happening::Read(generation) => self.read(generation),
            Happening::Fork(generation, slot) => self.fork(by, generation, slot),
            Happening::Death(exit) => self.die(by, exit),
        }
    }

    /// The other end of a channel that the master has closed is closed, too.
    fn is_heard(&mut self, event: &Event) -> bool {
        match event {
            Event::Template { generation, .. } => self.is_open(*generation),
            Event::TemplateClosed(generation) => {
                self.templates.get_mut(generation).is_some_and(|(_, open)| std::mem::take(open))
            }
            Event::Candidate { generation, .. } => self.beside.get(generation).is_some_and(|(_, open)| *open),
            Event::CandidateLost(generation, _) => {
                self.beside.get_mut(generation).is_some_and(|(_, open)| std::mem::take(open))
            }
            Event::TemplateNonsense(generation, _) => {
                let heard = self.is_open(*generation);
                if heard {
                    self.close_template(*generation);
                }
                heard
            }
            Event::WorkerNonsense { generation, slot, .. } => {
                let line = self.lines.get_mut(&(*generation, *slot)).filter(|line| line.open);
                let Some(line) = line else { return false };
                line.open = false;
                line.dismissed = true;
                line.untrusted = true;
                if let Some(pid) = line.pid {
                    self.end(pid, 10, Ending::Status(0));
                }
                true
            }
            Event::Worker { generation, slot, says } => {
                let Some(line) = self.lines.get_mut(&(*generation, *slot)).filter(|line| line.open) else {
                    return false;
                };
                line.deaf |= matches!(says, FromWorker::AcceptsNoMore);
                line.ready |= matches!(says, FromWorker::Ready);
                line.untrusted |= matches!(says, FromWorker::Replace(Recycle::Timeout | Recycle::Panic));
                true
            }
            Event::WorkerClosed { generation, slot } => {
                self.lines.get_mut(&(*generation, *slot)).is_some_and(|line| std::mem::take(&mut line.open))
            }
            Event::Pulse { generation, slot, .. } => self.lines.get_mut(&(*generation, *slot)).is_some_and(|line| {
                line.silent = false;
                line.open
            }),
            Event::Stopped { pid, .. } => {
                self.lines.values_mut().filter(|line| line.pid == Some(*pid)).for_each(|line| line.halted = false);
                self.processes.contains_key(pid)
            }
            Event::Exited { pid, .. } => {
                if let Some(process) = self.processes.remove(pid)
                    && let Some(slot) = process.slot
                    && let Some(line) = self.lines.get_mut(&(process.generation, slot))
                    && line.pid == Some(*pid)
                {
                    line.dismissed = true;
                }
                true
            }
            _ => true,
        }
    }

    /// The performer asks the kernel whether a process that a template names is a child.
    fn as_verified(&self, event: Event) -> Event {
        match event {
            Event::Template { generation, says: FromTemplate::Forked { slot, pid } }
                if !self.processes.contains_key(&pid) =>
            {
                Event::Alleged { generation, slot, pid }
            }
            event => event,
        }
    }

    /// The master learns something, and acts.
    fn happen(&mut self, event: Event) {
        let mut events = std::collections::VecDeque::from([event]);
        while let Some(event) = events.pop_front() {
            if let Some(told) = &mut self.told {
                told.push(format!("{:>10} {event:?}", self.now.0));
            }
            let before = self.accepting();
            let whole = self.whole();
            let mut upgrade = None;
            let (mut dismissed, mut scaled) = (false, false);
            let load = Load::of(&event, &self.state);
            let boots = self.state.generations().iter().find(|one| one.stage == Stage::Booting).map(|one| one.number);
            for action in self.state.handle(event, self.now) {
                if let Some(told) = &mut self.told {
                    told.push(format!("{:>10}     → {action:?}", ""));
                }
                dismissed |= self.dismisses(&action, boots);
                scaled |= matches!(action, Action::Note(Note::Scaled { .. }));
                match action {
                    Action::TryUpgrade | Action::Execute => upgrade = Some(action),
                    action => events.extend(self.perform(action)),
                }
            }
            self.check(before, dismissed);
            self.check_whole(whole, scaled);
            self.check_load(load);
            if let Some(step) = upgrade {
                events.push_back(self.upgrade(&step));
            }
        }
    }

    /// Who asked for another generation is not answered while a worker of the old code accepts, for a second.
    fn check_answer(&self, outcome: &str, asked: Moment) {
        let serves = self.state.serving().map(|serving| serving.number);
        let since = serves
            .filter(|number| outcome.starts_with(&format!("generation {number} ")))
            .and_then(|serves| self.taken_over.iter().find(|(number, at)| *number == serves && *at >= asked));
        if self.stopped || since.is_none_or(|&(_, since)| self.now >= since + Duration::from_secs(1)) {
            return;
        }
        let lives =
            |line: &Line| line.pid.is_some_and(|pid| self.processes.get(&pid).is_some_and(|process| !process.killed));
        let accepts = |line: &Line| line.admitted && !line.deaf && !line.released && lives(line);
        let old = self.lines.iter().any(|(&(number, _), line)| Some(number) != serves && accepts(line));
        self.ensure(!old, "a reload is over although old code is reached");
    }

    /// The generation that serves, and how many workers it has, with those that it has given to a canary.
    fn whole(&self) -> Option<(Number, u16)> {
        let serving = self.state.serving()?;
        let given = self.state.canary().and_then(|canary| canary.canary.as_ref()).map_or(0, |canary| canary.given);
        Some((serving.number, serving.wanted + given))
    }

    /// Nobody but an operator changes that.
    fn check_whole(&self, before: Option<(Number, u16)>, scaled: bool) {
        if let (Some((before, were)), Some((now, are))) = (before, self.whole())
            && before == now
            && !scaled
        {
            self.ensure(were == are, "a canary takes workers with it");
        }
    }

    /// How many accept, as far as the master can know, without the one by which a generation that boots becomes warm.
    fn accepting(&self) -> usize {
        let accepts = |line: &Line| line.admitted && !line.dismissed;
        self.lines.iter().filter(|((number, _), line)| accepts(line) && !self.boots(*number)).count()
    }

    pub fn boots(&self, number: Number) -> bool {
        self.state.generations().iter().any(|one| one.number == number && one.stage == Stage::Booting)
    }

    /// Whether this takes a worker away that could have gone on, other than of the generation that `boots`.
    fn dismisses(&self, action: &Action, boots: Option<Number>) -> bool {
        let goes_on = |number: &Number, line: &Line| {
            Some(*number) != boots && line.admitted && !line.dismissed && line.open && !line.silent && !line.halted
        };
        match action {
            Action::Drain { generation, slot, .. }
            | Action::Refork { generation, slot, .. }
            | Action::Quit { generation, slot } => {
                self.lines.get(&(*generation, *slot)).is_some_and(|line| goes_on(generation, line))
            }
            Action::Kill(pid) => {
                self.lines.iter().any(|((number, _), line)| line.pid == Some(*pid) && goes_on(number, line))
            }
            _ => false,
        }
    }

    /// What holds after every step.
    fn check(&mut self, accepting: usize, dismissed: bool) {
        let generations = self.state.generations();
        let staged = |stage| generations.iter().filter(|generation| generation.stage == stage).count();
        for stage in [Stage::Booting, Stage::Canary, Stage::Serving, Stage::Kept] {
            self.ensure(staged(stage) <= 1, &format!("two generations are {stage:?}"));
        }
        if self.stopped || self.ended.is_some() {
            return;
        }
        let Some(serving) = self.state.serving() else {
            return self.ensure(!self.served, "nothing serves any more");
        };
        // A canary does not wait for workers that its predecessor cannot fork now, and one that is worse not for more than one.
        let forks = matches!(serving.template, Template::Loaded { .. }) && serving.backoff.until <= self.now;
        let wanted = if self.filling { serving.wanted.min(1) } else { serving.wanted };
        let now = self.accepting();
        if dismissed && (forks || !self.canary_left) {
            self.ensure(
                now >= accepting.min(wanted.into()),
                &format!("{now} workers accept of {wanted} wanted, and {accepting} did before"),
            );
        }
        self.filling &= self.state.canary().is_some() || now < usize::from(serving.wanted);
        if let Some(canary) = self.state.canary() {
            self.ensure(serving.wanted > 0, "a canary serves alone");
            self.ensure(canary.wanted > 0, "a canary has no worker");
        }
        if let Some(booting) = generations.iter().find(|generation| generation.stage == Stage::Booting) {
            let number = booting.number;
            let early = self.lines.iter().filter(|((of, _), line)| *of == number && line.admitted && !line.dismissed);
            let early = early.count();
            let tested = self.smoked.get(&number).copied().unwrap_or_default()
                == self.smoke_tests.get(&number).copied().unwrap_or_default();
            self.ensure(early == 0 || early == 1 && booting.plan.warms && tested, "a worker accepts too early");
        }
    }

    /// What holds in the end.
    fn judge(mut self) {
        self.judge_totals();
        self.ensure(self.waiting.is_empty(), &format!("{:?} were never answered", self.waiting));
        if self.ended.is_some() {
            return;
        }
        self.ensure(!self.stopped, "it was told to stop and goes on");
        for generation in self.state.generations() {
            let loaded = matches!(generation.template, Template::Loaded { .. });
            let ready = generation.slots.count(|worker| worker.serves() && worker.admitted);
            let all = generation.slots.iter().count();
            let settled = match generation.stage {
                Stage::Serving => loaded && ready == usize::from(generation.wanted) && all == ready,
                Stage::Kept => loaded && all == 0,
                Stage::Booting | Stage::Canary | Stage::Draining => false,
            };
            self.ensure(settled, &format!("generation {} is left as {generation:?}", generation.number));
        }
        let wanted = self.state.serving().map(|serving| usize::from(serving.wanted));
        let accepting = self.lines.values().filter(|line| line.admitted && line.open && !line.dismissed).count();
        self.ensure(wanted == Some(accepting), "the wanted number of workers does not accept");
        let live = self.processes.len();
        let known = self.state.generations().iter().map(|g| g.slots.iter().count() + 1).sum::<usize>();
        self.ensure(live == known, &format!("{live} processes live and {known} are known"));
    }

    fn ensure(&self, holds: bool, what: &str) {
        if !holds {
            self.fail(what);
        }
    }

    fn fail(&self, what: &str) -> ! {
        if let Some(told) = &self.told {
            eprintln!("{}", told.join("\n"));
        }
        panic!("seed {}: {what}", self.seed);
    }
}
