//! What each entry of [`METRICS`] is now: `ostler status --json` tells it, and so does the page of `--metrics`.

use std::collections::BTreeMap;

use ostler_wire::{
    counters::{self, Fact, METRICS, Metric, MetricKind, MetricSource, STATUS, Unit},
    meters::{BOUNDS, LOGGED, Times},
};
use serde_json::Number;

use super::{
    status::{GenerationStatus, Queue, Status},
    totals::Totals,
};

/// Numbers by name and label, as Prometheus writes them: `ostler_workers{state="idle"}`.
pub type Series = BTreeMap<String, Number>;

/// One number of an entry.
pub struct Sample {
    /// What follows the entry's name: `_bucket` of a histogram.
    pub suffix: &'static str,
    /// The name of its label and the value, if it has one.
    pub label: Option<(&'static str, String)>,
    pub number: Number,
}

/// All of them.
pub fn series(status: &Status, totals: &Totals) -> Series {
    let series = |metric: &'static Metric| {
        samples(metric, status, totals).into_iter().map(|sample| (sample.name(metric), sample.number))
    };
    METRICS.iter().flat_map(series).collect()
}

/// The numbers of one entry.
pub fn samples(metric: &Metric, status: &Status, totals: &Totals) -> Vec<Sample> {
    let one = |number| vec![Sample::new(None, in_unit(metric.unit, number))];
    match (metric.place, metric.kind) {
        (MetricSource::Times { field, .. }, _) => of_histogram(&totals.times(field)),
        (MetricSource::Requests, _) => by_class(totals),
        (MetricSource::Logged, _) => {
            let sample = |kind: &&str| {
                let label = ("kind", (*kind).to_owned());
                Sample::new(Some(label), totals.of(&counters::logged(kind)).into())
            };
            LOGGED.iter().map(sample).collect()
        }
        (MetricSource::Slot { field, .. }, MetricKind::Gauge) => {
            let workers = status.generations.iter().flat_map(|generation| &generation.workers);
            one(workers.map(|worker| worker.count(field)).fold(0, u64::saturating_add))
        }
        (MetricSource::Slot { field, .. }, _) => one(totals.of(field)),
        (MetricSource::Master { label, fact }, _) => {
            let label = |value| Some((label, value)).filter(|(label, _)| !label.is_empty());
            let known = known(fact, status).into_iter();
            known.map(|(value, number)| Sample::new(label(value), in_unit(metric.unit, number))).collect()
        }
    }
}

/// Also those of which there were none, so that their rates are known.
fn by_class(totals: &Totals) -> Vec<Sample> {
    let mut classes = [("1xx", 0), ("2xx", 0), ("3xx", 0), ("4xx", 0), ("5xx", 0), ("none", 0u64)];
    for (field, count) in totals.all() {
        let status: Option<usize> = field.strip_prefix(STATUS).and_then(|status| status.parse().ok());
        if let Some(class) = status.and_then(|status| classes.get_mut((status / 100).checked_sub(1)?)) {
            class.1 = class.1.saturating_add(*count);
        }
    }
    classes.map(|(class, count)| Sample::new(Some(("code", class.to_owned())), count.into())).into()
}

/// Each bucket has all that is not longer than its bound.
fn of_histogram(times: &Times) -> Vec<Sample> {
    let bounds = BOUNDS.iter().map(|bound| in_unit(Unit::Seconds, *bound).to_string()).chain(["+Inf".into()]);
    let sums = times.buckets.iter().scan(0u64, |sum, count| {
        *sum = sum.saturating_add(*count);
        Some(*sum)
    });
    let bucket =
        |(bound, sum): (String, u64)| Sample { suffix: "_bucket", ..Sample::new(Some(("le", bound)), sum.into()) };
    let sum = Sample { suffix: "_sum", ..Sample::new(None, in_unit(Unit::Seconds, times.sum)) };
    let count = Sample { suffix: "_count", ..Sample::new(None, times.count().into()) };
    bounds.zip(sums).map(bucket).chain([sum, count]).collect()
}

fn known(fact: Fact, status: &Status) -> Vec<(String, u64)> {
    let serving = status.generations.iter().find(|generation| generation.stage == "serving");
    let one = |number: fn(&GenerationStatus) -> u64| vec![(String::new(), serving.map_or(0, number))];
    let queues = |number: fn(&Queue) -> Option<u32>| {
        let queues = status.addresses.iter().zip(&status.queues);
        queues.filter_map(|(address, queue)| Some((address.clone(), number(queue)?.into()))).collect()
    };
    match fact {
        Fact::Generation => one(|generation| generation.generation.into()),
        Fact::WorkersWanted => one(|generation| generation.wanted.into()),
        Fact::Workers => {
            let mut states = BTreeMap::<String, u64>::new();
            for worker in status.generations.iter().flat_map(|generation| &generation.workers) {
                *states.entry(worker.state.clone()).or_default() += 1;
            }
            states.into_iter().collect()
        }
        Fact::Restarts => status.restarts.iter().map(|(cause, count)| (cause.clone(), *count)).collect(),
        Fact::InFlight => {
            let workers = status.generations.iter().flat_map(|generation| &generation.workers);
            vec![(String::new(), workers.map(|worker| worker.doing.len() as u64).sum())]
        }
        Fact::Memory => {
            let workers = serving.iter().flat_map(|generation| &generation.workers);
            workers.filter_map(|worker| Some((worker.slot.to_string(), worker.memory?.proportional))).collect()
        }
        Fact::TemplateMemory => {
            let memory = serving.and_then(|generation| generation.memory);
            memory.map(|memory| (String::new(), memory.proportional)).into_iter().collect()
        }
        Fact::Reloads => ["success", "failure"]
            .map(|outcome| (outcome.to_owned(), status.reloads.get(outcome).copied().unwrap_or(0)))
            .into(),
        Fact::LongestTurn => vec![(String::new(), (status.longest_turn.took * 1e6) as u64)],
        Fact::ListenQueue => queues(|queue| queue.waiting),
        Fact::ListenQueueLimit => queues(|queue| queue.room),
    }
}

impl Sample {
    fn new(label: Option<(&'static str, String)>, number: Number) -> Sample {
        Sample { suffix: "", label, number }
    }

    /// As Prometheus writes it.
    pub fn name(&self, metric: &Metric) -> String {
        let (name, suffix) = (metric.name, self.suffix);
        match &self.label {
            Some((key, value)) => {
                let value = value.replace('\\', r"\\").replace('"', r#"\""#).replace('\n', r"\n");
                format!("{name}{suffix}{{{key}=\"{value}\"}}")
            }
            None => format!("{name}{suffix}"),
        }
    }
}

fn in_unit(unit: Unit, number: u64) -> Number {
    match unit {
        Unit::None | Unit::Bytes => number.into(),
        Unit::Seconds => Number::from_f64(number as f64 / 1e6).expect("a quotient of two finite numbers is finite"),
    }
}
