//! What all workers have counted since the site began: those that live, and those that are gone.
//!
//! A worker counts in its slot, where the application may write anything. So a total grows by what a counter has grown since the last
//! look, and by nothing if the counter went back or grew by more than it can. The last look is at a worker that is known to be dead;
//! then its slot is free for another.
//!
//! What a release is judged by is also kept for each generation, until that is forgotten.

use std::collections::BTreeMap;

use ostler_wire::{
    counters,
    meters::{LOGGED, Meters, Times},
    scoreboard::Slot,
};
use serde::{Deserialize, Serialize};

use super::event::Number;

/// No counter grows by so much between two looks: up to here, every number has a place in Prometheus' doubles.
const MOST: u64 = 1 << 53;

/// What is kept for each generation begins with one of these: some seventy numbers, which no application names.
const OF_GENERATIONS: [&str; 3] = ["requests.", "duration.", "broken"];

/// Numbers by the names of their fields. An executable that knows more of them, or fewer, can go on from there.
pub type Counts = BTreeMap<String, u64>;

/// The totals, and what of each living worker's counters they hold.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Totals {
    sums: Counts,
    workers: Vec<Counted>,
    /// A master of an earlier release kept none: then they begin with the upgrade.
    #[serde(default)]
    generations: BTreeMap<Number, Counts>,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
struct Counted {
    generation: Number,
    slot: u16,
    counts: Counts,
}

impl Totals {
    /// Adds what a worker has counted since it was last looked at.
    pub fn look(&mut self, generation: Number, slot: u16, record: &Slot, meters: Option<&Meters>) {
        for (field, count) in counters::counted(record, meters) {
            let counts = self.known(generation, slot);
            let counted = counts.get(field.as_ref()).copied().unwrap_or(0);
            let grown = count.saturating_sub(counted);
            if (1..=MOST).contains(&grown) {
                counts.insert(field.to_string(), count);
                add(&mut self.sums, &field, grown);
                if OF_GENERATIONS.iter().any(|kept| field.starts_with(kept)) {
                    add(self.generations.entry(generation).or_default(), &field, grown);
                }
            }
        }
    }

    /// How much CPU time a worker has used so far, in microseconds.
    pub fn spent(&mut self, generation: Number, slot: u16, time: u64) {
        let known = self.known(generation, slot);
        let known = known.entry("cpu".into()).or_default();
        let grown = time.saturating_sub(*known);
        *known += grown;
        self.add(&format!("cpu.{slot}"), grown);
    }

    /// What the master has counted itself: records of its log, as [`LOGGED`] names them, and lines of it that were lost.
    pub fn add_logged(&mut self, counts: [u64; LOGGED.len()], lost: u64) {
        for (kind, count) in LOGGED.iter().zip(counts).filter(|(_, count)| *count > 0) {
            self.add(&counters::part("logged", &[kind]), count);
        }
        if lost > 0 {
            self.add("lines_lost.error", lost);
        }
    }

    /// What the totals hold of a worker.
    fn known(&mut self, generation: Number, slot: u16) -> &mut Counts {
        let known = self.workers.iter().position(|of| (of.generation, of.slot) == (generation, slot));
        let known = known.unwrap_or_else(|| {
            self.workers.push(Counted { generation, slot, counts: Counts::new() });
            self.workers.len() - 1
        });
        &mut self.workers[known].counts
    }

    /// More of something has happened.
    pub fn add(&mut self, field: &str, grown: u64) {
        add(&mut self.sums, field, grown);
    }

    /// A worker is dead: looks at what it has left, for the last time.
    pub fn fold(&mut self, generation: Number, slot: u16, record: &Slot, meters: Option<&Meters>) {
        self.look(generation, slot, record, meters);
        self.workers.retain(|of| (of.generation, of.slot) != (generation, slot));
    }

    /// Nothing is left of a generation.
    pub fn forget(&mut self, generation: Number) {
        self.generations.remove(&generation);
    }

    /// The total of a field of the requests of one generation, or of their durations, as of the last looks.
    pub fn of_generation(&self, generation: Number, field: &str) -> u64 {
        self.generations.get(&generation).and_then(|sums| sums.get(field)).copied().unwrap_or(0)
    }

    /// The total of a field, as of the last looks.
    pub fn of(&self, field: &str) -> u64 {
        self.sums.get(field).copied().unwrap_or(0)
    }

    /// A histogram, as of the last looks.
    pub fn times(&self, field: &str) -> Times {
        Times::read(|name| self.of(&counters::part(field, &[name])))
    }

    /// All totals by the names of their fields, as of the last looks.
    pub fn all(&self) -> &Counts {
        &self.sums
    }
}

