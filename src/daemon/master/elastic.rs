//! How many workers a site needs whose number follows its load (`--workers 4..16`): figures go in, a decision and its reason come out.
//! Makes no system call; sizing.rs gathers the figures, state.rs obeys.
//!
//! More, when at two looks in a row no worker was idle and requests waited: as many at once as it takes to call the application for
//! each of them, as far as the range, the processors and the memory allow. Fewer, one at a time, when for `--shrink-after` the calls would have
//! had room in two fewer: so one stays in reserve, and a load that comes and goes within that time changes nothing.

use std::{collections::VecDeque, time::Duration};

use super::event::Number;
use crate::{settings::WorkerRange, sys::clock::Moment};

mod ceilings;
#[cfg(test)]
mod simulation;
#[cfg(test)]
mod tests;

pub use ceilings::{Processors, Room};

/// For how long requests have to wait, at each look.
pub const WAITING: Duration = Duration::from_millis(100);
/// For how long figures of the memory are waited for that are being read.
const READING: Duration = Duration::from_millis(500);
/// From one worker that goes to the next: it can end meanwhile.
const BETWEEN_STEPS: Duration = Duration::from_secs(1);

/// What is seen of the site at one look.
#[derive(Debug, Clone, Default)]
pub struct Figures {
    /// How many workers there should be, by the last decision.
    pub wanted: u16,
    /// How many calls each of them can have.
    pub threads: u16,
    /// How many would take a request at once.
    pub idle: usize,
    /// How many boot.
    pub coming: usize,
    /// Calls under way.
    pub calls: usize,
    /// Requests and connections that wait for a worker.
    pub waiting: usize,
    /// Nothing is under way that a shrinking site would disturb.
    pub settled: bool,
    /// How the workers have used the processors since the last look, if that is known.
    pub processors: Option<Processors>,
    /// What memory is left, if that is known.
    pub room: Option<Room>,
    /// That is being read afresh.
    pub reading: bool,
}

/// What is to be done.
#[derive(Debug, Clone, PartialEq)]
pub enum Decision {
    /// Nothing.
    Stay,
    /// So many more; the reason is a sentence.
    Grow(u16, String),
    /// More would be good, and there cannot be any: a sentence.
    Held(String),
    /// One fewer; the reason is a sentence.
    Shrink(String),
}

/// The rule, and what it remembers from look to look.
#[derive(Debug)]
pub struct Elastic {
    /// Of which generation.
    pub generation: Number,
    range: WorkerRange,
    shrink_after: Duration,
    /// From when on the number has been what it is, or less by this rule.
    since: Moment,
    wanted: u16,
    /// Since when requests wait and no worker is idle, at each look.
    crowded: Option<Moment>,
    /// How many workers the calls under way would have needed, and when: each is more than those after it.
    needed: VecDeque<(Moment, u16)>,
    /// When the last worker went.
    shrunk: Option<Moment>,
}

impl Elastic {
    /// From now on, for a generation.
    pub fn new(generation: Number, range: WorkerRange, shrink_after: Duration, now: Moment) -> Elastic {
        Elastic {
            generation,
            range,
            shrink_after,
            since: now,
            wanted: 0,
            crowded: None,
            needed: VecDeque::new(),
            shrunk: None,
        }
    }

    /// Within which numbers.
    pub fn range(&self) -> WorkerRange {
        self.range
    }

    /// Whether it was made for this.
    pub fn is_for(&self, generation: Number, range: WorkerRange) -> bool {
        (self.generation, self.range) == (generation, range)
    }

    /// Looks at the site.
    pub fn look(&mut self, figures: &Figures, now: Moment) -> Decision {
        if figures.wanted > self.wanted {
            self.since = now;
        }
        self.wanted = figures.wanted;
        self.note_needed(figures.calls.div_ceil(figures.threads.max(1).into()), now);
        // All of them were let go (WINCH).
        if figures.wanted == 0 {
            return Decision::Stay;
        }
        if figures.idle > 0 || figures.waiting == 0 {
            self.crowded = None;
            return self.shrink(figures, now);
        }
        let since = *self.crowded.get_or_insert(now);
        if now - since < WAITING || figures.reading && now - since < READING {
            return Decision::Stay;
        }
        self.grow(figures, now)
    }

