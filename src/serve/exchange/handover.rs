//! Hand-overs: a connection moves to another worker rather than wait or be closed. A request that would wait moves to an idle
//! sibling. The idle connections of a worker that drains move many at a time; the worker serves each until it has moved.

use std::{collections::VecDeque, io, os::fd::BorrowedFd, sync::atomic::Ordering::Relaxed, time::Duration};

use nix::sys::epoll::EpollFlags;
use ostler_wire::meters::{MoveReason, grow};
use slog::{debug, error, info, warn};

use super::{Exchange, GiveOutcome, LARGEST, MOST, Moved, Packet, Taken};
use crate::{
    connection::{Connection, Opening, Phase, connections::Connections},
    log_limits::Rarely,
    moment::Moment,
    poll::{EventSource, Poll, timers::Token},
    shared::Shared,
};

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
    lane: LaneState,
    /// A packet was given in this turn of the loop. The next one follows in the next turn.
    gave: bool,
    /// An error was logged.
    complained: bool,
    /// Limits the log lines about lost connections: an application can write anything to the exchange, as often as it likes.
    lost: Rarely,
    /// The most connections in one packet, given or taken.
    at_once: usize,
    /// Why idle connections move: their worker drains.
    why: MoveReason,
    /// The counts of moved connections and of sends when the drain began.
    before: (u64, u64),
    /// When to look at siblings again, if none was idle.
    look_again: Moment,
}

/// Whether the exchange's lane for idle connections has room.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum LaneState {
    Free,
    /// It becomes writable when it has.
    Full,
    /// Full, and the kernel does not report when it has room: try again then.
    Ask(Moment),
}

impl Handover {
    /// For a worker with at most that many connections.
    pub fn new(most_connections: usize, now: Moment) -> Handover {
        let at_once = (most_connections / 8).clamp(1, MOST);
        Handover {
            leaving: VecDeque::new(),
            lane: LaneState::Free,
            gave: false,
            complained: false,
            lost: Rarely::default(),
            at_once,
            why: MoveReason::default(),
            before: (0, 0),
            look_again: now,
        }
    }

    /// A new turn of the loop begins.
    pub fn turn(&mut self) {
        self.gave = false;
    }

    /// The most connections in one packet, given or taken.
    pub fn at_once(&self) -> usize {
        self.at_once
    }

    /// Whether to look for an idle sibling now. Each look reads a cache line per slot, too much for each request of a busy worker.
    pub fn looks_again(&self, now: Moment) -> bool {
        now >= self.look_again
    }

    /// No sibling was idle.
    pub fn found_none(&mut self, now: Moment) {
        self.look_again = now + BETWEEN_LOOKS;
    }

    /// A drain begins. One without a hand-over may follow one with a hand-over: then no worker is left to take the connections.
    pub fn begin(&mut self, hand_over: Option<MoveReason>, shared: &Shared, now: Moment) {
        let Some(why) = hand_over else { return self.leaving.clear() };
        self.why = why;
        self.lane = LaneState::Ask(now + TOGETHER);
        self.before = given_and_sends(shared);
    }

    /// Logs how many connections have moved, after a drain.
    pub fn log(&self, shared: &Shared) {
        let ((given, sends), before) = (given_and_sends(shared), self.before);
        info!(shared.log, "connections handed over"; "connections" => given.wrapping_sub(before.0),
            "sends" => sends.wrapping_sub(before.1));
    }

    /// Queues an idle connection for a move. It is served here until it moves.
    pub fn queue(&mut self, connection: &mut Connection) {
        if !std::mem::replace(&mut connection.leaving, true) {
            self.leaving.push_back(connection.token);
        }
    }

    /// Gives one packet of idle connections in each turn of the loop, while there is room. Returns those that have moved, to be closed
    /// here; `None` if there is nothing to do.
    pub fn give_idle(
        &mut self,
        exchange: &Exchange,
        connections: &mut Connections,
        poll: &Poll,
        shared: &Shared,
        now: Moment,
    ) -> Option<Vec<Token>> {
        if self.gave || self.due(now).is_none_or(|due| due > now) {
            return None;
        }
        self.gave = true;
        let (packet, tokens) = self.pack(connections, shared);
        let socket = |token: &Token| connections.peek(*token).map(|connection| connection.transport.descriptor());
        let given = match tokens.is_empty() {
            true => Ok(GiveOutcome::Yes),
            false => {
                count_send(shared);
                exchange.idle.give(&packet, &tokens.iter().filter_map(socket).collect::<Vec<BorrowedFd>>())
            }
        };
        self.lane = match given {
            Ok(GiveOutcome::Yes) => LaneState::Free,
            Ok(GiveOutcome::Full) => self.await_room(exchange, poll, shared, now),
            Ok(GiveOutcome::TooMany) => LaneState::Ask(now + LATER),
            Err(error) => {
                if !std::mem::replace(&mut self.complained, true) {
                    warn!(shared.log, "connections could not move"; "error" => %error);
                }
                LaneState::Ask(now + MUCH_LATER)
            }
        };
        if self.lane == LaneState::Free {
            tokens.iter().filter_map(|token| connections.peek(*token)).for_each(|given| given.transport.surrender());
            count_given(tokens.len(), self.why, shared);
            return Some(tokens);
        }
        tokens.iter().rev().for_each(|token| self.leaving.push_front(*token));
        Some(Vec::new())
    }

