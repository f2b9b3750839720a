//! What the server has to say, for a logger of Python's. Lines come from threads that hold the loop's lock, and may not wait for the
//! interpreter's: they wait in a queue. A call logs them at its end, before its response is sent; a thread logs the rest.

use std::{
    collections::VecDeque,
    panic::AssertUnwindSafe,
    sync::{
        Condvar, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, Ordering::Relaxed},
    },
};

use ostler_wire::log::text_of;
use pyo3::{prelude::*, types::IntoPyDict};
use slog::{Drain, Level, OwnedKVList, Record};

/// The lines that were not logged yet.
pub struct Messages {
    /// Python's. A panic cannot leave it half changed.
    logger: AssertUnwindSafe<Py<PyAny>>,
    queue: Mutex<Queue>,
    bell: Condvar,
    any: AtomicBool,
}

#[derive(Default)]
struct Queue {
    lines: VecDeque<(Level, String)>,
    over: bool,
}

/// The most lines that wait. A logger that hangs must not cost all memory.
const MOST: usize = 1000;

impl Messages {
    pub fn new(logger: Bound<'_, PyAny>) -> Messages {
        let (logger, any) = (AssertUnwindSafe(logger.unbind()), AtomicBool::new(false));
        Messages { logger, queue: Mutex::default(), bell: Condvar::new(), any }
    }

    /// The least level that the logger logs now.
    pub fn level(&self, py: Python<'_>) -> PyResult<Level> {
        let level: u32 = self.logger.bind(py).call_method0("getEffectiveLevel")?.extract()?;
        let levels = [Level::Critical, Level::Error, Level::Warning, Level::Info];
        Ok(levels.into_iter().find(|known| level >= number(*known)).unwrap_or(Level::Debug))
    }

    /// Logs the lines of a call, at its end.
    pub fn log_now(&self, py: Python<'_>) -> PyResult<()> {
        while self.any.load(Relaxed)
            && let Some((level, text)) = self.take()
        {
            self.logger.bind(py).call_method1("log", (number(level), "%s", text))?;
        }
        Ok(())
    }

    /// Logs an exception that the application has raised, and what was said before.
    pub fn log_exception(&self, py: Python<'_>, request: &str, error: &PyErr) -> PyResult<()> {
        self.log_now(py)?;
        let with = [("exc_info", error.clone_ref(py).into_value(py))].into_py_dict(py)?;
        self.logger.bind(py).call_method("error", ("application raised  request=%r", request), Some(&with)).map(drop)
    }

    /// Logs what comes, until [`Messages::end`] and the last line.
    pub fn log_all(&self) {
        loop {
            let mut queue = self.lock();
            while queue.lines.is_empty() {
                if queue.over {
                    return;
                }
                queue = self.bell.wait(queue).unwrap_or_else(PoisonError::into_inner);
            }
            drop(queue);
            Python::attach(|py| self.log_now(py).unwrap_or_else(|error| error.write_unraisable(py, None)));
        }
    }

    /// There will be no more lines.
    pub fn end(&self) {
        self.lock().over = true;
        self.bell.notify_all();
    }

    /// Writes what was not logged to standard error.
    pub fn write(&self) {
        while let Some((_, text)) = self.take() {
            eprintln!("ostler: {text}");
        }
    }

    fn take(&self) -> Option<(Level, String)> {
        let mut queue = self.lock();
        let line = queue.lines.pop_front();
        self.any.store(!queue.lines.is_empty(), Relaxed);
        line
    }

    fn lock(&self) -> MutexGuard<'_, Queue> {
        self.queue.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drain for Messages {
    type Ok = ();
    type Err = slog::Never;

    fn log(&self, record: &Record, values: &OwnedKVList) -> Result<(), slog::Never> {
        let mut queue = self.lock();
        if queue.lines.len() < MOST {
            queue.lines.push_back((record.level(), text_of(record, values)));
            self.any.store(true, Relaxed);
            self.bell.notify_one();
        }
        Ok(())
    }
}

/// Python's number of a level.
fn number(level: Level) -> u32 {
    match level {
        Level::Critical => 50,
        Level::Error => 40,
        Level::Warning => 30,
        Level::Info => 20,
        Level::Debug | Level::Trace => 10,
    }
}
