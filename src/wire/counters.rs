//! Every counter and gauge of a site: its name, what it means, and where it lives.
//!
//! `ostler status` tells them all, and so does the page of `--metrics`: `# HELP name help`, `# TYPE name kind`, and a line for each value of
//! the label.
//!
//! To count something new in the workers, add a field to [`Slot`] or [`Meters`], an entry in the [table](METRICS), and the line in `serve` that counts. To tell something
//! that the master knows, add a [`Fact`] and an entry there.

mod table;

use std::{
    borrow::Cow,
    sync::atomic::{AtomicU64, Ordering::Relaxed},
};

use crate::{
    meters::{Histogram, Meters},
    scoreboard::Slot,
};

pub use table::METRICS;

/// One counter or gauge.
#[derive(Debug)]
pub struct Metric {
    /// By Prometheus' rules: a counter ends in `_total`, and before that comes the unit, if there is one.
    pub name: &'static str,
    /// What it means: a sentence.
    pub help: &'static str,
    /// How it changes.
    pub kind: MetricKind,
    /// What is counted.
    pub unit: Unit,
    /// Where it lives.
    pub place: MetricSource,
}

/// How a number changes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum MetricKind {
    /// It only grows, as long as there is a master; reloads, upgrades and lost workers do not reset it.
    Counter,
    /// It says what is so at the moment.
    Gauge,
    /// How many times were how long: counters, one for each bound, of all times that are not longer.
    Histogram,
}

/// In what a number is told.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Unit {
    /// Things.
    None,
    /// Bytes.
    Bytes,
    /// Seconds. The number that is kept counts microseconds.
    Seconds,
}

/// Where a number lives.
#[derive(Debug, Clone, Copy)]
pub enum MetricSource {
    /// In the slot of each worker. The value is the sum: of a gauge over the living workers, of a counter over those that are gone, too.
    Slot {
        /// The name of the field, and of the worker's own number in `ostler status --json`.
        field: &'static str,
        /// Reads it.
        read: fn(&Slot) -> u64,
    },
    /// Among the meters of each worker: a histogram. The value is the sum over all workers, those that are gone, too.
    Times {
        /// The name under which the totals keep it.
        field: &'static str,
        /// Reads it.
        read: fn(&Meters) -> &Histogram,
    },
    /// Among the meters of each worker. The value is the sum, as that of a slot's.
    Meter {
        /// As that of a slot's.
        field: &'static str,
        /// Reads it.
        read: fn(&Meters) -> &AtomicU64,
    },
    /// Counters that labels tell from each other, among the meters of each worker or counted by the master itself.
    Labelled {
        /// The name under which the totals keep them: `given.busy`.
        field: &'static str,
        /// Their labels.
        labels: Labels,
        /// Reads them: one for each combination of values, those of the last label side by side.
        read: fn(&Meters) -> &[AtomicU64],
        /// The worker's own number in `ostler status --json`, if there is one by the name of the field.
        slot: Option<fn(&Slot) -> u64>,
    },
    /// What the master has read of each worker, and sums up by slot.
    BySlot {
        /// The name under which the totals keep it: `cpu.0`.
        field: &'static str,
    },
    /// In the master.
    Master {
        /// What tells several numbers of this name from each other; empty where there is only one.
        label: &'static str,
        /// Which.
        fact: Fact,
    },
}

/// The names of labels, and the values that each can have. They are bounded: a client can make up none.
pub type Labels = &'static [(&'static str, &'static [&'static str])];

