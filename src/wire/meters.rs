//! What a worker counts in more numbers than its slot has room for: how long requests take, how they are answered, and how often it
//! logs something bad. It stands behind the slots, in memory that outlives the worker.

use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

/// The room of one worker's numbers, in bytes. What is not used costs no memory.
///
/// After an upgrade the master reads those of workers that an earlier release has started. So this size stays, no field moves, and a new
/// one stands at the end.
pub const ROOM: usize = 8192;

/// The upper bounds of a histogram's buckets, in microseconds. One more bucket has what is longer.
pub const BOUNDS: [u64; 18] = [
    100, 250, 500, 1_000, 2_500, 5_000, 10_000, 25_000, 50_000, 100_000, 250_000, 500_000, 1_000_000, 2_500_000,
    5_000_000, 10_000_000, 30_000_000, 60_000_000,
];

/// What is counted of the log.
pub const LOGGED: [&str; 4] = ["critical", "error", "warning", "exception"];

/// The statuses that are counted: from 100 on. The last has the requests to which no status was sent.
const STATUSES: u16 = 501;
/// Stands for no status.
pub const UNSENT: u16 = 600;

/// A worker's numbers. Only its loop writes, but for what it logs.
#[repr(C, align(64))]
#[derive(Debug)]
pub struct Meters {
    /// From the beginning of a call to its end.
    pub duration: Histogram,
    /// From the arrival of a request to its call.
    pub queue: Histogram,
    /// Records of the log, as [`LOGGED`] names them.
    pub logged: [AtomicU64; LOGGED.len()],
    /// Requests by status.
    statuses: [AtomicU64; STATUSES as usize],
}

const _: () = assert!(size_of::<Meters>() <= ROOM && ROOM.is_multiple_of(align_of::<Meters>()));

/// How many times were how long.
#[repr(C)]
#[derive(Debug)]
pub struct Histogram {
    buckets: [AtomicU64; BOUNDS.len() + 1],
    /// Of all of them, in microseconds.
    sum: AtomicU64,
}

impl Meters {
    /// Counts a request for which the application was called; times are microseconds.
    pub fn count(&self, status: u16, queue: u64, duration: u64) {
        self.queue.count(queue);
        self.duration.count(duration);
        let place = if (100..UNSENT).contains(&status) { status } else { UNSENT } - 100;
        grow(&self.statuses[usize::from(place)], 1);
    }

    /// The statuses with which requests were answered, and how many were.
    pub fn statuses(&self) -> impl Iterator<Item = (u16, u64)> {
        let counts = (100..).zip(&self.statuses).map(|(status, counter)| (status, counter.load(Relaxed)));
        counts.filter(|(_, count)| *count > 0)
    }

    /// Makes them look as if they had never been used. What is zero is not written, so that it costs no memory.
    pub fn clear(&self) {
        let histograms = [&self.duration, &self.queue].into_iter().flat_map(Histogram::counters);
        for counter in histograms.chain(&self.logged).chain(&self.statuses) {
            if counter.load(Relaxed) > 0 {
                counter.store(0, Relaxed);
            }
        }
    }
}

impl Histogram {
    /// Counts a time, in microseconds. Most are short, and found at once.
    fn count(&self, time: u64) {
        let bucket = BOUNDS.iter().position(|bound| time <= *bound).unwrap_or(BOUNDS.len());
        grow(&self.buckets[bucket], 1);
        grow(&self.sum, time);
    }

    fn counters(&self) -> impl Iterator<Item = &AtomicU64> {
        self.buckets.iter().chain([&self.sum])
    }

    /// How many fell into each bucket, and the sum, by the names that [`Times`] knows.
    pub fn counts(&self) -> impl Iterator<Item = (&'static str, u64)> {
        NAMES.iter().copied().zip(self.counters().map(|counter| counter.load(Relaxed)))
    }
}

/// Only one thread writes: no locked instruction is needed.
fn grow(counter: &AtomicU64, by: u64) {
    counter.store(counter.load(Relaxed).wrapping_add(by), Relaxed);
}

/// Each bucket by its bound in microseconds, so that a release with other bounds mistakes none for another; and the sum.
pub const NAMES: [&str; BOUNDS.len() + 2] = [
    "100", "250", "500", "1000", "2500", "5000", "10000", "25000", "50000", "100000", "250000", "500000", "1000000",
    "2500000", "5000000", "10000000", "30000000", "60000000", "longer", "sum",
];

/// What a histogram holds.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Times {
    /// How many fell into each bucket: those of [`BOUNDS`], and what was longer.
    pub buckets: [u64; BOUNDS.len() + 1],
    /// In microseconds.
    pub sum: u64,
}

impl Times {
    /// From the numbers of [`NAMES`].
    pub fn read(number: impl Fn(&'static str) -> u64) -> Times {
        let mut times = Times { sum: number(NAMES[BOUNDS.len() + 1]), ..Times::default() };
        for (bucket, name) in times.buckets.iter_mut().zip(NAMES) {
            *bucket = number(name);
        }
        times
    }

    /// How many there are.
    pub fn count(&self) -> u64 {
        self.buckets.iter().fold(0, |sum, count| sum.saturating_add(*count))
    }

    /// The time that the request of this rank took, in microseconds, the shortest first. Within a bucket they are taken for evenly spread.
    pub fn ranked(&self, rank: u64) -> f64 {
        let mut before = 0;
        for (bucket, &count) in self.buckets.iter().enumerate() {
            if count > 0 && rank < before + count {
                let least = if bucket == 0 { 0 } else { BOUNDS[bucket - 1] } as f64;
                let most = BOUNDS.get(bucket).map_or(2.0 * least, |bound| *bound as f64);
                return least + (most - least) * ((rank - before) as f64 + 0.5) / count as f64;
            }
            before += count;
        }
        0.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn meters() -> Box<Meters> {
        Box::new(Meters {
            duration: histogram(),
            queue: histogram(),
            logged: Default::default(),
            statuses: std::array::from_fn(|_| AtomicU64::new(0)),
        })
    }

    fn histogram() -> Histogram {
        Histogram { buckets: Default::default(), sum: AtomicU64::new(0) }
    }

    #[test]
    fn each_bucket_has_its_bound_in_its_name() {
        for (bound, name) in BOUNDS.iter().zip(NAMES) {
            assert_eq!(bound.to_string(), name);
        }
        assert!(BOUNDS.is_sorted());
    }

    #[test]
    fn a_request_is_counted_by_its_status_and_its_times() {
        let meters = meters();
        for (status, queue, duration) in [(200, 0, 100), (200, 1, 101), (404, 99, 70_000_000), (0, 0, 0), (600, 0, 0)] {
            meters.count(status, queue, duration);
        }
        assert_eq!(meters.statuses().collect::<Vec<_>>(), [(200, 2), (404, 1), (UNSENT, 2)]);
        let times = Times::read(|name| meters.duration.counts().find(|(of, _)| *of == name).unwrap().1);
        assert_eq!((times.buckets[0], times.buckets[1], times.buckets[18]), (3, 1, 1));
        assert_eq!((times.count(), times.sum), (5, 70_000_201));
        meters.clear();
        assert_eq!(meters.statuses().count(), 0);
        assert!(meters.duration.counts().chain(meters.queue.counts()).all(|(_, count)| count == 0));
    }

    #[test]
    fn ranks_lie_within_their_buckets() {
        let mut times = Times::default();
        (times.buckets[3], times.buckets[18]) = (2, 1);
        assert_eq!([0, 1, 2, 3].map(|rank| times.ranked(rank)), [625.0, 875.0, 90_000_000.0, 0.0]);
    }
}
