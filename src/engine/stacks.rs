//! The Python stacks of all threads, even while one of them holds the interpreter lock for good.
//!
//! CPython's fault handler prints them from within a signal handler, without the lock. It is asked to by a signal that nothing else
//! uses, and writes to a file in memory. A handler of ours around it says when that is done. (The fault handler's own chaining
//! would leave a moment without it.) The signal goes to the process: the kernel prefers the main thread, which then
//! cannot change what is read.

use std::{
    fs::File,
    io::{self, Read, Seek},
    os::{
        fd::{AsRawFd, OwnedFd},
        unix::net::UnixStream,
    },
    sync::{Mutex, PoisonError},
    time::Duration,
};

use nix::{
    errno::Errno,
    sys::memfd::{MFdFlags, memfd_create},
};
use pyo3::prelude::*;

/// How long the dump may take: with the main thread in an uninterruptible wait it never begins.
const PATIENCE: Duration = Duration::from_secs(2);

/// Where the dump appears.
pub struct Stacks(Mutex<Dump>);

struct Dump {
    file: File,
    done: UnixStream,
}

impl Stacks {
    /// Arms the fault handler. For crashes, template.rs has done so.
    pub fn arm(py: Python<'_>) -> PyResult<Stacks> {
        let file: OwnedFd = memfd_create("ostler-stacks", MFdFlags::MFD_CLOEXEC).map_err(io::Error::from)?;
        let (done, tell) = UnixStream::pair()?;
        done.set_read_timeout(Some(PATIENCE))?;
        let faulthandler = py.import("faulthandler")?;
        faulthandler.call_method1("register", (signal(), file.as_raw_fd()))?;
        // Calls the handler that is there, the fault handler's, and then writes a byte.
        signal_hook::low_level::pipe::register(signal(), tell)?;
        Ok(Stacks(Mutex::new(Dump { file: file.into(), done })))
    }

    /// The stacks, or why there are none. Called from any thread, without the interpreter lock.
    pub fn dump(&self) -> String {
        let mut dump = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        dump.take().unwrap_or_else(|error| format!("the Python stacks could not be had: {error}"))
    }
}

impl Dump {
    fn take(&mut self) -> io::Result<String> {
        self.forget_late_answers()?;
        self.file.set_len(0)?;
        self.file.rewind()?;
        // SAFETY: a signal to this very process, which has a handler for it.
        Errno::result(unsafe { libc::kill(std::process::id() as i32, signal()) })?;
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

/// A real-time signal that neither glibc nor systemd nor a profiler is known to use.
fn signal() -> i32 {
    libc::SIGRTMIN() + 11
}
