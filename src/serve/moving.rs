//! Drains and hand-overs: a connection moves to another worker rather than wait or be closed.

use std::{
    os::fd::AsFd,
    sync::atomic::Ordering::Relaxed,
    time::{Duration, Instant},
};

use ostler_wire::{FromWorker, scoreboard::State};
use slog::{debug, info, warn};

use crate::{
    Ending,
    accepting::TAKES,
    connection::{Connection, Interest, Next, Partial, Phase},
    event_loop::{Loop, Step, find},
    exchange::{self, Moved},
    socket::{self, PeerState},
    timers::Token,
};

/// When the site stops, a connection that has rested for less than this is kept for the rest of it: there may be a request under way.
const LAST_WORD: Duration = Duration::from_secs(1);
/// A connection moves if its request would otherwise wait about so long while a sibling is idle.
const WORTH_MOVING: Duration = Duration::from_micros(500);
/// A worker that has no idle sibling, but a thread free, looks again so much later.
const BETWEEN_LOOKS: Duration = Duration::from_micros(100);

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
    Over(Ending),
}

/// How a worker drains.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Drain {
    deadline: Instant,
    /// Connections move to other workers; without, they are closed after their response.
    hand_over: bool,
    /// The exchange was full: connections still wait to move.
    full: bool,
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

    /// Whether something is to be tried again soon.
    pub fn retries(&self) -> bool {
        matches!(self, Life::Draining(Drain { full: true, .. }))
    }

    /// When time alone changes it.
    pub fn due(&self) -> Option<Instant> {
        match self {
            Life::Leaving { from, .. } => Some(*from),
            Life::Draining(drain) => Some(drain.deadline),
            Life::Waiting | Life::Serving | Life::Over(_) => None,
        }
    }

    pub fn ending(&self) -> Ending {
        match self {
            Life::Over(ending) => *ending,
            _ => Ending::Quit,
        }
    }
}

impl Loop {
    // Draining -------------------------------------------------------------------------------------------------------

    /// The generation is complete.
    pub(crate) fn serve(&mut self) {
        if self.life == Life::Waiting {
            self.life = Life::Serving;
            self.arm();
        }
    }

    /// Begins to drain, or shortens a drain.
    pub(crate) fn drain(&mut self, within: Duration, hand_over: bool, delay: Duration) {
        let drain = Drain { deadline: self.now + delay + within, hand_over, full: false };
        self.shared.closing.store(!hand_over, Relaxed);
        if !hand_over {
            self.listeners.iter().for_each(|listener| socket::accept_the_silent(listener.as_fd()));
        }
        info!(self.shared.log, "worker draining"; "within" => ?within, "hand_over" => hand_over);
        self.life = Life::Leaving { from: self.now + delay, drain };
        self.drain_goes_on();
    }

    /// Told to end at once.
    pub(crate) fn quit(&mut self) {
        self.cut_requests("the worker quits");
        self.life = Life::Over(Ending::Quit);
        if self.calls > 0 {
            self.steps.push_back(Step::Abandon(0));
        }
    }

    /// What time brings about in a drain.
    pub(crate) fn drain_goes_on(&mut self) {
        match self.life {
            Life::Leaving { from, drain } if from <= self.now => {
                if !drain.hand_over {
                    self.empty_queues();
                }
                self.life = Life::Draining(drain);
                self.arm();
                self.listeners.clear();
                if !drain.hand_over {
                    self.let_have_last_word();
                }
                self.look_at_resting();
            }
            Life::Draining(drain) if drain.full => self.look_at_resting(),
            _ => {}
        }
        if let Life::Draining(drain) = self.life
            && drain.deadline <= self.now
        {
            warn!(self.shared.log, "drain cut short"; "connections" => self.connections.len(), "calls" => self.calls);
            for seat in 0..self.shared.boot.worker.threads {
                if self.shared.scoreboard.activity(self.shared.slot, seat).current().is_some() {
                    self.steps.push_back(Step::Explain(seat, "request abandoned"));
                }
            }
            self.cut_requests("graceful-timeout");
            self.life = Life::Over(Ending::Drained { deadline: self.now });
            self.tell(FromWorker::Drained);
            self.steps.push_back(Step::Abandon(0));
        }
    }

    /// Lets every connection that is between two requests go on: it will move or end.
    fn look_at_resting(&mut self) {
        if let Life::Draining(drain) = &mut self.life {
            drain.full = false;
        }
        let resting = self.connections.iter().filter(|(_, connection)| matches!(connection.phase, Phase::Head));
        self.again.extend(resting.map(|(_, connection)| connection.token).collect::<Vec<_>>());
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
            .filter(|(_, connection)| rests(connection) && !self.again.contains(&connection.token))
            .filter_map(|(_, connection)| {
                let wait = if connection.requests == 0 { header } else { keep_alive };
                Some((connection.token, connection.deadline.due()?.checked_sub(wait)? + LAST_WORD))
            })
            .collect();
        for (token, due) in resting {
            self.end_rest_at(token, due);
        }
    }

    fn end_rest_at(&mut self, token: Token, due: Instant) {
        if let Some(connection) = find(&mut self.connections, token) {
            self.timers.set(token, &mut connection.deadline, Some(due));
        }
    }

    /// The step to take if the worker's life is over.
    pub(crate) fn drained(&mut self) -> Option<Step> {
        match self.life {
            Life::Over(_) => Some(Step::End),
            Life::Draining(_) if !self.again.is_empty() || self.calls > self.stuck.len() as u16 => None,
            Life::Draining(_) if self.connections.len() > self.stuck.len() => None,
            Life::Draining(drain) => {
                self.life = Life::Over(Ending::Drained { deadline: drain.deadline });
                self.access_log.close();
                self.tell(FromWorker::Drained);
                Some(if self.calls > 0 || self.held.is() { Step::Abandon(0) } else { Step::End })
            }
            Life::Waiting | Life::Serving | Life::Leaving { .. } => None,
        }
    }

