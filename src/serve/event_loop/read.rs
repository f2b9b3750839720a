//! Reads heads and bodies, until a request can be dispatched.

use std::{sync::atomic::Ordering::Relaxed, time::Duration};

use ostler_http::{
    Refusal,
    h1::{CONTINUE, Parse, RequestReader},
};
use ostler_wire::Protocol;
use slog::debug;

use super::{
    Loop,
    handshake::{OTHER_SETTINGS, WITHOUT_TLS},
};
use crate::{
    connection::{Interest, Opening, Partial, Phase, work::Work},
    moment::Moment,
    poll::{
        clock::took,
        timers::{Token, end_of},
    },
    request::{
        body::{BodyReader, LiveHandle, Problem, TOO_LARGE_TO_SPOOL},
        rate::too_slow,
    },
    storage::{body::Body, store::Shortage},
    transport::TURN,
};

pub(super) const NO_ROOM: Refusal = Refusal { status: 503, why: "no room for the body" };
pub(super) const THE_END: Refusal = Refusal { status: 503, why: "the worker ends" };
const CUT_HEAD: Refusal = Refusal { status: 400, why: "the client broke off its head" };

impl Loop {
    /// Reads what there is of a request's head.
    pub(super) fn read_head(&mut self, token: Token) {
        if self.better_elsewhere() && self.give(token) {
            return;
        }
        if !self.shake_hands(token) {
            return;
        }
        let Some(connection) = self.connection(token) else { return };
        let Some(partial) = connection.partial.take() else { return self.read_fresh_head(token) };
        self.read_more_head(token, partial);
    }

    /// The usual case: the whole head, and the body if it is small, come in one piece.
    fn read_fresh_head(&mut self, token: Token) {
        let Some(mut work) = self.work_for(token) else { return };
        let incoming = &mut work.incoming;
        let received = work.outgoing.transport().receive(&mut incoming.bytes);
        let Some(connection) = self.connections.get(token) else { return };
        match received {
            Ok(Some(length @ 1..)) => {
                self.tally.received += length as u64;
                self.tally.idle -= u64::from(std::mem::take(&mut connection.idle));
                connection.has_read(length == incoming.bytes.len());
                incoming.filled = length;
                if connection.opening != Opening::Head {
                    let partial = Partial { bytes: incoming.bytes[..length].to_vec(), ..Partial::default() };
                    self.pool.keep(work);
                    return self.read_more_head(token, Box::new(partial));
                }
            }
            Ok(None) => {
                connection.readable = false;
                self.pool.keep(work);
                return self.wait_for_request(token);
            }
            Ok(Some(0)) => {
                self.pool.keep(work);
                return self.ended(token);
            }
            Err(_) => {
                self.pool.keep(work);
                return self.broken(token);
            }
        }
        let readable = connection.readable;
        let mut reader = RequestReader::default();
        match reader.read(&mut incoming.head, &incoming.bytes[..incoming.filled], &self.limits) {
            Ok(Parse::Complete) => self.head_complete(token, work),
            Ok(Parse::Partial) => {
                let partial = Box::new(Partial {
                    bytes: incoming.bytes[..incoming.filled].to_vec(),
                    prefix: 0,
                    head: std::mem::take(&mut incoming.head),
                    reader,
                    since: Some(self.clock.now),
                });
                self.pool.keep(work);
                // Epoll reports only new bytes (edge-triggered), not those that are still unread.
                if readable { self.read_more_head(token, partial) } else { self.keep_partial(token, partial) }
            }
            Err(refusal) => self.refuse(token, work, refusal),
        }
    }

