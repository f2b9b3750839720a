//! The half of a worker that knows no Python: event loop, connections, exchange, bodies, time-outs, access log.
#![forbid(unsafe_code)]

use std::{os::fd::OwnedFd, sync::Arc};

use ostler_wire::{Boot, Channel, scoreboard::Scoreboard};

pub mod application;

pub use application::{Application, Body, Client, ClientWatch, Gone, Request, Response};

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

/// Serves until told to end. Called on the main thread, with the application loaded and the interpreter lock held by the caller's caller:
/// [`Application::rest`] is called before the first wait. Sends `Ready`. Starts the other threads itself.
pub fn run<A: Application>(setup: Setup, application: &A) -> Ending {
    let _ = (setup, application);
    unimplemented!()
}
