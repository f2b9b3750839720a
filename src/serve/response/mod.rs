//! The response during a call, as the application makes it: its head, its blocks, its end.

pub(crate) mod access_log;
mod compressed;
mod named_file;
mod outgoing;

use std::os::fd::OwnedFd;

use ostler_http::{
    Answer, RequestHead, ResponseHead, Version, error_answer, explained_answer,
    h1::{Additions, LAST_CHUNK, ResponseFraming, chunk_start},
};
use ostler_wire::RequestId;

pub(crate) use self::outgoing::Outgoing;
use self::outgoing::gone;
use crate::{
    moment::Moment,
    request::body::LiveHandle,
    storage::{
        outbox::{FilePart, Gone, Kept},
        store::DescriptorPermit,
    },
};

/// A body up to this size is copied behind its head, so that one send(2) is enough.
pub(crate) const COPIED: usize = 16 * 1024;

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
        let changed = self.compressed(head, body, &mut *wait);
        let head = changed.as_ref().map_or(head, |(head, _)| head);
        let coded = changed.as_ref().and_then(|(_, coded)| coded.as_deref());
        let mut none = || None;
        let (body, keep) = coded.map_or((body, keep), |coded| (coded, &mut none));
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

    /// Sends the head and the first block of a body whose length is not known, or known only from the head's Content-Length. If the block is as
    /// long as that says, it is the whole body.
    pub fn begin(&mut self, head: &ResponseHead, block: &[u8], wait: Waiting) -> Result<(), Gone> {
        if self.is_replaced(head) {
            // It is sent when the application has come to its end, in place of all blocks.
            return Ok(());
        }
        let changed = head.content_length().and_then(|_| self.compressed(head, block, &mut *wait));
        let head = changed.as_ref().map_or(head, |(head, _)| head);
        let block = changed.as_ref().and_then(|(_, coded)| coded.as_deref()).unwrap_or(block);
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

    /// The same with a sentence for its reader.
    #[cold]
    pub(crate) fn explained(&mut self, status: u16, sentence: &str) {
        let accept = self.request.value(self.bytes, b"accept");
        self.answer(&explained_answer(status, accept, sentence, &[]));
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
        let more = [out.shared.generation_field(head), out.shared.hsts_field(head, out.secure)];
        let additions = Additions {
            date: &out.date,
            server: worker.server_header.as_bytes(),
            request_id: id.unwrap_or_default().as_bytes(),
            more: &more,
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
