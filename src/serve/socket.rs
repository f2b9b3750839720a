//! The few system calls on client sockets. All sockets are non-blocking: `None` means that the call would have blocked.

use std::{
    io::{self, IoSlice},
    net::SocketAddr,
    os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd, RawFd},
    time::Duration,
};

use nix::{
    errno::Errno,
    fcntl::{FcntlArg, OFlag, fcntl},
    getsockopt_impl, libc,
    poll::{PollFd, PollFlags, PollTimeout, poll},
    setsockopt_impl, sockopt_impl,
    sys::socket::{self, MsgFlags, Shutdown, SockFlag, sockopt},
};

use crate::connection::TURN;

/// Takes one connection from a listener's queue, and says who is at its other end.
pub(crate) fn accept(listener: BorrowedFd) -> io::Result<Option<(OwnedFd, Option<SocketAddr>)>> {
    loop {
        ensure_nonblocking(listener)?;
        let accepted = socket::accept4(listener.as_raw_fd(), SockFlag::SOCK_NONBLOCK | SockFlag::SOCK_CLOEXEC);
        let Some(raw) = unless_blocked(accepted)? else { return Ok(None) };
        // SAFETY: accept4 has just made this descriptor for this process, and nothing else knows it.
        #[allow(unsafe_code)]
        let socket = unsafe { OwnedFd::from_raw_fd(raw) };
        // Fails if the client has reset it in the queue: nobody waits for an answer, and nobody knows who it was.
        if let Ok(address) = peer_address(&socket) {
            return Ok(Some((socket, address)));
        }
    }
}

/// accept(2) cannot be asked for no wait in each call, and the flag is that of all who share the listener: an application in any
/// of them can have cleared it. Whoever clears it between this look and the call makes that call wait for the next connection.
fn ensure_nonblocking(listener: BorrowedFd) -> io::Result<()> {
    let flags = OFlag::from_bits_retain(fcntl(listener, FcntlArg::F_GETFL)?);
    if !flags.contains(OFlag::O_NONBLOCK) {
        fcntl(listener, FcntlArg::F_SETFL(flags | OFlag::O_NONBLOCK))?;
    }
    Ok(())
}

/// Receives what is there, up to the buffer's length; `Some(0)` at the peer's end.
pub(crate) fn receive(socket: RawFd, buffer: &mut [u8]) -> io::Result<Option<usize>> {
    unless_blocked(socket::recv(socket, buffer, MsgFlags::MSG_DONTWAIT))
}

/// Whether reading would not wait: something has come, or the other end is closed.
pub(crate) fn is_readable(socket: BorrowedFd) -> bool {
    let mut descriptors = [PollFd::new(socket, PollFlags::POLLIN)];
    matches!(poll(&mut descriptors, PollTimeout::ZERO), Ok(1..))
}

/// Whether something has come that was not received yet.
pub(crate) fn has_bytes(socket: RawFd) -> bool {
    matches!(socket::recv(socket, &mut [0], MsgFlags::MSG_DONTWAIT | MsgFlags::MSG_PEEK), Ok(1..))
}

/// Sends a prefix of `bytes`.
pub(crate) fn send(socket: RawFd, bytes: &[u8]) -> io::Result<Option<usize>> {
    unless_blocked(socket::send(socket, bytes, MsgFlags::MSG_NOSIGNAL | MsgFlags::MSG_DONTWAIT))
}

/// Sends a prefix of the parts, one behind the other.
pub(crate) fn send_parts(socket: RawFd, parts: &[&[u8]]) -> io::Result<Option<usize>> {
    if let [one] = parts {
        return send(socket, one);
    }
    let slices: Vec<IoSlice> = parts.iter().map(|part| IoSlice::new(part)).collect();
    let flags = MsgFlags::MSG_NOSIGNAL | MsgFlags::MSG_DONTWAIT;
    unless_blocked(socket::sendmsg::<()>(socket, &slices, &[], flags, None))
}

/// Sends a prefix of a file's part, at most what one turn allows; moves `offset`. `Some(0)` where the file is shorter than that.
pub(crate) fn send_file(
    socket: BorrowedFd,
    file: BorrowedFd,
    offset: &mut u64,
    length: u64,
) -> io::Result<Option<usize>> {
    let mut position = *offset as i64;
    let count = length.min(TURN as u64) as usize;
    let sent = unless_blocked(nix::sys::sendfile::sendfile64(socket, file, Some(&mut position), count))?;
    *offset = position as u64;
    Ok(sent)
}

