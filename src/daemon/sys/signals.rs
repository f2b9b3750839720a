//! Signals as things to read. They are blocked for the whole life of the master, so that none is lost, none interrupts,
//! and none kills it in the moment of an upgrade: pending and blocked signals survive execve(2).

use std::{
    io,
    os::fd::{AsFd, BorrowedFd},
};

use nix::{
    errno::Errno,
    sys::{
        signal::{SigHandler, SigSet, Signal, signal},
        signalfd::{SfdFlags, SignalFd},
    },
};

/// Those that mean something to the master.
const OURS: [Signal; 10] = [
    Signal::SIGCHLD,
    Signal::SIGTERM,
    Signal::SIGINT,
    Signal::SIGQUIT,
    Signal::SIGHUP,
    Signal::SIGUSR1,
    Signal::SIGUSR2,
    Signal::SIGTTIN,
    Signal::SIGTTOU,
    Signal::SIGWINCH,
];

/// Those that would end a process which does not collect them yet, but are no reason to end.
const EARLY: [Signal; 5] = [Signal::SIGHUP, Signal::SIGUSR1, Signal::SIGUSR2, Signal::SIGTTIN, Signal::SIGTTOU];

/// Called first. A file that has grown to its limit (RLIMIT_FSIZE) is an error of write(2), and not the end of the process.
pub fn survive_limits() -> io::Result<()> {
    // SAFETY: ignores a signal, no handler of ours.
    unsafe { signal(Signal::SIGXFSZ, SigHandler::SigIgn) }?;
    Ok(())
}

/// Holds back what an operator may send to a daemon that is still reading its settings: it is obeyed when the daemon has started.
pub fn hold_back() -> io::Result<()> {
    Ok(EARLY.into_iter().collect::<SigSet>().thread_block()?)
}

/// The master's signals.
pub struct Signals(SignalFd);

impl Signals {
    /// Blocks them and begins to collect them.
    pub fn collect() -> io::Result<Signals> {
        let set: SigSet = OURS.into_iter().collect();
        set.thread_block()?;
        // SAFETY: sets a default, no handler of ours. If SIGCHLD were ignored (as a parent may have left it), children
        // would vanish without a status.
        unsafe { signal(Signal::SIGCHLD, SigHandler::SigDfl) }?;
        Ok(Signals(SignalFd::with_flags(&set, SfdFlags::SFD_NONBLOCK | SfdFlags::SFD_CLOEXEC)?))
    }

    /// The next one that has arrived.
    pub fn next(&mut self) -> io::Result<Option<Signal>> {
        loop {
            match self.0.read_signal() {
                Ok(None) => return Ok(None),
                Ok(Some(info)) => match Signal::try_from(info.ssi_signo as i32) {
                    Ok(signal) => return Ok(Some(signal)),
                    Err(_) => continue,
                },
                Err(Errno::EINTR) => continue,
                Err(error) => return Err(error.into()),
            }
        }
    }
}

impl AsFd for Signals {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}

/// Gives a child, between fork and exec, what a fresh process has: nothing blocked, nothing ignored.
pub fn reset_in_child() -> io::Result<()> {
    for number in 1..libc::SIGRTMIN() {
        if let Ok(number) = Signal::try_from(number)
            && !matches!(number, Signal::SIGKILL | Signal::SIGSTOP)
        {
            // SAFETY: sets a default, no handler of ours.
            unsafe { signal(number, SigHandler::SigDfl) }?;
        }
    }
    SigSet::empty().thread_set_mask()?;
    Ok(())
}
