//! From a listener's queue to a connection, and a connection's end. A worker listens exactly while it could serve a request at once.

use std::{net::SocketAddr, os::fd::OwnedFd, sync::atomic::Ordering::Relaxed, time::Duration};

use slog::{debug, error};

use super::Loop;
use crate::{
    connection::{Connection, Next, Phase},
    exchange::Exchange,
    intake::{Armed, idle::trim, spread::sibling_has_room},
    moment::Moment,
    poll::timers::Token,
    storage::outbox::Gone,
    transport::Transport,
};

/// Connections accepted for one event of a listener.
const ACCEPTS: u32 = 8;
/// How long a full worker leaves newcomers to siblings that have room, before it looks again.
const LEFT_TO_SIBLINGS: Duration = Duration::from_millis(10);

/// Room for one new connection: free room (`None`), or the place of an idle one that is closed for it.
pub(super) struct Admission(Option<Token>);

impl Loop {
    // What the worker listens to -------------------------------------------------------------------------------------

    /// Listens to listeners and exchange exactly while a connection from there would be served at once. Listens to the listeners
    /// also where clients would otherwise wait there for longer than `--max-queue-time`.
    pub(super) fn arm(&mut self) {
        let open = self.intake.is_open() && self.life.accepts();
        let at_once = open && self.thread_free();
        let newcomers = at_once || open && self.accepts_while_busy_at().is_some_and(|at| at <= self.clock.now);
        self.listen_to(Armed { newcomers, waiting: at_once, idle: at_once && self.takes_idle() });
    }

    fn listen_to(&mut self, wanted: Armed) {
        self.intake.arm(wanted, &self.poll, self.exchange.as_ref(), &self.shared.log);
    }

    /// Whether this worker has room for another packet of idle connections, and does not leave it to its siblings.
    fn takes_idle(&self) -> bool {
        let room = self.intake.most().saturating_sub(self.connections.len());
        room >= self.handover.at_once() && self.spread.due().is_none()
    }

    /// When a busy worker accepts nevertheless: half of `--max-queue-time` after it became busy, so that each client
    /// is answered in time, by this worker's 503 or by a sibling that has become idle.
    pub(super) fn accepts_while_busy_at(&self) -> Option<Moment> {
        let bound = self.shared.boot.worker.max_queue_time;
        let busy =
            self.busy_since.filter(|_| !bound.is_zero() && !self.thread_free() && !self.intake.armed().newcomers);
        busy.map(|since| since + bound / 2)
    }

    /// The master has made new listeners and a new exchange, because an application has broken the old ones. Empties the old queues, and
    /// uses the new ones.
    pub(super) fn inherit(&mut self, descriptors: Vec<OwnedFd>) {
        let mut descriptors = descriptors.into_iter();
        let (Some(give), Some(take)) = (descriptors.next(), descriptors.next()) else { return };
        if self.life.accepts() {
            self.empty_queues();
        }
        self.listen_to(Armed::default());
        match Exchange::new(give, take) {
            Ok(exchange) => self.exchange = Some(exchange),
            Err(error) => error!(self.shared.log, "exchange lost"; "error" => %error),
        }
        self.intake.inherit(descriptors.collect(), self.clock.now);
        self.arm();
    }

    /// If this worker has more connections than its share, or takes turns, the next newcomer wakes another worker.
    fn let_siblings_accept(&mut self) {
        self.spread.count_admitted();
        let armed = self.intake.armed();
        if armed.newcomers && self.spread.leaves_the_next(self.connections.len(), &self.shared) {
            self.listen_to(Armed { idle: armed.idle, ..Armed::default() });
            self.listen_to(armed);
        }
    }

    /// After each packet of idle connections: the next one wakes another worker. A worker with more than its share pauses.
    pub(super) fn let_siblings_take(&mut self) {
        self.listen_to(Armed { idle: false, ..self.intake.armed() });
        let own = self.connections.len();
        self.spread.pause_with_too_many(own, self.handover.at_once(), &self.shared, self.clock.now);
        self.arm();
    }

    // Room for a connection ------------------------------------------------------------------------------------------

    /// Whether there is room for one more connection.
    pub(super) fn has_room(&self) -> bool {
        self.connections.len() < self.intake.most() && self.shared.store.descriptors_left() > 0
    }

    /// Room for one more connection. Without any, accepting pauses until there is some.
    pub(super) fn find_place(&mut self) -> Option<Admission> {
        if self.has_room() {
            return Some(Admission(None));
        }
        if sibling_has_room(self.intake.most(), &self.shared) {
            self.intake.pause(self.clock.now + LEFT_TO_SIBLINGS);
            self.arm();
            return None;
        }
        let longest = self.idle.longest(&self.connections, &self.shared.boot.worker);
        if longest.is_none() {
            self.intake.begin_crowding();
            let why = "as many connections as there may be, and none of them idles";
            self.intake.complain(why, self.connections.len(), &self.shared, self.clock.now);
            self.arm();
        }
        longest.map(|token| Admission(Some(token)))
    }

