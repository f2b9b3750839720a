//! What a generation has in the world: its channels, its memory, its files.

use std::{
    collections::BTreeMap,
    io,
    os::fd::{AsFd, AsRawFd, OwnedFd, RawFd},
    sync::atomic::Ordering::Relaxed,
};

use ostler_wire::{Channel, EXCHANGE_VERSION, ToWorker, channel, scoreboard::Scoreboard};
use serde::{Deserialize, Serialize};

use crate::{
    master::{keepers::KeeperId, verdict::figures::Figures},
    resources::{line::Line, listen::ListenerId, logs::Logs},
    settings::Settings,
    sys::descriptors,
};

/// What a generation has in the world.
pub struct Team {
    /// To the template, until it is closed.
    pub template: Option<Line>,
    /// To the worker that is to be the next template, or to the template that is kept until its successor is proven. There is never both.
    pub beside: Option<Line>,
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
    /// How many of them were replaced because a call, or the loop, went on for longer than `--timeout`.
    pub timeouts: u64,
    /// What it had done when the last canary began to serve, beside it or as itself.
    pub before_canary: Figures,
    /// [`Exchange::version`] of its exchange.
    pub exchange: u16,
    /// What its workers show of newer code ([`ToWorker::Show`]).
    pub failed_code: Option<ToWorker>,
    /// Who has the keys of its certificates.
    pub keeper: Option<KeeperId>,
}

impl Team {
    /// Tells the workers how far they have to look for each other.
    pub fn tell_reach(&self) {
        let reach = self.workers.keys().last().map_or(0, |slot| u32::from(*slot) + 1);
        for slot in self.workers.keys() {
            self.scoreboard.slot(*slot).reach.store(reach, Relaxed);
        }
    }
}

/// The workers that died by themselves.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub struct Crashes {
    /// How many.
    pub count: u64,
    /// What the last of them was called for, if it was.
    pub last: Option<String>,
}

/// The two ends at which connections are given away and taken. Generations that write different packets have different exchanges.
pub struct Exchange {
    /// Of the packets: [`EXCHANGE_VERSION`] of the executable that made it.
    pub version: u16,
    /// The sending end.
    pub give: OwnedFd,
    /// The receiving end.
    pub take: OwnedFd,
}

impl Exchange {
    /// A new one. Its ends are non-blocking.
    pub fn new() -> io::Result<Exchange> {
        let (give, take) = Channel::pair()?;
        descriptors::nonblocking(give.as_fd())?;
        descriptors::nonblocking(take.as_fd())?;
        descriptors::forbid_filters(give.as_fd());
        descriptors::forbid_filters(take.as_fd());
        Ok(Exchange { version: EXCHANGE_VERSION, give: give.into(), take: take.into() })
    }

    /// Its version and its descriptors, for another executable.
    pub fn note(&self) -> (u16, [RawFd; 2]) {
        (self.version, [self.give.as_raw_fd(), self.take.as_raw_fd()])
    }

    /// Owns what [`Exchange::note`] gave. An executable whose packets are others makes an exchange of its own; the generations that
    /// have the old one keep it among themselves.
    pub fn reclaimed((version, [give, take]): (u16, [RawFd; 2])) -> io::Result<Exchange> {
        let (give, take) = (descriptors::reclaim(give)?, descriptors::reclaim(take)?);
        if version == EXCHANGE_VERSION { Ok(Exchange { version, give, take }) } else { Exchange::new() }
    }
}

impl Drop for Exchange {
    /// Whatever an application has left there is closed without lingering: no worker takes it any more.
    fn drop(&mut self) {
        // Connections move in both directions.
        for end in [self.take.as_fd(), self.give.as_fd()] {
            // An application may have made it wait.
            if descriptors::nonblocking(end).is_ok() {
                channel::empty(end);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::{Duration, Instant};

    use super::*;
    use crate::resources::line::tests::lingering;

    #[test]
    fn what_was_left_on_the_exchange_holds_nobody_up() {
        let started = Instant::now();
        let exchange = Exchange::new().unwrap();
        let (socket, _peer) = lingering();
        for packet in [&b""[..], &b"listener\0"[..]] {
            channel::send(exchange.give.as_fd(), packet, &[socket.as_fd()]).unwrap();
            channel::send(exchange.take.as_fd(), packet, &[socket.as_fd()]).unwrap();
        }
        drop(socket);
        drop(exchange);
        assert!(started.elapsed() < Duration::from_secs(30), "close(2) lingered");
    }
}