    /// When to look again although nobody is at work; none if nothing can come of it.
    pub fn due(&self, now: Moment) -> Option<Moment> {
        if self.wanted <= self.range.least || self.shrink_after.is_zero() {
            return None;
        }
        let is_needed = |(_, needed): &&(Moment, u16)| needed.saturating_add(1) >= self.wanted;
        let needed = self.needed.iter().rev().find(is_needed).map_or(self.since, |(at, _)| *at);
        let quiet = needed.max(self.since) + self.shrink_after;
        let last = self.shrunk.map_or(now, |shrunk| shrunk + BETWEEN_STEPS);
        let due = quiet.max(last);
        // What has to end first, such as the watch of a release, may last.
        Some(if due > now { due } else { now + self.shrink_after.max(BETWEEN_STEPS) })
    }

    fn grow(&mut self, figures: &Figures, now: Moment) -> Decision {
        let Figures { wanted, waiting, coming, .. } = *figures;
        let missing = waiting.div_ceil(figures.threads.max(1).into()).saturating_sub(coming);
        let more = missing.min(self.range.most.saturating_sub(wanted).into()) as u16;
        if more == 0 {
            return Decision::Stay;
        }
        let ceilings = [
            figures.processors.and_then(|processors| processors.ceiling(wanted)),
            figures.room.as_ref().and_then(|room| room.ceiling(wanted)),
        ];
        let lowest = ceilings.into_iter().flatten().min_by_key(|(most, _)| *most);
        let lowest = lowest.filter(|(most, _)| *most < wanted.saturating_add(more));
        let more = lowest.as_ref().map_or(more, |(most, _)| most.saturating_sub(wanted));
        let limit = lowest.map(|(_, why)| why).unwrap_or_default();
        if more == 0 {
            return Decision::Held(limit);
        }
        self.crowded = None;
        self.since = now;
        let limit = if limit.is_empty() { limit } else { format!(", and no more, because {limit}") };
        let s = if waiting == 1 { "" } else { "s" };
        let idle = if wanted == 1 { "the worker was not".into() } else { format!("none of {wanted} workers was") };
        Decision::Grow(more, format!("{waiting} request{s} waited and {idle} idle{limit}"))
    }

    fn shrink(&mut self, figures: &Figures, now: Moment) -> Decision {
        let quiet = !self.shrink_after.is_zero() && now - self.since >= self.shrink_after;
        let rested = self.shrunk.is_none_or(|shrunk| now - shrunk >= BETWEEN_STEPS);
        // All that was needed is known, since the oldest are forgotten only after that time.
        let needed = self.needed.front().map_or(0, |(_, needed)| *needed);
        let enough = self.range.nearest(needed.saturating_add(1));
        if !(quiet && rested && figures.settled && figures.idle > 0 && figures.wanted > enough) {
            return Decision::Stay;
        }
        self.shrunk = Some(now);
        self.wanted -= 1;
        Decision::Shrink(format!(
            "no more than {needed} of {} workers were needed within {} s",
            figures.wanted,
            self.shrink_after.as_secs_f64()
        ))
    }

    fn note_needed(&mut self, needed: usize, now: Moment) {
        let needed = needed.min(u16::MAX.into()) as u16;
        while self.needed.back().is_some_and(|(_, before)| *before <= needed) {
            self.needed.pop_back();
        }
        self.needed.push_back((now, needed));
        while self.needed.front().is_some_and(|(at, _)| now - *at >= self.shrink_after) && self.needed.len() > 1 {
            self.needed.pop_front();
        }
    }
}
