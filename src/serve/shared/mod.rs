//! What the loop, the threads and the calls of a worker share. It knows neither the loop nor the threads.

pub(crate) mod call_time;
pub(crate) mod names;
pub(crate) mod notes;

use std::{
    io,
    sync::{
        Arc, Mutex, MutexGuard, OnceLock, PoisonError,
        atomic::{AtomicBool, AtomicU8, Ordering::*},
    },
    thread::Thread,
    time::Duration,
};

use nix::sys::eventfd::{EfdFlags, EventFd};
use ostler_http::{ResponseHead, proxy::forwarded::Believed};
use ostler_wire::{
    Boot, ForwardedField, Trust,
    access_format::AccessFormat,
    meters::{Meters, grow},
    scoreboard::{Own, Scoreboard, Slot, Underway, WorkerState},
};
use slog::Logger;

use self::{
    call_time::CallTime,
    names::Names,
    notes::{CallNote, Notes},
};
use crate::{
    compression::Compression,
    files::NamedFiles,
    poll::timers::Token,
    storage::{outbox::Outbox, store::Store},
};

/// What the loop, the threads and the calls all see.
pub(crate) struct Shared {
    pub boot: Boot,
    pub slot: u16,
    pub scoreboard: Arc<Scoreboard>,
    own: Own,
    pub log: Logger,
    pub seats: Vec<Seat>,
    /// For each of them.
    pub call_times: Vec<CallTime>,
    pub store: Arc<Store>,
    /// None without `--compress`.
    pub compression: Option<Compression>,
    /// None without `--sendfile-root`.
    pub named_files: Option<NamedFiles>,
    /// For each listener: the forwarding fields that its trusted peers are believed in.
    pub believed: Vec<Believed>,
    /// Names of response fields that the access log wants.
    pub logged_fields: Vec<String>,
    /// Keys of the environ that the access log wants.
    pub logged_environ: Vec<String>,
    /// Makes the ids of requests, if they have ids.
    pub names: Option<Names>,
    /// What `--generation-header` adds to each response, a line; empty for nothing.
    generation_line: Vec<u8>,
    /// What `--hsts` adds to what goes out by TLS.
    hsts_line: Vec<u8>,
    /// No worker is left to take connections over: responses say `Connection: close` from now on.
    pub closing: AtomicBool,
    notes: Mutex<Notes>,
    /// The stand-by thread, once it runs.
    pub standby: OnceLock<Thread>,
    /// Readable when the leader must stop waiting.
    pub alarm: EventFd,
}

impl Shared {
    pub fn new(boot: Boot, slot: u16, scoreboard: Arc<Scoreboard>, log: Logger) -> io::Result<Shared> {
        let seats = (0..boot.worker.threads).map(|_| Seat::default()).collect();
        let call_times = (0..boot.worker.threads).map(|_| CallTime::default()).collect();
        let worker = &boot.worker;
        let store = Arc::new(Store::new(&worker.spool_directory, worker.spool_limit, worker.body_memory)?);
        let alarm = EventFd::from_flags(EfdFlags::EFD_CLOEXEC | EfdFlags::EFD_NONBLOCK)?;
        let AccessFormat { response_fields, variables, .. } = boot.worker.access_log_format.clone();
        let believed = boot.listeners.iter().map(|listener| believed(&listener.trust)).collect();
        let names = Names::new(worker.request_id);
        let generation_line = match worker.generation_header.as_str() {
            "" => Vec::new(),
            name => format!("{name}: {}\r\n", boot.generation).into_bytes(),
        };
        let hsts_line = match worker.hsts.as_secs() {
            0 => Vec::new(),
            age => format!("Strict-Transport-Security: max-age={age}\r\n").into_bytes(),
        };
        let named_files = NamedFiles::open(&worker.sendfile_roots, &log);
        Ok(Shared {
            compression: worker.compression.as_ref().map(Compression::new),
            named_files,
            believed,
            boot,
            slot,
            own: Own::new(scoreboard.clone(), slot),
            scoreboard,
            log,
            seats,
            call_times,
            store,
            logged_fields: response_fields,
            logged_environ: variables,
            names,
            generation_line,
            hsts_line,
            closing: AtomicBool::new(false),
            notes: Mutex::default(),
            standby: OnceLock::new(),
            alarm,
        })
    }

    /// The line that `--generation-header` adds to a response with this head: none if the application has given that field.
    pub fn generation_field(&self, head: &ResponseHead) -> &[u8] {
        let name = self.boot.worker.generation_header.as_bytes();
        if name.is_empty() || head.value(name).is_some() { &[] } else { &self.generation_line }
    }

    /// The line that `--hsts` adds to a response with this head by TLS: none if the application has given that field. In the clear it would
    /// mean nothing (RFC 6797, 7.2).
    pub fn hsts_field(&self, head: &ResponseHead, secure: bool) -> &[u8] {
        let wanted = secure && !self.hsts_line.is_empty() && head.value(b"strict-transport-security").is_none();
        if wanted { &self.hsts_line } else { &[] }
    }

    /// The worker's own slot of the scoreboard.
    pub fn slot(&self) -> &Slot {
        self.own.slot()
    }

    /// What else the worker counts, if there is a place for it.
    pub fn meters(&self) -> Option<&Meters> {
        self.own.meters()
    }

    /// Whether another worker has nothing to do.
    pub fn has_idle_sibling(&self) -> bool {
        self.scoreboard.siblings(self.slot).any(|slot| slot.state() == WorkerState::Idle)
    }

    /// What a listener's peers are trusted with.
    pub fn trust(&self, listener: u16) -> &Trust {
        &self.boot.listeners[usize::from(listener)].trust
    }

