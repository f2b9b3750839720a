//! What the master's actions bring about in the simulated world.

use std::time::Duration;

use ostler_wire::{BootFailure, BootFailureKind, BootStep, FromTemplate, FromWorker, Loaded, Recycle};

use super::{
    super::{
        event::{Action, Event, Number, PROVEN, Plan},
        generation::Generation,
        notes::{Note, Why, WorkerName},
        slots,
    },
    Happening, KILLED, Line, Pending, Process, World,
};
use crate::{
    exit::{Exit, Failure},
    resources::{listen::ListenerId, smoke::Verdict},
    settings::{Share, WorkerRange},
    sys::process::Ending,
};

impl World {
    pub fn perform(&mut self, action: Action) -> Option<Event> {
        self.ensure(
            self.ended.is_none() || matches!(action, Action::Answer(..) | Action::Note(_)),
            "it acts after the end",
        );
        match action {
            Action::Boot { generation, .. } => return self.order_boot(generation),
            Action::Fork { generation, slot } => return self.order_fork(generation, slot),
            Action::Admit { generation, slot } => {
                let line = self.line(generation, slot);
                let fresh = !line.admitted && !line.dismissed;
                line.admitted = true;
                self.ensure(fresh, "a worker is admitted twice, or after it was dismissed");
            }
            Action::Drain { generation, slot, hand_over, .. } => self.drain(generation, slot, hand_over),
            Action::Refork { generation, slot, .. } => self.refork(generation, slot),
            Action::GiveUpCandidate(generation) => self.give_up_candidate(generation),
            Action::Succeed { generation, .. } => self.succeed(generation),
            Action::EndFormer(generation) => self.end_former(generation),
            Action::FallBack(generation) => self.fall_back(generation),
            Action::Stacks { generation, slot } => {
                if let Some(pid) = self.line(generation, slot).pid {
                    self.ask_stacks(pid);
                }
            }
            Action::Nudge { generation, slot } | Action::TakeTurns { generation, slot, .. } => {
                self.line(generation, slot);
            }
            Action::Quit { generation, slot } => {
                let line = self.line(generation, slot);
                line.dismissed = true;
                if let Some(pid) = line.pid {
                    self.end(pid, 10, Ending::Status(0));
                }
            }
            Action::Abandon { generation, slot } | Action::Release { generation, slot } => {
                if matches!(action, Action::Release { .. }) {
                    self.fold(generation, slot);
                }
                let line = self.line(generation, slot);
                line.released = true;
                line.dismissed = true;
                line.open = false;
                // The reader of the other end leaves.
                let pid = line.pid;
                let candidate = self.beside.get(&generation).map(|(pid, _)| *pid);
                if let Some(pid) = pid.filter(|pid| self.processes.contains_key(pid) && candidate != Some(*pid)) {
                    self.end(pid, 0, Ending::Status(0));
                }
            }
            Action::Kill(pid) => self.kill(pid),
            Action::AskStacks(pid) => self.ask_stacks(pid),
            Action::EndTemplate(generation) => {
                let Some(pid) = self.template(generation) else {
                    self.fail("a template that is not there is told to end")
                };
                self.end(pid, 5, Ending::Status(0));
            }
            Action::CloseTemplate(generation) => self.close_template(generation),
            Action::Smoke { generation, slot, test } => self.smoke(generation, slot, test),
            Action::TakeOver(generation) => {
                let passed = self.smoked.remove(&generation).unwrap_or_default();
                let none = self.state.serving().is_some_and(|serving| serving.wanted == 0);
                self.ensure(
                    none || passed == self.smoke_tests[&generation],
                    "a generation takes over that has not passed its smoke tests",
                );
                self.served = true;
                self.taken_over.push((generation, self.now));
            }
            Action::StopListening => assert!(!std::mem::replace(&mut self.deaf, true), "told twice"),
            Action::Forget(generation) => self.forget(generation),
            Action::TryUpgrade | Action::Execute => unreachable!("kept for the end of the turn"),
            Action::Answer(asker, outcome) => {
                let waited = self.waiting.remove(&asker);
                self.ensure(waited, "somebody is answered who does not wait");
                let asked = self.reloading.remove(&asker);
                if let (Ok(outcome), Some(asked)) = (outcome, asked) {
                    self.check_answer(&outcome, asked);
                }
            }
            Action::Show(generation, _) => {
                assert!(self.state.serving().is_some_and(|serving| serving.number == generation))
            }
            Action::Note(note) => self.note(note),
            Action::Exit(result) => self.exit(result),
        }
        None
    }

