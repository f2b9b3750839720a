//! A client's connection: what is known of it between its requests, and where it is with one.

pub(crate) mod connections;
pub(crate) mod pool;
pub(crate) mod work;

use std::{net::SocketAddr, sync::Arc, time::Duration};

use nix::sys::epoll::EpollFlags;
use ostler_http::{
    Refusal, RequestHead,
    h1::{Limits, RequestReader},
    proxy::proxy_protocol,
    uwsgi,
};
use ostler_wire::{Protocol, WorkerSettings};

use self::work::Work;
use crate::{
    moment::Moment,
    poll::{
        EventSource, Poll,
        clock::took,
        timers::{Deadline, Token},
    },
    request::{
        body::BodyReader,
        peer::{Peer, may_speak_uwsgi, proxy_expected},
        rate::too_slow,
    },
    shared::Shared,
    storage::outbox::Outbox,
    transport::Transport,
};

/// An open connection. Small while it idles: buffers belong to requests.
pub(crate) struct Connection {
    pub token: Token,
    pub transport: Arc<Transport>,
    /// The peer's address, from the socket when it was accepted, or from a PROXY header; none on a Unix socket.
    pub address: Option<SocketAddr>,
    pub peer: Option<Peer>,
    pub listener: u16,
    pub phase: Phase,
    pub deadline: Deadline,
    /// Bytes of the next request's head, or of several requests.
    pub partial: Option<Box<Partial>>,
    /// Whether epoll knows it, and whether it asks for writability.
    interest: Interest,
    /// The socket had more to read when it was last looked at, or has had an event since.
    pub readable: bool,
    /// The client has sent FIN.
    pub half_closed: bool,
    pub opening: Opening,
    /// Its bytes travel within TLS.
    tls: bool,
    /// It moves when its turn comes (see `exchange::handover`).
    pub leaving: bool,
    /// It waits for a request, and is counted as such.
    pub idle: bool,
    /// Requests so far.
    pub requests: u32,
    /// It is no client's but the master's, for a smoke test: it does not move, and its requests are neither counted nor in the access log.
    pub private: bool,
    /// When its first bytes came, if they have waited in the listener's queue.
    pub came: Option<Moment>,
}

impl Connection {
    /// One that was accepted, or taken over.
    pub fn new(
        token: Token,
        transport: Transport,
        address: Option<SocketAddr>,
        listener: u16,
        shared: &Shared,
    ) -> Connection {
        Connection {
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
            opening: Opening::of(shared, listener, address),
            tls: shared.boot.listeners[usize::from(listener)].protocol == Protocol::Https,
            leaving: false,
            idle: false,
            requests: 0,
            private: false,
            came: None,
        }
    }

    /// Makes it a smoke test's: HTTP, whatever its listener speaks, from a client on this machine.
    pub fn become_private(&mut self, https: bool, port: u16) {
        self.private = true;
        self.opening = Opening::Head;
        self.peer = Some(Peer::on_this_machine(https, port, self.listener));
    }

    /// Takes the PROXY header from the beginning of its bytes, if there must be one; `false` while it is not complete.
    pub fn take_proxy_header(&mut self, bytes: &mut Vec<u8>) -> Result<bool, Refusal> {
        if self.opening != Opening::ProxyHeader {
            return Ok(true);
        }
        let Some((length, addresses)) = proxy_protocol::parse(bytes)? else { return Ok(false) };
        bytes.drain(..length);
        self.opening = if self.tls { Opening::Handshake } else { Opening::Head };
        self.address = addresses.map(|(source, _)| source).or(self.address);
        self.peer = None;
        Ok(true)
    }

