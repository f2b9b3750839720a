//! Request bodies: read whole by the loop before the call, or by the application during it.

use std::{
    io,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use ostler_http::{
    Framing, Refusal,
    h1::{CONTINUE, ChunkedDecoder, Decoded},
};
use ostler_wire::WorkerSettings;

use super::rate::rate_allows;
use crate::{
    moment::Moment,
    shared::Shared,
    storage::{
        body::{Body, LiveBody},
        budget::Room,
        spool::{BLOCK, Spool},
        store::{Shortage, Store},
    },
    transport::Transport,
};

const TOO_LARGE: Refusal = Refusal { status: 413, why: "the body is larger than --limit-request-body" };
pub(crate) const TOO_LARGE_TO_SPOOL: Refusal = Refusal { status: 413, why: "the body is larger than --spool-limit" };

/// Finds a body's end (RFC 9112 §6).
#[derive(Debug, Clone)]
enum Decoder {
    Length(u64),
    Chunked(ChunkedDecoder),
}

/// A body that is being read.
#[derive(Debug)]
pub(crate) struct BodyReader {
    decoder: Decoder,
    spool: Spool,
    /// How many bytes of it may be in memory: more than a block only with `room`.
    in_memory: u64,
    /// What `in_memory` may become.
    most: u64,
    room: Option<Room>,
    /// Bytes of body data so far.
    pub received: u64,
    /// When its head was complete.
    pub started: Moment,
    /// Since when it waits for a descriptor for its file.
    pub parked: Option<Moment>,
}

impl BodyReader {
    /// For a request with a body. Refuses at once what is declared too large.
    pub fn new(framing: Framing, started: Moment, settings: &WorkerSettings) -> Result<Option<BodyReader>, Refusal> {
        let decoder = match framing {
            Framing::None | Framing::Length(0) => return Ok(None),
            Framing::Length(length) if over(length, settings.limit_request_body) => return Err(TOO_LARGE),
            Framing::Length(length) if length > settings.body_memory && over(length, settings.spool_limit) => {
                return Err(TOO_LARGE_TO_SPOOL);
            }
            Framing::Length(length) => Decoder::Length(length),
            Framing::Chunked => Decoder::Chunked(ChunkedDecoder::default()),
        };
        let memory = settings.body_memory;
        let in_memory = memory.min(BLOCK as u64);
        let most = match framing {
            // It goes to a file anyway, so it takes no memory from others.
            Framing::Length(length) if length > memory => in_memory,
            Framing::Length(length) => length,
            _ => memory,
        };
        let spool = Spool::default();
        Ok(Some(BodyReader { decoder, spool, in_memory, most, room: None, received: 0, started, parked: None }))
    }

    /// Takes the body's bytes from the beginning of `input`. Returns how many those were, and whether the body is complete.
    pub fn feed(
        &mut self,
        input: &[u8],
        settings: &WorkerSettings,
        store: &Arc<Store>,
    ) -> Result<(usize, bool), Problem> {
        let mut consumed = 0;
        loop {
            let step = self.decoder.step(&input[consumed..])?;
            consumed += step.consumed;
            self.received += step.data as u64;
            if over(self.received, settings.limit_request_body) {
                return Err(TOO_LARGE.into());
            }
            let data = &input[consumed - step.data..consumed];
            if !data.is_empty() {
                self.make_room(store);
                let pushed = self.spool.push(data, self.in_memory as usize, store);
                pushed.map_err(|shortage| self.judge(shortage, settings))?;
            }
            if step.done || step.consumed == 0 {
                return Ok((consumed, step.done));
            }
        }
    }

    /// Takes more room in memory, if it needs more and the budget has it. The room doubles each time, so that few bytes are copied.
    fn make_room(&mut self, store: &Store) {
        if self.received <= self.in_memory {
            return;
        }
        let wanted = self.received.next_power_of_two().min(self.most);
        let room = self.room.get_or_insert_with(|| Room::of(&store.bodies));
        if self.received <= self.most && room.grow(wanted) {
            self.in_memory = wanted;
            self.spool.reserve(wanted as usize);
        } else {
            // It goes to a file.
            self.most = self.in_memory;
            self.room = None;
        }
    }

    /// A body that would fit in memory is not too large: other bodies have taken the room.
    fn judge(&self, shortage: Shortage, settings: &WorkerSettings) -> Shortage {
        match shortage {
            Shortage::TooLarge if self.received <= settings.body_memory => Shortage::Full,
            other => other,
        }
    }

    /// How many bytes may be read, at most `most`. Without a descriptor for a file, no more than there is room for in memory.
    pub fn may_take(&self, most: usize, store: &Store) -> usize {
        let grows = self.most <= store.bodies.left();
        let in_memory = self.spool.left_in_memory(if grows { self.most } else { self.in_memory } as usize);
        if in_memory >= most || store.descriptors_left() > 0 { most } else { in_memory }
    }

    /// The complete body.
    pub fn finish(self, store: &Arc<Store>) -> Result<Body, Shortage> {
        self.spool.into_body(self.room, store)
    }
}

fn over(length: u64, limit: u64) -> bool {
    limit != 0 && length > limit
}

impl Decoder {
    fn step(&mut self, input: &[u8]) -> Result<Decoded, Refusal> {
        match self {
            Decoder::Chunked(decoder) => decoder.step(input),
            Decoder::Length(left) => {
                let data = input.len().min(usize::try_from(*left).unwrap_or(usize::MAX));
                *left -= data as u64;
                Ok(Decoded { consumed: data, data, done: *left == 0 })
            }
        }
    }
}

/// Why a body cannot be read on.
pub(crate) enum Problem {
    /// The peer's fault.
    Refused(Refusal),
    /// Our own: there is no room for it.
    Shortage(Shortage),
}

impl From<Refusal> for Problem {
    fn from(refusal: Refusal) -> Self {
        Problem::Refused(refusal)
    }
}

impl From<Shortage> for Problem {
    fn from(shortage: Shortage) -> Self {
        Problem::Shortage(shortage)
    }
}

/// A body that the application reads from the connection (`--no-request-buffering`).
pub(crate) struct LiveReader {
    decoder: Decoder,
    transport: Arc<Transport>,
    /// Bytes read from the connection. From `start` + `data` on they are not decoded yet. At first these are the bytes that came with the
    /// head; at the end, those of the next request.
    input: Vec<u8>,
    /// The bytes before it were given to the application.
    start: usize,
    /// How many bytes from `start` on are body data that was not read yet.
    data: usize,
    continue_first: bool,
    pause: Duration,
    min_rate: u64,
    limit: u64,
    received: u64,
    /// How many bytes were read from the connection.
    read: u64,
    /// How long it has waited for the client.
    waited: Duration,
    /// The call that reads it, whose waits are counted.
    call: Option<(Arc<Shared>, u16)>,
    state: LiveState,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum LiveState {
    Open,
    Complete,
    /// It cannot be read to its end. The status that says so, if the application does not answer itself.
    Broken(u16),
    CallOver,
}

/// The loop's handle of a [`LiveReader`], to take the connection back when the call is over.
#[derive(Clone)]
pub(crate) struct LiveHandle(Arc<Mutex<LiveReader>>);

impl LiveHandle {
    /// Both handles of a body: the loop's and the application's. `input`: the bytes that came behind the head.
    pub fn new(
        framing: Framing,
        transport: Arc<Transport>,
        input: Vec<u8>,
        continue_first: bool,
        settings: &WorkerSettings,
    ) -> (LiveHandle, LiveBody) {
        let (decoder, length) = match framing {
            Framing::Chunked => (Decoder::Chunked(ChunkedDecoder::default()), None),
            Framing::Length(length) => (Decoder::Length(length), Some(length)),
            Framing::None => (Decoder::Length(0), Some(0)),
        };
        let reader = LiveReader {
            decoder,
            transport,
            input,
            start: 0,
            data: 0,
            continue_first,
            pause: settings.body_timeout,
            min_rate: settings.min_rate,
            limit: settings.limit_request_body,
            received: 0,
            read: 0,
            waited: Duration::ZERO,
            call: None,
            state: LiveState::Open,
        };
        let handle = LiveHandle(Arc::new(Mutex::new(reader)));
        (handle.clone(), LiveBody { source: Box::new(handle), length })
    }

    /// The call begins, on this thread.
    pub fn called(&self, shared: Arc<Shared>, seat: u16) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).call = Some((shared, seat));
    }

    /// Whether all of the body has come, read or not. `false` while another thread waits for more of it.
    pub fn has_arrived(&self) -> bool {
        self.0.try_lock().is_ok_and(|reader| reader.has_arrived())
    }

    /// The status of an answer that says what was wrong with the body; `None` if nothing was.
    pub fn failure(&self) -> Option<u16> {
        match self.0.lock().unwrap_or_else(PoisonError::into_inner).state {
            LiveState::Broken(status) => Some(status),
            LiveState::Open | LiveState::Complete | LiveState::CallOver => None,
        }
    }

    /// Ends reading, after the call. Returns whether the body was read to its end, how many bytes of it came, how many
    /// were read, and those behind it.
    pub fn take_back(&self) -> (bool, u64, u64, Vec<u8>) {
        let mut reader = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        // The rest of the body may be in the buffer. An application need not read up to its end.
        let complete = reader.skip_buffered();
        reader.state = LiveState::CallOver;
        let behind = reader.start + reader.data;
        (complete, reader.received, reader.read, std::mem::take(&mut reader.input).split_off(behind))
    }
}

