//! Signals of template and workers: the master is who decides, so those that mean something to it do nothing here. All others,
//! and what an application makes of these, are the application's.

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

/// What signals meant before they were made to do nothing.
static BEFORE: Mutex<Vec<(Signal, SigAction)>> = Mutex::new(Vec::new());
/// For the worker's children: the signals, the handlers that the worker has for them, and what they shall mean there.
static HELD: OnceLock<Vec<(Signal, libc::sighandler_t, SigAction)>> = OnceLock::new();

/// Gives them a handler that does nothing, rather than ignoring them, so that programs the application executes
/// start with the default. TERM gets its meaning from the worker's loop.
pub fn disregard() {
    OURS.into_iter().for_each(make_harmless);
}

/// After the import: one of these, or SIGPIPE, whose default was set would end the process when its turn comes (a client that leaves
/// during sendfile(2) is enough), and so would a timer that was left running and that nobody handles.
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
    signal_hook::low_level::pipe::register(libc::SIGTERM, write)?;
    // The import may have blocked it.
    SigSet::from(SIGTERM).thread_unblock()?;
    let before = BEFORE.lock().unwrap_or_else(PoisonError::into_inner);
    HELD.get_or_init(|| before.iter().map(|(signal, was)| (*signal, handler(*signal), *was)).collect());
    Ok(read.into())
}

/// In a child of the worker: lets them mean again what they meant to Python. Makes system calls only.
pub fn give_back() {
    for (signal, ours, before) in HELD.get().into_iter().flatten() {
        // Those that the application has set since are its own.
        if handler(*signal) == *ours {
            // SAFETY: CPython's own handler, or none.
            let _ = unsafe { sigaction(*signal, before) };
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
