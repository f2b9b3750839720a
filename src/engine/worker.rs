//! The life of a worker, from the fork to its last word.

use std::{
    io,
    os::fd::{AsFd, AsRawFd},
    sync::atomic::Ordering::Relaxed,
};

use ostler_serve::{Ending, Setup};
use ostler_wire::{BootFailure, Channel, FromWorker, scoreboard::State};
use pyo3::prelude::*;
use slog::{Logger, error};

use crate::{
    children,
    embedded::{self, unexpected},
    fork,
    leaving::leave,
    signals,
    site::Site,
    stacks::{self, Stacks},
    template::Given,
    title::Title,
};

/// The exit status of a worker that has no application; the master has been told why.
const NOT_BOOTED: i32 = 3;

/// Ends with the process.
pub fn run(
    py: Python<'_>,
    given: Given,
    application: Option<Py<PyAny>>,
    title: Option<Title>,
    slot: u16,
    channel: Channel,
) -> ! {
    let process = format!("worker g{}.{slot}", given.boot.generation);
    let log = given.logger(&process);
    if let Some(mut title) = title {
        title.set(&given.title(&process), &format!("ostler g{}.{slot}", given.boot.generation));
    }
    let record = given.scoreboard.slot(slot);
    record.pid.store(std::process::id() as i32, Relaxed);
    record.enter(State::Booting);
    let site: &Site = match site(py, &given, &channel, application, &log) {
        Ok(site) => Box::leak(Box::new(site)),
        Err(failure) => give_up(&channel, failure, &log),
    };
    match serve(py, given, slot, channel, site, &log) {
        Ok(ending) => leave(py, ending, site, log),
        Err(error) => {
            error!(log, "worker not started"; "reason" => error.to_string());
            fork::exit(1)
        }
    }
}

/// The application of the template, or the worker's own.
fn site(
    py: Python<'_>,
    given: &Given,
    channel: &Channel,
    application: Option<Py<PyAny>>,
    log: &Logger,
) -> Result<Site, BootFailure> {
    stacks::arm(py, channel.as_fd().as_raw_fd()).map_err(|error| unexpected(py, &error))?;
    let application = match application {
        Some(application) => application.into_bound(py),
        None => {
            let descriptors = given.descriptors().into_iter().chain([channel.as_fd().as_raw_fd()]);
            let application = embedded::load(py, &given.boot.application, descriptors)?;
            embedded::freeze(py, log);
            application
        }
    };
    let stacks = Stacks::for_loop(py).map_err(|error| unexpected(py, &error))?;
    Site::new(py, application, &given.boot, stacks, log.clone()).map_err(|error| unexpected(py, &error))
}

fn give_up(channel: &Channel, failure: BootFailure, log: &Logger) -> ! {
    let reason = failure.message.clone();
    if let Err(error) = channel.send(&FromWorker::Failed(failure), &[]) {
        error!(log, "master not told"; "reason" => error.to_string(), "of" => reason);
    }
    fork::exit(NOT_BOOTED)
}

fn serve(py: Python<'_>, given: Given, slot: u16, channel: Channel, site: &Site, log: &Logger) -> io::Result<Ending> {
    let terminated = signals::terminated()?;
    children::guard(&given.listeners)?;
    let setup = Setup {
        boot: given.boot,
        slot,
        channel,
        listeners: given.listeners,
        exchange_give: given.exchange_give,
        exchange_take: given.exchange_take,
        access_log: given.access_log,
        scoreboard: given.scoreboard,
        terminated,
        log: log.clone(),
    };
    py.detach(|| ostler_serve::run(setup, site))
}
