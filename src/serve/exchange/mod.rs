//! The exchange: workers put connections there that are to move, and workers that are free take them.
//!
//! It is one pair of sockets, whose two directions are two lanes. One lane has connections whose requests wait: each worker with
//! a free Python thread takes them, at once. The other lane has idle connections, many in a packet: each worker with room for them
//! takes them.
//!
//! A packet is [`VERSION`], the numbers of listeners and connections, the listeners' names, and a record for each connection. The
//! connections' descriptors are sent beside it (SCM_RIGHTS), in the same order. Numbers are little-endian. Each part is prefixed by
//! its length, so that a reader skips parts that it does not know at the end of a record. Any other change needs another
//! [`VERSION`], and with it another exchange.

pub(crate) mod handover;

use std::{
    io,
    net::SocketAddr,
    os::fd::{AsFd, BorrowedFd, OwnedFd},
};

use nix::sys::socket::MsgFlags;
use ostler_wire::{EXCHANGE_VERSION as VERSION, channel, meters::MoveReason};
use zeroize::Zeroizing;

use crate::transport::{Transport, TransportState};

/// The most bytes that may have been read of a connection that moves.
pub(crate) const LARGEST: usize = 64 * 1024;
/// The largest packet.
pub(crate) const PACKET: usize = LARGEST + 16 * 1024;
/// The most connections in one packet: few enough that a packet does not hold up its worker's requests, and that workers share them.
pub(crate) const MOST: usize = 32;
/// The send buffer of the lane for idle connections (the kernel doubles it): room for the largest packet, or for a few
/// milliseconds' work, so that no request waits for long while its connection moves.
const UNDER_WAY: usize = PACKET / 2 + 1024;

/// The flag of a connection whose PROXY header has not come yet. In the bits above it is its [`MoveReason`].
const PROXY_EXPECTED: u8 = 1;

/// Both lanes, shared by all workers of all generations whose packets have the same version.
pub(crate) struct Exchange {
    /// For connections whose requests wait.
    pub waiting: Lane,
    /// For idle connections.
    pub idle: Lane,
}

/// One direction of the exchange.
pub(crate) struct Lane {
    give: OwnedFd,
    take: OwnedFd,
}

/// What happened to a packet.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum GiveOutcome {
    Yes,
    /// Not sent: there is no room. The giving end becomes writable when there is.
    Full,
    /// Not sent: too many descriptors of this user are in flight (ETOOMANYREFS). The kernel does not report when that is over.
    TooMany,
}

/// A connection that moves.
#[derive(Debug)]
pub(crate) struct Moved {
    pub transport: Transport,
    /// As in [`ostler_wire::Listener::name`]: the index may differ in another generation.
    pub listener: String,
    /// The client's address, as in [`crate::connection::Connection::address`]. (A socket whose client has left does not tell it.)
    pub address: Option<SocketAddr>,
    /// The connection's PROXY header has not come yet.
    pub proxy_expected: bool,
    /// Why it moves.
    pub why: MoveReason,
    /// The bytes of its next request that were read already.
    pub bytes: Vec<u8>,
}

/// The content of a packet that was taken.
#[derive(Debug, Default)]
pub(crate) struct Taken {
    pub moved: Vec<Moved>,
    /// Connections that ended because this process has no room for their descriptors.
    pub lost: usize,
}

impl Exchange {
    pub fn new(give: OwnedFd, take: OwnedFd) -> io::Result<Exchange> {
        // Copies, because an epoll set can hold a descriptor only once.
        let idle = Lane { give: take.try_clone()?, take: give.try_clone()? };
        socket2::SockRef::from(&idle.give).set_send_buffer_size(UNDER_WAY)?;
        Ok(Exchange { waiting: Lane { give, take }, idle })
    }
}

impl Lane {
    /// Readable while a connection waits.
    pub fn taking(&self) -> BorrowedFd<'_> {
        self.take.as_fd()
    }

    /// Writable while there is room.
    pub fn giving(&self) -> BorrowedFd<'_> {
        self.give.as_fd()
    }

    /// Sends a packet.
    pub fn give(&self, packet: &Packet, sockets: &[BorrowedFd]) -> io::Result<GiveOutcome> {
        let flags = MsgFlags::MSG_NOSIGNAL | MsgFlags::MSG_DONTWAIT;
        match channel::send_with(self.give.as_fd(), &packet.bytes, sockets, flags) {
            Ok(()) => Ok(GiveOutcome::Yes),
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => Ok(GiveOutcome::Full),
            Err(error) if error.raw_os_error() == Some(nix::libc::ETOOMANYREFS) => Ok(GiveOutcome::TooMany),
            Err(error) => Err(error),
        }
    }

    /// Takes a packet's connections; `None` if there is no packet. `scratch` has room for [`PACKET`] bytes. A packet that cannot be
    /// parsed is an error, and its connections are closed.
    pub fn take(&self, scratch: &mut [u8]) -> io::Result<Option<Taken>> {
        let flags = MsgFlags::MSG_CMSG_CLOEXEC | MsgFlags::MSG_DONTWAIT;
        let (length, sockets) = match channel::receive_with(self.take.as_fd(), scratch, flags) {
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(None),
            received => received?,
        };
        // An empty packet, or an end that an application has shut down: no connection is lost.
        if length == 0 && sockets.is_empty() {
            return Ok(None);
        }
        read(&scratch[..length], sockets).map(Some)
    }
}

