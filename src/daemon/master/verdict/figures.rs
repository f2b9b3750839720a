//! What a generation has done, in slices of time.

use std::{
    collections::VecDeque,
    iter::Sum,
    ops::{AddAssign, RangeInclusive, Sub},
    time::Duration,
};

use ostler_wire::{
    counters::part,
    meters::{BOUNDS, CLASSES, METHODS, Times},
};
use serde::{Deserialize, Serialize};

use crate::sys::clock::Moment;

/// A history has at most about so many slices: 65 kB.
const MOST_SLICES: u64 = 360;
const SHORTEST_SLICE: u64 = 1000;

/// What a generation has done since it began, or from one moment to another.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Figures {
    /// Requests that were answered, by the application or by the server itself.
    pub requests: u64,
    /// Those of them that failed: answered with 5xx, or broken off by the application.
    pub errors: u64,
    /// Workers that died by themselves.
    pub crashes: u64,
    /// Calls that passed `--timeout`.
    pub timeouts: u64,
    /// Calls by how long they took: as [`Times::buckets`].
    pub durations: [u64; BOUNDS.len() + 1],
}

/// The last figures of a generation: slices of about equal length, the oldest first.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct History {
    /// How far back it goes, in milliseconds.
    span: u64,
    slices: VecDeque<Slice>,
    /// What the generation had done before the first of them.
    before: Figures,
    /// Up to when.
    noted: Moment,
    /// What the generation had done by then.
    counted: Figures,
}

/// What happened in some time.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub struct Slice {
    /// In milliseconds.
    pub time: u64,
    pub figures: Figures,
}

/// What one measure makes of some time.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Part {
    /// In milliseconds.
    pub time: u64,
    /// How many requests were bad.
    pub bad: u64,
    /// Of how many.
    pub of: u64,
}

impl Figures {
    /// From counts by the names of the totals, of one generation; the master itself counts the other two.
    pub fn read(count: impl Fn(&str) -> u64, crashes: u64, timeouts: u64) -> Figures {
        let class = |class: &str| {
            let counts = METHODS.iter().map(|method| count(&part("requests", &[class, method])));
            counts.fold(0, u64::saturating_add)
        };
        Figures {
            requests: CLASSES.into_iter().map(class).fold(0, u64::saturating_add),
            errors: class("5xx").saturating_add(count("broken")),
            crashes,
            timeouts,
            durations: Times::read(|name| count(&part("duration", &[name]))).buckets,
        }
    }

    /// Requests that were answered, and those whose worker crashed.
    pub fn calls(&self) -> u64 {
        self.requests.saturating_add(self.crashes)
    }

    /// What was counted after these.
    pub fn since(&self, earlier: &Figures) -> Figures {
        let mut durations = self.durations;
        durations.iter_mut().zip(earlier.durations).for_each(|(count, before)| *count = count.saturating_sub(before));
        Figures {
            requests: self.requests.saturating_sub(earlier.requests),
            errors: self.errors.saturating_sub(earlier.errors),
            crashes: self.crashes.saturating_sub(earlier.crashes),
            timeouts: self.timeouts.saturating_sub(earlier.timeouts),
            durations,
        }
    }
}

impl AddAssign<&Figures> for Figures {
    fn add_assign(&mut self, more: &Figures) {
        let Figures { requests, errors, crashes, timeouts, durations } = self;
        let counts = [requests, errors, crashes, timeouts].into_iter().chain(durations);
        let grown = [more.requests, more.errors, more.crashes, more.timeouts].into_iter().chain(more.durations);
        counts.zip(grown).for_each(|(count, more)| *count = count.saturating_add(more));
    }
}

impl History {
    /// Begins with what the generation has done so far.
    pub fn new(span: Duration, now: Moment, counted: Figures) -> History {
        let span = u64::try_from(span.as_millis()).unwrap_or(u64::MAX);
        History { span, slices: VecDeque::new(), before: counted.clone(), noted: now, counted }
    }

    /// Notes what the generation has done by now. What was not looked at for a while becomes one long slice.
    pub fn note(&mut self, now: Moment, counted: Figures) {
        let slice = Slice { time: (now - self.noted).as_millis() as u64, figures: counted.since(&self.counted) };
        let least = SHORTEST_SLICE.max(self.span / MOST_SLICES);
        match self.slices.back_mut().filter(|last| last.time < least) {
            Some(last) => {
                last.time += slice.time;
                last.figures += &slice.figures;
            }
            None => self.slices.push_back(slice),
        }
        let mut time = self.time();
        while let Some(first) = self.slices.front()
            && time - first.time >= self.span
        {
            time -= first.time;
            self.before += &first.figures;
            self.slices.pop_front();
        }
        (self.noted, self.counted) = (now, counted);
    }

    /// How often it is looked at while it grows to its span.
    pub fn looks(&self) -> u64 {
        self.span.div_ceil(SHORTEST_SLICE).max(1)
    }

    /// All of it.
    pub fn total(&self) -> Figures {
        self.counted.since(&self.before)
    }

