//! The end of a worker that still has requests: it logs them, and answers 503 to those that had no answer.

use std::{net::SocketAddr, sync::atomic::Ordering::Relaxed};

use ostler_http::Refusal;
use slog::warn;

use super::Loop;
use crate::{connection::Phase, poll::timers::Token};

/// The most requests that are logged one by one; the others are counted.
const NAMED: usize = 100;

impl Loop {
    /// The worker ends now, whatever is under way.
    pub(super) fn cut_requests(&mut self, because: &'static str) {
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
            warn!(self.shared.log, "requests cut"; "more" => cut - NAMED, "reason" => because);
        }
    }

    fn name_cut(&self, line: &str, address: Option<SocketAddr>, because: &str) {
        let client = address.map_or_else(|| "unix".to_owned(), |address| address.to_string());
        warn!(self.shared.log, "request cut"; "request" => line, "client" => client, "reason" => because);
    }

    /// Cuts a request that the application has. Returns its request line.
    fn cut_call(&mut self, token: Token, seat: u16) -> Option<String> {
        let (line, _) = self.shared.scoreboard.activity(self.shared.slot, seat).current()?;
        let answered = self.answer_for(token, seat, 503);
        self.calls.give_up(token, answered);
        Some(String::from_utf8_lossy(&line).into_owned())
    }
}
