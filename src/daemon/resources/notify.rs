//! Tells systemd how the master is doing: sd_notify(3), which is one datagram to the socket that NOTIFY_SOCKET names.
//! What it does not take at once waits here.

use std::{
    collections::VecDeque,
    env,
    ffi::OsStr,
    io::{self, ErrorKind},
    os::{
        fd::{AsFd, BorrowedFd, OwnedFd},
        linux::net::SocketAddrExt,
        unix::{
            ffi::OsStrExt,
            net::{SocketAddr, UnixDatagram},
        },
    },
    time::Duration,
};

use nix::time::{ClockId, clock_gettime};
use ostler_wire::channel;

use super::listen::ListenerId;
use crate::{
    exit::{Failure, words},
    settings::STORED,
    sys::clock::Moment,
};

/// How often it is tried to send what waits.
const BETWEEN_TRIES: Duration = Duration::from_millis(100);
/// Only so much waits; the oldest goes first.
const MOST_UNSENT: usize = 256;

/// The service manager, if there is one.
#[derive(Debug, Default)]
pub struct Notify {
    address: Option<SocketAddr>,
    watchdog: Option<Watchdog>,
    unsent: VecDeque<(String, Option<OwnedFd>)>,
    /// Between [`Notify::reloading`] and what comes of it.
    reloading: bool,
    /// A generation serves, and the end has not begun.
    serves: bool,
    /// systemd keeps sockets for us.
    stores: bool,
    /// READY goes with the next STATUS.
    ready: bool,
    /// What was told last.
    status: String,
    /// What came of the last reload, if it was nothing.
    remark: Option<String>,
    /// Why nobody hears us, until that is logged.
    unheard: Option<String>,
}

/// What systemd wants to hear again and again.
#[derive(Debug)]
struct Watchdog {
    /// Half of the time after which it restarts us.
    period: Duration,
    next: Moment,
    /// When workers have answered last.
    answered: Moment,
    answering: bool,
}

impl Notify {
    /// As the environment says. The variables stay, for a master that takes our place.
    pub fn from_environment() -> Notify {
        let Some(name) = env::var_os("NOTIFY_SOCKET").filter(|name| !name.is_empty()) else { return Notify::default() };
        let (address, unheard) = match address(&name) {
            Ok(address) => (Some(address), None),
            Err(why) => (None, Some(format!("NOTIFY_SOCKET is {}: {why}", name.to_string_lossy()))),
        };
        let number =
            |name: &str| env::var(name).ok().and_then(|text| text.parse::<u64>().ok()).filter(|&value| value > 0);
        let for_us = env::var("WATCHDOG_PID").map_or(true, |pid| pid == std::process::id().to_string());
        let period = number("WATCHDOG_USEC").filter(|_| for_us && address.is_some());
        let now = Moment::now();
        let watchdog = period.map(|period| Watchdog {
            period: Duration::from_micros(period) / 2,
            next: now,
            answered: now,
            answering: true,
        });
        let stores = address.is_some() && number("FDSTORE").is_some();
        Notify { address, watchdog, stores, unheard, ..Notify::default() }
    }

    /// Whether anybody listens.
    pub fn is_heard(&self) -> bool {
        self.address.is_some()
    }

    /// A generation serves: said with the next [`Notify::tell`].
    pub fn ready(&mut self) {
        (self.ready, self.reloading, self.serves, self.remark) = (true, false, true, None);
    }

    /// What began has failed, and the site goes on as before. It does not if the first generation has failed.
    pub fn not_reloaded(&mut self, what: &str) {
        if self.reloading {
            self.taken_back(what);
        }
    }

    /// The same of a canary, whose reload was over for a manager when it began to serve.
    pub fn taken_back(&mut self, what: &str) {
        if self.serves {
            self.ready();
            self.remark = Some(what.into());
        }
    }

    /// A reload or an upgrade begins; ends with [`Notify::ready`] or [`Notify::not_reloaded`].
    pub fn reloading(&mut self) {
        self.reloading = true;
        self.send(&format!("RELOADING=1\nMONOTONIC_USEC={}\nSTATUS=reloading", microseconds()), None);
    }

    /// This executable goes on where another has begun a reload.
    pub fn resumed(&mut self) {
        (self.reloading, self.serves) = (true, true);
    }

    /// The end begins.
    pub fn stopping(&mut self) {
        self.serves = false;
        self.send("STOPPING=1\nSTATUS=stopping", None);
    }

    /// The start has come to nothing. This is what stays to be seen of it.
    pub fn failed(&mut self, failure: &Failure) {
        let status = first_line(&failure.message);
        self.send(&format!("STATUS={status}"), None);
    }

    /// One line of what the site is doing, if it is news.
    pub fn tell(&mut self, standing: &str) {
        let status = match &self.remark {
            Some(remark) => first_line(&format!("{standing}; {remark}")),
            None => first_line(standing),
        };
        if self.ready {
            self.ready = false;
            self.send(&format!("READY=1\nMAINPID={}\nSTATUS={status}", std::process::id()), None);
        } else if status != self.status {
            self.send(&format!("STATUS={status}"), None);
        }
        self.status = status;
    }

