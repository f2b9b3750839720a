//! The exchange: where connections go that should move, and where they are taken by whoever is free.
//!
//! A packet is `listener name \0 client address \0 bytes read`, with the connection's descriptor beside it.

use std::{
    io,
    net::SocketAddr,
    os::fd::{AsFd, BorrowedFd, OwnedFd},
};

use ostler_wire::channel;

/// Only so many bytes may have been read of a connection that moves.
pub(crate) const LARGEST: usize = 64 * 1024;

/// The largest packet.
pub(crate) const PACKET: usize = LARGEST + 4096;

/// Both ends of the exchange, shared by all workers of all generations.
pub(crate) struct Exchange {
    give: OwnedFd,
    take: OwnedFd,
}

/// A connection on its way.
pub(crate) struct Moved {
    pub socket: OwnedFd,
    /// As in [`ostler_wire::Listener::name`]: another generation may count its listeners otherwise.
    pub listener: String,
    /// The client's address, as in [`crate::connection::Connection::address`]: the socket of one that has left says none.
    pub address: Option<SocketAddr>,
    pub bytes: Vec<u8>,
}

impl Exchange {
    pub fn new(give: OwnedFd, take: OwnedFd) -> io::Result<Exchange> {
        for end in [&give, &take] {
            socket2::SockRef::from(end).set_nonblocking(true)?;
        }
        Ok(Exchange { give, take })
    }

    /// Readable while a connection waits.
    pub fn taking(&self) -> BorrowedFd<'_> {
        self.take.as_fd()
    }

    /// Puts a connection there; `false` while it is full.
    pub fn give(&self, socket: BorrowedFd, listener: &str, address: &str, bytes: &[u8]) -> io::Result<bool> {
        let mut packet = Vec::with_capacity(listener.len() + address.len() + 2 + bytes.len());
        for part in [listener.as_bytes(), b"\0", address.as_bytes(), b"\0", bytes] {
            packet.extend_from_slice(part);
        }
        match channel::send(self.give.as_fd(), &packet, &[socket]) {
            Ok(()) => Ok(true),
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => Ok(false),
            // ETOOMANYREFS: too many descriptors are under way.
            Err(error) if error.raw_os_error() == Some(nix::libc::ETOOMANYREFS) => Ok(false),
            Err(error) => Err(error),
        }
    }

    /// Takes one; `None` if there is none. `scratch` has room for [`PACKET`] bytes.
    pub fn take(&self, scratch: &mut [u8]) -> io::Result<Option<Moved>> {
        let (length, descriptors) = match channel::receive(self.take.as_fd(), scratch) {
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(None),
            received => received?,
        };
        let mut parts = scratch[..length].splitn(3, |byte| *byte == 0);
        let mut text = || String::from_utf8_lossy(parts.next().unwrap_or_default()).into_owned();
        let (listener, address) = (text(), text().parse().ok());
        let bytes = parts.next().unwrap_or_default().to_vec();
        Ok(descriptors.into_iter().next().map(|socket| Moved { socket, listener, address, bytes }))
    }
}
