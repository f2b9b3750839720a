//! From a listener's queue to a connection, and a connection's end. A worker listens exactly while it could serve a request at once.

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
/// Connections taken for one event of the exchange. More than [`ACCEPTS`]: their requests have waited already.
pub(crate) const TAKES: u32 = 64;
/// A connection that was in the queue for less than this counts as new.
const AGED: Duration = Duration::from_millis(10);
/// A client that closes sooner than this after its request has not given up: it only sends no more (FIN).
const GIVES_UP: Duration = Duration::from_millis(100);
/// How long accepting pauses when descriptors have run out, unless one is freed before.
const OUT_OF_DESCRIPTORS: Duration = Duration::from_secs(1);
/// How long accepting pauses when a listener is broken, unless it is replaced before.
const BROKEN: Duration = Duration::from_millis(100);
/// The size that the table of descriptors gets at the start, or less if fewer connections are allowed.
const PLACES: usize = 4096;

/// Where a worker takes connections from, and how many.
pub(crate) struct Intake {
    pub listeners: Vec<OwnedFd>,
    pub armed: Armed,
    /// For each listener, when its queue was last known to be empty.
    pub looked: Vec<Instant>,
    pub paused_until: Option<Instant>,
    complained: Rarely,
    /// The most connections there may be.
    pub most: usize,
    /// There are `most` connections, and none of them is idle.
    pub crowded: bool,
    /// How many calls were made since the worker last accepted.
    pub called: u32,
}

/// Which sources the worker listens to.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Armed {
    /// The listeners.
    pub newcomers: bool,
    /// The exchange, for connections whose requests wait.
    pub waiting: bool,
    /// The exchange, for idle connections.
    pub idle: bool,
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
        if wanted.idle != before.idle {
            listen(wanted.idle, exchange.idle.taking(), Source::Idle);
        }
    }
}

impl Loop {
    /// Listens to listeners and exchange exactly while a connection from there would be served at once. Listens to the listeners
    /// also where clients would otherwise wait there for longer than `--max-queue-time`.
    pub(crate) fn arm(&mut self) {
        let open = !self.intake.crowded && self.intake.paused_until.is_none() && self.life.accepts();
        let at_once = open && self.thread_free();
        let newcomers = at_once || open && self.accepts_while_busy_at().is_some_and(|at| at <= self.clock.now);
        self.listen_to(Armed { newcomers, waiting: at_once, idle: at_once && self.takes_idle() });
    }

    pub(crate) fn listen_to(&mut self, wanted: Armed) {
        self.intake.arm(wanted, &self.poll, &self.exchange, &self.shared.log);
    }

