//! What the worker takes in: which sources it listens to, who has a place when it is full, and how connections spread over workers.

pub(crate) mod idle;
pub(crate) mod spread;

use std::{
    io,
    net::SocketAddr,
    os::fd::{AsFd, BorrowedFd, OwnedFd},
    time::Duration,
};

use nix::{
    fcntl::{FcntlArg, fcntl},
    sys::epoll::EpollFlags,
};
use slog::{Logger, debug, error, warn};

use crate::{
    exchange::Exchange,
    log_limits::Rarely,
    moment::Moment,
    poll::{EventSource, Poll},
    shared::Shared,
    transport::{PeerState, Transport, listener},
};

/// A connection that was in the queue for less than this counts as new.
const AGED: Duration = Duration::from_millis(10);
/// A client that sends FIN sooner than this after its request has not given up: it only sends no more.
const GIVES_UP: Duration = Duration::from_millis(100);
/// How long accepting pauses when descriptors have run out, unless one is freed before.
const OUT_OF_DESCRIPTORS: Duration = Duration::from_secs(1);
/// How long accepting pauses when a listener is broken, unless it is replaced before.
const BROKEN: Duration = Duration::from_millis(100);
/// The size that the table of descriptors gets at the start, or less if fewer connections are allowed.
const PLACES: usize = 4096;

/// Where a worker takes connections from, and how many.
pub(crate) struct Intake {
    listeners: Vec<OwnedFd>,
    armed: Armed,
    /// For each listener, when its queue was last known to be empty.
    looked: Vec<Moment>,
    paused_until: Option<Moment>,
    /// By their places, the listeners that are to turn newcomers away before they close.
    closes: Vec<u16>,
    /// Whether one does.
    turns_away: bool,
    complained: Rarely,
    /// The most connections there may be.
    most: usize,
    /// There are `most` connections, and none of them is idle.
    crowded: bool,
    /// How many calls were made since the worker last accepted.
    called: u32,
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
    pub fn new(listeners: Vec<OwnedFd>, most: usize, now: Moment) -> Intake {
        listeners.iter().for_each(|listener| listener::prepare(listener.as_fd()));
        Intake {
            looked: vec![now; listeners.len()],
            listeners,
            armed: Armed::default(),
            paused_until: None,
            closes: Vec::new(),
            turns_away: false,
            complained: Rarely::default(),
            most,
            crowded: false,
            called: 0,
        }
    }

    /// The master has made new listeners, because an application has broken the old ones. A worker that drains has none.
    pub fn inherit(&mut self, listeners: Vec<OwnedFd>, now: Moment) {
        if !self.listeners.is_empty() {
            listeners.iter().for_each(|listener| listener::prepare(listener.as_fd()));
            self.looked.resize(listeners.len(), now);
            self.listeners = listeners;
        }
        self.paused_until = None;
    }

    /// These listeners will close for good.
    pub fn expect_to_close(&mut self, places: Vec<u16>) {
        self.closes = places;
    }

    /// Has the listeners that close for good turn newcomers away, so that no client gets into a queue that nobody looks into any more:
    /// the close resets the connection, and a proxy does not know then whether its request was served. On TCP, connections whose
    /// handshake has begun still come: then it says `true`, and does the rest when it is called again.
    pub fn turn_away(&mut self) -> bool {
        let listeners = &self.listeners;
        let at = |place: &u16| listeners.get(usize::from(*place)).map(AsFd::as_fd);
        let all = self.closes.len();
        self.closes.retain(|place| !at(place).is_some_and(listener::ignore_newcomers));
        if self.closes.len() < all {
            self.turns_away = true;
            return true;
        }
        self.closes.iter().filter_map(at).for_each(listener::refuse_newcomers);
        false
    }

    /// Closes the listeners.
    pub fn close(&mut self) {
        self.listeners.clear();
    }

    /// The listeners are about to close, so clients that have only connected are to be accepted first.
    pub fn stop_deferring(&self) {
        self.listeners.iter().for_each(|listener| listener::stop_deferring(listener.as_fd()));
    }

    pub fn listeners(&self) -> u16 {
        self.listeners.len() as u16
    }

    pub fn armed(&self) -> Armed {
        self.armed
    }

    pub fn most(&self) -> usize {
        self.most
    }

    /// Whether nothing but busy threads keeps the worker from accepting.
    pub fn is_open(&self) -> bool {
        !self.crowded && self.paused_until.is_none()
    }

    /// There is no place for one more connection until one of them ends or idles.
    pub fn begin_crowding(&mut self) {
        self.crowded = true;
    }

    /// There may be a place again. Returns whether there was none.
    pub fn end_crowding(&mut self) -> bool {
        std::mem::take(&mut self.crowded)
    }

    pub fn is_crowded(&self) -> bool {
        self.crowded
    }

