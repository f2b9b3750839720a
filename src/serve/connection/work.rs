//! One request and its response, on their way through the worker.

use std::time::Instant;

use crate::{
    request::{incoming::Incoming, peer::Peer},
    response::{Outgoing, Response},
};

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

impl Work {
    pub fn new(outgoing: Outgoing, peer: Peer, now: Instant) -> Box<Work> {
        Box::new(Work {
            incoming: Incoming::new(peer),
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
        self.incoming.reset();
        self.waited = false;
        self.slept = false;
        self.outgoing.reset();
    }
}
