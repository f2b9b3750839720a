//! `ostler.WSGIServer`: a worker's loop in somebody's program, without master, template and fork. The class is Python
//! (`packaging/python/ostler/server.py`); it calls [`serve`] and waits.
//!
//! The calling thread is the first that calls the application. Python runs handlers of signals on its main thread: where that is the calling
//! one, a signal wakes the loop (`signal.set_wakeup_fd`), and the loop has the thread run them. No process of this program is
//! ended, and none of its signal handlers is changed. At the end of the interpreter the class ends its servers before.

mod messages;

use std::{
    os::fd::RawFd,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    thread::{self, ThreadId},
    time::Duration,
};

use ostler_serve::{Application, Request, Response, Setup};
use ostler_wire::{Boot, Listener, WorkerSettings, scoreboard::Scoreboard};
use pyo3::{
    exceptions::{PyKeyboardInterrupt, PySystemExit},
    prelude::*,
};
use slog::{Drain, Logger, error, o};

use self::messages::Messages;
use crate::{
    descriptors,
    process::{children, fork},
    python::lock,
    wsgi::{
        SERVING,
        site::{Caller, Outlets, Report, Site},
    },
};

/// How long the end waits for requests. Their threads cannot be ended, and belong to a program that is not ours to end.
const UNBOUNDED: Duration = Duration::from_secs(100 * 365 * 24 * 60 * 60);
/// What shells say of a program that SIGINT has ended.
const INTERRUPTED: i32 = 130;

/// What a server is made of.
#[derive(FromPyObject)]
pub struct Plan {
    /// The application.
    application: Py<PyAny>,
    /// A logger of Python's.
    logger: Py<PyAny>,
    /// For each listening socket: descriptor, name, host, port.
    listeners: Vec<(RawFd, String, String, Option<u16>)>,
    threads: u16,
    /// Readable when the server is to end.
    ends: RawFd,
    /// Called to make it so.
    end: Py<PyAny>,
    /// Readable when a signal has come; none where the calling thread runs no handlers.
    signals: Option<RawFd>,
    /// Called once on each thread that calls the application.
    entered: Py<PyAny>,
}

/// Imports what serving needs, before several threads could do so at once.
#[pyfunction]
pub fn prepare(py: Python<'_>) -> PyResult<()> {
    SERVING.import(py).map(drop)
}

/// Serves until told to end. Raises what a handler of a signal, or a call on this thread, has raised to end the program.
#[pyfunction]
pub fn serve(py: Python<'_>, plan: Plan) -> PyResult<()> {
    children::watch()?;
    let messages = Arc::new(Messages::new(plan.logger.bind(py).clone()));
    let log = Logger::root(messages.clone().filter_level(messages.level(py)?).fuse(), o!());
    let named = |(_, name, host, port): &(RawFd, String, String, Option<u16>)| Listener::http(name, host, *port);
    let boot = Boot {
        listeners: plan.listeners.iter().map(named).collect(),
        worker: WorkerSettings {
            threads: plan.threads,
            // A debugger may hold a request for as long as it likes, and nobody would replace this process.
            timeout: Duration::ZERO,
            graceful_timeout: UNBOUNDED,
            ..WorkerSettings::default()
        },
        ..Boot::default()
    };
    let setup = Setup {
        slot: 0,
        site: None,
        listeners: plan.listeners.iter().map(|listener| descriptors::copy(listener.0)).collect::<Result<_, _>>()?,
        terminated: descriptors::copy(plan.ends)?,
        attention: plan.signals.map(descriptors::copy).transpose()?,
        access_log: None,
        signer: None,
        scoreboard: Arc::new(Scoreboard::new(1, plan.threads)?),
        log: log.clone(),
        boot: boot.clone(),
    };
    let ending = Arc::new(Ending { calling: thread::current().id(), end: plan.end, raised: Mutex::default() });
    let outlets = Outlets {
        errors: SERVING.import(py)?.getattr("StandardError")?.call0()?,
        report: report(&messages, &ending),
        stacks: None,
        log: log.clone(),
    };
    let site = Site::new(plan.application.into_bound(py), &boot, None, outlets)?;
    let served = Served { site, messages, ending, entered: plan.entered, log };
    let ended = py.detach(|| {
        thread::scope(|scope| {
            scope.spawn(|| served.messages.log_all());
            let ended = ostler_serve::run(setup, &served);
            served.messages.end();
            ended
        })
    });
    ended?;
    match served.ending.take() {
        Some(error) => Err(error),
        None => Ok(()),
    }
}

