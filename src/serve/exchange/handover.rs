//! Hand-overs: a connection moves to another worker rather than wait or be closed. A request that would wait moves to an idle
//! sibling. The idle connections of a worker that drains move many at a time; the worker serves each until it has moved.

use std::{
    collections::VecDeque,
    os::fd::BorrowedFd,
    sync::atomic::Ordering::Relaxed,
    time::{Duration, Instant},
};

use nix::sys::epoll::EpollFlags;
use ostler_wire::scoreboard::WorkerState;
use slog::{debug, error, info, warn};

use crate::{
    connection::{Connection, Interest, Partial, Phase},
    event_loop::{Loop, log_limits::Rarely, poll::Source, timers::Token},
    exchange::{self, GiveOutcome, Moved, Packet, Taken},
    intake::TAKES,
    life::Life,
    transport::PeerState,
};

/// A connection moves to an idle sibling if its request would otherwise wait for about this long.
const WORTH_MOVING: Duration = Duration::from_micros(500);
/// The shortest time between two looks for an idle sibling.
const BETWEEN_LOOKS: Duration = Duration::from_micros(100);
/// When to try a full exchange again, where the kernel does not report that it has room.
const LATER: Duration = Duration::from_millis(5);
/// When to try it again after an error.
const MUCH_LATER: Duration = Duration::from_millis(100);

/// How long a draining worker waits before it gives connections away. If all workers of a generation drain, each one knows that it
/// drains by then, and takes no connections that it would have to give away again.
const TOGETHER: Duration = Duration::from_millis(3);

/// The connections that are to move, and the state of the lane for them.
pub(crate) struct Handover {
    /// Idle connections that are to move.
    leaving: VecDeque<Token>,
    room: Room,
    /// A packet was given in this turn of the loop. The next one follows in the next turn.
    gave: bool,
    /// An error was logged.
    complained: bool,
    /// Limits the log lines about lost connections: an application can write anything to the exchange, as often as it likes.
    lost: Rarely,
    /// The most connections in one packet, given or taken.
    pub at_once: usize,
    /// The counts of moved connections and of sends when the drain began.
    before: (u64, u64),
    /// When to look at siblings again, if none was idle.
    look_again: Instant,
}

/// Whether the exchange's lane for idle connections has room.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Room {
    Free,
    /// It becomes writable when it has.
    Full,
    /// Full, and the kernel does not report when it has room: try again then.
    Ask(Instant),
}

impl Handover {
    /// For a worker with at most that many connections.
    pub fn new(most_connections: usize, now: Instant) -> Handover {
        let at_once = (most_connections / 8).clamp(1, exchange::MOST);
        Handover {
            leaving: VecDeque::new(),
            room: Room::Free,
            gave: false,
            complained: false,
            lost: Rarely::default(),
            at_once,
            before: (0, 0),
            look_again: now,
        }
    }

    /// A new turn of the loop begins.
    pub fn turn(&mut self) {
        self.gave = false;
    }

    /// When the next packet is to be given; a time in the past means now.
    pub fn due(&self, now: Instant) -> Option<Instant> {
        match self.room {
            _ if self.leaving.is_empty() => None,
            Room::Free => Some(now),
            Room::Full => None,
            Room::Ask(at) => Some(at),
        }
    }
}

impl Connection {
    /// Whether the connection can move, and its bytes fit a packet.
    fn may_move(&self) -> bool {
        matches!(self.phase, Phase::Head)
            && !self.half_closed
            && self.bytes().len() <= exchange::LARGEST
            && self.transport.state().is_some()
    }

    fn bytes(&self) -> &[u8] {
        self.partial.as_ref().map_or(&[], |partial| &partial.bytes)
    }

    fn pack(&self, packet: &mut Packet) -> bool {
        let Some(state) = self.transport.state() else { return false };
        packet.add(self.listener, &state, self.address, self.proxy_expected, self.bytes())
    }
}

impl Loop {
    // Giving ---------------------------------------------------------------------------------------------------------

    /// Whether an idle sibling would serve a connection's request sooner than this worker.
    pub(crate) fn better_elsewhere(&mut self) -> bool {
        let ahead = self.poll.left() + self.ready.len();
        let wait = match self.thread_free() {
            // Calls that wait for something else (a database) run at the same time, one on each free thread.
            true if self.threads.expects_waits() && ahead < self.threads.count_free() => Duration::ZERO,
            true => self.calls.usual * ahead as u32,
            false => Duration::MAX,
        };
        match self.life {
            Life::Waiting | Life::Serving | Life::Leaving { .. } => wait > WORTH_MOVING && self.look_for_idle(),
            Life::Draining(drain) => drain.hand_over && wait > WORTH_MOVING,
            Life::Over(_) => false,
        }
    }

