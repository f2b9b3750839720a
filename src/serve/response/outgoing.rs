//! What a call has made of its response so far, and how that reaches the client: at once, joined with what follows soon, or through an
//! [`Outbox`] where the client is slow.

use std::{
    sync::{Arc, atomic::Ordering::*},
    time::Duration,
};

use ostler_http::h1::ResponseFraming;
use ostler_wire::scoreboard::Underway;

use super::{COPIED, Progress, Waiting};
use crate::{
    moment::Moment,
    poll::{clock::took, timers::Token},
    request::body::LiveHandle,
    shared::Shared,
    storage::{
        budget::Room,
        outbox::{DrainOutcome, Gone, Kept, Outbox, ROOM, RemainingBody},
        store::Shortage,
    },
    transport::{PeerState, Transport},
};

/// A block that comes this soon after bytes were sent waits for the next ones, so that one send(2) takes several. PEP 3333 asks that no block
/// waits for the application to make the next: if that takes longer, the stand-by sends what waits, at its tick.
const PACE: Duration = Duration::from_micros(50);
/// Blocks wait for the next ones up to this many bytes.
const JOINED: usize = 64 * 1024;

/// What a call has made of its response so far. The loop reads it when the call is over.
pub(crate) struct Outgoing {
    pub shared: Arc<Shared>,
    pub token: Token,
    /// None while this waits for reuse, so that the socket closes when the loop closes the connection.
    pub transport: Option<Arc<Transport>>,
    pub outbox: Option<Arc<Outbox>>,
    pub progress: Progress,
    /// Whether the client asks for keep-alive and the loop allows it.
    pub keep_alive: bool,
    /// The client has sent FIN with its request, which does not mean that it has left.
    pub half_closed: bool,
    /// The client has come by TLS, to us and not to a proxy.
    pub secure: bool,
    /// The request's body, if the application reads it from the connection.
    pub live: Option<LiveHandle>,
    pub date: [u8; 29],
    /// Index of the thread's seat; none where the loop itself answers.
    pub thread: Option<u16>,
    pub status: u16,
    /// The framing of the head that was sent.
    pub framing: Option<ResponseFraming>,
    /// Bytes of body that the application has made.
    pub body_bytes: u64,
    /// The client has a part of the response, and the application has broken it off.
    pub broken: bool,
    /// How many of the last bytes were dropped because the client had left or was given up.
    pub lost: u64,
    /// Bytes that the kernel took before there was an outbox.
    direct: u64,
    /// When bytes of the body were last sent.
    sent: Option<Moment>,
    /// The outbox is there to join blocks in it, not because the client is slow: how many bytes have gone into it since then.
    joined: Option<usize>,
    /// Values of the response's fields and of the environ that the access log wants.
    pub noted: Vec<Option<Vec<u8>>>,
    /// The request is no client's but the site's own (`--smoke`).
    pub private: bool,
    /// What the application has raised in such a request.
    pub raised: String,
    /// A short response may wait in the outbox for those of other calls (see group.rs).
    pub may_wait: bool,
    pub(super) buffer: Vec<u8>,
}

impl Outgoing {
    pub fn new(shared: Arc<Shared>, token: Token, transport: Arc<Transport>) -> Outgoing {
        let noted = vec![None; shared.logged_fields.len() + shared.logged_environ.len()];
        Outgoing {
            shared,
            token,
            transport: Some(transport),
            outbox: None,
            progress: Progress::Nothing,
            keep_alive: true,
            half_closed: false,
            secure: false,
            live: None,
            date: [b' '; 29],
            thread: None,
            status: 0,
            framing: None,
            body_bytes: 0,
            broken: false,
            lost: 0,
            direct: 0,
            sent: None,
            joined: None,
            noted,
            private: false,
            raised: String::new(),
            may_wait: false,
            buffer: Vec::new(),
        }
    }

    pub fn transport(&self) -> &Transport {
        self.transport.as_deref().expect("a request belongs to a connection")
    }

    /// Gives back its buffer's memory.
    pub fn slim(&mut self) {
        self.buffer = Vec::new();
    }

    /// Makes it ready for another request, its buffer kept.
    pub fn reset(&mut self) {
        self.transport = None;
        self.outbox = None;
        self.live = None;
        self.progress = Progress::Nothing;
        self.thread = None;
        self.status = 0;
        self.framing = None;
        self.body_bytes = 0;
        self.broken = false;
        self.lost = 0;
        self.direct = 0;
        self.sent = None;
        self.joined = None;
        self.may_wait = false;
        self.raised.clear();
        self.noted.fill(None);
    }

    /// Whether another request can follow: a worker will take it, and this one's body was read to its end.
    pub(super) fn can_keep_alive(&self) -> bool {
        !self.shared.closing.load(Relaxed) && self.live.as_ref().is_none_or(LiveHandle::has_arrived)
    }

    /// Sends the last bytes of a response. If it is short, they may wait for other responses.
    pub(super) fn transmit_last(&mut self, bytes: &[u8], wait: Option<Waiting>) -> Result<(), Gone> {
        if self.may_wait {
            self.outbox_behind();
        }
        self.transmit(&[bytes], wait)
    }

    /// Sends the parts, and puts what the kernel does not take into the outbox. Without `wait` they must be short.
    pub(super) fn transmit(&mut self, parts: &[&[u8]], wait: Option<Waiting>) -> Result<(), Gone> {
        let sent = self.send(parts)?;
        self.keep_behind(sent, parts, wait)
    }

