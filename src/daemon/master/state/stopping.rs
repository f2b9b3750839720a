//! The end: all are told to go, and when the last is gone, the master is.

use std::time::Duration;

use super::{Phase, QueuedReload, State, Upgrade};
use crate::{
    exit::{Exit, Failure},
    master::{
        event::{Action, Stop},
        generation::{Decision, Generation},
        notes::Note,
    },
    resources::control::Asker,
};

/// How long the master waits for processes that SIGKILL does not end.
const GIVE_UP: Duration = Duration::from_secs(5);

impl State {
    pub(super) fn stop(&mut self, how: Stop, asker: Option<Asker>, decision: &mut Decision) {
        self.stopping.extend(asker);
        let how = match self.phase {
            Phase::Stopping { how: Stop::Graceful, .. } => how.max(Stop::Quick),
            Phase::Stopping { .. } => Stop::Kill,
            Phase::Starting | Phase::Serving | Phase::Ended => how,
        };
        decision.note(Note::Stopping(how));
        let delay = self.serving().filter(|_| how == Stop::Graceful).map(|serving| serving.plan.drain_delay);
        let listens = decision.now + delay.unwrap_or_default();
        match &mut self.phase {
            Phase::Stopping { how: earlier, listens: Some(until), .. } => (*earlier, *until) = (how, listens),
            Phase::Stopping { how: earlier, .. } => *earlier = how,
            phase => *phase = Phase::Stopping { how, result: Ok(()), listens: Some(listens), give_up: None },
        }
        self.refuse_waiting(decision);
        for generation in &mut self.generations {
            generation.stop(how, decision);
        }
    }

    /// There will be no other generation.
    pub(super) fn refuse_waiting(&mut self, decision: &mut Decision) {
        let QueuedReload { askers, mut waiting, .. } = self.reload.take().unwrap_or_default();
        waiting.extend(askers);
        match std::mem::replace(&mut self.upgrade, Upgrade::None) {
            Upgrade::None => {}
            Upgrade::Queued(askers) | Upgrade::Executing(askers) => waiting.extend(askers),
            Upgrade::Trying { pid, askers, .. } => {
                waiting.extend(askers);
                decision.actions.extend(pid.map(Action::Kill));
            }
        }
        for generation in &mut self.generations {
            waiting.append(&mut generation.waiting);
            waiting.append(&mut generation.judged);
        }
        decision.answer(&mut waiting, Err(&Failure::new(Exit::Refused, "the master is stopping")));
    }

    pub(super) fn end(&mut self, decision: &mut Decision) {
        let Phase::Stopping { result, listens, give_up, .. } = &mut self.phase else { return };
        if listens.take_if(|until| *until <= decision.now).is_some() {
            decision.act(Action::StopListening);
        }
        if !self.generations.is_empty() {
            if !self.generations.iter().all(Generation::only_killed) {
                *give_up = None;
                return;
            }
            if *give_up.get_or_insert(decision.now + GIVE_UP) > decision.now {
                return;
            }
            let templates =
                self.generations.iter().flat_map(|g| g.template.pid().into_iter().chain(g.refork.templates()));
            let workers = self.generations.iter().flat_map(|g| g.slots.iter()).filter_map(|worker| worker.pid);
            decision.note(Note::LeftBehind(templates.chain(workers).collect()));
        }
        let result = std::mem::replace(result, Ok(()));
        self.phase = Phase::Ended;
        decision.act(Action::Exit(result));
        decision.answer(&mut self.stopping, Ok("stopped"));
    }
}
