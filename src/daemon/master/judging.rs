//! The figures of a generation that is judged, and of the one before it: noted as time goes by, and handed to the rule of verdict.rs.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::{
    Master,
    event::{Event, Number},
    perform::Performer,
    state::{Judged, State},
    verdict::{Against, Unjudged, Verdict, figures::History, judge},
};
use crate::sys::clock::Moment;

/// With this the rule counts.
const BETWEEN_LOOKS: Duration = Duration::from_secs(1);
/// How far back the old generation is looked at.
const HOUR: Duration = Duration::from_secs(3600);
/// How often its figures are noted while it serves, and somebody is at work.
const BETWEEN_NOTES: Duration = Duration::from_secs(10);

/// What was noted. An upgrade takes it along: three histories at most, each of which has a bound.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub struct Judging {
    /// Of the generation that serves, for the time when it is the old one.
    past: Option<Past>,
    trial: Option<Trial>,
}

#[derive(Debug, Clone, Serialize, Deserialize)]
struct Past {
    generation: Number,
    history: History,
    next: Moment,
}

/// A generation is judged.
#[derive(Debug, Clone, Serialize, Deserialize)]
struct Trial {
    judged: Judged,
    old: History,
    new: History,
    next: Moment,
}

impl Judging {
    /// When to look next; none while nothing is judged: an idle site is not woken.
    pub fn deadline(&self) -> Option<Moment> {
        self.trial.as_ref().map(|trial| trial.next)
    }

    fn is_due(&self, judged: Option<Judged>, serving: Number, now: Moment) -> bool {
        let begins = judged != self.trial.as_ref().map(|trial| trial.judged);
        let past = self.past.as_ref().is_none_or(|past| past.generation != serving || past.next <= now);
        begins || past || self.trial.as_ref().is_some_and(|trial| trial.next <= now)
    }

    /// Notes what has been counted by now. What is said of the generation that is judged, if one is.
    fn look(&mut self, state: &State, performer: &Performer, now: Moment) -> Option<(Judged, Verdict, u64)> {
        let figures = |number| performer.figures(number);
        match (state.judged(), &self.trial) {
            (None, _) => self.trial = None,
            (Some(judged), Some(trial)) if trial.judged == judged => {}
            (Some(judged), _) => {
                let span = span(state, judged);
                let fresh = |number, span| History::new(span, now, figures(number));
                let known =
                    self.past.take_if(|past| judged.against == Against::LastHour && past.generation == judged.old);
                // A reload during a watch: what it goes back to is the same.
                let before = self
                    .trial
                    .take()
                    .filter(|trial| trial.judged.old == judged.old && trial.judged.against == judged.against);
                let known = known.map(|mut past| {
                    past.history.note(now, figures(judged.old));
                    past.history
                });
                let known = known.or(before.map(|trial| trial.old));
                let (old, new) = (known.unwrap_or_else(|| fresh(judged.old, span)), fresh(judged.new, span));
                self.trial = Some(Trial { judged, old, new, next: now });
            }
        }
        if let Some(serving) = state.serving().map(|serving| serving.number) {
            let past = self.past.take_if(|past| past.generation == serving);
            let new = || Past { generation: serving, history: History::new(HOUR, now, figures(serving)), next: now };
            let past = self.past.insert(past.unwrap_or_else(new));
            if past.next <= now {
                past.next = now + BETWEEN_NOTES;
                past.history.note(now, figures(serving));
            }
        }
        let trial = self.trial.as_mut().filter(|trial| trial.next <= now)?;
        let Judged { new, old, against } = trial.judged;
        trial.next = now + BETWEEN_LOOKS;
        trial.new.note(now, figures(new));
        if against == Against::SameTime {
            trial.old.note(now, figures(old));
        }
        let timeout = performer.teams.get(&new).map_or(Duration::ZERO, |team| team.settings.boot.worker.timeout);
        Some((trial.judged, judge(&trial.old, &trial.new, against, timeout), trial.new.total().calls()))
    }
}

/// For how long a generation is judged.
fn span(state: &State, judged: Judged) -> Duration {
    let generation = state.generations().iter().find(|generation| generation.number == judged.new);
    let plan = generation.map(|generation| &generation.plan);
    let time = plan.map(|plan| if judged.against == Against::SameTime { plan.canary_time } else { plan.watch });
    time.filter(|time| !time.is_zero()).unwrap_or(HOUR)
}

impl Master<'_> {
    /// Has the rule say what it thinks of a generation that is judged.
    pub(super) fn judge(&mut self, now: Moment) {
        let (state, judged) = (&self.state, self.state.judged());
        let Some(serving) = state.serving().filter(|serving| judged.is_some() || !serving.plan.watch.is_zero()) else {
            self.judging = Judging::default();
            return;
        };
        if !self.judging.is_due(judged, serving.number, now) {
            return;
        }
        self.performer.turns.doing("what the figures say");
        self.performer.count(&self.state);
        let Some((judged, verdict, calls)) = self.judging.look(&self.state, &self.performer, now) else { return };
        let generation = judged.new;
        self.handle(match verdict {
            Verdict::Worse(reason) => Event::Worse { generation, why: reason.sentence(judged.old) },
            Verdict::NotWorse(unjudged) => {
                Event::Judged { generation, told: Unjudged::not_worse(unjudged, judged.old, calls) }
            }
            Verdict::TooLittle(shortage) => Event::Judged { generation, told: shortage.sentence(judged.old) },
        });
    }
}