    /// Closes the idle connection, if there is one, whose place a new one takes.
    pub(super) fn evict(&mut self, place: Admission) {
        self.idle.count(self.connections.len() + 1);
        if let Admission(Some(token)) = place {
            debug!(self.shared.log, "an idle connection gave way to a new one");
            self.after(token, Next::Close);
        }
    }

    /// Gives memory back to the system after a flood of connections or of bodies.
    pub(super) fn give_back_memory(&mut self) {
        if self.idle.has_ebbed(self.connections.len()) {
            self.connections.shrink();
            self.timers.shrink();
            self.turn.shrink();
            self.queue.shrink();
            self.parked.shrink_to_fit();
            trim();
        } else if self.shared.store.bodies.has_ebbed() {
            trim();
        }
    }

    // Accepting ------------------------------------------------------------------------------------------------------

    pub(super) fn accept(&mut self, listener: u16) {
        if self.intake.armed().newcomers {
            let one = self.accept_one(listener);
            self.repeat_event(one, ACCEPTS);
        }
    }

    /// `false` if there was none.
    fn accept_one(&mut self, listener: u16) -> bool {
        let Some(place) = self.find_place() else { return false };
        match self.intake.accept(listener, self.clock.now) {
            Ok(None) => {}
            Ok(Some((socket, address))) => {
                self.evict(place);
                self.tally.accepted += 1;
                let transport = Transport::plain(socket);
                let (left, waited) = self.intake.state_in_queue(&transport, listener, self.clock.now);
                let token = self.admit(transport, address, listener);
                if left {
                    self.close(token);
                    return true;
                }
                if let Some(connection) = self.connections.get(token).filter(|_| !waited.is_zero()) {
                    connection.came = Some(Moment::now() - waited);
                }
                self.turn.go_on(token);
                return true;
            }
            Err(error) => {
                if self.intake.accept_failed(&error, self.connections.len(), &self.shared, self.clock.now) {
                    self.arm();
                }
            }
        }
        false
    }

    /// Accepts at least one new connection per call made, from each side, so that a full queue cannot starve newcomers: where the
    /// stand-by leads in each wait, a busy worker would otherwise never accept.
    pub(super) fn accept_more(&mut self) {
        let most = ACCEPTS + self.intake.take_called();
        for listener in 0..self.intake.listeners() {
            let _all = (0..most).all(|_| self.intake.armed().newcomers && self.accept_one(listener));
        }
        let _all = (0..most).all(|_| self.intake.armed().newcomers && self.take_one_moved());
        if self.intake.armed().idle {
            self.take_idle();
        }
    }

    /// Repeats the current event, after that connection's request, if it has brought one: there may be another. Not while
    /// requests wait: then one in each turn is enough.
    pub(super) fn repeat_event(&mut self, one: bool, most: u32) {
        self.poll.repeat_event(one && self.queue.is_empty(), most);
    }

    /// Accepts every connection that the kernel has queued: no other worker will.
    pub(super) fn empty_queues(&mut self) {
        for listener in 0..self.intake.listeners() {
            while let Ok(Some((socket, address))) = self.intake.accept(listener, self.clock.now) {
                self.tally.accepted += 1;
                let token = self.admit(Transport::plain(socket), address, listener);
                self.turn.go_on(token);
            }
        }
        self.empty_exchange();
    }

    /// Makes a connection of what was accepted or taken over.
    pub(super) fn admit(&mut self, transport: Transport, address: Option<SocketAddr>, listener: u16) -> Token {
        let shared = &self.shared;
        let token = self.connections.insert(|token| Connection::new(token, transport, address, listener, shared));
        self.count_connections();
        self.arm();
        self.let_siblings_accept();
        token
    }

    fn count_connections(&self) {
        self.shared.slot().connections.store(self.connections.len() as u32, Relaxed);
        self.shared.store.connections.store(self.connections.len(), Relaxed);
    }

    /// Serves a smoke test's connection, which the master has sent. The worker need not serve clients yet.
    pub(super) fn take_private(&mut self, socket: OwnedFd, https: bool, port: u16) {
        let token = self.admit(Transport::plain(socket), None, 0);
        if let Some(connection) = self.connections.get(token) {
            connection.become_private(https, port);
        }
        self.turn.go_on(token);
    }

    /// Closes a connection.
    pub(super) fn close(&mut self, token: Token) {
        let Some(connection) = self.connections.remove(token) else { return };
        self.tally.idle -= u64::from(connection.idle);
        connection.forget(&self.poll);
        self.intake.end_crowding();
        match connection.phase {
            Phase::Body(work, reader) => self.record_dropped(work, reader.started),
            Phase::Ready(work) => {
                let since = work.ready;
                self.record_dropped(work, since);
            }
            Phase::Called(_, Some(backlog)) => backlog.outbox.give_up(Gone::Left),
            Phase::Writing(work, ..) => self.record_request(work),
            Phase::Called(_, None) | Phase::Head | Phase::Lingering(_) => {}
        }
        drop(connection.transport);
        self.count_connections();
        self.intake.end_pause(None);
        self.arm();
    }
}
