//! Where the log is, and how a line gets there. The place is the log's own, and the application may close or replace it all the same.

use std::{
    os::fd::{AsFd, BorrowedFd, IntoRawFd},
    sync::atomic::{
        AtomicBool, AtomicI32, AtomicU64,
        Ordering::{Relaxed, SeqCst},
    },
};

use nix::{
    fcntl::OFlag,
    sys::stat::fstat,
    unistd::{dup2_raw, dup3_raw},
};

use super::journal;
use crate::sink::{self, FileKind};

/// Where the log is: standard error, until [`keep`] gives it a place of its own.
static PLACE: AtomicI32 = AtomicI32::new(2);
/// Whether this process's last line was written only in part.
static TORN: AtomicBool = AtomicBool::new(false);

/// The file that stands at a place of the log's own, by device and inode.
static KEPT: [AtomicU64; 2] = [AtomicU64::new(0), AtomicU64::new(0)];
/// Whether it is just being replaced.
static CHANGING: AtomicBool = AtomicBool::new(false);

/// The log's descriptor.
pub fn place() -> BorrowedFd<'static> {
    // SAFETY: what stands there is replaced, but never closed. Standard error may be: then writes fail, and lines are lost.
    unsafe { BorrowedFd::borrow_raw(PLACE.load(Relaxed)) }
}

/// Gives the log a descriptor of its own. What stands at 2 is the application's from then on: it may close it, or open its own files
/// there.
pub fn keep() -> std::io::Result<()> {
    journal::stream();
    let own = sink::own(std::io::stderr().as_fd())?;
    PLACE.store(own.into_raw_fd(), Relaxed);
    remember();
    Ok(())
}

/// Goes on in another file. `along`: which of the descriptors 1 and 2 are replaced, too, if they lead to the log now.
pub fn replace(file: BorrowedFd, along: &[i32]) -> std::io::Result<()> {
    let now = identity(place());
    for &number in along {
        // SAFETY: asks only; a number that is not open is told from one that is.
        if identity(unsafe { BorrowedFd::borrow_raw(number) }) == now {
            // SAFETY: standard output and standard error have no Rust owner in this process.
            let _stays_open = unsafe { dup2_raw(file, number) }?.into_raw_fd();
        }
    }
    if PLACE.load(Relaxed) > 2 {
        let own = sink::own(file)?;
        CHANGING.store(true, SeqCst);
        // SAFETY: the place is the log's alone.
        let _stays_open = unsafe { dup3_raw(own, PLACE.load(Relaxed), OFlag::O_CLOEXEC) }?.into_raw_fd();
        remember();
    }
    Ok(())
}

fn remember() {
    let (device, inode) = identity(place()).unwrap_or_default();
    KEPT[0].store(device, SeqCst);
    KEPT[1].store(inode, SeqCst);
    CHANGING.store(false, SeqCst);
}

fn kept() -> (u64, u64) {
    (KEPT[0].load(SeqCst), KEPT[1].load(SeqCst))
}

/// The application may have closed the log's descriptor and opened a file that got its number. Then the log goes to standard error.
fn look_at_place() {
    let before = kept();
    if PLACE.load(Relaxed) > 2 && identity(place()) != Some(before) && !CHANGING.load(SeqCst) && kept() == before {
        PLACE.store(2, Relaxed);
    }
}

/// Whether a descriptor leads to the log.
pub fn is_at(descriptor: BorrowedFd) -> bool {
    identity(descriptor) == identity(place())
}

/// Which file it is; none if it is not open.
fn identity(descriptor: BorrowedFd) -> Option<(u64, u64)> {
    fstat(descriptor).ok().map(|status| (status.st_dev, status.st_ino))
}

/// Whether what is written there goes to the journal, which takes `<6>` in front of a line for the line's level (sd-daemon(3)).
pub fn leads_to_journal(place: BorrowedFd) -> bool {
    journal::stream().is_some_and(|stream| identity(place) == Some(stream))
}

/// Whether all of it could be written.
pub(super) fn write(text: &[u8]) -> bool {
    look_at_place();
    let place = place();
    let kind = FileKind::of(place);
    if TORN.load(Relaxed) {
        if sink::write(place, kind, b"\n").1.is_some() {
            return false;
        }
        TORN.store(false, Relaxed);
    }
    let (written, error) = sink::write(place, kind, text);
    if written > 0 && text[written - 1] != b'\n' && error.is_some() {
        TORN.store(true, Relaxed);
    }
    error.is_none()
}
