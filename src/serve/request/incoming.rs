//! A request as it was read: its bytes, its head, its body and its client.

use std::{sync::Arc, time::Instant};

use ostler_http::{
    Refusal, RequestHead, Version,
    proxy::{
        forwarded::{Origin, origin},
        hidden::{OddNames, hidden_fields},
    },
    target::is_below,
};
use ostler_wire::HeaderMap;

use super::peer::{Client, Peer};
use crate::{shared::Shared, storage::body::Body};

/// The size of a buffer that heads are read into.
const BUFFER: usize = 16 * 1024;

/// When and how much of a request came.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Arrival {
    /// When its first byte came.
    pub begun: Instant,
    /// Bytes of its body.
    pub body: u64,
}

impl Arrival {
    pub fn at(now: Instant) -> Arrival {
        Arrival { begun: now, body: 0 }
    }
}

/// A request as it was read.
pub(crate) struct Incoming {
    pub bytes: Vec<u8>,
    /// How many of `bytes` are in use.
    pub filled: usize,
    /// How many of those did not come from the client, at the beginning: see [`ostler_http::uwsgi::UwsgiRequest::text`].
    pub prefix: usize,
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
    pub arrival: Arrival,
}

impl Incoming {
    pub fn new(peer: Peer, now: Instant) -> Incoming {
        Incoming {
            bytes: vec![0; BUFFER],
            filled: 0,
            prefix: 0,
            consumed: 0,
            head: RequestHead::default(),
            whole: true,
            body: Body::Empty,
            client: peer.client,
            trusted: peer.trusted,
            hidden: Vec::new(),
            arrival: Arrival::at(now),
        }
    }

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

    /// As in [`Incoming::line_bytes`]. Whoever comes by the uwsgi protocol is answered as if by HTTP/1.0, and may speak 1.1.
    pub fn version(&self) -> &'static [u8] {
        match self.head.version {
            Version::Http10 if !self.line_bytes().ends_with(b"1.1") => b"HTTP/1.0",
            _ => b"HTTP/1.1",
        }
    }

    /// Fills in who the client is, and which fields the application may not see.
    pub(crate) fn describe(&mut self, shared: &Shared) -> Result<(), Refusal> {
        let worker = &shared.boot.worker;
        let (head, bytes) = (&self.head, &self.bytes);
        let odd_names = match worker.header_map {
            HeaderMap::Drop => OddNames::Drop,
            HeaderMap::Refuse => OddNames::Refuse,
            HeaderMap::Dangerous => OddNames::Dangerous,
        };
        let believed = &shared.believed[usize::from(self.client.listener)];
        hidden_fields(head, bytes, odd_names, self.trusted.then_some(believed), &mut self.hidden)?;
        if let Some(authority) = head.authority {
            let host = String::from_utf8_lossy(authority.of(bytes)).into_owned();
            Arc::make_mut(&mut self.client).host = Some(host);
        }
        if self.trusted {
            let trust = shared.trust(self.client.listener);
            let origin = origin(head, bytes, believed, |ip| trust.forwarded_allow.contains(ip))?;
            if origin != Origin::default() {
                Arc::make_mut(&mut self.client).apply(&origin);
            }
        }
        // A proxy that names a prefix has removed it from the path. --root-path is still part of the path.
        let mounted = self.client.prefix.is_some() || is_below(worker.root_path.as_bytes(), head.path.of(bytes));
        if mounted { Ok(()) } else { Err(Refusal { status: 404, why: "path outside of --root-path" }) }
    }

    /// Makes it ready for another request.
    pub fn reset(&mut self) {
        self.head.clear();
        self.body = Body::Empty;
        self.whole = true;
        self.hidden.clear();
        self.filled = 0;
        self.prefix = 0;
        self.consumed = 0;
        if self.bytes.len() != BUFFER {
            self.bytes = vec![0; BUFFER];
        }
    }
}
