//! Descriptors by number: what was inherited, what has to stand at a certain place, what must survive an upgrade.

use std::{
    collections::BTreeSet,
    fs::{self, File},
    io,
    ops::RangeInclusive,
    os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, IntoRawFd, OwnedFd, RawFd},
};

use nix::{
    fcntl::{FcntlArg, FdFlag, OFlag, fcntl},
    getsockopt_impl, setsockopt_impl, sockopt_impl,
    sys::{
        inotify::Inotify,
        socket::{SockType, getsockopt, setsockopt, sockopt},
    },
};
use ostler_wire::CHANNEL_FD;

use super::diag;

/// Copies are put above this, out of the way of the places that mean something.
const ABOVE: RawFd = 10;

/// Puts a descriptor over standard error.
pub fn become_standard_error(descriptor: BorrowedFd) -> io::Result<()> {
    place(descriptor, 2)
}

/// Puts a descriptor at a certain place, from where it is inherited. Safe between fork and exec.
pub fn place(descriptor: BorrowedFd, at: RawFd) -> io::Result<()> {
    if descriptor.as_raw_fd() == at {
        return set_inheritable(at, true);
    }
    // SAFETY: dup2 of a descriptor that is open. What stood at `at` is replaced on purpose: the places used are
    // standard error and CHANNEL_FD, which no OwnedFd of this process claims.
    match unsafe { libc::dup2(descriptor.as_raw_fd(), at) } {
        -1 => Err(io::Error::last_os_error()),
        _ => Ok(()),
    }
}

/// Whatever this process was started with, beyond the standard three, is not the application's: a lock of a shell, a log of a
/// service manager. What a child is to have is given to it by name.
pub fn keep_from_children() {
    let numbers = fs::read_dir("/proc/self/fd").into_iter().flatten().flatten();
    for number in numbers.filter_map(|entry| entry.file_name().to_str()?.parse::<RawFd>().ok()) {
        if number > 2 {
            // Cannot fail on what is open.
            let _ = set_inheritable(number, false);
        }
    }
}

/// Closes all but these, in a child that uses no other.
pub fn close_all_but(kept: impl Iterator<Item = RawFd>) {
    let kept: BTreeSet<RawFd> = kept.collect();
    let ends = kept.iter().map(|number| number - 1).chain([RawFd::MAX]);
    for (first, last) in [0].into_iter().chain(kept.iter().map(|number| number + 1)).zip(ends).filter(|(a, b)| a <= b) {
        // SAFETY: takes numbers. This process never looks at what they were again.
        let closed = unsafe { libc::syscall(libc::SYS_close_range, first, last, 0) };
        if closed != 0 {
            // Before Linux 5.9. What is open now may be closed one by one.
            close_one_by_one(first..=last);
        }
    }
}

fn close_one_by_one(range: RangeInclusive<RawFd>) {
    let numbers = fs::read_dir("/proc/self/fd").into_iter().flatten().flatten();
    let open: Vec<RawFd> = numbers.filter_map(|entry| entry.file_name().to_str()?.parse().ok()).collect();
    for number in open.into_iter().filter(|number| range.contains(number)) {
        // SAFETY: as above; the directory itself is closed already.
        unsafe { libc::close(number) };
    }
}

/// Closes one that a child uses no more, and whose owner there is never dropped.
pub fn close(descriptor: BorrowedFd) {
    // SAFETY: takes a number; the caller uses it no more.
    unsafe { libc::close(descriptor.as_raw_fd()) };
}

/// Fills the place at which a template finds its channel, so that nothing else of the master ever comes to stand there.
pub fn reserve_channel_place() -> io::Result<()> {
    let null = File::open("/dev/null")?;
    place(null.as_fd(), CHANNEL_FD)?;
    set_inheritable(CHANNEL_FD, false)?;
    if null.as_raw_fd() == CHANNEL_FD {
        std::mem::forget(null);
    }
    Ok(())
}

