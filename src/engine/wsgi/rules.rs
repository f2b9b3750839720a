//! What is accepted from an application: a status, fields, blocks. Some things that PEP 3333 forbids are accepted as long as the
//! response is right all the same: the liberties. `--strict-application` makes errors of them.

use std::{
    borrow::Cow,
    sync::{Mutex, PoisonError},
};

use ostler_http::{Misuse, ResponseHead};
use pyo3::{
    exceptions::{PyTypeError, PyValueError},
    ffi,
    prelude::*,
    types::{PyBytes, PyList, PyString, PyTuple},
};
use slog::{Logger, warn};

use crate::python::text::bytes_of;

/// What is accepted.
pub struct Rules {
    strict: bool,
    log: Logger,
    /// Names of fields that were left out: each is logged once.
    left_out: Mutex<Vec<Vec<u8>>>,
}

impl Rules {
    pub fn new(strict: bool, log: Logger) -> Rules {
        Rules { strict, log, left_out: Mutex::default() }
    }

    /// Begins a head. `request` is for the log.
    pub fn begin(
        &self,
        head: &mut ResponseHead,
        status: &Bound<'_, PyAny>,
        headers: &Bound<'_, PyAny>,
        request: impl Fn() -> String,
    ) -> PyResult<()> {
        let status = string(status, "the status")?;
        let mut status = bytes_of(status, "the status")?;
        if status.len() == 3 && !self.strict {
            // RFC 9112 §4: the space stays where there is no phrase.
            status.to_mut().push(b' ');
        }
        head.begin(&status).map_err(misused)?;
        self.each_field(headers, request, |name, value| head.field(name, value))
    }

    /// PEP 3333: "a list of (header_name, header_value) tuples". The liberty: any iterable of pairs.
    pub fn each_field(
        &self,
        headers: &Bound<'_, PyAny>,
        request: impl Fn() -> String,
        mut take: impl FnMut(&[u8], &[u8]) -> Result<(), Misuse>,
    ) -> PyResult<()> {
        let mut field = |pair: Bound<'_, PyAny>| self.field(&pair, &request, &mut take);
        match headers.cast::<PyList>() {
            Ok(list) => list.iter().try_for_each(field),
            Err(_) if self.strict => {
                Err(PyTypeError::new_err(format!("the headers must be a list, not {}", type_name(headers))))
            }
            Err(_) => headers.try_iter()?.try_for_each(|pair| field(pair?)),
        }
    }

    fn field(
        &self,
        pair: &Bound<'_, PyAny>,
        request: impl Fn() -> String,
        take: &mut impl FnMut(&[u8], &[u8]) -> Result<(), Misuse>,
    ) -> PyResult<()> {
        let Some(pair) = pair.cast::<PyTuple>().ok().filter(|pair| pair.len() == 2) else {
            // A tuple of two is never unpacked again.
            return self.field(&self.unpack(pair)?, request, take);
        };
        let (name, value) = (pair.get_borrowed_item(0)?, pair.get_borrowed_item(1)?);
        let name = string(&name, "a header's name")?;
        let name = bytes_of(name, "a header's name")?;
        let value = string(&value, "a header's value")?;
        match take(&name, &bytes_of(value, "a header's value")?) {
            Err(misuse) if misuse.hop_by_hop && !self.strict => {
                self.leave_out(&name, request);
                Ok(())
            }
            outcome => outcome.map_err(misused),
        }
    }

    /// A tuple of a pair that is not a tuple.
    #[cold]
    fn unpack<'py>(&self, pair: &Bound<'py, PyAny>) -> PyResult<Bound<'py, PyAny>> {
        if self.strict {
            return Err(PyTypeError::new_err("each header must be a tuple of a name and a value"));
        }
        let wrong = || format!("each header must be a pair of a name and a value, not {}", type_name(pair));
        // A string of two letters is no pair.
        let items = match pair.is_instance_of::<PyString>() {
            true => Vec::new(),
            false => pair.try_iter()?.take(3).collect::<PyResult<Vec<_>>>()?,
        };
        if items.len() != 2 {
            return Err(PyTypeError::new_err(wrong()));
        }
        Ok(PyTuple::new(pair.py(), items)?.into_any())
    }

    #[cold]
    fn leave_out(&self, name: &[u8], request: impl Fn() -> String) {
        let name = name.to_ascii_lowercase();
        let mut left_out = self.left_out.lock().unwrap_or_else(PoisonError::into_inner);
        if !left_out.contains(&name) {
            warn!(self.log, "field left out"; "field" => %name.escape_ascii(), "request" => request(),
                "reason" => "hop-by-hop fields are the server's own (PEP 3333)");
            left_out.push(name);
        }
    }

    /// A block of the body; `who` begins the exception's sentence. The liberty: anything with the buffer protocol.
    pub fn block<'a, 'py>(&self, block: &'a Bound<'py, PyAny>, who: &str) -> PyResult<Cow<'a, Bound<'py, PyBytes>>> {
        match block.cast::<PyBytes>() {
            Ok(bytes) => Ok(Cow::Borrowed(bytes)),
            Err(_) => self.copied(block, who).map(Cow::Owned),
        }
    }

    #[cold]
    fn copied<'py>(&self, block: &Bound<'py, PyAny>, who: &str) -> PyResult<Bound<'py, PyBytes>> {
        let py = block.py();
        let wrong = |_| PyTypeError::new_err(format!("{who} bytes, not {}", type_name(block)));
        if self.strict {
            return Err(wrong(()));
        }
        // SAFETY: a live object, and the lock is held.
        let view = unsafe { ffi::PyMemoryView_FromObject(block.as_ptr()) };
        // SAFETY: a new reference, or null with an exception set: it has no bytes.
        let view = unsafe { Bound::from_owned_ptr_or_err(py, view) }.map_err(|_| wrong(()))?;
        // SAFETY: as above.
        let bytes = unsafe { ffi::PyBytes_FromObject(view.as_ptr()) };
        // SAFETY: as above.
        let bytes = unsafe { Bound::from_owned_ptr_or_err(py, bytes) }?;
        Ok(bytes.cast_into()?)
    }
}

#[inline]
fn string<'a, 'py>(object: &'a Bound<'py, PyAny>, what: &str) -> PyResult<&'a Bound<'py, PyString>> {
    object.cast().map_err(|_| PyTypeError::new_err(format!("{what} must be a str, not {}", type_name(object))))
}

fn type_name(object: &Bound<'_, PyAny>) -> String {
    object.get_type().name().map_or_else(|_| "this".to_owned(), |name| name.to_string())
}

/// What `ostler_http` refuses, as an exception.
fn misused(misuse: Misuse) -> PyErr {
    PyValueError::new_err(misuse.text)
}
