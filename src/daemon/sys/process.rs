//! Children: how they are started and how they are buried.

use std::{
    convert::Infallible,
    ffi::CString,
    io,
    os::{
        fd::{OwnedFd, RawFd},
        unix::{ffi::OsStrExt, process::CommandExt},
    },
    path::Path,
    process::Command,
};

use nix::{
    errno::Errno,
    sys::{
        prctl,
        resource::{Resource, getrlimit, setrlimit},
        signal::{Signal, kill},
        stat::{Mode, umask},
        wait::{WaitPidFlag, WaitStatus, waitpid},
    },
    unistd::{Gid, Pid, Uid, execve, setgid, setgroups, setpgid, setuid},
};
use ostler_wire::CHANNEL_FD;

use super::{descriptors, signals::reset_in_child};
use crate::{master::event::Ending, settings::Identity};

/// What a template gets from between fork and exec.
pub struct Child {
    /// Stands at [`CHANNEL_FD`] afterwards.
    pub channel: OwnedFd,
    /// Who it becomes.
    pub identity: Option<Identity>,
    /// Its umask.
    pub umask: u32,
}

/// Starts a child in a process group of its own, so that a terminal's Ctrl-C reaches the master only.
pub fn spawn(mut command: Command, child: Child) -> io::Result<i32> {
    let groups =
        child.identity.as_ref().map(|identity| identity.groups.iter().copied().map(Gid::from_raw).collect::<Vec<_>>());
    let prepare = move || {
        setpgid(Pid::from_raw(0), Pid::from_raw(0))?;
        descriptors::place(std::os::fd::AsFd::as_fd(&child.channel), CHANNEL_FD)?;
        umask(Mode::from_bits_truncate(child.umask));
        if let (Some(identity), Some(groups)) = (&child.identity, &groups) {
            become_somebody(identity, groups)?;
        }
        reset_in_child()
    };
    // SAFETY: the closure runs between fork and exec of a process with one thread; it makes system calls only, and
    // allocates nothing.
    unsafe { command.pre_exec(prepare) };
    Ok(command.spawn()?.id() as i32)
}

/// Starts a child that inherits these descriptors at their own numbers. They must be open until it is started.
pub fn spawn_with(mut command: Command, inherited: Vec<RawFd>) -> io::Result<i32> {
    let prepare = move || {
        setpgid(Pid::from_raw(0), Pid::from_raw(0))?;
        for &number in &inherited {
            descriptors::set_inheritable(number, true)?;
        }
        reset_in_child()
    };
    // SAFETY: the closure runs between fork and exec of a process with one thread; it makes system calls only, and
    // allocates nothing.
    unsafe { command.pre_exec(prepare) };
    Ok(command.spawn()?.id() as i32)
}

/// Executes another program in this process, which keeps these descriptors. Returns only if that cannot be.
pub fn execute(
    program: &Path,
    arguments: &[CString],
    environment: &[CString],
    inherited: &[RawFd],
) -> io::Result<Infallible> {
    let program = CString::new(program.as_os_str().as_bytes())?;
    let executed = inherited
        .iter()
        .try_for_each(|&number| descriptors::set_inheritable(number, true))
        .and_then(|()| execve(&program, arguments, environment).map_err(io::Error::from));
    for &number in inherited {
        let _ = descriptors::set_inheritable(number, false);
    }
    executed
}

/// Nobody but root may set groups, and an ordinary user need not, who stays who they are.
fn become_somebody(identity: &Identity, groups: &[Gid]) -> io::Result<()> {
    if Uid::effective().is_root() {
        setgroups(groups)?;
    }
    setgid(Gid::from_raw(identity.group))?;
    setuid(Uid::from_raw(identity.user))?;
    Ok(())
}

/// Orphans of this process's children become its own children (the workers, forked by a template's child).
pub fn adopt_orphans() -> io::Result<()> {
    prctl::set_child_subreaper(true)?;
    Ok(())
}

/// The next child that has ended, known or not.
pub fn reap() -> Option<(i32, Ending)> {
    loop {
        match waitpid(None, Some(WaitPidFlag::WNOHANG)) {
            Ok(WaitStatus::Exited(pid, status)) => return Some((pid.as_raw(), Ending::Status(status))),
            Ok(WaitStatus::Signaled(pid, signal, _)) => return Some((pid.as_raw(), Ending::Signal(signal as i32))),
            Ok(WaitStatus::StillAlive) | Err(Errno::ECHILD) => return None,
            Ok(_) | Err(_) => continue,
        }
    }
}

/// Waits for the end of a child.
pub fn bury(pid: i32) -> Option<Ending> {
    loop {
        match waitpid(Pid::from_raw(pid), None) {
            Ok(WaitStatus::Exited(_, status)) => return Some(Ending::Status(status)),
            Ok(WaitStatus::Signaled(_, signal, _)) => return Some(Ending::Signal(signal as i32)),
            Ok(_) | Err(Errno::EINTR) => continue,
            Err(_) => return None,
        }
    }
}

/// Sends SIGKILL to a child that has not been reaped, so that its number is still its own.
pub fn kill_child(pid: i32) {
    let _ = kill(Pid::from_raw(pid), Signal::SIGKILL);
}

/// As many descriptors as the administrator allows: connections need them.
pub fn raise_descriptor_limit() -> io::Result<()> {
    let (_, hard) = getrlimit(Resource::RLIMIT_NOFILE)?;
    setrlimit(Resource::RLIMIT_NOFILE, hard, hard)?;
    Ok(())
}
