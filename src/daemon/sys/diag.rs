//! What the kernel knows of sockets and no call on the socket itself tells: sock_diag(7). Never waits: the kernel answers within the call.

use std::os::fd::{AsFd, AsRawFd, BorrowedFd};

use nix::{
    errno::Errno,
    getsockopt_impl, libc, setsockopt_impl, sockopt_impl,
    sys::{
        socket::{
            AddressFamily, MsgFlags, SockFlag, SockProtocol, SockType, getsockopt, recv, send, setsockopt, socket,
            sockopt,
        },
        stat::fstat,
    },
};

// The part of `struct tcp_info` that every kernel has. nix panics where the answer is shorter than was asked for, as that of a kernel
// older than the headers of libc is.
sockopt_impl!(TcpInfo, GetOnly, libc::IPPROTO_TCP, libc::TCP_INFO, [u32; 26]);
/// Where `tcpi_unacked` and `tcpi_sacked` are in it.
const UNACKED: usize = 6;
const SACKED: usize = 7;
sockopt_impl!(DeferAccept, SetOnly, libc::IPPROTO_TCP, libc::TCP_DEFER_ACCEPT, usize);

/// linux/sock_diag.h
const SOCK_DIAG_BY_FAMILY: u16 = 20;
/// linux/unix_diag.h: of a listener, how many wait and how many may.
const UDIAG_SHOW_RQLEN: u32 = 0x10;
const UNIX_DIAG_RQLEN: u16 = 4;
/// Of a bound socket, its file: inode and device.
const UDIAG_SHOW_VFS: u32 = 0x02;
const UNIX_DIAG_VFS: u16 = 1;
/// include/net/tcp_states.h
const SYN_RECEIVED: u32 = 1 << 3;
/// Of a netlink message, and of the body of a `unix_diag_msg`.
const HEADER: usize = 16;

/// A listener's queue: how many connections wait in it to be accepted, and how many may.
pub fn queue(listener: BorrowedFd) -> Option<(u32, u32)> {
    match getsockopt(&listener, TcpInfo) {
        // tcp_get_info() in net/ipv4/tcp.c: what these fields hold of a listener.
        Ok(info) => Some((info[UNACKED], info[SACKED])),
        Err(_) => unix_queue(listener),
    }
}

/// Whether the kernel makes records of TLS. It looks for the module that does it, where the caller is root.
pub fn makes_tls_records() -> nix::Result<()> {
    let socket = socket(AddressFamily::Inet, SockType::Stream, SockFlag::SOCK_CLOEXEC, None)?;
    match setsockopt(&socket, sockopt::TcpUlp::default(), b"tls") {
        // It wants a connection for that: so it knows what it was asked for.
        Err(Errno::ENOTCONN) => Ok(()),
        other => other,
    }
}

fn unix_queue(listener: BorrowedFd) -> Option<(u32, u32)> {
    unix_attribute(listener, UDIAG_SHOW_RQLEN, UNIX_DIAG_RQLEN)
}

/// Whether a Unix socket was bound to the file with this inode. The kernel tells the lower half of the number.
pub fn has_file(socket: BorrowedFd, inode: u64) -> bool {
    unix_attribute(socket, UDIAG_SHOW_VFS, UNIX_DIAG_VFS).is_some_and(|(found, _)| found == inode as u32)
}

/// An attribute of two words.
fn unix_attribute(socket: BorrowedFd, show: u32, wanted: u16) -> Option<(u32, u32)> {
    let inode = fstat(socket).ok()?.st_ino as u32;
    let (any_state, any_cookie) = (u32::MAX, u32::MAX);
    let mut request = vec![libc::AF_UNIX as u8, 0, 0, 0];
    for word in [any_state, inode, show, any_cookie, any_cookie] {
        request.extend(word.to_ne_bytes());
    }
    let (kind, answer) = ask(libc::NLM_F_REQUEST as u16, &request)?;
    let mut attributes = (kind == SOCK_DIAG_BY_FAMILY).then(|| answer.get(HEADER..)).flatten()?;
    loop {
        let (length, name) = (usize::from(short(attributes, 0)?), short(attributes, 2)?);
        if name == wanted {
            return Some((word(attributes, 4)?, word(attributes, 8)?));
        }
        attributes = attributes.get(length.max(4).next_multiple_of(4)..)?;
    }
}

