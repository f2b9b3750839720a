//! From the end of a call to the connection's next request, or to its end.

use std::{sync::atomic::Ordering::Relaxed, time::Duration};

use ostler_http::{Refusal, response::ResponseFraming};
use ostler_wire::{Recycle, Worker};
use slog::info;

use crate::{
    access_log::took,
    application::Gone,
    calls::Stuck,
    connection::{Backlog, Connection, Interest, Next, Pace, Partial, Phase, TURN, Work},
    event_loop::{Loop, Step},
    outbox::Drained,
    reading::{NO_ROOM, too_slow},
    response::Progress,
    timers::{Token, end_of},
};

/// So much of what a client still sends is read and forgotten after a refusal, so that it sees the answer.
const LINGER_BYTES: u64 = 4 << 20;
/// A call whose time stands still, because it waits for its client, is looked at no more often than this.
const LOOK_AGAIN: Duration = Duration::from_millis(100);
/// And for so long.
const LINGER_TIME: Duration = Duration::from_secs(3);
const LATE_HEAD: Refusal = Refusal { status: 408, why: "the head did not come within --header-timeout" };
const LATE_BODY: Refusal = Refusal { status: 408, why: "the body paused for --body-timeout" };

/// How long a call has lasted when it is first looked at; zero for never.
pub(crate) fn first_look(worker: &Worker) -> Duration {
    match (worker.slow_request, worker.timeout) {
        (slow, timeout) if slow.is_zero() || (!timeout.is_zero() && timeout <= slow) => timeout,
        (slow, _) => slow,
    }
}

impl Loop {
    /// Takes up a connection whose call is over.
    pub(crate) fn finish_one(&mut self, mut work: Box<Work>) {
        self.calls.under_way -= 1;
        let slot = self.slot();
        slot.requests.store(slot.requests.load(Relaxed).wrapping_add(1), Relaxed);
        if work.outgoing.status >= 500 {
            slot.errors.fetch_add(1, Relaxed);
        }
        slot.sent.store(slot.sent.load(Relaxed).wrapping_add(work.outgoing.body_bytes), Relaxed);
        if work.panicked {
            self.ask_replacement(Recycle::Panic);
        }
        self.count_request();
        let token = work.outgoing.token;
        if let Some(live) = work.outgoing.live.take() {
            let (complete, behind) = live.take_back();
            work.outgoing.keep_alive &= complete;
            if let Some(connection) = self.connection(token) {
                // The rest of the body may be on its way, and must not be met by a reset.
                connection.readable |= !complete;
            }
            work.incoming.append(&behind);
        }
        if let Some(stuck) = self.calls.take_stuck(token) {
            if stuck.answered {
                self.pool.keep(work)
            } else {
                self.over(work)
            }
            return self.close(token);
        }
        self.answered(token, work);
    }