    pub fn line(&mut self, generation: Number, slot: u16) -> &mut Line {
        if self.lines.get(&(generation, slot)).is_none_or(|line| line.released) {
            self.fail(&format!("there is no worker {generation}.{slot} to act on"));
        }
        self.lines.get_mut(&(generation, slot)).expect("it was found just now")
    }

    fn spawn(&mut self, generation: Number, slot: Option<u16>) -> i32 {
        self.next_pid += 1;
        let process = Process { generation, slot, alive: true, killed: false };
        self.processes.insert(self.next_pid, process);
        self.next_pid
    }

    /// The settings are known, or a child looks at them first.
    fn order_boot(&mut self, generation: Number) -> Option<Event> {
        self.booted += 1;
        self.ensure(generation == Number(self.booted), "generations are not numbered in order");
        if self.chance.percent(40) {
            let delay = self.delay();
            self.later(-(generation.0 as i32), delay, Happening::Read(generation));
            return None;
        }
        Some(self.boot(generation))
    }

    /// That is over; nothing waits for it where the generation has been forgotten.
    pub fn read(&mut self, generation: Number) {
        if self.state.generations().iter().any(|known| known.number == generation) {
            let event = self.boot(generation);
            self.happen(event);
        }
    }

    fn boot(&mut self, generation: Number) -> Event {
        if self.goes_wrong(8) {
            return Event::Unbootable { generation, failure: Failure::new(Exit::Usage, "settings") };
        }
        let pid = self.spawn(generation, None);
        self.templates.insert(generation, (pid, true));
        let delay = self.delay();
        let says = |says| Happening::Event(Event::Template { generation, says });
        if !self.goes_wrong(10) {
            self.later(pid, Duration::ZERO, says(FromTemplate::Begins(BootStep::Import)));
        }
        if self.goes_wrong(12) {
            self.later(pid, delay, says(FromTemplate::Failed(failed())));
            self.later(pid, Duration::ZERO, Happening::Death(Ending::Status(1)));
        } else if self.goes_wrong(4) {
            self.later(pid, delay, Happening::Death(Ending::Signal(libc::SIGSEGV)));
        } else if !self.goes_wrong(4) {
            self.later(pid, delay, says(FromTemplate::Loaded(loaded())));
        }
        let workers = 1 + self.chance.below(3) as u16;
        let most = workers + self.chance.below(3).saturating_sub(1) as u16;
        let refork = if self.chance.percent(70) { 100 } else { 0 };
        let plan = Plan {
            application: "site".into(),
            workers,
            range: (most > workers).then_some(WorkerRange { least: workers, most }),
            shrink_after: Duration::from_secs(1),
            slots: 8,
            boot_timeout: Duration::from_secs(10),
            smoke: vec!["/".into(); self.chance.below(3) as usize],
            smoke_timeout: Duration::from_secs(self.chance.below(4)),
            graceful_timeout: Duration::from_secs(self.chance.below(6)),
            drain_delay: Duration::from_secs(self.chance.below(2)),
            patience: Duration::from_secs(self.chance.below(20)),
            canary: self.chance.percent(30).then_some(Share::Percent(40)),
            canary_time: Duration::from_secs(self.chance.below(20)),
            watch: Duration::from_secs(self.chance.below(40)),
            ready_after_watch: false,
            keep_previous: self.chance.percent(70),
            refork,
            warms: refork > 0 && self.chance.percent(50),
            listeners: vec![ListenerId(self.chance.percent(10).into())],
            new_version: false,
        };
        self.smoke_tests.insert(generation, plan.smoke.len());
        Event::Spawned { generation, pid, plan }
    }

