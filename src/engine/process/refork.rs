//! A worker that has served becomes the template of its generation, so that what it has loaded for its requests is shared by the workers
//! that come after it.
//!
//! Its loop has drained and its threads have ended. What it is judged by is what an import is judged by: a fork would share the
//! application's threads, sockets and files. If there are any, the worker tells the master, and ends as any worker that was drained.

use std::{
    os::fd::{AsFd, AsRawFd, OwnedFd},
    time::Duration,
};

use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use ostler_wire::{
    Boot, BootFailure, BootFailureKind, Channel, FromTemplate, Loaded, ToTemplate, VERSION, log, title::Title,
};
use pyo3::prelude::*;
use slog::{Logger, error};

use super::{
    children, fork, gunicorn, import,
    inherited::{Inherited, broken},
    signals, streams,
    template::Template,
};
use crate::{
    descriptors::KnownDescriptors,
    python::{
        embedded::{Embedded, embedded},
        heap, stacks, thread,
    },
    wsgi::site::Site,
};

/// Forgets what requests have left in the thread.
const AFRESH: Embedded = embedded!("afresh");

/// A thread that was waited for is seen for a moment after its end.
const MOMENTS: u32 = 200;
const MOMENT: Duration = Duration::from_millis(1);

/// The application is imported, and has no request yet.
pub fn note(py: Python<'_>, log: &Logger) {
    let noted = AFRESH.import(py).and_then(|afresh| afresh.call_method0("note"));
    if let Err(error) = noted {
        error!(log, "threads not understood"; "reason" => error.to_string());
    }
}

/// What its requests have left in this thread is not for the workers to come.
fn forget(py: Python<'_>) -> PyResult<()> {
    let context = AFRESH.import(py)?.call_method1("forget", (thread::dictionary(py),))?;
    thread::enter(&context)
}

/// Returns if the worker cannot become the template, or is not to any more.
pub fn succeed(
    py: Python<'_>,
    channel: Channel,
    before: &KnownDescriptors,
    site: &mut Site,
    title: Option<Title>,
    log: &Logger,
) {
    // The master has thought better of it: it stops, or reloads.
    if is_closed(&channel) {
        return;
    }
    site.retire();
    thaw(py, log);
    let failed = match left_behind(py, &channel, before) {
        Ok(found) if found.is_empty() => None,
        Ok(found) => Some(BootFailure::new(BootFailureKind::Application, &found.join(", "), "")),
        Err(failure) => Some(failure),
    };
    if let Some(failure) = failed {
        return tell(&channel, &FromTemplate::Failed(failure), log);
    }
    import::freeze(py, log);
    heap::close_gaps();
    tell(&channel, &FromTemplate::Loaded(loaded(py)), log);
    let Some((boot, descriptors)) = py.detach(|| boot(&channel, log)) else { return };
    match Inherited::new(boot, descriptors) {
        Ok(inherited) => begin(py, channel, inherited, site.application(py), title),
        Err(failure) => error!(log, "master not understood"; "reason" => failure.message),
    }
}

/// What the master wants of the template. None if it has thought better of it.
fn boot(channel: &Channel, log: &Logger) -> Option<(Boot, Vec<OwnedFd>)> {
    loop {
        match channel.receive() {
            Ok(Some((ToTemplate::Boot(boot), descriptors))) => return Some((*boot, descriptors)),
            Ok(Some((ToTemplate::Reopen, descriptors))) => {
                let reopened = descriptors.first().map(|error_log| log::replace(error_log.as_fd(), &[1, 2]));
                if let Some(Err(error)) = reopened {
                    error!(log, "error log not reopened"; "reason" => error.to_string());
                }
            }
            // What is shared comes with the settings.
            Ok(Some((ToTemplate::Inherit | ToTemplate::Certificates(_) | ToTemplate::TicketKeys(_), _))) => {}
            Ok(_) => return None,
            Err(error) => {
                error!(log, "master not understood"; "reason" => error.to_string());
                return None;
            }
        }
    }
}

/// What forked processes would share, of what is not the engine's own.
fn left_behind(py: Python<'_>, channel: &Channel, before: &KnownDescriptors) -> Result<Vec<String>, BootFailure> {
    children::unguard();
    signals::unheard();
    stacks::arm(py, channel.as_fd().as_raw_fd()).map_err(|error| import::unexpected(py, &error))?;
    for _ in 0..MOMENTS {
        if fork::other_threads().is_empty() {
            break;
        }
        std::thread::sleep(MOMENT);
    }
    forget(py).map_err(|error| import::unexpected(py, &error))?;
    fork::trial().map_err(|error| broken("fork", &error))?;
    let ours = [channel.as_fd().as_raw_fd()].into_iter().chain(stacks::descriptor()).chain(streams::way_to_syslog());
    let mut found = import::left_behind(py, before.left().chain(ours).collect(), true);
    found.extend(import::children_left(py));
    Ok(found)
}

/// What an earlier template froze is looked at, too, and what has become garbage of it goes.
fn thaw(py: Python<'_>, log: &Logger) {
    if let Err(error) = py.import("gc").and_then(|gc| gc.call_method0("unfreeze")) {
        error!(log, "garbage not frozen"; "reason" => error.to_string());
    }
}

fn loaded(py: Python<'_>) -> Loaded {
    let version = py.version_info();
    Loaded {
        wire: VERSION,
        python: format!("{}.{}.{}", version.major, version.minor, version.patch),
        executable: import::executable(py).unwrap_or_default(),
        preloaded: true,
        unsafe_to_fork: Vec::new(),
        import: Duration::ZERO,
        failed: false,
    }
}

/// From here on it is the template.
fn begin(py: Python<'_>, channel: Channel, inherited: Inherited, application: Py<PyAny>, title: Option<Title>) -> ! {
    log::count_alone();
    streams::use_log(inherited.template_log().clone());
    let log = inherited.template_logger();
    if let Err(error) = gunicorn::use_logger(py, &log) {
        error!(log, "logger not replaced"; "reason" => error.to_string());
    }
    Template { channel, application: Some(application), title, log, inherited }.entitle().serve(py)
}

fn tell(channel: &Channel, message: &FromTemplate, log: &Logger) {
    // A closed channel says that the master has thought better of it.
    if let Err(error) = channel.send(message, &[])
        && error.kind() != std::io::ErrorKind::BrokenPipe
    {
        error!(log, "master not told"; "reason" => error.to_string());
    }
}

fn is_closed(channel: &Channel) -> bool {
    let mut descriptors = [PollFd::new(channel.as_fd(), PollFlags::empty())];
    matches!(poll(&mut descriptors, PollTimeout::ZERO), Ok(1..))
}