    fn await_room(&self, exchange: &Exchange, poll: &Poll, shared: &Shared, now: Moment) -> LaneState {
        match poll.watch(exchange.idle.giving(), EventSource::Room, EpollFlags::EPOLLOUT) {
            Ok(()) => LaneState::Full,
            Err(error) => {
                error!(shared.log, "could not watch the exchange"; "error" => %error);
                LaneState::Ask(now + LATER)
            }
        }
    }

    /// The next connections that can move.
    fn pack(&mut self, connections: &mut Connections, shared: &Shared) -> (Packet, Vec<Token>) {
        let (mut packet, mut tokens) = (empty_packet(shared), Vec::with_capacity(self.at_once));
        while tokens.len() < self.at_once
            && let Some(token) = self.leaving.pop_front()
        {
            let Some(connection) = connections.get(token) else { continue };
            if !connection.may_move() {
                // It has a request now. It is queued again when it is idle again.
                connection.leaving = false;
            } else if connection.pack(self.why, &mut packet) {
                tokens.push(token);
            } else {
                self.leaving.push_front(token);
                break;
            }
        }
        (packet, tokens)
    }

    /// The exchange has room again.
    pub fn room_again(&mut self, exchange: &Exchange, poll: &Poll) {
        self.lane = LaneState::Free;
        let _ = poll.forget(exchange.idle.giving());
    }

    /// The connections of a packet that was taken, or of none; `None` if there was none, or it could not be taken.
    pub fn received(&self, taken: io::Result<Option<Taken>>, shared: &Shared, now: Moment) -> Option<Vec<Moved>> {
        match taken {
            Ok(Some(Taken { moved, lost })) => {
                if lost > 0 && self.lost.is_due(now) {
                    error!(shared.log, "connections were lost on the exchange"; "connections" => lost,
                        "error" => "this process may not open more files");
                }
                Some(moved)
            }
            Ok(None) => None,
            Err(error) => {
                if self.lost.is_due(now) {
                    error!(shared.log, "connections were lost on the exchange"; "error" => %error);
                }
                None
            }
        }
    }

    /// When the next packet is to be given; a time in the past means now.
    pub fn due(&self, now: Moment) -> Option<Moment> {
        match self.lane {
            _ if self.leaving.is_empty() => None,
            LaneState::Free => Some(now),
            LaneState::Full => None,
            LaneState::Ask(at) => Some(at),
        }
    }
}

impl Connection {
    /// Whether the connection can move, and its bytes fit a packet.
    fn may_move(&self) -> bool {
        matches!(self.phase, Phase::Head)
            && !self.half_closed
            && self.bytes().len() + self.transport.held() <= LARGEST
            && self.transport.can_move()
    }

    fn bytes(&self) -> &[u8] {
        self.partial.as_ref().map_or(&[], |partial| &partial.bytes)
    }

    fn pack(&self, why: MoveReason, packet: &mut Packet) -> bool {
        let state = self.transport.state();
        packet.add(self.listener, &state, self.address, self.opening == Opening::ProxyHeader, why, self.bytes())
    }
}

/// Gives a connection whose next request has come but was not parsed yet; `false` if it has to stay.
pub(crate) fn give_waiting(connection: &Connection, exchange: &Exchange, why: MoveReason, shared: &Shared) -> bool {
    let mut packet = empty_packet(shared);
    if !connection.may_move() || !connection.pack(why, &mut packet) {
        return false;
    }
    count_send(shared);
    match exchange.waiting.give(&packet, &[connection.transport.descriptor()]) {
        Ok(GiveOutcome::Yes) => {
            connection.transport.surrender();
            count_given(1, why, shared);
            true
        }
        Ok(GiveOutcome::Full | GiveOutcome::TooMany) => false,
        Err(error) => {
            debug!(shared.log, "a connection could not move"; "error" => %error);
            false
        }
    }
}

fn empty_packet(shared: &Shared) -> Packet {
    Packet::new(shared.boot.listeners.iter().map(|listener| &listener.name[..]))
}

fn given_and_sends(shared: &Shared) -> (u64, u64) {
    (shared.slot().given.load(Relaxed), shared.slot().sends.load(Relaxed))
}

fn count_given(connections: usize, why: MoveReason, shared: &Shared) {
    grow(&shared.slot().given, connections as u64);
    if let Some(meters) = shared.meters() {
        grow(&meters.given[why as usize], connections as u64);
    }
}

fn count_send(shared: &Shared) {
    let sends = &shared.slot().sends;
    sends.store(sends.load(Relaxed).wrapping_add(1), Relaxed);
}
