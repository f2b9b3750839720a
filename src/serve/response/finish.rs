//! From the end of a call to the connection's next request, or to its close.

use std::time::Duration;

use ostler_http::h1::ResponseFraming;
use ostler_wire::Recycle;

use super::Progress;
use crate::{
    connection::{Backlog, Connection, Interest, Next, Partial, Phase, TURN},
    event_loop::{Loop, timers::Token},
    request::work::Work,
};

/// How many bytes that a client still sends are read and discarded after a refusal, so that the client sees the answer.
const LINGER_BYTES: u64 = 4 << 20;
/// And for how long.
const LINGER_TIME: Duration = Duration::from_secs(3);

impl Loop {
    /// Goes on with a connection whose call is over.
    pub(crate) fn finish_one(&mut self, mut work: Box<Work>) {
        self.calls.under_way -= 1;
        let token = work.outgoing.token;
        let stuck = self.calls.take_stuck(token);
        let answered = stuck.as_ref().is_some_and(|stuck| stuck.answered);
        if !answered {
            self.count_answer(work.outgoing.status, work.outgoing.body_bytes);
        }
        if work.panicked {
            self.ask_replacement(Recycle::Panic);
        }
        self.count_request();
        if let Some(live) = work.outgoing.live.take() {
            let (complete, behind) = live.take_back();
            work.outgoing.keep_alive &= complete;
            if let Some(connection) = self.connection(token) {
                // The rest of the body may still come. A reset would then discard the answer.
                connection.readable |= !complete;
            }
            work.incoming.append(&behind);
        }
        if stuck.is_some() {
            if answered {
                self.pool.keep(work)
            } else {
                self.record_request(work)
            }
            return self.close(token);
        }
        self.answered(token, work);
    }

    /// The response is made. Drains what the client has not taken yet, before the next request.
    pub(crate) fn answered(&mut self, token: Token, work: Box<Work>) {
        let out = &work.outgoing;
        let outbox = out.outbox.clone();
        let given_up = outbox.as_ref().is_some_and(|outbox| outbox.is_given_up());
        let next = match out.progress {
            _ if given_up => Next::Reset,
            // Even if the site stops meanwhile: the client was told keep-alive, and may have sent its next request.
            Progress::Ended if out.keep_alive => Next::Request,
            Progress::Ended => Next::Close,
            // Closing the connection marks the end of such a body, so only a reset shows that it is incomplete.
            _ if out.framing == Some(ResponseFraming::Close) => Next::Reset,
            _ => Next::Close,
        };
        let incoming = &work.incoming;
        let behind = &incoming.bytes[incoming.consumed..incoming.filled];
        let Some(connection) = self.connections.get(token) else {
            return self.record_request(work);
        };
        connection.requests = connection.requests.saturating_add(1);
        if !behind.is_empty() {
            connection.partial = Some(Box::new(Partial { bytes: behind.to_vec(), ..Partial::default() }));
        }
        match outbox.filter(|_| !given_up) {
            Some(outbox) => {
                connection.deadline.clear();
                connection.phase = Phase::Writing(work, Backlog::new(outbox), next);
                self.drain_outbox(token);
            }
            None => {
                self.record_request(work);
                self.after(token, next);
            }
        }
    }

    /// Nothing more of a response is to be sent.
    pub(crate) fn written(&mut self, token: Token, next: Next) {
        if let Some(connection) = self.connection(token)
            && let Phase::Writing(work, ..) = std::mem::replace(&mut connection.phase, Phase::Head)
        {
            self.record_request(work);
        }
        self.after(token, next);
    }

    /// Goes on after a response: with the next request, or the close.
    pub(crate) fn after(&mut self, token: Token, next: Next) {
        let Some(connection) = self.connection(token) else { return };
        match next {
            Next::Request => {
                connection.phase = Phase::Head;
                let begun = connection.partial.is_some();
                if !begun && !connection.readable {
                    self.wait_for_request(token);
                } else if !(begun && self.life.hands_over() && self.give(token)) {
                    self.turn.go_on_later(token);
                }
            }
            Next::Close if connection.half_closed || connection.partial.is_none() && !connection.readable => {
                // Closing sends no FIN while a child of the application has the same socket.
                connection.transport.finish_sending();
                self.close(token);
            }
            Next::Close => self.begin_lingering(token),
            Next::Reset => {
                connection.transport.reset_on_close();
                self.close(token);
            }
        }
    }

    fn begin_lingering(&mut self, token: Token) {
        let Some(connection) = self.connection(token) else { return };
        connection.transport.finish_sending();
        connection.partial = None;
        connection.phase = Phase::Lingering(LINGER_BYTES);
        self.watch(token, Interest::Read);
        self.set_deadline(token, self.clock.now, LINGER_TIME);
        self.turn.go_on_later(token);
    }

    /// Reads and discards what the client still sends.
    pub(crate) fn linger(&mut self, token: Token) {
        let mut scratch = std::mem::take(&mut self.scratch);
        if let Some(Connection { phase: Phase::Lingering(left), transport, .. }) = self.connection(token) {
            let mut turn = 0;
            let over = loop {
                match transport.receive(&mut scratch) {
                    Ok(None) => break false,
                    Ok(Some(length @ 1..)) if *left > length as u64 => {
                        *left -= length as u64;
                        turn += length;
                    }
                    _ => break true,
                }
                if turn >= TURN {
                    self.turn.go_on_later(token);
                    break false;
                }
            };
            if over {
                self.close(token);
            }
        }
        self.scratch = scratch;
    }
}
