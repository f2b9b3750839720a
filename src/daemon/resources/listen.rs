//! The listening sockets: bound before a generation that wants them boots, shared by all that do, closed when none does.

use std::{
    io,
    net::{IpAddr, Ipv4Addr, SocketAddr, ToSocketAddrs},
    os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd},
    path::Path,
};

use nix::sys::{
    socket::{SockaddrStorage, getsockname, getsockopt, sockopt},
    stat::Mode,
};
use ostler_wire::{Listener, Protocol};
use serde::{Deserialize, Serialize};
use socket2::{Domain, SockAddr, Socket, Type};

use super::unix_socket::{self, SocketFile};
use crate::{
    exit::{Exit, Failure, words},
    settings::{Address, Settings},
    sys::{descriptors, diag},
};

/// A bound socket, as the performer numbers them.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct ListenerId(pub u32);

/// All sockets that are bound.
#[derive(Debug, Default)]
pub struct Listeners {
    bound: Vec<Bound>,
    /// Came back from systemd's store, and nobody has asked for them yet.
    stored: Vec<Stored>,
    /// Were passed by systemd, by their numbers then, and no address names them at present.
    spare: Vec<(i32, OwnedFd)>,
    /// The numbers of all that it passed: it holds them as well, so that nobody is refused while they are spare.
    passed: Vec<i32>,
    next: u32,
}

/// A socket that an ostler before us has bound, and that has listened ever since.
#[derive(Debug)]
struct Stored {
    id: ListenerId,
    socket: OwnedFd,
}

/// One bound socket. Its file goes with it.
#[derive(Debug)]
pub struct Bound {
    /// As the state machine knows it.
    pub id: ListenerId,
    /// As the settings name it.
    pub address: Address,
    /// The socket.
    pub socket: OwnedFd,
    /// As workers are told.
    pub told: Listener,
    /// The socket's file, if we made it.
    pub file: Option<SocketFile>,
    /// How many connections may wait in its queue.
    pub room: Option<u32>,
    /// systemd has a copy, so that it outlives us. Then its file does, too.
    pub stored: bool,
}

impl Listeners {
    /// Those that were bound before an upgrade.
    pub fn reclaimed(bound: Vec<Bound>) -> Listeners {
        let next = bound.iter().map(|bound| bound.id.0 + 1).max().unwrap_or(0);
        Listeners { bound, next, ..Listeners::default() }
    }

    /// Takes what was inherited out of the way of the descriptors that mean something to us.
    pub fn adopt(&mut self, settings: &Settings) -> Result<(), Failure> {
        for &(number, id) in &settings.passed.stored {
            // One that does not listen any more is bound anew.
            if let Ok(socket) = descriptors::inherited_listener(number) {
                self.stored.push(Stored { id: ListenerId(id), socket });
            }
            self.next = self.next.max(id.saturating_add(1));
        }
        let addresses = settings.addresses()?;
        let mut inherited = addresses.iter().filter(|(address, _)| matches!(address, Address::Inherited(_)));
        inherited.try_for_each(|(address, protocol)| self.open_one(address, *protocol, settings).map(drop))?;
        self.passed = settings.passed.sockets.iter().map(|&(number, _)| number).collect();
        let named = |number: i32| addresses.iter().any(|(address, _)| *address == Address::Inherited(number));
        let spare = self.passed.iter().copied().filter(|&number| !named(number));
        self.spare = spare.filter_map(|number| Some((number, descriptors::inherited_listener(number).ok()?))).collect();
        Ok(())
    }

    /// Binds what is not bound yet. All or nothing.
    pub fn open(&mut self, settings: &Settings) -> Result<Vec<ListenerId>, Failure> {
        let before = self.bound.len();
        let addresses = settings.addresses()?;
        let opened: Result<Vec<ListenerId>, Failure> =
            addresses.iter().map(|(address, protocol)| self.open_one(address, *protocol, settings)).collect();
        if opened.is_err() {
            self.bound.truncate(before);
        }
        opened
    }

