//! A worker's life: it waits for its generation, serves, drains, and ends.

pub(crate) mod cut;
pub(crate) mod recycle;

use std::{
    os::fd::AsFd,
    sync::atomic::Ordering::Relaxed,
    time::{Duration, Instant},
};

use ostler_wire::FromWorker;
use slog::{info, warn};

use crate::{
    LoopEnd,
    connection::{Connection, Interest, Next, Phase},
    event_loop::{Loop, Step, timers::Token},
    transport::listener,
};

/// When the site stops, a connection that has rested for less than this is kept for the rest of it: there may be a request under way.
const LAST_WORD: Duration = Duration::from_secs(1);

/// Where a worker is in its life.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Life {
    /// Ready, but the generation is not complete, and may never be: nobody is served.
    Waiting,
    Serving,
    /// Will drain at `from`, and accepts until then.
    Leaving {
        from: Instant,
        drain: Drain,
    },
    Draining(Drain),
    Over(LoopEnd),
}

/// How a worker drains.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Drain {
    deadline: Instant,
    /// Connections move to other workers; without, they are closed after their response.
    pub hand_over: bool,
}

impl Life {
    /// Whether new connections are taken.
    pub fn accepts(&self) -> bool {
        matches!(self, Life::Serving | Life::Leaving { .. })
    }

    /// Whether a connection may be used again after its response, here or elsewhere.
    pub fn keeps_connections(&self) -> bool {
        match self {
            Life::Waiting | Life::Serving => true,
            Life::Leaving { drain, .. } | Life::Draining(drain) => drain.hand_over,
            Life::Over(_) => false,
        }
    }

    /// Whether connections move to other workers, however busy those are.
    pub fn hands_over(&self) -> bool {
        matches!(self, Life::Draining(Drain { hand_over: true, .. }))
    }

    /// When time alone changes it.
    pub fn due(&self) -> Option<Instant> {
        match self {
            Life::Leaving { from, .. } => Some(*from),
            Life::Draining(drain) => Some(drain.deadline),
            Life::Waiting | Life::Serving | Life::Over(_) => None,
        }
    }

    pub fn ending(&self) -> LoopEnd {
        match self {
            Life::Over(ending) => *ending,
            _ => LoopEnd::Quit,
        }
    }
}

impl Loop {
    /// The generation is complete.
    pub(crate) fn serve(&mut self) {
        if self.life == Life::Waiting {
            self.life = Life::Serving;
            self.arm();
        }
    }

    /// Begins to drain, or shortens a drain.
    pub(crate) fn drain(&mut self, within: Duration, hand_over: bool, delay: Duration) {
        let drain = Drain { deadline: self.clock.now + delay + within, hand_over };
        self.shared.closing.store(!hand_over, Relaxed);
        if !hand_over {
            self.intake.listeners.iter().for_each(|listener| listener::accept_the_silent(listener.as_fd()));
        }
        info!(self.shared.log, "worker draining"; "within" => ?within, "hand_over" => hand_over);
        self.life = Life::Leaving { from: self.clock.now + delay, drain };
        self.drain_goes_on();
    }

    /// Told to end at once.
    pub(crate) fn quit(&mut self) {
        self.cut_requests("the worker quits");
        self.life = Life::Over(LoopEnd::Quit);
        if self.calls.under_way > 0 {
            self.steps.push_back(Step::Abandon(0));
        }
    }

    /// What time brings about in a drain.
    pub(crate) fn drain_goes_on(&mut self) {
        match self.life {
            Life::Leaving { from, drain } if from <= self.clock.now => {
                if !drain.hand_over {
                    self.empty_queues();
                }
                self.life = Life::Draining(drain);
                self.begin_handover(drain.hand_over);
                self.arm();
                self.intake.listeners.clear();
                if !drain.hand_over {
                    self.let_have_last_word();
                }
                self.look_at_resting(drain.hand_over);
            }
            _ => {}
        }
        if let Life::Draining(drain) = self.life
            && drain.deadline <= self.clock.now
        {
            warn!(self.shared.log, "drain cut short"; "connections" => self.connections.len(), "calls" => self.calls.under_way);
            for seat in 0..self.shared.boot.worker.threads {
                if self.shared.scoreboard.activity(self.shared.slot, seat).current().is_some() {
                    self.steps.push_back(Step::Explain(seat, "request abandoned"));
                }
            }
            self.cut_requests("graceful-timeout");
            self.life = Life::Over(LoopEnd::Drained { deadline: self.clock.now });
            self.tell(FromWorker::Drained);
            self.steps.push_back(Step::Abandon(0));
        }
    }

