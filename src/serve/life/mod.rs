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

/// When the site stops, each connection is kept until it has been idle for this long: the client may just have sent a request.
const LAST_REQUEST: Duration = Duration::from_secs(1);

/// Where a worker is in its life.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Life {
    /// Ready, but its generation is not complete yet, and may never be: it serves nobody.
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

    /// When the worker's life goes on without an event.
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
            self.intake.listeners.iter().for_each(|listener| listener::stop_deferring(listener.as_fd()));
        }
        info!(self.shared.log, "worker draining"; "within" => ?within, "hand_over" => hand_over);
        self.life = Life::Leaving { from: self.clock.now + delay, drain };
        self.advance_drain();
    }

    /// Ends at once.
    pub(crate) fn quit(&mut self) {
        self.cut_requests("the worker quits");
        self.life = Life::Over(LoopEnd::Quit);
        if self.calls.under_way > 0 {
            self.steps.push_back(Step::Abandon(0));
        }
    }

    /// Begins the drain when its delay is over, and ends it when its bound is over.
    pub(crate) fn advance_drain(&mut self) {
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
                    self.close_idle_later();
                }
                self.move_or_close_all_idle(drain.hand_over);
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

    /// Moves or closes every connection that is between two requests.
    fn move_or_close_all_idle(&mut self, hand_over: bool) {
        let idle = self.connections.iter().filter(|connection| matches!(connection.phase, Phase::Head));
        let idle: Vec<Token> = idle.map(|connection| connection.token).collect();
        match hand_over {
            true => idle.into_iter().for_each(|token| self.queue_to_move(token)),
            false => idle.into_iter().for_each(|token| self.turn.go_on(token)),
        }
    }

    /// The site stops. A client that has just connected, or has just had an answer, may already have sent its next request. Its connection
    /// is kept until it has been idle for [`LAST_REQUEST`]. One that has been idle for longer is closed at once.
    fn close_idle_later(&mut self) {
        let worker = &self.shared.boot.worker;
        let (keep_alive, header) = (worker.keep_alive, worker.header_timeout);
        let is_idle = |connection: &Connection| matches!(connection.phase, Phase::Head) && connection.partial.is_none();
        let idle: Vec<(Token, Instant)> = self
            .connections
            .iter()
            .filter(|connection| is_idle(connection) && !self.turn.holds(connection.token))
            .filter_map(|connection| {
                let wait = if connection.requests == 0 { header } else { keep_alive };
                Some((connection.token, connection.deadline.due()?.checked_sub(wait)? + LAST_REQUEST))
            })
            .collect();
        for (token, due) in idle {
            self.close_idle_at(token, due);
        }
    }

    fn close_idle_at(&mut self, token: Token, due: Instant) {
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
                // A sibling that did not know yet that the site stops may have put connections there.
                if !drain.hand_over && self.empty_exchange() {
                    return None;
                }
                self.life = Life::Over(LoopEnd::Drained { deadline: drain.deadline });
                self.access_log.close();
                if drain.hand_over {
                    self.log_handover();
                }
                self.tell(FromWorker::Drained);
                Some(if self.calls.under_way > 0 || self.held.is() { Step::Abandon(0) } else { Step::End })
            }
            Life::Waiting | Life::Serving | Life::Leaving { .. } => None,
        }
    }

    /// Deals with a connection that waits for (the rest of) a request while the worker drains: it is queued to move, or closed. Returns
    /// whether it needs nothing else.
    pub(crate) fn move_or_close_idle(&mut self, token: Token) -> bool {
        let Life::Draining(drain) = self.life else { return false };
        if drain.hand_over {
            self.queue_to_move(token);
            return false;
        }
        let now = self.clock.now;
        match self.connection(token) {
            // A request has begun: the worker waits for the rest of it, within the drain's bound.
            Some(Connection { partial: Some(_), .. }) => false,
            Some(connection) if connection.deadline.due().is_none_or(|due| due > now) => {
                let latest = now + LAST_REQUEST;
                let due = connection.deadline.due().map_or(latest, |due| due.min(latest));
                self.close_idle_at(token, due);
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
