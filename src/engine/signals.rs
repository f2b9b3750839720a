//! Signals of template and workers: the master is who decides, so those that mean something to it do nothing here.

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