    /// A response was made: what the client has not taken is drained, then comes the next request.
    pub(crate) fn answered(&mut self, token: Token, work: Box<Work>) {
        let out = &work.outgoing;
        let outbox = out.outbox.clone();
        let given_up = outbox.as_ref().is_some_and(|outbox| outbox.is_given_up());
        let next = match out.progress {
            _ if given_up => Next::Reset,
            // Also when the site stops meanwhile: the client was told that it may go on, and may have done so.
            Progress::Ended if out.keep_alive => Next::Request,
            Progress::Ended => Next::Close,
            // The end of the connection is the end of such a body: only a reset shows that it is not whole.
            _ if out.framing == Some(ResponseFraming::Close) => Next::Reset,
            _ => Next::Close,
        };
        let incoming = &work.incoming;
        let behind = &incoming.bytes[incoming.consumed..incoming.filled];
        let Some(connection) = self.connections.get(token) else {
            return self.over(work);
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
                self.over(work);
                self.after(token, next);
            }
        }
    }

    /// Hands the kernel more of a response.
    pub(crate) fn drain_outbox(&mut self, token: Token) {
        let (now, worker) = (self.clock.now, &self.shared.boot.worker);
        let Some(connection) = self.connections.get(token) else { return };
        let (backlog, next) = match &mut connection.phase {
            Phase::Writing(work, backlog, next) => (backlog, Some((work, *next))),
            Phase::Called(_, Some(backlog)) => (backlog, None),
            _ => return,
        };
        match (backlog.outbox.drain(&connection.transport), next) {
            (Ok(Drained::Empty), Some((_, next))) => self.written(token, next),
            (Ok(Drained::Empty), None) => {
                backlog.pace = None;
                backlog.deadline.clear();
            }
            (Ok(Drained::More), _) => {
                // It takes all that it is given.
                backlog.deadline.clear();
                self.turn.go_on_later(token);
            }
            (Ok(Drained::Blocked { taken }), call_over) => {
                if let Some((work, _)) = call_over {
                    work.slim();
                }
                let mut progress = backlog.pace.is_none();
                let pace = backlog.pace.get_or_insert(Pace { since: now, from: taken, taken });
                progress |= std::mem::replace(&mut pace.taken, taken) < taken;
                let slow = too_slow(taken - pace.from, worker.min_rate, took(pace.since, now));
                if progress {
                    self.timers.set(token, &mut backlog.deadline, end_of(now, worker.write_timeout));
                }
                self.watch(token, Interest::ReadWrite);
                if slow {
                    self.too_slow_to_answer(token, "the client took its response more slowly than --min-rate");
                }
            }
            (Err(_), Some(_)) => self.close(token),
            // The call finds out at its next block.
            (Err(_), None) => backlog.outbox.give_up(Gone::Left),
        }
    }

    /// A client takes its response too slowly, or not at all. A call that is still under way finds out at its next block.
    pub(crate) fn too_slow_to_answer(&mut self, token: Token, why: &'static str) {
        let shared = self.shared.clone();
        let Some(connection) = self.connections.get(token) else { return };
        let mut client = connection.peer(&shared.boot.worker.forwarded_allow).client.clone();
        let (request, backlog, call_over) = match &connection.phase {
            Phase::Called(seat, Some(backlog)) => (shared.line(*seat), backlog, false),
            Phase::Writing(work, backlog, _) => {
                client = work.incoming.client.clone();
                (work.incoming.line(), backlog, true)
            }
            _ => return,
        };
        backlog.outbox.give_up(Gone::GivenUp);
        if self.client_lines.admit(self.clock.now) {
            info!(shared.log, "response cut"; "why" => why, "client" => &client.address, "request" => request,
                "taken" => backlog.pace.map_or(0, |pace| pace.taken), "left" => backlog.outbox.left());
        }
        if call_over {
            self.written(token, Next::Reset);
        }
    }

    /// The client has all of its response, or gets no more of it.
    fn written(&mut self, token: Token, next: Next) {
        if let Some(connection) = self.connection(token)
            && let Phase::Writing(work, ..) = std::mem::replace(&mut connection.phase, Phase::Head)
        {
            self.over(work);
        }
        self.after(token, next);
    }

    /// A response is out.
    pub(crate) fn after(&mut self, token: Token, next: Next) {
        let Some(connection) = self.connection(token) else { return };
        match next {
            Next::Request => {
                connection.phase = Phase::Head;
                let begun = connection.partial.is_some();
                if !begun && !connection.readable {
                    self.rest(token);
                } else if !(begun && self.life.hands_over() && self.give(token)) {
                    self.turn.go_on_later(token);
                }
            }
            Next::Close if connection.half_closed || connection.partial.is_none() && !connection.readable => {
                // Closing alone says nothing to the client while a child of the application has the same socket.
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
        self.bound(token, self.clock.now, LINGER_TIME);
        self.turn.go_on_later(token);
    }

    /// Reads and forgets.
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

    /// Answers what the application shall not see, and closes.
    pub(crate) fn refuse(&mut self, token: Token, mut work: Box<Work>, refusal: Refusal) {
        if self.client_lines.admit(self.clock.now) {
            let (client, request) = (work.incoming.client.address.clone(), work.incoming.line());
            info!(self.shared.log, "request refused"; "status" => refusal.status, "why" => refusal.why,
                "client" => client, "request" => request);
        }
        let slot = self.slot();
        slot.refused.fetch_add(1, Relaxed);
        work.outgoing.date = self.clock.date;
        work.outgoing.keep_alive = false;
        work.started = self.clock.now;
        work.response().error(refusal.status, &[]);
        let Some(connection) = self.connection(token) else { return self.pool.keep(work) };
        // There may be more of the refused request on its way: it is read and forgotten.
        connection.readable = true;
        connection.partial = None;
        work.incoming.consumed = work.incoming.filled;
        self.answered(token, work);
    }

    /// A connection's deadline has come.
    pub(crate) fn timed_out(&mut self, token: Token) {
        let Some(connection) = self.connection(token) else { return };
        match &mut connection.phase {
            Phase::Head => match connection.partial.take() {
                Some(partial) => {
                    let Some(mut work) = self.work_for(token) else { return };
                    work.incoming.filled = partial.bytes.len();
                    work.incoming.bytes = partial.bytes;
                    work.incoming.head = partial.head;
                    self.refuse(token, work, LATE_HEAD);
                }
                // Nothing was asked: nothing is answered.
                None => self.close(token),
            },
            Phase::Body(..) => {
                if let Phase::Body(work, reader) = std::mem::replace(&mut connection.phase, Phase::Head) {
                    self.refuse(token, work, if reader.parked.is_some() { NO_ROOM } else { LATE_BODY });
                }
            }
            Phase::Called(seat, _) => {
                let seat = *seat;
                self.call_is_late(token, seat);
            }
            Phase::Lingering(_) => self.close(token),
            // Waiting is bounded by --max-queue-time, writing by the backlog's own deadline.
            Phase::Ready(_) | Phase::Writing(..) => {}
        }
    }

    /// A request has been with the application for long (`--slow-request`), or for too long (`--timeout`).
    fn call_is_late(&mut self, token: Token, seat: u16) {
        let worker = &self.shared.boot.worker;
        let started = self.shared.scoreboard.activity(self.shared.slot, seat).current().map_or(0, |(_, since)| since);
        let now = self.clock.milliseconds();
        let time = &self.shared.call_times[usize::from(seat)];
        // What it waited for its client is not its own time.
        let age = Duration::from_millis(now.saturating_sub(started)).saturating_sub(time.waited(now));
        // The scoreboard counts in whole milliseconds.
        let over = |bound: Duration| !bound.is_zero() && age + Duration::from_millis(2) >= bound;
        if !over(worker.timeout) {
            if over(worker.slow_request) && !time.explained.swap(true, Relaxed) {
                self.steps.push_back(Step::Explain(seat, "slow request"));
            }
            let explained = time.explained.load(Relaxed);
            let next = if explained { worker.timeout } else { first_look(worker) };
            if !next.is_zero() {
                self.bound(token, self.clock.now, next.saturating_sub(age).max(LOOK_AGAIN));
            }
            return;
        }
        self.steps.push_back(Step::Explain(seat, "request timed out"));
        self.ask_replacement(Recycle::Timeout);
        let answered = self.answer_for(token, seat, 504);
        self.calls.stuck.push(Stuck { token, answered });
    }
}
