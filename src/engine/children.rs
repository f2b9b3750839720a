//! Children that the application forks in a worker, by os.fork() or multiprocessing. They are not workers: what makes a
//! process one is taken from them before the application's own code goes on, and one that comes back from its request ends.

use std::{
    cell::Cell,
    io,
    os::fd::RawFd,
    ptr,
    sync::{
        OnceLock,
        atomic::{AtomicBool, Ordering::Relaxed},
    },
};

use nix::sys::signal::SigSet;
use pyo3::prelude::*;

use crate::{embedded::SERVING, fork, signals};

static FORKED: AtomicBool = AtomicBool::new(false);
static LISTENERS: OnceLock<Vec<RawFd>> = OnceLock::new();

/// From now on, whatever this process forks has neither its signals nor these listeners. Programs that it executes never
/// had them.
pub fn guard(listeners: Vec<RawFd>) -> io::Result<()> {
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

/// Ends one that has come back, as Python ends by itself: SystemExit says with which status.
pub fn end(py: Python<'_>, error: Option<&PyErr>) -> ! {
    let error = error.map(|error| error.value(py));
    let _ = SERVING.import(py).and_then(|serving| serving.call_method1("end_child", (error,)));
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
    for listener in LISTENERS.get().into_iter().flatten().filter(|number| listens(**number)) {
        // SAFETY: closes this process's copy; whoever owns the descriptor is code that never runs here again.
        unsafe { libc::close(*listener) };
    }
}

/// A worker that drains has closed them, and the application may have files of those numbers.
fn listens(number: RawFd) -> bool {
    let (mut listens, mut size) = (0_i32, size_of::<i32>() as u32);
    let answer = ptr::from_mut(&mut listens).cast();
    // SAFETY: asks only, and there is room for the answer.
    let asked = unsafe { libc::getsockopt(number, libc::SOL_SOCKET, libc::SO_ACCEPTCONN, answer, &mut size) };
    asked == 0 && listens != 0
}