/// A packet that is being built.
#[derive(Default)]
pub(crate) struct Packet {
    /// Keys may be among them.
    bytes: Zeroizing<Vec<u8>>,
    pub connections: usize,
}

impl Packet {
    /// Names all listeners that its connections may come from.
    pub fn new<'l>(listeners: impl ExactSizeIterator<Item = &'l str>) -> Packet {
        let mut bytes = Zeroizing::new(Vec::with_capacity(1024));
        bytes.extend(VERSION.to_le_bytes());
        // The number of connections is filled in later.
        bytes.extend(0u16.to_le_bytes());
        bytes.extend((listeners.len() as u16).to_le_bytes());
        for name in listeners {
            part(&mut bytes, name.as_bytes());
        }
        Packet { bytes, connections: 0 }
    }

    /// Adds a connection; `false` if there is no room for it, and the packet is unchanged.
    pub fn add(
        &mut self,
        listener: u16,
        state: &[u8],
        address: Option<SocketAddr>,
        proxy_expected: bool,
        why: MoveReason,
        read: &[u8],
    ) -> bool {
        let mut record = Zeroizing::new(Vec::with_capacity(state.len() + read.len() + 128));
        record.extend(listener.to_le_bytes());
        record.extend_from_slice(state);
        let proxy = if proxy_expected { PROXY_EXPECTED } else { 0 };
        record.push(proxy | ((why as u8) << 1));
        part(&mut record, address.map(|address| address.to_string()).unwrap_or_default().as_bytes());
        part(&mut record, read);
        if self.connections == MOST || self.bytes.len() + record.len() + size_of::<u32>() > PACKET {
            return false;
        }
        self.make_room(record.len() + size_of::<u32>());
        part(&mut self.bytes, &record);
        self.connections += 1;
        self.bytes[2..4].copy_from_slice(&(self.connections as u16).to_le_bytes());
        true
    }

    /// A vector that grows by itself leaves its bytes behind in freed memory.
    fn make_room(&mut self, more: usize) {
        if self.bytes.capacity() - self.bytes.len() < more {
            let mut larger = Zeroizing::new(Vec::with_capacity((2 * self.bytes.len() + more).min(PACKET)));
            larger.extend_from_slice(&self.bytes);
            self.bytes = larger;
        }
    }
}

fn part(bytes: &mut Vec<u8>, part: &[u8]) {
    bytes.extend((part.len() as u32).to_le_bytes());
    bytes.extend(part);
}

fn read(packet: &[u8], sockets: Vec<OwnedFd>) -> io::Result<Taken> {
    let mut rest = packet;
    let version = take_number(&mut rest);
    if version != Some(VERSION) {
        return Err(closed(&sockets, &format!("a packet has version {version:?} where {VERSION} was expected")));
    }
    let Some(records) = records(&mut rest).filter(|records| records.len() >= sockets.len()) else {
        return Err(closed(&sockets, "a packet does not hold what it says"));
    };
    // If a process has no room for all descriptors, the kernel delivers only the first ones.
    let lost = records.len() - sockets.len();
    let moved = sockets.into_iter().zip(records).map(|(socket, record)| record.with(socket)).collect();
    Ok(Taken { moved, lost })
}

fn closed(sockets: &[OwnedFd], why: &str) -> io::Error {
    io::Error::other(format!("{why}, connections closed: {}", sockets.len()))
}

/// A connection without its socket.
struct Record<'p> {
    listener: &'p [u8],
    state: TransportState,
    flags: u8,
    address: Option<SocketAddr>,
    bytes: &'p [u8],
}

impl Record<'_> {
    fn with(self, socket: OwnedFd) -> Moved {
        Moved {
            transport: Transport::resume(socket, self.state),
            listener: String::from_utf8_lossy(self.listener).into_owned(),
            address: self.address,
            proxy_expected: self.flags & PROXY_EXPECTED != 0,
            why: MoveReason::of(self.flags >> 1),
            bytes: self.bytes.to_vec(),
        }
    }
}

fn records<'p>(rest: &mut &'p [u8]) -> Option<Vec<Record<'p>>> {
    let connections = take_number(rest)?;
    let listeners = take_number(rest)?;
    let listeners: Vec<_> = (0..listeners).map(|_| take_part(rest)).collect::<Option<_>>()?;
    (0..connections).map(|_| record(take_part(rest)?, &listeners)).collect()
}

