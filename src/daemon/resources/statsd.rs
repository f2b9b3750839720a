//! The way to a statsd: datagrams by UDP or to a Unix socket. Nobody waits for it: what it does not take is lost, a name is looked up by
//! a child, and the log says once that nothing arrives, and once that it does again.

use std::{
    io,
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, ToSocketAddrs, UdpSocket},
    os::{
        fd::{AsRawFd, OwnedFd},
        unix::net::UnixDatagram,
    },
    path::Path,
    time::Duration,
};

use nix::sys::socket::{MsgFlags, send};
use slog::{Logger, info, warn};

use crate::{
    exit::words,
    settings::Address,
    sys::{clock::Moment, errand::Errand, names::Place},
};

/// A name may lead elsewhere after this time.
const BETWEEN_LOOK_UPS: Duration = Duration::from_secs(60);
/// How long one look-up may take.
const LOOKING_UP: Duration = Duration::from_secs(30);
/// UDP tells of a closed port only with the next datagram, and then no more. So it takes some in a row to say that they arrive.
const CLEAN: u32 = 3;

/// The way.
#[derive(Debug)]
pub struct Sender {
    address: Address,
    /// Connected; none before a name is looked up, and while a Unix socket is not there.
    socket: Option<OwnedFd>,
    look_up: Option<Errand>,
    next_look_up: Option<Moment>,
    /// The log was told that nothing arrives.
    failing: bool,
    clean: u32,
}

impl Sender {
    /// Opens nothing yet.
    pub fn new(address: Address, now: Moment) -> Sender {
        let is_name = matches!(&address, Address::Tcp(host, _) if host.parse::<IpAddr>().is_err());
        let next_look_up = is_name.then_some(now);
        Sender { address, socket: None, look_up: None, next_look_up, failing: false, clean: 0 }
    }

    /// Whether there is anywhere to send to.
    pub fn is_open(&mut self, now: Moment, log: &Logger) -> bool {
        self.begin_look_up(now, log);
        if self.socket.is_none() && self.next_look_up.is_none() {
            let opened = match &self.address {
                Address::Unix(path) => unix(path),
                Address::Tcp(host, port) => {
                    host.parse().map_err(io::Error::other).and_then(|ip| udp(SocketAddr::new(ip, *port)))
                }
                _ => Err(io::ErrorKind::Unsupported.into()),
            };
            match opened {
                Ok(socket) => self.socket = Some(socket),
                Err(error) => self.failed(&words(&error), log),
            }
        }
        self.socket.is_some()
    }

    /// Sends each of them, without waiting.
    pub fn send(&mut self, datagrams: &[Vec<u8>], log: &Logger) {
        let Some(socket) = &self.socket else { return };
        let flags = MsgFlags::MSG_DONTWAIT | MsgFlags::MSG_NOSIGNAL;
        let sent = datagrams.iter().map(|datagram| send(socket.as_raw_fd(), datagram, flags).map(drop));
        match sent.fold(Ok(()), Result::and) {
            Ok(()) => {
                self.clean = self.clean.saturating_add(1);
                if self.failing && self.clean >= CLEAN {
                    self.failing = false;
                    info!(log, "metrics sent again"; "address" => %self.address);
                }
            }
            Err(error) => {
                if matches!(self.address, Address::Unix(_)) {
                    // Another socket may be there by now.
                    self.socket = None;
                }
                self.failed(&words(&error.into()), log);
            }
        }
    }

    fn failed(&mut self, why: &str, log: &Logger) {
        self.clean = 0;
        if !std::mem::replace(&mut self.failing, true) {
            warn!(log, "metrics not sent"; "address" => %self.address, "reason" => why);
        }
    }

    fn begin_look_up(&mut self, now: Moment, log: &Logger) {
        if let Some(errand) = self.look_up.as_mut().filter(|errand| errand.deadline <= now) {
            errand.give_up();
            errand.deadline = now + LOOKING_UP;
        }
        if self.look_up.is_some() || self.next_look_up.is_none_or(|next| now < next) {
            return;
        }
        let Address::Tcp(host, port) = self.address.clone() else { return };
        let look_up = move || (host.as_str(), port).to_socket_addrs().map(|mut all| all.next()).ok().flatten();
        self.next_look_up = Some(now + BETWEEN_LOOK_UPS);
        match Errand::begin(LOOKING_UP, look_up) {
            Ok(errand) => self.look_up = Some(errand),
            Err(error) => self.failed(&words(&error), log),
        }
    }

    /// Whether this is the process that looked up; it has ended. An address that was known stays in use until there is another.
    pub fn ended(&mut self, pid: i32, log: &Logger) -> bool {
        let Some(errand) = self.look_up.take_if(|errand| errand.pid == pid) else { return false };
        match errand.outcome::<Option<SocketAddr>>().flatten().map(udp) {
            Some(Ok(socket)) => self.socket = Some(socket),
            Some(Err(error)) => self.failed(&words(&error), log),
            None if self.socket.is_none() => self.failed("there is no such host", log),
            None => {}
        }
        true
    }
}

fn udp(to: SocketAddr) -> io::Result<OwnedFd> {
    let from: IpAddr = if to.is_ipv4() { Ipv4Addr::UNSPECIFIED.into() } else { Ipv6Addr::UNSPECIFIED.into() };
    let socket = UdpSocket::bind((from, 0))?;
    socket.connect(to)?;
    Ok(socket.into())
}

fn unix(path: &Path) -> io::Result<OwnedFd> {
    let place = Place::of(path).map_err(io::Error::other)?;
    let socket = UnixDatagram::unbound()?;
    socket.connect(place.for_calls())?;
    Ok(socket.into())
}
