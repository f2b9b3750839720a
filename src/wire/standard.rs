//! Standard input, output and error belong to the application: what C code and child processes write goes to the numbers 1 and 2. Where
//! the application has closed one, the kernel gives its number to whatever is opened next. A client's connection there would get what is
//! not meant for it.

use std::{
    fs::OpenOptions,
    io,
    os::fd::{AsRawFd, IntoRawFd, OwnedFd},
    sync::atomic::{AtomicU8, Ordering::Relaxed},
};

use nix::unistd::dup2;

/// The highest of the three numbers.
const LAST: i32 = 2;

/// Whether one was found closed, and whether that was told.
static FOUND: AtomicU8 = AtomicU8::new(NONE);
const NONE: u8 = 0;
const UNTOLD: u8 = 1;
const TOLD: u8 = 2;

/// The same thing at a number above them; /dev/null takes the place that it was given.
pub fn vacate(mut given: OwnedFd) -> io::Result<OwnedFd> {
    if given.as_raw_fd() > LAST {
        return Ok(given);
    }
    // The standard library's copies, which are close-on-exec, have numbers above them.
    let moved = given.try_clone()?;
    let _ = FOUND.compare_exchange(NONE, UNTOLD, Relaxed, Relaxed);
    if let Ok(null) = OpenOptions::new().read(true).write(true).open("/dev/null")
        && dup2(&null, &mut given).is_ok()
    {
        // It stays open: children inherit it.
        let _number = given.into_raw_fd();
    }
    Ok(moved)
}

/// Whether to tell that one was found closed: once in a process.
pub fn is_to_be_told() -> bool {
    FOUND.load(Relaxed) == UNTOLD && FOUND.swap(TOLD, Relaxed) == UNTOLD
}