    /// The request that a Python thread is answering, as the scoreboard has it.
    pub fn underway(&self, seat: u16) -> Option<Underway> {
        self.scoreboard.activity(self.slot, seat).current()
    }

    /// A Python thread's call begins, at `now` in milliseconds of the scoreboard's clock. `line`: the request line.
    pub fn begin_call(&self, seat: u16, line: &[u8], id: &str, now: u64) {
        self.seats[usize::from(seat)].begin();
        self.call_times[usize::from(seat)].begin();
        self.scoreboard.activity(self.slot, seat).begin(line, id.as_bytes(), now);
    }

    /// How long its call has lasted, without the time for which it waited for its client.
    pub fn call_age(&self, seat: u16, now: u64) -> Duration {
        let started = self.underway(seat).map_or(0, |underway| underway.started);
        let waited = self.call_times[usize::from(seat)].waited(now);
        Duration::from_millis(now.saturating_sub(started)).saturating_sub(waited)
    }

    pub fn end_call(&self, seat: u16) {
        self.scoreboard.activity(self.slot, seat).end();
    }

    /// Counts a request for which the application was called: the status that its client was sent, the bytes of the body, how long it
    /// waited for its call, and how long that lasted.
    pub fn count_answer(&self, status: u16, method: &[u8], body: u64, queued: Duration, lasted: Duration) {
        let slot = self.slot();
        if let Some(meters) = self.meters() {
            meters.count(status, method, micros(queued), micros(lasted));
        }
        slot.requests.store(slot.requests.load(Relaxed).wrapping_add(1), Relaxed);
        slot.sent.store(slot.sent.load(Relaxed).wrapping_add(body), Relaxed);
        if status >= 500 {
            slot.errors.fetch_add(1, Relaxed);
        }
    }

    /// Counts a request that was answered with a static file, or with that it has none: the status and the bytes of the body.
    pub fn count_file(&self, status: u16, method: &[u8], body: u64) {
        let slot = self.slot();
        slot.sent.store(slot.sent.load(Relaxed).wrapping_add(body), Relaxed);
        if let Some(meters) = self.meters() {
            meters.count_file(status, method);
        }
    }

    /// Counts one of them that the application has broken off. An answer of 5xx counts as an error already.
    pub fn count_broken(&self, status: u16) {
        if let Some(meters) = self.meters().filter(|_| status < 500) {
            grow(&meters.broken, 1);
        }
    }

    /// Wakes the leader.
    pub fn wake(&self) {
        // Fails only after 2^64 writes without a read.
        let _ = self.alarm.write(1);
    }

    /// Resets the alarm: the leader is awake.
    pub fn reset_alarm(&self) {
        let _ = self.alarm.read();
    }

    /// Asks the loop to drain an outbox while the call goes on. Asks again only after the loop has looked at it.
    pub fn ask_to_drain(&self, token: Token, outbox: &Arc<Outbox>) {
        if outbox.mark_told() {
            self.notes().add(CallNote::Outbox(token, outbox.clone()));
            self.wake();
        }
    }

    /// Has an outbox drained at the stand-by's next tick, unless the call drains it before that.
    pub fn drain_in_a_tick(&self, token: Token, outbox: &Arc<Outbox>) {
        if !outbox.mark_told() {
            return;
        }
        let mut notes = self.notes();
        notes.add(CallNote::Outbox(token, outbox.clone()));
        if notes.watch() {
            drop(notes);
            // It sleeps, or it leads and waits for events.
            self.standby.get().inspect(|standby| standby.unpark());
            self.wake();
        }
    }

    pub fn notes(&self) -> MutexGuard<'_, Notes> {
        self.notes.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Cheaper than the 128 bits of `as_micros`.
fn micros(time: Duration) -> u64 {
    time.as_secs() * 1_000_000 + u64::from(time.subsec_micros())
}

/// `--forwarded-fields` and gunicorn's settings beside it, for the parser.
fn believed(trust: &Trust) -> Believed {
    let (schemes, own) = (trust.secure_schemes.clone(), trust.forwarder_headers.clone());
    let mut believed = Believed { schemes, own, ..Believed::default() };
    for field in &trust.forwarded_fields {
        *match field {
            ForwardedField::XForwardedFor => &mut believed.address,
            ForwardedField::XForwardedProto => &mut believed.proto,
            ForwardedField::XForwardedProtocol => &mut believed.protocol,
            ForwardedField::XForwardedSsl => &mut believed.ssl,
            ForwardedField::XForwardedHost => &mut believed.host,
            ForwardedField::XForwardedPort => &mut believed.port,
            ForwardedField::XForwardedPrefix => &mut believed.prefix,
            ForwardedField::Forwarded => &mut believed.standard,
            ForwardedField::XRequestStart => &mut believed.start,
        } = true;
    }
    believed
}

/// What the loop and one Python thread share of its call.
#[derive(Default)]
pub(crate) struct Seat {
    /// Who may answer: the thread, or (once it has taken too long) the loop.
    answer: AtomicU8,
}

impl Seat {
    const UNANSWERED: u8 = 0;
    const ANSWERED: u8 = 1;
    const REVOKED: u8 = 2;

    pub fn begin(&self) {
        self.answer.store(Self::UNANSWERED, Release);
    }

    /// Whether the thread may send.
    pub fn claim(&self) -> bool {
        match self.answer.load(Acquire) {
            Self::ANSWERED => true,
            Self::REVOKED => false,
            _ => self.answer.compare_exchange(Self::UNANSWERED, Self::ANSWERED, AcqRel, Acquire).is_ok(),
        }
    }

    /// Takes the right to send from the thread; `false` if it has sent already.
    pub fn revoke(&self) -> bool {
        self.answer.compare_exchange(Self::UNANSWERED, Self::REVOKED, AcqRel, Acquire).is_ok()
    }
}