    /// The master has made new listeners and a new exchange, because an application has broken the old ones. Empties the old queues, and
    /// uses the new ones.
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
        // A worker that drains has no listeners.
        if !self.intake.listeners.is_empty() {
            self.intake.listeners = descriptors.collect();
            self.intake.listeners.iter().for_each(|listener| listener::prepare(listener.as_fd()));
            self.intake.looked.resize(self.intake.listeners.len(), self.clock.now);
        }
        self.intake.paused_until = None;
        self.arm();
    }

    /// When a busy worker accepts nevertheless: half of `--max-queue-time` after it became busy, so that each client
    /// is answered in time, by this worker's 503 or by a sibling that has become idle.
    pub(crate) fn accepts_while_busy_at(&self) -> Option<Instant> {
        let bound = self.shared.boot.worker.max_queue_time;
        let busy = self.busy_since.filter(|_| !bound.is_zero() && !self.thread_free() && !self.intake.armed.newcomers);
        busy.map(|since| since + bound / 2)
    }

    /// Logs, at most once a minute, why accepting pauses, and which limit to raise.
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
        let Some(place) = self.find_place() else { return false };
        match listener::accept(self.intake.listeners[usize::from(listener)].as_fd()) {
            Ok(None) => self.intake.looked[usize::from(listener)] = self.clock.now,
            Ok(Some((socket, address))) => {
                self.evict(place);
                let transport = Transport::plain(socket);
                let (left, waited) = self.state_in_queue(&transport, listener);
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
            // The application has shut the listener down. The master replaces it as soon as it notices.
            Err(error) if error.raw_os_error() == Some(nix::libc::EINVAL) => {
                self.complain("a listener was shut down");
                self.intake.paused_until = Some(self.clock.now + BROKEN);
                self.arm();
            }
            // The client or the network ended the connection before it was accepted: no request is lost.
            Err(error) => debug!(self.shared.log, "a connection was lost in the queue"; "error" => %error),
        }
        false
    }

    /// Whether the client of a connection that was just accepted has left, and for how long its bytes have waited in the queue (zero on
    /// a Unix socket, which does not tell). The kernel is asked only where they may have waited for long.
    fn state_in_queue(&self, transport: &Transport, listener: u16) -> (bool, Duration) {
        let longest = self.clock.now.saturating_duration_since(self.intake.looked[usize::from(listener)]);
        if longest < AGED {
            return (false, Duration::ZERO);
        }
        let (state, waited) = transport.state_in_queue();
        // A client that sends FIN soon after its request may only mean that the request is complete. Later, it has given up.
        let left = match state {
            PeerState::There => false,
            PeerState::SendsNoMore => waited.unwrap_or(longest) >= GIVES_UP,
            PeerState::Gone => true,
        };
        (left, waited.unwrap_or_default())
    }

    /// Accepts at least one new connection per call made, from each side, so that a full queue cannot starve newcomers: where the
    /// stand-by leads in each wait, a busy worker would otherwise never accept.
    pub(crate) fn accept_more(&mut self) {
        let most = ACCEPTS + std::mem::take(&mut self.intake.called);
        for listener in 0..self.intake.listeners.len() {
            let _all = (0..most).all(|_| self.intake.armed.newcomers && self.accept_one(listener as u16));
        }
        let _all = (0..most).all(|_| self.intake.armed.newcomers && self.take_one_moved());
        if self.intake.armed.idle {
            self.take_idle();
        }
    }

    /// Repeats the current event, after that connection's request, if it has brought one: there may be another. Not while
    /// requests wait: then one in each turn is enough.
    pub(crate) fn repeat_event(&mut self, one: bool, most: u32) {
        self.poll.repeat_event(one && self.ready.is_empty(), most);
    }

    /// Accepts every connection that the kernel has queued: no other worker will.
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
            // Closing does not remove it from epoll while another process has the socket, too (a child of the application, a sibling).
            connection.transport.clone().forget(&self.poll.epoll);
        }
        let Some(connection) = self.connections.remove(token) else { return };
        self.intake.crowded = false;
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
        self.intake.paused_until = None;
        self.arm();
    }
}

/// `--worker-connections` (0: no limit), or fewer if the descriptors allow fewer.
pub(crate) fn most_connections(wanted: u32, descriptors: usize) -> usize {
    let wanted = if wanted == 0 { usize::MAX } else { wanted as usize };
    wanted.min(ostler_wire::limits::for_connections(descriptors as u64) as usize)
}

/// Makes the kernel's table of descriptors large while this process has one thread. With several threads, each growth of the table
/// waits for an RCU grace period, some tens of milliseconds, in the middle of an accept or a move.
pub(crate) fn make_places(most_connections: usize) -> io::Result<()> {
    let places = most_connections.min(PLACES);
    let highest = fcntl(io::stderr(), FcntlArg::F_DUPFD_CLOEXEC(places as i32 - 1))?;
    Ok(nix::unistd::close(highest)?)
}

fn out_of_descriptors(error: &io::Error) -> bool {
    use nix::libc::{EMFILE, ENFILE, ENOBUFS, ENOMEM};
    matches!(error.raw_os_error(), Some(EMFILE | ENFILE | ENOBUFS | ENOMEM))
}
