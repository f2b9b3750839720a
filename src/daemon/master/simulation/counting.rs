//! The workers of the simulated world count, some of them nonsense. The totals never go back, and nothing is lost where all are honest.

use std::sync::atomic::Ordering::Relaxed;

use super::{World, chance::Chance};
use crate::master::event::Number;

/// What the workers have counted.
pub struct WorkerCounts {
    /// Of its own, so that counting changes no history.
    chance: Chance,
    requests: u64,
    /// An application has written into its worker's slot.
    nonsense: bool,
    /// The total, when it was last looked at.
    told: u64,
}

impl WorkerCounts {
    pub fn new(seed: u64) -> WorkerCounts {
        WorkerCounts { chance: Chance(seed.wrapping_mul(0x9E37_79B9_7F4A_7C15)), requests: 0, nonsense: false, told: 0 }
    }
}

impl World {
    /// One worker answers requests, and sometimes somebody asks how many it were.
    pub fn count(&mut self) {
        let chance = &mut self.counted.chance;
        let lives = |pid| self.processes.get(&pid).is_some_and(|process| process.alive);
        let serving: Vec<_> = self.lines.values().filter(|line| line.admitted && line.pid.is_some_and(lives)).collect();
        if let Some(line) = serving.get(chance.below(serving.len().max(1) as u64) as usize) {
            if self.seed % 2 == 1 && chance.percent(3) {
                self.counted.nonsense = true;
                line.record.requests.store(chance.below(u64::MAX), Relaxed);
            } else {
                let requests = chance.below(10);
                line.record.requests.fetch_add(requests, Relaxed);
                self.counted.requests += requests;
            }
        }
        if self.counted.chance.percent(5) {
            self.look();
        }
    }

    pub fn fold(&mut self, generation: Number, slot: u16) {
        let record = &self.lines[&(generation, slot)].record;
        self.totals.fold(generation, slot, record, None);
        self.tell();
    }

    fn look(&mut self) {
        for (&(generation, slot), line) in self.lines.iter().filter(|(_, line)| !line.released) {
            self.totals.look(generation, slot, &line.record, None);
        }
        self.tell();
    }

    fn tell(&mut self) {
        let total = self.totals.of("requests");
        self.ensure(self.counted.told <= total, "a total goes back");
        self.counted.told = total;
    }

    pub fn judge_totals(&mut self) {
        self.look();
        let (told, counted) = (self.counted.told, self.counted.requests);
        let holds = self.counted.nonsense || told == counted;
        self.ensure(holds, &format!("{counted} requests were answered, and {told} are told"));
    }
}