    /// Whether a generation serves, and goes on to.
    pub fn serves(&self) -> bool {
        self.serves
    }

    /// Gives systemd a copy of a listening socket, which comes back after a crash or a restart. Whether it takes any.
    pub fn store(&mut self, listener: ListenerId, socket: BorrowedFd) -> bool {
        let copy = self.stores.then(|| socket.try_clone_to_owned().ok()).flatten();
        let kept = copy.is_some();
        if kept {
            self.send(&format!("FDSTORE=1\nFDNAME={STORED}{}", listener.0), copy);
        }
        kept
    }

    /// Has systemd close its copy.
    pub fn give_up(&mut self, listener: ListenerId) {
        self.send(&format!("FDSTOREREMOVE=1\nFDNAME={STORED}{}", listener.0), None);
    }

    /// When [`Notify::alive`] has to be called.
    pub fn deadline(&self) -> Option<Moment> {
        match self.unsent.is_empty() {
            true => self.watchdog.as_ref().map(|watchdog| watchdog.next),
            false => Some(Moment::now() + BETWEEN_TRIES),
        }
    }

    /// Tells that the site lives, if it is time, and what waits to be told. While no worker answers, the time in which systemd waits
    /// for this runs on: one that is replaced by then makes no restart necessary. Whether that is told no more.
    pub fn alive(&mut self, now: Moment, answering: bool) -> bool {
        self.flush();
        let Some(watchdog) = &mut self.watchdog else { return false };
        if std::mem::replace(&mut watchdog.answering, answering) {
            watchdog.answered = now;
        }
        if watchdog.next > now {
            return false;
        }
        watchdog.next = now + watchdog.period;
        let lives = now - watchdog.answered < watchdog.period;
        if lives {
            self.send("WATCHDOG=1", None);
        }
        !lives
    }

    /// Why nobody hears what is told, once.
    pub fn unheard(&mut self) -> Option<String> {
        self.unheard.take()
    }

    fn send(&mut self, text: &str, descriptor: Option<OwnedFd>) {
        if self.unsent.len() == MOST_UNSENT {
            self.unsent.pop_front();
        }
        self.unsent.push_back((text.to_owned(), descriptor));
        self.flush();
    }

    fn flush(&mut self) {
        let Some(address) = &self.address else { return self.unsent.clear() };
        while let Some((text, descriptor)) = self.unsent.front() {
            match deliver(address, text, descriptor.as_ref()) {
                Err(error) if error.kind() == ErrorKind::WouldBlock => return,
                Err(error) => {
                    let name = env::var_os("NOTIFY_SOCKET").unwrap_or_default();
                    self.unheard = Some(format!("NOTIFY_SOCKET is {}: {}", name.to_string_lossy(), words(&error)));
                    (self.address, self.watchdog, self.stores) = (None, None, false);
                    return self.unsent.clear();
                }
                Ok(()) => drop(self.unsent.pop_front()),
            }
        }
    }
}

fn deliver(address: &SocketAddr, text: &str, descriptor: Option<&OwnedFd>) -> io::Result<()> {
    let socket = UnixDatagram::unbound()?;
    socket.connect_addr(address)?;
    let carried: Vec<BorrowedFd> = descriptor.into_iter().map(AsFd::as_fd).collect();
    channel::send(socket.as_fd(), text.as_bytes(), &carried)
}

fn address(path: &OsStr) -> Result<SocketAddr, String> {
    let made = match path.as_bytes() {
        [b'@', name @ ..] => SocketAddr::from_abstract_name(name),
        [b'/', ..] => SocketAddr::from_pathname(path),
        _ => return Err("expected a path, or a name behind an @".into()),
    };
    made.map_err(|error| words(&error))
}

/// What an exception says may have several lines, and each would be an assignment.
fn first_line(text: &str) -> String {
    text.lines().next().unwrap_or_default().to_owned()
}

/// systemd believes no RELOADING from before it asked, and counts microseconds.
fn microseconds() -> u128 {
    clock_gettime(ClockId::CLOCK_MONOTONIC).map_or(0, |now| Duration::from(now).as_micros())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_watchdog_is_not_fed_while_no_worker_answers() {
        let period = Duration::from_secs(2);
        let at = |seconds: u64| Moment(1000 * seconds);
        let watchdog = Watchdog { period, next: at(0), answered: at(0), answering: true };
        let mut notify = Notify { watchdog: Some(watchdog), ..Notify::default() };
        let mut silent = |seconds, answering| notify.alive(at(seconds), answering);
        assert!(!silent(0, true));
        // All have frozen since the last turn of the loop: they have answered until then.
        assert!(!silent(1, false));
        assert!(!silent(2, false));
        assert!(silent(4, false), "systemd has heard of it 2 s ago, and waits for 2 s more");
        assert!(!silent(5, true));
        assert!(!silent(6, false));
    }
}
