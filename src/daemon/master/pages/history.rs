//! What the page for people shows of the last minutes. A sample is taken when somebody asks, and while the master looks at the workers
//! anyway: an idle site is not woken, and what was not looked at was at rest.

use std::{collections::VecDeque, os::fd::AsFd, sync::atomic::Ordering::Relaxed, time::Duration};

use ostler_wire::meters::Times;

use crate::{
    master::{perform::Performer, state::State},
    sys::{clock::Moment, diag},
};

/// How far back it goes.
pub const SPAN: Duration = Duration::from_secs(300);
const BETWEEN_SAMPLES: Duration = Duration::from_millis(1500);
const MOST: usize = (SPAN.as_millis() / BETWEEN_SAMPLES.as_millis()) as usize + 1;

/// The samples, the oldest first.
#[derive(Debug, Default)]
pub struct History(VecDeque<Sample>);

#[derive(Debug, Clone)]
pub struct Sample {
    pub at: Moment,
    /// How long requests have taken since the start.
    pub times: Times,
    /// How many were answered with 5xx since the start.
    pub errors: u64,
    /// How many the server has refused since the start.
    pub refused: u64,
    /// Connections that wait to be accepted, and requests that wait for a thread.
    pub waiting: u64,
    /// Of workers and templates, if it is known.
    pub memory: Option<u64>,
}

/// What happened between two samples.
#[derive(Debug, Default, PartialEq)]
pub struct Stretch {
    pub seconds: f64,
    pub times: Times,
    pub errors: u64,
    pub refused: u64,
}

impl History {
    fn note(&mut self, sample: Sample) {
        let begin = Moment(sample.at.0.saturating_sub(SPAN.as_millis() as u64));
        while let Some(last) = self.0.back()
            && sample.at - last.at > BETWEEN_SAMPLES * 2
        {
            let at = begin.max(last.at + BETWEEN_SAMPLES);
            let at_rest = Sample { at, ..last.clone() };
            self.push(at_rest);
        }
        self.push(sample);
        self.0.retain(|sample| sample.at >= begin);
    }

    fn push(&mut self, sample: Sample) {
        if self.0.len() >= MOST {
            self.0.pop_front();
        }
        self.0.push_back(sample);
    }

    fn is_due(&self, now: Moment) -> bool {
        self.0.back().is_none_or(|last| now - last.at >= BETWEEN_SAMPLES)
    }

    pub fn samples(&self) -> impl Iterator<Item = &Sample> {
        self.0.iter()
    }

    /// What happened in the time up to the last sample, as far as it is known.
    pub fn last(&self, span: Duration) -> Stretch {
        let Some(newest) = self.0.back() else { return Stretch::default() };
        let earlier = self.0.iter().rev().find(|sample| newest.at - sample.at >= span).or(self.0.front());
        earlier.map(|earlier| Stretch::between(earlier, newest)).unwrap_or_default()
    }
}

impl Stretch {
    pub fn between(earlier: &Sample, later: &Sample) -> Stretch {
        let mut times = later.times.clone();
        for (count, before) in times.buckets.iter_mut().zip(earlier.times.buckets) {
            *count = count.saturating_sub(before);
        }
        Stretch {
            seconds: (later.at - earlier.at).as_secs_f64(),
            times,
            errors: later.errors.saturating_sub(earlier.errors),
            refused: later.refused.saturating_sub(earlier.refused),
        }
    }

    /// How many of this count there were in a second.
    pub fn rate(&self, count: u64) -> Option<f64> {
        (self.seconds > 0.0).then(|| count as f64 / self.seconds)
    }
}

impl Performer<'_> {
    /// Takes a sample if it is time, or at the end of some work.
    pub fn sample(&mut self, state: &State, now: Moment, end: bool) {
        if self.page.is_none() || !(end || self.history.is_due(now)) {
            return;
        }
        self.count(state);
        let queues = self.listeners.iter().filter_map(|bound| diag::queue(bound.socket.as_fd()));
        let connections: u64 = queues.map(|(waiting, _)| u64::from(waiting)).sum();
        let requests: u64 = state
            .generations()
            .iter()
            .filter_map(|generation| Some((generation, &self.teams.get(&generation.number)?.scoreboard)))
            .flat_map(|(generation, board)| generation.slots.iter().map(|worker| board.slot(worker.slot)))
            .map(|slot| u64::from(slot.queued.load(Relaxed)))
            .sum();
        self.history.note(Sample {
            at: now,
            times: self.totals.times("duration"),
            errors: self.totals.of("errors"),
            refused: self.totals.of("refused"),
            waiting: connections + requests,
            memory: self.sampling.total(now),
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sample(at: u64, requests: u64) -> Sample {
        let mut times = Times::default();
        times.buckets[3] = requests;
        Sample { at: Moment(at), times, errors: requests / 10, refused: 0, waiting: 0, memory: None }
    }

    #[test]
    fn a_stretch_is_what_was_counted_between_two_samples() {
        let mut history = History::default();
        assert_eq!(history.last(SPAN), Stretch::default());
        (0..20).for_each(|second| history.note(sample(1000 + 2000 * second, 100 * second)));
        let last = history.last(Duration::from_secs(10));
        assert_eq!((last.seconds, last.times.count(), last.errors), (10.0, 500, 50));
        assert_eq!(last.rate(500), Some(50.0));
        assert_eq!(history.last(SPAN).times.count(), 1900);
    }

    #[test]
    fn a_site_that_was_not_looked_at_was_at_rest() {
        let mut history = History::default();
        for at in [0, 100_000, 10_000_000] {
            history.note(sample(at, at));
            assert!(history.samples().count() <= MOST);
        }
        let busy: Vec<_> = history
            .samples()
            .zip(history.samples().skip(1))
            .map(|(one, next)| (next.at - one.at, Stretch::between(one, next).times.count()))
            .collect();
        assert!(busy.iter().all(|(time, _)| *time <= BETWEEN_SAMPLES * 2), "{busy:?}");
        assert_eq!(busy.iter().filter(|(_, count)| *count > 0).count(), 1, "{busy:?}");
        assert_eq!(history.last(SPAN).seconds, 300.0);
        assert!(!history.is_due(Moment(10_000_100)) && history.is_due(Moment(10_002_000)));
    }
}