/// Raises SystemExit in the Python code of a thread that does not come to its end.
#[pyfunction]
pub fn end_thread(py: Python<'_>, ident: std::ffi::c_ulong) {
    lock::end_thread(py, ident);
}

/// Exceptions of the application, for Python's logging. Those that are meant to end the program end the server, and are raised there.
fn report(messages: &Arc<Messages>, ending: &Arc<Ending>) -> Report {
    let (messages, ending) = (messages.clone(), ending.clone());
    Box::new(move |py, request, error| {
        if ending.is_for(py, error) {
            ending.begin(py, error.clone_ref(py));
        } else if let Err(error) = messages.log_exception(py, request, error) {
            ending.raised(py, error);
        }
    })
}

/// How the server comes to its end by an exception.
struct Ending {
    calling: ThreadId,
    end: Py<PyAny>,
    raised: Mutex<Option<PyErr>>,
}

impl Ending {
    /// Whether the exception is to end the program, and can: it is the calling thread's.
    fn is_for(&self, py: Python<'_>, error: &PyErr) -> bool {
        let ends = error.is_instance_of::<PyKeyboardInterrupt>(py) || error.is_instance_of::<PySystemExit>(py);
        ends && thread::current().id() == self.calling
    }

    /// Something that is called besides has raised.
    fn raised(&self, py: Python<'_>, error: PyErr) {
        if self.is_for(py, &error) { self.begin(py, error) } else { error.write_unraisable(py, None) }
    }

    /// Begins to end. A second Ctrl-C does not wait for the calls of other threads, which cannot be ended.
    fn begin(&self, py: Python<'_>, error: PyErr) {
        let again = error.is_instance_of::<PyKeyboardInterrupt>(py);
        let before = self.place().replace(error);
        match before {
            Some(_) if again => fork::exit(INTERRUPTED),
            Some(first) => *self.place() = Some(first),
            None => {}
        }
        if let Err(error) = self.end.call0(py) {
            error.write_unraisable(py, None);
        }
    }

    fn take(&self) -> Option<PyErr> {
        self.place().take()
    }

    fn place(&self) -> MutexGuard<'_, Option<PyErr>> {
        self.raised.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The application, as the loop of such a server calls it.
struct Served {
    site: Site,
    messages: Arc<Messages>,
    ending: Arc<Ending>,
    entered: Py<PyAny>,
    log: Logger,
}

/// What one thread keeps from call to call.
struct Seat {
    caller: Caller,
    /// Python has not started this thread.
    ours: bool,
}

impl Drop for Seat {
    fn drop(&mut self) {
        if self.ours {
            // Only `end_thread` can make it raise.
            let _ = self.caller.with(|py| SERVING.import(py)?.call_method0("forget_thread").map(drop));
        }
    }
}

impl Application for Served {
    type Caller = Seat;

    fn caller(&self, thread: u16) -> Seat {
        let mut caller = self.site.caller(thread);
        caller.with(|py| self.entered.call0(py).map(drop).unwrap_or_else(|error| self.ending.raised(py, error)));
        Seat { caller, ours: thread > 0 }
    }

    fn prepare(&self, seat: &mut Seat) {
        self.site.prepare(&mut seat.caller);
    }

    fn is_prepared(&self, seat: &Seat) -> bool {
        self.site.is_prepared(&seat.caller)
    }

    fn call(&self, seat: &mut Seat, request: &mut Request<'_>, response: &mut Response<'_>) {
        self.site.call(&mut seat.caller, request, response);
        seat.caller.with(|py| self.messages.log_now(py).unwrap_or_else(|error| self.ending.raised(py, error)));
    }

    fn attend(&self, seat: &mut Seat) {
        seat.caller.with(|py| {
            if let Err(error) = py.check_signals() {
                self.ending.begin(py, error);
            }
        });
    }

    fn release(&self, seat: &mut Seat) {
        self.site.release(&mut seat.caller);
    }

    /// Nothing asks: no request is timed, and there is no master.
    fn stacks(&self) -> String {
        self.site.stacks()
    }

    fn abandon(&self, code: i32) -> ! {
        error!(self.log, "the server cannot go on, and ends the program");
        // The thread that logs may wait for the interpreter lock for good.
        self.messages.write();
        fork::exit(code)
    }
}