/// A copy of a listening socket that this process was started with, out of the way and close-on-exec.
pub fn inherited_listener(number: RawFd) -> io::Result<OwnedFd> {
    let copy = inherited(number)?;
    let is_stream = getsockopt(&copy, sockopt::SockType)? == SockType::Stream;
    if !is_stream || !getsockopt(&copy, sockopt::AcceptConn)? {
        return Err(io::Error::other("it is not a listening stream socket"));
    }
    set_inheritable(number, false)?;
    Ok(copy)
}

/// A copy of any descriptor that this process was started with, out of the way and close-on-exec.
pub fn inherited(number: RawFd) -> io::Result<OwnedFd> {
    // SAFETY: F_DUPFD_CLOEXEC fails on a number that is not open; nothing is assumed about what it is.
    let copy = unsafe { libc::fcntl(number, libc::F_DUPFD_CLOEXEC, ABOVE) };
    if copy == -1 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: fcntl has made this descriptor just now, and nothing else knows it.
    Ok(unsafe { OwnedFd::from_raw_fd(copy) })
}

/// Takes back a descriptor that this very process has kept over an execve.
pub fn reclaim(number: RawFd) -> io::Result<OwnedFd> {
    set_inheritable(number, false)?;
    // SAFETY: it is open, and the state that names it names each once, for one owner.
    Ok(unsafe { OwnedFd::from_raw_fd(number) })
}

/// The same of one that tells of changes in directories.
pub fn reclaim_inotify(number: RawFd) -> io::Result<Inotify> {
    let owned = reclaim(number)?;
    // SAFETY: it has just been owned here, and is given away.
    Ok(unsafe { Inotify::from_raw_fd(owned.into_raw_fd()) })
}

/// Whether a descriptor is inherited over the next execve. Fails on a number that is not open. Safe between fork and exec.
pub fn set_inheritable(number: RawFd, inherited: bool) -> io::Result<()> {
    let flags = if inherited { FdFlag::empty() } else { FdFlag::FD_CLOEXEC };
    // SAFETY: F_SETFD changes nothing but that flag, and fails on a number that is not open.
    match unsafe { libc::fcntl(number, libc::F_SETFD, flags.bits()) } {
        -1 => Err(io::Error::last_os_error()),
        _ => Ok(()),
    }
}

/// asm-generic/socket.h; libc does not name it yet. The few machines that number otherwise have no such option.
const SO_PASSRIGHTS: libc::c_int = 83;

/// Nobody can pass descriptors to this socket. Kernels before Linux 6.16 do not know how; who reads from it has to let go of
/// what comes.
pub fn refuse_descriptors(socket: BorrowedFd) {
    let no: libc::c_int = 0;
    let length = size_of_val(&no) as libc::socklen_t;
    // SAFETY: reads one number, of this function, of the length that is given.
    unsafe {
        libc::setsockopt(socket.as_raw_fd(), libc::SOL_SOCKET, SO_PASSRIGHTS, (&raw const no).cast(), length);
    }
}

/// Whether that was understood.
pub fn refuses_descriptors(socket: BorrowedFd) -> bool {
    let (mut passes, mut length): (libc::c_int, _) = (1, size_of::<libc::c_int>() as libc::socklen_t);
    let number = socket.as_raw_fd();
    // SAFETY: writes one number and its length, of this function.
    let known =
        unsafe { libc::getsockopt(number, libc::SOL_SOCKET, SO_PASSRIGHTS, (&raw mut passes).cast(), &raw mut length) };
    known == 0 && passes == 0
}

// socket(7): no process can attach a filter to the socket from now on, nor take one off.
sockopt_impl!(LockFilter, SetOnly, libc::SOL_SOCKET, libc::SO_LOCK_FILTER, bool);

