//! A folder that files are opened beneath: whatever a way below it says, and whoever renames folders meanwhile, no file outside of it
//! is opened. The kernel sees to that (openat2(2)); where it cannot, the way is gone step by step, and follows no link.

use std::{
    fs::File,
    io,
    os::fd::{AsFd, OwnedFd},
    path::{Path, PathBuf},
};

use nix::{
    errno::Errno,
    fcntl::{OFlag, OpenHow, ResolveFlag, open, openat, openat2},
    sys::stat::{Mode, fstat},
};
use ostler_wire::standard;

/// How often a way is begun again while folders on it are renamed (EAGAIN).
const ATTEMPTS: usize = 16;

/// An open folder.
#[derive(Debug)]
pub(super) struct Directory {
    descriptor: OwnedFd,
    walk: Walk,
    path: PathBuf,
    links: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Walk {
    /// The kernel holds to these.
    Kernel(ResolveFlag),
    /// The kernel does not know openat2(2) (before Linux 5.6), or a sandbox refuses it.
    Steps,
    /// The same, and links may lead anywhere.
    Anywhere,
}

impl Directory {
    /// Opens a folder. `links`: links below it may lead out of it.
    pub fn open(path: &Path, links: bool) -> io::Result<Directory> {
        let descriptor = open(path, OFlag::O_PATH | OFlag::O_DIRECTORY | OFlag::O_CLOEXEC, Mode::empty())?;
        let descriptor = standard::vacate(descriptor)?;
        let bounds = if links { ResolveFlag::empty() } else { ResolveFlag::RESOLVE_BENEATH };
        let bounds = bounds | ResolveFlag::RESOLVE_NO_MAGICLINKS;
        let walk = match openat2(&descriptor, ".", how(OFlag::O_PATH, bounds)) {
            Err(Errno::ENOSYS | Errno::EPERM | Errno::EACCES) if links => Walk::Anywhere,
            Err(Errno::ENOSYS | Errno::EPERM | Errno::EACCES) => Walk::Steps,
            _ => Walk::Kernel(bounds),
        };
        Ok(Directory { descriptor, walk, path: path.to_owned(), links })
    }

    /// If the folder was removed, opens the one that has its path now. Whether there is one.
    pub fn follow(&mut self) -> bool {
        let removed = fstat(&self.descriptor).is_ok_and(|about| about.st_nlink == 0);
        let next = removed.then(|| Directory::open(&self.path, self.links).ok()).flatten();
        next.map(|next| *self = next).is_some()
    }

    /// Opens what a way leads to: segments with single slashes between them, none of them `.` or `..`. Does not wait: what is opened may be
    /// a pipe.
    pub fn open_file(&self, way: &[u8]) -> Result<File, Errno> {
        let opened = match self.walk {
            Walk::Kernel(bounds) => self.open_bounded(way, bounds)?,
            Walk::Anywhere => openat(&self.descriptor, way, reading(), Mode::empty())?,
            Walk::Steps => self.open_step_by_step(way)?,
        };
        let opened = standard::vacate(opened).map_err(|_| Errno::EMFILE)?;
        Ok(opened.into())
    }

    fn open_bounded(&self, way: &[u8], bounds: ResolveFlag) -> Result<OwnedFd, Errno> {
        let attempt = || openat2(&self.descriptor, way, how(reading(), bounds));
        let mut attempts = std::iter::repeat_with(attempt).take(ATTEMPTS);
        attempts.find(|opened| !matches!(opened, Err(Errno::EAGAIN))).unwrap_or(Err(Errno::EAGAIN))
    }

    fn open_step_by_step(&self, way: &[u8]) -> Result<OwnedFd, Errno> {
        let mut segments = way.split(|&byte| byte == b'/');
        let name = segments.next_back().unwrap_or_default();
        let folder = OFlag::O_PATH | OFlag::O_DIRECTORY | OFlag::O_NOFOLLOW | OFlag::O_CLOEXEC;
        let mut reached = None;
        for segment in segments {
            let from = reached.as_ref().unwrap_or(&self.descriptor);
            reached = Some(openat(from.as_fd(), segment, folder, Mode::empty())?);
        }
        let from = reached.as_ref().unwrap_or(&self.descriptor);
        openat(from.as_fd(), name, reading() | OFlag::O_NOFOLLOW, Mode::empty())
    }
}

fn reading() -> OFlag {
    OFlag::O_RDONLY | OFlag::O_CLOEXEC | OFlag::O_NONBLOCK | OFlag::O_NOCTTY
}

fn how(flags: OFlag, bounds: ResolveFlag) -> OpenHow {
    OpenHow::new().flags(flags | OFlag::O_CLOEXEC).resolve(bounds)
}

#[cfg(any(test, fuzzing))]
impl Directory {
    /// The same as for a kernel without openat2(2).
    pub fn step_by_step(self) -> Directory {
        let walk =
            if self.walk == Walk::Kernel(ResolveFlag::RESOLVE_NO_MAGICLINKS) { Walk::Anywhere } else { Walk::Steps };
        Directory { walk, ..self }
    }
}