    pub fn pause(&mut self, until: Moment) {
        self.paused_until = Some(until);
    }

    pub fn paused_until(&self) -> Option<Moment> {
        self.paused_until
    }

    /// Ends a pause that is over by now (`None`: any). Returns whether there was one.
    pub fn end_pause(&mut self, now: Option<Moment>) -> bool {
        let over = |until: &mut Moment| now.is_none_or(|now| *until <= now);
        self.paused_until.take_if(over).is_some()
    }

    /// A call begins.
    pub fn count_call(&mut self) {
        self.called += 1;
    }

    /// How many calls were made since the worker last accepted.
    pub fn take_called(&mut self) -> u32 {
        std::mem::take(&mut self.called)
    }

    /// The worker has slept while it listened: the queues are empty.
    pub fn queues_were_empty(&mut self, now: Moment) {
        self.looked.fill(now);
    }

    /// Takes one connection from a listener's queue; `None` if it is empty.
    pub fn accept(&mut self, listener: u16, now: Moment) -> io::Result<Option<(OwnedFd, Option<SocketAddr>)>> {
        let accepted = listener::accept(self.listeners[usize::from(listener)].as_fd());
        match &accepted {
            Ok(None) => self.looked[usize::from(listener)] = now,
            Ok(Some((socket, _))) if self.turns_away => listener::heed(socket.as_fd()),
            _ => {}
        }
        accepted
    }

    /// Accepting has failed. Returns whether accepting pauses. `connections`: how many there are.
    pub fn accept_failed(&mut self, error: &io::Error, connections: usize, shared: &Shared, now: Moment) -> bool {
        if out_of_descriptors(error) {
            self.complain(&error.to_string(), connections, shared, now);
            self.pause(now + OUT_OF_DESCRIPTORS);
        } else if error.raw_os_error() == Some(nix::libc::EINVAL) {
            // The application has shut the listener down. The master replaces it as soon as it notices.
            self.complain("a listener was shut down", connections, shared, now);
            self.pause(now + BROKEN);
        } else {
            // The client or the network ended the connection before it was accepted: no request is lost.
            debug!(shared.log, "a connection was lost in the queue"; "error" => %error);
            return false;
        }
        true
    }

    /// Logs, at most once a minute, why accepting pauses, and which limit to raise.
    pub fn complain(&self, why: &str, connections: usize, shared: &Shared, now: Moment) {
        if !self.complained.is_due(now) {
            return;
        }
        let configured = shared.boot.worker.connections;
        let (limit, value) = match connections < configured as usize || configured == 0 {
            true => ("open files (ulimit -n)", shared.store.open_files()),
            false => ("--worker-connections", configured.into()),
        };
        warn!(shared.log, "accepting paused"; "reason" => why, "limit" => limit, "value" => value,
            "connections" => connections, "spool_files" => shared.store.files());
    }

    /// Whether the client of a connection that was just accepted has left, and for how long its bytes have waited in the queue (zero on
    /// a Unix socket, which does not tell). The kernel is asked only where they may have waited for long.
    pub fn state_in_queue(&self, transport: &Transport, listener: u16, now: Moment) -> (bool, Duration) {
        let longest = now.saturating_duration_since(self.looked[usize::from(listener)]);
        if longest < AGED {
            return (false, Duration::ZERO);
        }
        let (state, waited, later) = transport.state_in_queue();
        // A client that sends FIN soon after its request may only mean that the request is complete. Later, it has given up.
        let left = match state {
            PeerState::There => false,
            PeerState::SendsNoMore => later >= GIVES_UP,
            PeerState::Gone => true,
        };
        (left, waited)
    }

    /// Listens to these sources, and to no others. Where several workers listen, the kernel wakes the one that has listened for longest,
    /// of those that sleep.
    pub fn arm(&mut self, wanted: Armed, poll: &Poll, exchange: Option<&Exchange>, log: &Logger) {
        let listen = |wanted: bool, descriptor: BorrowedFd, source: EventSource| {
            let flags = EpollFlags::EPOLLIN | EpollFlags::EPOLLEXCLUSIVE;
            let changed = if wanted { poll.watch(descriptor, source, flags) } else { poll.forget(descriptor) };
            if let Err(error) = changed {
                error!(log, "could not watch a listener"; "error" => %error);
            }
        };
        let before = std::mem::replace(&mut self.armed, wanted);
        if wanted.newcomers != before.newcomers {
            for (index, listener) in self.listeners.iter().enumerate() {
                listen(wanted.newcomers, listener.as_fd(), EventSource::Listener(index as u16));
            }
        }
        let Some(exchange) = exchange else { return };
        if wanted.waiting != before.waiting {
            listen(wanted.waiting, exchange.waiting.taking(), EventSource::Waiting);
        }
        if wanted.idle != before.idle {
            listen(wanted.idle, exchange.idle.taking(), EventSource::Idle);
        }
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
