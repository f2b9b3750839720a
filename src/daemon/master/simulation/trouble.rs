//! What happens to the master in the simulated world without being asked for: operators, deaths, signals, and what figures say.

use std::time::Duration;

use ostler_wire::{FromWorker, Recycle};

use super::{
    super::event::{Event, Number, Reload, Stop},
    Happening, KILLED, World,
};
use crate::{
    resources::control::{Asker, Change},
    settings::{Rollout, Share, WorkerRange},
    sys::process::Ending,
};

impl World {
    fn reloading(&mut self, asker: Option<Asker>) -> Option<Asker> {
        self.reloading.extend(asker.map(|asker| (asker, self.now)));
        asker
    }

    fn asker(&mut self) -> Option<Asker> {
        if self.chance.percent(40) {
            return None;
        }
        self.next_asker += 1;
        self.waiting.insert(Asker(self.next_asker));
        Some(Asker(self.next_asker))
    }

    pub fn trouble(&mut self) {
        if self.ended.is_some() {
            return;
        }
        let which = self.chance.below(54);
        match self.state.judged() {
            Some(_) if self.chance.percent(if self.deploys { 60 } else { 30 }) => return self.judge_release(),
            None if self.deploys && self.chance.percent(20) => {
                let asker = self.asker();
                return self.reload(asker);
            }
            // So that most histories have several deploys before the end.
            _ if self.deploys && self.chance.percent(80) => return,
            _ => {}
        }
        if self.chance.percent(20) {
            return self.load_changes();
        }
        if which > 21 {
            return self.misfortune(which);
        }
        let asker = self.asker();
        let event = match which {
            0 => Event::Stop(if self.chance.percent(60) { Stop::Graceful } else { Stop::Quick }, asker),
            1..8 => return self.reload(asker),
            8..11 => Event::Rollback(self.reloading(asker)),
            11..15 => Event::Upgrade(asker),
            15..18 => Event::Recycle(asker),
            18..21 => Event::Scale(Change::By(self.chance.below(5) as i32 - 2), asker),
            _ if self.chance.percent(50) => Event::Scale(Change::To(self.chance.below(6) as u16), asker),
            _ => Event::Scale(Change::Within(self.range()), asker),
        };
        self.stopped |= matches!(event, Event::Stop(..));
        self.happen(event);
    }

    /// The load is said to need more workers of a generation, perhaps the one that serves, or not to need one of them.
    fn load_changes(&mut self) {
        let generations = self.state.generations();
        let generation = &generations[self.chance.below(generations.len().max(1) as u64) as usize];
        let number = generation.number;
        let event = match self.chance.percent(50) {
            true => Event::Grow { generation: number, by: self.chance.below(4) as u16, why: "more".into() },
            false => Event::Shrink { generation: number, slot: self.chance.below(8) as u16, why: "less".into() },
        };
        self.happen(event);
    }

    fn range(&mut self) -> WorkerRange {
        let least = 1 + self.chance.below(3) as u16;
        WorkerRange { least, most: least + 1 + self.chance.below(2) as u16 }
    }

    fn reload(&mut self, asker: Option<Asker>) {
        let rollout = match self.chance.below(5) {
            0 => Rollout::Whole,
            1 | 2 => Rollout::Canary(Share::Workers(1)),
            _ => Rollout::AsSet,
        };
        let reload = Reload { asker: self.reloading(asker), wait: self.chance.percent(30), rollout };
        self.happen(Event::Reload(reload));
    }

    /// The figures speak against a generation, perhaps the one that is judged, or an operator decides.
    fn judge_release(&mut self) {
        let generations = self.state.generations();
        let generation = generations[self.chance.below(generations.len() as u64) as usize].number;
        let event = match self.chance.below(5) {
            0..2 => Event::Worse { generation, why: "5xx".into() },
            2 => Event::Judged { generation, told: "no worse".into() },
            3 => Event::Promote(self.asker()),
            _ => Event::Rollback(self.asker()),
        };
        self.happen(event);
    }

    fn misfortune(&mut self, which: u64) {
        match which {
            22 => self.happen(Event::LetAllGo),
            23 => self.now = self.now + Duration::from_secs(self.chance.below(3600)),
            24 => self.happen(Event::Exited { pid: 1, exit: Ending::Status(0) }),
            25..33 => {
                let alive: Vec<i32> = self.processes.iter().filter(|(_, p)| p.alive).map(|(&pid, _)| pid).collect();
                if !alive.is_empty() {
                    let pid = alive[self.chance.below(alive.len() as u64) as usize];
                    let exit = if self.chance.percent(80) { KILLED } else { Ending::Status(0) };
                    self.die(pid, exit);
                }
            }
            40 | 41 => {
                let open: Vec<Number> = self.templates.iter().filter(|(_, (_, open))| *open).map(|(&n, _)| n).collect();
                if !open.is_empty() {
                    let generation = open[self.chance.below(open.len() as u64) as usize];
                    self.later(0, Duration::ZERO, Happening::Event(Event::TemplateNonsense(generation, "?".into())));
                }
            }
            other => {
                let serving = self.lines.iter().filter(|(_, line)| line.admitted && line.open && !line.dismissed);
                let serving: Vec<_> = serving.filter_map(|(&key, line)| Some((key, line.pid?))).collect();
                if serving.is_empty() {
                    return;
                }
                let ((generation, slot), pid) = serving[self.chance.below(serving.len() as u64) as usize];
                if !self.processes.get(&pid).is_some_and(|process| process.alive) {
                    return;
                }
                let why = match other {
                    44..48 => return self.freeze(other, generation, slot, pid),
                    48.. => {
                        let warm = Event::Worker { generation, slot, says: FromWorker::Warm };
                        return self.later(pid, Duration::ZERO, Happening::Event(warm));
                    }
                    33 | 34 => Recycle::Age,
                    35 => Recycle::Timeout,
                    36 => Recycle::Panic,
                    37 => Recycle::Signal,
                    42 | 43 => {
                        let nonsense = Event::WorkerNonsense { generation, slot, why: "?".into() };
                        return self.later(pid, Duration::ZERO, Happening::Event(nonsense));
                    }
                    _ => {
                        let closed = Event::WorkerClosed { generation, slot };
                        return self.later(pid, Duration::ZERO, Happening::Event(closed));
                    }
                };
                let says = FromWorker::Replace(why);
                self.later(pid, Duration::ZERO, Happening::Event(Event::Worker { generation, slot, says }));
            }
        }
    }

    /// A worker makes no progress, or a signal stops it or its template; perhaps for a while only.
    fn freeze(&mut self, how: u64, generation: Number, slot: u16, pid: i32) {
        let template = self.template(generation).filter(|pid| self.processes[pid].alive);
        let pulse = |alive| Event::Pulse { generation, slot, alive };
        let stopped = |pid| [true, false].map(|stopped| Event::Stopped { pid, stopped });
        let line = self.line(generation, slot);
        let [begun, over] = match (how, template) {
            (44 | 45, _) => {
                line.silent = true;
                [pulse(false), pulse(true)]
            }
            (46, Some(template)) => stopped(template),
            _ => {
                line.halted = true;
                stopped(pid)
            }
        };
        self.happen(begun);
        if self.chance.percent(50) {
            let delay = self.chance.delay();
            self.later(pid, delay, Happening::Event(over));
        }
    }
}
