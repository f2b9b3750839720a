//! From a listener's queue to a connection, and a connection's end. A worker listens exactly while it would serve at once.

pub(crate) mod idle;
pub(crate) mod spread;

use std::{
    io,
    net::SocketAddr,
    os::fd::{AsFd, BorrowedFd, OwnedFd},
    sync::{Arc, atomic::Ordering::Relaxed},
    time::{Duration, Instant},
};

use nix::{
    fcntl::{FcntlArg, fcntl},
    sys::epoll::EpollFlags,
};
use slog::{Logger, debug, error, warn};

use crate::{
    application::Gone,
    connection::{Connection, Interest, Phase},
    event_loop::{
        Loop,
        log_limits::Rarely,
        poll::{Poll, Source},
        timers::{Deadline, Token},
    },
    exchange::Exchange,
    transport::{PeerState, Transport, listener},
};

/// Connections accepted for one event of a listener.
const ACCEPTS: u32 = 8;
/// Connections taken for one event of the exchange: their requests have waited already, and no sibling may be idle by now.
pub(crate) const TAKES: u32 = 64;
/// Who has waited in a queue for less is as good as new.
const AGED: Duration = Duration::from_millis(10);
/// Nobody sends a request, gives up and closes within this time.
const GIVES_UP: Duration = Duration::from_millis(100);
/// How long accepting pauses when descriptors have run out, unless one is freed before.
const OUT_OF_DESCRIPTORS: Duration = Duration::from_secs(1);
/// How long accepting pauses when a listener is broken, unless it is mended before.
const BROKEN: Duration = Duration::from_millis(100);
/// A worker's table of descriptors has at least so many places, if it may have as many connections.
const PLACES: usize = 4096;

/// What a worker takes in, and from where.
pub(crate) struct Intake {
    pub listeners: Vec<OwnedFd>,
    pub armed: Armed,
    /// Of each listener: when nobody was known to wait in its queue.
    pub looked: Vec<Instant>,
    pub paused_until: Option<Instant>,
    complained: Rarely,
    /// The most connections there may be.
    pub most: usize,
    /// There are as many, and none of them idles.
    pub crowded: bool,
    /// How many requests were called since connections from outside were last let in.
    pub called: u32,
}

/// Which sources the worker listens to.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Armed {
    /// The listeners.
    pub newcomers: bool,
    /// The exchange, for connections whose requests wait.
    pub waiting: bool,
    /// The exchange, for connections that rest.
    pub resting: bool,
}

impl Intake {
    pub fn new(listeners: Vec<OwnedFd>, most: usize, now: Instant) -> Intake {
        listeners.iter().for_each(|listener| listener::prepare(listener.as_fd()));
        Intake {
            looked: vec![now; listeners.len()],
            listeners,
            armed: Armed::default(),
            paused_until: None,
            complained: Rarely::default(),
            most,
            crowded: false,
            called: 0,
        }
    }

    /// Listens to these sources, and to no others. Where several workers listen, the kernel wakes the one that has listened for longest,
    /// of those that sleep.
    pub fn arm(&mut self, wanted: Armed, poll: &Poll, exchange: &Exchange, log: &Logger) {
        let listen = |wanted: bool, descriptor: BorrowedFd, source: Source| {
            let flags = EpollFlags::EPOLLIN | EpollFlags::EPOLLEXCLUSIVE;
            let changed = if wanted { poll.watch(descriptor, source, flags) } else { poll.forget(descriptor) };
            if let Err(error) = changed {
                error!(log, "could not watch a listener"; "error" => %error);
            }
        };
        let before = std::mem::replace(&mut self.armed, wanted);
        if wanted.newcomers != before.newcomers {
            for (index, listener) in self.listeners.iter().enumerate() {
                listen(wanted.newcomers, listener.as_fd(), Source::Listener(index as u16));
            }
        }
        if wanted.waiting != before.waiting {
            listen(wanted.waiting, exchange.waiting.taking(), Source::Waiting);
        }
        if wanted.resting != before.resting {
            listen(wanted.resting, exchange.resting.taking(), Source::Resting);
        }
    }
}

impl Loop {
    /// Listens to listeners and exchange exactly while a connection from there would be served at once; and to the listeners
    /// where clients would otherwise wait there for longer than `--max-queue-time`.
    pub(crate) fn arm(&mut self) {
        let open = !self.intake.crowded && self.intake.paused_until.is_none() && self.life.accepts();
        let at_once = open && self.thread_free();
        let newcomers = at_once || open && self.lets_in_at().is_some_and(|at| at <= self.clock.now);
        self.listen_to(Armed { newcomers, waiting: at_once, resting: at_once && self.takes_resting() });
    }