    /// Reads on in a head that comes in pieces, or behind another request.
    fn read_more_head(&mut self, token: Token, mut partial: Box<Partial>) {
        let begun = partial.since.get_or_insert(self.clock.now).to_owned();
        let mut scratch = std::mem::take(&mut self.scratch);
        let complete = loop {
            match self.parse_partial(token, &mut partial) {
                Ok(Parse::Partial) => {}
                complete => break Some(complete),
            }
            let Some(connection) = self.connection(token) else { break None };
            if connection.opening == Opening::Handshake {
                // What follows the PROXY header is TLS.
                connection.partial = Some(partial);
                self.scratch = scratch;
                return self.read_head(token);
            }
            let length = match connection.transport.receive(&mut scratch) {
                Ok(Some(length @ 1..)) => length,
                Ok(None) => {
                    connection.readable = false;
                    break None;
                }
                Ok(Some(0)) if !b"\r\n".starts_with(&partial.bytes) => break Some(Err(CUT_HEAD)),
                Ok(Some(0)) => {
                    self.scratch = scratch;
                    return self.ended(token);
                }
                Err(_) => {
                    self.scratch = scratch;
                    return self.broken(token);
                }
            };
            self.tally.received += length as u64;
            partial.bytes.extend_from_slice(&scratch[..length]);
        };
        self.scratch = scratch;
        let Some(complete) = complete else {
            partial.since = Some(begun);
            return self.keep_partial(token, partial);
        };
        let Some(mut work) = self.work_for(token) else { return };
        work.take_head(*partial);
        match complete {
            Ok(_) => self.head_complete(token, work),
            Err(refusal) => self.refuse(token, work, refusal),
        }
    }

    fn parse_partial(&mut self, token: Token, partial: &mut Partial) -> Result<Parse, Refusal> {
        if let Some(connection) = self.connections.get(token) {
            if connection.opening == Opening::Uwsgi {
                let complete = connection.take_uwsgi(partial, &self.limits, &self.shared)?;
                return Ok(if complete { Parse::Complete } else { Parse::Partial });
            }
            if !connection.take_proxy_header(&mut partial.bytes)? {
                return Ok(Parse::Partial);
            }
            if connection.opening == Opening::Handshake {
                return Ok(Parse::Partial);
            }
        }
        partial.reader.read(&mut partial.head, &partial.bytes, &self.limits)
    }

    /// Waits for the rest of a head.
    fn keep_partial(&mut self, token: Token, partial: Box<Partial>) {
        let since = partial.since.unwrap_or(self.clock.now);
        let Some(connection) = self.connection(token) else { return };
        // An extra CRLF behind a body begins no request (RFC 9112 §2.2). It can begin a PROXY header (version 2).
        if partial.bytes == b"\r\n" && connection.opening == Opening::Head {
            return self.wait_for_request(token);
        }
        connection.partial = Some(partial);
        self.set_deadline(token, since, self.shared.boot.worker.header_timeout);
        self.wait_for_request(token);
    }

    /// Waits for the next request, or for the rest of one. If the worker drains, the connection moves or closes instead.
    pub(super) fn wait_for_request(&mut self, token: Token) {
        if self.move_or_close_idle(token) {
            return;
        }
        let Some(connection) = self.connections.get(token) else { return };
        let interest = connection.reads();
        self.watch(token, interest);
        let Some(connection) = self.connections.get(token) else { return };
        if connection.partial.is_none() {
            self.tally.idle += u64::from(!std::mem::replace(&mut connection.idle, true));
            let wait = connection.keep_alive(&self.shared.boot.worker);
            self.set_deadline(token, self.clock.now, wait);
            if self.intake.end_crowding() {
                self.arm();
            }
        }
    }

    /// Sets a connection's deadline: `since` plus `bound`; none if `bound` is zero.
    pub(super) fn set_deadline(&mut self, token: Token, since: Moment, bound: Duration) {
        let timers = &mut self.timers;
        if let Some(connection) = self.connections.get(token) {
            timers.set(token, &mut connection.deadline, end_of(since, bound));
        }
    }