    /// Looks at most once in [`BETWEEN_LOOKS`]: each look reads a cache line per slot, too much for each request of a busy worker.
    fn look_for_idle(&mut self) -> bool {
        if self.thread_free() && self.clock.now < self.handover.look_again {
            return false;
        }
        let idle = self.sibling_idle();
        if !idle {
            self.handover.look_again = self.clock.now + BETWEEN_LOOKS;
        }
        idle
    }

    fn sibling_idle(&self) -> bool {
        self.shared.scoreboard.siblings(self.shared.slot).any(|slot| slot.state() == WorkerState::Idle)
    }

    /// A drain begins. One without a hand-over may follow one with a hand-over: then no worker is left to take the connections.
    pub(crate) fn begin_handover(&mut self, hand_over: bool) {
        if !hand_over {
            return self.handover.leaving.clear();
        }
        self.handover.room = Room::Ask(self.clock.now + TOGETHER);
        self.handover.before = self.given_and_sends();
    }

    /// Logs how many connections have moved, after a drain.
    pub(crate) fn log_handover(&self) {
        let ((given, sends), before) = (self.given_and_sends(), self.handover.before);
        info!(self.shared.log, "connections handed over"; "connections" => given.wrapping_sub(before.0),
            "sends" => sends.wrapping_sub(before.1));
    }

    fn given_and_sends(&self) -> (u64, u64) {
        (self.slot().given.load(Relaxed), self.slot().sends.load(Relaxed))
    }

    /// Queues an idle connection for a move. It is served here until it moves.
    pub(crate) fn queue_to_move(&mut self, token: Token) {
        if let Some(connection) = self.connections.get(token)
            && !std::mem::replace(&mut connection.leaving, true)
        {
            self.handover.leaving.push_back(token);
        }
    }

    /// Gives one packet of idle connections in each turn of the loop, while there is room; `false` if there is nothing to do.
    pub(crate) fn give_idle(&mut self) -> bool {
        if self.handover.gave || self.handover.due(self.clock.now).is_none_or(|due| due > self.clock.now) {
            return false;
        }
        self.handover.gave = true;
        let (packet, tokens) = self.pack_idle();
        let socket = |token: &Token| self.connections.peek(*token).map(|connection| connection.transport.descriptor());
        let given = match tokens.is_empty() {
            true => Ok(GiveOutcome::Yes),
            false => {
                self.count_send();
                self.exchange.idle.give(&packet, &tokens.iter().filter_map(socket).collect::<Vec<BorrowedFd>>())
            }
        };
        self.handover.room = match given {
            Ok(GiveOutcome::Yes) => Room::Free,
            Ok(GiveOutcome::Full) => Room::Full,
            Ok(GiveOutcome::TooMany) => Room::Ask(self.clock.now + LATER),
            Err(error) => {
                if !std::mem::replace(&mut self.handover.complained, true) {
                    warn!(self.shared.log, "connections could not move"; "error" => %error);
                }
                Room::Ask(self.clock.now + MUCH_LATER)
            }
        };
        match self.handover.room {
            Room::Free => self.have_moved(&tokens),
            Room::Full | Room::Ask(_) => tokens.iter().rev().for_each(|token| self.handover.leaving.push_front(*token)),
        }
        if self.handover.room == Room::Full {
            let giving = self.exchange.idle.giving();
            if let Err(error) = self.poll.watch(giving, Source::Room, EpollFlags::EPOLLOUT) {
                error!(self.shared.log, "could not watch the exchange"; "error" => %error);
                self.handover.room = Room::Ask(self.clock.now + LATER);
            }
        }
        true
    }

    /// The next connections that can move.
    fn pack_idle(&mut self) -> (Packet, Vec<Token>) {
        let (mut packet, mut tokens) = (self.packet(), Vec::with_capacity(self.handover.at_once));
        while tokens.len() < self.handover.at_once
            && let Some(token) = self.handover.leaving.pop_front()
        {
            let Some(connection) = self.connections.get(token) else { continue };
            if !connection.may_move() {
                // It has a request now. It is queued again when it is idle again.
                connection.leaving = false;
            } else if connection.pack(&mut packet) {
                tokens.push(token);
            } else {
                self.handover.leaving.push_front(token);
                break;
            }
        }
        (packet, tokens)
    }

    fn packet(&self) -> Packet {
        Packet::new(self.shared.boot.listeners.iter().map(|listener| &listener.name[..]))
    }

    /// The exchange has room again.
    pub(crate) fn room_again(&mut self) {
        self.handover.room = Room::Free;
        let _ = self.poll.forget(self.exchange.idle.giving());
    }

    fn have_moved(&mut self, tokens: &[Token]) {
        let slot = self.slot();
        slot.given.store(slot.given.load(Relaxed).wrapping_add(tokens.len() as u64), Relaxed);
        for token in tokens {
            self.close(*token);
        }
    }

