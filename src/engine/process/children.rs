//! Children that the application forks in a worker, by os.fork() or multiprocessing. They are not workers: each loses the worker's
//! listeners and signal handlers before the application's own code goes on. A child whose request returns to the server is ended.

use std::{
    cell::Cell,
    io,
    os::fd::{AsRawFd, OwnedFd},
    ptr,
    sync::{
        Mutex, PoisonError,
        atomic::{AtomicBool, AtomicPtr, Ordering::*},
    },
};

use nix::sys::signal::SigSet;
use pyo3::prelude::*;

use super::{LEAVING, fork, signals};
use crate::descriptors::KnownDescriptors;

/// Whether this process was forked since it last began to serve.
static FORKED: AtomicBool = AtomicBool::new(false);
/// Null in a process that is no worker. It is replaced as a whole, and never freed: a child may be looking at it.
static LISTENERS: AtomicPtr<KnownDescriptors> = AtomicPtr::new(ptr::null_mut());

/// From now on, a child that this process forks gets neither its signal handlers nor these listeners. A program that it executes never
/// had them.
pub fn guard(listeners: &[OwnedFd]) -> io::Result<()> {
    let listeners = KnownDescriptors::note(listeners.iter().map(AsRawFd::as_raw_fd))?;
    LISTENERS.store(Box::leak(Box::new(listeners)), Release);
    watch()
}

/// The process is no worker any more: what it forks from now on are workers.
pub fn unguard() {
    LISTENERS.store(ptr::null_mut(), Release);
}

/// From now on, [`is_one`] is true in a child that this process forks. A child that begins to serve by itself is none.
pub fn watch() -> io::Result<()> {
    static REGISTERED: Mutex<bool> = Mutex::new(false);
    FORKED.store(false, Relaxed);
    let mut registered = REGISTERED.lock().unwrap_or_else(PoisonError::into_inner);
    if *registered {
        return Ok(());
    }
    // SAFETY: the functions make system calls only, as they must in the child of a process with threads, and stay loaded:
    // Python never unloads an extension module.
    match unsafe { libc::pthread_atfork(Some(before), Some(in_parent), Some(in_child)) } {
        0 => *registered = true,
        error => return Err(io::Error::from_raw_os_error(error)),
    }
    Ok(())
}

/// Whether this process is such a child.
pub fn is_one() -> bool {
    FORKED.load(Relaxed)
}

/// Ends this process if its pid is not `process`. That pid was noted before the application's code was called; another one means that
/// the application has forked.
pub fn end_if_not(py: Python<'_>, process: u32) {
    if std::process::id() != process {
        end(py, None)
    }
}

/// Ends a child that has returned to the server, the way Python ends a program: SystemExit gives the status.
pub fn end(py: Python<'_>, error: Option<&PyErr>) -> ! {
    let error = error.map(|error| error.value(py));
    let _ = LEAVING.import(py).and_then(|leaving| leaving.call_method1("end_child", (error,)));
    fork::exit(1)
}

thread_local! {
    /// The signal mask of a thread that is forking.
    static MASK: Cell<Option<SigSet>> = const { Cell::new(None) };
}

/// Blocks all signals. One that arrives for the child waits until the child has lost the worker's handlers.
extern "C" fn before() {
    MASK.set(SigSet::thread_get_mask().ok());
    let _ = SigSet::all().thread_block();
}

/// Restores the signal mask.
extern "C" fn in_parent() {
    if let Some(mask) = MASK.take() {
        let _ = mask.thread_set_mask();
    }
}

extern "C" fn in_child() {
    FORKED.store(true, Relaxed);
    // SAFETY: null, or what `guard` has put there, which is never freed.
    let listeners = unsafe { LISTENERS.load(Acquire).as_ref() };
    if listeners.is_some() {
        signals::give_back();
    }
    in_parent();
    for listener in listeners.into_iter().flat_map(KnownDescriptors::left) {
        // SAFETY: closes this process's copy; the code that owns the descriptor never runs here again.
        unsafe { libc::close(listener) };
    }
}
