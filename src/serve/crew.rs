//! The threads of a worker, and the baton that makes one of them run the loop.
//!
//! A Python thread that holds the baton runs the loop and calls the application itself, so that a fast request costs no hand-off.
//! For the length of a call it lets the baton go. If the call is over soon, it takes the baton up again and nobody has noticed.
//! If not, the stand-by thread finds it lying there on its next tick and hands it to a free Python thread, or else runs the loop
//! itself until one is free: reads, writes, time-outs and hand-overs go on while Python works.
//! The stand-by ticks only while there are calls; an idle worker makes no wake-ups.

use std::{
    panic::{AssertUnwindSafe, catch_unwind},
    sync::{
        Arc, Mutex, MutexGuard, OnceLock, PoisonError,
        atomic::{AtomicBool, AtomicU8, AtomicU64, Ordering::*},
    },
    thread::{self, Thread},
    time::Duration,
};

use nix::sys::{
    eventfd::EventFd,
    resource::{RLIM_INFINITY, Resource, getrlimit},
};
use ostler_wire::{Boot, scoreboard::Scoreboard};
use slog::{Logger, error, warn};

use crate::{
    Ending,
    application::{Application, Request},
    connection::Work,
    event_loop::{Loop, Step},
    outbox::Outbox,
    response::{Progress, Response},
    saying::Rarely,
    timers::Token,
};

/// How long a call may last before the stand-by takes the loop over: between one and two of these.
const TICK: Duration = Duration::from_millis(1);
/// The same under a steady load of short calls, where each tick costs the calls a context switch.
const STEADY_TICK: Duration = Duration::from_millis(3);
/// A load is steady when so many ticks in a row have each seen a call end.
const STEADY_TICKS: u32 = 16;
/// The stack of a Python thread where the limit is none.
const UNLIMITED_STACK: usize = 64 << 20;
/// Even if the limit is less: the server's own code needs some.
const SMALLEST_STACK: usize = 2 << 20;
/// Even if the limit is more: many threads have to find room.
const LARGEST_STACK: usize = 1 << 30;
/// After so many ticks without a call the stand-by sleeps until there is one.
const QUIET_TICKS: u32 = 16;

/// What a thread that Python starts would have: as much as the main thread may have, within reason. Memory that is not used is not
/// allocated.
fn stack_size() -> usize {
    let limit = getrlimit(Resource::RLIMIT_STACK).map_or(RLIM_INFINITY, |(limit, _)| limit);
    let limit = if limit == RLIM_INFINITY { UNLIMITED_STACK } else { usize::try_from(limit).unwrap_or(usize::MAX) };
    limit.clamp(SMALLEST_STACK, LARGEST_STACK)
}

/// What the loop, the threads and the calls all see.
pub(crate) struct Shared {
    pub boot: Boot,
    pub slot: u16,
    pub scoreboard: Arc<Scoreboard>,
    pub log: Logger,
    pub seats: Vec<Seat>,
    /// Names of response fields that the access log wants.
    pub logged_fields: Vec<String>,
    /// Keys of the environ that the access log wants.
    pub logged_environ: Vec<String>,
    /// Nobody is left to take connections over: responses say `Connection: close` from now on.
    pub closing: AtomicBool,
    /// That there is no room for a body or a response.
    pub no_room: Rarely,
    /// For the thread that runs the loop. Wakes it.
    notes: Mutex<Vec<Note>>,
    pub wake: EventFd,
}

/// Something that a thread without the baton tells the loop.
pub(crate) enum Note {
    /// The call is over, and the thread is free.
    Finished(u16, Box<Work>),
    /// A client is slow: drain this while its call goes on.
    Outbox(Token, Arc<Outbox>),
}

impl Shared {
    pub fn new(boot: Boot, slot: u16, scoreboard: Arc<Scoreboard>, log: Logger) -> std::io::Result<Shared> {
        let seats = (0..boot.worker.threads).map(|_| Seat::default()).collect();
        let wake =
            EventFd::from_flags(nix::sys::eventfd::EfdFlags::EFD_CLOEXEC | nix::sys::eventfd::EfdFlags::EFD_NONBLOCK)?;
        let (logged_fields, logged_environ) = crate::access_log::wanted(&boot.worker.access_log_format);
        Ok(Shared {
            boot,
            slot,
            scoreboard,
            log,
            seats,
            logged_fields,
            logged_environ,
            closing: AtomicBool::new(false),
            no_room: Rarely::default(),
            notes: Mutex::default(),
            wake,
        })
    }

    /// The line of the request that a Python thread is answering, as the scoreboard has it.
    pub fn line(&self, seat: u16) -> String {
        let current = self.scoreboard.activity(self.slot, seat).current();
        current.map_or(String::new(), |(line, _)| String::from_utf8_lossy(&line).into_owned())
    }

