//! Listeners: accepts connections from their queues, and sets the socket options that connections inherit.

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

/// Takes one connection from a listener's queue, with its peer's address. `None` if the queue is empty.
pub(crate) fn accept(listener: BorrowedFd) -> io::Result<Option<(OwnedFd, Option<SocketAddr>)>> {
    loop {
        ensure_nonblocking(listener)?;
        let accepted = socket::accept4(listener.as_raw_fd(), SockFlag::SOCK_NONBLOCK | SockFlag::SOCK_CLOEXEC);
        let Some(raw) = unless_blocked(accepted)? else { return Ok(None) };
        // SAFETY: accept4 has just made this descriptor for this process, and nothing else knows it.
        #[allow(unsafe_code)]
        let socket = unsafe { OwnedFd::from_raw_fd(raw) };
        // Fails if the client has reset the connection in the queue: then nobody waits for an answer.
        if let Ok(address) = peer_address(&socket) {
            return Ok(Some((socket, address)));
        }
    }
}

/// accept(2) has no flag for a call that does not block: the listener's O_NONBLOCK decides, which all processes with that listener
/// share, and an application in any of them may have cleared it. If it is cleared between this check and the call, that call blocks
/// until the next connection.
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

// A connection is put in the listener's queue when its first bytes have come (tcp(7)): a client that only connects costs a worker
// nothing, and an accepted connection can be read at once.
sockopt_impl!(DeferAccept, Both, libc::IPPROTO_TCP, libc::TCP_DEFER_ACCEPT, usize);

/// Seconds after which a connection is queued although no bytes have come.
const DEFER_ACCEPT: usize = 1;

/// Sets the options that connections inherit, and defers accepting until there are bytes.
pub(crate) fn prepare(listener: BorrowedFd) {
    // A response's head must not wait until the client has acknowledged the previous one. Both options fail on Unix sockets, which
    // need neither.
    let _ = socket::setsockopt(&listener, sockopt::TcpNoDelay, &true);
    let _ = socket::setsockopt(&listener, DeferAccept, &DEFER_ACCEPT);
}

/// No longer defers accepting: the listener is about to close, which would reset clients that have only connected.
pub(crate) fn stop_deferring(listener: BorrowedFd) {
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