    fn open_one(&mut self, address: &Address, protocol: Protocol, settings: &Settings) -> Result<ListenerId, Failure> {
        let is_it = |bound: &&Bound| bound.address == *address && bound.told.protocol == protocol;
        // Somebody may have removed a socket's file: no client reaches that socket any more.
        let is_there = |bound: &&Bound| bound.file.as_ref().is_none_or(SocketFile::is_there);
        if let Some(bound) = self.bound.iter().filter(is_it).find(is_there) {
            return Ok(bound.id);
        }
        if let Some(mut bound) = self.take_stored(address, settings) {
            bound.told = bound.told.clone().speaking(protocol);
            let id = bound.id;
            self.bound.push(bound);
            return Ok(id);
        }
        if let Some(other) = self.bound.iter().filter(|bound| bound.address == *address).find(is_there)
            && !matches!(address, Address::Tcp(_, 0))
        {
            let why = format!("this ostler listens there as {}; a restart changes what is spoken", other.told.name);
            return Err(Failure::new(Exit::Bind, format!("could not bind {address}: {why}")));
        }
        let (socket, told, file) = match address {
            Address::Tcp(host, port) => {
                bind_tcp(host, *port, settings).map_err(|failure| self.held_by_us(*port, failure))?
            }
            Address::Unix(path) => bind_unix(path, settings)?,
            Address::Abstract(name) => bind_abstract(name, settings.backlog)?,
            Address::Inherited(number) => {
                let spare = self.spare.iter().position(|(spare, _)| spare == number);
                adopt(*number, spare.map(|place| self.spare.remove(place).1))?
            }
            Address::Passed(_) => unreachable!("Settings::addresses has put numbers in its place"),
        };
        let id = ListenerId(self.next);
        self.next += 1;
        self.bound.push(Bound::new(id, address.clone(), socket, told.speaking(protocol), file));
        Ok(id)
    }

    /// A port of one address may stand in the way of the same port of all addresses, and ours must not be let go of before the
    /// generation that uses it.
    fn held_by_us(&self, port: u16, failure: Failure) -> Failure {
        let ours = self.bound.iter().find(|bound| port != 0 && bound.told.port == Some(port));
        match ours {
            Some(ours) => {
                let held_by_us = format!("This ostler listens at {}; a restart moves it.", ours.told.name);
                Failure::new(failure.exit, failure.message.replace(HELD_BY_ANOTHER, &held_by_us))
            }
            None => failure,
        }
    }

    /// Makes a socket anew that an application has shut down: the same address under the same number. One that was inherited can only
    /// be told to listen again. Where the address is not free, a socket that listens nowhere takes the old one's place: once everybody
    /// has let go of that, it can be tried again.
    pub fn mend(&mut self, id: ListenerId, settings: &Settings) -> Result<(), Failure> {
        let Some(bound) = self.bound.iter_mut().find(|bound| bound.id == id) else { return Ok(()) };
        let lost = |error: io::Error| Failure::new(Exit::Bind, words(&error));
        if let Some(file) = bound.file.take() {
            file.remove();
        }
        let again = match &bound.address {
            Address::Tcp(..) => told_address(&bound.told)
                .and_then(|address| listen_on(address, settings))
                .map(|socket| (socket.into(), None))
                .map_err(lost),
            Address::Unix(path) => bind_unix(path, settings).map(|(socket, _, file)| (socket, file)),
            Address::Abstract(name) => bind_abstract(name, settings.backlog).map(|(socket, _, file)| (socket, file)),
            Address::Inherited(_) | Address::Passed(_) => {
                return socket2::SockRef::from(&bound.socket).listen(settings.backlog).map_err(lost);
            }
        };
        match again {
            Ok((socket, file)) => {
                descriptors::forbid_filters(socket.as_fd());
                (bound.socket, bound.file, bound.stored) = (socket, file, false);
                Ok(())
            }
            Err(failure) => {
                bound.socket =
                    Socket::new(Domain::UNIX, Type::STREAM.nonblocking().cloexec(), None).map_err(lost)?.into();
                Err(failure)
            }
        }
    }

