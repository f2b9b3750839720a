//! Connections that move: this worker gives them to others, and takes theirs.

use std::{io, time::Duration};

use ostler_wire::meters::{MoveReason, grow};

use super::Loop;
use crate::{
    connection::{Interest, Partial, Phase},
    exchange::{Exchange, LARGEST, Moved, Taken, handover},
    life::Life,
    poll::timers::Token,
    transport::PeerState,
};

/// A connection moves to an idle sibling if its request would otherwise wait for about this long.
const WORTH_MOVING: Duration = Duration::from_micros(500);
/// Connections taken for one event of the exchange. More than those accepted for one event: their requests have waited already.
const TAKES: u32 = 64;

impl Loop {
    // Giving ---------------------------------------------------------------------------------------------------------

    /// Whether an idle sibling would serve a connection's request sooner than this worker.
    pub(super) fn better_elsewhere(&mut self) -> bool {
        let ahead = self.poll.certainly_left() + self.queue.len();
        let wait = match self.thread_free() {
            // Calls that wait for something else (a database) run at the same time, one on each free thread.
            true if self.threads.expects_waits() && ahead < self.threads.count_free() => Duration::ZERO,
            true => self.calls.usual() * ahead as u32,
            false => Duration::MAX,
        };
        match self.life {
            Life::Waiting | Life::Serving | Life::Leaving { .. } => wait > WORTH_MOVING && self.look_for_idle(),
            Life::Draining(drain) => drain.hand_over.is_some() && wait > WORTH_MOVING,
            Life::Over(_) => false,
        }
    }

    fn look_for_idle(&mut self) -> bool {
        if self.thread_free() && !self.handover.looks_again(self.clock.now) {
            return false;
        }
        let idle = self.shared.has_idle_sibling();
        if !idle {
            self.handover.found_none(self.clock.now);
        }
        idle
    }

    /// Gives a packet of idle connections that are to move; `false` if there is nothing to do.
    pub(super) fn give_idle(&mut self) -> bool {
        let Some(exchange) = &self.exchange else { return false };
        let moved = self.handover.give_idle(exchange, &mut self.connections, &self.poll, &self.shared, self.clock.now);
        let any = moved.is_some();
        moved.into_iter().flatten().for_each(|token| self.close(token));
        any
    }

    /// The exchange may have room for idle connections again.
    pub(super) fn room_again(&mut self) {
        if let Some(exchange) = &self.exchange {
            self.handover.room_again(exchange, &self.poll);
        }
    }

    /// Moves a connection whose next request has come but was not parsed yet; `false` if it has to stay.
    pub(super) fn give(&mut self, token: Token) -> bool {
        let Some(connection) = self.connections.peek(token) else { return true };
        let Some(exchange) = self.exchange.as_ref().filter(|_| !connection.private) else { return false };
        let given = handover::give_waiting(
            connection,
            exchange,
            self.life.hands_over().unwrap_or(MoveReason::Busy),
            &self.shared,
        );
        if given {
            self.close(token);
        }
        given
    }

    /// Moves the oldest waiting request, if it is small and complete, to an idle sibling.
    pub(super) fn give_ready(&mut self, token: Token) -> bool {
        if self.thread_free() || !self.shared.has_idle_sibling() {
            return false;
        }
        let Some(connection) = self.connections.get(token) else { return false };
        let Phase::Ready(work) = &connection.phase else { return false };
        // Only a request that its bytes hold completely can move: not one with a body in a file, or announced with 100-continue.
        let incoming = &work.incoming;
        if incoming.filled > LARGEST || !incoming.whole {
            return false;
        }
        let Phase::Ready(work) = std::mem::replace(&mut connection.phase, Phase::Head) else { return false };
        let bytes = work.incoming.bytes[work.incoming.prefix..work.incoming.filled].to_vec();
        let behind = connection.partial.replace(Box::new(Partial { bytes, ..Partial::default() }));
        if self.give(token) {
            self.queue.take_oldest();
            self.pool.keep(work);
            return true;
        }
        if let Some(connection) = self.connections.get(token) {
            connection.partial = behind;
            connection.phase = Phase::Ready(work);
        }
        false
    }

    // Taking ---------------------------------------------------------------------------------------------------------

    /// Takes a connection whose request waits, and serves it.
    pub(super) fn take_moved(&mut self) {
        if self.life.accepts() && self.thread_free() {
            let taken = self.take_one_moved();
            self.repeat_event(taken, TAKES);
        }
    }

    /// Takes one packet of idle connections, then leaves the next one to siblings.
    pub(super) fn take_idle(&mut self) {
        if self.life.accepts() && self.thread_free() && self.take_some_idle() {
            self.let_siblings_take();
        }
    }

    /// `false` if there was none.
    pub(super) fn take_one_moved(&mut self) -> bool {
        let Some(place) = self.find_place() else { return false };
        let taken = self.take(|exchange, scratch| exchange.waiting.take(scratch));
        if taken {
            self.evict(place);
        }
        taken
    }

    /// `false` if there were none.
    fn take_some_idle(&mut self) -> bool {
        self.take(|exchange, scratch| exchange.idle.take(scratch))
    }

    /// Takes all connections from both lanes; `false` if there were none.
    pub(super) fn empty_exchange(&mut self) -> bool {
        let mut any = false;
        while self.take(|exchange, scratch| exchange.waiting.take(scratch)) || self.take_some_idle() {
            any = true;
        }
        any
    }

    fn take(&mut self, from: impl Fn(&Exchange, &mut [u8]) -> io::Result<Option<Taken>>) -> bool {
        let Some(exchange) = &self.exchange else { return false };
        let taken = from(exchange, &mut self.scratch);
        let moved = self.handover.received(taken, &self.shared, self.clock.now);
        let any = moved.is_some();
        moved.into_iter().flatten().for_each(|moved| self.adopt(moved));
        any
    }

    fn adopt(&mut self, moved: Moved) {
        let listeners = &self.shared.boot.listeners;
        let listener = listeners.iter().position(|listener| listener.name == moved.listener).unwrap_or(0);
        let token = self.admit(moved.transport, moved.address, listener as u16);
        grow(&self.shared.slot().taken, 1);
        if let Some(meters) = self.shared.meters() {
            grow(&meters.taken[moved.why as usize], 1);
        }
        let Some(connection) = self.connections.get(token) else { return };
        connection.requests = 1;
        connection.become_moved(&moved.listener, moved.proxy_expected);
        if moved.bytes.is_empty() && !connection.transport.has_more() {
            // Epoll reports bytes that have come meanwhile, as soon as the socket is watched.
            connection.readable = false;
            return match self.connections.peek(token).is_some_and(|connection| self.still_admits(connection)) {
                true => self.wait_for_request(token),
                false => self.ended(token),
            };
        }
        if !moved.bytes.is_empty() {
            connection.keep(&moved.bytes);
        }
        if connection.transport.peer() == PeerState::Gone {
            return self.close(token);
        }
        self.watch(token, Interest::Read);
        self.turn.go_on(token);
    }
}
