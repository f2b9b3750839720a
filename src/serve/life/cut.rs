//! The end of a worker that still has requests: it logs them, and answers 503 to those that had no answer.

use std::{net::SocketAddr, sync::atomic::Ordering::Relaxed};

use ostler_http::Refusal;
use slog::warn;

use crate::{
    connection::Phase,
    event_loop::{Loop, calls::Stuck, timers::Token},
};

/// The most requests that are logged one by one; the others are counted.
const NAMED: usize = 100;

impl Loop {
    /// The worker ends now, whatever is under way.
    pub(crate) fn cut_requests(&mut self, because: &'static str) {
        // From now on each response says that its connection closes.
        self.shared.closing.store(true, Relaxed);
        let tokens: Vec<Token> = self.connections.tokens();
        let mut cut = 0;
        for token in tokens {
            let Some(connection) = self.connection(token) else { continue };
            let address = connection.address;
            let line = match std::mem::replace(&mut connection.phase, Phase::Head) {
                Phase::Called(seat, backlog) => {
                    connection.phase = Phase::Called(seat, backlog);
                    self.cut_call(token, seat)
                }
                Phase::Ready(work) => {
                    let line = work.incoming.line();
                    self.overloaded(token, work);
                    Some(line)
                }
                Phase::Body(work, _) => {
                    let line = work.incoming.line();
                    self.refuse(token, work, Refusal { status: 503, why: "the worker ends" });
                    Some(line)
                }
                other => {
                    connection.phase = other;
                    None
                }
            };
            if let Some(line) = line {
                cut += 1;
                if cut <= NAMED {
                    self.name_cut(&line, address, because);
                }
            }
        }
        if cut > NAMED {
            warn!(self.shared.log, "requests cut"; "more" => cut - NAMED, "because" => because);
        }
    }

    fn name_cut(&self, line: &str, address: Option<SocketAddr>, because: &str) {
        let client = address.map_or_else(|| "unix".to_owned(), |address| address.to_string());
        warn!(self.shared.log, "request cut"; "request" => line, "client" => client, "because" => because);
    }

    /// Cuts a request that the application has. Returns its request line.
    fn cut_call(&mut self, token: Token, seat: u16) -> Option<String> {
        let (line, _) = self.shared.scoreboard.activity(self.shared.slot, seat).current()?;
        let answered = self.answer_for(token, seat, 503);
        self.calls.stuck.push(Stuck { token, answered });
        Some(String::from_utf8_lossy(&line).into_owned())
    }

    /// Answers in place of a call that was given up, unless the call has begun to answer, and sends FIN.
    /// Returns whether it did answer; then the access log has the request, too.
    pub(crate) fn answer_for(&mut self, token: Token, seat: u16, status: u16) -> bool {
        let answers = self.shared.seats[usize::from(seat)].revoke();
        if answers && let Some(mut work) = self.unended(token, seat) {
            work.outgoing.date = self.clock.date;
            work.outgoing.keep_alive = false;
            work.response().error(status, &[]);
            self.count_answer(status, work.outgoing.body_bytes);
            self.record_request(work);
        }
        if let Some(connection) = self.connection(token) {
            // Nothing more is sent, whether the answer is complete or not.
            connection.transport.finish_sending();
        }
        answers
    }
}
