//! The threads of a worker at work: they lock the loop, work on it, wait for its events and call the application. Who does what when
//! is the story of `threads`.

use std::{
    panic::{AssertUnwindSafe, catch_unwind},
    sync::{
        Arc, Mutex, MutexGuard, OnceLock, PoisonError,
        atomic::{AtomicBool, Ordering::*},
    },
    thread::{self, Thread},
    time::Duration,
};

use nix::{
    sys::{epoll::Epoll, resource},
    time::ClockId,
    unistd::{Pid, gettid},
};
use slog::error;

use super::{Loop, Step, stacks::ident};
use crate::{
    application::{Application, Request},
    calls::held::Pending,
    connection::work::Work,
    life::LoopEnd,
    response::{Progress, Response},
    shared::Shared,
    threads::{
        lead::{Lead, Wake},
        watch::{Look, TICK, Watch},
    },
};

/// The threads of a worker.
pub(crate) struct Crew<'a, A: Application> {
    pub(super) application: &'a A,
    pub(super) shared: Arc<Shared>,
    epoll: Arc<Epoll>,
    /// For each Python thread.
    pending: Arc<[Pending]>,
    event_loop: Mutex<Loop>,
    pub(super) python: Vec<Place>,
    /// The calling thread is wanted.
    wanted: AtomicBool,
    over: AtomicBool,
}

/// A call that a Python thread is to make.
struct Call {
    /// The request; none if it is in [`Crew::pending`], because the thread has to wait before it can call.
    work: Option<Box<Work>>,
    /// Nobody leads during the call.
    led: bool,
}

/// Where a Python thread waits until it is promoted to leader.
#[derive(Default)]
pub(super) struct Place {
    /// The last is [`ident`].
    pub(super) thread: OnceLock<(Thread, Pid, u64)>,
    promoted: AtomicBool,
}

impl<'a, A: Application> Crew<'a, A> {
    pub fn new(shared: Arc<Shared>, event_loop: Loop, application: &'a A) -> Self {
        let python = shared.seats.iter().map(|_| Place::default()).collect();
        Crew {
            application,
            shared,
            epoll: event_loop.poll.epoll.clone(),
            pending: event_loop.held.pending(),
            event_loop: Mutex::new(event_loop),
            python,
            wanted: AtomicBool::new(false),
            over: AtomicBool::new(false),
        }
    }

    /// Runs the loop to its end, on this thread first.
    pub fn run(self) -> LoopEnd {
        let crew = &self;
        thread::scope(|scope| {
            let mut started = Vec::new();
            for seat in 1..crew.python.len() {
                let thread = thread::Builder::new().name(format!("ostler-{seat}"));
                let thread = thread.stack_size(ostler_wire::limits::thread_stack() as usize);
                started.push(thread.spawn_scoped(scope, move || crew.guard(|| crew.serve(seat as u16))));
            }
            let standby = thread::Builder::new().name("ostler-standby".into());
            started.push(standby.spawn_scoped(scope, || crew.guard(|| crew.stand_by())));
            if let Some(Err(error)) = started.into_iter().find(Result::is_err) {
                error!(crew.shared.log, "could not start a thread"; "error" => %error);
                crew.application.abandon(1);
            }
            crew.python[0].promoted.store(true, Release);
            crew.guard(|| crew.serve(0));
        });
        self.event_loop.into_inner().unwrap_or_else(PoisonError::into_inner).ending()
    }

    /// A panic of the loop itself leaves connections in an unknown state: the process ends, and says so.
    fn guard(&self, body: impl FnOnce()) {
        if catch_unwind(AssertUnwindSafe(body)).is_err() {
            error!(self.shared.log, "the worker's loop panicked");
            self.application.abandon(70);
        }
    }

    /// The life of a Python thread: wait to be woken, and work until there is nothing to do.
    fn serve(&self, seat: u16) {
        let place = &self.python[usize::from(seat)];
        place.thread.get_or_init(|| (thread::current(), gettid(), ident()));
        let mut caller = self.application.caller(seat);
        self.application.release(&mut caller);
        if seat > 0 {
            // Free only now: `caller` has waited for the interpreter lock, which a call may hold for long.
            self.lock().add_free_thread(seat);
        }
        while !self.over.load(Acquire) {
            if self.is_wanted(seat) {
                self.application.attend(&mut caller);
                self.application.release(&mut caller);
            }
            if place.promoted.swap(false, Acquire) {
                self.work(seat, &mut caller);
                self.application.release(&mut caller);
            } else {
                thread::park();
            }
        }
    }