fn add(sums: &mut Counts, field: &str, grown: u64) {
    match sums.get_mut(field) {
        Some(sum) => *sum = sum.saturating_add(grown),
        None => drop(sums.insert(field.into(), grown)),
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

    use ostler_wire::scoreboard::Scoreboard;

    use super::*;
    use crate::master::verdict::figures::Figures;

    const FIRST: Number = Number(1);

    fn record(requests: u64) -> Slot {
        let record = Slot::default();
        record.requests.store(requests, Relaxed);
        record
    }

    #[test]
    fn the_dead_count_once_and_their_successors_from_nothing() {
        let mut totals = Totals::default();
        totals.look(FIRST, 0, &record(3), None);
        totals.look(FIRST, 1, &record(10), None);
        totals.fold(FIRST, 0, &record(5), None);
        assert_eq!(totals.of("requests"), 15);
        totals.look(FIRST, 0, &record(2), None);
        totals.look(Number(2), 0, &record(1), None);
        assert_eq!(totals.of("requests"), 18);
    }

    #[test]
    fn cpu_time_of_a_slot_goes_on_with_the_next_worker() {
        let mut totals = Totals::default();
        totals.spent(FIRST, 0, 30);
        totals.spent(FIRST, 0, 20);
        totals.spent(FIRST, 0, 40);
        totals.fold(FIRST, 0, &record(0), None);
        totals.spent(FIRST, 0, 5);
        totals.spent(Number(2), 0, 7);
        assert_eq!(totals.of("cpu.0"), 52);
    }

    #[test]
    fn nonsense_counts_for_nothing() {
        let mut totals = Totals::default();
        for requests in [7, 0, 5, u64::MAX, 7, 1 << 60, 8] {
            totals.look(FIRST, 0, &record(requests), None);
        }
        assert_eq!(totals.of("requests"), 8);
        totals.sums.insert("requests".into(), u64::MAX);
        totals.look(FIRST, 0, &record(1000), None);
        assert_eq!(totals.of("requests"), u64::MAX, "it stays at the end");
    }

    fn figures(totals: &Totals, generation: Number) -> Figures {
        Figures::read(|field| totals.of_generation(generation, field), 0, 0)
    }

    #[test]
    fn each_generation_has_its_figures_until_it_is_forgotten() {
        let board = Scoreboard::new(2, 1).unwrap();
        let meters = [0, 1].map(|slot| board.meters(slot).unwrap());
        let mut totals = Totals::default();
        meters[0].count(200, b"GET", 0, 50);
        meters[0].count(500, b"PATCH", 0, 70_000_000);
        meters[1].count_own(503, b"POST");
        totals.look(FIRST, 0, board.slot(0), Some(meters[0]));
        totals.look(Number(2), 0, board.slot(1), Some(meters[1]));
        meters[0].count(404, b"GET", 0, 50);
        totals.fold(FIRST, 0, board.slot(0), Some(meters[0]));
        let mut totals: Totals = serde_json::from_str(&serde_json::to_string(&totals).unwrap()).unwrap();
        let first = figures(&totals, FIRST);
        assert_eq!((first.requests, first.errors), (3, 1));
        assert_eq!((first.durations[0], first.durations[18], first.durations.iter().sum::<u64>()), (2, 1, 3));
        let second = figures(&totals, Number(2));
        assert_eq!((second.requests, second.errors, second.durations.iter().sum::<u64>()), (1, 1, 0));
        totals.forget(FIRST);
        assert_eq!(figures(&totals, FIRST), Figures::default());
        assert_eq!(totals.of("requests.2xx.GET"), 1, "the site has its sum for ever");
        assert_eq!(totals.generations.len(), 1);
    }

    #[test]
    fn figures_neither_overflow_nor_go_back_whatever_an_application_writes() {
        let board = Scoreboard::new(1, 1).unwrap();
        let (slot, meters) = (board.slot(0), board.meters(0).unwrap());
        let counters = meters.requests.iter().collect::<Vec<&AtomicU64>>();
        let (mut totals, mut last) = (Totals::default(), Figures::default());
        for look in 0..2_000u64 {
            let nonsense = [0, look, MOST, u64::MAX, look << 53, u64::MAX - look][look as usize % 6];
            counters.iter().for_each(|counter| counter.store(nonsense, Relaxed));
            totals.fold(FIRST, 0, slot, Some(meters));
            let now = figures(&totals, FIRST);
            assert!(now.requests >= last.requests && now.errors >= last.errors);
            last = now;
        }
        for sums in totals.generations.values_mut() {
            sums.values_mut().for_each(|sum| *sum = u64::MAX);
        }
        counters.iter().for_each(|counter| counter.store(1, Relaxed));
        totals.fold(FIRST, 0, slot, Some(meters));
        assert_eq!((figures(&totals, FIRST).requests, figures(&totals, FIRST).errors), (u64::MAX, u64::MAX));
        assert!(totals.generations[&FIRST].len() <= 70);
    }

    #[test]
    fn another_executable_goes_on_where_this_one_was() {
        let mut totals = Totals::default();
        totals.look(FIRST, 0, &record(3), None);
        let mut read: Totals = serde_json::from_str(&serde_json::to_string(&totals).unwrap()).unwrap();
        assert_eq!(read, totals);
        read.fold(FIRST, 0, &record(4), None);
        assert_eq!(read.of("requests"), 4);
    }
}
