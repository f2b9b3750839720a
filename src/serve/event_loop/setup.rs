//! What a worker starts with.

use std::{
    os::fd::OwnedFd,
    sync::{Arc, OnceLock},
};

use ostler_tls::Sign;
use ostler_wire::{Boot, Channel, scoreboard::Scoreboard};

/// What a worker starts with: its share of what the template was given, and the descriptors that it inherited. A server that lives in
/// somebody's program is a worker without a site.
pub struct Setup {
    /// As the template was told.
    pub boot: Boot,
    /// The worker's slot of the scoreboard.
    pub slot: u16,
    /// What ties it to its site. A worker without one serves at once, and no other worker takes its connections over.
    pub site: Option<Membership>,
    /// In the order of [`Boot::listeners`].
    pub listeners: Vec<OwnedFd>,
    /// Readable when the worker is to end: the process was sent SIGTERM. With a site it asks for a replacement; without one it drains
    /// within [`ostler_wire::WorkerSettings::graceful_timeout`].
    pub terminated: OwnedFd,
    /// Readable when the calling thread is wanted: [`crate::Application::attend`] is then called on it.
    pub attention: Option<OwnedFd>,
    /// Opened for appending.
    pub access_log: Option<OwnedFd>,
    /// Signs with the keys of [`Boot::tls`].
    pub signer: Option<Arc<dyn Sign>>,
    /// Of the generation.
    pub scoreboard: Arc<Scoreboard>,
    /// The worker's own.
    pub log: slog::Logger,
}

/// What a worker of a site shares with its master and its siblings.
pub struct Membership {
    /// To the master.
    pub channel: Channel,
    /// Where the worker puts connections that are to move.
    pub exchange_give: OwnedFd,
    /// Where it takes connections that move here.
    pub exchange_take: OwnedFd,
    /// Where the loop leaves what the master has sent with [`ostler_wire::ToWorker::BecomeTemplate`].
    pub becomes: Arc<OnceLock<Channel>>,
}
