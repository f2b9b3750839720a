//! The life of a worker, from the fork to its end.

use std::{
    io,
    os::fd::{AsFd, AsRawFd, OwnedFd},
    sync::{Arc, OnceLock, atomic::Ordering::Relaxed},
};

use ostler_serve::{LoopEnd, Membership, Setup};
use ostler_tls::keeper::Keeper;
use ostler_wire::{
    BootFailure, Channel, FromWorker,
    log::{self, Process},
    scoreboard::{Scoreboard, WorkerState},
    title::{self, Title},
};
use pyo3::prelude::*;
use slog::{Logger, error};

use super::{
    children, fork, gunicorn,
    import::{self, traceback, unexpected},
    inherited::Inherited,
    leave::leave,
    refork, signals, streams, watching,
};
use crate::{
    descriptors::KnownDescriptors,
    python::stacks::{self, Stacks},
    wsgi::{
        calling,
        site::{Outlets, Report, Site},
    },
};

/// The exit status of a worker that has no application; the master has been told why.
const NOT_BOOTED: i32 = 3;

/// Ends with the process.
pub fn run(
    py: Python<'_>,
    mut inherited: Inherited,
    application: Option<Py<PyAny>>,
    mut title: Option<Title>,
    slot: u16,
    channel: Channel,
    keeper: Option<OwnedFd>,
) -> ! {
    if application.is_none() {
        // What an import leaves behind that is not to be shared, it would leave behind again.
        inherited.boot.worker.refork = 0;
    }
    let before = (inherited.boot.worker.refork > 0).then(KnownDescriptors::all).and_then(Result::ok);
    let process = Process::Worker(inherited.boot.generation, slot);
    let error_log = inherited.worker_log(slot);
    let log = error_log.logger();
    streams::use_log(error_log);
    if let Some(title) = &mut title {
        title.set(title::of(&inherited.boot, process));
    }
    let scoreboard: &'static Scoreboard = Box::leak(Box::new(inherited.scoreboard.clone()));
    let record = scoreboard.slot(slot);
    log::count_in(&record.lines_lost, scoreboard.meters(slot));
    record.pid.store(std::process::id() as i32, Relaxed);
    record.enter(WorkerState::Booting);
    let mut site = match site(py, &inherited, &channel, application, slot, &log) {
        Ok(site) => Box::new(site),
        Err(failure) => give_up(&channel, failure, &log),
    };
    match serve(py, inherited, slot, (channel, keeper), &site, &log) {
        Ok((ending, becomes)) => {
            if let (LoopEnd::Drained { .. }, Some(channel), Some(before)) = (ending, becomes, before) {
                refork::succeed(py, channel, &before, &mut site, title, &log);
            }
            leave(py, ending, Box::leak(site), log)
        }
        Err(error) => {
            error!(log, "worker not started"; "reason" => error.to_string());
            fork::exit(1)
        }
    }
}

/// The site with the application that the template has imported, or that this worker imports.
fn site(
    py: Python<'_>,
    inherited: &Inherited,
    channel: &Channel,
    application: Option<Py<PyAny>>,
    slot: u16,
    log: &Logger,
) -> Result<Site, BootFailure> {
    stacks::arm(py, channel.as_fd().as_raw_fd()).map_err(|error| unexpected(py, &error))?;
    name_place(py, inherited.boot.generation, slot).map_err(|error| unexpected(py, &error))?;
    gunicorn::forked(py, &inherited.boot, slot, log)?;
    let application = match application {
        Some(application) => application.into_bound(py),
        None => {
            let descriptors = inherited.descriptors().into_iter().chain([channel.as_fd().as_raw_fd()]);
            let application = import::load(py, &inherited.boot, descriptors, log)?;
            import::freeze(py, log);
            application
        }
    };
    gunicorn::settle(py, &inherited.boot).map_err(|error| unexpected(py, &error))?;
    let hooks = gunicorn::initialised(py, &inherited.boot, log);
    streams::end_lines(py);
    let site = || {
        let errors = streams::wsgi_errors(py)?;
        let stacks = Some(Stacks::for_loop(py)?);
        let outlets = Outlets { errors, report: report(log), stacks, log: log.clone() };
        Site::new(application, &inherited.boot, hooks, outlets)
    };
    site().map_err(|error| unexpected(py, &error))
}

fn report(log: &Logger) -> Report {
    let log = log.clone();
    Box::new(move |py, request, error| {
        error!(log, "application raised"; "request" => request, "request_id" => calling::id(),
            "traceback" => traceback(py, error));
    })
}

/// What tells the workers that live at a time from each other, and is used again: a name for what each writes, such as the files of
/// Prometheus' client.
fn name_place(py: Python<'_>, generation: u32, slot: u16) -> PyResult<()> {
    let environ = py.import("os")?.getattr("environ")?;
    environ.set_item("OSTLER_GENERATION", generation.to_string())?;
    environ.set_item("OSTLER_SLOT", slot.to_string())
}

fn give_up(channel: &Channel, failure: BootFailure, log: &Logger) -> ! {
    let reason = failure.message.clone();
    if let Err(error) = channel.send(&FromWorker::Failed(failure), &[]) {
        error!(log, "master not told"; "reason" => error.to_string(), "of" => reason);
    }
    fork::exit(NOT_BOOTED)
}

fn serve(
    py: Python<'_>,
    inherited: Inherited,
    slot: u16,
    (channel, keeper): (Channel, Option<OwnedFd>),
    site: &Site,
    log: &Logger,
) -> io::Result<(LoopEnd, Option<Channel>)> {
    if let Some(why) = site.failed.as_ref().and_then(|failed| failed.get().message()) {
        channel.send(&FromWorker::NoApplication(why), &[])?;
    }
    watching::start(&inherited.boot, site.failed.as_ref().map(|failed| failed.clone_ref(py)), &channel, log);
    let terminated = signals::terminated()?;
    children::guard(&inherited.listeners)?;
    let (mut boot, mut access_log) = (inherited.boot, inherited.access_log);
    if gunicorn::logs_access(py, &boot) {
        access_log = None;
        boot.logging.syslog.iter_mut().for_each(|syslog| syslog.access = false);
    }
    let becomes = Arc::<OnceLock<Channel>>::default();
    let setup = Setup {
        boot,
        slot,
        site: Some(Membership {
            channel,
            exchange_give: inherited.exchange_give,
            exchange_take: inherited.exchange_take,
            becomes: becomes.clone(),
        }),
        listeners: inherited.listeners,
        attention: None,
        access_log,
        signer: keeper.map(|socket| Arc::new(Keeper::new(socket)) as _),
        scoreboard: inherited.scoreboard,
        terminated,
        log: log.clone(),
    };
    let ending = py.detach(|| ostler_serve::run(setup, site))?;
    Ok((ending, Arc::into_inner(becomes).and_then(OnceLock::into_inner)))
}