/// What the master knows by itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fact {
    /// The generation that serves.
    Generation,
    /// While there is a canary, of it and of the generation that serves: requests.
    CanaryRequests,
    /// The same of those that were answered with 5xx.
    CanaryErrors,
    /// The same of workers that died by themselves.
    CanaryCrashes,
    /// The same of workers that were replaced because of `--timeout`.
    CanaryTimeouts,
    /// The same of how long half of the calls took at most.
    CanaryMedian,
    /// The same of 99 % of them.
    CanarySlow,
    /// How many workers there are, by what they do.
    Workers,
    /// How many there should be.
    WorkersWanted,
    /// How many the load leaves at least.
    WorkersLeast,
    /// How many the load may bring at most.
    WorkersMost,
    /// How many were replaced, by cause.
    Restarts,
    /// How many requests are in the application.
    InFlight,
    /// How many generations after the first came to serve, or did not.
    Reloads,
    /// When a generation after the first last came to serve, or did not.
    LastReload,
    /// How much memory the workers have: their own, and their part of what is shared.
    Memory,
    /// How much of it is their own.
    PrivateMemory,
    /// The same of the template.
    TemplateMemory,
    /// The longest time for which the master heard nobody, in microseconds.
    LongestTurn,
    /// How many connections wait to be accepted, by address.
    ListenQueue,
    /// How many may.
    ListenQueueLimit,
    /// When certificates end, by name, in microseconds since 1970.
    CertificateExpiry,
}

/// The numbers of one worker: the kind, the field, and the value.
pub fn of_worker<'a>(
    slot: &'a Slot,
    meters: Option<&'a Meters>,
) -> impl Iterator<Item = (MetricKind, &'static str, u64)> + use<'a> {
    METRICS.iter().filter_map(move |metric| match metric.place {
        MetricSource::Slot { field, read } => Some((metric.kind, field, read(slot))),
        MetricSource::Meter { field, read } => meters.map(|meters| (metric.kind, field, read(meters).load(Relaxed))),
        MetricSource::Labelled { field, slot: read, .. } => read.map(|read| (metric.kind, field, read(slot))),
        MetricSource::Times { .. } | MetricSource::BySlot { .. } | MetricSource::Master { .. } => None,
    })
}

/// All that a worker has counted, by the names under which the totals keep it: `waits`, `duration.250`, `requests.2xx.GET`, `status.404`.
pub fn counted<'a>(
    slot: &'a Slot,
    meters: Option<&'a Meters>,
) -> impl Iterator<Item = (Cow<'static, str>, u64)> + use<'a> {
    let own = of_worker(slot, meters).filter(|(kind, ..)| *kind == MetricKind::Counter);
    let own = own.map(|(_, field, count)| (field.into(), count));
    own.chain(meters.into_iter().flat_map(measured))
}

fn measured(meters: &Meters) -> impl Iterator<Item = (Cow<'static, str>, u64)> {
    let parts = METRICS.iter().flat_map(move |metric| match metric.place {
        MetricSource::Times { field, read } => {
            let counts = read(meters).counts().filter(|(_, count)| *count > 0);
            counts.map(|(name, count)| (part(field, &[name]).into(), count)).collect()
        }
        MetricSource::Labelled { field, labels, read, .. } => {
            let counts = read(meters).iter().map(|counter| counter.load(Relaxed)).enumerate();
            let counts = counts.filter(|(_, count)| *count > 0);
            counts.map(|(place, count)| (part(field, &values(labels, place)).into(), count)).collect()
        }
        _ => Vec::new(),
    });
    parts.chain(meters.statuses().map(|(status, count)| (format!("{STATUS}{status}").into(), count)))
}

/// Stands before each status in the names of the totals.
pub const STATUS: &str = "status.";

/// What the totals call one number of several: `requests.2xx.GET`.
pub fn part(field: &str, values: &[&str]) -> String {
    format!("{field}.{}", values.join("."))
}

/// The values of the labels at a place of [`MetricSource::Labelled`].
pub fn values(labels: Labels, place: usize) -> Vec<&'static str> {
    let mut rest = place;
    let value = |(_, all): &(&str, &'static [&'static str])| {
        let value = all[rest % all.len()];
        rest /= all.len();
        value
    };
    let mut values: Vec<_> = labels.iter().rev().map(value).collect();
    values.reverse();
    values
}

