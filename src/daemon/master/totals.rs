//! What all workers have counted since the site began: those that live, and those that are gone.
//!
//! A worker counts in its slot, where the application may write anything. So a total grows by what a counter has grown since the last
//! look, and by nothing if the counter went back or grew by more than it can. The last look is at a worker that is known to be dead;
//! then its slot is free for another.

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

/// Numbers by the names of their fields. An executable that knows more of them, or fewer, can go on from there.
pub type Counts = BTreeMap<String, u64>;

/// The totals, and what of each living worker's counters they hold.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Totals {
    sums: Counts,
    workers: Vec<Counted>,
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
                self.add(&field, grown);
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
        match self.sums.get_mut(field) {
            Some(sum) => *sum = sum.saturating_add(grown),
            None => drop(self.sums.insert(field.into(), grown)),
        }
    }

    /// A worker is dead: looks at what it has left, for the last time.
    pub fn fold(&mut self, generation: Number, slot: u16, record: &Slot, meters: Option<&Meters>) {
        self.look(generation, slot, record, meters);
        self.workers.retain(|of| (of.generation, of.slot) != (generation, slot));
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

#[cfg(test)]
mod tests {
    use std::sync::atomic::Ordering::Relaxed;

    use super::*;

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