/// Has a listener hand connections over before their first bytes are there, from now on; and says whether there are some that it
/// holds back still. They are handed over when the kernel asks them again, a second after they came.
pub fn end_deferring(listener: BorrowedFd, port: u16) -> bool {
    if setsockopt(&listener, DeferAccept, &0).is_err() {
        return false;
    }
    [libc::AF_INET, libc::AF_INET6].into_iter().any(|family| {
        let mut request = vec![family as u8, libc::IPPROTO_TCP as u8, 0, 0];
        request.extend(SYN_RECEIVED.to_ne_bytes());
        request.extend(port.to_be_bytes());
        // Any peer, any address, any interface; a cookie is not looked at.
        request.resize(56, 0);
        let flags = libc::NLM_F_REQUEST | libc::NLM_F_DUMP;
        ask(flags as u16, &request).is_some_and(|(kind, _)| kind == SOCK_DIAG_BY_FAMILY)
    })
}

/// The first message of the answer: its kind and its body.
fn ask(flags: u16, request: &[u8]) -> Option<(u16, Vec<u8>)> {
    let socket = socket(
        AddressFamily::Netlink,
        SockType::Raw,
        SockFlag::SOCK_CLOEXEC | SockFlag::SOCK_NONBLOCK,
        SockProtocol::NetlinkSockDiag,
    )
    .ok()?;
    let mut message = ((HEADER + request.len()) as u32).to_ne_bytes().to_vec();
    message.extend(SOCK_DIAG_BY_FAMILY.to_ne_bytes());
    message.extend(flags.to_ne_bytes());
    message.extend([0; 8]);
    message.extend(request);
    let raw = socket.as_fd().as_raw_fd();
    send(raw, &message, MsgFlags::MSG_DONTWAIT).ok()?;
    let mut answer = vec![0; 16 * 1024];
    let length = loop {
        match recv(raw, &mut answer, MsgFlags::MSG_DONTWAIT) {
            Err(Errno::EINTR) => continue,
            received => break received.ok()?,
        }
    };
    let end = length.min(word(&answer, 0)? as usize);
    Some((short(&answer, 4)?, answer.get(HEADER..end)?.to_vec()))
}

fn short(bytes: &[u8], at: usize) -> Option<u16> {
    Some(u16::from_ne_bytes(bytes.get(at..at + 2)?.try_into().ok()?))
}

fn word(bytes: &[u8], at: usize) -> Option<u32> {
    Some(u32::from_ne_bytes(bytes.get(at..at + 4)?.try_into().ok()?))
}

#[cfg(test)]
mod tests {
    use std::{
        net::{TcpListener, TcpStream},
        os::unix::net::{UnixListener, UnixStream},
        time::Duration,
    };

    use super::*;

    #[test]
    fn who_waits_is_counted() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let _clients = [(); 3].map(|()| TcpStream::connect(listener.local_addr().unwrap()).unwrap());
        assert_eq!(queue(listener.as_fd()), Some((3, 128)));
        let folder = std::env::temp_dir().join(format!("ostler-diag-{}", std::process::id()));
        let listener = UnixListener::bind(&folder).unwrap();
        let _clients = [(); 2].map(|()| UnixStream::connect(&folder).unwrap());
        std::fs::remove_file(&folder).unwrap();
        let seen = queue(listener.as_fd());
        assert_eq!(seen.map(|(waiting, _)| waiting), Some(2), "{seen:?}");
    }

    #[test]
    fn who_has_only_connected_is_found_and_comes() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        assert!(!end_deferring(listener.as_fd(), address.port()));
        sockopt_impl!(Defer, SetOnly, libc::IPPROTO_TCP, libc::TCP_DEFER_ACCEPT, usize);
        setsockopt(&listener, Defer, &1).unwrap();
        let _silent = TcpStream::connect(address).unwrap();
        assert!(end_deferring(listener.as_fd(), address.port()));
        let mut polled = [nix::poll::PollFd::new(listener.as_fd(), nix::poll::PollFlags::POLLIN)];
        let patience = nix::poll::PollTimeout::try_from(Duration::from_secs(30)).unwrap();
        assert_eq!(nix::poll::poll(&mut polled, patience), Ok(1), "it is handed over");
    }
}
