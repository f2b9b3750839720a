//! Every counter and gauge of a site: its name, what it means, and where it lives.
//!
//! `ostler status` tells them all, and so does the page of `--metrics`: `# HELP name help`, `# TYPE name kind`, and a line for each value of
//! the label.
//!
//! To count something new in the workers, add a field to [`Slot`] or [`Meters`], an entry here, and the line in `serve` that counts. To tell something
//! that the master knows, add a [`Fact`] and an entry here.

use std::{borrow::Cow, sync::atomic::Ordering::Relaxed};

use crate::{
    meters::{Histogram, LOGGED, Meters},
    scoreboard::Slot,
};

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
    /// Requests by class of status, in the meters of each worker. Their sum is the field `requests` of its slot.
    Requests,
    /// The records of the log that the workers and the master have written, by kind.
    Logged,
    /// In the master.
    Master {
        /// What tells several numbers of this name from each other; empty where there is only one.
        label: &'static str,
        /// Which.
        fact: Fact,
    },
}

/// What the master knows by itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fact {
    /// The generation that serves.
    Generation,
    /// How many workers there are, by what they do.
    Workers,
    /// How many there should be.
    WorkersWanted,
    /// How many were replaced, by cause.
    Restarts,
    /// How many requests are in the application.
    InFlight,
    /// How many generations after the first came to serve, or did not.
    Reloads,
    /// How much memory the workers have: their own, and their part of what is shared.
    Memory,
    /// The same of the template.
    TemplateMemory,
    /// The longest time for which the master heard nobody, in microseconds.
    LongestTurn,
    /// How many connections wait to be accepted, by address.
    ListenQueue,
    /// How many may.
    ListenQueueLimit,
}

/// All of them. No name is ever given a new meaning.
pub static METRICS: &[Metric] = &[
    counter(
        "ostler_requests_total",
        Unit::None,
        MetricSource::Requests,
        "Requests for which the application was called, by class of status; none where nothing was sent.",
    ),
    counter(
        "ostler_request_errors_total",
        Unit::None,
        slot("errors", |slot| slot.errors.load(Relaxed)),
        "Requests that were answered with 5xx.",
    ),
    counter(
        "ostler_requests_refused_total",
        Unit::None,
        slot("refused", |slot| slot.refused.load(Relaxed)),
        "Requests that the server refused for what was wrong with their bytes.",
    ),
    counter(
        "ostler_forwarded_ignored_total",
        Unit::None,
        slot("unbelieved", |slot| slot.unbelieved.load(Relaxed)),
        "Requests whose forwarding fields were ignored, because their peer is not trusted.",
    ),
    counter(
        "ostler_request_waits_total",
        Unit::None,
        slot("waits", |slot| slot.waits.load(Relaxed)),
        "Requests that waited for a Python thread.",
    ),
    counter(
        "ostler_request_wait_seconds_total",
        Unit::Seconds,
        slot("waited", |slot| slot.waited.load(Relaxed)),
        "How long requests waited for a Python thread, taken together.",
    ),
    Metric {
        name: "ostler_request_queue_seconds",
        help: "How long requests waited for their calls, from their arrival on.",
        kind: MetricKind::Histogram,
        unit: Unit::Seconds,
        place: MetricSource::Times { field: "queue", read: |meters| &meters.queue },
    },
    Metric {
        name: "ostler_request_duration_seconds",
        help: "How long requests were in the application.",
        kind: MetricKind::Histogram,
        unit: Unit::Seconds,
        place: MetricSource::Times { field: "duration", read: |meters| &meters.duration },
    },
    gauge(
        "ostler_requests_queued",
        Unit::None,
        slot("queued", |slot| slot.queued.load(Relaxed).into()),
        "Requests that wait for a Python thread now.",
    ),
    counter(
        "ostler_response_body_bytes_total",
        Unit::Bytes,
        slot("sent", |slot| slot.sent.load(Relaxed)),
        "Bytes of the bodies of responses.",
    ),
    gauge(
        "ostler_connections",
        Unit::None,
        slot("connections", |slot| slot.connections.load(Relaxed).into()),
        "Connections that are open.",
    ),
    counter(
        "ostler_connections_given_total",
        Unit::None,
        slot("given", |slot| slot.given.load(Relaxed)),
        "Connections that a worker gave away to others.",
    ),
    counter(
        "ostler_connections_taken_total",
        Unit::None,
        slot("taken", |slot| slot.taken.load(Relaxed)),
        "Connections that a worker took over from others.",
    ),
    counter(
        "ostler_exchange_sends_total",
        Unit::None,
        slot("sends", |slot| slot.sends.load(Relaxed)),
        "How often a worker tried to give connections away.",
    ),
    counter(
        "ostler_log_records_total",
        Unit::None,
        MetricSource::Logged,
        "Records of the error log by the workers and the master, by kind.",
    ),
    gauge(
        "ostler_generation",
        Unit::None,
        master("", Fact::Generation),
        "The number of the generation that serves; 0 before the first.",
    ),
    gauge("ostler_workers", Unit::None, master("state", Fact::Workers), "Workers of all generations, by what they do."),
    gauge(
        "ostler_workers_wanted",
        Unit::None,
        master("", Fact::WorkersWanted),
        "How many workers the generation that serves should have.",
    ),
    counter(
        "ostler_worker_restarts_total",
        Unit::None,
        master("cause", Fact::Restarts),
        "Workers that were replaced, by cause.",
    ),
    gauge(
        "ostler_requests_in_flight",
        Unit::None,
        master("", Fact::InFlight),
        "Requests that are in the application now.",
    ),
    counter(
        "ostler_reloads_total",
        Unit::None,
        master("outcome", Fact::Reloads),
        "Generations after the first that came to serve or were discarded: reloads, roll-backs, upgrades and recoveries.",
    ),
    gauge(
        "ostler_worker_memory_bytes",
        Unit::Bytes,
        master("slot", Fact::Memory),
        "Memory of the workers that serve, by slot: their own, and their part of what is shared; some seconds old.",
    ),
    gauge(
        "ostler_template_memory_bytes",
        Unit::Bytes,
        master("", Fact::TemplateMemory),
        "The same of the template of the generation that serves.",
    ),
    gauge(
        "ostler_master_longest_turn_seconds",
        Unit::Seconds,
        master("", Fact::LongestTurn),
        "The longest time for which the master heard nobody.",
    ),
    gauge(
        "ostler_listen_queue",
        Unit::None,
        master("address", Fact::ListenQueue),
        "Connections that wait to be accepted, by address.",
    ),
    gauge(
        "ostler_listen_queue_limit",
        Unit::None,
        master("address", Fact::ListenQueueLimit),
        "How many connections may wait to be accepted, by address.",
    ),
];