/// How many combinations of values there are.
pub fn places(labels: Labels) -> usize {
    labels.iter().map(|(_, all)| all.len()).product()
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;
    use crate::scoreboard::Scoreboard;

    #[test]
    fn every_field_of_a_slot_is_told_once() {
        let slot = Slot::default();
        // A new field has to be named here: either it says what a worker is, or it is a number to be told.
        let Slot {
            pid: _,
            state: _,
            since: _,
            turns: _,
            watched: _,
            reach: _,
            lines_lost: _,
            connections,
            queued,
            requests,
            errors,
            refused,
            waits,
            waited,
            taken,
            given,
            sends,
            sent,
            unbelieved,
        } = &slot;
        let counters: [(&str, &AtomicU64); 10] = [
            ("requests", requests),
            ("errors", errors),
            ("refused", refused),
            ("waits", waits),
            ("waited", waited),
            ("taken", taken),
            ("given", given),
            ("sends", sends),
            ("sent", sent),
            ("unbelieved", unbelieved),
        ];
        connections.store(100, Relaxed);
        queued.store(101, Relaxed);
        let mut expected = BTreeSet::from([("connections", 100), ("queued", 101)]);
        for (number, (name, counter)) in (1..).zip(counters) {
            counter.store(number, Relaxed);
            expected.insert((name, number));
        }
        let told: Vec<_> = of_worker(&slot, None).map(|(_, field, count)| (field, count)).collect();
        assert_eq!(told.len(), expected.len());
        assert_eq!(BTreeSet::from_iter(told), expected);
    }

    #[test]
    fn every_counter_of_the_meters_has_a_name_of_its_own() {
        let board = Scoreboard::new(1, 1).unwrap();
        let (slot, meters) = (board.slot(0), board.meters(0).unwrap());
        let mut names = BTreeSet::new();
        for metric in METRICS {
            if let MetricSource::Labelled { labels, read, .. } = metric.place {
                let counters = read(meters);
                assert!(counters.is_empty() || counters.len() == places(labels), "{}", metric.name);
                counters.iter().for_each(|counter| counter.store(1, Relaxed));
            }
        }
        for (name, _) in counted(slot, Some(meters)) {
            assert!(names.insert(name.clone()), "{name}");
        }
        assert!(names.contains("requests.2xx.GET") && names.contains("requests.none.other"), "{names:?}");
        assert!(
            names.contains("logged.error") && names.contains("given.recycle") && names.contains("taken.busy"),
            "{names:?}"
        );
    }

    #[test]
    fn names_follow_the_rules_of_prometheus() {
        let names: BTreeSet<_> = METRICS.iter().map(|metric| metric.name).collect();
        assert_eq!(names.len(), METRICS.len(), "two have one name");
        for metric in METRICS {
            let name = metric.name;
            let words = name.strip_prefix("ostler_").unwrap_or_else(|| panic!("{name} is not named after ostler"));
            assert!(
                words.bytes().all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'_'),
                "{name}"
            );
            assert_eq!(name.ends_with("_total"), metric.kind == MetricKind::Counter, "{name}");
            let base = name.trim_end_matches("_total");
            assert_eq!(base.ends_with("_bytes"), metric.unit == Unit::Bytes, "{name}");
            assert_eq!(base.ends_with("_seconds"), metric.unit == Unit::Seconds, "{name}");
            let sentence =
                metric.help.starts_with(|first: char| first.is_ascii_uppercase()) && metric.help.ends_with('.');
            assert!(sentence && !metric.help.contains(['\n', '\\']), "{name}: {}", metric.help);
        }
    }

    #[test]
    fn labels_follow_the_rules_of_prometheus() {
        for metric in METRICS {
            let names = match metric.place {
                MetricSource::Master { label, .. } => vec![label],
                MetricSource::Labelled { labels, .. } => labels.iter().map(|(name, _)| *name).collect(),
                _ => Vec::new(),
            };
            for label in names {
                assert!(label.bytes().all(|byte| byte.is_ascii_lowercase()), "{}: {label}", metric.name);
            }
        }
    }
}