    /// Its slices, each with the time from the beginning of the history to that of the slice, in milliseconds.
    pub fn slices(&self) -> impl Iterator<Item = (u64, &Slice)> {
        self.slices.iter().scan(0, |age, slice| {
            let begin = *age;
            *age += slice.time;
            Some((begin, slice))
        })
    }

    pub fn time(&self) -> u64 {
        self.slices.iter().map(|slice| slice.time).sum()
    }
}

impl Part {
    pub fn share(self) -> f64 {
        if self.of == 0 { 0.0 } else { self.bad as f64 / self.of as f64 }
    }

    /// `9.0 %`; small shares keep one digit that is not zero.
    pub fn percent(self) -> String {
        let percent = self.share() * 100.0;
        let digits = match percent {
            0.0 | 100.0 => 0,
            1.0.. => 1,
            0.01.. => 2,
            _ => -percent.log10().floor() as usize,
        };
        format!("{percent:.digits$} %")
    }
}

impl AddAssign for Part {
    fn add_assign(&mut self, more: Part) {
        *self = Part {
            time: self.time.saturating_add(more.time),
            bad: self.bad.saturating_add(more.bad),
            of: self.of.saturating_add(more.of),
        };
    }
}

impl Sub for Part {
    type Output = Part;
    fn sub(self, less: Part) -> Part {
        Part {
            time: self.time.saturating_sub(less.time),
            bad: self.bad.saturating_sub(less.bad),
            of: self.of.saturating_sub(less.of),
        }
    }
}

impl Sum for Part {
    fn sum<I: Iterator<Item = Part>>(parts: I) -> Part {
        parts.fold(Part::default(), |mut sum, part| {
            sum += part;
            sum
        })
    }
}

/// The shortest row that ends with each part and is enough, with its places and its sum.
pub fn windows(parts: &[Part], enough: impl Fn(Part) -> bool) -> impl Iterator<Item = (RangeInclusive<usize>, Part)> {
    let (mut first, mut row) = (0, Part::default());
    parts.iter().enumerate().filter_map(move |(last, part)| {
        row += *part;
        while first < last && enough(row - parts[first]) {
            row = row - parts[first];
            first += 1;
        }
        enough(row).then_some((first..=last, row))
    })
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;

    fn answered(requests: u64) -> Figures {
        Figures { requests, ..Figures::default() }
    }

    #[test]
    fn figures_are_read_by_the_names_of_the_totals() {
        let counts = BTreeMap::from([
            ("requests", 5), // Those of the application alone.
            ("requests.2xx.GET", 4),
            ("requests.5xx.GET", 1),
            ("requests.5xx.POST", 2),
            ("requests.none.other", 1),
            ("broken", 2),
            ("duration.100", 3),
            ("duration.longer", 1),
        ]);
        let figures = Figures::read(|name| counts.get(name).copied().unwrap_or(0), 6, 7);
        assert_eq!((figures.requests, figures.errors, figures.crashes, figures.timeouts), (8, 5, 6, 7));
        assert_eq!((figures.durations[0], figures.durations[18], figures.calls()), (3, 1, 14));
    }

    #[test]
    fn a_history_is_bounded_and_adds_up() {
        let mut history = History::new(Duration::from_secs(3600), Moment(0), answered(1000));
        for second in 1..=10_000 {
            history.note(Moment(second * 1000), answered(1000 + second));
            assert!(history.slices.len() <= 361);
        }
        assert_eq!((history.time() / 10_000, history.total().requests / 10), (360, 360));
        assert_eq!(history.slices().map(|(_, slice)| slice.figures.requests).sum::<u64>(), history.total().requests);
        // Nobody looked for a day: all of it is one slice, and all before is forgotten.
        history.note(Moment(100_000_000), answered(20_000));
        assert_eq!((history.slices.len(), history.total().requests), (1, 9000));
    }

    #[test]
    fn another_executable_goes_on_with_a_history() {
        let mut history = History::new(Duration::from_secs(60), Moment(0), answered(1));
        history.note(Moment(1000), answered(3));
        let text = serde_json::to_string(&history).unwrap();
        let mut read: History = serde_json::from_str(&text).unwrap();
        read.note(Moment(2000), answered(7));
        assert_eq!((read.time(), read.total().requests, read.looks()), (2000, 6, 60));
    }

    #[test]
    fn counts_that_go_back_are_nothing() {
        let mut history = History::new(Duration::from_secs(60), Moment(0), answered(10));
        history.note(Moment(1000), answered(5));
        assert_eq!(history.slices().map(|(_, slice)| slice.figures.requests).sum::<u64>(), 0);
        assert_eq!(history.total().requests, 0);
    }

    #[test]
    fn windows_are_the_shortest_rows_that_are_enough() {
        let parts: Vec<_> = [1, 0, 2, 3].map(|bad| Part { time: 1, bad, of: 5 }).into();
        let found: Vec<_> = windows(&parts, |row| row.time >= 2).map(|(places, row)| (places, row.bad)).collect();
        assert_eq!(found, [(0..=1, 1), (1..=2, 2), (2..=3, 5)]);
    }
}