    pub fn notify(&self, note: Note) {
        self.notes.lock().unwrap_or_else(PoisonError::into_inner).push(note);
        // Fails only if 2^64 notes were not read.
        let _ = self.wake.write(1);
    }

    pub fn take_notes(&self) -> Vec<Note> {
        std::mem::take(&mut *self.notes.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

/// Who may answer the request of one Python thread: the thread, or (once it has taken too long) the loop.
#[derive(Debug, Default)]
pub(crate) struct Seat(AtomicU8);

impl Seat {
    const UNANSWERED: u8 = 0;
    const ANSWERED: u8 = 1;
    const REVOKED: u8 = 2;

    pub fn begin(&self) {
        self.0.store(Self::UNANSWERED, Release);
    }

    /// Whether the thread may send.
    pub fn claim(&self) -> bool {
        match self.0.load(Acquire) {
            Self::ANSWERED => true,
            Self::REVOKED => false,
            _ => self.0.compare_exchange(Self::UNANSWERED, Self::ANSWERED, AcqRel, Acquire).is_ok(),
        }
    }

    /// Takes the right to send from the thread; `false` if it has sent already.
    pub fn revoke(&self) -> bool {
        self.0.compare_exchange(Self::UNANSWERED, Self::REVOKED, AcqRel, Acquire).is_ok()
    }
}

/// The threads and the baton.
pub(crate) struct Crew<'a, A: Application> {
    application: &'a A,
    shared: Arc<Shared>,
    /// Locked only by the thread that has the right to lead, so it is never waited for.
    baton: Mutex<Loop>,
    /// Who has that right: even, a thread that leads or has just been told to; odd, nobody, because the leader is in a call.
    /// Counts up with each change, so that the stand-by can tell one call from the next.
    right: AtomicU64,
    standby_sleeps: AtomicBool,
    standby: OnceLock<Thread>,
    python: Vec<Place>,
    over: AtomicBool,
}

/// Where a Python thread waits for the baton.
#[derive(Default)]
struct Place {
    thread: OnceLock<Thread>,
    granted: AtomicBool,
}

impl<'a, A: Application> Crew<'a, A> {
    pub fn new(shared: Arc<Shared>, event_loop: Loop, application: &'a A) -> Self {
        let python = shared.seats.iter().map(|_| Place::default()).collect();
        Crew {
            application,
            shared,
            baton: Mutex::new(event_loop),
            right: AtomicU64::new(0),
            standby_sleeps: AtomicBool::new(false),
            standby: OnceLock::new(),
            python,
            over: AtomicBool::new(false),
        }
    }

    /// Runs the loop to its end, on this thread first.
    pub fn run(self) -> Ending {
        let crew = &self;
        thread::scope(|scope| {
            let mut started = Vec::new();
            for seat in 1..crew.python.len() {
                let thread = thread::Builder::new().name(format!("ostler-{seat}")).stack_size(stack_size());
                started.push(thread.spawn_scoped(scope, move || crew.guard(|| crew.serve(seat))));
            }
            let standby = thread::Builder::new().name("ostler-standby".into());
            started.push(standby.spawn_scoped(scope, || crew.guard(|| crew.stand_by())));
            if let Some(Err(error)) = started.into_iter().find(Result::is_err) {
                error!(crew.shared.log, "could not start a thread"; "error" => %error);
                crew.application.abandon(1);
            }
            crew.python[0].granted.store(true, Release);
            crew.guard(|| crew.serve(0));
        });
        self.baton.into_inner().unwrap_or_else(PoisonError::into_inner).ending()
    }

    /// A panic of the loop itself leaves connections in an unknown state: the process ends, and says so.
    fn guard(&self, body: impl FnOnce()) {
        if catch_unwind(AssertUnwindSafe(body)).is_err() {
            error!(self.shared.log, "the worker's loop panicked");
            self.application.abandon(70);
        }
    }

    /// The life of a Python thread: wait for the baton, lead until somebody else does.
    fn serve(&self, seat: usize) {
        let place = &self.python[seat];
        place.thread.get_or_init(thread::current);
        let mut caller = self.application.caller(seat as u16);
        self.application.rest(&mut caller);
        while !self.over.load(Acquire) {
            if place.granted.swap(false, Acquire) {
                self.lead(seat as u16, &mut caller);
            } else {
                thread::park();
            }
        }
    }

    /// Runs the loop, and the calls that it finds, until the baton is lost to another thread.
    fn lead(&self, seat: u16, caller: &mut A::Caller) {
        let mut baton = self.lock();
        baton.led_by(Some(seat));
        while let Some(mut work) = self.turn(&mut baton, || self.application.rest(caller)) {
            drop(baton);
            let call = self.right.fetch_add(1, SeqCst) + 1;
            if self.standby_sleeps.load(SeqCst) && self.standby_sleeps.swap(false, SeqCst) {
                self.standby.wait().unpark();
            }
            self.call(caller, &mut work);
            if self.right.compare_exchange(call, call + 1, SeqCst, SeqCst).is_err() {
                self.application.rest(caller);
                return self.shared.notify(Note::Finished(seat, work));
            }
            baton = self.lock();
            baton.finish(work);
        }
    }

    /// The life of the stand-by thread.
    fn stand_by(&self) {
        self.standby.get_or_init(thread::current);
        let (mut last, mut quiet, mut steady) = (0, 0, 0);
        while !self.over.load(Acquire) {
            let now = self.right.load(SeqCst);
            if now % 2 == 1 && now == last && self.right.compare_exchange(now, now + 1, SeqCst, SeqCst).is_ok() {
                self.take_over();
            }
            // A call counts twice: when it begins and when it ends.
            steady = if now >= last + 2 { steady + 1 } else { 0 };
            quiet = if now == last { quiet + 1 } else { 0 };
            last = now;
            if quiet < QUIET_TICKS || now % 2 == 1 {
                thread::park_timeout(if steady < STEADY_TICKS { TICK } else { STEADY_TICK });
                continue;
            }
            self.standby_sleeps.store(true, SeqCst);
            while self.right.load(SeqCst) == last && self.standby_sleeps.load(SeqCst) && !self.over.load(Acquire) {
                thread::park();
            }
            self.standby_sleeps.store(false, SeqCst);
            quiet = 0;
        }
    }

    /// Runs the loop without calling the application until a Python thread is free, and gives it the baton.
    fn take_over(&self) {
        let mut baton = self.lock();
        baton.led_by(None);
        let none = self.turn(&mut baton, || ());
        debug_assert!(none.is_none(), "the stand-by is given no calls");
    }

    /// Runs the loop until there is a call to make (for a Python thread), or the baton has been given away, or all is over.
    fn turn<'l>(&'l self, baton: &mut MutexGuard<'l, Loop>, mut rest: impl FnMut()) -> Option<Box<Work>> {
        loop {
            match baton.next() {
                Step::Call(work) => return Some(work),
                Step::Wait => {
                    rest();
                    baton.poll();
                }
                Step::Grant(seat) => {
                    let place = &self.python[usize::from(seat)];
                    place.granted.store(true, Release);
                    place.thread.wait().unpark();
                    return None;
                }
                Step::Explain(seat, what) => self.explain(seat, what),
                Step::Stacks => baton.answer_stacks(self.application.stacks()),
                Step::Abandon(code) => {
                    baton.ending();
                    self.application.abandon(code)
                }
                Step::End => {
                    self.over.store(true, Release);
                    for place in &self.python {
                        if let Some(thread) = place.thread.get() {
                            thread.unpark();
                        }
                    }
                    if let Some(standby) = self.standby.get() {
                        standby.unpark();
                    }
                    return None;
                }
            }
        }
    }

    /// Logs what a Python thread is doing, with the stacks of all of them.
    fn explain(&self, seat: u16, what: &'static str) {
        let board = &self.shared.scoreboard;
        let Some((line, since)) = board.activity(self.shared.slot, seat).current() else { return };
        let age = ostler_wire::scoreboard::now().saturating_sub(since);
        warn!(self.shared.log, "{}", what; "request" => %String::from_utf8_lossy(&line), "age_ms" => age,
            "thread" => seat, "stacks" => self.application.stacks());
    }

    /// Makes one call. Whatever the application did not finish is finished here.
    fn call(&self, caller: &mut A::Caller, work: &mut Work) {
        let incoming = &mut work.incoming;
        let body = std::mem::take(&mut incoming.body);
        let mut request = Request {
            head: &incoming.head,
            bytes: &incoming.bytes,
            body,
            client: &incoming.client,
            hidden: &incoming.hidden,
        };
        let mut response = Response { out: &mut work.outgoing, request: &incoming.head, bytes: &incoming.bytes };
        let call = AssertUnwindSafe(|| self.application.call(caller, &mut request, &mut response));
        if catch_unwind(call).is_err() {
            error!(self.shared.log, "a panic ended a request"; "request" => incoming.line());
            work.panicked = true;
        }
        match response.out.progress {
            Progress::Nothing => response.failed(),
            Progress::Begun { .. } => response.cut(),
            Progress::Ended | Progress::Cut => {}
        }
    }

    fn lock(&self) -> MutexGuard<'_, Loop> {
        self.baton.lock().expect("a panic with the baton ends the process")
    }
}