    /// Reads a request of the uwsgi protocol. `false` while it is not complete. The client is who the web server says.
    pub fn take_uwsgi(&mut self, partial: &mut Partial, limits: &Limits, shared: &Shared) -> Result<bool, Refusal> {
        let trust = shared.trust(self.listener);
        if !may_speak_uwsgi(trust, self.address) {
            partial.bytes = uwsgi::line(&partial.bytes);
            return Err(Refusal { status: 403, why: "the peer is not in --uwsgi-allow-from" });
        }
        let request = uwsgi::parse(&partial.bytes, limits);
        let Some(request) = request.inspect_err(|_| partial.bytes = uwsgi::line(&partial.bytes))? else {
            return Ok(false);
        };
        partial.prefix = request.text.len();
        partial.bytes.splice(..0, request.text);
        partial.head = request.head;
        self.peer = Some(Peer::behind(request.gateway, self.address, self.listener, trust));
        Ok(true)
    }

    /// The client at the other end.
    pub fn peer(&mut self, shared: &Shared) -> &Peer {
        self.peer.get_or_insert_with(|| {
            let peer = Peer::new(self.address, self.listener, shared.trust(self.listener));
            self.transport.facts().into_iter().fold(peer, Peer::within_tls)
        })
    }

    /// Watches its socket. Epoll reports earlier events, too.
    pub fn watch(&mut self, interest: Interest, poll: &Poll) -> nix::Result<()> {
        // Bytes that come from now on have not waited in the listener's queue.
        self.came = None;
        let before = self.interest;
        if before >= interest {
            return Ok(());
        }
        self.interest = interest;
        let write = if interest == Interest::ReadWrite { EpollFlags::EPOLLOUT } else { EpollFlags::empty() };
        let flags = EpollFlags::EPOLLIN | EpollFlags::EPOLLRDHUP | EpollFlags::EPOLLET | write;
        let event = EventSource::Connection(self.token).event(flags);
        match before {
            Interest::None => self.transport.watch(&poll.epoll, event),
            Interest::Read | Interest::ReadWrite => self.transport.change_watch(&poll.epoll, event),
        }
    }

    /// Watches its socket no more. Closing does not remove it from epoll while another process has it, too (a child of the application, a
    /// sibling).
    pub fn forget(&self, poll: &Poll) {
        if self.interest != Interest::None {
            self.transport.forget(&poll.epoll);
        }
    }

    /// Makes it one that came to this listener of another worker, which knows whether its PROXY header has come. It speaks as it did there,
    /// even if its listener is gone.
    pub fn become_moved(&mut self, listener: &str, proxy_expected: bool) {
        let protocol = Protocol::of(listener);
        self.tls = protocol == Protocol::Https;
        self.opening = match protocol {
            Protocol::Uwsgi => Opening::Uwsgi,
            Protocol::Http | Protocol::Https if proxy_expected => self.opening,
            Protocol::Https if !self.transport.is_tls() => Opening::Handshake,
            Protocol::Http | Protocol::Https => Opening::Head,
        };
    }

    /// How to watch it while it is read: TLS may have something to send first.
    pub fn reads(&self) -> Interest {
        if self.transport.is_blocked() { Interest::ReadWrite } else { Interest::Read }
    }

    /// Bytes were read, as many as there was room for or not.
    pub fn has_read(&mut self, full: bool) {
        self.readable = full || self.half_closed || self.transport.has_more();
    }

    /// Takes note of what epoll has reported.
    pub fn reported(&mut self, flags: EpollFlags) {
        let ended = flags.intersects(EpollFlags::EPOLLRDHUP | EpollFlags::EPOLLHUP | EpollFlags::EPOLLERR);
        self.half_closed |= ended;
        self.readable |= ended || flags.contains(EpollFlags::EPOLLIN);
    }

    /// Keeps the beginning of the next request.
    pub fn keep(&mut self, bytes: &[u8]) {
        self.partial = Some(Box::new(Partial { bytes: bytes.to_vec(), ..Partial::default() }));
    }

    /// How long it may idle.
    pub fn keep_alive(&self, worker: &WorkerSettings) -> Duration {
        if self.requests == 0 { worker.header_timeout } else { worker.keep_alive }
    }

    /// Whether nothing of its next request was read.
    pub fn idles(&self) -> bool {
        self.gives_way() && !self.transport.shakes_hands()
    }

    /// Whether it may be closed for a newcomer's sake: no request of its client's has begun. A handshake that does not come to its end must not
    /// keep others out.
    pub fn gives_way(&self) -> bool {
        matches!(self.phase, Phase::Head) && self.partial.is_none()
    }