    pub(crate) fn listen_to(&mut self, wanted: Armed) {
        self.intake.arm(wanted, &self.poll, &self.exchange, &self.shared.log);
    }

    /// What is shared was made anew, because an application has broken it: takes what there is in the old queues, and uses the new ones.
    pub(crate) fn inherit(&mut self, descriptors: Vec<OwnedFd>) {
        let mut descriptors = descriptors.into_iter();
        let (Some(give), Some(take)) = (descriptors.next(), descriptors.next()) else { return };
        if self.life.accepts() {
            self.empty_queues();
        }
        self.listen_to(Armed::default());
        match Exchange::new(give, take) {
            Ok(exchange) => self.exchange = exchange,
            Err(error) => error!(self.shared.log, "exchange lost"; "error" => %error),
        }
        // A worker that drains listens no more.
        if !self.intake.listeners.is_empty() {
            self.intake.listeners = descriptors.collect();
            self.intake.listeners.iter().for_each(|listener| listener::prepare(listener.as_fd()));
            self.intake.looked.resize(self.intake.listeners.len(), self.clock.now);
        }
        self.intake.paused_until = None;
        self.arm();
    }

    /// From when on a busy worker takes in those who wait: half of `--max-queue-time` after it became busy, so that each of them
    /// is answered in time, by this worker's 503 or by a sibling that has become idle.
    pub(crate) fn lets_in_at(&self) -> Option<Instant> {
        let bound = self.shared.boot.worker.max_queue_time;
        let busy = self.busy_since.filter(|_| !bound.is_zero() && !self.thread_free() && !self.intake.armed.newcomers);
        busy.map(|since| since + bound / 2)
    }

    /// Says, once in a while, why nobody is accepted, and which limit is to be raised.
    pub(crate) fn complain(&mut self, why: &str) {
        if !self.intake.complained.is_due(self.clock.now) {
            return;
        }
        let configured = self.shared.boot.worker.connections;
        let (limit, value) = match self.connections.len() < configured as usize || configured == 0 {
            true => ("open files (ulimit -n)", self.shared.store.open_files()),
            false => ("--worker-connections", configured.into()),
        };
        warn!(self.shared.log, "accepting paused"; "why" => why, "limit" => limit, "value" => value,
            "connections" => self.connections.len(), "spool_files" => self.shared.store.files());
    }

    pub(crate) fn accept(&mut self, listener: u16) {
        if self.intake.armed.newcomers {
            let one = self.accept_one(listener);
            self.repeat_event(one, ACCEPTS);
        }
    }

    /// `false` if there was none.
    fn accept_one(&mut self, listener: u16) -> bool {
        let Some(place) = self.place_for_one() else { return false };
        match listener::accept(self.intake.listeners[usize::from(listener)].as_fd()) {
            Ok(None) => self.intake.looked[usize::from(listener)] = self.clock.now,
            Ok(Some((socket, address))) => {
                self.vacate(place);
                let transport = Transport::plain(socket);
                let (left, waited) = self.fate_in_queue(&transport, listener);
                let token = self.admit(transport, address, listener);
                if left {
                    self.close(token);
                    return true;
                }
                if let Some(connection) = self.connection(token).filter(|_| !waited.is_zero()) {
                    connection.came = Some(Instant::now() - waited);
                }
                self.turn.go_on(token);
                return true;
            }
            Err(error) if out_of_descriptors(&error) => {
                self.complain(&error.to_string());
                self.intake.paused_until = Some(self.clock.now + OUT_OF_DESCRIPTORS);
                self.arm();
            }
            // An application has shut it down. The master makes another, as soon as it sees that.
            Err(error) if error.raw_os_error() == Some(nix::libc::EINVAL) => {
                self.complain("a listener was shut down");
                self.intake.paused_until = Some(self.clock.now + BROKEN);
                self.arm();
            }
            // The client gave up before it was accepted, or the network said so: nothing is lost.
            Err(error) => debug!(self.shared.log, "a connection was lost in the queue"; "error" => %error),
        }
        false
    }

    /// Whether the client of a connection that was just accepted has left, and for how long its bytes have lain in the queue (on a
    /// Unix socket, nobody knows). Asked only where they can have lain there for long.
    fn fate_in_queue(&self, transport: &Transport, listener: u16) -> (bool, Duration) {
        let longest = self.clock.now.saturating_duration_since(self.intake.looked[usize::from(listener)]);
        if longest < AGED {
            return (false, Duration::ZERO);
        }
        let (state, waited) = transport.fate_in_queue();
        // Who sends no more after a while has given up. Before that, it may only have said that its request is complete.
        let left = match state {
            PeerState::There => false,
            PeerState::SendsNoMore => waited.unwrap_or(longest) >= GIVES_UP,
            PeerState::Gone => true,
        };
        (left, waited.unwrap_or_default())
    }

