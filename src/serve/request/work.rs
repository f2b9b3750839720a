//! The state of one request: its bytes, and its response.

use std::{sync::Arc, time::Instant};

use ostler_http::RequestHead;

use crate::{
    application::{Body, Client},
    connection::Peer,
    response::{Outgoing, Response},
};

/// The size of a buffer that heads are read into.
pub(crate) const BUFFER: usize = 16 * 1024;

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
    /// Whether to measure if the call waits for something, and whether it has waited.
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
    /// Whether `bytes` holds the whole request, with its body.
    pub whole: bool,
    pub body: Body,
    pub client: Arc<Client>,
    /// See [`Peer::trusted`].
    pub trusted: bool,
    pub hidden: Vec<u16>,
}

impl Incoming {
    /// The request line for the log; of a request that cannot be parsed, its first line so far.
    pub fn line(&self) -> String {
        let line = match self.line_bytes() {
            b"" => self.bytes[..self.filled].split(|&byte| byte == b'\r').next().unwrap_or_default(),
            line => line,
        };
        String::from_utf8_lossy(&line[..line.len().min(2048)]).into_owned()
    }

    /// Frees the memory that only reading needed. Keeps what the access log shows.
    pub fn slim(&mut self) {
        let length = if self.head.length > 0 { self.head.length } else { self.filled };
        self.bytes.truncate(length);
        self.bytes.shrink_to_fit();
        self.filled = length;
    }

    /// Appends the beginning of the next request to this one's bytes. This one's spans stay valid, for the log.
    pub fn append(&mut self, behind: &[u8]) {
        if !behind.is_empty() {
            self.bytes.truncate(self.filled);
            self.bytes.extend_from_slice(behind);
            self.filled = self.bytes.len();
        }
    }

    /// Method, target and version as they came, for the scoreboard and the access log. Empty if the head could not be parsed.
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

    /// Where the response is sent.
    pub fn response(&mut self) -> Response<'_> {
        Response { out: &mut self.outgoing, request: &self.incoming.head, bytes: &self.incoming.bytes }
    }

    /// While a slow client takes its response, keeps only what the access log shows.
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
