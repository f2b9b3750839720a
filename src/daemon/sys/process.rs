//! Children: how they are started and how they are buried.

use std::{
    io,
    os::{fd::OwnedFd, unix::process::CommandExt},
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
    unistd::{Gid, Pid, Uid, setgid, setgroups, setpgid, setuid},
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

/// Sends SIGKILL to a child that has not been reaped, so that its number is still its own.
pub fn kill_child(pid: i32) {
    let _ = kill(Pid::from_raw(pid), Signal::SIGKILL);
}

/// Whether there is a process with this number, of whomever.
pub fn alive(pid: i32) -> bool {
    pid > 0 && !matches!(kill(Pid::from_raw(pid), None), Err(Errno::ESRCH))
}

/// As many descriptors as the administrator allows: connections need them.
pub fn raise_descriptor_limit() -> io::Result<()> {
    let (_, hard) = getrlimit(Resource::RLIMIT_NOFILE)?;
    setrlimit(Resource::RLIMIT_NOFILE, hard, hard)?;
    Ok(())
}
