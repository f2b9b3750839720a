//! Signals of template and workers: the master is who decides, so those that mean something to it do nothing here.

use std::{
    io,
    mem::MaybeUninit,
    os::{fd::OwnedFd, unix::net::UnixStream},
    ptr,
    sync::OnceLock,
};

use nix::sys::signal::{
    SaFlags, SigAction, SigHandler, SigSet,
    Signal::{self, *},
    sigaction,
};

const OURS: [Signal; 9] = [SIGTERM, SIGINT, SIGHUP, SIGQUIT, SIGUSR1, SIGUSR2, SIGWINCH, SIGTTIN, SIGTTOU];

/// What they meant before.
static BEFORE: OnceLock<[SigAction; OURS.len()]> = OnceLock::new();
/// The handlers that a worker has; those that the application has set since are its own.
static HANDLERS: OnceLock<[libc::sighandler_t; OURS.len()]> = OnceLock::new();

/// Gives them a handler that does nothing, rather than ignoring them, so that programs the application executes
/// start with the default. TERM gets its meaning from the worker's loop.
pub fn disregard() {
    extern "C" fn nothing(_: i32) {}
    let action = SigAction::new(SigHandler::Handler(nothing), SaFlags::SA_RESTART, SigSet::empty());
    BEFORE.get_or_init(|| {
        // SAFETY: a handler that does nothing is safe at any time.
        OURS.map(|signal| unsafe { sigaction(signal, &action) }.expect("each of these may be handled"))
    });
}

/// A descriptor that can be read from once this process has been sent TERM.
pub fn terminated() -> io::Result<OwnedFd> {
    let (read, write) = UnixStream::pair()?;
    signal_hook::low_level::pipe::register(libc::SIGTERM, write)?;
    HANDLERS.get_or_init(|| OURS.map(handler));
    Ok(read.into())
}

/// In a child of the worker: lets them mean again what they meant to Python. Makes system calls only.
pub fn give_back() {
    let (Some(before), Some(handlers)) = (BEFORE.get(), HANDLERS.get()) else { return };
    for ((signal, before), ours) in OURS.into_iter().zip(before).zip(handlers) {
        if handler(signal) == *ours {
            // SAFETY: CPython's own handler, or none.
            let _ = unsafe { sigaction(signal, before) };
        }
    }
}

/// What stands there now.
fn handler(signal: Signal) -> libc::sighandler_t {
    let mut now = MaybeUninit::<libc::sigaction>::zeroed();
    // SAFETY: asks only, and has room for the answer.
    unsafe { libc::sigaction(signal as i32, ptr::null(), now.as_mut_ptr()) };
    // SAFETY: filled in, or zero, which is a value that it may have.
    unsafe { now.assume_init() }.sa_sigaction
}