impl io::Read for LiveHandle {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).read(into)
    }
}

impl LiveReader {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        loop {
            match self.state {
                LiveState::Open | LiveState::Complete => {}
                LiveState::Broken(_) => return Err(broken("the client broke off its request body")),
                LiveState::CallOver => return Err(broken("wsgi.input was read after its request was over")),
            }
            if into.is_empty() {
                return Ok(0);
            }
            let taken = self.take(into)?;
            if taken > 0 || self.state == LiveState::Complete {
                return Ok(taken);
            }
            self.receive().inspect_err(|error| {
                let late = error.kind() == io::ErrorKind::TimedOut;
                self.state = LiveState::Broken(if late { 408 } else { 400 });
            })?;
        }
    }

    /// Copies data from the buffer; 0 if there is none.
    fn take(&mut self, into: &mut [u8]) -> io::Result<usize> {
        while self.data == 0 && self.state == LiveState::Open {
            let step = self.decoder.step(&self.input[self.start..]).map_err(|refusal| {
                self.state = LiveState::Broken(refusal.status);
                broken(refusal.why)
            })?;
            self.received += step.data as u64;
            if over(self.received, self.limit) {
                self.state = LiveState::Broken(TOO_LARGE.status);
                return Err(broken(TOO_LARGE.why));
            }
            self.start += step.consumed - step.data;
            self.data = step.data;
            if step.done {
                self.state = LiveState::Complete;
            }
            if step.consumed == 0 {
                break;
            }
        }
        let taken = into.len().min(self.data);
        into[..taken].copy_from_slice(&self.input[self.start..self.start + taken]);
        self.start += taken;
        self.data -= taken;
        Ok(taken)
    }

    fn has_arrived(&self) -> bool {
        let (mut decoder, mut rest) = (self.decoder.clone(), &self.input[self.start + self.data..]);
        loop {
            match decoder.step(rest) {
                Ok(step) if step.done => return true,
                Ok(step) if step.consumed > 0 => rest = &rest[step.consumed..],
                _ => return false,
            }
        }
    }

    fn skip_buffered(&mut self) -> bool {
        let mut sink = [0; 4096];
        while matches!(self.take(&mut sink), Ok(1..)) {}
        self.state == LiveState::Complete
    }

    fn receive(&mut self) -> io::Result<()> {
        if std::mem::take(&mut self.continue_first) && self.input.is_empty() {
            // 25 bytes always fit an idle connection's send buffer.
            self.transport.send_few(CONTINUE)?;
        }
        // All of it was read, except the beginning of a chunk's head.
        self.input.drain(..std::mem::take(&mut self.start));
        let mut buffer = [0; 64 * 1024];
        loop {
            match self.transport.receive(&mut buffer)? {
                Some(0) => return Err(broken("the client broke off its request body")),
                Some(length) => {
                    self.read += length as u64;
                    self.input.extend_from_slice(&buffer[..length]);
                    return Ok(());
                }
                None => self.wait()?,
            }
        }
    }

    /// Waits for the client: no longer than it may pause, nor than the minimum rate allows.
    fn wait(&mut self) -> io::Result<()> {
        let pause = (!self.pause.is_zero()).then_some(self.pause);
        let rate = (self.min_rate > 0).then(|| rate_allows(self.received, self.min_rate).saturating_sub(self.waited));
        let bound = pause.into_iter().chain(rate).min();
        let since = Moment::now();
        let came = match &self.call {
            Some((shared, seat)) => shared.call_times[usize::from(*seat)].during(|| self.transport.wait(bound)),
            None => self.transport.wait(bound),
        }?;
        self.waited += since.elapsed();
        let why = match bound == pause {
            true => "the client paused its body for --body-timeout",
            false => "the body came more slowly than --min-rate",
        };
        if came { Ok(()) } else { Err(io::Error::new(io::ErrorKind::TimedOut, why)) }
    }
}

fn broken(why: &'static str) -> io::Error {
    io::Error::new(io::ErrorKind::ConnectionAborted, why)
}
