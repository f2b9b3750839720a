//! `--reload`: code that does not come up is shown in the browser, by the workers that serve the code before it, or by workers that
//! have nothing else to serve.

use std::sync::{Mutex, MutexGuard, PoisonError};

use ostler_wire::{Boot, BootFailure, BootFailureKind, FailedCode};
use pyo3::prelude::*;
use slog::{Logger, error};

use super::watching;
use crate::python::embedded::{Embedded, embedded};

const FAILING: Embedded = embedded!("failing");

/// What does not come up, if anything does not.
#[pyclass(frozen)]
pub struct Failed(Mutex<Option<FailedCode>>);

#[pymethods]
impl Failed {
    /// The sentence and the traceback.
    fn __call__(&self) -> Option<(String, String)> {
        self.locked().as_ref().map(|code| (code.message.clone(), code.traceback.clone()))
    }
}

impl Failed {
    /// From now on.
    pub fn note(&self, code: FailedCode) {
        *self.locked() = Some(code);
    }

    /// What to look at for it.
    pub fn files(&self) -> Vec<ostler_wire::SeenFile> {
        self.locked().as_ref().map(|code| code.files.clone()).unwrap_or_default()
    }

    /// Why, in a sentence.
    pub fn message(&self) -> Option<String> {
        self.locked().as_ref().map(|code| code.message.clone())
    }

    fn locked(&self) -> MutexGuard<'_, Option<FailedCode>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// What is called instead of the application with `--reload`: it, or what has failed. Without the option, what was loaded.
pub fn shown<'py>(
    py: Python<'py>,
    boot: &Boot,
    loaded: Result<Bound<'py, PyAny>, BootFailure>,
    log: &Logger,
) -> Result<Bound<'py, PyAny>, BootFailure> {
    let Some(watched) = boot.reload.as_ref().filter(|_| !boot.check_only) else { return loaded };
    let (application, failed) = match loaded {
        Ok(application) => (Some(application), None),
        Err(failure) if watched.shows_failure && is_the_codes(failure.kind) => {
            error!(log, "application not loaded"; "reason" => &failure.message, "traceback" => &failure.traceback,
                "then" => "browsers are shown this until a file changes");
            (None, Some(FailedCode::from(failure)))
        }
        Err(failure) => return Err(failure),
    };
    let wrap = || FAILING.import(py)?.getattr("Shown")?.call1((application, Failed(Mutex::new(failed))));
    wrap().map_err(|error| super::import::unexpected(py, &error))
}

/// Of an application that [`shown`] has given.
pub fn of(application: &Bound<'_, PyAny>, boot: &Boot) -> PyResult<Option<Py<Failed>>> {
    boot.reload.as_ref().map(|_| Ok(application.getattr("failed")?.extract()?)).transpose()
}

/// Notes in a failure what an edit may mend.
pub fn with_files(failure: BootFailure, error: &PyErr, py: Python<'_>) -> BootFailure {
    BootFailure { files: watching::touched(py, error), ..failure }
}

fn is_the_codes(kind: BootFailureKind) -> bool {
    matches!(kind, BootFailureKind::Import | BootFailureKind::Application)
}
