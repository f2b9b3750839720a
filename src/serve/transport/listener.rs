//! Listeners: accepts connections from their queues, and sets the socket options that connections inherit.

use std::{
    io,
    net::SocketAddr,
    os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd},
};

use nix::{
    fcntl::{FcntlArg, OFlag, fcntl},
    getsockopt_impl, libc, setsockopt_impl, sockopt_impl,
    sys::socket::{self, Shutdown, SockFlag, UnixAddr, sockopt},
};
use ostler_wire::standard;

use super::unless_blocked;

/// Takes one connection from a listener's queue, with its peer's address. `None` if the queue is empty.
pub(crate) fn accept(listener: BorrowedFd) -> io::Result<Option<(OwnedFd, Option<SocketAddr>)>> {
    loop {
        ensure_nonblocking(listener)?;
        let accepted = socket::accept4(listener.as_raw_fd(), SockFlag::SOCK_NONBLOCK | SockFlag::SOCK_CLOEXEC);
        let Some(raw) = unless_blocked(accepted)? else { return Ok(None) };
        // SAFETY: accept4 has just made this descriptor for this process, and nothing else knows it.
        #[allow(unsafe_code)]
        let socket = standard::vacate(unsafe { OwnedFd::from_raw_fd(raw) })?;
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

// What of a packet's time to live (its hop limit) must be left, lest the kernel drops it (ip(7)). No filter is needed for that, and none
// could be attached: the master has locked them.
sockopt_impl!(MinTtl, SetOnly, libc::IPPROTO_IP, libc::IP_MINTTL, libc::c_int);
sockopt_impl!(MinHopCount, SetOnly, libc::IPPROTO_IPV6, libc::IPV6_MINHOPCOUNT, libc::c_int);

/// On TCP, has the kernel drop what comes to a listener, and says `true`. A client sends its SYN again after a second, and is refused then.
/// A client from a system that sends packets with 255 hops to live, where Linux has 64, is not dropped.
pub(crate) fn ignore_newcomers(listener: BorrowedFd) -> bool {
    demand_hops(listener, 255)
}

/// Undoes for a connection what it has from such a listener.
pub(crate) fn heed(socket: BorrowedFd) {
    demand_hops(socket, 0);
}

fn demand_hops(socket: BorrowedFd, least: libc::c_int) -> bool {
    let v4 = socket::setsockopt(&socket, MinTtl, &least);
    let v6 = socket::setsockopt(&socket, MinHopCount, &least);
    v4.is_ok() || v6.is_ok()
}

/// On a Unix socket, refuses newcomers from now on. Who is in its queue can still be accepted. (On TCP, shutdown(2) would reset them.)
pub(crate) fn refuse_newcomers(listener: BorrowedFd) {
    if socket::getsockname::<UnixAddr>(listener.as_raw_fd()).is_ok() {
        let _ = socket::shutdown(listener.as_raw_fd(), Shutdown::Read);
    }
}

#[cfg(test)]
mod tests {
    use std::{
        io::Write,
        net::{TcpListener, TcpStream},
        os::unix::net::{UnixListener, UnixStream},
        time::Duration,
    };

    use nix::poll::{PollFd, PollFlags, PollTimeout, poll};

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

    #[test]
    fn who_was_there_before_newcomers_are_turned_away_is_served() {
        for address in ["127.0.0.1:0", "[::1]:0", "[::]:0"] {
            let Ok(listener) = TcpListener::bind(address) else { continue };
            let address = listener.local_addr().unwrap();
            let mut early = TcpStream::connect(address).unwrap();
            assert!(ignore_newcomers(listener.as_fd()));
            refuse_newcomers(listener.as_fd());
            let late = TcpStream::connect_timeout(&address, Duration::from_millis(100));
            assert_eq!(late.map_err(|error| error.kind()).unwrap_err(), io::ErrorKind::TimedOut, "{address}");
            let (socket, _) = accept(listener.as_fd()).unwrap().expect("it has connected");
            heed(socket.as_fd());
            assert!(accept(listener.as_fd()).unwrap().is_none());
            drop(listener);
            early.write_all(b"GET").unwrap();
            let mut polled = [PollFd::new(socket.as_fd(), PollFlags::POLLIN)];
            assert_eq!(poll(&mut polled, PollTimeout::from(10_000u16)), Ok(1), "bytes come");
            assert_eq!(TcpStream::connect(address).unwrap_err().kind(), io::ErrorKind::ConnectionRefused);
        }
    }

    #[test]
    fn who_is_in_the_queue_of_a_unix_socket_that_refuses_is_served() {
        let path = std::env::temp_dir().join(format!("ostler-listener-{}", std::process::id()));
        let listener = UnixListener::bind(&path).unwrap();
        let _early = UnixStream::connect(&path).unwrap();
        assert!(!ignore_newcomers(listener.as_fd()));
        refuse_newcomers(listener.as_fd());
        let late = UnixStream::connect(&path);
        std::fs::remove_file(&path).unwrap();
        assert_eq!(late.unwrap_err().kind(), io::ErrorKind::ConnectionRefused);
        assert!(accept(listener.as_fd()).unwrap().is_some());
        assert!(accept(listener.as_fd()).is_ok_and(|none| none.is_none()));
    }
}
