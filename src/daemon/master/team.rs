//! What a generation has in the world: its channels, its memory, its files.

use std::{
    collections::BTreeMap,
    io,
    os::fd::{AsFd, OwnedFd},
};

use ostler_wire::{Channel, scoreboard::Scoreboard};
use serde::{Deserialize, Serialize};

use super::{event::ListenerId, line::Line};
use crate::{logs::Logs, settings::Settings, sys::descriptors};

/// What a generation has in the world.
pub struct Team {
    /// To the template, until it is closed.
    pub template: Option<Line>,
    /// To each worker, until it is closed.
    pub workers: BTreeMap<u16, Line>,
    /// Its shared memory.
    pub scoreboard: Scoreboard,
    /// Its log files.
    pub logs: Logs,
    /// Its sockets.
    pub listeners: Vec<ListenerId>,
    /// What it was booted with, and what a generation that takes its place unasked is booted with.
    pub settings: Settings,
    /// What became of its workers.
    pub crashes: Crashes,
}

/// The workers that died by themselves.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub struct Crashes {
    /// How many.
    pub count: u64,
    /// What the last of them was called for, if it was.
    pub last: Option<String>,
}

/// The two ends at which connections are given away and taken.
pub struct Exchange {
    /// The sending end.
    pub give: OwnedFd,
    /// The receiving end.
    pub take: OwnedFd,
}

impl Exchange {
    /// A new one. Nobody ever waits on it.
    pub fn new() -> io::Result<Exchange> {
        let (give, take) = Channel::pair()?;
        descriptors::nonblocking(give.as_fd())?;
        descriptors::nonblocking(take.as_fd())?;
        Ok(Exchange { give: give.into(), take: take.into() })
    }
}