/// For a socket that applications will have, too: they cannot filter what comes.
pub fn forbid_filters(socket: BorrowedFd) {
    let _ = setsockopt(&socket, LockFilter, &true);
}

// What would keep clients out: the number of hops that they may be away (ip(7), ipv6(7)), and how fast answers may be sent (socket(7)).
sockopt_impl!(MinTtl, Both, libc::IPPROTO_IP, libc::IP_MINTTL, i32);
sockopt_impl!(MinHopCount, Both, libc::IPPROTO_IPV6, libc::IPV6_MINHOPCOUNT, i32);
sockopt_impl!(PacingRate, Both, libc::SOL_SOCKET, libc::SO_MAX_PACING_RATE, u32);

/// Takes back what an application may have set on a listener for all who share it: waiting, lingering, hops, pace, a shorter queue
/// than this.
pub fn restore_listener(socket: BorrowedFd, room: Option<u32>) {
    if !getsockopt(&socket, sockopt::AcceptConn).is_ok_and(|listens| listens) {
        return;
    }
    let _ = nonblocking(socket);
    if getsockopt(&socket, sockopt::Linger).is_ok_and(|linger| linger.l_onoff != 0) {
        let _ = setsockopt(&socket, sockopt::Linger, &libc::linger { l_onoff: 0, l_linger: 0 });
    }
    // Those of another family or kind of socket fail, and mean nothing there.
    if getsockopt(&socket, MinTtl).is_ok_and(|hops| hops != 0) {
        let _ = setsockopt(&socket, MinTtl, &0);
    }
    if getsockopt(&socket, MinHopCount).is_ok_and(|hops| hops != 0) {
        let _ = setsockopt(&socket, MinHopCount, &0);
    }
    if getsockopt(&socket, PacingRate).is_ok_and(|rate| rate != u32::MAX) {
        let _ = setsockopt(&socket, PacingRate, &u32::MAX);
    }
    if let (Some(room), Some((_, present))) = (room, diag::queue(socket))
        && present < room
    {
        // SAFETY: listen(2) on a listening socket that is open only changes the length of its queue.
        unsafe { libc::listen(socket.as_raw_fd(), room as i32) };
    }
}

/// How many bytes have come at a socket and were not read yet: of all packets, at one of those of unix(7).
pub fn unread(socket: BorrowedFd) -> usize {
    let mut bytes: libc::c_int = 0;
    // SAFETY: FIONREAD writes one c_int, to which the pointer leads; the descriptor is borrowed, so it is open.
    let told = unsafe { libc::ioctl(socket.as_raw_fd(), libc::FIONREAD, &mut bytes) };
    if told == 0 { usize::try_from(bytes).unwrap_or(0) } else { 0 }
}

/// Operations on it fail rather than wait.
pub fn nonblocking(descriptor: BorrowedFd) -> io::Result<()> {
    set_nonblocking(descriptor, true)
}

/// Whether operations on it fail rather than wait; for everybody who has the same open file.
pub fn set_nonblocking(descriptor: BorrowedFd, set: bool) -> io::Result<()> {
    let mut flags = OFlag::from_bits_retain(fcntl(descriptor, FcntlArg::F_GETFL)?);
    flags.set(OFlag::O_NONBLOCK, set);
    fcntl(descriptor, FcntlArg::F_SETFL(flags))?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use socket2::{Domain, SockAddr, Socket, Type};

    use super::*;

    #[test]
    fn only_a_stream_is_a_listener() {
        for (kind, taken) in [(Type::STREAM, true), (Type::SEQPACKET, false)] {
            let socket = Socket::new(Domain::UNIX, kind, None).unwrap();
            let name = format!("\0ostler-descriptors-{}-{taken}", std::process::id());
            socket.bind(&SockAddr::unix(name).unwrap()).unwrap();
            socket.listen(1).unwrap();
            assert_eq!(inherited_listener(socket.as_raw_fd()).is_ok(), taken);
        }
    }
}
