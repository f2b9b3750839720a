//! The end of a worker that still has requests: it logs them, and answers 503 to those that had no answer.

use std::{net::SocketAddr, sync::atomic::Ordering::Relaxed};

use slog::warn;

use super::{Loop, read::THE_END};
use crate::{connection::Phase, poll::timers::Token, request::incoming::Incoming};

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
            let request = match std::mem::replace(&mut connection.phase, Phase::Head) {
                Phase::Called(seat, backlog) => {
                    connection.phase = Phase::Called(seat, backlog);
                    self.cut_call(token, seat)
                }
                Phase::Ready(work) => {
                    let request = named(&work.incoming);
                    self.overloaded(token, work);
                    Some(request)
                }
                Phase::Body(work, _) => {
                    let request = named(&work.incoming);
                    self.refuse(token, work, THE_END);
                    Some(request)
                }
                other => {
                    connection.phase = other;
                    None
                }
            };
            if let Some(request) = request {
                cut += 1;
                if cut <= NAMED {
                    self.name_cut(request, address, because);
                }
            }
        }
        if cut > NAMED {
            warn!(self.shared.log, "requests cut"; "more" => cut - NAMED, "reason" => because);
        }
    }

    fn name_cut(&self, (line, id): Named, address: Option<SocketAddr>, because: &str) {
        let client = address.map_or_else(|| "unix".to_owned(), |address| address.to_string());
        warn!(self.shared.log, "request cut"; "request" => line, "request_id" => id, "client" => client,
            "reason" => because);
    }

    /// Cuts a request that the application has.
    fn cut_call(&mut self, token: Token, seat: u16) -> Option<Named> {
        let underway = self.shared.underway(seat)?;
        let answered = self.answer_for(token, seat, 503);
        self.calls.give_up(token, answered);
        Some((underway.line(), underway.id()))
    }
}

/// A request's first line, and its id if it has one.
type Named = (String, Option<String>);

fn named(incoming: &Incoming) -> Named {
    (incoming.line(), incoming.id().map(String::from))
}
