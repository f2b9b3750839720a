//! Listeners: how connections come out of their queues, and what they inherit from them.

use std::{
    io,
    net::SocketAddr,
    os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd},
};

use nix::{
    fcntl::{FcntlArg, OFlag, fcntl},
    getsockopt_impl, libc, setsockopt_impl, sockopt_impl,
    sys::socket::{self, SockFlag, sockopt},
};

use super::unless_blocked;

/// Takes one connection from a listener's queue, and says who is at its other end. `None` if nobody waits there.
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

/// The peer's address; `None` on a Unix socket. An error once the peer has reset the connection.
fn peer_address(socket: &OwnedFd) -> io::Result<Option<SocketAddr>> {
    Ok(socket2::SockRef::from(&socket.as_fd()).peer_addr()?.as_socket())
}

// A connection is in the listener's queue when its first bytes are there (tcp(7)): who only connects costs a worker nothing, and
// accepting never ends in waiting.
sockopt_impl!(DeferAccept, Both, libc::IPPROTO_TCP, libc::TCP_DEFER_ACCEPT, usize);

/// Seconds after which a connection is accepted although nothing has come.
const DEFER_ACCEPT: usize = 1;

/// Sets what connections inherit from their listener, and when it hands them over.
pub(crate) fn prepare(listener: BorrowedFd) {
    // A response's head must not wait for the client's acknowledgement of the last one. Both fail on Unix sockets, which neither
    // delay nor defer.
    let _ = socket::setsockopt(&listener, sockopt::TcpNoDelay, &true);
    let _ = socket::setsockopt(&listener, DeferAccept, &DEFER_ACCEPT);
}

/// No more waiting for first bytes: the listener is about to close, and who has only connected would be reset by that.
pub(crate) fn accept_the_silent(listener: BorrowedFd) {
    let _ = socket::setsockopt(&listener, DeferAccept, &0);
}

#[cfg(test)]
mod tests {
    use std::{
        io::Write,
        net::{TcpListener, TcpStream},
    };

    use super::*;
    use crate::transport::Transport;

    #[test]
    fn a_connection_is_accepted_with_its_first_bytes() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        prepare(listener.as_fd());
        assert_eq!(socket::getsockopt(&listener, DeferAccept), Ok(DEFER_ACCEPT));
        let mut client = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
        client.write_all(b"GET").unwrap();
        let (accepted, address) = accept(listener.as_fd()).unwrap().expect("blocks until there is one");
        assert_eq!(address, Some(client.local_addr().unwrap()));
        assert_eq!(Transport::plain(accepted).receive(&mut [0; 8]).unwrap(), Some(3));
    }
}
