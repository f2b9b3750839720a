//! The response during a call: sent directly, or put into an [`Outbox`] where the client is slow.

pub(crate) mod access_log;
mod named_file;

use std::{
    os::fd::OwnedFd,
    sync::{Arc, atomic::Ordering::*},
    time::Duration,
};

use ostler_http::{
    Answer, RequestHead, ResponseHead, Version, error_answer,
    h1::{Additions, LAST_CHUNK, ResponseFraming, chunk_start},
};
use ostler_wire::{RequestId, scoreboard::Underway};

use crate::{
    moment::Moment,
    poll::{clock::took, timers::Token},
    request::body::LiveHandle,
    shared::Shared,
    storage::{
        budget::Room,
        outbox::{DrainOutcome, FilePart, Gone, Kept, Outbox, ROOM, RemainingBody},
        store::{DescriptorPermit, Shortage},
    },
    transport::{PeerState, Transport},
};

/// A body up to this size is copied behind its head, so that one send(2) is enough.
pub(crate) const COPIED: usize = 16 * 1024;
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
    buffer: Vec<u8>,
}

/// The state of a response.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Progress {
    Nothing,
    /// The head is sent. `left`: how many bytes of the promised length are missing, if one was promised.
    Begun {
        framing: ResponseFraming,
        left: Option<u64>,
    },
    Ended,
    /// Incomplete, and the client must see that.
    Cut,
}

/// Wraps a wait, so that the interpreter lock is given back meanwhile. The closure that waits uses nothing of Python: it is `Send`.
pub type Waiting<'w> = &'w mut dyn FnMut(&mut (dyn FnMut() + Send));

/// A body's length was not what the application's Content-Length promised.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct BodyLength {
    /// As promised.
    pub promised: u64,
    /// As given.
    pub given: u64,
}

/// The response of one call.
pub struct Response<'a> {
    pub(crate) out: &'a mut Outgoing,
    pub(crate) request: &'a RequestHead,
    /// What the request's spans point into.
    pub(crate) bytes: &'a [u8],
    /// What the request is called.
    pub(crate) id: Option<&'a str>,
}