    /// The head is complete. Decides whether a body follows.
    fn head_complete(&mut self, token: Token, mut work: Box<Work>) {
        let keep = !self.shared.boot.worker.keep_alive.is_zero() && self.life.keeps_connections();
        if work.incoming.head.forwarding && !work.incoming.trusted {
            self.shared.slot().unbelieved.fetch_add(1, Relaxed);
        }
        if let Err(refusal) = work.incoming.describe(&self.shared, &self.clock) {
            return self.refuse(token, work, refusal);
        }
        work.incoming.identify(&self.shared);
        let Some(connection) = self.connections.peek(token) else { return };
        if connection.transport.lacks_tls() {
            return self.refuse(token, work, WITHOUT_TLS);
        }
        if !self.still_admits(connection) {
            return self.refuse(token, work, OTHER_SETTINGS);
        }
        let Some(connection) = self.connection(token) else { return };
        let incoming = &mut work.incoming;
        work.outgoing.half_closed = connection.half_closed;
        let more = !connection.half_closed && !connection.transport.is_worn();
        work.outgoing.keep_alive = keep && incoming.head.keep_alive && more;
        incoming.consumed = incoming.head.length;
        if self.shared.boot.worker.redirect_https {
            let Some(other) = self.redirect(token, work) else { return };
            work = other;
        }
        let incoming = &mut work.incoming;
        match BodyReader::new(incoming.head.framing, self.clock.now, &self.shared.boot.worker) {
            Ok(None) => self.request_ready(token, work),
            Ok(Some(reader)) => self.body_follows(token, work, Box::new(reader)),
            Err(refusal) => self.refuse(token, work, refusal),
        }
    }

    /// Begins the body, which the loop or the application reads.
    fn body_follows(&mut self, token: Token, mut work: Box<Work>, reader: Box<BodyReader>) {
        let shared = self.shared.clone();
        let worker = &shared.boot.worker;
        let incoming = &mut work.incoming;
        let Some(connection) = self.connection(token) else { return };
        if !worker.request_buffering {
            let behind = incoming.bytes[incoming.consumed..incoming.filled].to_vec();
            incoming.consumed = incoming.filled;
            let framing = incoming.head.framing;
            let transport = connection.transport.clone();
            let (live, body) = LiveHandle::new(framing, transport, behind, incoming.head.expects_continue, worker);
            incoming.body = Body::Live(body);
            incoming.whole = false;
            work.outgoing.live = Some(live);
            return self.request_ready(token, work);
        }
        if incoming.head.expects_continue && incoming.filled == incoming.consumed {
            // 25 bytes always fit an idle connection's send buffer.
            incoming.whole = false;
            if connection.transport.send_few(CONTINUE).is_err() {
                self.record_dropped(work, self.clock.now);
                return self.close(token);
            }
        }
        self.body_bytes(token, work, reader);
    }

    /// Takes the body's bytes that came together with the head.
    fn body_bytes(&mut self, token: Token, mut work: Box<Work>, mut reader: Box<BodyReader>) {
        let incoming = &mut work.incoming;
        let behind = &incoming.bytes[incoming.consumed..incoming.filled];
        let fed = reader.feed(behind, &self.shared.boot.worker, &self.shared.store);
        incoming.arrival.body = reader.received;
        let alone = self.ends_alone();
        match fed {
            Ok((consumed, done)) => {
                incoming.consumed += consumed;
                if done {
                    return self.body_complete(token, work, *reader);
                }
                let Some(connection) = self.connection(token) else { return };
                incoming.whole = false;
                connection.phase = Phase::Body(work, reader);
                let readable = connection.readable || alone;
                self.watch(token, Interest::Read);
                self.set_deadline(token, self.clock.now, self.shared.boot.worker.body_timeout);
                if readable {
                    self.turn.go_on_later(token);
                }
            }
            Err(problem) => self.body_failed(token, work, problem),
        }
    }

    /// Reads the bytes of a body that have come.
    pub(super) fn read_body(&mut self, token: Token) {
        let mut scratch = std::mem::take(&mut self.scratch);
        self.read_body_into(token, &mut scratch);
        self.scratch = scratch;
    }

