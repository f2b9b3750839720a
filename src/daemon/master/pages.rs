//! What is told at the address of `--metrics`. What takes a while is gathered ten times a second at most, however many ask.

use std::time::Duration;

use ostler_wire::counters::{METRICS, Metric, MetricKind};
use slog::{error, warn};

use super::{Master, metrics, status::Status, totals::Totals};
use crate::{
    exit::words,
    resources::page::{Answer, PLAIN, Page, Subject, Visitor},
    settings::PageAddress,
    sys::clock::Moment,
};

mod history;
mod markup;
mod people;

pub use history::History;

/// How long what was gathered is told again.
const FRESH: Duration = Duration::from_millis(100);

const HTML: &str = "text/html; charset=utf-8";
const PROMETHEUS: &str = "text/plain; version=0.0.4; charset=utf-8";
const OPEN_METRICS: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";

/// What was gathered.
#[derive(Debug)]
pub struct Pages {
    until: Moment,
    status: String,
    prometheus: String,
    open_metrics: String,
    people: String,
}

impl Pages {
    fn new(status: &Status, totals: &Totals, history: &History, now: Moment) -> Pages {
        Pages {
            until: now + FRESH,
            status: serde_json::to_string_pretty(status).unwrap_or_default() + "\n",
            prometheus: text(status, totals, false),
            open_metrics: text(status, totals, true),
            people: people::page(status, history, &totals.times("duration")),
        }
    }
}

impl Master<'_> {
    /// Goes on with a connection.
    pub(super) fn hear_visitor(&mut self, visitor: Visitor) {
        let question = self.performer.page.as_mut().and_then(|page| page.hear(visitor));
        let Some(question) = question else { return };
        let answer = self.tell_about(question.of);
        if let Some(page) = &mut self.performer.page {
            page.answer(visitor, Some(question), &answer);
        }
    }

    fn tell_about(&mut self, subject: Subject) -> Answer {
        let ok = |kind, body| Answer { status: "200 OK", kind, fields: "", body };
        match subject {
            Subject::People => Answer { fields: people::FIELDS, ..ok(HTML, self.pages().people.clone()) },
            Subject::Health { ready } => self.health(ready),
            Subject::Status => ok("application/json", self.pages().status.clone()),
            Subject::Metrics { open: false } => ok(PROMETHEUS, self.pages().prometheus.clone()),
            Subject::Metrics { open: true } => ok(OPEN_METRICS, self.pages().open_metrics.clone()),
        }
    }

    /// Needs no more than the master's own state.
    fn health(&self, ready: bool) -> Answer {
        let (is_well, yes, no) = match ready {
            true => (self.state.wants_clients(), "ready\n", "not ready"),
            false => (self.state.takes_clients(), "serving\n", "not serving"),
        };
        if is_well {
            return Answer { status: "200 OK", kind: PLAIN, fields: "", body: yes.into() };
        }
        let why = self.state.serves_nothing().map(|why| format!(": {why}")).unwrap_or_default();
        Answer { status: "503 Service Unavailable", kind: PLAIN, fields: "", body: format!("{no}{why}\n") }
    }

    fn pages(&mut self) -> &Pages {
        let now = Moment::now();
        let fresh = self.performer.pages.take().filter(|pages| now < pages.until);
        let pages = fresh.unwrap_or_else(|| {
            self.performer.turns.doing("metrics");
            // What is read now is told the next time.
            if let Err(error) = self.performer.sampling.refresh(self.state.pids(), now) {
                warn!(self.performer.log, "memory not read"; "reason" => words(&error));
            }
            self.performer.count(&self.state);
            self.performer.sample(&self.state, now, false);
            let status = Status::gather(&self.state, &self.performer);
            Pages::new(&status, &self.performer.totals, &self.performer.history, now)
        });
        self.performer.pages.insert(pages)
    }
}

impl super::perform::Performer<'_> {
    /// Makes the address of these settings the master's own.
    pub fn use_page(&mut self, wanted: Option<PageAddress>) {
        if self.page.as_ref().map(|page| &page.address) == wanted.as_ref() {
            return;
        }
        (self.page, self.history) = (None, History::default());
        match wanted.as_ref().map(Page::bind).transpose() {
            Ok(page) => self.page = page,
            Err(why) => error!(self.log, "metrics not served"; "reason" => %why),
        }
    }
}

/// The page of Prometheus: <https://prometheus.io/docs/instrumenting/exposition_formats/>; that of OpenMetrics is nearly the same.
fn text(status: &Status, totals: &Totals, open: bool) -> String {
    let mut text = String::new();
    for metric in METRICS {
        let samples = metrics::samples(metric, status, totals);
        if samples.is_empty() {
            continue;
        }
        let (family, kind) = (family(metric, open), format!("{:?}", metric.kind).to_lowercase());
        text += &format!("# HELP {family} {}\n# TYPE {family} {kind}\n", metric.help);
        for sample in samples {
            text += &format!("{} {}\n", sample.name(metric), sample.number);
        }
    }
    if open { text + "# EOF\n" } else { text }
}

/// OpenMetrics names a counter without what its number ends in.
fn family(metric: &Metric, open: bool) -> &'static str {
    match metric.kind {
        MetricKind::Counter if open => metric.name.trim_end_matches("_total"),
        MetricKind::Counter | MetricKind::Gauge | MetricKind::Histogram => metric.name,
    }
}
