//! What has been counted between two looks at a site, by the second.

use std::time::Duration;

use ostler_wire::meters::{BOUNDS, Times};

use super::Look;
use crate::master::status::{GenerationStatus, Status, WorkerStatus};

/// What happened from one look to the next; or from the start of the site, if there is one look.
pub struct Rates<'a> {
    before: Option<&'a Status>,
    now: &'a Status,
    took: Duration,
}

impl<'a> Rates<'a> {
    /// A master that was started anew counts from 0.
    pub fn between(before: Option<&'a Look>, now: &'a Look) -> Rates<'a> {
        let before = before.filter(|before| before.status.pid == now.status.pid && before.at < now.at);
        let took = before.map_or(Duration::ZERO, |before| now.at - before.at);
        Rates { before: before.map(|look| &look.status), now: &now.status, took }
    }

    /// Whether there are two looks.
    pub fn are_known(&self) -> bool {
        self.before.is_some()
    }

    /// Of counters whose names begin so; none after one look.
    pub fn of(&self, prefix: &str) -> Option<f64> {
        let before = self.before?;
        Some(sum(self.now, prefix).saturating_sub(sum(before, prefix)) as f64 / self.took.as_secs_f64())
    }

    /// The requests of one worker.
    pub fn of_worker(&self, generation: u32, worker: &WorkerStatus) -> Option<f64> {
        let same = |one: &&WorkerStatus| one.slot == worker.slot && one.pid == worker.pid;
        let generations = || self.before.into_iter().flat_map(|status| &status.generations);
        let mut workers = generations().filter(|one| one.generation == generation).flat_map(|one| &one.workers);
        let before = workers.find(same)?.count("requests");
        Some(worker.count("requests").saturating_sub(before) as f64 / self.took.as_secs_f64())
    }

    /// The median and the 99th percentile of a histogram, in seconds; none if there was no request.
    pub fn times(&self, histogram: &str) -> Option<(f64, f64)> {
        let mut times = times(self.now, histogram);
        if let Some(before) = self.before {
            let before = self::times(before, histogram);
            for (count, before) in times.buckets.iter_mut().zip(before.buckets) {
                *count = count.saturating_sub(before);
            }
        }
        Some((times.percentile(0.5)? / 1e6, times.percentile(0.99)? / 1e6))
    }
}

/// The sum of the numbers whose names begin so.
pub fn sum(status: &Status, prefix: &str) -> u64 {
    let named = status.metrics.range(prefix.to_owned()..).take_while(|(name, _)| name.starts_with(prefix));
    named.filter_map(|(_, number)| number.as_u64()).fold(0, u64::saturating_add)
}

/// A histogram from its lines for Prometheus, each of which has those before it, too.
fn times(status: &Status, histogram: &str) -> Times {
    let prefix = format!("{histogram}_bucket{{le=\"");
    let place = |bound: &str| match bound {
        "+Inf" => Some(BOUNDS.len()),
        bound => {
            let bound = (bound.parse::<f64>().ok()? * 1e6).round() as u64;
            BOUNDS.iter().position(|known| *known == bound)
        }
    };
    let mut times = Times::default();
    for (name, number) in &status.metrics {
        let bound = name.strip_prefix(&prefix).and_then(|rest| rest.strip_suffix("\"}"));
        if let Some(place) = bound.and_then(place) {
            times.buckets[place] = number.as_u64().unwrap_or(0);
        }
    }
    for place in (1..times.buckets.len()).rev() {
        times.buckets[place] = times.buckets[place].saturating_sub(times.buckets[place - 1]);
    }
    times
}

/// The workers of all generations.
pub fn workers(status: &Status) -> impl Iterator<Item = (&GenerationStatus, &WorkerStatus)> {
    status.generations.iter().flat_map(|generation| generation.workers.iter().map(move |worker| (generation, worker)))
}
