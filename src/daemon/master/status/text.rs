//! The status as text for people. What comes from outside stands there without what moves a terminal.

use std::fmt::Write;

use ostler_wire::log::printable;
use serde_json::Number;

use super::{CanaryStatus, GenerationStatus, Queue, RequestStatus, Status, WorkerStatus};
use crate::master::sampling::Memory;

/// The table has so many of the last events, if they are not good ones.
const EVENTS_SHOWN: usize = 3;

impl Status {
    /// For people who have several: `generation 7 serving, 4 of 4 workers, on http://127.0.0.1:8000, master 4711`.
    pub fn line(&self) -> String {
        let staged = |stage: &str| self.generations.iter().find(|generation| generation.stage == stage);
        let how = match staged("serving").or_else(|| staged("booting")).or(self.generations.first()) {
            Some(one) => format!("generation {}", one.told()),
            None => "no generation".into(),
        };
        let problems = match self.problems.len() {
            0 => String::new(),
            1 => "; 1 problem".into(),
            several => format!("; {several} problems"),
        };
        format!("{how}, on {}, master {}{problems}", self.addresses.join(" and "), self.pid)
    }

    /// For people.
    pub fn table(&self) -> String {
        let mut text = format!("ostler {}, master {}, {}\n", self.version, self.pid, self.addresses.join(", "));
        for problem in &self.problems {
            text += &format!("! {}\n", printable(problem));
        }
        for (address, queue) in self.addresses.iter().zip(&self.queues) {
            let told = self.problems.iter().any(|problem| problem.starts_with(&format!("{address}: ")));
            if let Queue { waiting: Some(waiting @ 1..), room: Some(room), .. } = queue
                && !told
            {
                text += &format!("{address}: {waiting} wait to be accepted, of at most {room}\n");
            }
        }
        for certificate in self.certificates.iter().filter(|certificate| !certificate.is_late) {
            let name = printable(&certificate.name);
            text += &format!("certificate for {name}: expires in {}\n", age(certificate.expires_in));
        }
        for generation in &self.generations {
            generation.write(&mut text).expect("writing to memory does not fail");
        }
        self.comparison().into_iter().for_each(|line| text += &format!("{line}\n"));
        let answered = self.metrics.iter().filter(|(name, _)| *name == "ostler_request_duration_seconds_count");
        let requests: u64 = answered.filter_map(|(_, number)| number.as_u64()).fold(0, u64::saturating_add);
        if self.metrics.contains_key("ostler_request_errors_total") {
            let of = |name| self.metrics.get(name).map_or_else(|| "0".to_owned(), Number::to_string);
            let (requests, errors) = (requests.to_string(), of("ostler_request_errors_total"));
            let s = |count: &str| if count == "1" { "" } else { "s" };
            text += &format!(
                "since the start: {requests} request{}, {errors} error{}, {} refused\n",
                s(&requests),
                s(&errors),
                of("ostler_requests_refused_total")
            );
        }
        if !self.restarts.is_empty() {
            let causes: Vec<_> = self.restarts.iter().map(|(cause, count)| format!("{cause} ({count})")).collect();
            text += &format!("workers replaced: {}\n", causes.join(", "));
        }
        if let Some(age) = self.memory_age {
            text += &format!("memory as of {age:.0} s ago\n");
        }
        let bad: Vec<_> = self.events.iter().filter(|event| event.level != "info").collect();
        for event in &bad[bad.len().saturating_sub(EVENTS_SHOWN)..] {
            text += &format!("{} ago: {}\n", age(event.age), printable(&event.text));
        }
        text
    }
}

impl GenerationStatus {
    /// `; 13 crashed, last on GET /segv HTTP/1.1; next in 0.5 s`
    pub fn trouble(&self) -> String {
        let mut text = String::new();
        if self.crashed > 0 {
            text += &format!("; {} crashed", self.crashed);
        }
        if let Some(line) = &self.last_crash {
            text += &format!(", last on {}", printable(line));
        }
        if let Some(next) = self.next {
            text += &format!("; next in {next:.1} s");
        }
        text
    }

    /// `7 serving, 3 of 4 workers`, with `(4..16)` behind it where the load decides how many. One that is kept has no worker, as it should.
    pub fn told(&self) -> String {
        match self.stage.as_str() {
            "kept" => format!("{} kept for `ostler rollback`", self.generation),
            stage => {
                let then = self.canary.as_ref().map(CanaryStatus::told).unwrap_or_default();
                let range = self.range.map(|range| format!(" ({range})")).unwrap_or_default();
                format!("{} {stage}, {} of {} workers{range}{then}", self.generation, self.ready, self.wanted)
            }
        }
    }

