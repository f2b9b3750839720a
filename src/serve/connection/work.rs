//! One request and its response, on their way through the worker.

use std::time::Duration;

use ostler_http::h1::ResponseFraming;

use super::{Next, Partial};
use crate::{
    moment::Moment,
    poll::clock::{Clock, took},
    request::{incoming::Incoming, peer::Peer},
    response::{Outgoing, Progress, Response, access_log::Times},
};

/// One request and its response. Reused, so that its buffers are allocated once.
pub(crate) struct Work {
    pub incoming: Incoming,
    pub outgoing: Outgoing,
    /// When the request was complete.
    pub ready: Moment,
    /// When the call began.
    pub started: Moment,
    /// How long it took, once it is over.
    pub call: Option<Duration>,
    /// Whether it found no Python thread free.
    pub waited: bool,
    /// Whether to measure if the call waits for something, and whether it has waited.
    pub measured: bool,
    pub slept: bool,
    pub panicked: bool,
}

impl Work {
    pub fn new(outgoing: Outgoing, peer: Peer, now: Moment) -> Box<Work> {
        Box::new(Work {
            incoming: Incoming::new(peer, now),
            outgoing,
            ready: now,
            started: now,
            call: None,
            waited: false,
            measured: false,
            slept: false,
            panicked: false,
        })
    }

    /// Where the response is sent.
    pub fn response(&mut self) -> Response<'_> {
        let incoming = &self.incoming;
        Response { out: &mut self.outgoing, request: &incoming.head, bytes: &incoming.bytes, id: incoming.id() }
    }

    /// Whether it has waited for its call for longer than `bound`; zero for no bound.
    pub fn is_overdue(&self, bound: Duration, now: Moment) -> bool {
        !bound.is_zero() && took(self.ready, now) > bound
    }

    /// How long it waited for its call, in this worker, the kernel, or proxies that say so.
    pub fn queue_time(&self) -> Duration {
        let arrival = self.incoming.arrival;
        took(if arrival.in_front { arrival.begun } else { self.ready }, self.started)
    }

    /// What the access log tells of it when it is over.
    pub fn times(&self, clock: &Clock) -> Times {
        let now = clock.now;
        Times {
            millisecond: clock.since_1970().subsec_millis(),
            queue: self.call.map(|_| self.queue_time()),
            call: self.call,
            response: took(self.started, now),
            total: took(self.incoming.arrival.begun, now),
        }
    }

    /// Goes on with a head that has come in pieces.
    pub fn take_head(&mut self, partial: Partial) {
        if let Some(since) = partial.since {
            self.incoming.arrival.begun = since;
        }
        self.incoming.filled = partial.bytes.len();
        self.incoming.prefix = partial.prefix;
        self.incoming.bytes = partial.bytes;
        self.incoming.head = partial.head;
    }

    /// What follows on the connection when the response is sent.
    pub fn next(&self) -> Next {
        let out = &self.outgoing;
        match out.progress {
            _ if out.outbox.as_ref().is_some_and(|outbox| outbox.is_given_up()) => Next::Reset,
            // Even if the site stops meanwhile: the client was told keep-alive, and may have sent its next request.
            Progress::Ended if out.keep_alive => Next::Request,
            Progress::Ended => Next::Close,
            // Closing the connection marks the end of such a body, so only a reset shows that it is incomplete.
            _ if out.framing == Some(ResponseFraming::Close) => Next::Reset,
            _ => Next::Close,
        }
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
        self.call = None;
        self.outgoing.reset();
    }
}