fn record<'p>(mut record: &'p [u8], listeners: &[&'p [u8]]) -> Option<Record<'p>> {
    let listener = listeners.get(usize::from(take_number(&mut record)?))?;
    let state = TransportState::read(&mut record)?;
    let flags = *record.split_off_first()?;
    let address = str::from_utf8(take_part(&mut record)?).ok()?.parse().ok();
    Some(Record { listener, state, flags, address, bytes: take_part(&mut record)? })
}

fn take_number(rest: &mut &[u8]) -> Option<u16> {
    Some(u16::from_le_bytes(rest.split_off(..2)?.try_into().ok()?))
}

fn take_part<'p>(rest: &mut &'p [u8]) -> Option<&'p [u8]> {
    let length = u32::from_le_bytes(rest.split_off(..4)?.try_into().ok()?);
    rest.split_off(..length as usize)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn exchange() -> Exchange {
        let (give, take) = ostler_wire::Channel::pair().unwrap();
        Exchange::new(give.into(), take.into()).unwrap()
    }

    fn packet(connections: &[&[u8]]) -> Packet {
        let mut packet = Packet::new(["http://a", "http://b"].into_iter());
        connections
            .iter()
            .for_each(|read| assert!(packet.add(1, &[0], "[::1]:80".parse().ok(), true, MoveReason::Scale, read)));
        packet
    }

    /// Sockets whose peers are closed.
    fn sockets(count: usize) -> Vec<OwnedFd> {
        (0..count).map(|_| std::os::unix::net::UnixDatagram::unbound().unwrap().into()).collect()
    }

    fn give(lane: &Lane, packet: &Packet) -> GiveOutcome {
        let sockets = sockets(packet.connections);
        lane.give(packet, &sockets.iter().map(AsFd::as_fd).collect::<Vec<_>>()).unwrap()
    }

    #[test]
    fn connections_arrive_in_order_on_their_lane() {
        let exchange = exchange();
        let mut scratch = vec![0; PACKET];
        assert_eq!(give(&exchange.idle, &packet(&[b"", b"GET /"])), GiveOutcome::Yes);
        assert!(exchange.waiting.take(&mut scratch).unwrap().is_none());
        let moved = exchange.idle.take(&mut scratch).unwrap().unwrap().moved;
        assert_eq!(moved.iter().map(|each| &each.bytes[..]).collect::<Vec<_>>(), [&b""[..], b"GET /"]);
        assert!(
            moved
                .iter()
                .all(|each| each.listener == "http://b" && each.proxy_expected && each.why == MoveReason::Scale)
        );
        assert!(moved.iter().all(|each| each.address == "[::1]:80".parse().ok()));
        assert!(exchange.idle.take(&mut scratch).unwrap().is_none());
    }

    #[test]
    fn a_packet_has_limits() {
        let mut packet = packet(&[&[b'x'; LARGEST]]);
        assert!(!packet.add(0, &[0], None, false, MoveReason::Busy, &[b'y'; 16 * 1024]));
        assert!(
            (1..MOST).all(|_| packet.add(0, &[0], None, false, MoveReason::Busy, b""))
                && !packet.add(0, &[0], None, false, MoveReason::Busy, b"")
        );
        let exchange = exchange();
        assert_eq!(give(&exchange.idle, &packet), GiveOutcome::Yes);
        assert_eq!(exchange.idle.take(&mut vec![0; PACKET]).unwrap().unwrap().moved.len(), MOST);
    }

    #[test]
    fn a_reader_skips_unknown_parts() {
        let mut packet = packet(&[]);
        let mut record = 0u16.to_le_bytes().to_vec();
        record.extend([0, 0]);
        for known_and_not in [&b""[..], b"read", b"of later"] {
            part(&mut record, known_and_not);
        }
        part(&mut packet.bytes, &record);
        packet.bytes[2] = 1;
        packet.bytes.extend(b"more of later");
        let moved = read(&packet.bytes, sockets(1)).unwrap().moved;
        assert_eq!((&moved[0].bytes[..], moved[0].address), (&b"read"[..], None));
    }

    #[test]
    fn a_malformed_packet_is_an_error_that_counts_its_closed_connections() {
        let good = packet(&[b"read"]).bytes;
        for length in 0..good.len() {
            assert!(read(&good[..length], sockets(1)).is_err(), "{length}");
        }
        let why = |place: usize, byte: u8| {
            let mut packet = good.clone();
            packet[place] = byte;
            read(&packet, sockets(1)).unwrap_err().to_string()
        };
        assert!(why(0, 9).contains("version Some(9)") && why(0, 9).ends_with("connections closed: 1"));
        for place in [2, 4, 6] {
            assert!(why(place, 255).contains("does not hold what it says"), "{place}");
        }
        let kind = good.len() - "read".len() - 4 - "[::1]:80".len() - 4 - 2;
        assert!(why(kind, 1).contains("does not hold what it says"), "a kind that a later version adds");
    }

    #[test]
    fn connections_without_a_descriptor_are_counted() {
        let taken = read(&packet(&[b"first", b"second"]).bytes, sockets(1)).unwrap();
        assert_eq!((&taken.moved[0].bytes[..], taken.moved.len(), taken.lost), (&b"first"[..], 1, 1));
    }
}
