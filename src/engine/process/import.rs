//! Imports the application: in the template where that is wanted and safe, else in each worker. Finds out what an import leaves behind
//! that forked processes must not share.

use std::{
    os::fd::RawFd,
    time::{Duration, Instant},
};

use ostler_wire::{
    Boot, BootFailure, BootFailureKind, BootStep, CHANNEL_FD, Channel, FromTemplate, OwnRequest, Preload,
    channel::{fit, fit_sentence},
};
use pyo3::{prelude::*, types::PyTuple};
use slog::{Logger, error, info, warn};

use super::{
    children, failing, fork,
    inherited::{Inherited, broken},
    restart::{Execution, RestartState},
    signals,
};
use crate::{
    descriptors::KnownDescriptors,
    python::{
        embedded::{Embedded, embedded},
        stacks,
        text::shown,
    },
};

/// Finds the application.
const LOADING: Embedded = embedded!("loading");
/// Finds what an import left behind.
const LEFTOVERS: Embedded = embedded!("leftovers");
/// Calls the application for one URL.
const WARMING: Embedded = embedded!("warming");

/// The outcome of an import: the application, if this process may be forked with it.
#[derive(Default)]
pub struct Import {
    pub application: Option<Py<PyAny>>,
    /// What stands there shows why it could not be imported (`--reload`).
    pub failed: bool,
    pub unsafe_to_fork: Vec<String>,
    pub took: Duration,
}

/// Imports the application, if that is to happen before the fork. If the import makes forking unsafe, this process executes itself again,
/// without the application.
pub fn import(
    py: Python<'_>,
    channel: &Channel,
    inherited: &Inherited,
    origin: Execution,
) -> Result<Import, BootFailure> {
    let boot = &inherited.boot;
    if boot.preload == Preload::Off && !boot.check_only {
        return Ok(Import::default());
    }
    let unexpected = |error: PyErr| unexpected(py, &error);
    let executable = executable(py).map_err(unexpected)?;
    let leftovers = LEFTOVERS.import(py).map_err(unexpected)?;
    let mut before: Vec<RawFd> =
        leftovers.call_method0("descriptors").and_then(|found| found.extract()).map_err(unexpected)?;
    let begins =
        |step| channel.send(&FromTemplate::Begins(step), &[]).map_err(|error| broken("tell what it does", &error));
    begins(BootStep::Import)?;
    let started = Instant::now();
    let log = inherited.template_logger();
    let mut application = load(py, boot, inherited.descriptors().into_iter().chain([CHANNEL_FD]), &log)?;
    let took = started.elapsed();
    let failed = |application: &Bound<'_, PyAny>| -> Result<bool, BootFailure> {
        let failed = failing::of(application, boot).map_err(unexpected)?;
        Ok(failed.is_some_and(|failed| failed.get().message().is_some()))
    };
    if let Some(request) = &boot.warm_up
        && !failed(&application)?
    {
        begins(BootStep::WarmUp)?;
        match warm_up(&application, request, inherited) {
            Err(error) if boot.reload.is_some() && !boot.check_only => {
                application = failing::shown(py, boot, Err(not_warmed_up(py, &error, request)), &log)?;
            }
            Err(error) => warn!(log, "not warmed up"; "url" => %request, "traceback" => traceback(py, &error)),
            Ok(()) => {}
        }
    }
    let failed = failed(&application)?;
    let application = Some(application.unbind());
    let mut unsafe_to_fork = Vec::new();
    if boot.preload == Preload::Auto {
        fork::trial().map_err(|error| broken("fork", &error))?;
        // What the application has printed may have made the way to a syslog.
        before.extend(inherited.template_log().way_to_syslog());
        unsafe_to_fork = left_behind(py, before, false);
    }
    if unsafe_to_fork.is_empty() || boot.check_only {
        return Ok(Import { application, failed, unsafe_to_fork, took });
    }
    let state = RestartState { boot: boot.clone(), descriptors: inherited.descriptors(), unsafe_to_fork, import: took };
    Err(broken("execute itself again", &origin.execute(&executable, &state)))
}

/// What forked processes would share, apart from these descriptors; with files that are only `read`.
pub fn left_behind(py: Python<'_>, before: Vec<RawFd>, read: bool) -> Vec<String> {
    found(LEFTOVERS.import(py).and_then(|leftovers| leftovers.call_method1("leftovers", (before, read))))
}