    fn count_send(&self) {
        let slot = self.slot();
        slot.sends.store(slot.sends.load(Relaxed).wrapping_add(1), Relaxed);
    }

    /// Moves a connection whose next request has come but was not parsed yet; `false` if it has to stay.
    pub(crate) fn give(&mut self, token: Token) -> bool {
        let mut packet = self.packet();
        let Some(connection) = self.connections.get(token) else { return true };
        if !connection.may_move() || !connection.pack(&mut packet) {
            return false;
        }
        let transport = connection.transport.clone();
        self.count_send();
        match self.exchange.waiting.give(&packet, &[transport.descriptor()]) {
            Ok(GiveOutcome::Yes) => {
                self.have_moved(&[token]);
                true
            }
            Ok(GiveOutcome::Full | GiveOutcome::TooMany) => false,
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
        // Only a request that its bytes hold completely can move: not one with a body in a file, or announced with 100-continue.
        let incoming = &work.incoming;
        if incoming.filled > exchange::LARGEST || !incoming.whole {
            return false;
        }
        let Phase::Ready(work) = std::mem::replace(&mut connection.phase, Phase::Head) else { return false };
        let bytes = work.incoming.bytes[..work.incoming.filled].to_vec();
        let behind = connection.partial.replace(Box::new(Partial { bytes, ..Partial::default() }));
        if self.give(token) {
            self.ready.pop_front();
            self.pool.keep(work);
            return true;
        }
        if let Some(connection) = self.connection(token) {
            connection.partial = behind;
            connection.phase = Phase::Ready(work);
        }
        false
    }

    // Taking ---------------------------------------------------------------------------------------------------------

    /// Takes a connection whose request waits, and serves it.
    pub(crate) fn take_moved(&mut self) {
        if self.life.accepts() && self.thread_free() {
            let taken = self.take_one_moved();
            self.repeat_event(taken, TAKES);
        }
    }

    /// Takes one packet of idle connections, then leaves the next one to siblings.
    pub(crate) fn take_idle(&mut self) {
        if self.life.accepts() && self.thread_free() && self.take_some_idle() {
            self.let_siblings_take();
        }
    }

    /// `false` if there was none.
    pub(crate) fn take_one_moved(&mut self) -> bool {
        let Some(place) = self.find_place() else { return false };
        let taken = self.take(|exchange, scratch| exchange.waiting.take(scratch));
        if taken {
            self.evict(place);
        }
        taken
    }

    /// `false` if there were none.
    pub(crate) fn take_some_idle(&mut self) -> bool {
        self.take(|exchange, scratch| exchange.idle.take(scratch))
    }

    /// Takes all connections from both lanes; `false` if there were none.
    pub(crate) fn empty_exchange(&mut self) -> bool {
        let mut any = false;
        while self.take(|exchange, scratch| exchange.waiting.take(scratch)) || self.take_some_idle() {
            any = true;
        }
        any
    }

    fn take(&mut self, from: impl Fn(&exchange::Exchange, &mut [u8]) -> std::io::Result<Option<Taken>>) -> bool {
        let mut scratch = std::mem::take(&mut self.scratch);
        let taken = from(&self.exchange, &mut scratch);
        self.scratch = scratch;
        match taken {
            Ok(Some(Taken { moved, lost })) => {
                if lost > 0 && self.handover.lost.is_due(self.clock.now) {
                    error!(self.shared.log, "connections were lost on the exchange"; "connections" => lost,
                        "error" => "this process may not open more files");
                }
                moved.into_iter().for_each(|moved| self.adopt(moved));
                true
            }
            Ok(None) => false,
            Err(error) => {
                if self.handover.lost.is_due(self.clock.now) {
                    error!(self.shared.log, "connections were lost on the exchange"; "error" => %error);
                }
                false
            }
        }
    }

    fn adopt(&mut self, moved: Moved) {
        let listeners = &self.shared.boot.listeners;
        let listener = listeners.iter().position(|listener| listener.name == moved.listener).unwrap_or(0);
        let token = self.admit(moved.transport, moved.address, listener as u16);
        let slot = self.slot();
        slot.taken.store(slot.taken.load(Relaxed).wrapping_add(1), Relaxed);
        let Some(connection) = self.connection(token) else { return };
        connection.requests = 1;
        // The worker that gave it knows whether its PROXY header has come.
        connection.proxy_expected &= moved.proxy_expected;
        if moved.bytes.is_empty() {
            // Epoll reports bytes that have come meanwhile, as soon as the socket is watched.
            connection.readable = false;
            return self.wait_for_request(token);
        }
        connection.partial = Some(Box::new(Partial { bytes: moved.bytes, ..Partial::default() }));
        if connection.transport.peer() == PeerState::Gone {
            return self.close(token);
        }
        self.watch(token, Interest::Read);
        self.turn.go_on(token);
    }
}