    fn order_fork(&mut self, generation: Number, slot: u16) -> Option<Event> {
        let free = self.lines.get(&(generation, slot)).is_none_or(|line| line.released);
        self.ensure(free, "a slot is used twice");
        self.lines.insert((generation, slot), Line { open: true, ..Line::default() });
        if !self.is_open(generation) {
            let says = FromTemplate::ForkFailed { slot, error: "broken pipe".into() };
            return Some(Event::Template { generation, says });
        }
        if let Some(pid) = self.template(generation).filter(|pid| self.processes[pid].alive) {
            let delay = self.delay();
            self.later(pid, delay, Happening::Fork(generation, slot));
        }
        None
    }

    pub fn fork(&mut self, template: i32, generation: Number, slot: u16) {
        let says = |says| Happening::Event(Event::Template { generation, says });
        if self.goes_wrong(6) {
            let error = "resource temporarily unavailable".into();
            return self.later(template, Duration::ZERO, says(FromTemplate::ForkFailed { slot, error }));
        }
        let pid = self.spawn(generation, Some(slot));
        let delay = self.delay();
        let named = if self.goes_wrong(3) { self.lie() } else { pid };
        self.later(template, delay, says(FromTemplate::Forked { slot, pid: named }));
        let line = self.lines.get_mut(&(generation, slot)).filter(|line| line.open && line.pid.is_none());
        let Some(line) = line else { return self.end(pid, 0, Ending::Status(0)) };
        (line.pid, line.forked_by) = (Some(pid), template);
        let says = |says| Happening::Event(Event::Worker { generation, slot, says });
        let delay = self.delay();
        if self.goes_wrong(7) {
            self.later(pid, delay, says(FromWorker::Failed(failed())));
            self.later(pid, Duration::ZERO, Happening::Death(Ending::Status(1)));
        } else if self.goes_wrong(7) {
            self.later(pid, delay, Happening::Death(KILLED));
        } else if !self.goes_wrong(4) {
            self.later(pid, delay, says(FromWorker::Ready));
            if self.chance.percent(25) {
                let delay = self.delay();
                self.later(pid, delay, says(FromWorker::Warm));
            }
        }
    }

    /// A child asks a worker, which has to be there, for the next test. It says what came of it, or never does.
    fn smoke(&mut self, generation: Number, slot: u16, test: usize) {
        let line = self.line(generation, slot);
        let early = !line.admitted && !line.dismissed;
        self.ensure(early, "a worker is tested that serves, or is to go");
        let passes = !self.goes_wrong(20);
        let passed = self.smoked.entry(generation).or_default();
        if test == 0 {
            *passed = 0;
        }
        let in_order = *passed == test;
        *passed += usize::from(passes);
        self.ensure(in_order, "a smoke test is left out, or repeated");
        if !self.goes_wrong(10) {
            let failure = Failure::new(Exit::Smoke, "500");
            let verdict = match self.chance.below(3) {
                _ if passes => Verdict::Passed,
                0 => Verdict::Failed(failure),
                1 => Verdict::Late(failure),
                _ => Verdict::Closed(failure),
            };
            let ends = matches!(verdict, Verdict::Closed(_)) && self.chance.percent(70);
            if let Some(pid) = self.line(generation, slot).pid.filter(|_| ends) {
                self.end(pid, 0, Ending::Status(7));
            }
            let delay = self.delay();
            let smoked = Event::Smoked { generation, test, verdict };
            self.later(-1_000_000 - generation.0 as i32, delay, Happening::Event(smoked));
        }
    }

