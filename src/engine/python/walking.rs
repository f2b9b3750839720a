//! The Python stacks of all threads, read with the interpreter lock: what the threads do is not disturbed. (A signal ends some system
//! calls early.)
//!
//! A thread that has begun to wait for the lock cannot be called back. So it is one of its own, and lasts until it has had the lock.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering::*},
        mpsc,
    },
    thread,
    time::Duration,
};

use pyo3::prelude::*;

use super::embedded::{Embedded, embedded};

/// Shared by the workers if the template has imported it.
pub const WALKING: Embedded = embedded!("walking");
/// How long the loop waits for the stacks. A thread that runs Python hands the lock over after 5 ms.
const PATIENCE: Duration = Duration::from_millis(100);

/// Reads them.
pub struct Walker(Arc<Shared>);

struct Shared {
    /// Returns the text.
    stacks: Py<PyAny>,
    /// A thread waits for the lock.
    waits: AtomicBool,
}

impl Walker {
    pub fn new(py: Python<'_>) -> PyResult<Walker> {
        let stacks = WALKING.import(py)?.getattr("stacks")?.unbind();
        Ok(Walker(Arc::new(Shared { stacks, waits: AtomicBool::new(false) })))
    }

    /// The stacks, or why they could not be read. The calling thread does not have the lock.
    pub fn walk(&self) -> Result<String, String> {
        let late = || Err("the interpreter lock could not be had in time".to_owned());
        if self.0.waits.swap(true, AcqRel) {
            return late();
        }
        let (give, take) = mpsc::sync_channel(1);
        let shared = self.0.clone();
        let read = move || {
            let text = Python::attach(|py| {
                let text = shared.stacks.call0(py).and_then(|text| text.extract::<String>(py));
                // The application can replace what is called here. Its exception's text would be made by more of its code.
                text.map_err(|error| match error.get_type(py).name() {
                    Ok(name) => format!("reading them in Python raised {name}"),
                    Err(_) => "reading them in Python raised an exception".into(),
                })
            });
            shared.waits.store(false, Release);
            // Nobody takes one that comes late.
            let _ = give.send(text);
        };
        if thread::Builder::new().name("ostler-stacks".into()).spawn(read).is_err() {
            self.0.waits.store(false, Release);
        }
        take.recv_timeout(PATIENCE).unwrap_or_else(|_| late())
    }
}
