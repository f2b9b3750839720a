//! Signals of template and workers: the master is who decides, so those that mean something to it do nothing here.

use std::{
    io,
    os::{fd::OwnedFd, unix::net::UnixStream},
};

use nix::sys::signal::{SaFlags, SigAction, SigHandler, SigSet, Signal, sigaction};

/// Gives them a handler that does nothing, rather than ignoring them, so that programs the application executes
/// start with the default. TERM gets its meaning from the worker's loop.
pub fn disregard() {
    use Signal::*;
    extern "C" fn nothing(_: i32) {}
    let action = SigAction::new(SigHandler::Handler(nothing), SaFlags::SA_RESTART, SigSet::empty());
    for signal in [SIGTERM, SIGINT, SIGHUP, SIGQUIT, SIGUSR1, SIGUSR2, SIGWINCH, SIGTTIN, SIGTTOU] {
        // SAFETY: a handler that does nothing is safe at any time.
        let _ = unsafe { sigaction(signal, &action) };
    }
}

/// A descriptor that can be read from once this process has been sent TERM.
pub fn terminated() -> io::Result<OwnedFd> {
    let (read, write) = UnixStream::pair()?;
    signal_hook::low_level::pipe::register(libc::SIGTERM, write)?;
    Ok(read.into())
}
