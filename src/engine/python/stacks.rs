//! The Python stacks of all threads, even while one of them holds the interpreter lock for good, and while an import hangs.
//!
//! A worker's loop has them read with the interpreter lock ([`super::walking`]) where that can be had soon. Otherwise CPython's fault handler prints them from within a signal handler, without the lock, into a file in memory. A signal that nothing
//! else uses triggers it. Our own handler calls the fault handler and then reports that the file is complete: to the worker's loop,
//! which has sent the signal to its own process, or, while there is no loop yet, to the master, which has sent it. (The chaining of
//! the fault handler itself would leave a moment without a handler.) The signal is sent to the process, not to a thread: the kernel
//! prefers the main thread, which then cannot change what is being read.

use std::{
    fs::File,
    io::{self, Read, Seek},
    mem::{self, MaybeUninit},
    os::{
        fd::{BorrowedFd, FromRawFd, IntoRawFd, OwnedFd, RawFd},
        unix::net::UnixStream,
    },
    ptr,
    sync::{
        Mutex, PoisonError,
        atomic::{AtomicPtr, AtomicUsize, Ordering::*},
    },
    time::Duration,
};

use nix::{
    errno::Errno,
    sys::memfd::{MFdFlags, memfd_create},
};
use ostler_wire::stacks_signal;
use pyo3::prelude::*;

use super::walking::Walker;
use crate::descriptors::KnownDescriptors;

/// How long the dump may take. While the main thread is in an uninterruptible wait, it does not begin.
const PATIENCE: Duration = Duration::from_secs(2);
/// How many bytes the handler sends to the master at most. The fault handler shows a hundred frames of a thread.
const MOST: usize = 12 * 1024;

/// CPython's handler; 0 before it is known.
static FAULT: AtomicUsize = AtomicUsize::new(0);
/// What the handler uses. It is replaced as a whole, and the old value is never freed: a handler may be using it.
static HELD: AtomicPtr<Held> = AtomicPtr::new(ptr::null_mut());

struct Held {
    /// Where the dump appears.
    file: RawFd,
    listener: Listener,
    /// The file's descriptor and the listener's.
    known: KnownDescriptors,
}

/// The one that is told when the dump is complete.
#[derive(Clone, Copy)]
enum Listener {
    /// At the other end of this channel.
    Master(RawFd),
    /// At the other end of this socket.
    Loop(RawFd),
}

/// Arms the fault handler for the signal. (template.rs has enabled it for crashes.) From now on
/// the master, at the other end of `channel`, may ask.
pub fn arm(py: Python<'_>, channel: RawFd) -> PyResult<()> {
    let file: OwnedFd = memfd_create("ostler-stacks", MFdFlags::MFD_CLOEXEC).map_err(io::Error::from)?;
    let old = held();
    hold(file.into_raw_fd(), Listener::Master(channel))?;
    arm_again(py)?;
    let loops = |old: &Held| if let Listener::Loop(socket) = old.listener { Some(socket) } else { None };
    for old in old.into_iter().flat_map(|old| [Some(old.file), loops(old)]).flatten() {
        // SAFETY: this module's own, and nothing uses it any more.
        drop(unsafe { OwnedFd::from_raw_fd(old) });
    }
    Ok(())
}

/// Where the dump appears.
pub fn descriptor() -> Option<RawFd> {
    held().map(|held| held.file)
}

/// Arms it again after code of the application has run, which may have changed the handlers.
pub fn arm_again(py: Python<'_>) -> PyResult<()> {
    let Some(held) = held() else { return Ok(()) };
    py.import("faulthandler")?.call_method1("register", (stacks_signal(), held.file))?;
    if FAULT.load(Acquire) == 0 {
        FAULT.store(handle(None)?, Release);
    }
    handle(Some(on_signal as *const () as libc::sighandler_t))?;
    let_through(true)?;
    Ok(())
}

/// Unblocks the signal for this thread, or blocks it.
pub fn let_through(through: bool) -> io::Result<()> {
    let how = if through { libc::SIG_UNBLOCK } else { libc::SIG_BLOCK };
    // SAFETY: zero is an empty set of signals.
    let mut signals: libc::sigset_t = unsafe { mem::zeroed() };
    // SAFETY: adds one to it.
    unsafe { libc::sigaddset(&mut signals, stacks_signal()) };
    // SAFETY: reads the set, and is not asked for another.
    match unsafe { libc::pthread_sigmask(how, &signals, ptr::null_mut()) } {
        0 => Ok(()),
        error => Err(io::Error::from_raw_os_error(error)),
    }
}

fn held() -> Option<&'static Held> {
    // SAFETY: null, or what `hold` has put there, which is never freed.
    unsafe { HELD.load(Acquire).as_ref() }
}

fn hold(file: RawFd, listener: Listener) -> io::Result<()> {
    let (Listener::Master(number) | Listener::Loop(number)) = listener;
    let known = KnownDescriptors::note([file, number])?;
    HELD.store(Box::leak(Box::new(Held { file, listener, known })), Release);
    Ok(())
}