/// The children that the application has.
pub fn children_left(py: Python<'_>) -> Vec<String> {
    found(LEFTOVERS.import(py).and_then(|leftovers| leftovers.call_method0("children")))
}

/// The application may have replaced modules that leftovers.py uses.
fn found(phrases_found: PyResult<Bound<'_, PyAny>>) -> Vec<String> {
    let found = phrases_found.and_then(|found| phrases(&found));
    found.unwrap_or_else(|error| vec![fit_sentence(&format!("what could not be told: {error}"))])
}

fn phrases(found: &Bound<'_, PyAny>) -> PyResult<Vec<String>> {
    found.try_iter()?.map(|phrase| Ok(fit_sentence(&shown(&phrase?)?))).collect()
}

/// Calls the application once, so that it loads what it loads at the first request. What that leaves behind is judged like what the
/// import leaves behind.
fn warm_up(application: &Bound<'_, PyAny>, request: &OwnRequest, inherited: &Inherited) -> PyResult<()> {
    let (py, boot, log) = (application.py(), &inherited.boot, inherited.template_logger());
    let (started, process) = (Instant::now(), std::process::id());
    let (method, url) = (&request.method, request.url());
    let arguments = (application, method, url, &boot.worker.root_path, boot.worker.threads > 1, boot.workers > 1);
    let asked = WARMING.import(py).and_then(|warming| warming.call_method1("warm_up", arguments));
    children::end_if_not(py, process);
    let (status, took) = (shown(&asked?)?, format!("{:.3}", started.elapsed().as_secs_f64()));
    info!(log, "warmed up"; "url" => %request, "status" => status, "took" => took);
    Ok(())
}

/// With `--reload`: what the application loads at a request is part of the code that has to come up.
fn not_warmed_up(py: Python<'_>, error: &PyErr, request: &OwnRequest) -> BootFailure {
    let last_line = LOADING.import(py).and_then(|loading| loading.call_method1("last_line", (error.value(py),)));
    let raised = last_line.and_then(|line| shown(&line)).unwrap_or_else(|_| error.to_string());
    let message = format!("the request of --warm-up for {request} raised {raised}");
    let failure = BootFailure::new(BootFailureKind::Application, &message, &traceback(py, error));
    failing::with_files(failure, error, py)
}

pub fn executable(py: Python<'_>) -> PyResult<String> {
    py.import("sys")?.getattr("executable")?.extract()
}

/// Imports the application, or what shows why that was not possible (`--reload`). It is an error if the import closes one of these
/// descriptors.
pub fn load<'py>(
    py: Python<'py>,
    boot: &Boot,
    descriptors: impl IntoIterator<Item = RawFd>,
    log: &Logger,
) -> Result<Bound<'py, PyAny>, BootFailure> {
    let named = &boot.application;
    let loading = LOADING.import(py).map_err(|error| unexpected(py, &error))?;
    let known = KnownDescriptors::note(descriptors).map_err(|error| unexpected(py, &error.into()))?;
    let process = std::process::id();
    let loaded = loading.call_method1("load", (named,));
    children::end_if_not(py, process);
    signals::settle();
    stacks::arm_again(py).map_err(|error| unexpected(py, &error))?;
    let lost: Vec<_> = known.lost().collect();
    if !lost.is_empty() {
        let message = format!("the import of {named} has closed descriptors that it had not opened: {lost:?}");
        return Err(BootFailure::new(BootFailureKind::Import, &message, ""));
    }
    let loaded = loaded.map_err(|error| {
        let failure = failure(&loading, &error).unwrap_or_else(|_| unexpected(py, &error));
        if boot.reload.is_some() { failing::with_files(failure, &error, py) } else { failure }
    });
    failing::shown(py, boot, loaded, log)
}

/// Collects the import's garbage, which no collection has done yet, and exempts all that is left from later collections (gc.freeze).
pub fn freeze(py: Python<'_>, log: &Logger) {
    let frozen = py.import("gc").and_then(|gc| {
        gc.call_method0("collect")?;
        gc.call_method0("freeze")
    });
    if let Err(error) = frozen {
        error!(log, "garbage not frozen"; "reason" => error.to_string());
    }
}

/// The failure that loading.py has raised.
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
    fit(&text.unwrap_or_else(|_| error.to_string()))
}
