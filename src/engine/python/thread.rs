//! What the interpreter keeps for the calling thread.

use pyo3::{ffi, prelude::*, types::PyDict};

unsafe extern "C" {
    /// In each CPython since 3.7, and not declared by pyo3: <https://docs.python.org/3/c-api/contextvars.html>
    fn PyContext_Enter(context: *mut ffi::PyObject) -> libc::c_int;
}

/// The dictionary in which extension modules, and before Python 3.13 objects of `threading.local`, keep what is this thread's.
pub fn dictionary(py: Python<'_>) -> Bound<'_, PyDict> {
    // SAFETY: the token shows that this thread holds the interpreter lock.
    let found = unsafe { ffi::PyThreadState_GetDict() };
    // SAFETY: borrowed from the thread; null if there is no memory for it.
    let found = unsafe { Bound::from_borrowed_ptr_or_opt(py, found) };
    found.and_then(|found| found.cast_into().ok()).unwrap_or_else(|| PyDict::new(py))
}

/// Makes a context that nobody has entered the thread's (contextvars).
pub fn enter(context: &Bound<'_, PyAny>) -> PyResult<()> {
    // SAFETY: the token within shows that this thread holds the interpreter lock; anything but a context is an error.
    match unsafe { PyContext_Enter(context.as_ptr()) } {
        0 => Ok(()),
        _ => Err(PyErr::fetch(context.py())),
    }
}