    /// Lets every connection that is between two requests go on: it will move or end.
    fn look_at_resting(&mut self, hand_over: bool) {
        let resting = self.connections.iter().filter(|connection| matches!(connection.phase, Phase::Head));
        let resting: Vec<Token> = resting.map(|connection| connection.token).collect();
        match hand_over {
            true => resting.into_iter().for_each(|token| self.shall_move(token)),
            false => resting.into_iter().for_each(|token| self.turn.go_on(token)),
        }
    }

    /// The site stops. A client that was answered just now, or has just come, may have sent its next request before it can know
    /// of that: its connection is kept until it has rested for [`LAST_WORD`]. One that has rested for longer ends at once.
    fn let_have_last_word(&mut self) {
        let worker = &self.shared.boot.worker;
        let (keep_alive, header) = (worker.keep_alive, worker.header_timeout);
        let rests = |connection: &Connection| matches!(connection.phase, Phase::Head) && connection.partial.is_none();
        let resting: Vec<(Token, Instant)> = self
            .connections
            .iter()
            .filter(|connection| rests(connection) && !self.turn.holds(connection.token))
            .filter_map(|connection| {
                let wait = if connection.requests == 0 { header } else { keep_alive };
                Some((connection.token, connection.deadline.due()?.checked_sub(wait)? + LAST_WORD))
            })
            .collect();
        for (token, due) in resting {
            self.end_rest_at(token, due);
        }
    }

    fn end_rest_at(&mut self, token: Token, due: Instant) {
        if let Some(connection) = self.connections.get(token) {
            self.timers.set(token, &mut connection.deadline, Some(due));
        }
    }

    /// The step to take if the worker's life is over.
    pub(crate) fn drained(&mut self) -> Option<Step> {
        match self.life {
            Life::Over(_) => Some(Step::End),
            Life::Draining(_) if self.turn.left() > 0 || self.calls.any_may_end() => None,
            Life::Draining(_) if self.connections.len() > self.calls.stuck.len() => None,
            Life::Draining(drain) => {
                // A sibling may have given something before it heard that all stop.
                if !drain.hand_over && self.empty_exchange() {
                    return None;
                }
                self.life = Life::Over(LoopEnd::Drained { deadline: drain.deadline });
                self.access_log.close();
                if drain.hand_over {
                    self.tell_handover();
                }
                self.tell(FromWorker::Drained);
                Some(if self.calls.under_way > 0 || self.held.is() { Step::Abandon(0) } else { Step::End })
            }
            Life::Waiting | Life::Serving | Life::Leaving { .. } => None,
        }
    }

    /// Of a connection that waits for (the rest of) a request: whether it has ended because the worker drains. One that may move does
    /// so soon.
    pub(crate) fn move_or_close_resting(&mut self, token: Token) -> bool {
        let Life::Draining(drain) = self.life else { return false };
        if drain.hand_over {
            self.shall_move(token);
            return false;
        }
        let now = self.clock.now;
        match self.connection(token) {
            // A request has begun: it is waited for, within the drain's bound.
            Some(Connection { partial: Some(_), .. }) => false,
            Some(connection) if connection.deadline.due().is_none_or(|due| due > now) => {
                let latest = now + LAST_WORD;
                let due = connection.deadline.due().map_or(latest, |due| due.min(latest));
                self.end_rest_at(token, due);
                self.watch(token, Interest::Read);
                true
            }
            _ => {
                self.after(token, Next::Close);
                true
            }
        }
    }
}