    /// A process that is no child of the master, or that it knows as another.
    fn lie(&mut self) -> i32 {
        let templates = self.state.generations().iter().filter_map(|generation| generation.template.pid());
        let workers = self.state.generations().iter().flat_map(|g| g.slots.iter()).filter_map(|worker| worker.pid);
        let all: Vec<i32> = [-1, 0, 1].into_iter().chain(templates).chain(workers).collect();
        all[self.chance.below(all.len() as u64) as usize]
    }

    /// A template that reads no more orders ends.
    pub fn close_template(&mut self, generation: Number) {
        if let Some((_, open)) = self.templates.get_mut(&generation) {
            *open = false;
        }
        if let Some(pid) = self.template(generation).filter(|pid| self.processes[pid].alive) {
            self.end(pid, 10, Ending::Status(0));
        }
    }

    fn drain(&mut self, generation: Number, slot: u16, hand_over: bool) {
        let line = self.line(generation, slot);
        let again = std::mem::replace(&mut line.dismissed, true);
        let (pid, open) = (line.pid, line.open);
        self.ensure(!again || !hand_over || !open, "a worker is told to drain twice");
        let lives = |pid: &i32| self.processes.get(pid).is_some_and(|process| process.alive);
        let Some(pid) = pid.filter(|pid| open && lives(pid)) else { return };
        if !self.goes_wrong(10) {
            let delay = self.delay();
            let says = FromWorker::AcceptsNoMore;
            self.later(pid, delay, Happening::Event(Event::Worker { generation, slot, says }));
        }
        if self.goes_wrong(5) {
            let delay = self.delay();
            self.later(pid, delay, Happening::Death(Ending::Signal(libc::SIGABRT)));
        } else if !self.goes_wrong(10) {
            let delay = self.delay();
            let says = FromWorker::Drained;
            self.later(pid, delay, Happening::Event(Event::Worker { generation, slot, says }));
            self.later(pid, Duration::ZERO, Happening::Death(Ending::Status(0)));
        }
    }

    /// A process is asked to end; this many times in a hundred it does not.
    pub fn end(&mut self, pid: i32, deaf: u64, exit: Ending) {
        if !self.goes_wrong(deaf) {
            let delay = self.delay().min(Duration::from_secs(1));
            self.later(pid, delay, Happening::Death(exit));
        }
    }

    fn kill(&mut self, pid: i32) {
        let Some(process) = self.processes.get_mut(&pid) else {
            self.fail(&format!("{pid} is killed, which may be anybody's number by now"));
        };
        let again = std::mem::replace(&mut process.killed, true);
        self.ensure(!again, "a process is killed twice");
        for line in self.lines.values_mut().filter(|line| line.pid == Some(pid)) {
            line.dismissed = true;
        }
        // Uninterruptible sleep: the disk.
        let delay = Duration::from_secs(if self.goes_wrong(3) { 60 } else { 0 });
        self.pending.retain(|pending| pending.by != pid || !matches!(pending.what, Happening::Death(_)));
        self.later(pid, delay, Happening::Death(KILLED));
    }

    fn ask_stacks(&mut self, pid: i32) {
        let Some(&Process { generation, slot, .. }) = self.processes.get(&pid) else {
            self.fail(&format!("{pid} is asked for stacks, which may be anybody's number by now"));
        };
        let event = match slot {
            None => Event::Template { generation, says: FromTemplate::Stacks("stacks".into()) },
            Some(slot) => Event::Worker { generation, slot, says: FromWorker::Stacks("stacks".into()) },
        };
        if !self.goes_wrong(30) {
            let delay = self.delay();
            self.later(pid, delay, Happening::Event(event));
        }
    }

