//! A client's connection, and the work that one request on it is.

use std::{net::SocketAddr, sync::Arc, time::Instant};

use ostler_http::RequestHead;

use crate::{
    application::{Body, Client},
    body::BodyReader,
    outbox::Outbox,
    response::{Outgoing, Response},
    timers::{Deadline, Token},
    transport::Transport,
};

/// The size of a buffer that heads are read into.
pub(crate) const BUFFER: usize = 16 * 1024;
/// How many bytes are read from one connection, or sent to it, in one turn of the loop; then others have theirs.
pub(crate) const TURN: usize = 256 * 1024;

/// An open connection. Small while it idles: buffers belong to requests.
pub(crate) struct Connection {
    pub token: Token,
    pub transport: Arc<Transport>,
    /// The peer's as the socket said when it was accepted, or as a PROXY header said; none on a Unix socket.
    pub address: Option<SocketAddr>,
    pub peer: Option<Peer>,
    pub listener: u16,
    pub phase: Phase,
    pub deadline: Deadline,
    /// Bytes of the next request's head, or of several requests.
    pub partial: Option<Box<Partial>>,
    /// Whether epoll knows it, and whether it asks for writability.
    pub interest: Interest,
    /// The socket had more to read when it was last looked at, or has had an event since.
    pub readable: bool,
    /// FIN came.
    pub half_closed: bool,
    /// A PROXY header must come first.
    pub proxy_expected: bool,
    /// It moves when its turn comes (see handover.rs).
    pub leaving: bool,
    /// Requests so far.
    pub requests: u32,
    /// When the bytes came that were read first, if they had lain in the listener's queue.
    pub came: Option<Instant>,
}

/// Who is at the other end.
#[derive(Clone)]
pub(crate) struct Peer {
    pub client: Arc<Client>,
    /// Whether its word on forwarding counts (`--forwarded-allow-ips`).
    pub trusted: bool,
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
    /// The last response is out and FIN sent; what the client still sends is read and forgotten, so that it sees the response
    /// rather than a reset (RFC 9112 §9.6). How many bytes more.
    Lingering(u64),
}

/// What a client has still to take, during the call and after it.
pub(crate) struct Backlog {
    pub outbox: Arc<Outbox>,
    /// Since there was last nothing to take.
    pub pace: Option<Pace>,
    /// Of the client's taking more. The connection's own is the call's.
    pub deadline: Deadline,
}

/// How quickly a client takes what there is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Pace {
    pub since: Instant,
    /// How much it had taken by then.
    pub from: u64,
    /// And has by now.
    pub taken: u64,
}

impl Backlog {
    pub fn new(outbox: Arc<Outbox>) -> Backlog {
        Backlog { outbox, pace: None, deadline: Deadline::default() }
    }
}

/// What follows a response.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Next {
    Request,
    Close,
    /// With a reset, where an orderly end would make a cut response look whole.
    Reset,
}

/// A head that has not come whole.
#[derive(Default)]
pub(crate) struct Partial {
    pub bytes: Vec<u8>,
    pub head: RequestHead,
    /// When its first byte came.
    pub since: Option<Instant>,
}

/// One request and its response. Reused, so that its buffers are allocated once.
pub(crate) struct Work {
    pub incoming: Incoming,
    pub outgoing: Outgoing,
    /// When the request was complete.
    pub ready: Instant,
    /// When the call began.
    pub started: Instant,
    /// Whether it found no Python thread free.
    pub waited: bool,
    /// Whether it is to be found out if the call waits for something, and whether it has.
    pub measured: bool,
    pub slept: bool,
    pub panicked: bool,
}

/// A request as it was read.
pub(crate) struct Incoming {
    pub bytes: Vec<u8>,
    /// How many of `bytes` came from the client.
    pub filled: usize,
    /// How many of those belong to this request.
    pub consumed: usize,
    pub head: RequestHead,
    /// Whether `bytes` holds the body, too: nothing of the request was read elsewhere.
    pub whole: bool,
    pub body: Body,
    pub client: Arc<Client>,
    /// See [`Peer::trusted`].
    pub trusted: bool,
    pub hidden: Vec<u16>,
}

impl Incoming {
    /// The request line, or of one that cannot be read what has come of it, for the log.
    pub fn line(&self) -> String {
        let line = match self.line_bytes() {
            b"" => self.bytes[..self.filled].split(|&byte| byte == b'\r').next().unwrap_or_default(),
            line => line,
        };
        String::from_utf8_lossy(&line[..line.len().min(2048)]).into_owned()
    }

    /// Gives back the memory that only reading needed; what the access log shows stays.
    pub fn slim(&mut self) {
        let length = if self.head.length > 0 { self.head.length } else { self.filled };
        self.bytes.truncate(length);
        self.bytes.shrink_to_fit();
        self.filled = length;
    }

    /// Puts the beginning of the next request behind this one, whose spans stay good for the log.
    pub fn append(&mut self, behind: &[u8]) {
        if !behind.is_empty() {
            self.bytes.truncate(self.filled);
            self.bytes.extend_from_slice(behind);
            self.filled = self.bytes.len();
        }
    }

    /// Method and target as they came, with the version: what the scoreboard and the access log show. Empty where no head could be read.
    pub fn line_bytes(&self) -> &[u8] {
        if self.head.target.end == 0 {
            return b"";
        }
        let start = self.head.method.start as usize;
        // `HTTP/1.1` follows the target and one space.
        let end = (self.head.target.end as usize + 9).min(self.bytes.len());
        &self.bytes[start..end]
    }
}

impl Work {
    pub fn new(outgoing: Outgoing, peer: Peer, now: Instant) -> Box<Work> {
        let incoming = Incoming {
            bytes: vec![0; BUFFER],
            filled: 0,
            consumed: 0,
            head: RequestHead::default(),
            whole: true,
            body: Body::Empty,
            client: peer.client,
            trusted: peer.trusted,
            hidden: Vec::new(),
        };
        Box::new(Work {
            incoming,
            outgoing,
            ready: now,
            started: now,
            waited: false,
            measured: false,
            slept: false,
            panicked: false,
        })
    }

    /// The way back to its client.
    pub fn response(&mut self) -> Response<'_> {
        Response { out: &mut self.outgoing, request: &self.incoming.head, bytes: &self.incoming.bytes }
    }

    /// Keeps, while a client takes its time, only what the access log shows.
    pub fn slim(&mut self) {
        self.incoming.slim();
        self.outgoing.slim();
    }

    /// Makes it ready for another connection's request.
    pub fn reset(&mut self) {
        self.incoming.head.clear();
        self.incoming.body = Body::Empty;
        self.incoming.whole = true;
        self.incoming.hidden.clear();
        self.incoming.filled = 0;
        self.incoming.consumed = 0;
        if self.incoming.bytes.len() != BUFFER {
            self.incoming.bytes = vec![0; BUFFER];
        }
        self.waited = false;
        self.slept = false;
        self.outgoing.reset();
    }
}
