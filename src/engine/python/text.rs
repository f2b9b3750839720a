//! Strings between the wire and Python: latin-1 both ways, as PEP 3333 asks.

use std::{borrow::Cow, ffi::c_char};

use pyo3::{
    exceptions::PyValueError,
    ffi,
    prelude::*,
    types::{PyBytes, PyString},
};

/// A `str` of these bytes, each one character.
pub fn latin1<'py>(py: Python<'py>, bytes: &[u8]) -> Bound<'py, PyString> {
    let start = bytes.as_ptr().cast::<c_char>();
    // SAFETY: pointer and length are one slice's, and the lock is held.
    let string = unsafe { ffi::PyUnicode_DecodeLatin1(start, bytes.len() as ffi::Py_ssize_t, std::ptr::null()) };
    // SAFETY: a new reference, or null where memory ran out, which panics.
    let string = unsafe { Bound::from_owned_ptr(py, string) };
    // SAFETY: decoding gives a str.
    unsafe { string.cast_into_unchecked() }
}

/// `str(object)`, for people: a lone surrogate is shown as its escape.
pub fn shown(object: &Bound<'_, PyAny>) -> PyResult<String> {
    let text = object.str()?;
    // SAFETY: a live str, two strings that end with zeros, and the lock is held.
    let bytes =
        unsafe { ffi::PyUnicode_AsEncodedString(text.as_ptr(), c"utf-8".as_ptr(), c"backslashreplace".as_ptr()) };
    // SAFETY: a new reference, or null with an exception set.
    let bytes = unsafe { Bound::from_owned_ptr_or_err(object.py(), bytes) }?;
    Ok(String::from_utf8_lossy(bytes.cast::<PyBytes>()?.as_bytes()).into_owned())
}

/// The bytes of a `str` whose characters all are latin-1. `what` names it in the exception.
#[inline]
pub fn bytes_of<'a>(string: &'a Bound<'_, PyString>, what: &str) -> PyResult<Cow<'a, [u8]>> {
    match string.to_str() {
        Ok(text) if text.is_ascii() => Ok(Cow::Borrowed(text.as_bytes())),
        text => beyond_ascii(text.ok(), what).map(Cow::Owned),
    }
}

/// `text` is none where a lone surrogate stands in the string.
#[cold]
fn beyond_ascii(text: Option<&str>, what: &str) -> PyResult<Vec<u8>> {
    let bytes = text.and_then(|text| text.chars().map(|c| u8::try_from(c).ok()).collect());
    bytes.ok_or_else(|| PyValueError::new_err(format!("{what} holds a character that is not latin-1 (PEP 3333)")))
}