/// The signal's handler so far. Sets `new`, if one is given.
fn handle(new: Option<libc::sighandler_t>) -> io::Result<libc::sighandler_t> {
    let mut old = MaybeUninit::<libc::sigaction>::zeroed();
    // SAFETY: zero is a value of the structure.
    let mut action: libc::sigaction = unsafe { mem::zeroed() };
    action.sa_flags = libc::SA_RESTART;
    action.sa_sigaction = new.unwrap_or(libc::SIG_DFL);
    let action = if new.is_some() { &raw const action } else { ptr::null() };
    // SAFETY: the only handler that is given, `on_signal`, is made for it; there is room for the answer.
    Errno::result(unsafe { libc::sigaction(stacks_signal(), action, old.as_mut_ptr()) })?;
    // SAFETY: filled in.
    Ok(unsafe { old.assume_init() }.sa_sigaction)
}

/// The signal handler. It makes system calls only, and uses no memory but its own. If the application has closed one of the
/// descriptors, the number may be another file's: then nothing is written.
extern "C" fn on_signal(signal: libc::c_int) {
    let (before, fault) = (Errno::last_raw(), FAULT.load(Acquire));
    if let Some(held) = held().filter(|held| held.known.lost().next().is_none()) {
        // SAFETY: a file of this module's own.
        unsafe { libc::ftruncate(held.file, 0) };
        // SAFETY: the same.
        unsafe { libc::lseek(held.file, 0, libc::SEEK_SET) };
        // SAFETY: CPython's handler for this signal, as read where the kernel keeps it.
        let dump = unsafe { mem::transmute::<usize, extern "C" fn(libc::c_int)>(fault) };
        dump(signal);
        match held.listener {
            Listener::Master(channel) => tell_master(held.file, channel),
            // SAFETY: one byte, and it is there.
            Listener::Loop(socket) => unsafe {
                libc::write(socket, [0_u8].as_ptr().cast(), 1);
            },
        }
    }
    Errno::set_raw(before);
}

/// Sends `FromTemplate::Stacks`, or `FromWorker::Stacks`: in JSON they are the same.
fn tell_master(file: RawFd, channel: RawFd) {
    let (mut text, mut packet) = ([0_u8; MOST], [0_u8; 2 * MOST + 64]);
    // SAFETY: `text` has room for that many bytes.
    let length = unsafe { libc::pread(file, text.as_mut_ptr().cast(), MOST, 0) };
    let mut end = 0;
    let mut add = |bytes: &[u8]| {
        packet[end..end + bytes.len()].copy_from_slice(bytes);
        end += bytes.len();
    };
    add(b"{\"Stacks\":\"");
    for byte in &text[..usize::try_from(length).unwrap_or(0)] {
        match byte {
            b'"' | b'\\' => add(&[b'\\', *byte]),
            b'\n' => add(b"\\n"),
            b' '..=b'~' => add(&[*byte]),
            _ => add(b"?"),
        }
    }
    add(b"\"}");
    let flags = libc::MSG_NOSIGNAL | libc::MSG_DONTWAIT;
    // SAFETY: as many bytes as were written there.
    unsafe { libc::send(channel, packet.as_ptr().cast(), end, flags) };
}

/// For a worker's loop.
pub struct Stacks {
    walker: Walker,
    dump: Mutex<Dump>,
}

struct Dump {
    file: File,
    done: UnixStream,
}

impl Stacks {
    /// From now on the handler reports to the loop, and the loop answers the master.
    pub fn for_loop(py: Python<'_>) -> PyResult<Stacks> {
        let (done, tell) = UnixStream::pair()?;
        done.set_read_timeout(Some(PATIENCE))?;
        let file = held().expect("a worker was armed when it began").file;
        hold(file, Listener::Loop(tell.into_raw_fd()))?;
        arm_again(py)?;
        // SAFETY: `arm`'s own, which stays open.
        let file = unsafe { BorrowedFd::borrow_raw(file) }.try_clone_to_owned()?;
        Ok(Stacks { walker: Walker::new(py)?, dump: Mutex::new(Dump { file: file.into(), done }) })
    }

    /// The stacks, or why there are none. Called from any thread, without the interpreter lock.
    pub fn dump(&self) -> String {
        self.walker.walk().unwrap_or_else(|why| {
            let mut dump = self.dump.lock().unwrap_or_else(PoisonError::into_inner);
            match dump.take() {
                Ok(text) => format!("taken by a signal: {why}\n{text}"),
                Err(error) => format!("the Python stacks could not be had: {why}; by a signal: {error}"),
            }
        })
    }
}

impl Dump {
    fn take(&mut self) -> io::Result<String> {
        self.forget_late_answers()?;
        // SAFETY: a signal to this very process, which has a handler for it.
        Errno::result(unsafe { libc::kill(std::process::id() as i32, stacks_signal()) })?;
        self.done.read_exact(&mut [0])?;
        let mut text = Vec::new();
        self.file.rewind()?;
        self.file.read_to_end(&mut text)?;
        Ok(String::from_utf8_lossy(&text).into_owned())
    }

    fn forget_late_answers(&mut self) -> io::Result<()> {
        self.done.set_nonblocking(true)?;
        while self.done.read(&mut [0; 16]).is_ok_and(|length| length > 0) {}
        self.done.set_nonblocking(false)
    }
}
