//! One key of the pattern environ, and what its value was made of.

use pyo3::{
    prelude::*,
    types::{PyDict, PyString},
};

use crate::python::text::latin1;

/// One key, and the bytes its value in the pattern was made of.
pub struct Entry {
    pub key: Py<PyString>,
    pub value: Vec<u8>,
    pub present: bool,
}

impl Entry {
    pub fn new(py: Python<'_>, key: &str) -> Entry {
        Entry { key: PyString::intern(py, key).unbind(), value: Vec::new(), present: false }
    }

    /// Makes the pattern hold this value. Returns whether that changed it.
    #[inline]
    pub fn put(&mut self, pattern: &Bound<'_, PyDict>, value: &[u8]) -> PyResult<bool> {
        if self.present && same(&self.value, value) {
            return Ok(false);
        }
        self.replace(pattern, value)?;
        Ok(true)
    }

    #[inline(never)]
    pub fn replace(&mut self, pattern: &Bound<'_, PyDict>, value: &[u8]) -> PyResult<()> {
        self.value.clear();
        self.value.extend_from_slice(value);
        self.write(pattern)
    }

    pub fn write(&mut self, pattern: &Bound<'_, PyDict>) -> PyResult<()> {
        // Until the new value is in, the old one must not be taken for it.
        self.present = false;
        pattern.set_item(self.key.bind(pattern.py()), latin1(pattern.py(), &self.value))?;
        self.present = true;
        Ok(())
    }

    pub fn remove(&mut self, pattern: &Bound<'_, PyDict>) -> PyResult<()> {
        self.value = Vec::new();
        self.present = false;
        pattern.del_item(self.key.bind(pattern.py()))
    }
}

/// Equality without a call: almost all of these strings are short. The last eight bytes overlap those before them.
pub fn same(one: &[u8], other: &[u8]) -> bool {
    one.len() == other.len()
        && match (one.last_chunk::<8>(), other.last_chunk::<8>()) {
            (Some(end), Some(other_end)) => {
                let mut words = one.as_chunks::<8>().0.iter().zip(other.as_chunks::<8>().0);
                end == other_end && words.all(|(word, other)| word == other)
            }
            _ => one.iter().eq(other),
        }
}
