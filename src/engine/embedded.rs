//! The engine's own Python code, compiled into it.

use std::{ffi::CStr, os::fd::RawFd};

use ostler_wire::{BootFailure, BootFailureKind};
use pyo3::{prelude::*, types::PyTuple};
use slog::{Logger, error};

use crate::{belongings::Belongings, children, signals, stacks, text::shown};

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

/// Imports the application, which leaves these descriptors alone.
pub fn load<'py>(
    py: Python<'py>,
    named: &str,
    descriptors: impl IntoIterator<Item = RawFd>,
) -> Result<Bound<'py, PyAny>, BootFailure> {
    let loading = LOADING.import(py).map_err(|error| unexpected(py, &error))?;
    let belongings = Belongings::note(descriptors).map_err(|error| unexpected(py, &error.into()))?;
    let process = std::process::id();
    let loaded = loading.call_method1("load", (named,));
    children::end_if_not(py, process);
    signals::settle();
    stacks::arm_again(py).map_err(|error| unexpected(py, &error))?;
    let lost: Vec<_> = belongings.lost().collect();
    if !lost.is_empty() {
        let message = format!("the import of {named} has closed descriptors that it had not opened: {lost:?}");
        return Err(BootFailure::new(BootFailureKind::Import, &message, ""));
    }
    loaded.map_err(|error| failure(&loading, &error).unwrap_or_else(|_| unexpected(py, &error)))
}

/// Takes out the import's garbage, which no collection has looked for yet. What it has left is looked at by no later one.
pub fn freeze(py: Python<'_>, log: &Logger) {
    let frozen = py.import("gc").and_then(|gc| {
        gc.call_method0("collect")?;
        gc.call_method0("freeze")
    });
    if let Err(error) = frozen {
        error!(log, "garbage not frozen"; "reason" => error.to_string());
    }
}

/// What loading.py says of itself.
fn failure(loading: &Bound<'_, PyModule>, error: &PyErr) -> PyResult<BootFailure> {
    let arguments = error.value(loading.py()).getattr("args")?.cast_into::<PyTuple>()?;
    let text = |index| shown(&arguments.get_item(index)?);
    let kind = if text(0)? == "Import" { BootFailureKind::Import } else { BootFailureKind::Application };
    Ok(BootFailure::new(kind, &text(1)?, &text(2)?))
}

/// A failure of the engine itself.
pub fn unexpected(py: Python<'_>, error: &PyErr) -> BootFailure {
    let message = format!("the interpreter did not do what the engine asked: {error}");
    BootFailure::new(BootFailureKind::Interpreter, &message, &traceback(py, error))
}

/// An exception as Python prints it, cut in the middle where it is very long.
pub fn traceback(py: Python<'_>, error: &PyErr) -> String {
    let text = LOADING
        .import(py)
        .and_then(|loading| loading.call_method1("traceback_of", (error.clone_ref(py).into_value(py),)))
        .and_then(|text| shown(&text));
    ostler_wire::channel::fit(&text.unwrap_or_else(|_| error.to_string()))
}
