//! TLS on a connection: its handshake is the loop's work, a step whenever bytes have come, and may take as long as the head of a request.

use ostler_http::Refusal;
use slog::info;

use super::Loop;
use crate::{
    connection::{Connection, Next, Opening},
    poll::timers::Token,
    transport::Shaken,
};

pub(super) const WITHOUT_TLS: Refusal = Refusal { status: 400, why: "HTTP without TLS came where TLS is spoken" };

/// The client should come by another connection (RFC 9110, 15.5.20).
pub(super) const OTHER_SETTINGS: Refusal =
    Refusal { status: 421, why: "its connection is from before --cert-reqs or --ca-certs have changed" };

impl Loop {
    /// Whether a connection's client would get one today. Its handshake may have been made by another generation.
    pub(super) fn still_admits(&self, connection: &Connection) -> bool {
        self.acceptor.as_ref().is_none_or(|acceptor| connection.transport.is_admitted_by(acceptor))
    }

    /// Goes on with the handshake of a connection that begins with one. Returns whether its request can be read now.
    pub(super) fn shake_hands(&mut self, token: Token) -> bool {
        let Some(connection) = self.connections.get(token) else { return false };
        if connection.opening != Opening::Handshake {
            return true;
        }
        if !connection.transport.is_tls() {
            let Some(acceptor) = &self.acceptor else {
                self.close(token);
                return false;
            };
            let behind = connection.take_partial();
            connection.transport.begin_tls(acceptor.clone(), behind);
        }
        let had_begun = connection.transport.shakes_hands();
        match connection.transport.shake_hands(&mut self.scratch) {
            Ok(Shaken::Over) => {
                connection.opening = Opening::Head;
                // More is known of the client now.
                connection.peer = None;
                return true;
            }
            Ok(Shaken::More) => {
                self.wait_for_handshake(token, had_begun);
                self.go_on_with_handshake(token);
            }
            Ok(Shaken::Waiting) if connection.transport.shakes_hands() => self.wait_for_handshake(token, had_begun),
            Ok(Shaken::Waiting) => {
                connection.readable = false;
                self.wait_for_request(token);
            }
            Ok(Shaken::Left) => self.close(token),
            Err(_) => self.broken(token),
        }
        false
    }

    /// Waits for the rest of a handshake. It does not move, and ends with its deadline.
    fn wait_for_handshake(&mut self, token: Token, had_begun: bool) {
        if self.ends_alone() {
            return self.close(token);
        }
        let (now, bound) = (self.clock.now, self.shared.boot.worker.header_timeout);
        let Some(connection) = self.connections.get(token) else { return };
        connection.readable = false;
        self.tally.idle -= u64::from(std::mem::take(&mut connection.idle));
        let interest = connection.reads();
        self.watch(token, interest);
        if !had_begun {
            self.set_deadline(token, now, bound);
        }
    }

    /// In the next turn: one that has much to say does not hold up others.
    fn go_on_with_handshake(&mut self, token: Token) {
        if let Some(connection) = self.connections.get(token) {
            connection.readable = true;
            self.turn.go_on_later(token);
        }
    }

    /// Ends a connection that could not be read.
    pub(super) fn broken(&mut self, token: Token) {
        let Some(connection) = self.connections.get(token) else { return };
        let Some(why) = connection.transport.fault() else { return self.close(token) };
        let client = connection.address.map(|address| address.ip().to_canonical().to_string()).unwrap_or_default();
        if self.client_lines.admit(self.clock.now) {
            info!(self.shared.log, "TLS broken off"; "reason" => why, "client" => client);
        }
        // The alert that tells the client must not be lost in a reset.
        (connection.readable, connection.partial) = (true, None);
        self.after(token, Next::Close);
    }

    /// A client has said that it sends no more, between two requests.
    pub(super) fn ended(&mut self, token: Token) {
        let Some(connection) = self.connections.get(token) else { return };
        connection.transport.say_goodbye();
        self.close(token);
    }
}

impl Connection {
    /// The bytes that have come for its next request.
    fn take_partial(&mut self) -> Vec<u8> {
        self.partial.take().map(|partial| partial.bytes).unwrap_or_default()
    }
}