    /// Of a connection that waits for (the rest of) a request: whether it has moved or ended because the worker drains.
    pub(crate) fn move_or_close_resting(&mut self, token: Token) -> bool {
        let Life::Draining(drain) = self.life else { return false };
        if drain.hand_over {
            return self.give(token);
        }
        let now = self.now;
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

    // The exchange ---------------------------------------------------------------------------------------------------

    /// Whether a connection had better be served by a sibling: its request would wait here, and there is an idle one.
    pub(crate) fn better_elsewhere(&mut self) -> bool {
        let ahead = self.events_left() + self.ready.len();
        let wait = match self.thread_free() {
            // Calls that wait for others do not wait for each other.
            true if self.threads.expects_waits() && ahead < self.threads.count_free() => Duration::ZERO,
            true => self.service * ahead as u32,
            false => Duration::MAX,
        };
        match self.life {
            Life::Waiting | Life::Serving | Life::Leaving { .. } => wait > WORTH_MOVING && self.look_for_idle(),
            Life::Draining(drain) => drain.hand_over,
            Life::Over(_) => false,
        }
    }

    /// To look is to read a line of memory for each slot: too much for each request of a busy worker.
    fn look_for_idle(&mut self) -> bool {
        if self.thread_free() && self.now < self.look_again {
            return false;
        }
        let idle = self.sibling_idle();
        if !idle {
            self.look_again = self.now + BETWEEN_LOOKS;
        }
        idle
    }

    fn sibling_idle(&self) -> bool {
        let own = self.shared.slot;
        let board = &self.shared.scoreboard;
        (0..board.slots()).any(|slot| slot != own && board.slot(slot).state() == State::Idle)
    }

    /// Puts a connection that is between two requests on the exchange; `false` if it has to stay.
    pub(crate) fn give(&mut self, token: Token) -> bool {
        let Some(connection) = find(&mut self.connections, token) else { return true };
        let bytes = connection.partial.as_ref().map_or(&[][..], |partial| &partial.bytes);
        if bytes.len() > exchange::LARGEST || connection.half_closed || connection.proxy_expected {
            return false;
        }
        let listener = &self.shared.boot.listeners[usize::from(connection.listener)].name;
        let address = connection.address.map(|address| address.to_string()).unwrap_or_default();
        match self.exchange.give(connection.socket.as_fd(), listener, &address, bytes) {
            Ok(true) => {
                let slot = self.slot();
                slot.given.store(slot.given.load(Relaxed).wrapping_add(1), Relaxed);
                self.close(token);
                true
            }
            Ok(false) => {
                if let Life::Draining(drain) = &mut self.life {
                    drain.full = true;
                }
                false
            }
            Err(error) => {
                debug!(self.shared.log, "a connection could not move"; "error" => %error);
                false
            }
        }
    }

    /// Moves the oldest waiting request, if it is small and complete, to an idle sibling.
    pub(crate) fn give_ready(&mut self, token: Token) -> bool {
        if self.thread_free() || !self.sibling_idle() {
            return false;
        }
        let Some(connection) = self.connection(token) else { return false };
        let Phase::Ready(work) = &connection.phase else { return false };
        // Only what can be read again from its bytes: a body in a file, or one announced with 100-continue, stays.
        let incoming = &work.incoming;
        if incoming.filled > exchange::LARGEST || !incoming.whole {
            return false;
        }
        let Phase::Ready(work) = std::mem::replace(&mut connection.phase, Phase::Head) else { return false };
        let bytes = work.incoming.bytes[..work.incoming.filled].to_vec();
        let behind = connection.partial.replace(Box::new(Partial { bytes, ..Partial::default() }));
        if self.give(token) {
            self.ready.pop_front();
            self.retire(work);
            return true;
        }
        if let Some(connection) = self.connection(token) {
            connection.partial = behind;
            connection.phase = Phase::Ready(work);
        }
        false
    }

    /// Takes a connection from the exchange and goes on with it.
    pub(crate) fn take_moved(&mut self) {
        if self.life.accepts() && self.thread_free() {
            let taken = self.take_one_moved();
            self.brought(taken, TAKES);
        }
    }

    /// `false` if there was none.
    pub(crate) fn take_one_moved(&mut self) -> bool {
        let mut scratch = std::mem::take(&mut self.scratch);
        let taken = self.exchange.take(&mut scratch);
        self.scratch = scratch;
        match taken {
            Ok(Some(moved)) => {
                self.adopt(moved);
                true
            }
            Ok(None) => false,
            Err(error) => {
                warn!(self.shared.log, "a connection was lost on the exchange"; "error" => %error);
                false
            }
        }
    }

    fn adopt(&mut self, moved: Moved) {
        let listeners = &self.shared.boot.listeners;
        let listener = listeners.iter().position(|listener| listener.name == moved.listener).unwrap_or(0);
        let token = self.admit(moved.socket, moved.address, listener as u16);
        let slot = self.slot();
        slot.taken.store(slot.taken.load(Relaxed).wrapping_add(1), Relaxed);
        let Some(connection) = self.connection(token) else { return };
        connection.requests = 1;
        // Its first bytes, and with them its PROXY header, were read by the worker that it comes from.
        connection.proxy_expected = false;
        if !moved.bytes.is_empty() {
            connection.partial = Some(Box::new(Partial { bytes: moved.bytes, ..Partial::default() }));
        }
        if socket::peer_closed(connection.socket.as_fd()) == PeerState::Gone {
            return self.close(token);
        }
        self.watch(token, Interest::Read);
        self.again.push_back(token);
    }
}
