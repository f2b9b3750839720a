//! A client's connection as bytes. All reads, writes, questions and closes of a client's socket go through [`Transport`], so that
//! no caller needs to know how the bytes travel. Today they travel as they are; an encrypted transport (TLS) belongs here.
//!
//! Nothing here blocks, except [`Transport::wait`]: `None` means that the call would have blocked.

pub(crate) mod listener;

use std::{
    io::{self, IoSlice},
    os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd},
    time::Duration,
};

use nix::{
    errno::Errno,
    getsockopt_impl, libc,
    poll::{PollFd, PollFlags, PollTimeout, poll},
    sockopt_impl,
    sys::{
        epoll::{Epoll, EpollEvent},
        sendfile::sendfile64,
        socket::{self, MsgFlags, Shutdown, sockopt},
    },
};

/// The most bytes that one turn of the loop reads from a connection, or sends to it.
pub(crate) const TURN: usize = 256 * 1024;

/// A client's socket. The loop and the call of its request share it; it closes when both have dropped it.
#[derive(Debug)]
pub(crate) struct Transport {
    socket: OwnedFd,
}

/// Whether the peer is still there, as far as its socket tells.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum PeerState {
    There,
    /// It has sent FIN: it has left, or its request is complete.
    SendsNoMore,
    Gone,
}

impl Transport {
    /// Bytes travel as they are.
    pub fn plain(socket: OwnedFd) -> Transport {
        Transport { socket }
    }

    /// Receives what is there, up to the buffer's length; `Some(0)` at the peer's end.
    pub fn receive(&self, buffer: &mut [u8]) -> io::Result<Option<usize>> {
        unless_blocked(socket::recv(self.socket.as_raw_fd(), buffer, MsgFlags::MSG_DONTWAIT))
    }

    /// Whether there are bytes to receive.
    pub fn has_bytes(&self) -> bool {
        let flags = MsgFlags::MSG_DONTWAIT | MsgFlags::MSG_PEEK;
        matches!(socket::recv(self.socket.as_raw_fd(), &mut [0], flags), Ok(1..))
    }

    /// Waits until there are bytes to receive, or the peer has closed. Returns whether that happened within the bound (none: no limit).
    pub fn wait(&self, bound: Option<Duration>) -> io::Result<bool> {
        let mut descriptors = [PollFd::new(self.socket.as_fd(), PollFlags::POLLIN)];
        let wait = bound.map_or(PollTimeout::NONE, |bound| PollTimeout::try_from(bound).unwrap_or(PollTimeout::MAX));
        match poll(&mut descriptors, wait) {
            Ok(came) => Ok(came > 0),
            Err(Errno::EINTR) => Ok(true),
            Err(error) => Err(error.into()),
        }
    }

    /// Sends a prefix of `bytes`.
    pub fn send(&self, bytes: &[u8]) -> io::Result<Option<usize>> {
        let flags = MsgFlags::MSG_NOSIGNAL | MsgFlags::MSG_DONTWAIT;
        unless_blocked(socket::send(self.socket.as_raw_fd(), bytes, flags))
    }

    /// Sends a prefix of the parts, in their order.
    pub fn send_parts(&self, parts: &[&[u8]]) -> io::Result<Option<usize>> {
        if let [one] = parts {
            return self.send(one);
        }
        let slices: Vec<IoSlice> = parts.iter().map(|part| IoSlice::new(part)).collect();
        let flags = MsgFlags::MSG_NOSIGNAL | MsgFlags::MSG_DONTWAIT;
        unless_blocked(socket::sendmsg::<()>(self.socket.as_raw_fd(), &slices, &[], flags, None))
    }

    /// Sends a prefix of a file's part, at most what one turn allows; moves `offset`. `Some(0)` where the file is shorter than that.
    pub fn send_file(&self, file: BorrowedFd, offset: &mut u64, length: u64) -> io::Result<Option<usize>> {
        let mut position = *offset as i64;
        let count = length.min(TURN as u64) as usize;
        let sent = unless_blocked(sendfile64(&self.socket, file, Some(&mut position), count))?;
        *offset = position as u64;
        Ok(sent)
    }

