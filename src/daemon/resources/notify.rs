//! Tells systemd how the master is doing: sd_notify(3), which is one datagram to the socket that NOTIFY_SOCKET names.
//! What it does not take at once waits here.

use std::{
    collections::VecDeque,
    env,
    ffi::OsStr,
    io::{self, ErrorKind},
    os::{
        linux::net::SocketAddrExt,
        unix::{
            ffi::OsStrExt,
            net::{SocketAddr, UnixDatagram},
        },
    },
    time::Duration,
};

use crate::sys::clock::Moment;

/// How often it is tried to send what waits.
const BETWEEN_TRIES: Duration = Duration::from_millis(100);
/// Only so much waits; the oldest goes first.
const MOST_UNSENT: usize = 16;

/// The service manager, if there is one.
#[derive(Debug, Default)]
pub struct Notify {
    socket: Option<(UnixDatagram, SocketAddr)>,
    /// How often systemd wants to hear that we live.
    watchdog: Option<Duration>,
    next: Option<Moment>,
    unsent: VecDeque<String>,
    /// Between [`Notify::reloading`] and what comes of it.
    reloading: bool,
}

impl Notify {
    /// As the environment says. The variables stay, for a master that takes our place.
    pub fn from_environment() -> Notify {
        let socket = env::var_os("NOTIFY_SOCKET").and_then(|path| Some((unbound().ok()?, address(&path)?)));
        let watchdog = env::var("WATCHDOG_USEC").ok().and_then(|text| text.parse().ok()).map(Duration::from_micros);
        let for_us = env::var("WATCHDOG_PID").map_or(true, |pid| pid == std::process::id().to_string());
        let watchdog =
            watchdog.filter(|period| for_us && socket.is_some() && !period.is_zero()).map(|period| period / 2);
        Notify { socket, watchdog, next: watchdog.map(|_| Moment::now()), unsent: VecDeque::new(), reloading: false }
    }

    /// A generation serves.
    pub fn ready(&mut self, status: &str) {
        self.reloading = false;
        // What an exception says may have several lines, and each would be an assignment.
        let status = status.lines().next().unwrap_or_default();
        self.send(&format!("READY=1\nMAINPID={}\nSTATUS={status}", std::process::id()));
    }

    /// What began has failed, and the site goes on as before. It does not if the first generation has failed.
    pub fn not_reloaded(&mut self, what: &str) {
        if self.reloading {
            self.ready(&format!("the previous generation serves; {what}"));
        }
    }

    /// A reload or an upgrade begins; ends with [`Notify::ready`] or [`Notify::not_reloaded`].
    pub fn reloading(&mut self) {
        self.reloading = true;
        self.send(&format!("RELOADING=1\nMONOTONIC_USEC={}\nSTATUS=reloading", Moment::now().0 * 1000));
    }

    /// The end begins.
    pub fn stopping(&mut self) {
        self.send("STOPPING=1\nSTATUS=stopping");
    }

    /// When [`Notify::alive`] has to be called.
    pub fn deadline(&self) -> Option<Moment> {
        match self.unsent.is_empty() {
            true => self.next,
            false => Some(Moment::now() + BETWEEN_TRIES),
        }
    }

    /// Tells that the master still turns, if it is time, and what waits to be told.
    pub fn alive(&mut self, now: Moment) {
        self.flush();
        if let (Some(period), Some(next)) = (self.watchdog, self.next)
            && next <= now
        {
            self.send("WATCHDOG=1");
            self.next = Some(now + period);
        }
    }

    fn send(&mut self, text: &str) {
        if self.unsent.len() == MOST_UNSENT {
            self.unsent.pop_front();
        }
        self.unsent.push_back(text.to_owned());
        self.flush();
    }

    /// A failure is ignored: there is nobody else to tell.
    fn flush(&mut self) {
        let Some((socket, address)) = &self.socket else { return self.unsent.clear() };
        while let Some(text) = self.unsent.front() {
            match socket.send_to_addr(text.as_bytes(), address) {
                Err(error) if error.kind() == ErrorKind::WouldBlock => return,
                _ => drop(self.unsent.pop_front()),
            }
        }
    }
}

fn unbound() -> io::Result<UnixDatagram> {
    let socket = UnixDatagram::unbound()?;
    socket.set_nonblocking(true)?;
    Ok(socket)
}

fn address(path: &OsStr) -> Option<SocketAddr> {
    match path.as_bytes() {
        [b'@', name @ ..] => SocketAddr::from_abstract_name(name).ok(),
        _ => SocketAddr::from_pathname(path).ok(),
    }
}
