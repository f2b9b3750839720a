//! What the stable ABI can do with an object quickly, and pyo3 only slowly or not at all.

use std::sync::atomic::{AtomicBool, Ordering::Relaxed};

use ostler_serve::Kept;
use pyo3::{ffi, prelude::*, types::PyBytes};

/// `callable(first, second)`, without a tuple in between.
pub fn call<'py>(
    callable: &Bound<'py, PyAny>,
    first: &Bound<'py, PyAny>,
    second: &Bound<'py, PyAny>,
) -> PyResult<Bound<'py, PyAny>> {
    let end = std::ptr::null_mut::<ffi::PyObject>();
    let (first, second) = (first.as_ptr(), second.as_ptr());
    // SAFETY: live objects, a null behind the last as the function wants, and the lock is held.
    let result = unsafe { ffi::PyObject_CallFunctionObjArgs(callable.as_ptr(), first, second, end) };
    // SAFETY: a new reference, or null with an exception set.
    unsafe { Bound::from_owned_ptr_or_err(callable.py(), result) }
}

/// `len(object)` where its type has one; `None` without the cost of an exception where it has not.
pub fn length(object: &Bound<'_, PyAny>) -> PyResult<Option<usize>> {
    let kind = object.get_type();
    let has = |slot| {
        // SAFETY: a live type, and a slot that there is; types of either kind may be asked since 3.10.
        !unsafe { ffi::PyType_GetSlot(kind.as_type_ptr(), slot) }.is_null()
    };
    if has(ffi::Py_sq_length) || has(ffi::Py_mp_length) { object.len().map(Some) } else { Ok(None) }
}

/// A `bytes` that outlives its call.
pub struct KeptBytes {
    start: *const u8,
    length: usize,
    _object: Py<PyBytes>,
}

// SAFETY: the bytes are only read, and pyo3 counts references down where the lock is held.
unsafe impl Send for KeptBytes {}

/// A `KeptBytes` was dropped without the lock: pyo3 frees its object when the lock is taken next.
static LET_GO: AtomicBool = AtomicBool::new(false);

impl KeptBytes {
    /// None for a subclass: its destructor may run the application's code.
    pub fn of(bytes: &Bound<'_, PyBytes>) -> Option<Kept> {
        if !bytes.is_exact_instance_of::<PyBytes>() {
            return None;
        }
        let (start, length) = (bytes.as_bytes().as_ptr(), bytes.as_bytes().len());
        Some(Box::new(KeptBytes { start, length, _object: bytes.clone().unbind() }))
    }

    /// Whether one was dropped since the last call of this.
    pub fn let_go() -> bool {
        LET_GO.load(Relaxed) && LET_GO.swap(false, Relaxed)
    }
}

impl AsRef<[u8]> for KeptBytes {
    fn as_ref(&self) -> &[u8] {
        // SAFETY: the bytes of the object, which lives as long as this, and neither changes nor moves.
        unsafe { std::slice::from_raw_parts(self.start, self.length) }
    }
}

impl Drop for KeptBytes {
    fn drop(&mut self) {
        LET_GO.store(true, Relaxed);
    }
}

/// How many references there are to an object.
pub fn references(object: &Bound<'_, PyAny>) -> u32 {
    // SAFETY: a live object, and the lock is held.
    let word = unsafe { ffi::Py_REFCNT(object.as_ptr()) };
    // Up to CPython 3.13 the count is the whole word, since then its lower half.
    word as u32
}
