//! Has a worker become the template of its generation.

use std::{os::fd::AsFd, time::Duration};

use ostler_wire::{FromTemplate, ToWorker, meters::MoveReason};

use super::Performer;
use crate::{
    exit::words,
    master::{
        event::{Action, Event, Number, Plan},
        generation::refork::ENDED,
    },
    resources::line::{Heard, Line},
};

/// Why it is not done after an upgrade that has changed the exchange.
const OLD: &str = "its connections cannot move to the others";

impl Performer<'_> {
    /// Where it has no channel for that, or its connections cannot move, the worker is replaced and no more.
    pub(super) fn refork(&mut self, generation: Number, slot: u16, within: Duration) -> Option<Event> {
        let moves = self.can_hand_over(generation);
        match Line::pair().map_err(|error| words(&error)).and_then(|pair| moves.then_some(pair).ok_or(OLD.into())) {
            Ok((ours, theirs)) => {
                let team = self.teams.get_mut(&generation)?;
                if let Some(line) = team.workers.get_mut(&slot) {
                    // One that does not read is left to its deadline, one that is gone to its exit.
                    let _ = line.send(&ToWorker::BecomeTemplate { within }, &[theirs.as_fd()]);
                }
                team.beside = Some(ours);
                None
            }
            Err(why) => {
                let (hand_over, delay, why_moved) = (true, Duration::ZERO, MoveReason::Recycle);
                self.perform(Action::Drain { generation, slot, within, hand_over, delay, why: why_moved });
                Some(Event::CandidateLost(generation, why))
            }
        }
    }

    /// The lines of the present template and of its successor change places. The successor is told what a template is told that boots.
    pub(super) fn succeed(&mut self, generation: Number, plan: &Plan) {
        let Some(mut team) = self.teams.remove(&generation) else { return };
        std::mem::swap(&mut team.template, &mut team.beside);
        self.send_boot(generation, plan, &mut team);
        self.teams.insert(generation, team);
    }

    /// The next message of the worker that is to be the template, or of the template that waits until it is proven.
    pub fn hear_beside(&mut self, generation: Number) -> Option<Event> {
        let team = self.teams.get_mut(&generation)?;
        let line = team.beside.as_mut()?;
        line.flush();
        match line.hear::<FromTemplate>() {
            Heard::Nothing => None,
            Heard::Message(says) => Some(Event::Candidate { generation, says }),
            Heard::End => {
                team.beside = None;
                Some(Event::CandidateLost(generation, ENDED.into()))
            }
            Heard::Nonsense(why) => {
                team.beside = None;
                Some(Event::CandidateLost(generation, why))
            }
        }
    }
}