    /// Whether the peer has closed its side, or the connection is broken.
    pub fn peer(&self) -> PeerState {
        let is =
            |what: PollFlags| matches!(poll(&mut [PollFd::new(self.socket.as_fd(), what)], PollTimeout::ZERO), Ok(1..));
        // nix does not know POLLRDHUP, and shows nothing where that is among the events. POLLHUP and POLLERR come unasked.
        match is(PollFlags::from_bits_retain(libc::POLLRDHUP)) {
            true if is(PollFlags::empty()) => PeerState::Gone,
            true => PeerState::SendsNoMore,
            false => PeerState::There,
        }
    }

    /// For a connection that was just accepted: whether its peer is still there, how long ago bytes came last, and how long after these the
    /// last segment came, which is the FIN of a peer that sends no more. Zero on a Unix socket, which does not tell; there, a peer that
    /// has closed is gone, and one that sends no more still reads.
    pub fn state_in_queue(&self) -> (PeerState, Duration, Duration) {
        let Ok(info) = socket::getsockopt(&self.socket, TcpInfo) else {
            return (self.peer(), Duration::ZERO, Duration::ZERO);
        };
        let state = match info.tcpi_state {
            CLOSED => PeerState::Gone,
            CLOSE_WAIT => PeerState::SendsNoMore,
            _ => PeerState::There,
        };
        let [bytes, segment] =
            [info.tcpi_last_data_recv, info.tcpi_last_ack_recv].map(|age| Duration::from_millis(age.into()));
        (state, bytes, bytes.saturating_sub(segment))
    }

    /// Sends FIN; what the peer still sends can be read.
    pub fn finish_sending(&self) {
        // An error means that the peer has reset the connection, which the next read reports.
        let _ = socket::shutdown(self.socket.as_raw_fd(), Shutdown::Write);
    }

    /// Makes closing send RST, so that the peer cannot take a cut response for a whole one.
    pub fn reset_on_close(&self) {
        let linger = libc::linger { l_onoff: 1, l_linger: 0 };
        let _ = socket::setsockopt(&self.socket, sockopt::Linger, &linger);
    }

    /// Adds it to epoll, which reports earlier events, too.
    pub fn watch(&self, epoll: &Epoll, event: EpollEvent) -> nix::Result<()> {
        epoll.add(&self.socket, event)
    }

    /// Changes which events are reported.
    pub fn change_watch(&self, epoll: &Epoll, mut event: EpollEvent) -> nix::Result<()> {
        epoll.modify(&self.socket, &mut event)
    }

    /// Removes it from epoll.
    pub fn forget(&self, epoll: &Epoll) {
        let _ = epoll.delete(&self.socket);
    }

    /// The descriptor that moves to another process, together with [`Transport::state`].
    pub fn descriptor(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }

    /// The state that moves beside the descriptor; `None` while the connection cannot move.
    pub fn state(&self) -> Option<TransportState> {
        Some(TransportState::Plain)
    }

    /// Makes the transport of a connection that has moved here.
    pub fn resume(socket: OwnedFd, state: TransportState) -> Transport {
        match state {
            TransportState::Plain => Transport::plain(socket),
        }
    }
}

/// The state that moves with a transport beside its descriptor.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum TransportState {
    /// None: bytes travel as they are.
    Plain,
}

impl TransportState {
    const PLAIN: u8 = 0;

    /// Appends it to a packet: its kind, then that kind's data.
    pub fn write(&self, packet: &mut Vec<u8>) {
        match self {
            TransportState::Plain => packet.push(Self::PLAIN),
        }
    }

    /// Reads it from the beginning of `packet`, and advances `packet` past it; `None` for a kind that this program does not know.
    pub fn read(packet: &mut &[u8]) -> Option<TransportState> {
        match packet.split_off_first()? {
            &Self::PLAIN => Some(TransportState::Plain),
            _ => None,
        }
    }
}

// tcp(7), TCP_INFO.
sockopt_impl!(TcpInfo, GetOnly, libc::IPPROTO_TCP, libc::TCP_INFO, libc::tcp_info);

/// The kernel's numbers of TCP's states (include/net/tcp_states.h).
const CLOSED: u8 = 7;
const CLOSE_WAIT: u8 = 8;

fn unless_blocked<T>(result: Result<T, Errno>) -> io::Result<Option<T>> {
    match result {
        Ok(value) => Ok(Some(value)),
        Err(Errno::EAGAIN | Errno::EINTR) => Ok(None),
        Err(error) => Err(error.into()),
    }
}
