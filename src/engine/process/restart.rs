//! If a template has imported an application that must not be forked, it executes itself again, without the application.
//!
//! The alternatives cost more. To import in a forked child first means to import everything twice where forking is safe. To keep a
//! second process for forking means one process more in every generation. To execute again keeps the pid and the channel, and all
//! threads and connections of the application are certainly gone.

use std::{
    ffi::CString,
    fs::File,
    io::{self, Read, Seek, Write},
    os::{
        fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd, RawFd},
        unix::ffi::OsStringExt,
    },
    time::Duration,
};

use nix::{
    fcntl::{FcntlArg, FdFlag, fcntl},
    sys::{
        memfd::{MFdFlags, memfd_create},
        signal::{SaFlags, SigAction, SigHandler, SigSet, Signal, sigaction},
        stat::{Mode, umask},
    },
    unistd::{chdir, dup2_stderr, execve},
};
use ostler_wire::{Boot, CHANNEL_FD, log};
use serde::{Deserialize, Serialize};

use crate::python::stacks;

/// What the template must know after it has executed itself again.
#[derive(Serialize, Deserialize)]
pub struct RestartState {
    /// As the master sent it.
    pub boot: Boot,
    /// In the order of the message.
    pub descriptors: Vec<RawFd>,
    /// What the import left behind.
    pub unsafe_to_fork: Vec<String>,
    /// How long the import took.
    pub import: Duration,
}

/// How this process was executed, noted before the application could change any of it.
pub struct Execution {
    arguments: Vec<CString>,
    environment: Vec<CString>,
    umask: Mode,
}

impl Execution {
    pub fn note() -> io::Result<Execution> {
        let environment = std::env::vars_os().map(|(name, value)| {
            let pair = [name.into_vec(), value.into_vec()].join(&b'=');
            CString::new(pair).expect("the environment's strings end at their zeros")
        });
        let umask_now = umask(Mode::empty());
        umask(umask_now);
        let arguments = std::fs::read("/proc/self/cmdline")?;
        let arguments = arguments
            .split_inclusive(|&byte| byte == 0)
            .map(|argument| CString::from_vec_with_nul(argument.to_vec()).expect("split behind each zero"));
        Ok(Execution { arguments: arguments.collect(), environment: environment.collect(), umask: umask_now })
    }

    /// Executes `executable` as this process was executed. Returns only if that did not work.
    pub fn execute(mut self, executable: &str, state: &RestartState) -> io::Error {
        let note = match state.write() {
            Ok(note) => note,
            Err(error) => return error,
        };
        self.arguments.push(CString::new(note.as_raw_fd().to_string()).expect("digits"));
        let descriptors = state.descriptors.iter().copied().chain([CHANNEL_FD, note.as_raw_fd()]);
        let prepared = self.undo(&state.boot).and_then(|()| inherit_only(&descriptors.collect::<Vec<_>>()));
        if let Err(error) = prepared {
            return error;
        }
        match CString::new(executable) {
            Ok(path) => execve(&path, &self.arguments, &self.environment).unwrap_err().into(),
            Err(error) => error.into(),
        }
    }

    /// Restores what an import may have changed and execve(2) would keep.
    fn undo(&self, boot: &Boot) -> io::Result<()> {
        umask(self.umask);
        chdir(&boot.chdir)?;
        dup2_stderr(log::place())?;
        let default = SigAction::new(SigHandler::SigDfl, SaFlags::empty(), SigSet::empty());
        for signal in Signal::iterator().filter(|signal| !matches!(signal, Signal::SIGKILL | Signal::SIGSTOP)) {
            // SAFETY: the default action runs no code of this process.
            unsafe { sigaction(signal, &default) }?;
        }
        SigSet::empty().thread_set_mask()?;
        // The master may ask for stacks before the new program can answer: the signal waits.
        stacks::let_through(false)
    }
}

impl RestartState {
    /// Writes it into memory that the next program finds at the descriptor returned.
    fn write(&self) -> io::Result<File> {
        let mut note = File::from(memfd_create("ostler-restart", MFdFlags::empty())?);
        note.write_all(&serde_json::to_vec(self)?)?;
        Ok(note)
    }

    /// Reads what this process has written before it executed itself again, and takes over the descriptors.
    pub fn read(note: RawFd) -> io::Result<(RestartState, Vec<OwnedFd>)> {
        // SAFETY: boot.py passes on the number that `execute` has put behind the arguments; it is nobody else's.
        let mut note = unsafe { File::from_raw_fd(note) };
        let mut text = Vec::new();
        note.rewind()?;
        note.read_to_end(&mut text)?;
        let state: RestartState = serde_json::from_slice(&text)?;
        let mut owned = Vec::new();
        for &descriptor in &state.descriptors {
            close_on_exec(descriptor, true)?;
            // SAFETY: open through the exec, as written down by `execute`, and nobody else's.
            owned.push(unsafe { OwnedFd::from_raw_fd(descriptor) });
        }
        Ok((state, owned))
    }
}

/// Lets the next program inherit the standard streams and these descriptors, and no others: a library may have opened some without
/// O_CLOEXEC.
fn inherit_only(descriptors: &[RawFd]) -> io::Result<()> {
    for entry in std::fs::read_dir("/proc/self/fd")? {
        if let Ok(descriptor) = entry?.file_name().to_string_lossy().parse()
            && descriptor > 2
        {
            close_on_exec(descriptor, !descriptors.contains(&descriptor))?;
        }
    }
    Ok(())
}

/// Sets or clears a descriptor's close-on-exec flag.
pub fn close_on_exec(descriptor: RawFd, close: bool) -> io::Result<()> {
    // SAFETY: only flags of the descriptor are changed, and only during this line.
    let descriptor = unsafe { BorrowedFd::borrow_raw(descriptor) };
    let flag = if close { FdFlag::FD_CLOEXEC } else { FdFlag::empty() };
    fcntl(descriptor, FcntlArg::F_SETFD(flag))?;
    Ok(())
}
