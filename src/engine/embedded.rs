//! The engine's own Python code, compiled into it.

use std::ffi::CStr;

use ostler_wire::{BootFailure, BootFailureKind};
use pyo3::{prelude::*, types::PyTuple};

/// A file of Python code.
pub struct Embedded {
    code: &'static CStr,
    file: &'static CStr,
    name: &'static CStr,
}

macro_rules! embedded {
    ($name:literal) => {
        Embedded {
            code: terminated(concat!(include_str!(concat!($name, ".py")), "\0")),
            file: terminated(concat!("<ostler ", $name, ">\0")),
            name: terminated(concat!("_ostler_", $name, "\0")),
        }
    };
}

const fn terminated(text: &'static str) -> &'static CStr {
    match CStr::from_bytes_with_nul(text.as_bytes()) {
        Ok(text) => text,
        Err(_) => panic!("a zero within the text"),
    }
}

/// Finds the application.
pub const LOADING: Embedded = embedded!("loading");
/// Looks at what an import left behind.
pub const LEFTOVERS: Embedded = embedded!("leftovers");
/// Asks the application for a page.
pub const WARMING: Embedded = embedded!("warming");
/// Parts of WSGI.
pub const SERVING: Embedded = embedded!("serving");

impl Embedded {
    /// Its module.
    pub fn import<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyModule>> {
        let name = self.name.to_str().expect("ASCII");
        let known = py.import("sys")?.getattr("modules")?;
        match known.get_item(name) {
            Ok(module) => Ok(module.cast_into::<PyModule>()?),
            Err(_) => PyModule::from_code(py, self.code, self.file, self.name),
        }
    }
}

/// Imports the application.
pub fn load<'py>(py: Python<'py>, named: &str) -> Result<Bound<'py, PyAny>, BootFailure> {
    let loading = LOADING.import(py).map_err(|error| unexpected(py, &error))?;
    loading
        .call_method1("load", (named,))
        .map_err(|error| failure(&loading, &error).unwrap_or_else(|_| unexpected(py, &error)))
}

/// What loading.py says of itself.
fn failure(loading: &Bound<'_, PyModule>, error: &PyErr) -> PyResult<BootFailure> {
    let arguments = error.value(loading.py()).getattr("args")?.cast_into::<PyTuple>()?;
    let (kind, message, traceback): (String, String, String) = arguments.extract()?;
    let kind = if kind == "Import" { BootFailureKind::Import } else { BootFailureKind::Application };
    Ok(BootFailure { kind, message, traceback: ostler_wire::channel::fit(&traceback) })
}

/// A failure of the engine itself.
pub fn unexpected(py: Python<'_>, error: &PyErr) -> BootFailure {
    let message = format!("the interpreter did not do what the engine asked: {error}");
    BootFailure { kind: BootFailureKind::Interpreter, message, traceback: traceback(py, error) }
}

/// An exception as Python prints it.
pub fn traceback(py: Python<'_>, error: &PyErr) -> String {
    let text = LOADING
        .import(py)
        .and_then(|loading| loading.call_method1("traceback_of", (error.clone_ref(py).into_value(py),)))
        .and_then(|text| text.extract());
    text.unwrap_or_else(|_| error.to_string())
}
