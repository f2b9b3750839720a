//! A worker's life: it waits for its generation, serves, drains, and ends. The loop takes the steps (see `event_loop::life`).

pub(crate) mod recycle;

use std::time::Duration;

use ostler_wire::meters::MoveReason;

use crate::moment::Moment;

/// When the site stops, each connection is kept until it has been idle for this long: the client may just have sent a request.
pub(crate) const LAST_REQUEST: Duration = Duration::from_secs(1);

/// How a worker's loop came to its end. The process exits next: after `atexit` and the like, within what is left of the drain.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LoopEnd {
    /// The drain is over, and the master (if there is one still) knows: all requests have ended, or were cut at the drain's bound.
    Drained {
        /// Of the drain. It bounds the interpreter's exit.
        deadline: Moment,
    },
    /// The master has told it to quit: at once. (A worker whose master is gone drains.)
    Quit,
}

/// How long a worker still accepts after its listeners have begun to turn newcomers away: for those whose handshake has begun.
pub(crate) const HANDSHAKE: Duration = Duration::from_millis(100);

/// Where a worker is in its life.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Life {
    /// Ready, but its generation is not complete yet, and may never be: it serves nobody.
    Waiting,
    Serving,
    /// Will drain at `from`, and accepts until then.
    Leaving {
        from: Moment,
        drain: Drain,
    },
    Draining(Drain),
    Over(LoopEnd),
}

/// How a worker drains.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Drain {
    deadline: Moment,
    /// Why connections move to other workers; without, they are closed after their response.
    pub hand_over: Option<MoveReason>,
}

impl Drain {
    pub fn new(deadline: Moment, hand_over: Option<MoveReason>) -> Drain {
        Drain { deadline, hand_over }
    }

    /// Whether its bound is over.
    pub fn is_over(&self, now: Moment) -> bool {
        self.deadline <= now
    }

    /// How the loop ends when all requests have ended within the bound.
    pub fn ending(&self) -> LoopEnd {
        LoopEnd::Drained { deadline: self.deadline }
    }
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
            Life::Leaving { drain, .. } | Life::Draining(drain) => drain.hand_over.is_some(),
            Life::Over(_) => false,
        }
    }

    /// Why connections move to other workers, however busy those are; if they do.
    pub fn hands_over(&self) -> Option<MoveReason> {
        match self {
            Life::Draining(drain) => drain.hand_over,
            _ => None,
        }
    }

    /// When the worker's life goes on without an event.
    pub fn due(&self) -> Option<Moment> {
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
