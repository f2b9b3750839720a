//! What each entry of [`METRICS`] is now: `ostler status --json` tells it, and a page of Prometheus will.

use std::collections::BTreeMap;

use ostler_wire::counters::{Fact, METRICS, Metric, MetricKind, MetricSource, Unit};
use serde_json::Number;

use super::{
    status::{GenerationStatus, Queue, Status},
    totals::Totals,
};

/// Numbers by name and label, as Prometheus writes them: `ostler_workers{state="idle"}`.
pub type Series = BTreeMap<String, Number>;

/// All of them.
pub fn series(status: &Status, totals: &Totals) -> Series {
    let series = |metric: &'static Metric| {
        let numbers = numbers(metric, status, totals).into_iter();
        numbers.map(|(label, number)| (name(metric, &label), in_unit(metric.unit, number)))
    };
    METRICS.iter().flat_map(series).collect()
}

/// The numbers of one entry, by the value of its label.
fn numbers(metric: &Metric, status: &Status, totals: &Totals) -> Vec<(String, u64)> {
    match (metric.place, metric.kind) {
        (MetricSource::Slot { field, .. }, MetricKind::Counter) => vec![(String::new(), totals.of(field))],
        (MetricSource::Slot { field, .. }, MetricKind::Gauge) => {
            let workers = status.generations.iter().flat_map(|generation| &generation.workers);
            let sum = workers.map(|worker| worker.count(field)).fold(0, u64::saturating_add);
            vec![(String::new(), sum)]
        }
        (MetricSource::Master { fact, .. }, _) => known(fact, status),
    }
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
        Fact::ListenQueue => queues(|queue| queue.waiting),
        Fact::ListenQueueLimit => queues(|queue| queue.room),
    }
}

fn name(metric: &Metric, label: &str) -> String {
    match metric.place {
        MetricSource::Master { label: key, .. } if !key.is_empty() => {
            let value = label.replace('\\', r"\\").replace('"', r#"\""#).replace('\n', r"\n");
            format!("{}{{{key}=\"{value}\"}}", metric.name)
        }
        _ => metric.name.into(),
    }
}

fn in_unit(unit: Unit, number: u64) -> Number {
    match unit {
        Unit::None | Unit::Bytes => number.into(),
        Unit::Seconds => Number::from_f64(number as f64 / 1e6).expect("a quotient of two finite numbers is finite"),
    }
}
