//! `--workers`: a number, or two between which the number of workers follows the load.

use std::{fmt, str::FromStr};

use ostler_wire::scoreboard::MOST_WORKERS;
use serde::{Deserialize, Serialize};

use super::parse;

/// The fewest and the most workers that there may be, as in `4..16`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct WorkerRange {
    /// At least 1.
    pub least: u16,
    /// At most [`MOST_WORKERS`].
    pub most: u16,
}

impl WorkerRange {
    /// A number alone is a range of one.
    pub fn of(workers: u16) -> WorkerRange {
        WorkerRange { least: workers, most: workers }
    }

    /// The range, if it leaves anything to choose.
    pub fn elastic(self) -> Option<WorkerRange> {
        (self.least < self.most).then_some(self)
    }

    /// The number within the range that is nearest to this one.
    pub fn nearest(self, workers: u16) -> u16 {
        workers.clamp(self.least, self.most)
    }
}

impl FromStr for WorkerRange {
    type Err = String;

    fn from_str(text: &str) -> Result<WorkerRange, String> {
        let count = parse::count::<u16>(1..=MOST_WORKERS.into());
        let one = |text: &str| count(text).map_err(|expected| format!("{expected}, or two such as 4..16"));
        let Some((least, most)) = text.split_once("..") else { return one(text).map(WorkerRange::of) };
        let (least, most) = (one(least)?, one(most)?);
        match least <= most {
            true => Ok(WorkerRange { least, most }),
            false => Err(format!("expected the smaller number first, as in {most}..{least}")),
        }
    }
}

impl fmt::Display for WorkerRange {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        match self.elastic() {
            Some(_) => write!(f, "{}..{}", self.least, self.most),
            None => self.least.fmt(f),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_number_is_a_range_that_leaves_nothing_to_choose() {
        let read = |text: &str| text.parse::<WorkerRange>().map(|range| (range.least, range.most));
        for (text, expected) in [("4", (4, 4)), ("4..16", (4, 16)), ("1..512", (1, 512)), ("3..3", (3, 3))] {
            assert_eq!(read(text), Ok(expected), "{text}");
        }
        for text in [
            "0", "513", "0..4", "4..513", "4..", "..4", "4..2", "4...16", "4..=16", "+1..4", "+4", "-1..4", "a..b",
            "..",
        ] {
            assert!(read(text).is_err(), "{text}");
        }
        assert_eq!(WorkerRange::of(4).elastic(), None);
        assert_eq!("4..2".parse::<WorkerRange>().unwrap_err(), "expected the smaller number first, as in 2..4");
    }
}