    fn read_body_into(&mut self, token: Token, scratch: &mut [u8]) {
        let shared = self.shared.clone();
        let (now, alone) = (self.clock.now, self.ends_alone());
        let Some(connection) = self.connections.get(token) else { return };
        let Phase::Body(mut work, mut reader) = std::mem::replace(&mut connection.phase, Phase::Head) else { return };
        if let Some(since) = reader.parked.take() {
            reader.started = reader.started + took(since, now);
        }
        let mut turn = 0;
        while turn < TURN {
            let most = reader.may_take(scratch.len(), &shared.store);
            if most == 0 {
                return self.park(token, work, reader);
            }
            let length = match connection.transport.receive(&mut scratch[..most]) {
                Ok(Some(length @ 1..)) => length,
                Ok(None) => {
                    connection.readable = false;
                    break;
                }
                // The client has cut its body off: the application never sees the request (RFC 9112 §8).
                Ok(Some(0)) => {
                    return self.refuse(token, work, Refusal { status: 400, why: "the client broke off its body" });
                }
                Err(error) => {
                    debug!(shared.log, "a client is gone"; "request" => work.incoming.line(), "error" => %error);
                    self.record_dropped(work, reader.started);
                    return self.close(token);
                }
            };
            turn += length;
            self.tally.received += length as u64;
            let fed = reader.feed(&scratch[..length], &shared.boot.worker, &shared.store);
            work.incoming.arrival.body = reader.received;
            match fed {
                Ok((consumed, true)) => {
                    connection.has_read(length == most);
                    if consumed < length {
                        connection.keep(&scratch[consumed..length]);
                    }
                    return self.body_complete(token, work, *reader);
                }
                Ok((_, false)) => {}
                Err(problem) => return self.body_failed(token, work, problem),
            }
        }
        if too_slow(reader.received, shared.boot.worker.min_rate, took(reader.started, now)) {
            let why = "the body came more slowly than --min-rate";
            return self.refuse(token, work, Refusal { status: 408, why });
        }
        let readable = connection.readable;
        if alone && !readable {
            return self.refuse(token, work, THE_END);
        }
        connection.phase = Phase::Body(work, reader);
        self.set_deadline(token, now, shared.boot.worker.body_timeout);
        if readable {
            self.turn.go_on_later(token);
        }
    }

    /// Pauses a body until there is a descriptor for its file. The pause does not count against the client's minimum rate.
    fn park(&mut self, token: Token, work: Box<Work>, mut reader: Box<BodyReader>) {
        self.shared.store.complain(&self.shared.log, &Shortage::Descriptors, &work.incoming.line());
        reader.parked = Some(self.clock.now);
        let Some(connection) = self.connection(token) else { return self.pool.keep(work) };
        connection.phase = Phase::Body(work, reader);
        self.parked.push_back(token);
        self.set_deadline(token, self.clock.now, self.shared.boot.worker.body_timeout);
    }

    /// Resumes as many paused bodies as there are free descriptors.
    pub(super) fn unpark(&mut self) {
        if !self.parked.is_empty() {
            let free = self.shared.store.descriptors_left().min(self.parked.len());
            self.parked.drain(..free).for_each(|token| self.turn.go_on(token));
        }
    }

    fn body_complete(&mut self, token: Token, mut work: Box<Work>, reader: BodyReader) {
        match reader.finish(&self.shared.store) {
            Ok(body) => {
                work.incoming.body = body;
                self.request_ready(token, work);
            }
            Err(shortage) => self.body_failed(token, work, Problem::Shortage(shortage)),
        }
    }

    fn body_failed(&mut self, token: Token, work: Box<Work>, problem: Problem) {
        match problem {
            Problem::Refused(refusal) => self.refuse(token, work, refusal),
            Problem::Shortage(shortage) => {
                self.shared.store.complain(&self.shared.log, &shortage, &work.incoming.line());
                let refusal = match shortage {
                    Shortage::TooLarge => TOO_LARGE_TO_SPOOL,
                    Shortage::Failed(_) => Refusal { status: 500, why: "no spool file" },
                    _ => NO_ROOM,
                };
                self.refuse(token, work, refusal);
            }
        }
    }

    /// Work for a connection's next request.
    pub(super) fn work_for(&mut self, token: Token) -> Option<Box<Work>> {
        let connection = self.connections.get(token)?;
        let peer = connection.peer(&self.shared).clone();
        let (transport, private) = (connection.transport.clone(), connection.private);
        let secure = self.shared.boot.listeners[usize::from(connection.listener)].protocol == Protocol::Https;
        let mut work = self.pool.take(&self.shared, token, transport, peer, self.clock.now);
        (work.outgoing.private, work.outgoing.secure) = (private, secure);
        Some(work)
    }
}