    /// The socket of an address, if it came back from systemd's store.
    fn take_stored(&mut self, address: &Address, settings: &Settings) -> Option<Bound> {
        let found = self.stored.iter().enumerate().find_map(|(place, stored)| {
            let socket = stored.socket.as_fd();
            match address {
                Address::Tcp(host, port) => {
                    let wanted = resolve(host, *port, &settings.hosts).ok()?;
                    let told = tell(socket).ok()?;
                    let without_v6 = || host.is_empty() && told.name == format!("http://0.0.0.0:{port}");
                    let host = if host.is_empty() { told.host.clone() } else { host.clone() };
                    let is_it = *port != 0 && (told.name == format!("http://{wanted}") || without_v6());
                    is_it.then_some((place, Listener { host, ..told }, None))
                }
                Address::Unix(path) => {
                    let file = SocketFile::of(path).filter(|file| diag::has_file(socket, file.inode()))?;
                    let name = path.display().to_string();
                    Some((place, Listener::http(format!("unix:{name}"), name, None), Some(file)))
                }
                Address::Abstract(name) => {
                    let told = tell(socket).ok()?;
                    (told.name == format!("unix:@{name}")).then_some((place, told, None))
                }
                Address::Inherited(_) | Address::Passed(_) => None,
            }
        });
        let (place, told, file) = found?;
        let Stored { id, socket } = self.stored.remove(place);
        // --backlog may be another by now. The queue stays as it is.
        let _ = socket2::SockRef::from(&socket).listen(settings.backlog);
        let mut bound = Bound::new(id, address.clone(), socket, told, file);
        bound.stored = true;
        Some(bound)
    }

    /// Closes those that are not used any more. `for_good`: their addresses are given up, and not only by this process.
    /// Returns those of which systemd has a copy that it is to close then.
    pub fn keep(&mut self, for_good: bool, used: impl Fn(ListenerId) -> bool) -> Vec<ListenerId> {
        let mut given_up = Vec::new();
        self.bound.retain_mut(|bound| {
            if !used(bound.id) && for_good {
                given_up.extend(std::mem::take(&mut bound.stored).then_some(bound.id));
                // A later reload may name it again.
                if let (Address::Inherited(number), Ok(copy)) = (&bound.address, bound.socket.try_clone())
                    && self.passed.contains(number)
                {
                    self.spare.push((*number, copy));
                }
            }
            used(bound.id)
        });
        given_up
    }

    /// Those of the store that no address has asked for are not used any more.
    pub fn give_up_stored(&mut self) -> Vec<ListenerId> {
        self.stored.drain(..).map(|stored| stored.id).collect()
    }

    /// Those that we have bound, for systemd to keep.
    pub fn own_mut(&mut self) -> impl Iterator<Item = &mut Bound> {
        self.bound.iter_mut().filter(|bound| !matches!(bound.address, Address::Inherited(_)))
    }

    /// What there is under a number.
    pub fn at(&self, id: ListenerId) -> Option<&Bound> {
        self.bound.iter().find(|bound| bound.id == id)
    }

    /// All of them.
    pub fn iter(&self) -> impl Iterator<Item = &Bound> {
        self.bound.iter()
    }
}

impl Bound {
    /// A new one. No process can attach a filter to its socket from now on.
    pub fn new(id: ListenerId, address: Address, socket: OwnedFd, told: Listener, file: Option<SocketFile>) -> Bound {
        descriptors::forbid_filters(socket.as_fd());
        let room = diag::queue(socket.as_fd()).map(|(_, room)| room);
        Bound { id, address, socket, told, file, room, stored: false }
    }
}

impl Bound {
    /// Whether it ends with us. One that was passed to us, or of which systemd has a copy, lives on, and so do the clients in its queue.
    pub fn is_ours(&self) -> bool {
        !matches!(self.address, Address::Inherited(_)) && !self.stored
    }

