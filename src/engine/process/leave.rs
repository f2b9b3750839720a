//! The end of a worker: does what Python does at the end of a program, within the time that is left, and exits.

use std::{thread, time::Duration};

use ostler_serve::{Application, LoopEnd, Moment};
use pyo3::prelude::*;
use slog::{Logger, error, warn};

use super::{LEAVING, fork, import::traceback};
use crate::wsgi::site::Site;

/// Waits for the application's non-daemon threads, runs its atexit functions and flushes its streams, but not beyond
/// the deadline. The interpreter is not finalized: that may hang, and the kernel frees everything anyway.
pub fn leave(py: Python<'_>, ending: LoopEnd, application: &'static Site, log: Logger) -> ! {
    let LoopEnd::Drained { deadline } = ending else {
        application.ends(py, true);
        fork::exit(0)
    };
    let watch = log.clone();
    let started = thread::Builder::new().name("ostler-deadline".into()).spawn(move || {
        thread::sleep(deadline.saturating_duration_since(Moment::now()).max(Duration::from_millis(1)));
        warn!(watch, "worker did not end in time"; "stacks" => application.stacks());
        fork::exit(1)
    });
    if let Err(error) = started {
        error!(log, "worker ends unwatched"; "reason" => error.to_string());
        fork::exit(1)
    }
    application.ends(py, false);
    if let Err(error) = LEAVING.import(py).and_then(|leaving| leaving.call_method0("leave")) {
        error!(log, "application raised at exit"; "traceback" => traceback(py, &error));
    }
    fork::exit(0)
}
