//! Children that the application forks in a worker, by os.fork() or multiprocessing. They are not workers: what makes a
//! process one is taken from them before the application's own code goes on, and one that comes back from its request ends.

use std::{
    cell::Cell,
    io,
    os::fd::{AsRawFd, OwnedFd},
    sync::{
        OnceLock,
        atomic::{AtomicBool, Ordering::Relaxed},
    },
};

use nix::sys::signal::SigSet;
use pyo3::prelude::*;

use super::{LEAVING, fork, signals};
use crate::descriptors::KnownDescriptors;

static FORKED: AtomicBool = AtomicBool::new(false);
static LISTENERS: OnceLock<KnownDescriptors> = OnceLock::new();

/// From now on, whatever this process forks has neither its signals nor these listeners. Programs that it executes never
/// had them.
pub fn guard(listeners: &[OwnedFd]) -> io::Result<()> {
    let listeners = KnownDescriptors::note(listeners.iter().map(AsRawFd::as_raw_fd))?;
    LISTENERS.get_or_init(|| listeners);
    // SAFETY: the functions make system calls only, as they must in the child of a process with threads, and stay loaded:
    // Python never unloads an extension module.
    match unsafe { libc::pthread_atfork(Some(before), Some(in_parent), Some(in_child)) } {
        0 => Ok(()),
        error => Err(io::Error::from_raw_os_error(error)),
    }
}

/// Whether this is such a child.
pub fn is_one() -> bool {
    FORKED.load(Relaxed)
}

/// Ends this process if it is another than `process`, in which the application's code was called: the application has forked it.
pub fn end_if_not(py: Python<'_>, process: u32) {
    if std::process::id() != process {
        end(py, None)
    }
}

/// Ends one that has come back, as Python ends by itself: SystemExit says with which status.
pub fn end(py: Python<'_>, error: Option<&PyErr>) -> ! {
    let error = error.map(|error| error.value(py));
    let _ = LEAVING.import(py).and_then(|leaving| leaving.call_method1("end_child", (error,)));
    fork::exit(1)
}

thread_local! {
    /// The signal mask of a thread that is forking.
    static MASK: Cell<Option<SigSet>> = const { Cell::new(None) };
}

/// A signal for the child must find what it means there, not the worker's handlers: it waits until they are gone.
extern "C" fn before() {
    MASK.set(SigSet::thread_get_mask().ok());
    let _ = SigSet::all().thread_block();
}

/// The mask as it was.
extern "C" fn in_parent() {
    if let Some(mask) = MASK.take() {
        let _ = mask.thread_set_mask();
    }
}

extern "C" fn in_child() {
    FORKED.store(true, Relaxed);
    signals::give_back();
    in_parent();
    for listener in LISTENERS.get().into_iter().flat_map(KnownDescriptors::left) {
        // SAFETY: closes this process's copy; whoever owns the descriptor is code that never runs here again.
        unsafe { libc::close(listener) };
    }
}
