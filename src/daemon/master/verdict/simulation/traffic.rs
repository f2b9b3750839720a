//! Traffic of a site, by the slice: Poisson arrivals in bursts and tides, failures one by one and in clumps, durations with a long tail.

use std::f64::consts::TAU;

use ostler_wire::meters::BOUNDS;

use super::Chance;
use crate::master::verdict::figures::Figures;

/// A site and its application.
#[derive(Debug, Clone, Copy)]
pub struct Site {
    /// Requests a second, on average.
    pub rate: f64,
    /// The share that fails by itself.
    pub errors: f64,
    /// The share that crashes a worker, and the share that passes `--timeout`.
    pub lost: f64,
    /// How many times an hour a part of the site fails for some seconds: a database that restarts.
    pub clumps: f64,
    /// Whether arrivals come in bursts, in which calls take longer.
    pub bursts: bool,
    /// How long calls take: in thousandths, by the buckets of [`BOUNDS`].
    pub durations: [u16; BOUNDS.len() + 1],
}

/// What an unchanged release does not do.
#[derive(Debug, Clone, Copy, Default)]
pub struct Fault {
    /// The share of the requests that fails.
    pub errors: f64,
    /// The share that crashes a worker.
    pub crashes: f64,
    /// The share that takes two buckets longer: about five times as long.
    pub late: f64,
    /// The share that takes two seconds.
    pub stuck: f64,
}

/// Most calls take 5 ms to 50 ms, and some take seconds.
pub const LONG_TAILED: [u16; 19] = [0, 0, 0, 0, 0, 400, 300, 200, 70, 18, 0, 8, 0, 3, 1, 0, 0, 0, 0];
/// Pages in milliseconds, and one of a hundred is a report that takes seconds: p99 lies in the gap between.
pub const BIMODAL: [u16; 19] = [0, 0, 0, 0, 490, 500, 0, 0, 0, 0, 0, 0, 0, 5, 5, 0, 0, 0, 0];

/// The bucket of two seconds.
const STUCK: usize = 13;

/// A site in the course of time.
pub struct Traffic {
    pub site: Site,
    pub chance: Chance,
    /// When each clump begins and ends, in seconds, and the share that fails.
    clumps: Vec<(f64, f64, f64)>,
    /// Where the tide is at the beginning.
    phase: f64,
}

impl Traffic {
    /// Of `seconds`.
    pub fn new(site: Site, seconds: f64, seed: u64) -> Traffic {
        let mut chance = Chance(seed.wrapping_mul(0xD134_2543_DE82_EF95));
        let count = poisson(&mut chance, site.clumps * seconds / 3600.0);
        let clump = |chance: &mut Chance| {
            let begin = chance.unit() * seconds;
            (begin, begin + 0.5 + 3.5 * chance.unit(), 0.3 + 0.7 * chance.unit())
        };
        let clumps = (0..count).map(|_| clump(&mut chance)).collect();
        Traffic { site, clumps, phase: chance.unit() * TAU, chance }
    }

    /// What two sides do in a slice of time: `share` of the arrivals is the second's, which has this age and fault.
    pub fn slice(&mut self, begin: f64, time: f64, share: f64, age: f64, fault: Fault) -> [Figures; 2] {
        // A day in two hours: within one, the load moves by up to a half, and what fails under load with it.
        let tide = 1.0 + 0.5 * (self.phase + begin / 7200.0 * TAU).sin();
        let (mut rate, mut late) = (self.site.rate * tide, 0.0);
        if self.site.bursts && self.chance.unit() < 0.05 {
            rate *= 1.0 + 4.0 * self.chance.unit();
            late = 0.1;
        }
        let arrivals = poisson(&mut self.chance, rate * time);
        let clump = |&(from, to, failing): &(f64, f64, f64)| {
            ((to.min(begin + time) - from.max(begin)) / time).max(0.0) * failing
        };
        let errors = self.site.errors * tide + self.clumps.iter().map(clump).sum::<f64>();
        let second = binomial(&mut self.chance, arrivals, share);
        let cold = 0.5 * (-age / 4.0).exp();
        let first = self.side(arrivals - second, errors, late, Fault::default());
        [first, self.side(second, errors, (late + cold).min(1.0), fault)]
    }

    fn side(&mut self, arrivals: u64, errors: f64, late: f64, fault: Fault) -> Figures {
        let crashes = binomial(&mut self.chance, arrivals, self.site.lost + fault.crashes);
        let timeouts = binomial(&mut self.chance, arrivals - crashes, self.site.lost);
        let requests = arrivals - crashes;
        let errors = binomial(&mut self.chance, requests, (errors + fault.errors).min(1.0));
        let mut durations = [0; 19];
        let late = (late + fault.late).min(1.0);
        durations[STUCK] = binomial(&mut self.chance, requests, fault.stuck);
        let (mut left, mut of) = (requests - durations[STUCK], 1000.0);
        for (bucket, weight) in self.site.durations.into_iter().enumerate().filter(|(_, weight)| *weight > 0) {
            let here = binomial(&mut self.chance, left, (f64::from(weight) / of).min(1.0));
            let behind = binomial(&mut self.chance, here, late);
            durations[bucket] += here - behind;
            durations[(bucket + 2).min(18)] += behind;
            left -= here;
            of -= f64::from(weight);
        }
        Figures { requests, errors, crashes, timeouts, durations }
    }
}

/// Above that many expected, the normal distribution is as good.
const EXACT: f64 = 30.0;

fn poisson(chance: &mut Chance, mean: f64) -> u64 {
    if mean > EXACT {
        return normal(chance, mean, mean).max(0.0) as u64;
    }
    let (mut left, mut term, mut count) = (chance.unit(), (-mean).exp(), 0);
    while left > term && count < 1000 {
        left -= term;
        count += 1;
        term *= mean / count as f64;
    }
    count
}

fn binomial(chance: &mut Chance, trials: u64, share: f64) -> u64 {
    let n = trials as f64;
    if trials == 0 || share <= 0.0 {
        return 0;
    }
    if share > 0.5 {
        return trials - binomial(chance, trials, 1.0 - share);
    }
    let mean = n * share;
    if mean > EXACT {
        return normal(chance, mean, mean * (1.0 - share)).clamp(0.0, n) as u64;
    }
    let (mut left, mut term, mut count) = (chance.unit(), (n * (-share).ln_1p()).exp(), 0);
    while left > term && count < trials {
        left -= term;
        term *= (n - count as f64) / (count + 1) as f64 * share / (1.0 - share);
        count += 1;
    }
    count
}

fn normal(chance: &mut Chance, mean: f64, variance: f64) -> f64 {
    let length = (-2.0 * chance.unit().ln()).sqrt();
    (mean + variance.sqrt() * length * (chance.unit() * TAU).cos()).round()
}
