//! What the application writes to the error log: to `wsgi.errors`, to `sys.stderr`, and to `sys.stdout` where that leads there. What a thread
//! has written waits here until its line ends, and is one entry then, with the id of the request that the thread answers.
//!
//! All of it happens while the thread holds the interpreter lock, and runs no Python code meanwhile: neither a signal's handler nor a fork
//! comes between.

use std::{
    cell::{Cell, RefCell},
    io::IsTerminal,
    mem::take,
    os::fd::{AsRawFd, BorrowedFd, RawFd},
    sync::{PoisonError, RwLock},
};

use ostler_wire::log::{self, ErrorLog, Said};
use pyo3::{prelude::*, types::PyDict};

use crate::{
    python::embedded::{Embedded, embedded},
    wsgi::calling,
};

const STREAMS: Embedded = embedded!("streams");

/// What is longer is told in parts.
const MOST: usize = 1 << 20;

/// The log of this process. Threads that end without the interpreter lock read it, too.
static LOG: RwLock<Option<ErrorLog>> = RwLock::new(None);

thread_local! {
    static TEXTS: RefCell<Texts> = RefCell::default();
    /// Whether this thread has begun what is not told, so that a call that has written nothing costs nothing.
    static UNFINISHED: Cell<bool> = const { Cell::new(false) };
}

/// What a thread has written.
#[derive(Default)]
struct Texts {
    /// What each [`Outlet`] has yet to tell.
    waiting: [Vec<u8>; 3],
    /// What is to be told now, and whether it goes on in a line of this thread's.
    told: Vec<(Vec<u8>, bool)>,
    /// How many functions are under way whose output is one entry.
    held: u32,
    /// Whether what was told last has not ended its line (`flush()`).
    in_line: bool,
    /// A child that is forked tells nothing that its parent will tell.
    process: u32,
}

impl Texts {
    fn tell(&mut self, outlet: Outlet) {
        let text = take(&mut self.waiting[outlet as usize]);
        if let Some(last) = text.last() {
            let goes_on = std::mem::replace(&mut self.in_line, *last != b'\n');
            self.told.push((text, goes_on));
        }
    }
}

impl Drop for Texts {
    /// The thread ends, and does not hold the interpreter lock any more.
    fn drop(&mut self) {
        if self.process == std::process::id() {
            Outlet::ALL.into_iter().for_each(|outlet| self.tell(outlet));
            say(take(&mut self.told), None);
        }
    }
}

/// Where a stream leads to the log from.
#[pyclass(frozen)]
#[derive(Clone, Copy)]
enum Outlet {
    WsgiErrors = 0,
    /// Descriptor 1.
    StandardOutput = 1,
    /// Descriptor 2.
    StandardError = 2,
}

impl Outlet {
    const ALL: [Outlet; 3] = [Outlet::WsgiErrors, Outlet::StandardOutput, Outlet::StandardError];

    /// The application may have opened something else there.
    fn leads_to_log(self) -> bool {
        matches!(self, Outlet::WsgiErrors) || log::is_at(self.descriptor())
    }

    fn descriptor(self) -> BorrowedFd<'static> {
        match self {
            Outlet::WsgiErrors => log::place(),
            // SAFETY: its user asks what is there; a number that is not open is told from one that is.
            number => unsafe { BorrowedFd::borrow_raw(number as i32) },
        }
    }
}

#[pymethods]
impl Outlet {
    /// False if the bytes are not for the log.
    fn write(&self, py: Python<'_>, data: &[u8]) -> bool {
        let leads = self.leads_to_log();
        if leads {
            with(py, |texts| {
                let waiting = &mut texts.waiting[*self as usize];
                waiting.extend_from_slice(data);
                // What follows a carriage return is written over the line, such as a progress bar.
                let ends = waiting.ends_with(b"\n") || waiting.contains(&b'\r');
                if ends && texts.held == 0 || waiting.len() > MOST {
                    texts.tell(*self);
                }
            });
        }
        leads
    }

    fn flush(&self, py: Python<'_>) {
        with(py, |texts| {
            if texts.held == 0 {
                texts.tell(*self);
            }
        });
    }
}

/// What the thread writes from now on is one entry, until [`release`].
#[pyfunction]
fn hold(py: Python<'_>) {
    with(py, |texts| texts.held += 1);
}

#[pyfunction]
fn release(py: Python<'_>) {
    with(py, |texts| {
        texts.held = texts.held.saturating_sub(1);
        if texts.held == 0 {
            Outlet::ALL.into_iter().for_each(|outlet| texts.tell(outlet));
        }
    });
}

/// Has the streams of this process lead to its log, before the application is imported.
pub fn install(py: Python<'_>, log: ErrorLog) -> PyResult<()> {
    use_log(log);
    // A debugger at a terminal reads and writes there.
    let output = Outlet::StandardOutput;
    let output = (output.leads_to_log() && !output.descriptor().is_terminal()).then_some(("stdout", output, 1));
    let outlets = PyDict::new(py);
    for (name, outlet, number) in output.into_iter().chain([("stderr", Outlet::StandardError, 2)]) {
        outlets.set_item(name, (outlet, number))?;
    }
    let brackets = (wrap_pyfunction!(hold, py)?, wrap_pyfunction!(release, py)?);
    STREAMS.import(py)?.call_method1("install", (outlets, brackets.0, brackets.1)).map(drop)
}

/// They lead to the log of this process, which was forked.
pub fn use_log(log: ErrorLog) {
    *LOG.write().unwrap_or_else(PoisonError::into_inner) = Some(log);
}

/// The descriptor of the log that leads to a syslog now.
pub fn way_to_syslog() -> Option<RawFd> {
    LOG.read().unwrap_or_else(PoisonError::into_inner).as_ref().and_then(ErrorLog::way_to_syslog)
}

/// `environ['wsgi.errors']`.
pub fn wsgi_errors(py: Python<'_>) -> PyResult<Bound<'_, PyAny>> {
    let outlet = Outlet::WsgiErrors;
    STREAMS.import(py)?.call_method1("error_stream", (outlet, outlet.descriptor().as_raw_fd()))
}

/// A call of this thread's, or something else that the application does, is over: so are the lines that it has begun.
pub fn end_lines(py: Python<'_>) {
    if !UNFINISHED.get() {
        return;
    }
    with(py, |texts| {
        for outlet in Outlet::ALL {
            let waiting = &mut texts.waiting[outlet as usize];
            if waiting.last().is_some_and(|last| *last != b'\n') {
                waiting.push(b'\n');
            }
            texts.tell(outlet);
        }
        if take(&mut texts.in_line) {
            texts.told.push((b"\n".to_vec(), true));
        }
    });
}

/// Tells what is to be told after this.
fn with(py: Python<'_>, work: impl FnOnce(&mut Texts)) {
    let told = TEXTS.with_borrow_mut(|texts| {
        let process = std::process::id();
        if texts.process != process {
            (texts.waiting, texts.held, texts.in_line, texts.process) = (Default::default(), 0, false, process);
        }
        work(texts);
        UNFINISHED.set(texts.in_line || texts.waiting.iter().any(|text| !text.is_empty()));
        take(&mut texts.told)
    });
    if !told.is_empty() {
        let id = calling::id();
        py.detach(|| say(told, id.as_deref()));
    }
}

fn say(told: Vec<(Vec<u8>, bool)>, request_id: Option<&str>) {
    let log = LOG.read().unwrap_or_else(PoisonError::into_inner).clone();
    for (text, goes_on) in told {
        log.iter().for_each(|log| log.say(Said { text: &text, request_id, goes_on }));
    }
}