    /// Whether it still listens, and where we have bound it: a socket that was shut down can be bound or connected elsewhere.
    pub fn listens(&self) -> bool {
        let there =
            || tell(self.socket.as_fd()).is_ok_and(|told| told.speaking(self.told.protocol).name == self.told.name);
        getsockopt(&self.socket, sockopt::AcceptConn).is_ok_and(|listens| listens)
            && (self.told.port.is_none() || there())
    }
}

impl Drop for Bound {
    fn drop(&mut self) {
        if let Some(file) = self.file.as_ref().filter(|_| !self.stored) {
            file.remove();
        }
    }
}

/// Of a port that is in use.
const HELD_BY_ANOTHER: &str = "Another process listens there; `ss -ltnp` shows which.";

type Opened = (OwnedFd, Listener, Option<SocketFile>);

fn bind_tcp(host: &str, port: u16, settings: &Settings) -> Result<Opened, Failure> {
    let typed = if host.contains(':') { format!("[{host}]:{port}") } else { format!("{host}:{port}") };
    let not_bound = |error: io::Error| {
        let mut text = format!("could not bind {typed}: {}", words(&error));
        match error.kind() {
            io::ErrorKind::PermissionDenied if port < 1024 => text += ". Ports below 1024 need CAP_NET_BIND_SERVICE.",
            io::ErrorKind::AddrInUse => text = format!("{text}. {HELD_BY_ANOTHER}"),
            io::ErrorKind::AddrNotAvailable => text += ". No interface of this machine has that address.",
            _ => {}
        }
        Failure::new(Exit::Bind, text)
    };
    let address = resolve(host, port, &settings.hosts).map_err(not_bound)?;
    let socket = match listen_on(address, settings) {
        // A machine without IPv6 has all of its addresses in IPv4.
        Err(error) if host.is_empty() && has_no_v6(&error) => {
            listen_on((Ipv4Addr::UNSPECIFIED, port).into(), settings).map_err(not_bound)?
        }
        listens => listens.map_err(not_bound)?,
    };
    let bound = socket.local_addr().ok().and_then(|bound| bound.as_socket()).unwrap_or(address);
    let host = if host.is_empty() { bound.ip().to_string() } else { host.to_owned() };
    Ok((socket.into(), Listener::http(format!("http://{bound}"), host, Some(bound.port())), None))
}

/// The addresses of all names of hosts. To look them up may wait for other machines.
pub fn look_up(binds: &[Address]) -> Vec<(String, Vec<IpAddr>)> {
    let names = binds.iter().filter_map(|address| match address {
        Address::Tcp(host, _) if !host.is_empty() && host.parse::<IpAddr>().is_err() => Some(host),
        _ => None,
    });
    let found = |host: &str| (host, 0).to_socket_addrs().map(|all| all.map(|address| address.ip()).collect());
    names.map(|host| (host.clone(), found(host).unwrap_or_default())).collect()
}

fn told_address(told: &Listener) -> io::Result<SocketAddr> {
    let at = told.name.split_once("://").map_or(told.name.as_str(), |(_, at)| at);
    at.parse().map_err(io::Error::other)
}

/// A name stands for its first IPv4 address, if it has one.
fn resolve(host: &str, port: u16, known: &[(String, Vec<IpAddr>)]) -> io::Result<SocketAddr> {
    let host = if host.is_empty() { "::" } else { host };
    let known = known.iter().find(|(name, _)| name == host).map(|(_, all)| all);
    let all: Vec<SocketAddr> = match known.map_or_else(
        || (host, port).to_socket_addrs().map(Iterator::collect),
        |all| Ok(all.iter().map(|&ip| SocketAddr::new(ip, port)).collect()),
    ) {
        Ok(all) => all,
        Err(error) if error.raw_os_error().is_some() => return Err(error),
        Err(_) => Vec::new(),
    };
    let first = all.iter().find(|address| address.is_ipv4()).or(all.first());
    first.copied().ok_or_else(|| io::Error::other("there is no host of that name"))
}

