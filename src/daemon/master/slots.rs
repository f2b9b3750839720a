//! The register of a generation's workers: who is in which slot, and how far each has come.
//!
//! A slot belongs to its worker from the order to fork until the process is gone, so that nobody else writes to its
//! place on the scoreboard meanwhile.

use serde::{Deserialize, Serialize};

use super::{
    event::Number,
    notes::{Why, WorkerName},
};
use crate::sys::clock::Moment;

/// A generation's workers, in the order in which they were forked.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub struct Slots {
    capacity: u16,
    workers: Vec<Worker>,
}

/// One worker.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Worker {
    /// Its place on the scoreboard.
    pub slot: u16,
    /// Its process, once the template has told.
    pub pid: Option<i32>,
    /// How far it has come.
    pub stage: WorkerStage,
    /// When the order to fork was given.
    pub since: Moment,
    /// When it became ready.
    pub ready: Option<Moment>,
    /// It was told to accept.
    pub admitted: bool,
    /// It was told to take turns with the others.
    #[serde(default)]
    pub turns: bool,
    /// It has said that it accepts no more.
    #[serde(default)]
    pub deaf: bool,
    /// When patience ends: with its boot or with its drain.
    pub deadline: Option<Moment>,
    /// It boots for too long, and was asked for its stacks.
    pub hangs: bool,
    /// It is to be replaced, when its turn comes.
    pub asked: Option<Why>,
    /// Its turn has come: it does not count any more, and drains when its successor is ready.
    pub leaving: bool,
    /// It has answered enough requests to be worth sharing.
    #[serde(default)]
    pub warm: bool,
    /// The template that has forked it is not the present one.
    #[serde(default)]
    pub old: bool,
    /// Since when its loop has not turned although there is something to do.
    #[serde(default)]
    pub silent: Option<Moment>,
    /// Since when a signal has stopped it.
    #[serde(default)]
    pub stopped: Option<Moment>,
    /// The last stop that the log was told of.
    #[serde(default)]
    pub told_stopped: Option<Moment>,
}

/// From the order to the end.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum WorkerStage {
    /// The template was told to fork.
    Forking,
    /// The process is there.
    Booting,
    /// It serves, or will as soon as its generation does.
    Ready,
    /// It was told to drain or to quit.
    Draining,
    /// SIGKILL was sent.
    Killed,
}

impl Worker {
    /// Counts towards the number that is wanted: serves, or will.
    pub fn counts(&self) -> bool {
        matches!(self.stage, WorkerStage::Forking | WorkerStage::Booting | WorkerStage::Ready) && !self.leaving
    }

    /// Serves, and is not about to go.
    pub fn serves(&self) -> bool {
        self.stage == WorkerStage::Ready && !self.leaving
    }

    /// May still accept: a worker that was told to drain does so until it has heard it.
    pub fn accepts(&self) -> bool {
        self.admitted && !self.deaf && matches!(self.stage, WorkerStage::Ready | WorkerStage::Draining)
    }

    /// As the log names it.
    pub fn name(&self, generation: Number) -> WorkerName {
        WorkerName { generation, slot: self.slot, pid: self.pid }
    }
}

impl Slots {
    /// An empty register.
    pub fn new(capacity: u16) -> Slots {
        Slots { capacity, workers: Vec::new() }
    }

    /// How many workers there can be.
    pub fn capacity(&self) -> u16 {
        self.capacity
    }

    /// Takes the lowest free slot: so workers look at few slots to find each other, and what is told by slot has few names.
    pub fn take(&mut self, now: Moment, deadline: Moment) -> Option<u16> {
        let slot = (0..self.capacity).find(|&slot| self.workers.iter().all(|worker| worker.slot != slot))?;
        self.workers.push(Worker {
            slot,
            pid: None,
            stage: WorkerStage::Forking,
            since: now,
            ready: None,
            admitted: false,
            turns: false,
            deaf: false,
            deadline: Some(deadline),
            hangs: false,
            asked: None,
            leaving: false,
            warm: false,
            old: false,
            silent: None,
            stopped: None,
            told_stopped: None,
        });
        Some(slot)
    }

    /// The worker in a slot.
    pub fn at(&mut self, slot: u16) -> Option<&mut Worker> {
        self.workers.iter_mut().find(|worker| worker.slot == slot)
    }

    /// The worker with a process number.
    pub fn by_pid(&self, pid: i32) -> Option<&Worker> {
        self.workers.iter().find(|worker| worker.pid == Some(pid))
    }

    /// Strikes a worker off.
    pub fn remove(&mut self, slot: u16) -> Option<Worker> {
        let index = self.workers.iter().position(|worker| worker.slot == slot)?;
        Some(self.workers.remove(index))
    }

    /// All, the oldest first.
    pub fn iter(&self) -> impl DoubleEndedIterator<Item = &Worker> {
        self.workers.iter()
    }

    /// All, the oldest first.
    pub fn iter_mut(&mut self) -> impl DoubleEndedIterator<Item = &mut Worker> {
        self.workers.iter_mut()
    }

    /// How many there are for which this holds.
    pub fn count(&self, holds: impl Fn(&Worker) -> bool) -> usize {
        self.workers.iter().filter(|worker| holds(worker)).count()
    }

    /// Whether nobody is left.
    pub fn is_empty(&self) -> bool {
        self.workers.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_lowest_free_slot_is_taken() {
        let mut slots = Slots::new(3);
        let take = |slots: &mut Slots| slots.take(Moment(0), Moment(1));
        assert_eq!((take(&mut slots), take(&mut slots)), (Some(0), Some(1)));
        slots.remove(0);
        assert_eq!((take(&mut slots), take(&mut slots), take(&mut slots)), (Some(0), Some(2), None));
        assert_eq!(slots.iter().map(|worker| worker.slot).collect::<Vec<_>>(), [1, 0, 2]);
    }
}