    /// What it has not said yet will never be said.
    pub fn die(&mut self, pid: i32, exit: Ending) {
        let Some(process) = self.processes.get_mut(&pid).filter(|process| process.alive) else { return };
        process.alive = false;
        let (generation, slot) = (process.generation, process.slot);
        let now = self.now;
        let is_said = |pending: &Pending| matches!(pending.what, Happening::Event(_)) && pending.due <= now;
        let orders = |pending: &Pending| match pending.what {
            Happening::Fork(generation, slot) if pending.by == pid => Some((generation, slot)),
            _ => None,
        };
        let unheard: Vec<_> = self.pending.iter().filter_map(orders).collect();
        self.pending.retain(|pending| pending.by != pid || is_said(pending));
        let delay = Duration::from_millis(self.chance.below(30));
        match slot {
            _ if self.trial == Some(pid) => {}
            _ if self.beside.get(&generation).is_some_and(|(candidate, _)| *candidate == pid) => {
                let lost = Event::CandidateLost(generation, "closed".into());
                self.later(pid, delay, Happening::Event(lost));
            }
            None => self.later(pid, delay, Happening::Event(Event::TemplateClosed(generation))),
            Some(slot) if self.lines.get(&(generation, slot)).is_some_and(|line| line.pid == Some(pid)) => {
                self.later(pid, delay, Happening::Event(Event::WorkerClosed { generation, slot }));
            }
            Some(_) => {}
        }
        // Their descriptors were in messages that were never read.
        for (generation, slot) in unheard {
            self.later(pid, delay, Happening::Event(Event::WorkerClosed { generation, slot }));
        }
        self.later(pid, delay, Happening::Event(Event::Exited { pid, exit }));
    }

    fn forget(&mut self, generation: Number) {
        let abandoned = |pid: &i32| self.lines.values().all(|line| line.pid != Some(*pid) || line.released);
        let left = self.processes.iter().any(|(pid, p)| {
            p.generation == generation && self.trial != Some(*pid) && (p.slot.is_none() || !abandoned(pid))
        });
        self.ensure(!left, "a generation is forgotten whose processes live");
        self.lines.retain(|(number, _), _| *number != generation);
        self.templates.remove(&generation);
        self.beside.remove(&generation);
    }

    fn note(&mut self, note: Note) {
        match note {
            Note::TakenBack(_, why) => {
                let next = self.state.generations().iter().find(|generation| generation.number == Number(self.booted));
                let replaced = why.message.starts_with("another reload");
                self.ensure(
                    !replaced || next.is_some_and(Generation::complete),
                    "a canary goes for a generation that is not complete",
                );
                (self.canary_left, self.suspect) = (true, true);
                self.filling |= why.exit == Exit::Worse;
            }
            Note::WentBack { from, to, .. } => {
                // It has passed its tests before.
                self.smoked.insert(to, self.smoke_tests[&to]);
                self.suspect = true;
                let again = std::mem::replace(&mut self.went_back, true);
                self.ensure(
                    !again,
                    &format!("the site goes back from generation {from}, and nobody has asked for another"),
                );
            }
            Note::Canary { .. } => self.suspect = false,
            Note::Serving(number, _) => self.suspect &= number < Number(self.booted),
            Note::RollbackAsked(to) => {
                let stays = self.state.serving().is_some_and(|serving| serving.number == to);
                self.ensure(stays || !self.suspect, "a release was taken back, and the site goes back once more");
            }
            Note::Booting(_) => {
                let suspect = self.suspect
                    && self.state.serving().is_some_and(|serving| serving.slots.iter().any(slots::Worker::serves));
                self.ensure(!suspect, "what was worse is booted again, and nobody has asked");
            }
            Note::Discarded(_, Failure { exit: Exit::Refused, .. }) => self.suspect = true,
            Note::ReloadAsked => (self.suspect, self.went_back) = (false, false),
            Note::LeftBehind(pids) => self.left_behind = pids,
            Note::Replacing(WorkerName { generation, .. }, Why::Operator | Why::Asked(Recycle::Age)) => {
                let number = generation;
                let generation = self.state.generations().iter().find(|generation| generation.number == number);
                let urgent = |worker: &slots::Worker| {
                    matches!(worker.asked, Some(Why::Asked(Recycle::Timeout | Recycle::Panic)))
                };
                let leaving = generation.map_or(0, |generation| {
                    generation.slots.count(|w| w.leaving && w.stage == slots::WorkerStage::Ready && !urgent(w))
                });
                self.ensure(leaving <= 1, "two workers are replaced at once");
            }
            _ => {}
        }
    }