fn has_no_v6(error: &io::Error) -> bool {
    matches!(error.raw_os_error(), Some(libc::EAFNOSUPPORT | libc::EADDRNOTAVAIL))
}

/// All IPv6 addresses are all IPv4 addresses, too, unless those are bound beside it.
fn listen_on(address: SocketAddr, settings: &Settings) -> io::Result<Socket> {
    let socket = Socket::new(Domain::for_address(address), Type::STREAM.nonblocking().cloexec(), None)?;
    socket.set_reuse_address(true)?;
    if address.is_ipv6() {
        let beside = |other: &Address| *other == Address::Tcp(Ipv4Addr::UNSPECIFIED.to_string(), address.port());
        socket.set_only_v6(!address.ip().is_unspecified() || settings.binds.iter().any(beside))?;
    }
    socket.bind(&address.into())?;
    socket.listen(settings.backlog)?;
    Ok(socket)
}

/// A name beside the file system, which ends with the socket (unix(7)). Every process of this machine may connect.
fn bind_abstract(name: &str, backlog: i32) -> Result<Opened, Failure> {
    let bound = || {
        let socket = Socket::new(Domain::UNIX, Type::STREAM.nonblocking().cloexec(), None)?;
        socket.bind(&SockAddr::unix(format!("\0{name}"))?)?;
        socket.listen(backlog)?;
        Ok(socket)
    };
    let failed = |error: io::Error| Failure::new(Exit::Bind, format!("could not bind unix:@{name}: {}", words(&error)));
    let told = Listener::http(format!("unix:@{name}"), format!("@{name}"), None);
    Ok((bound().map_err(failed)?.into(), told, None))
}

fn bind_unix(path: &Path, settings: &Settings) -> Result<Opened, Failure> {
    let failed = |why: String| Failure::new(Exit::Bind, format!("could not bind unix:{}: {why}", path.display()));
    let mask = Mode::from_bits_truncate(!settings.socket_mode & 0o777);
    let owner = settings.identity.as_ref().map(|owner| (owner.user, owner.group)).unzip();
    let (socket, file) = unix_socket::bind(path, Type::STREAM, settings.backlog, mask, owner).map_err(failed)?;
    let name = path.display().to_string();
    Ok((socket.into(), Listener::http(format!("unix:{name}"), name, None), Some(file)))
}

fn adopt(number: i32, spare: Option<OwnedFd>) -> Result<Opened, Failure> {
    let failed = |error: io::Error| {
        let text = format!("could not listen on fd://{number}: {}", words(&error));
        Failure::new(Exit::Bind, text)
    };
    let socket = spare.map_or_else(|| descriptors::inherited_listener(number), Ok).map_err(failed)?;
    descriptors::nonblocking(socket.as_fd()).map_err(failed)?;
    let told = tell(socket.as_fd()).map_err(failed)?;
    Ok((socket, told, None))
}

fn tell(socket: BorrowedFd) -> io::Result<Listener> {
    let address: SockaddrStorage = getsockname(socket.as_raw_fd())?;
    let internet = match (address.as_sockaddr_in(), address.as_sockaddr_in6()) {
        (Some(v4), _) => Some(SocketAddr::V4((*v4).into())),
        (_, Some(v6)) => Some(SocketAddr::V6((*v6).into())),
        _ => None,
    };
    Ok(match internet {
        Some(address) => Listener::http(format!("http://{address}"), address.ip().to_string(), Some(address.port())),
        None => {
            let unix = address.as_unix_addr();
            let hidden = || Some(format!("@{}", String::from_utf8_lossy(unix?.as_abstract()?)));
            let path = unix.and_then(|unix| unix.path()).map(|path| path.display().to_string());
            let path = path.or_else(hidden).unwrap_or_default();
            Listener::http(format!("unix:{path}"), path, None)
        }
    })
}