    /// Runs the loop and the calls that it finds, until another thread leads and there is no call to make.
    fn work(&self, seat: u16, caller: &mut A::Caller) {
        let mut event_loop = self.lock();
        event_loop.thread_enters(seat);
        while let Some(Call { work, led }) = self.turn(event_loop, Some((seat, &mut *caller))) {
            let Some(mut work) = work.or_else(|| self.prepare(seat, caller)) else {
                event_loop = self.lock_from(caller);
                event_loop.lock_acquired();
                event_loop.thread_enters(seat);
                continue;
            };
            self.call(caller, &mut work);
            if !led {
                // Other threads may wait for the interpreter lock, and what follows needs no Python.
                self.application.release(caller);
            }
            event_loop = self.lock_from(caller);
            event_loop.thread_enters(seat);
            event_loop.finish(work);
        }
    }

    /// Waits until a call can begin. None if the loop has taken the request back meanwhile.
    fn prepare(&self, seat: u16, caller: &mut A::Caller) -> Option<Box<Work>> {
        self.application.prepare(caller);
        self.pending[usize::from(seat)].take()
    }

    /// The life of the stand-by thread.
    fn stand_by(&self) {
        self.shared.standby.get_or_init(thread::current);
        let mut watch = Watch::default();
        while !self.over.load(Acquire) {
            let notes = self.shared.notes().are_watched();
            // Another thread works on the loop: the stand-by is not needed, unless calls have left notes.
            let Some(mut event_loop) = self.event_loop.try_lock().ok().or_else(|| notes.then(|| self.lock())) else {
                thread::park_timeout(TICK);
                continue;
            };
            let notes = notes && event_loop.read_notes_at_tick();
            match watch.look(&event_loop.threads, notes, |seat| self.processor_time(seat)) {
                Look::Again(tick) => {
                    drop(event_loop);
                    thread::park_timeout(tick);
                }
                Look::Sleep => {
                    event_loop.threads.standby_sleeps();
                    drop(event_loop);
                    thread::park();
                }
                Look::Lead { waits } => {
                    event_loop.standby_leads(waits);
                    self.turn(event_loop, None);
                }
            }
        }
    }

    /// How much processor time a Python thread has used.
    fn processor_time(&self, seat: u16) -> Option<Duration> {
        let (_, thread, _) = self.python[usize::from(seat)].thread.get()?;
        // The clock of a thread of this process. clock_getcpuclockid(3) composes that of a process in the same way.
        let clock = ClockId::from_raw(!thread.as_raw() << 3 | 6);
        clock.now().ok().map(Duration::from)
    }