    fn write(&self, text: &mut String) -> std::fmt::Result {
        write!(text, "generation {}", self.told())?;
        if matches!(self.stage.as_str(), "booting" | "draining") {
            write!(text, " for {}", age(self.since))?;
        }
        text.push_str(&self.trouble());
        if let Some(pid) = self.template {
            write!(text, "; template {pid}")?;
            match self.reforked {
                0 => {}
                1 => text.push_str(", reforked"),
                times => write!(text, ", reforked {times} times")?,
            }
            if let Some(memory) = self.memory {
                write!(text, " ({} shared, {} private)", size(memory.shared), size(memory.private))?;
            }
        }
        text.push('\n');
        if let Some(verdict) = &self.verdict {
            writeln!(text, "  so far {verdict}")?;
        }
        if self.workers.is_empty() {
            return Ok(());
        }
        let heading =
            ["SLOT", "PID", "STATE", "AGE", "REQUESTS", "ERRORS", "OPEN", "QUEUED", "SHARED", "PRIVATE", "DOING"];
        let rows: Vec<_> =
            std::iter::once(heading.map(String::from)).chain(self.workers.iter().map(WorkerStatus::row)).collect();
        aligned(&rows).iter().try_for_each(|line| writeln!(text, "{line}"))
    }
}

impl CanaryStatus {
    /// `; 3 more to follow in 4m 2s`
    fn told(&self) -> String {
        match (self.step.as_str(), self.follows_in) {
            ("leaves", _) => "; leaves when the old generation is whole".into(),
            ("follows", _) => format!("; {} more to boot", self.rest),
            (_, Some(left)) => format!("; {} more to follow in {}", self.rest, age(left)),
            (_, None) => format!("; {} more to follow by `ostler promote`", self.rest),
        }
    }
}

/// The lines of a table: all columns but the last are as wide as their widest cell.
pub(super) fn aligned<const COLUMNS: usize>(rows: &[[String; COLUMNS]]) -> Vec<String> {
    let wide = |column: usize| rows.iter().map(|row| row[column].chars().count()).max().unwrap_or(0);
    let widths: Vec<_> = (1..COLUMNS).map(|next| wide(next - 1)).chain([0]).collect();
    let line =
        |row: &[String; COLUMNS]| row.iter().zip(&widths).map(|(cell, width)| format!("  {cell:<width$}")).collect();
    rows.iter().map(line).collect()
}

impl WorkerStatus {
    /// Its state, and why it is to be replaced and in what time its drain is ended: `draining (reload, 29s left)`
    pub fn told_state(&self) -> String {
        let left = self.ends_in.filter(|_| self.state == "draining").map(|left| format!("{} left", age(left)));
        match self.replaced.iter().cloned().chain(left).collect::<Vec<_>>().join(", ") {
            why if why.is_empty() => self.state.clone(),
            why => format!("{} ({why})", self.state),
        }
    }

    fn row(&self) -> [String; 11] {
        let dash = || "-".to_owned();
        let memory = |part: fn(Memory) -> u64| self.memory.map_or_else(dash, |memory| size(part(memory)));
        let doing: Vec<_> = self.stuck.iter().chain(&self.doing).map(RequestStatus::told).collect();
        [
            self.slot.to_string(),
            self.pid.map_or_else(dash, |pid| pid.to_string()),
            self.told_state(),
            self.age.map_or_else(dash, age),
            self.count("requests").to_string(),
            self.count("errors").to_string(),
            self.count("connections").to_string(),
            self.count("queued").to_string(),
            memory(|memory| memory.shared),
            memory(|memory| memory.private),
            doing.join(", "),
        ]
    }
}

impl RequestStatus {
    /// `GET /slow HTTP/1.1 [4711] (2.3 s)`
    fn told(&self) -> String {
        let id = self.id.as_ref().map_or_else(String::new, |id| format!(" [{}]", printable(id)));
        format!("{}{id} ({:.1} s)", printable(&self.line), self.age)
    }
}

/// `14.9M`
pub fn size(bytes: u64) -> String {
    format!("{:.1}M", bytes as f64 / f64::from(1 << 20))
}

/// `2.3 ms`
pub fn time(seconds: f64) -> String {
    match seconds * 1000.0 {
        short if short < 100.0 => format!("{short:.1} ms"),
        middle if middle < 1000.0 => format!("{middle:.0} ms"),
        long => format!("{:.1} s", long / 1000.0),
    }
}

/// `2h 3m`
pub fn age(seconds: f64) -> String {
    let whole = seconds as u64;
    match whole {
        0..60 => format!("{whole}s"),
        60..3600 => format!("{}m {}s", whole / 60, whole % 60),
        3600..86_400 => format!("{}h {}m", whole / 3600, whole / 60 % 60),
        _ => format!("{}d {}h", whole / 86_400, whole / 3600 % 24),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_canary_says_what_becomes_of_it() {
        for (step, follows_in, told) in [
            ("beside", Some(242.0), "; 3 more to follow in 4m 2s"),
            ("beside", None, "; 3 more to follow by `ostler promote`"),
            ("follows", None, "; 3 more to boot"),
            ("leaves", None, "; leaves when the old generation is whole"),
        ] {
            assert_eq!(CanaryStatus { rest: 3, follows_in, step: step.into() }.told(), told);
        }
    }

    #[test]
    fn ages_are_short() {
        assert_eq!([59.9, 60.0, 7384.0, 180_000.0].map(age), ["59s", "1m 0s", "2h 3m", "2d 2h"]);
    }
}
