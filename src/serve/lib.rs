//! The half of a worker that knows no Python: event loop, connections, exchange, bodies, time-outs, access log.
#![deny(unsafe_code)]

use std::{io, os::fd::OwnedFd, sync::Arc};

use ostler_wire::{Boot, Channel, scoreboard::Scoreboard};

pub mod application;
mod connection;
mod event_loop;
mod exchange;
mod intake;
mod life;
mod request;
pub mod response;
mod shared;
mod storage;
mod threads;
mod transport;

pub use application::{Application, Body, BodyBytes, BodyLength, Client, Gone, LiveBody, Request, Waiting};
pub use response::Response;
pub use storage::store::SpoolFile;

use event_loop::Loop;
use shared::Shared;
use threads::Crew;

/// What a worker starts with: its share of what the template was given, and the descriptors that it inherited.
pub struct Setup {
    /// As the template was told.
    pub boot: Boot,
    /// The worker's slot of the scoreboard.
    pub slot: u16,
    /// To the master.
    pub channel: Channel,
    /// In the order of [`Boot::listeners`].
    pub listeners: Vec<OwnedFd>,
    /// Where connections are put that should move.
    pub exchange_give: OwnedFd,
    /// Where they are taken.
    pub exchange_take: OwnedFd,
    /// Readable when the process was sent SIGTERM.
    pub terminated: OwnedFd,
    /// Opened for appending.
    pub access_log: Option<OwnedFd>,
    /// Of the generation.
    pub scoreboard: Arc<Scoreboard>,
    /// The worker's own.
    pub log: slog::Logger,
}

/// How a worker's loop came to its end. The process exits next: after `atexit` and the like, within what is left of the drain.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Ending {
    /// Nothing is under way any more; the master has been told. The deadline bounds what the interpreter does on its way out.
    Drained {
        /// Of CLOCK_MONOTONIC.
        deadline: std::time::Instant,
    },
    /// Told to quit, or the master is gone: at once.
    Quit,
}

/// Serves until told to end. Called on the main thread, with the application loaded. Tells the master that the worker is ready. Starts the
/// other threads itself; they have ended when this returns. An error means that the kernel refused a descriptor at the start.
pub fn run<A: Application>(setup: Setup, application: &A) -> io::Result<Ending> {
    let shared = Shared::new(setup.boot.clone(), setup.slot, setup.scoreboard.clone(), setup.log.clone())?;
    let shared = Arc::new(shared);
    let event_loop = Loop::new(setup, shared.clone())?;
    Ok(Crew::new(shared, event_loop, application).run())
}