    /// The same for a whole body. What the kernel does not take of a long one is not copied, if that is possible.
    pub(super) fn transmit_body(
        &mut self,
        head: &[u8],
        body: &[u8],
        keep: &mut dyn FnMut() -> Option<Kept>,
        wait: Waiting,
    ) -> Result<(), Gone> {
        let sent = self.send(&[head, body])?;
        let at = sent.saturating_sub(head.len());
        if body.len() - at <= ROOM {
            return self.keep_behind(sent, &[head, body], Some(wait));
        }
        let mut room = Room::of(&self.shared.store.answers);
        let Some(kept) = room.grow(body.len() as u64).then(keep).flatten() else {
            drop(room);
            return self.keep_behind(sent, &[head, body], Some(wait));
        };
        self.keep_behind(sent, &[head], Some(wait))?;
        let outbox = self.outbox.get_or_insert_with(|| Outbox::behind(self.direct));
        outbox.hold(RemainingBody { body: kept, at, end: body.len(), _room: room })
    }

    /// Sends a prefix of the parts if the outbox is empty. Returns how many bytes.
    fn send(&mut self, parts: &[&[u8]]) -> Result<usize, Gone> {
        if self.thread.is_some_and(|thread| !self.shared.seats[usize::from(thread)].claim()) {
            return Err(self.lose(parts, Gone::GivenUp));
        }
        let sent = match &self.outbox {
            Some(_) => 0,
            None => match self.transport().send_parts(parts) {
                Ok(sent) => sent.unwrap_or(0),
                Err(_) => return Err(self.lose(parts, Gone::Left)),
            },
        };
        self.direct += sent as u64;
        Ok(sent)
    }

    /// Puts what is behind the first `skip` bytes into the outbox.
    fn keep_behind(&mut self, mut skip: usize, parts: &[&[u8]], mut wait: Option<Waiting>) -> Result<(), Gone> {
        for (index, part) in parts.iter().enumerate() {
            let rest = &part[skip.min(part.len())..];
            skip = skip.saturating_sub(part.len());
            if !rest.is_empty() {
                self.keep(rest, &mut wait).inspect_err(|why| {
                    self.lose(&parts[index + 1..], *why);
                })?;
            }
        }
        Ok(())
    }

    /// Puts bytes into the outbox. The application waits while it is full.
    fn keep(&mut self, mut rest: &[u8], wait: &mut Option<Waiting>) -> Result<(), Gone> {
        let outbox = self.outbox.get_or_insert_with(|| Outbox::behind(self.direct));
        loop {
            let shortage = match outbox.push(&mut rest, &self.shared.store) {
                Ok(None) => return Ok(()),
                Ok(Some(shortage)) => shortage,
                Err(why) => return Err(self.lose(&[rest], why)),
            };
            let (Some(wait), Some(thread)) = (wait.as_deref_mut(), self.thread) else {
                outbox.keep(rest);
                return Ok(());
            };
            if !matches!(shortage, Shortage::Client) {
                let line = self.shared.underway(thread).as_ref().map(Underway::line);
                self.shared.store.complain(&self.shared.log, &shortage, &line.unwrap_or_default());
            }
            self.shared.ask_to_drain(self.token, outbox);
            let time = &self.shared.call_times[usize::from(thread)];
            wait(&mut || time.during(|| outbox.wait_for_room()));
        }
    }

    pub(super) fn outbox_behind(&mut self) -> &Arc<Outbox> {
        self.outbox.get_or_insert_with(|| Outbox::behind(self.direct))
    }

    /// How many bytes the kernel has taken, head and framing included.
    pub fn sent(&self) -> u64 {
        self.outbox.as_ref().map_or(self.direct, |outbox| outbox.taken())
    }

    fn lose(&mut self, parts: &[&[u8]], why: Gone) -> Gone {
        self.lost += parts.iter().map(|part| part.len() as u64).sum::<u64>();
        why
    }

    /// How many bytes of body the kernel has taken (a few less while the outbox also holds the framing of chunks).
    pub fn body_sent(&self) -> u64 {
        self.body_bytes.saturating_sub(self.lost + self.outbox.as_ref().map_or(0, |outbox| outbox.left()))
    }

    /// A block of the body comes. If it is short, and comes soon after another one, it goes into an outbox, where the next ones join it.
    pub(super) fn expect_block(&mut self, length: usize, now: Moment) {
        let short = length <= COPIED;
        if (self.joined.is_none() || !short)
            && let Some(emptied) = self.outbox.take_if(|outbox| outbox.left() == 0)
        {
            self.direct = emptied.taken();
            self.joined = None;
        }
        if self.outbox.is_none() && short && self.comes_soon(now) {
            self.joined = Some(0);
            self.outbox_behind();
        }
        self.joined = self.joined.map(|bytes| bytes + length);
    }

    /// Whether bytes of the body were sent just before.
    fn comes_soon(&self, now: Moment) -> bool {
        self.sent.is_some_and(|sent| took(sent, now) < PACE)
    }

    /// Sees to it that a block is sent which has gone into an outbox.
    pub(super) fn settle(&mut self, now: Moment) {
        let Some(outbox) = &self.outbox else {
            self.sent = Some(now);
            return;
        };
        if self.joined.is_some_and(|bytes| bytes < JOINED) && self.comes_soon(now) {
            return self.shared.drain_in_a_tick(self.token, outbox);
        }
        self.sent = Some(now);
        self.joined = self.joined.and_then(|_| match outbox.drain(self.transport()) {
            Ok(DrainOutcome::Empty) => Some(0),
            _ => None,
        });
        if self.joined.is_none() {
            // The client is slow, or has left.
            self.shared.ask_to_drain(self.token, outbox);
        }
    }
}

pub(super) fn gone(transport: &Transport, half_closed: bool) -> bool {
    match transport.peer() {
        PeerState::There => false,
        PeerState::SendsNoMore => !half_closed,
        PeerState::Gone => true,
    }
}
