//! Children that the application forks in a worker, by os.fork() or multiprocessing. They are not workers: what makes a
//! process one is taken from them before the application's own code goes on, and one that comes back from its request ends.

use std::{
    io,
    os::fd::RawFd,
    sync::{
        OnceLock,
        atomic::{AtomicBool, Ordering::Relaxed},
    },
};

use pyo3::prelude::*;

use crate::{embedded::SERVING, fork, signals};

static FORKED: AtomicBool = AtomicBool::new(false);
static DESCRIPTORS: OnceLock<Vec<RawFd>> = OnceLock::new();

/// From now on, whatever this process forks has neither its signals nor these descriptors. Programs that it executes never
/// had them.
pub fn guard(descriptors: Vec<RawFd>) -> io::Result<()> {
    DESCRIPTORS.get_or_init(|| descriptors);
    // SAFETY: the function makes system calls only, as it must in the child of a process with threads, and stays loaded:
    // Python never unloads an extension module.
    match unsafe { libc::pthread_atfork(None, None, Some(in_child)) } {
        0 => Ok(()),
        error => Err(io::Error::from_raw_os_error(error)),
    }
}

/// Whether this is such a child.
pub fn is_one() -> bool {
    FORKED.load(Relaxed)
}

/// Ends one that has come back, as Python ends by itself: SystemExit says with which status.
pub fn end(py: Python<'_>, error: Option<&PyErr>) -> ! {
    let error = error.map(|error| error.value(py));
    let _ = SERVING.import(py).and_then(|serving| serving.call_method1("end_child", (error,)));
    fork::exit(1)
}

extern "C" fn in_child() {
    FORKED.store(true, Relaxed);
    signals::give_back();
    for descriptor in DESCRIPTORS.get().into_iter().flatten() {
        // SAFETY: closes this process's copy; whoever owns the descriptor is code that never runs here again.
        unsafe { libc::close(*descriptor) };
    }
}
