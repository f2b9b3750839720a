//! What a generation has in the world: its channels, its memory, its files; and how the master speaks on a channel.

use std::{
    collections::BTreeMap,
    io,
    os::fd::{AsFd, BorrowedFd, OwnedFd},
    time::Duration,
};

use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use ostler_wire::{Channel, scoreboard::Scoreboard};
use serde::Serialize;
use slog::{Logger, warn};

use super::event::ListenerId;
use crate::{logs::Logs, settings::Settings, sys::descriptors};

/// How long the master waits for a channel that is full.
const PATIENCE: Duration = Duration::from_secs(1);

/// What a generation has in the world.
pub struct Team {
    /// To the template, until it is closed.
    pub template: Option<Channel>,
    /// To each worker, until it is closed.
    pub workers: BTreeMap<u16, Channel>,
    /// Its shared memory.
    pub scoreboard: Scoreboard,
    /// Its log files.
    pub logs: Logs,
    /// Its sockets.
    pub listeners: Vec<ListenerId>,
    /// What it was booted with, and what a generation that takes its place unasked is booted with.
    pub settings: Settings,
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

/// What a channel brought.
pub enum Heard<T> {
    /// Nothing yet.
    Nothing,
    /// A message.
    Message(T),
    /// Its end.
    End,
}

/// The next message. One that is not understood is passed over.
pub fn hear<T: serde::de::DeserializeOwned>(channel: &Channel, log: &Logger) -> Heard<T> {
    loop {
        match channel.receive::<T>() {
            Ok(Some((message, _))) => return Heard::Message(message),
            Ok(None) => return Heard::End,
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Heard::Nothing,
            Err(error) if error.raw_os_error().is_some() => return Heard::End,
            Err(error) => warn!(log, "message not understood"; "reason" => %error),
        }
    }
}

/// Waits a while where a channel is full.
pub fn send_patiently<T: Serialize>(channel: &Channel, message: &T, carried: &[BorrowedFd]) -> io::Result<()> {
    match channel.send(message, carried) {
        Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
            let patience = PollTimeout::try_from(PATIENCE).unwrap_or(PollTimeout::MAX);
            poll(&mut [PollFd::new(channel.as_fd(), PollFlags::POLLOUT)], patience)?;
            channel.send(message, carried)
        }
        sent => sent,
    }
}
