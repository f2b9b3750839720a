//! Signals of template and workers. The master decides, so the signals that it obeys do nothing here. All other signals are the
//! application's, and it may set its own handlers for these, too.

use std::{
    io,
    mem::MaybeUninit,
    os::{fd::OwnedFd, unix::net::UnixStream},
    ptr,
    sync::{Mutex, OnceLock, PoisonError},
};

use nix::sys::signal::{
    SaFlags, SigAction, SigHandler, SigSet,
    Signal::{self, *},
    sigaction,
};

const OURS: [Signal; 9] = [SIGTERM, SIGINT, SIGHUP, SIGQUIT, SIGUSR1, SIGUSR2, SIGWINCH, SIGTTIN, SIGTTOU];

/// The handlers of these signals before they were made to do nothing.
static BEFORE: Mutex<Vec<(Signal, SigAction)>> = Mutex::new(Vec::new());
/// What a worker does at TERM.
static TERMINATES: Mutex<Option<signal_hook::SigId>> = Mutex::new(None);
/// For children of the worker: each signal, the worker's handler for it, and the handler that the child gets.
static HELD: OnceLock<Vec<(Signal, libc::sighandler_t, SigAction)>> = OnceLock::new();

/// Gives these signals a handler that does nothing. They are not ignored, because programs that the application executes would then
/// ignore them, too. The worker's loop sets its own handler for TERM.
pub fn disregard() {
    OURS.into_iter().for_each(make_harmless);
}

/// After the import: makes harmless what the application has reset to the default action, which would end the process. These are the
/// signals above, SIGPIPE (sent when a client leaves during sendfile(2)), and timers left running without a handler for their signal.
pub fn settle() {
    for signal in OURS.into_iter().chain([SIGPIPE]).filter(|signal| handler(*signal) == libc::SIG_DFL) {
        make_harmless(signal);
    }
    let timers = [(libc::ITIMER_REAL, SIGALRM), (libc::ITIMER_VIRTUAL, SIGVTALRM), (libc::ITIMER_PROF, SIGPROF)];
    for (timer, _) in timers.into_iter().filter(|(_, signal)| handler(*signal) == libc::SIG_DFL) {
        // SAFETY: zero is a value of the structure: it stops the timer.
        let never = unsafe { MaybeUninit::<libc::itimerval>::zeroed().assume_init() };
        // SAFETY: reads one structure, and is asked for no other.
        unsafe { libc::setitimer(timer, &never, ptr::null_mut()) };
    }
}

fn make_harmless(signal: Signal) {
    extern "C" fn nothing(_: i32) {}
    let action = SigAction::new(SigHandler::Handler(nothing), SaFlags::SA_RESTART, SigSet::empty());
    // SAFETY: a handler that does nothing is safe at any time.
    let was = unsafe { sigaction(signal, &action) }.expect("each of these may be handled");
    let mut before = BEFORE.lock().unwrap_or_else(PoisonError::into_inner);
    before.retain(|(known, _)| *known != signal);
    before.push((signal, was));
}

/// A descriptor that can be read from once this process has been sent TERM.
pub fn terminated() -> io::Result<OwnedFd> {
    let (read, write) = UnixStream::pair()?;
    let registered = signal_hook::low_level::pipe::register(libc::SIGTERM, write)?;
    *TERMINATES.lock().unwrap_or_else(PoisonError::into_inner) = Some(registered);
    // The import may have blocked it.
    SigSet::from(SIGTERM).thread_unblock()?;
    let before = BEFORE.lock().unwrap_or_else(PoisonError::into_inner);
    HELD.get_or_init(|| before.iter().map(|(signal, was)| (*signal, handler(*signal), *was)).collect());
    Ok(read.into())
}

/// The process is no worker any more, and TERM does nothing.
pub fn unheard() {
    if let Some(registered) = TERMINATES.lock().unwrap_or_else(PoisonError::into_inner).take() {
        signal_hook::low_level::unregister(registered);
    }
    settle();
}

/// In a child of the worker: restores Python's own handlers. Makes system calls only.
pub fn give_back() {
    for (signal, ours, before) in HELD.get().into_iter().flatten() {
        // A handler that the application has set since stays.
        if handler(*signal) == *ours {
            // SAFETY: CPython's own handler, or none.
            let _ = unsafe { sigaction(*signal, before) };
        }
    }
}

/// The present handler.
fn handler(signal: Signal) -> libc::sighandler_t {
    let mut now = MaybeUninit::<libc::sigaction>::zeroed();
    // SAFETY: asks only, and has room for the answer.
    unsafe { libc::sigaction(signal as i32, ptr::null(), now.as_mut_ptr()) };
    // SAFETY: filled in, or zero, which is a value that it may have.
    unsafe { now.assume_init() }.sa_sigaction
}
