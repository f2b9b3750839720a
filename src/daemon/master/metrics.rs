//! What each entry of [`METRICS`] is now: `ostler status --json` tells it, and so does the page of `--metrics`.

use std::collections::BTreeMap;

use ostler_wire::{
    counters::{self, Fact, METRICS, Metric, MetricKind, MetricSource, Unit},
    meters::{BOUNDS, Times},
};
use serde_json::Number;

use super::{
    status::{FiguresStatus, GenerationStatus, Queue, Status},
    totals::Totals,
};

/// Numbers by name and label, as Prometheus writes them: `ostler_workers{state="idle"}`.
pub type Series = BTreeMap<String, Number>;

/// What [`super::status::WorkerStatus`] calls what workers do.
const WORKER_STATES: [&str; 7] = ["booting", "ready", "idle", "working", "busy", "draining", "killed"];

/// One number of an entry.
pub struct Sample {
    /// What follows the entry's name: `_bucket` of a histogram.
    pub suffix: &'static str,
    /// The names of its labels and their values.
    pub labels: Vec<(&'static str, String)>,
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
    let one = |number| vec![Sample::new([], in_unit(metric.unit, number))];
    match (metric.place, metric.kind) {
        (MetricSource::Times { field, .. }, _) => of_histogram(&totals.times(field)),
        // Also those of which there were none, so that their rates are known.
        (MetricSource::Labelled { field, labels, .. }, _) => {
            let sample = |place| {
                let values = counters::values(labels, place);
                let number = totals.of(&counters::part(field, &values));
                let names = labels.iter().map(|(name, _)| *name);
                Sample::new(names.zip(values.into_iter().map(String::from)), number.into())
            };
            (0..counters::places(labels)).map(sample).collect()
        }
        (MetricSource::BySlot { field }, _) => {
            let known = totals
                .all()
                .iter()
                .filter_map(|(name, number)| Some((name.strip_prefix(field)?.strip_prefix('.')?.to_owned(), *number)));
            known.map(|(slot, number)| Sample::new([("slot", slot)], in_unit(metric.unit, number))).collect()
        }
        (MetricSource::Slot { field, .. } | MetricSource::Meter { field, .. }, MetricKind::Gauge) => {
            let workers = status.generations.iter().flat_map(|generation| &generation.workers);
            one(workers.map(|worker| worker.count(field)).fold(0, u64::saturating_add))
        }
        (MetricSource::Slot { field, .. } | MetricSource::Meter { field, .. }, _) => one(totals.of(field)),
        (MetricSource::Master { label, fact }, _) => {
            let label = |value| Some((label, value)).filter(|(label, _)| !label.is_empty());
            let known = known(fact, status).into_iter();
            known.map(|(value, number)| Sample::new(label(value), in_unit(metric.unit, number))).collect()
        }
    }
}

/// Each bucket has all that is not longer than its bound.
fn of_histogram(times: &Times) -> Vec<Sample> {
    let bounds = BOUNDS.iter().map(|bound| in_unit(Unit::Seconds, *bound).to_string()).chain(["+Inf".into()]);
    let sums = times.buckets.iter().scan(0u64, |sum, count| {
        *sum = sum.saturating_add(*count);
        Some(*sum)
    });
    let bucket = |(bound, sum): (String, u64)| Sample { suffix: "_bucket", ..Sample::new([("le", bound)], sum.into()) };
    let sum = Sample { suffix: "_sum", ..Sample::new([], in_unit(Unit::Seconds, times.sum)) };
    let count = Sample { suffix: "_count", ..Sample::new([], times.count().into()) };
    bounds.zip(sums).map(bucket).chain([sum, count]).collect()
}

fn known(fact: Fact, status: &Status) -> Vec<(String, u64)> {
    let serving = status.generations.iter().find(|generation| generation.stage == "serving");
    let one = |number: fn(&GenerationStatus) -> u64| vec![(String::new(), serving.map_or(0, number))];
    let queues = |number: fn(&Queue) -> Option<u32>| {
        let queues = status.addresses.iter().zip(&status.queues);
        queues.filter_map(|(address, queue)| Some((address.clone(), number(queue)?.into()))).collect()
    };
    let compared = |number: fn(&FiguresStatus) -> Option<u64>| {
        let figures =
            status.generations.iter().filter_map(|one| Some((one.stage.clone(), number(one.figures.as_ref()?)?)));
        figures.collect()
    };

    match fact {
        Fact::CanaryRequests => compared(|figures| Some(figures.requests)),
        Fact::CanaryErrors => compared(|figures| Some(figures.errors)),
        Fact::CanaryCrashes => compared(|figures| Some(figures.crashes)),
        Fact::CanaryTimeouts => compared(|figures| Some(figures.timeouts)),
        Fact::CanaryMedian => compared(|figures| microseconds(figures.p50)),
        Fact::CanarySlow => compared(|figures| microseconds(figures.p99)),
        Fact::Generation => one(|generation| generation.generation.into()),
        Fact::WorkersWanted => {
            vec![(String::new(), status.site().map(|generation| u64::from(generation.wanted)).sum())]
        }
        // Where nothing follows the load, both are the number itself.
        Fact::WorkersLeast => one(|generation| generation.range.map_or(generation.wanted, |range| range.least).into()),
        Fact::WorkersMost => one(|generation| generation.range.map_or(generation.wanted, |range| range.most).into()),
        Fact::Workers => {
            // Also those in which none is: a sum over states that are left out is no number, and no alert compares it.
            let mut states: BTreeMap<String, u64> = WORKER_STATES.map(|state| (state.to_owned(), 0)).into();
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
        Fact::PrivateMemory => {
            let workers = serving.iter().flat_map(|generation| &generation.workers);
            workers.filter_map(|worker| Some((worker.slot.to_string(), worker.memory?.private))).collect()
        }
        Fact::LastReload => status.last_reloads.iter().map(|(outcome, when)| (outcome.clone(), *when)).collect(),
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
        Fact::CertificateExpiry => {
            let ends = status.certificates.iter().map(|one| (one.name.clone(), one.expires.saturating_mul(1_000_000)));
            ends.collect()
        }
    }
}

impl Sample {
    fn new(labels: impl IntoIterator<Item = (&'static str, String)>, number: Number) -> Sample {
        Sample { suffix: "", labels: labels.into_iter().collect(), number }
    }

    /// As Prometheus writes it.
    pub fn name(&self, metric: &Metric) -> String {
        let (name, suffix) = (metric.name, self.suffix);
        let label = |(key, value): &(&str, String)| {
            let value = value.replace('\\', r"\\").replace('"', r#"\""#).replace('\n', r"\n");
            format!("{key}=\"{value}\"")
        };
        match self.labels.iter().map(label).collect::<Vec<_>>() {
            none if none.is_empty() => format!("{name}{suffix}"),
            labels => format!("{name}{suffix}{{{}}}", labels.join(",")),
        }
    }
}

fn microseconds(seconds: Option<f64>) -> Option<u64> {
    seconds.map(|seconds| (seconds * 1e6) as u64)
}

fn in_unit(unit: Unit, number: u64) -> Number {
    match unit {
        Unit::None | Unit::Bytes => number.into(),
        Unit::Seconds => Number::from_f64(number as f64 / 1e6).expect("a quotient of two finite numbers is finite"),
    }
}