    /// Since when it has waited for its next request; `None` if it has no deadline to tell that from.
    pub fn idle_since(&self, worker: &WorkerSettings) -> Option<Moment> {
        self.deadline.due()?.checked_sub(self.keep_alive(worker))
    }
}

/// What the next bytes of a connection are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Opening {
    /// A request's head.
    Head,
    /// A PROXY header, which must come first.
    ProxyHeader,
    /// TLS's handshake.
    Handshake,
    /// A request of the uwsgi protocol.
    Uwsgi,
}

impl Opening {
    /// For a connection that was just accepted.
    fn of(shared: &Shared, listener: u16, address: Option<SocketAddr>) -> Opening {
        match shared.boot.listeners[usize::from(listener)].protocol {
            Protocol::Uwsgi => Opening::Uwsgi,
            Protocol::Http | Protocol::Https if proxy_expected(shared.trust(listener), address) => Opening::ProxyHeader,
            Protocol::Https => Opening::Handshake,
            Protocol::Http => Opening::Head,
        }
    }
}

/// See [`Connection::interest`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd)]
pub(crate) enum Interest {
    None,
    Read,
    ReadWrite,
}

/// Where a connection is between two requests.
pub(crate) enum Phase {
    /// Nothing of the next request has come, or only part of its head ([`Connection::partial`]).
    Head,
    /// The head is complete, the body is not.
    Body(Box<Work>, Box<BodyReader>),
    /// The request is complete and waits for a Python thread.
    Ready(Box<Work>),
    /// Its call is under way on this thread.
    Called(u16, Option<Backlog>),
    /// The call is over, and the client has still to take the rest.
    Writing(Box<Work>, Backlog, Next),
    /// The last response and FIN are sent; what the client still sends is read and discarded, so that it sees the response
    /// rather than a reset (RFC 9112 §9.6). The number: how many more bytes are read.
    Lingering(u64),
}

/// What a client has still to take, during the call and after it.
pub(crate) struct Backlog {
    pub outbox: Arc<Outbox>,
    /// How fast the client takes the bytes since the backlog was last empty.
    pace: Option<Pace>,
    /// When the client must have taken more. (The connection's own deadline is that of the call.)
    pub deadline: Deadline,
}

/// How quickly a client takes what there is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Pace {
    since: Moment,
    /// How many bytes it had taken at `since`.
    from: u64,
    /// How many it has taken by now.
    taken: u64,
}

impl Backlog {
    pub fn new(outbox: Arc<Outbox>) -> Backlog {
        Backlog { outbox, pace: None, deadline: Deadline::default() }
    }

    /// The client has taken everything that there is so far.
    pub fn has_emptied(&mut self) {
        self.pace = None;
        self.deadline.clear();
    }

    /// The client takes no more now, and has taken `taken` bytes of the response. Returns whether some of those are new, and whether it is
    /// slower than the minimum rate.
    pub fn is_blocked(&mut self, taken: u64, min_rate: u64, now: Moment) -> (bool, bool) {
        let first = self.pace.is_none();
        let pace = self.pace.get_or_insert(Pace { since: now, from: taken, taken });
        let more = std::mem::replace(&mut pace.taken, taken) < taken;
        (first || more, too_slow(taken - pace.from, min_rate, took(pace.since, now)))
    }

    /// How many bytes the client had taken when it took no more.
    pub fn taken(&self) -> u64 {
        self.pace.map_or(0, |pace| pace.taken)
    }
}

/// What follows a response.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Next {
    Request,
    Close,
    /// Close with a reset, where an orderly end would make a cut response look whole.
    Reset,
}

/// An incomplete head.
#[derive(Default)]
pub(crate) struct Partial {
    pub bytes: Vec<u8>,
    /// How many of `bytes` did not come from the client: see [`uwsgi::UwsgiRequest::text`].
    pub prefix: usize,
    pub head: RequestHead,
    pub reader: RequestReader,
    /// When its first byte came.
    pub since: Option<Moment>,
}