    /// Runs the loop until there is a call to make, or nothing more to do for this thread, or the loop has ended. `thread`: the seat of the
    /// Python thread and what it keeps from call to call; none for the stand-by.
    fn turn<'l>(
        &'l self,
        mut event_loop: MutexGuard<'l, Loop>,
        mut thread: Option<(u16, &mut A::Caller)>,
    ) -> Option<Call> {
        let seat = thread.as_ref().map(|(seat, _)| *seat);
        loop {
            match event_loop.next(seat) {
                Step::Call(work, wake) => {
                    let (seat, caller) = thread.expect("the stand-by is given no calls");
                    let led = event_loop.threads.lead() == Lead::Calling(seat);
                    let work = if self.application.is_prepared(caller) {
                        Some(work)
                    } else {
                        // Done while the loop is locked, so that the next leader sees when the request has to be taken back.
                        self.pending[usize::from(seat)].put(work);
                        event_loop.shorten_wait();
                        None
                    };
                    drop(event_loop);
                    match wake {
                        Wake::Nobody => {}
                        Wake::Thread(seat) => self.promote(seat),
                        Wake::Standby => self.shared.standby.wait().unpark(),
                    }
                    return Some(Call { work, led });
                }
                Step::Wait if seat.is_some_and(|seat| self.is_wanted(seat)) => {
                    drop(event_loop);
                    if let Some((_, caller)) = &mut thread {
                        self.application.attend(caller);
                        self.application.release(caller);
                    }
                    event_loop = self.lock();
                }
                Step::Wait => {
                    let (mut events, wait) = event_loop.begin_wait();
                    drop(event_loop);
                    if let Some((_, caller)) = &mut thread {
                        self.application.release(caller);
                    }
                    let filled = self.epoll.wait(&mut events, wait);
                    event_loop = self.lock();
                    event_loop.end_wait(seat, events, filled);
                }
                Step::Leave => return None,
                Step::Promote(seat) => {
                    drop(event_loop);
                    self.promote(seat);
                    return None;
                }
                Step::Attend => self.want(),
                Step::Explain(of, what) => self.explain(of, what, &mut thread),
                Step::Show(failed) => self.application.show(*failed),
                Step::Stacks => event_loop.answer_stacks(self.stacks(&mut thread)),
                Step::Abandon(code) => {
                    event_loop.ending();
                    self.application.abandon(code)
                }
                Step::End => {
                    self.end();
                    return None;
                }
            }
        }
    }

    fn promote(&self, seat: u16) {
        let place = &self.python[usize::from(seat)];
        place.promoted.store(true, Release);
        place.thread.wait().0.unpark();
    }

    /// Has the calling thread look up, wherever it waits.
    fn want(&self) {
        self.wanted.store(true, Release);
        self.python[0].thread.wait().0.unpark();
        self.shared.wake();
    }

    /// Whether the thread of this seat is the calling one, and wanted.
    fn is_wanted(&self, seat: u16) -> bool {
        self.wanted.load(Relaxed) && seat == 0 && self.wanted.swap(false, AcqRel)
    }

    /// Ends all threads.
    fn end(&self) {
        self.over.store(true, Release);
        for thread in self.python.iter().filter_map(|place| place.thread.get()) {
            thread.0.unpark();
        }
        if let Some(standby) = self.shared.standby.get() {
            standby.unpark();
        }
        self.shared.wake();
    }

    /// Makes one call, and ends the response if the application did not.
    fn call(&self, caller: &mut A::Caller, work: &mut Work) {
        let incoming = &mut work.incoming;
        let body = std::mem::take(&mut incoming.body);
        let mut request = Request {
            head: &incoming.head,
            bytes: &incoming.bytes,
            body,
            client: &incoming.client,
            hidden: &incoming.hidden,
            id: incoming.id(),
            adds_id: incoming.adds_id,
        };
        let (request_head, bytes, id) = (&incoming.head, &incoming.bytes[..], incoming.id());
        let mut response = Response { out: &mut work.outgoing, request: request_head, bytes, id };
        let before = work.measured.then(switches);
        let call = AssertUnwindSafe(|| self.application.call(caller, &mut request, &mut response));
        let panicked = catch_unwind(call).is_err();
        work.slept = before.is_some_and(|before| switches() > before);
        if panicked {
            error!(self.shared.log, "a panic ended a request"; "request" => incoming.line(),
                "request_id" => incoming.id());
            work.panicked = true;
        }
        match response.out.progress {
            Progress::Nothing => response.failed(),
            Progress::Begun { .. } => response.cut(false),
            Progress::Ended | Progress::Cut => {}
        }
    }

    /// Waits for the loop without the interpreter lock: who works on the loop may want it, for the stacks.
    fn lock_from(&self, caller: &mut A::Caller) -> MutexGuard<'_, Loop> {
        if let Ok(event_loop) = self.event_loop.try_lock() {
            return event_loop;
        }
        self.application.release(caller);
        self.lock()
    }

    fn lock(&self) -> MutexGuard<'_, Loop> {
        self.event_loop.lock().expect("a panic at work on the loop ends the process")
    }
}

/// How often this thread has given up its processor to wait for something (getrusage(2), RUSAGE_THREAD).
fn switches() -> i64 {
    resource::getrusage(resource::UsageWho::RUSAGE_THREAD).map_or(0, |usage| usage.voluntary_context_switches())
}