const fn counter(name: &'static str, unit: Unit, place: MetricSource, help: &'static str) -> Metric {
    Metric { name, help, kind: MetricKind::Counter, unit, place }
}

const fn gauge(name: &'static str, unit: Unit, place: MetricSource, help: &'static str) -> Metric {
    Metric { name, help, kind: MetricKind::Gauge, unit, place }
}

const fn slot(field: &'static str, read: fn(&Slot) -> u64) -> MetricSource {
    MetricSource::Slot { field, read }
}

const fn master(label: &'static str, fact: Fact) -> MetricSource {
    MetricSource::Master { label, fact }
}

const REQUESTS: fn(&Slot) -> u64 = |slot| slot.requests.load(Relaxed);

/// What lives in slots: the kind, the field, and how to read it.
pub fn in_slots() -> impl Iterator<Item = (MetricKind, &'static str, fn(&Slot) -> u64)> {
    METRICS.iter().filter_map(|metric| match metric.place {
        MetricSource::Slot { field, read } => Some((metric.kind, field, read)),
        MetricSource::Requests => Some((metric.kind, "requests", REQUESTS)),
        MetricSource::Times { .. } | MetricSource::Logged | MetricSource::Master { .. } => None,
    })
}

/// All that a worker has counted, by the names under which the totals keep it: `requests`, `duration.250`, `status.404`, `logged.error`.
pub fn counted<'a>(
    slot: &'a Slot,
    meters: Option<&'a Meters>,
) -> impl Iterator<Item = (Cow<'static, str>, u64)> + use<'a> {
    let of_slot = in_slots().filter(|(kind, ..)| *kind == MetricKind::Counter);
    let of_slot = of_slot.map(|(_, field, read)| (field.into(), read(slot)));
    of_slot.chain(meters.into_iter().flat_map(measured))
}

fn measured(meters: &Meters) -> impl Iterator<Item = (Cow<'static, str>, u64)> {
    let times = METRICS.iter().filter_map(|metric| match metric.place {
        MetricSource::Times { field, read } => Some((field, read)),
        MetricSource::Slot { .. } | MetricSource::Requests | MetricSource::Logged | MetricSource::Master { .. } => None,
    });
    let times = times.flat_map(|(field, read)| read(meters).counts().map(move |(name, count)| (field, name, count)));
    let times = times.filter(|(.., count)| *count > 0);
    let logged = LOGGED.iter().zip(&meters.logged).map(|(kind, counter)| (logged(kind), counter.load(Relaxed)));
    let statuses = meters.statuses().map(|(status, count)| (format!("{STATUS}{status}").into(), count));
    times.map(|(field, name, count)| (bucket(field, name).into(), count)).chain(logged).chain(statuses)
}

/// Stands before each status in the names of the totals.
pub const STATUS: &str = "status.";

/// What the totals call the records of a kind.
pub fn logged(kind: &str) -> Cow<'static, str> {
    format!("logged.{kind}").into()
}

/// What the totals call a number of a histogram.
pub fn bucket(field: &str, name: &str) -> String {
    format!("{field}.{name}")
}

#[cfg(test)]
mod tests {
    use std::{collections::BTreeSet, sync::atomic::AtomicU64};

    use super::*;

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
        let told: Vec<_> = in_slots().map(|(_, field, read)| (field, read(&slot))).collect();
        assert_eq!(told.len(), expected.len());
        assert_eq!(BTreeSet::from_iter(told), expected);
    }

    #[test]
    fn names_follow_the_rules_of_prometheus() {
        let names: BTreeSet<_> = METRICS.iter().map(|metric| metric.name).collect();
        assert_eq!(names.len(), METRICS.len(), "two have one name");
        for metric in METRICS {
            let name = metric.name;
            let words = name.strip_prefix("ostler_").unwrap_or_else(|| panic!("{name} is not named after ostler"));
            assert!(words.bytes().all(|byte| byte.is_ascii_lowercase() || byte == b'_'), "{name}");
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
            if let MetricSource::Master { label, .. } = metric.place {
                assert!(label.bytes().all(|byte| byte.is_ascii_lowercase()), "{}: {label}", metric.name);
            }
        }
    }
}
