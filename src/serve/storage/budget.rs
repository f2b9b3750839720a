//! A bound on the memory of all bodies of a kind together. Each takes room before it grows, and gives it back when it is dropped.

use std::sync::{
    Arc,
    atomic::{AtomicU64, Ordering::Relaxed},
};

/// The bytes that may be taken in all.
#[derive(Debug)]
pub(crate) struct Budget {
    most: u64,
    taken: AtomicU64,
    /// The most bytes that were taken since [`Budget::has_ebbed`] was last true.
    peak: AtomicU64,
}

impl Budget {
    pub fn new(most: u64) -> Arc<Budget> {
        Arc::new(Budget { most, taken: AtomicU64::new(0), peak: AtomicU64::new(0) })
    }

    /// How many bytes are left.
    pub fn left(&self) -> u64 {
        self.most.saturating_sub(self.taken.load(Relaxed))
    }

    /// Takes that many bytes, if they are left. A request for more than the budget succeeds while nothing else is taken.
    fn take(&self, bytes: u64) -> bool {
        let more = |taken: u64| (taken == 0 || taken + bytes <= self.most).then_some(taken + bytes);
        let Ok(before) = self.taken.fetch_update(Relaxed, Relaxed, more) else { return false };
        self.peak.fetch_max(before + bytes, Relaxed);
        true
    }

    /// Whether a flood is over: half the budget or more was taken, and now a quarter of that at most. True once for each flood.
    pub fn has_ebbed(&self) -> bool {
        let (peak, taken) = (self.peak.load(Relaxed), self.taken.load(Relaxed));
        let ebbed = peak > 0 && peak >= self.most / 2 && taken <= peak / 4;
        if ebbed {
            self.peak.store(taken, Relaxed);
        }
        ebbed
    }
}

/// Bytes that were taken from a [`Budget`].
#[derive(Debug)]
pub(crate) struct Room {
    budget: Arc<Budget>,
    bytes: u64,
}

impl Room {
    /// None yet.
    pub fn of(budget: &Arc<Budget>) -> Room {
        Room { budget: budget.clone(), bytes: 0 }
    }

    /// Grows to that size, if the budget allows it.
    pub fn grow(&mut self, bytes: u64) -> bool {
        let grown = self.budget.take(bytes.saturating_sub(self.bytes));
        if grown {
            self.bytes = self.bytes.max(bytes);
        }
        grown
    }
}

impl Drop for Room {
    fn drop(&mut self) {
        self.budget.taken.fetch_sub(self.bytes, Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn all_together_take_no_more_than_the_budget_and_give_it_back() {
        let budget = Budget::new(10);
        let (mut one, mut other) = (Room::of(&budget), Room::of(&budget));
        assert!(one.grow(4) && one.grow(6) && other.grow(4));
        assert!(!other.grow(5) && !one.grow(7));
        assert_eq!(budget.left(), 0);
        drop(one);
        assert!(other.grow(10));
        drop(other);
        assert_eq!(budget.left(), 10);
    }

    #[test]
    fn a_request_larger_than_the_budget_succeeds_alone() {
        let budget = Budget::new(10);
        let (mut one, mut other) = (Room::of(&budget), Room::of(&budget));
        assert!(one.grow(11) && !other.grow(1));
        drop(one);
        assert!(other.grow(1));
    }

    #[test]
    fn a_flood_has_ebbed_once() {
        let budget = Budget::new(10);
        let (mut little, mut much) = (Room::of(&budget), Room::of(&budget));
        assert!(little.grow(2) && !budget.has_ebbed());
        assert!(much.grow(6) && !budget.has_ebbed());
        drop(much);
        assert!(budget.has_ebbed() && !budget.has_ebbed());
    }
}