/// Whether the peer has closed its side, or the connection is broken.
pub(crate) fn peer_closed(socket: BorrowedFd) -> PeerState {
    let mut descriptors = [PollFd::new(socket, PollFlags::from_bits_retain(libc::POLLRDHUP))];
    match poll(&mut descriptors, PollTimeout::ZERO) {
        Ok(1..) => match descriptors[0].revents() {
            Some(flags) if flags.intersects(PollFlags::POLLHUP | PollFlags::POLLERR) => PeerState::Gone,
            _ => PeerState::SendsNoMore,
        },
        _ => PeerState::There,
    }
}

// tcp(7): whatever the kernel knows of a connection.
sockopt_impl!(TcpInfo, GetOnly, libc::IPPROTO_TCP, libc::TCP_INFO, libc::tcp_info);

/// The kernel's numbers of TCP's states (include/net/tcp_states.h).
const CLOSED: u8 = 7;
const CLOSE_WAIT: u8 = 8;

/// How the peer of a connection is that was just accepted, and for how long its last bytes have lain there: `None` on a Unix socket.
pub(crate) fn fate_in_queue(socket: BorrowedFd) -> (PeerState, Option<Duration>) {
    let Ok(info) = socket::getsockopt(&socket, TcpInfo) else { return (peer_closed(socket), None) };
    let state = match info.tcpi_state {
        CLOSED => PeerState::Gone,
        CLOSE_WAIT => PeerState::SendsNoMore,
        _ => PeerState::There,
    };
    (state, Some(Duration::from_millis(info.tcpi_last_data_recv.into())))
}

/// See [`peer_closed`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum PeerState {
    There,
    /// It has sent FIN: it left, or it only says that its request is complete.
    SendsNoMore,
    Gone,
}

/// Sends FIN; what the peer still sends can be read.
pub(crate) fn finish_sending(socket: BorrowedFd) {
    // An error means that the peer has reset the connection, which the next read tells.
    let _ = socket::shutdown(socket.as_raw_fd(), Shutdown::Write);
}

/// Makes closing send RST, so that the peer cannot take a cut response for a whole one.
pub(crate) fn reset_on_close(socket: BorrowedFd) {
    let linger = libc::linger { l_onoff: 1, l_linger: 0 };
    let _ = socket::setsockopt(&socket, sockopt::Linger, &linger);
}

// A connection is in the listener's queue when its first bytes are there (tcp(7)): who only connects costs a worker nothing, and
// accepting never ends in waiting.
sockopt_impl!(DeferAccept, Both, libc::IPPROTO_TCP, libc::TCP_DEFER_ACCEPT, usize);

/// Seconds after which a connection is accepted although nothing has come.
const DEFER_ACCEPT: usize = 1;

/// What connections inherit from their listener, and when it hands them over.
pub(crate) fn prepare_listener(listener: BorrowedFd) {
    // A response's head must not wait for the client's acknowledgement of the last one. Both fail on Unix sockets, which neither
    // delay nor defer.
    let _ = socket::setsockopt(&listener, sockopt::TcpNoDelay, &true);
    let _ = socket::setsockopt(&listener, DeferAccept, &DEFER_ACCEPT);
}

/// No more waiting for first bytes: the listener is about to close, and who has only connected would be reset by that.
pub(crate) fn accept_the_silent(listener: BorrowedFd) {
    let _ = socket::setsockopt(&listener, DeferAccept, &0);
}

/// The peer's address; `None` on a Unix socket. An error once the peer has reset the connection.
pub(crate) fn peer_address(socket: &OwnedFd) -> io::Result<Option<SocketAddr>> {
    Ok(socket2::SockRef::from(&socket.as_fd()).peer_addr()?.as_socket())
}

fn unless_blocked<T>(result: Result<T, Errno>) -> io::Result<Option<T>> {
    match result {
        Ok(value) => Ok(Some(value)),
        Err(Errno::EAGAIN | Errno::EINTR) => Ok(None),
        Err(error) => Err(error.into()),
    }
}

#[cfg(test)]
mod tests {
    use std::{
        io::Write,
        net::{TcpListener, TcpStream},
    };

    use super::*;

    #[test]
    fn a_connection_is_accepted_with_its_first_bytes() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        prepare_listener(listener.as_fd());
        assert_eq!(socket::getsockopt(&listener, DeferAccept), Ok(DEFER_ACCEPT));
        let mut client = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
        client.write_all(b"GET").unwrap();
        let (accepted, address) = accept(listener.as_fd()).unwrap().expect("blocks until there is one");
        assert_eq!(address, Some(client.local_addr().unwrap()));
        assert_eq!(receive(accepted.as_raw_fd(), &mut [0; 8]).unwrap(), Some(3));
    }
}
