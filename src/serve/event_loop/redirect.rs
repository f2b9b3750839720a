//! Sends clients to https:// that come in the clear (`--redirect-https`).

use ostler_http::{Framing, ResponseHead, target};
use ostler_wire::Protocol;

use super::Loop;
use crate::{connection::work::Work, poll::timers::Token};

/// What an authority that issues certificates asks for, which may know no other way (RFC 8555, 8.3).
const CHALLENGES: &[u8] = b"/.well-known/acme-challenge/";

impl Loop {
    /// Answers a request that has come in the clear, and gives back every other one. Where a trusted proxy says that its client has come
    /// by https, another redirect would lead in a circle.
    #[inline(never)]
    pub(super) fn redirect(&mut self, token: Token, mut work: Box<Work>) -> Option<Box<Work>> {
        let (incoming, listener) =
            (&work.incoming, &self.shared.boot.listeners[usize::from(work.incoming.client.listener)]);
        let in_the_clear = listener.protocol == Protocol::Http && listener.port.is_some() && !incoming.client.https;
        let path = incoming.head.path.of(&incoming.bytes);
        if !in_the_clear || work.outgoing.private || path == b"*" || path.starts_with(CHALLENGES) {
            return Some(work);
        }
        let Some(place) = self.secure_place(&work, &listener.host) else { return Some(work) };
        let reads = matches!(incoming.method(), b"GET" | b"HEAD");
        // Of the others, 301 would have some clients make a GET (RFC 9110, 15.4.2).
        let status: &[u8] = if reads { b"301 Moved Permanently" } else { b"308 Permanent Redirect" };
        let mut head = ResponseHead::default();
        head.begin(status).expect("a status that is written in the source");
        // A target and a host are of visible ASCII characters, which may stand in a field.
        let _ = head.field(b"Location", &place);
        if !matches!(work.incoming.head.framing, Framing::None | Framing::Length(0)) {
            // The body may come all the same: it is read and discarded.
            work.outgoing.keep_alive = false;
            work.incoming.consumed = work.incoming.filled;
            let connection = self.connection(token)?;
            (connection.readable, connection.partial) = (true, None);
        }
        (work.outgoing.date, work.ready, work.started) = (self.clock.date, self.clock.now, self.clock.now);
        let _ = work.response().whole(&head, b"", &mut |wait| wait());
        if let Some(meters) = self.shared.meters() {
            meters.count_own(work.outgoing.status, work.incoming.method());
        }
        self.answered(token, work);
        None
    }

    /// Where the same is by https: the host that the client has asked for, with the port of the listener there.
    fn secure_place(&self, work: &Work, host: &str) -> Option<Vec<u8>> {
        let incoming = &work.incoming;
        let (head, bytes) = (&incoming.head, &incoming.bytes);
        let named = incoming.client.host.as_deref().map(str::as_bytes).or_else(|| head.value(bytes, b"host"));
        let host = target::host_name(named.unwrap_or_default()).unwrap_or(host.as_bytes());
        let secure = self.shared.boot.listeners.iter().find(|listener| listener.protocol == Protocol::Https);
        let port = self.shared.boot.worker.redirect_port.or(secure?.port)?;
        let port = if port == 443 { String::new() } else { format!(":{port}") };
        let mut place = [b"https://", host, port.as_bytes(), head.path.of(bytes)].concat();
        let query = head.query.of(bytes);
        if !query.is_empty() {
            place.push(b'?');
            place.extend_from_slice(query);
        }
        Some(place)
    }
}
