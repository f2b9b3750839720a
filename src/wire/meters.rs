//! What a worker counts in more numbers than its slot has room for: how long requests take, how they are answered, and how often it
//! logs something bad. It stands behind the slots, in memory that outlives the worker.

use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

use serde::{Deserialize, Serialize};

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
/// The methods by which requests are counted: a client can make up any number of others.
pub const METHODS: [&str; 8] = ["GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS", "other"];
/// The classes of status by which requests are counted; `none` where nothing was sent.
pub const CLASSES: [&str; 6] = ["1xx", "2xx", "3xx", "4xx", "5xx", "none"];
/// The statuses with which the server itself answers.
pub const OWN: [&str; 13] =
    ["400", "403", "404", "408", "413", "414", "417", "431", "500", "501", "503", "505", "other"];
/// The names of each [`MoveReason`], in the same order.
pub const REASONS: [&str; 4] = ["busy", "reload", "recycle", "scale"];
/// The logs whose lines may be lost.
pub const LOGS: [&str; 2] = ["error", "access"];

/// Why a connection moves to another worker.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum MoveReason {
    /// Its request would have waited.
    Busy,
    /// Another generation serves.
    #[default]
    Reload,
    /// Its worker is replaced.
    Recycle,
    /// There are to be fewer workers.
    Scale,
}

