//! What a worker starts with.

use std::{os::fd::OwnedFd, sync::Arc};

use ostler_wire::{Boot, Channel, scoreboard::Scoreboard};

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
    /// Where the worker puts connections that are to move.
    pub exchange_give: OwnedFd,
    /// Where it takes connections that move here.
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
