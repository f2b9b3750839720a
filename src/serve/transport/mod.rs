//! A client's connection as bytes. All reads, writes, questions and closes of a client's socket go through [`Transport`], so that
//! no caller needs to know how the bytes travel: as they are, or within TLS (`tls`).
//!
//! Nothing here blocks, except [`Transport::wait`]: `None` means that the call would have blocked.

pub(crate) mod listener;
mod state;
mod tls;

use std::{
    io::{self, IoSlice},
    os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd},
    sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError},
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
use ostler_tls::{Acceptor, Facts};
use zeroize::Zeroizing;

use self::tls::Tls;
pub(crate) use self::{state::TransportState, tls::Shaken};

/// The most bytes that one turn of the loop reads from a connection, or sends to it.
pub(crate) const TURN: usize = 256 * 1024;

/// A client's socket. The loop and the call of its request share it; it closes when both have dropped it.
#[derive(Debug)]
pub(crate) struct Transport {
    socket: OwnedFd,
    /// None where bytes travel as they are. The loop and a call may both use it, one at a time.
    tls: OnceLock<Box<Mutex<Tls>>>,
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
        Transport { socket, tls: OnceLock::new() }
    }

    /// From now on bytes travel within TLS, beginning with these, which have come already: with a handshake.
    pub fn begin_tls(&self, acceptor: Arc<Acceptor>, behind: Vec<u8>) {
        // It is begun once: where it was before, this one is dropped.
        let _ = self.tls.set(Box::new(Mutex::new(Tls::new(acceptor, behind))));
    }

    /// Whether TLS has begun.
    pub fn is_tls(&self) -> bool {
        self.tls.get().is_some()
    }

    /// Goes on with the handshake; `scratch` is room for what is received.
    pub fn shake_hands(&self, scratch: &mut [u8]) -> io::Result<Shaken> {
        self.tls().map_or(Ok(Shaken::Over), |mut tls| tls.shake(&self.socket, scratch))
    }

    /// Whether a handshake has begun and is not over.
    pub fn shakes_hands(&self) -> bool {
        self.tls().is_some_and(|tls| tls.shakes())
    }

    /// Whether something waits to be sent that no caller knows of.
    pub fn is_blocked(&self) -> bool {
        self.tls().is_some_and(|tls| tls.is_blocked())
    }

    /// Whether its client speaks without TLS where it should not.
    pub fn lacks_tls(&self) -> bool {
        self.tls().is_some_and(|tls| tls.is_lacking())
    }

    /// Why the connection has ended, for the log, if it is TLS's fault.
    pub fn fault(&self) -> Option<String> {
        self.tls().and_then(|tls| tls.fault())
    }

    /// Whether the next response is to be the last.
    pub fn is_worn(&self) -> bool {
        self.tls().is_some_and(|tls| tls.is_worn())
    }

    /// Whether its handshake meets these settings, if it has one.
    pub fn is_admitted_by(&self, acceptor: &Acceptor) -> bool {
        self.tls().is_none_or(|tls| tls.facts().is_none_or(|facts| acceptor.admits(facts)))
    }

    /// What the handshake has told, once it is over.
    pub fn facts(&self) -> Option<Facts> {
        self.tls().and_then(|tls| tls.facts().cloned())
    }

    fn tls(&self) -> Option<MutexGuard<'_, Tls>> {
        Some(self.tls.get()?.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// Receives what is there, up to the buffer's length; `Some(0)` at the peer's end. If it does not fill the buffer, no more is there,
    /// unless [`Transport::has_more`].
    pub fn receive(&self, buffer: &mut [u8]) -> io::Result<Option<usize>> {
        match self.tls() {
            Some(mut tls) => tls.receive(&self.socket, buffer),
            None => receive(&self.socket, buffer),
        }
    }

    /// Whether there is more to receive of which the kernel knows nothing.
    pub fn has_more(&self) -> bool {
        self.tls().is_some_and(|tls| tls.has_more())
    }

    /// Whether there are bytes to receive.
    pub fn has_bytes(&self) -> bool {
        if self.has_more() {
            return true;
        }
        let flags = MsgFlags::MSG_DONTWAIT | MsgFlags::MSG_PEEK;
        matches!(socket::recv(self.socket.as_raw_fd(), &mut [0], flags), Ok(1..))
    }

    /// Waits until there are bytes to receive, or the peer has closed. Returns whether that happened within the bound (none: no limit).
    pub fn wait(&self, bound: Option<Duration>) -> io::Result<bool> {
        if self.has_more() {
            return Ok(true);
        }
        let mut descriptors = [PollFd::new(self.socket.as_fd(), PollFlags::POLLIN)];
        let wait = bound.map_or(PollTimeout::NONE, |bound| PollTimeout::try_from(bound).unwrap_or(PollTimeout::MAX));
        match poll(&mut descriptors, wait) {
            Ok(came) => Ok(came > 0),
            Err(Errno::EINTR) => Ok(true),
            Err(error) => Err(error.into()),
        }
    }

    /// Sends a prefix of `bytes`. Where that is `None`, or less, the next call must begin with the rest: TLS has sealed some of it.
    pub fn send(&self, bytes: &[u8]) -> io::Result<Option<usize>> {
        self.send_parts(&[bytes])
    }

    /// Sends a prefix of the parts, in their order.
    pub fn send_parts(&self, parts: &[&[u8]]) -> io::Result<Option<usize>> {
        if let Some(mut tls) = self.tls() {
            return tls.send(&self.socket, parts);
        }
        send_parts(&self.socket, parts)
    }

    /// Sends a few bytes as a whole. A client that does not take them now is given up.
    pub fn send_few(&self, bytes: &[u8]) -> io::Result<()> {
        match self.send(bytes)? {
            Some(sent) if sent == bytes.len() => Ok(()),
            _ => Err(io::ErrorKind::WouldBlock.into()),
        }
    }

    /// Sends a prefix of a file's part, at most what one turn allows; moves `offset`. `Some(0)` where the file is shorter than that.
    pub fn send_file(&self, file: BorrowedFd, offset: &mut u64, length: u64) -> io::Result<Option<usize>> {
        let count = length.min(TURN as u64) as usize;
        if let Some(mut tls) = self.tls() {
            return tls.send_file(&self.socket, file, offset, count);
        }
        send_file(&self.socket, file, offset, count)
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
        let state = match info[0].to_ne_bytes()[0] {
            CLOSED => PeerState::Gone,
            CLOSE_WAIT => PeerState::SendsNoMore,
            _ => PeerState::There,
        };
        let [bytes, segment] = [LAST_DATA_RECV, LAST_ACK_RECV].map(|which| Duration::from_millis(info[which].into()));
        (state, bytes, bytes.saturating_sub(segment))
    }

    /// Says that everything was sent, where TLS has words for it.
    pub fn say_goodbye(&self) {
        if let Some(mut tls) = self.tls() {
            tls.say_goodbye(&self.socket);
        }
    }

    /// Says it, and sends FIN; what the peer still sends can be read.
    pub fn finish_sending(&self) {
        self.say_goodbye();
        self.cut_sending();
    }

    /// Sends FIN. Within TLS that alone tells the peer that something is missing.
    pub fn cut_sending(&self) {
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

    /// Whether it can move now.
    pub fn can_move(&self) -> bool {
        self.tls().is_none_or(|tls| tls.can_move())
    }

    /// The state that moves beside the descriptor.
    pub fn state(&self) -> Zeroizing<Vec<u8>> {
        state::write(self.tls().as_deref())
    }

    /// How many bytes of it were received and not taken yet.
    pub fn held(&self) -> usize {
        self.tls().map_or(0, |tls| tls.held())
    }

    /// It has moved: this process forgets its keys.
    pub fn surrender(&self) {
        if let Some(mut tls) = self.tls() {
            tls.surrender();
        }
    }

    /// Makes the transport of a connection that has moved here.
    pub fn resume(socket: OwnedFd, state: TransportState) -> Transport {
        let transport = Transport::plain(socket);
        if let TransportState::Tls(tls) = state {
            let _ = transport.tls.set(Box::new(Mutex::new(tls)));
        }
        transport
    }
}

const SEND: MsgFlags = MsgFlags::MSG_NOSIGNAL.union(MsgFlags::MSG_DONTWAIT);

fn receive(socket: &OwnedFd, buffer: &mut [u8]) -> io::Result<Option<usize>> {
    unless_blocked(socket::recv(socket.as_raw_fd(), buffer, MsgFlags::MSG_DONTWAIT))
}

fn send(socket: &OwnedFd, bytes: &[u8]) -> io::Result<Option<usize>> {
    unless_blocked(socket::send(socket.as_raw_fd(), bytes, SEND))
}

fn send_parts(socket: &OwnedFd, parts: &[&[u8]]) -> io::Result<Option<usize>> {
    match parts {
        [one] => send(socket, one),
        parts => {
            let slices: Vec<IoSlice> = parts.iter().map(|part| IoSlice::new(part)).collect();
            unless_blocked(socket::sendmsg::<()>(socket.as_raw_fd(), &slices, &[], SEND, None))
        }
    }
}

fn send_file(socket: &OwnedFd, file: BorrowedFd, offset: &mut u64, length: usize) -> io::Result<Option<usize>> {
    let mut position = *offset as i64;
    let sent = unless_blocked(sendfile64(socket, file, Some(&mut position), length))?;
    *offset = position as u64;
    Ok(sent)
}

// tcp(7), TCP_INFO: the part of `struct tcp_info` that every kernel has. nix panics where the answer is shorter than was asked for, as that
// of a kernel older than the headers of libc is.
sockopt_impl!(TcpInfo, GetOnly, libc::IPPROTO_TCP, libc::TCP_INFO, [u32; 26]);
/// Where `tcpi_last_data_recv` and `tcpi_last_ack_recv` are in it; `tcpi_state` is its first byte.
const LAST_DATA_RECV: usize = 13;
const LAST_ACK_RECV: usize = 14;

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