impl MoveReason {
    /// The one of this number, as another worker has sent it. A later release may know more.
    pub fn of(number: u8) -> MoveReason {
        use MoveReason::{Busy, Recycle, Reload, Scale};
        [Busy, Reload, Recycle, Scale].get(usize::from(number)).copied().unwrap_or_default()
    }
}

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
    /// Requests for which the application was called, by status.
    statuses: [AtomicU64; STATUSES as usize],
    /// Requests that are over, by [`CLASSES`], and within a class by [`METHODS`].
    pub requests: [AtomicU64; CLASSES.len() * METHODS.len()],
    /// Of these, answered by the server itself: by [`OWN`].
    pub own: [AtomicU64; OWN.len()],
    /// Connections that were given to other workers, by [`MoveReason`].
    pub given: [AtomicU64; REASONS.len()],
    /// Those that were taken from others, by the same.
    pub taken: [AtomicU64; REASONS.len()],
    /// Lines that could not be written, by [`LOGS`].
    pub lines_lost: [AtomicU64; LOGS.len()],
    /// Connections that were accepted.
    pub accepted: AtomicU64,
    /// Bytes that were read from clients.
    pub received: AtomicU64,
    /// Bytes of responses that the kernel has taken.
    pub sent: AtomicU64,
    /// Connections that wait for a request.
    pub idle: AtomicU64,
    /// Bytes in spool files.
    pub spooled: AtomicU64,
    /// Answers that the application has begun, and not finished.
    pub broken: AtomicU64,
    /// Requests that were answered with static files.
    pub files: AtomicU64,
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
    pub fn count(&self, status: u16, method: &[u8], queue: u64, duration: u64) {
        self.queue.count(queue);
        self.duration.count(duration);
        grow(&self.statuses[self.count_class(status, method)], 1);
    }

    /// Counts a request that the server itself has answered.
    pub fn count_own(&self, status: u16, method: &[u8]) {
        self.count_class(status, method);
        let place = OWN.iter().position(|own| own.parse() == Ok(status)).unwrap_or(OWN.len() - 1);
        grow(&self.own[place], 1);
    }

    /// Counts a request that was answered with a static file.
    pub fn count_file(&self, status: u16, method: &[u8]) {
        self.count_class(status, method);
        grow(&self.files, 1);
    }

    /// The place of the status among all of them.
    fn count_class(&self, status: u16, method: &[u8]) -> usize {
        let place = usize::from(if (100..UNSENT).contains(&status) { status } else { UNSENT } - 100);
        grow(&self.requests[place / 100 * METHODS.len() + place_of(method)], 1);
        place
    }

    /// The statuses with which requests were answered, and how many were.
    pub fn statuses(&self) -> impl Iterator<Item = (u16, u64)> {
        let counts = (100..).zip(&self.statuses).map(|(status, counter)| (status, counter.load(Relaxed)));
        counts.filter(|(_, count)| *count > 0)
    }

    /// Makes them look as if they had never been used. What is zero is not written, so that it costs no memory.
    pub fn clear(&self) {
        let Meters {
            duration,
            queue,
            logged,
            statuses,
            requests,
            own,
            given,
            taken,
            lines_lost,
            accepted,
            received,
            sent,
            idle,
            spooled,
            broken,
            files,
        } = self;
        let histograms = [duration, queue].into_iter().flat_map(Histogram::counters);
        let labelled = [&logged[..], statuses, requests, own, given, taken, lines_lost].into_iter().flatten();
        for counter in histograms.chain(labelled).chain([accepted, received, sent, idle, spooled, broken, files]) {
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

/// The place of a method in [`METHODS`]. Methods are case-sensitive (RFC 9110 §9.1).
fn place_of(method: &[u8]) -> usize {
    match method {
        b"GET" => 0,
        b"HEAD" => 1,
        b"POST" => 2,
        b"PUT" => 3,
        b"PATCH" => 4,
        b"DELETE" => 5,
        b"OPTIONS" => 6,
        _ => METHODS.len() - 1,
    }
}

/// Only one thread writes: no locked instruction is needed.
pub fn grow(counter: &AtomicU64, by: u64) {
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

    /// The time, in microseconds, that this share of the requests did not pass; none if there was no request.
    pub fn percentile(&self, share: f64) -> Option<f64> {
        let last = self.count().checked_sub(1)?;
        Some(self.ranked((last as f64 * share).round() as u64))
    }

    /// The time that the request of this rank took, in microseconds, the shortest first. Within a bucket they are taken for evenly spread.
    pub fn ranked(&self, rank: u64) -> f64 {
        let mut before = 0u64;
        for (bucket, &count) in self.buckets.iter().enumerate() {
            if count > 0 && rank < before.saturating_add(count) {
                let least = if bucket == 0 { 0 } else { BOUNDS[bucket - 1] } as f64;
                let most = BOUNDS.get(bucket).map_or(2.0 * least, |bound| *bound as f64);
                return least + (most - least) * ((rank - before) as f64 + 0.5) / count as f64;
            }
            before = before.saturating_add(count);
        }
        0.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    use crate::scoreboard::Scoreboard;

    #[test]
    fn each_bucket_has_its_bound_in_its_name() {
        for (bound, name) in BOUNDS.iter().zip(NAMES) {
            assert_eq!(bound.to_string(), name);
        }
        assert!(BOUNDS.is_sorted());
    }

    #[test]
    fn a_request_is_counted_by_its_status_and_its_times() {
        let board = Scoreboard::new(1, 1).unwrap();
        let meters = board.meters(0).unwrap();
        for (status, queue, duration) in [(200, 0, 100), (200, 1, 101), (404, 99, 70_000_000), (0, 0, 0), (600, 0, 0)] {
            meters.count(status, b"GET", queue, duration);
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
    fn a_request_is_counted_by_its_class_and_its_method() {
        let board = Scoreboard::new(1, 1).unwrap();
        let meters = board.meters(0).unwrap();
        for method in METHODS {
            meters.count(599, method.as_bytes(), 0, 0);
        }
        meters.count(100, b"get", 0, 0);
        meters.count(0, b"GET", 0, 0);
        meters.count_own(503, b"POST");
        meters.count_own(418, b"");
        let requests = meters.requests.each_ref().map(|counter| counter.load(Relaxed));
        let of = |class: usize| &requests[class * METHODS.len()..][..METHODS.len()];
        assert_eq!([of(0), of(3), of(4), of(5)].map(|class| class[7]), [1, 1, 1, 0]);
        assert_eq!((of(4), of(5)[0]), (&[1, 1, 2, 1, 1, 1, 1, 1][..], 1));
        assert_eq!(meters.own.each_ref().map(|counter| counter.load(Relaxed))[10..], [1, 0, 1]);
        assert_eq!(meters.statuses().map(|(_, count)| count).sum::<u64>(), 10);
    }

    #[test]
    fn ranks_lie_within_their_buckets() {
        let mut times = Times::default();
        (times.buckets[3], times.buckets[18]) = (2, 1);
        assert_eq!([0, 1, 2, 3].map(|rank| times.ranked(rank)), [625.0, 875.0, 90_000_000.0, 0.0]);
    }

    #[test]
    fn ranks_of_nonsense_are_times() {
        let times = Times { buckets: [u64::MAX - 1; BOUNDS.len() + 1], sum: 0 };
        for rank in [0, 1, u64::MAX - 1, u64::MAX] {
            assert!((0.0..=120_000_000.0).contains(&times.ranked(rank)), "{rank}");
        }
    }
}
