//! Workers of the simulated world that become templates: they hang, die, lie, or hold what must not be shared.

use std::{
    sync::atomic::{AtomicU64, Ordering::Relaxed},
    time::Duration,
};

use ostler_wire::{FromTemplate, FromWorker};

use super::{
    super::event::{Event, Number},
    Happening, World,
    world::{failed, loaded},
};
use crate::sys::process::Ending;

/// How often a worker has become the template for good, and how often the one before it was the template again, in all histories.
pub static REFORKED: AtomicU64 = AtomicU64::new(0);
pub static FELL_BACK: AtomicU64 = AtomicU64::new(0);
/// How often a worker has become the template for good before its generation took over.
pub static WARMED: AtomicU64 = AtomicU64::new(0);

impl World {
    /// It drains as others do. Then it is ready to be the template, or says why it cannot be.
    pub fn refork(&mut self, generation: Number, slot: u16) {
        self.ensure(!self.beside.contains_key(&generation), "two workers are to be the template");
        let line = self.line(generation, slot);
        let again = std::mem::replace(&mut line.dismissed, true);
        let (pid, open) = (line.pid, line.open);
        self.ensure(!again, "a worker is to be the template that was dismissed");
        let Some(pid) = pid else { self.fail("a worker is to be the template that has no process") };
        let lives = self.processes.get(&pid).is_some_and(|process| process.alive);
        self.beside.insert(generation, (pid, true));
        if !open || !lives {
            let lost = Event::CandidateLost(generation, "closed".into());
            return self.later(pid, Duration::ZERO, Happening::Event(lost));
        }
        for says in [FromWorker::AcceptsNoMore, FromWorker::Drained] {
            let delay = self.delay();
            self.later(pid, delay, Happening::Event(Event::Worker { generation, slot, says }));
        }
        self.later(pid, Duration::ZERO, Happening::Event(Event::WorkerClosed { generation, slot }));
        let says = |says| Happening::Event(Event::Template { generation, says });
        let delay = self.delay();
        if self.goes_wrong(10) {
            self.later(pid, delay, says(FromTemplate::Failed(failed())));
            self.later(pid, Duration::ZERO, Happening::Death(Ending::Status(0)));
        } else if self.goes_wrong(6) {
            self.later(pid, delay, Happening::Death(Ending::Signal(libc::SIGSEGV)));
        } else if self.goes_wrong(4) {
            self.later(pid, delay, says(FromTemplate::Forked { slot, pid }));
        } else if !self.goes_wrong(6) {
            self.later(pid, delay, says(FromTemplate::Loaded(loaded())));
        }
    }

    /// It finds its channel closed when it has drained, and ends.
    pub fn give_up_candidate(&mut self, generation: Number) {
        if let Some((pid, _)) = self.beside.remove(&generation)
            && self.processes.get(&pid).is_some_and(|process| process.alive)
        {
            self.end(pid, 10, Ending::Status(0));
        }
    }

    pub fn succeed(&mut self, generation: Number) {
        let Some(candidate) = self.beside.remove(&generation) else {
            self.fail("there is no worker to be the template")
        };
        let untrusted = self.lines.values().any(|line| line.pid == Some(candidate.0) && line.untrusted);
        self.ensure(!untrusted, "a worker becomes the template that is not to be trusted");
        let former = self.templates.insert(generation, candidate);
        self.beside.extend(former.map(|former| (generation, former)));
        if let Some(process) = self.processes.get_mut(&candidate.0) {
            process.slot = None;
        }
        self.lines.values_mut().filter(|line| line.pid == Some(candidate.0)).for_each(|line| line.pid = None);
    }

    /// The old template ends only when the new one has forked a worker that became ready, or when it is lost itself.
    pub fn end_former(&mut self, generation: Number) {
        let Some((former, open)) = self.beside.remove(&generation) else { self.fail("there is no template to let go") };
        let template = self.templates[&generation].0;
        let proven = self.lines.iter().any(|(&(number, _), line)| {
            number == generation && line.forked_by == template && line.ready && !line.released
        });
        let alive = self.processes.get(&former).is_some_and(|process| process.alive);
        self.ensure(proven || !open || !alive, "the old template ends, and the new one is not proven");
        let count = if self.boots(generation) { &WARMED } else { &REFORKED };
        count.fetch_add(1, Relaxed);
        if alive {
            self.end(former, 5, Ending::Status(0));
        }
    }

    pub fn fall_back(&mut self, generation: Number) {
        let Some(former) = self.beside.remove(&generation) else { self.fail("there is no template to fall back to") };
        let refused = self.templates.insert(generation, former).map(|(refused, _)| refused);
        // What it forks yet has a channel that is closed, and ends.
        self.pending.retain(|one| Some(one.by) != refused || !matches!(one.what, Happening::Fork(..)));
        let goes_on = refused.and_then(|pid| self.processes.get(&pid)).is_some_and(|process| !process.killed);
        self.ensure(!goes_on, "a template that was refused lives on");
        FELL_BACK.fetch_add(1, Relaxed);
    }

    /// On whose channel a process is heard depends on what it is by now.
    pub fn on_its_channel(&self, by: i32, event: Event) -> Event {
        let is = |of: Option<&(i32, bool)>| of.is_some_and(|(pid, _)| *pid == by);
        match event {
            Event::Template { generation, says } if is(self.beside.get(&generation)) => {
                Event::Candidate { generation, says }
            }
            Event::TemplateClosed(generation) if is(self.beside.get(&generation)) => {
                Event::CandidateLost(generation, "closed".into())
            }
            Event::CandidateLost(generation, _) if is(self.templates.get(&generation)) => {
                Event::TemplateClosed(generation)
            }
            // Nobody hears what a template says that was let go.
            Event::Template { generation, .. } | Event::TemplateClosed(generation)
                if !is(self.templates.get(&generation)) && by > 0 =>
            {
                Event::Candidate { generation: Number(0), says: FromTemplate::Loaded(loaded()) }
            }
            event => event,
        }
    }
}
