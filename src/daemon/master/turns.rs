//! How long the master's turns are. From one poll to the next the master hears no process, so each turn has to be short.

use std::time::{Duration, Instant};

use serde::{Deserialize, Serialize};
use slog::{Logger, warn};

/// A turn that takes longer is told in the log.
const LONG: Duration = Duration::from_millis(100);

/// The turn under way, and the longest so far.
#[derive(Debug)]
pub struct Turns {
    began: Instant,
    /// What is being done, and since when.
    step: (&'static str, Instant),
    /// What has taken longest in this turn.
    slowest: (&'static str, Duration),
    longest: Longest,
}

/// The longest turn.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub struct Longest {
    /// In seconds.
    pub took: f64,
    /// Most of it went into this.
    pub doing: String,
}

impl Turns {
    /// None so far.
    pub fn new() -> Turns {
        let now = Instant::now();
        Turns { began: now, step: ("", now), slowest: ("", Duration::ZERO), longest: Longest::default() }
    }

    /// Something has happened, and a turn begins.
    pub fn begin(&mut self) {
        *self = Turns { longest: std::mem::take(&mut self.longest), ..Turns::new() };
    }

    /// From now on, this is done.
    pub fn doing(&mut self, what: &'static str) {
        let now = Instant::now();
        let took = now - self.step.1;
        if took > self.slowest.1 {
            self.slowest = (self.step.0, took);
        }
        self.step = (what, now);
    }

    /// The turn is over.
    pub fn end(&mut self, log: &Logger) {
        self.doing("");
        let took = self.step.1 - self.began;
        if took.as_secs_f64() > self.longest.took {
            self.longest = Longest { took: took.as_secs_f64(), doing: self.slowest.0.into() };
        }
        if took > LONG {
            warn!(log, "master was slow"; "took" => format!("{:.3}", took.as_secs_f64()), "doing" => self.slowest.0);
        }
    }

    /// The longest so far; the one under way is not counted.
    pub fn longest(&self) -> Longest {
        self.longest.clone()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_longest_turn_is_known_by_its_slowest_step() {
        let log = Logger::root(slog::Discard, slog::o!());
        let mut turns = Turns::new();
        turns.begin();
        turns.doing("first");
        turns.step.1 -= Duration::from_secs(2);
        turns.began -= Duration::from_secs(3);
        turns.doing("second");
        turns.end(&log);
        turns.begin();
        turns.end(&log);
        let longest = turns.longest();
        assert!(longest.took >= 3.0 && longest.doing == "first", "{longest:?}");
    }
}
