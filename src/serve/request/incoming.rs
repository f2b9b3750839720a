//! A request as it was read: its bytes, its head, its body and its client.

use std::{sync::Arc, time::Duration};

use ostler_http::{
    Refusal, RequestHead, Version,
    proxy::{
        forwarded::{Origin, origin},
        hidden::{OddNames, hidden_fields},
        identity::request_start,
    },
    target::is_below,
};
use ostler_wire::HeaderMap;

use super::peer::{Client, Peer};
use crate::{moment::Moment, poll::clock::Clock, shared::Shared, storage::body::Body};

/// The longest time that a request is believed to have waited in proxies.
const LONGEST_WAIT: Duration = Duration::from_secs(3600);
/// The size of a buffer that heads are read into.
const BUFFER: usize = 16 * 1024;

/// When and how much of a request came.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Arrival {
    /// When its first byte came, here or to a proxy in front that says so.
    pub begun: Moment,
    /// It was the proxy.
    pub in_front: bool,
    /// Bytes of its body.
    pub body: u64,
}

impl Arrival {
    pub fn at(now: Moment) -> Arrival {
        Arrival { begun: now, in_front: false, body: 0 }
    }
}

/// When a proxy had the request, on the clock of this machine. A proxy whose clock is ahead has it now; what is longer ago than a request
/// waits anywhere is no time of this request.
fn sent(start: Duration, clock: &Clock) -> Option<Moment> {
    let ago = clock.since_1970().saturating_sub(start);
    if ago <= LONGEST_WAIT { clock.now.checked_sub(ago) } else { None }
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
    /// What it is called; empty if requests have no ids.
    pub id: String,
    /// Whether the application finds it in no field of the client's.
    pub adds_id: bool,
    pub arrival: Arrival,
}

impl Incoming {
    pub fn new(peer: Peer, now: Moment) -> Incoming {
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
            id: String::new(),
            adds_id: false,
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

    /// Empty if the head could not be parsed.
    pub fn method(&self) -> &[u8] {
        self.head.method.of(&self.bytes)
    }

    /// What it is called, for the log.
    pub fn id(&self) -> Option<&str> {
        (!self.id.is_empty()).then_some(&self.id)
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

    /// Fills in who the client is, which fields the application may not see, and when a proxy had the request.
    pub(crate) fn describe(&mut self, shared: &Shared, clock: &Clock) -> Result<(), Refusal> {
        let worker = &shared.boot.worker;
        let (head, bytes) = (&self.head, &self.bytes);
        let odd_names = match worker.header_map {
            HeaderMap::Drop => OddNames::Drop,
            HeaderMap::Refuse => OddNames::Refuse,
            HeaderMap::Dangerous => OddNames::Dangerous,
        };
        let believed = &shared.believed[usize::from(self.client.listener)];
        hidden_fields(head, bytes, odd_names, believed, self.trusted, &mut self.hidden)?;
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
            if believed.start
                && let Some(sent) = request_start(head, bytes).and_then(|start| sent(start, clock))
            {
                self.arrival.begun = sent.min(self.arrival.begun);
                self.arrival.in_front = true;
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
        self.id.clear();
        self.adds_id = false;
        self.filled = 0;
        self.prefix = 0;
        self.consumed = 0;
        if self.bytes.len() != BUFFER {
            self.bytes = vec![0; BUFFER];
        }
    }
}
