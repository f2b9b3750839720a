//! Unix sockets and their files: made with their permissions, found again by their marks, and removed when no process listens there.

use std::{
    io,
    os::fd::{AsRawFd, OwnedFd},
    path::{Path, PathBuf},
};

use nix::{
    fcntl::AtFlags,
    sys::stat::{FileStat, Mode, SFlag, fstat, umask},
    unistd::{Gid, Uid, UnlinkatFlags, fchownat, geteuid},
};
use serde::{Deserialize, Serialize};
use socket2::{Domain, SockAddr, Socket, Type};

use crate::{exit::words, sys::names::Place};

/// A file that we made, and the marks by which we know it again.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct SocketFile {
    path: PathBuf,
    device: u64,
    inode: u64,
}

impl SocketFile {
    /// The one that is there.
    pub fn of(path: &Path) -> Option<SocketFile> {
        let (device, inode) = Place::of(path).ok()?.marks().ok()?;
        Some(SocketFile { path: path.to_owned(), device, inode })
    }

    pub fn inode(&self) -> u64 {
        self.inode
    }

    /// Removes it, unless another has taken its place.
    pub fn remove(&self) {
        if let Some(place) = self.place() {
            let _ = place.remove(UnlinkatFlags::NoRemoveDir);
        }
    }

    pub fn is_there(&self) -> bool {
        self.place().is_some()
    }

    fn place(&self) -> Option<Place> {
        let place = Place::of(&self.path).ok()?;
        place.marks().is_ok_and(|marks| marks == (self.device, self.inode)).then_some(place)
    }
}

/// Binds a Unix socket whose file has these permissions from its first moment on, and then this user and group. A file that was left
/// behind makes room; one at which somebody answers does not.
pub fn bind(
    path: &Path,
    kind: Type,
    backlog: i32,
    mask: Mode,
    owner: (Option<u32>, Option<u32>),
) -> Result<(Socket, SocketFile), String> {
    let place = Place::of(path)?;
    remove_stale(&place)?;
    let bound = || {
        let socket = Socket::new(Domain::UNIX, kind.nonblocking().cloexec(), None)?;
        let address = SockAddr::unix(place.for_calls())?;
        let before = umask(mask);
        let bound = socket.bind(&address);
        umask(before);
        bound?;
        let file = own(&place, owner)?;
        socket.listen(backlog)?;
        Ok((socket, SocketFile { path: path.to_owned(), device: file.st_dev, inode: file.st_ino }))
    };
    bound().map_err(|error: io::Error| words(&error))
}

/// The socket file that we have just made, given to its owner. Somebody may have put another one there in the meantime; what
/// only we can have made is of ours and has one name.
fn own(place: &Place, (user, group): (Option<u32>, Option<u32>)) -> io::Result<FileStat> {
    let file = place.hold()?;
    let stat = fstat(&file)?;
    let kind = SFlag::from_bits_truncate(stat.st_mode & SFlag::S_IFMT.bits());
    if (kind, stat.st_uid, stat.st_nlink) != (SFlag::S_IFSOCK, geteuid().as_raw(), 1) {
        return Err(io::Error::other("somebody else has put another file there"));
    }
    if user.is_some() || group.is_some() {
        let (user, group) = (user.map(Uid::from_raw), group.map(Gid::from_raw));
        fchownat(&file, "", user, group, AtFlags::AT_EMPTY_PATH)?;
    }
    Ok(stat)
}

/// A socket file at which no process answers was left behind; anything else stays where it is.
fn remove_stale(place: &Place) -> Result<(), String> {
    let file = match place.hold() {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        held => held.map_err(|error| words(&error))?,
    };
    let stat = fstat(&file).map_err(|error| words(&error.into()))?;
    if SFlag::from_bits_truncate(stat.st_mode & SFlag::S_IFMT.bits()) != SFlag::S_IFSOCK {
        return Err("there is a file of that name that is not a socket".into());
    }
    match answered(&file) {
        true => Err("another process answers there".into()),
        false => place.remove(UnlinkatFlags::NoRemoveDir).map_err(|error| words(&error)),
    }
}

/// Only a refusal proves that no process listens: one does where the queue is full. EPROTOTYPE says that the socket is of another
/// kind, which is tried next.
fn answered(file: &OwnedFd) -> bool {
    let path = format!("/proc/self/fd/{}", file.as_raw_fd());
    let refused = |kind: Type| {
        let socket = Socket::new(Domain::UNIX, kind.nonblocking().cloexec(), None)?;
        socket.connect(&SockAddr::unix(&path)?)
    };
    [Type::STREAM, Type::SEQPACKET, Type::DGRAM].into_iter().any(|kind| {
        !refused(kind).is_err_and(|error| {
            error.kind() == io::ErrorKind::ConnectionRefused || error.raw_os_error() == Some(libc::EPROTOTYPE)
        })
    })
}
