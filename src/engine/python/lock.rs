//! The interpreter lock of one Python thread, kept between calls and given back before the thread waits.

use pyo3::{Python, exceptions::PySystemExit, ffi};

/// A thread's place in the interpreter. Not `Send`: it belongs to the thread that made it.
pub struct Lock {
    state: *mut ffi::PyThreadState,
    ensured: ffi::PyGILState_STATE,
    held: bool,
}

impl Lock {
    /// Makes the calling thread known to the interpreter. The lock is not held afterwards.
    pub fn new() -> Lock {
        // SAFETY: the interpreter is initialized. A worker's is never finalized; a program's ends only after its servers (see
        // `server`). The thread does not hold the lock.
        let ensured = unsafe { ffi::PyGILState_Ensure() };
        // SAFETY: the lock is held by the line above.
        let state = unsafe { ffi::PyEval_SaveThread() };
        Lock { state, ensured, held: false }
    }

    /// Runs `work` with the lock, and keeps it.
    pub fn with<T>(&mut self, work: impl FnOnce(Python<'_>) -> T) -> T {
        self.take();
        Python::attach(work)
    }

    /// Waits for the lock if it is not held.
    pub fn take(&mut self) {
        if !self.held {
            // SAFETY: `state` is this thread's, and the lock is not held.
            unsafe { ffi::PyEval_RestoreThread(self.state) };
            self.held = true;
        }
    }

    /// Whether this thread has it.
    pub fn is_held(&self) -> bool {
        self.held
    }

    /// Gives the lock back if it is held.
    pub fn release(&mut self) {
        if std::mem::take(&mut self.held) {
            // SAFETY: the lock is held, and with the state that `new` has saved.
            unsafe { ffi::PyEval_SaveThread() };
        }
    }
}

impl Drop for Lock {
    fn drop(&mut self) {
        if !self.held {
            // SAFETY: as in `with`.
            unsafe { ffi::PyEval_RestoreThread(self.state) };
        }
        // SAFETY: undoes the PyGILState_Ensure of `new`, on the same thread, with the lock held; it is not held afterwards.
        unsafe { ffi::PyGILState_Release(self.ensured) };
    }
}

/// Raises SystemExit in the Python code of the thread that `threading.get_ident()` calls `ident`, as soon as it runs some.
pub fn end_thread(py: Python<'_>, ident: std::ffi::c_ulong) {
    let exit = py.get_type::<PySystemExit>();
    // SAFETY: a class of exceptions, which the call takes a reference to; a number that no thread has does nothing. The lock is held.
    unsafe { ffi::PyThreadState_SetAsyncExc(ident as std::ffi::c_long, exit.as_ptr()) };
}

/// Runs `work`, which knows nothing of Python (`Send` keeps its objects out), without the lock.
pub fn without(py: Python<'_>, work: &mut (dyn FnMut() + Send)) {
    py.detach(work);
}
