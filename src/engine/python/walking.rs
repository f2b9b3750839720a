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

    /// The stacks, if the lock can be had in time. The calling thread does not have it.
    pub fn walk(&self) -> Option<String> {
        if self.0.waits.swap(true, AcqRel) {
            return None;
        }
        let (give, take) = mpsc::sync_channel(1);
        let shared = self.0.clone();
        let read = move || {
            let text = Python::attach(|py| shared.stacks.call0(py)?.extract::<String>(py));
            shared.waits.store(false, Release);
            // Nobody takes one that comes late.
            let _ = give.send(text);
        };
        if thread::Builder::new().name("ostler-stacks".into()).spawn(read).is_err() {
            self.0.waits.store(false, Release);
        }
        take.recv_timeout(PATIENCE).ok()?.ok()
    }
}