    fn exit(&mut self, result: Result<(), Failure>) {
        self.ensure(self.stopped || !self.served, "it ends and was not told to");
        self.ensure(self.stopped || result.is_err(), "the first boot fails, and the exit code says nothing");
        let known: Vec<i32> = self.lines.values().filter(|line| !line.released).filter_map(|line| line.pid).collect();
        let left = |(pid, process): (&i32, &Process)| {
            let told = self.left_behind.contains(pid) && process.killed;
            // A trial belongs to no generation.
            let trial = process.generation == Number(0);
            !told && !trial && (process.slot.is_none() || known.contains(pid))
        };
        let forgotten: Vec<i32> = self.processes.iter().filter(|process| left(*process)).map(|(pid, _)| *pid).collect();
        self.ensure(forgotten.is_empty(), &format!("it ends before its children {forgotten:?}"));
        self.ended = Some(result);
    }

    pub fn upgrade(&mut self, step: &Action) -> Event {
        // Their channels are not handed on.
        self.ensure(self.beside.is_empty(), "an upgrade begins while a template is about to change");
        let failed = |why: &str| Event::UpgradeFailed(why.into());
        if matches!(step, Action::TryUpgrade) {
            if self.goes_wrong(15) {
                return failed("no such file or directory");
            }
            let pid = self.spawn(Number(0), None);
            self.trial = Some(pid);
            let exit = if self.goes_wrong(30) { Ending::Status(0) } else { Ending::Status(PROVEN.into()) };
            if !self.goes_wrong(10) {
                let delay = self.delay();
                self.later(pid, delay, Happening::Death(exit));
            }
            return Event::TrialStarted(pid);
        }
        if self.goes_wrong(20) {
            return failed("permission denied");
        }
        let text = serde_json::to_string(&self.state).expect("the state can be written");
        self.state = serde_json::from_str(&text).expect("the state can be read");
        let text = serde_json::to_string(&self.totals).expect("the totals can be written");
        self.totals = serde_json::from_str(&text).expect("the totals can be read");
        Event::Upgraded
    }

    /// The process of the template, until it is reaped.
    pub fn template(&self, generation: Number) -> Option<i32> {
        self.templates.get(&generation).map(|(pid, _)| *pid).filter(|pid| self.processes.contains_key(pid))
    }

    pub fn is_open(&self, generation: Number) -> bool {
        self.templates.get(&generation).is_some_and(|(_, open)| *open)
    }

    pub fn goes_wrong(&mut self, percent: u64) -> bool {
        // A release that never serves is not judged.
        let percent = if self.deploys { percent / 4 } else { percent };
        !self.calm && self.chance.percent(percent)
    }

    pub fn delay(&mut self) -> Duration {
        match self.calm {
            true => Duration::from_millis(self.chance.below(100)),
            false => self.chance.delay(),
        }
    }
}

pub fn failed() -> BootFailure {
    BootFailure::new(BootFailureKind::Import, "no", "line 1\nline 2")
}

pub fn loaded() -> Loaded {
    Loaded {
        wire: ostler_wire::VERSION,
        python: "3.11.7".into(),
        executable: "/usr/bin/python3".into(),
        preloaded: true,
        unsafe_to_fork: Vec::new(),
        import: Duration::ZERO,
        failed: false,
    }
}