impl Response<'_> {
    /// Sends a response whose whole body is known: adds Content-Length if the application gave none, and leaves out what
    /// HEAD, 204 or 304 forbid. A body longer than the application's Content-Length is cut to it; a shorter one
    /// cuts the connection. Waits, inside `wait`, where the client is slow and the buffers are full. Ends the response.
    pub fn whole(&mut self, head: &ResponseHead, body: &[u8], wait: Waiting) -> Result<(), BodyLength> {
        self.whole_or_kept(head, body, &mut || None, wait)
    }

    /// The same. The part of a long body that the client has still to take is not copied if `keep` returns an owner of the same bytes.
    #[inline]
    pub fn whole_or_kept(
        &mut self,
        head: &ResponseHead,
        body: &[u8],
        keep: &mut dyn FnMut() -> Option<Kept>,
        wait: Waiting,
    ) -> Result<(), BodyLength> {
        if self.is_replaced(head) {
            self.named_file(head);
            return Ok(());
        }
        let framing = head.framing(self.request, self.head_request(), Some(body.len() as u64));
        let given = body.len() as u64;
        let (body, ended) = match framing {
            ResponseFraming::Bodiless => (&[][..], Progress::Ended),
            ResponseFraming::Length(promised) if promised > given => (body, Progress::Cut),
            ResponseFraming::Length(promised) => (&body[..promised as usize], Progress::Ended),
            ResponseFraming::Chunked | ResponseFraming::Close => (body, Progress::Ended),
        };
        let mut buffer = self.start(head, framing);
        let sent = if body.len() <= COPIED {
            buffer.extend_from_slice(body);
            self.out.transmit_last(&buffer, Some(wait))
        } else {
            self.out.transmit_body(&buffer, body, keep, wait)
        };
        self.out.buffer = buffer;
        self.out.body_bytes = body.len() as u64;
        self.out.broken = sent.is_ok() && ended == Progress::Cut;
        self.out.progress = if sent.is_ok() { ended } else { Progress::Cut };
        match framing {
            ResponseFraming::Length(promised) if promised != given => Err(BodyLength { promised, given }),
            _ => Ok(()),
        }
    }

    /// Sends the head and the first block of a body whose length is not known, or known only from the head's Content-Length.
    pub fn begin(&mut self, head: &ResponseHead, block: &[u8], wait: Waiting) -> Result<(), Gone> {
        if self.is_replaced(head) {
            // It is sent when the application has come to its end, in place of all blocks.
            return Ok(());
        }
        let framing = head.framing(self.request, self.head_request(), None);
        let left = match framing {
            ResponseFraming::Length(length) => Some(length),
            _ => None,
        };
        let buffer = self.start(head, framing);
        self.out.progress = Progress::Begun { framing, left };
        self.send_block(buffer, block, wait)
    }

    /// Sends one more block. When this returns, the kernel has it, or it is in a buffer that is drained while the application goes on: at
    /// once if the client is slow, within a tick if blocks come quickly. Waits, inside `wait`, only if the client is slow and the buffers are
    /// full. Bytes beyond the promised length are left out.
    pub fn block(&mut self, block: &[u8], wait: Waiting) -> Result<(), Gone> {
        let mut buffer = std::mem::take(&mut self.out.buffer);
        buffer.clear();
        self.send_block(buffer, block, wait)
    }

    /// Sends the head and `length` bytes of a file from `offset`; the loop does it, after the call, by sendfile(2). Ends the response.
    pub fn file(&mut self, head: &ResponseHead, file: OwnedFd, offset: u64, length: u64) -> Result<(), BodyLength> {
        if self.is_replaced(head) {
            self.named_file(head);
            return Ok(());
        }
        let framing = head.framing(self.request, self.head_request(), Some(length));
        let (send, ended) = match framing {
            ResponseFraming::Bodiless => (0, Progress::Ended),
            ResponseFraming::Length(promised) if promised > length => (length, Progress::Cut),
            ResponseFraming::Length(promised) => (promised, Progress::Ended),
            ResponseFraming::Chunked | ResponseFraming::Close => (length, Progress::Ended),
        };
        let buffer = self.start(head, framing);
        let sent = self.out.transmit(&[&buffer], None);
        self.out.buffer = buffer;
        self.out.broken = sent.is_ok() && ended == Progress::Cut;
        self.out.progress = if sent.is_ok() { ended } else { Progress::Cut };
        self.out.body_bytes = send;
        if send > 0 && sent.is_ok() {
            let _permit = DescriptorPermit::new(self.out.shared.store.clone());
            self.out.outbox_behind().push_file(FilePart { file, offset, left: send, _permit });
        }
        match framing {
            ResponseFraming::Length(promised) if promised != length => Err(BodyLength { promised, given: length }),
            _ => Ok(()),
        }
    }

    /// Ends the response: the terminating chunk, or the check of the length. Where nothing was begun, sends the head with an empty body.
    pub fn end(&mut self, head: &ResponseHead) -> Result<(), BodyLength> {
        let Progress::Begun { framing, left } = self.out.progress else {
            return if self.out.progress == Progress::Nothing {
                self.whole(head, b"", &mut |wait| wait())
            } else {
                Ok(())
            };
        };
        self.out.progress = Progress::Ended;
        if framing == ResponseFraming::Chunked && self.out.transmit(&[LAST_CHUNK], None).is_err() {
            self.out.progress = Progress::Cut;
        }
        match left {
            Some(left) if left > 0 => {
                (self.out.progress, self.out.broken) = (Progress::Cut, true);
                Err(BodyLength { promised: self.out.body_bytes + left, given: self.out.body_bytes })
            }
            _ => Ok(()),
        }
    }

    /// Sends 103 with the fields of `hints`, which has no status, to a 1.1 client (RFC 8297), if nothing was begun.
    pub fn early_hints(&mut self, hints: &ResponseHead) -> Result<(), Gone> {
        if self.begun() || self.request.version == Version::Http10 {
            return Ok(());
        }
        let mut head = Vec::new();
        hints.write_early_hints(&mut head);
        self.out.transmit(&[&head], None)
    }

    /// Whether the head is sent, so that the status cannot change any more.
    pub fn begun(&self) -> bool {
        self.out.progress != Progress::Nothing
    }

    /// Ends the connection visibly: no terminating chunk, fewer bytes than promised. `client_left`: the application is not to blame for
    /// it. Nor is it if the rest of the request's body did not come.
    pub fn cut(&mut self, client_left: bool) {
        let stopped = client_left || self.out.live.as_ref().is_some_and(|live| live.failure().is_some());
        self.out.broken |= !stopped && matches!(self.out.progress, Progress::Begun { .. });
        self.out.progress = Progress::Cut;
    }

    /// Answers with the server's own page, only before anything was sent: 500, or what was wrong with a body that the application could
    /// not read to its end.
    pub fn failed(&mut self) {
        if !self.begun() {
            let status = self.out.live.as_ref().and_then(LiveHandle::failure).unwrap_or(500);
            self.error(status, &[]);
        }
    }

    /// Whether the request is the site's own (`--smoke`): the master wants to know what is raised.
    pub fn is_private(&self) -> bool {
        self.out.private
    }

    /// Notes what the application has raised: a traceback, of at most [`ostler_wire::channel::fit`]'s length. The first counts.
    pub fn raised(&mut self, traceback: String) {
        if self.out.raised.is_empty() {
            self.out.raised = traceback;
        }
    }

    /// Answers with the server's own page for an error. The head of a request that could not be parsed holds what came before the fault:
    /// the method, and perhaps the Accept field.
    #[cold]
    pub(crate) fn error(&mut self, status: u16, fields: &[(&str, &str)]) {
        let accept = self.request.value(self.bytes, b"accept");
        self.answer(&error_answer(status, accept, fields));
    }

    /// Sends an answer of the server's own.
    #[cold]
    pub(crate) fn answer(&mut self, answer: &Answer) {
        // It has no Content-Length of its own that could be wrong.
        let _ = self.whole(&answer.head, &answer.body, &mut |wait| wait());
    }

    /// The bytes of the body that were sent, or handed over to be sent.
    pub fn body_sent(&self) -> u64 {
        self.out.body_sent()
    }

    /// The keys of the environ that the access log shows.
    pub fn logged_environ(&self) -> &[String] {
        &self.out.shared.logged_environ
    }

    /// Notes the value of one of [`Response::logged_environ`], by its index.
    pub fn note_environ(&mut self, index: usize, value: &[u8]) {
        let fields = self.out.shared.logged_fields.len();
        self.out.noted[fields + index] = Some(value.to_vec());
    }

    /// Whether the client has left. Does not block; one system call.
    pub fn client_gone(&self) -> bool {
        gone(self.out.transport(), self.out.half_closed)
    }

    /// What the request is called, if requests have ids.
    pub fn request_id(&self) -> Option<&str> {
        self.id
    }

    /// `GET /path`, for the log.
    pub fn request_line(&self) -> String {
        let part = |span: ostler_http::Span| String::from_utf8_lossy(span.of(self.bytes)).into_owned();
        format!("{} {}", part(self.request.method), part(self.request.target))
    }

    fn head_request(&self) -> bool {
        self.request.method.of(self.bytes) == b"HEAD"
    }

    /// Serializes the head, and claims the right to send. The loop has revoked it if it has given the request up.
    fn start(&mut self, head: &ResponseHead, framing: ResponseFraming) -> Vec<u8> {
        let mut buffer = std::mem::take(&mut self.out.buffer);
        buffer.clear();
        self.out.status = head.status();
        let out = &mut *self.out;
        out.framing = Some(framing);
        out.keep_alive &= framing != ResponseFraming::Close && out.can_keep_alive();
        let worker = &out.shared.boot.worker;
        let id = self.id.filter(|_| worker.request_id == RequestId::Response);
        let additions = Additions {
            date: &out.date,
            server: worker.server_header.as_bytes(),
            request_id: id.unwrap_or_default().as_bytes(),
            more: out.shared.generation_field(head),
        };
        head.write(&mut buffer, framing, self.request.version, out.keep_alive, additions);
        for (noted, name) in out.noted.iter_mut().zip(&out.shared.logged_fields) {
            *noted = head.value(name.as_bytes()).map(<[u8]>::to_vec);
        }
        buffer
    }

    /// Sends `buffer`, then the block in its framing.
    fn send_block(&mut self, mut buffer: Vec<u8>, block: &[u8], wait: Waiting) -> Result<(), Gone> {
        let out = &mut *self.out;
        let now = Moment::now();
        out.expect_block(block.len(), now);
        let Progress::Begun { framing, left } = &mut out.progress else { return Err(Gone::GivenUp) };
        let block = match (*framing, &mut *left) {
            (ResponseFraming::Bodiless, _) => &[],
            (ResponseFraming::Length(_), Some(left)) => {
                let block = &block[..block.len().min(usize::try_from(*left).unwrap_or(usize::MAX))];
                *left -= block.len() as u64;
                block
            }
            _ => block,
        };
        out.body_bytes += block.len() as u64;
        let tail: &[u8] = match framing {
            ResponseFraming::Chunked if !block.is_empty() => {
                chunk_start(&mut buffer, block.len());
                b"\r\n"
            }
            _ => b"",
        };
        let sent = if block.len() <= COPIED {
            buffer.extend_from_slice(block);
            buffer.extend_from_slice(tail);
            match left {
                Some(0) => out.transmit_last(&buffer, Some(wait)),
                _ => out.transmit(&[&buffer], Some(wait)),
            }
        } else {
            out.transmit(&[&buffer, block, tail], Some(wait))
        };
        out.buffer = buffer;
        out.settle(now);
        if sent.is_err() {
            out.progress = Progress::Cut;
        }
        sent
    }
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
    fn can_keep_alive(&self) -> bool {
        !self.shared.closing.load(Relaxed) && self.live.as_ref().is_none_or(LiveHandle::has_arrived)
    }

    /// Sends the last bytes of a response. If it is short, they may wait for other responses.
    fn transmit_last(&mut self, bytes: &[u8], wait: Option<Waiting>) -> Result<(), Gone> {
        if self.may_wait {
            self.outbox_behind();
        }
        self.transmit(&[bytes], wait)
    }

    /// Sends the parts, and puts what the kernel does not take into the outbox. Without `wait` they must be short.
    fn transmit(&mut self, parts: &[&[u8]], wait: Option<Waiting>) -> Result<(), Gone> {
        let sent = self.send(parts)?;
        self.keep_behind(sent, parts, wait)
    }

    /// The same for a whole body. What the kernel does not take of a long one is not copied, if that is possible.
    fn transmit_body(
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

    fn outbox_behind(&mut self) -> &Arc<Outbox> {
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
    fn expect_block(&mut self, length: usize, now: Moment) {
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
    fn settle(&mut self, now: Moment) {
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

fn gone(transport: &Transport, half_closed: bool) -> bool {
    match transport.peer() {
        PeerState::There => false,
        PeerState::SendsNoMore => !half_closed,
        PeerState::Gone => true,
    }
}
