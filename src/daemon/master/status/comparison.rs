//! While there is a canary: what it and the old generation have done since it began to serve, side by side.

use ostler_wire::meters::Times;
use serde::{Deserialize, Serialize};

use super::{GenerationStatus, Status, age, text, time};
use crate::master::verdict::figures::{Figures, Part};

/// Of one of the two, since the canary began to serve.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct FiguresStatus {
    /// Requests that were answered, by the application or by the server itself.
    pub requests: u64,
    /// Those of them that failed: answered with 5xx, or broken off by the application.
    pub errors: u64,
    /// Workers that died by themselves.
    pub crashes: u64,
    /// Workers that were replaced because of `--timeout`.
    pub timeouts: u64,
    /// How long half of the calls took at most; none without a call.
    pub p50: Option<f64>,
    /// How long 99 % of them took at most.
    pub p99: Option<f64>,
}

/// The headings of the comparison.
pub const COMPARED: [&str; 7] = ["GENERATION", "REQUESTS", "FAILED", "CRASHES", "TIME-OUTS", "P50", "P99"];

impl Status {
    /// For how long there has been a canary, if there is one.
    pub fn canary_age(&self) -> Option<f64> {
        self.generations.iter().find(|generation| generation.stage == "canary").map(|canary| canary.since)
    }

    /// A row for each of the two, with the columns of [`COMPARED`].
    pub fn compared(&self) -> impl Iterator<Item = [String; 7]> {
        self.generations.iter().filter_map(|generation| Some(row(generation, generation.figures.as_ref()?)))
    }

    /// The lines for people; none without a canary.
    pub fn comparison(&self) -> Vec<String> {
        let Some(canary) = self.canary_age() else { return Vec::new() };
        let rows: Vec<_> = std::iter::once(COMPARED.map(String::from)).chain(self.compared()).collect();
        let heading = format!("since the canary began {} ago:", age(canary));
        std::iter::once(heading).chain(text::aligned(&rows)).collect()
    }
}

impl From<Figures> for FiguresStatus {
    fn from(figures: Figures) -> FiguresStatus {
        let Figures { requests, errors, crashes, timeouts, durations } = figures;
        let times = Times { buckets: durations, sum: 0 };
        let percentile = |share| times.percentile(share).map(|microseconds| microseconds / 1e6);
        FiguresStatus { requests, errors, crashes, timeouts, p50: percentile(0.5), p99: percentile(0.99) }
    }
}

fn row(generation: &GenerationStatus, figures: &FiguresStatus) -> [String; 7] {
    let errors = Part { time: 0, bad: figures.errors, of: figures.requests };
    let told = |seconds: Option<f64>| seconds.map_or_else(|| "-".into(), time);
    [
        format!("{} {}", generation.generation, generation.stage),
        figures.requests.to_string(),
        errors.percent(),
        figures.crashes.to_string(),
        figures.timeouts.to_string(),
        told(figures.p50),
        told(figures.p99),
    ]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_generations_fit_a_line_each() {
        let generation = |number: u32, stage: &str, requests: u64| {
            serde_json::json!({ "generation": number, "stage": stage, "since": 7384.0, "wanted": 4, "ready": 4, "crashed": 0,
                "last_crash": null, "next": null, "template": 9, "memory": null, "workers": [], "figures": {
                    "requests": requests, "errors": requests / 1000, "crashes": 12, "timeouts": 0, "p50": 0.0023, "p99": null } })
        };
        let mut status = serde_json::json!({ "version": "", "pid": 1, "addresses": [], "restarts": {},
            "generations": [generation(1234, "serving", 123_456_789_012), generation(1235, "canary", 7)] });
        let lines = serde_json::from_value::<Status>(status.clone()).unwrap().comparison();
        let expected = [
            "since the canary began 2h 3m ago:",
            "  GENERATION    REQUESTS      FAILED  CRASHES  TIME-OUTS  P50     P99",
            "  1234 serving  123456789012  0.10 %  12       0          2.3 ms  -",
            "  1235 canary   7             0 %     12       0          2.3 ms  -",
        ];
        assert_eq!(lines, expected);
        assert!(lines.iter().all(|line| line.len() <= 80), "{lines:#?}");
        status["generations"] = serde_json::json!([generation(1234, "serving", 5)]);
        assert!(serde_json::from_value::<Status>(status).unwrap().comparison().is_empty());
    }
}