    /// Lets in at least as many from each side as were called since the last look outside. A worker whose queue never empties,
    /// because the stand-by leads whenever it waits, would otherwise serve those that it has, and nobody else.
    pub(crate) fn let_in(&mut self) {
        let most = ACCEPTS + std::mem::take(&mut self.intake.called);
        for listener in 0..self.intake.listeners.len() {
            let _all = (0..most).all(|_| self.intake.armed.newcomers && self.accept_one(listener as u16));
        }
        let _all = (0..most).all(|_| self.intake.armed.newcomers && self.take_one_moved());
        if self.intake.armed.resting {
            self.take_resting();
        }
    }

    /// An event brought a connection or none. The same event again, when that connection's request is answered: there may be more.
    /// Not where requests still wait after a turn's calls: then one in each turn is enough.
    pub(crate) fn repeat_event(&mut self, one: bool, most: u32) {
        self.poll.repeat_event(one && self.ready.is_empty(), most);
    }

    /// Takes all that the kernel has queued: nobody else will.
    pub(crate) fn empty_queues(&mut self) {
        for listener in 0..self.intake.listeners.len() {
            while let Ok(Some((socket, address))) = listener::accept(self.intake.listeners[listener].as_fd()) {
                let token = self.admit(Transport::plain(socket), address, listener as u16);
                self.turn.go_on(token);
            }
        }
        self.empty_exchange();
    }

    /// Makes a connection of what was accepted or taken over.
    pub(crate) fn admit(&mut self, transport: Transport, address: Option<SocketAddr>, listener: u16) -> Token {
        let proxy_expected = self.shared.proxy_expected(listener, address);
        let token = self.connections.insert(|token| Connection {
            token,
            transport: Arc::new(transport),
            address,
            peer: None,
            listener,
            phase: Phase::Head,
            deadline: Deadline::default(),
            partial: None,
            interest: Interest::None,
            readable: true,
            half_closed: false,
            proxy_expected,
            leaving: false,
            requests: 0,
            came: None,
        });
        self.count_connections();
        self.arm();
        self.let_siblings_accept();
        token
    }

    fn count_connections(&self) {
        self.slot().connections.store(self.connections.len() as u32, Relaxed);
        self.shared.store.connections.store(self.connections.len(), Relaxed);
    }

    /// Closes a connection.
    pub(crate) fn close(&mut self, token: Token) {
        let Some(connection) = self.connection(token) else { return };
        if connection.interest != Interest::None {
            // Closing alone is not enough: another process may hold the same socket (a child of the application, a sibling).
            connection.transport.clone().forget(&self.poll.epoll);
        }
        let Some(connection) = self.connections.remove(token) else { return };
        self.intake.crowded = false;
        match connection.phase {
            Phase::Body(work, reader) => self.dropped(work, reader.started),
            Phase::Ready(work) => {
                let since = work.ready;
                self.dropped(work, since);
            }
            Phase::Called(_, Some(backlog)) => backlog.outbox.give_up(Gone::Left),
            Phase::Writing(work, ..) => self.over(work),
            Phase::Called(_, None) | Phase::Head | Phase::Lingering(_) => {}
        }
        drop(connection.transport);
        self.count_connections();
        self.intake.paused_until = None;
        self.arm();
    }
}

/// `--worker-connections` (0: no limit), or as many as descriptors allow.
pub(crate) fn most_connections(wanted: u32, descriptors: usize) -> usize {
    let wanted = if wanted == 0 { usize::MAX } else { wanted as usize };
    wanted.min(ostler_wire::limits::for_connections(descriptors as u64) as usize)
}

/// Lets the kernel make a large table of descriptors while this process has one thread. Once there are several, it waits for a grace
/// period of all processors, some tens of milliseconds, each time that the table grows: in the middle of an accept or a move.
pub(crate) fn make_places(most_connections: usize) -> io::Result<()> {
    let places = most_connections.min(PLACES);
    let highest = fcntl(io::stderr(), FcntlArg::F_DUPFD_CLOEXEC(places as i32 - 1))?;
    Ok(nix::unistd::close(highest)?)
}

fn out_of_descriptors(error: &io::Error) -> bool {
    use nix::libc::{EMFILE, ENFILE, ENOBUFS, ENOMEM};
    matches!(error.raw_os_error(), Some(EMFILE | ENFILE | ENOBUFS | ENOMEM))
}
