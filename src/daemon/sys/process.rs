//! Children: how they are started and how they are buried.

use std::{
    convert::Infallible,
    ffi::CString,
    fmt, fs, io,
    mem::MaybeUninit,
    os::{
        fd::{AsFd, OwnedFd, RawFd},
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
        stat::{Mode, umask},
    },
    unistd::{Gid, Pid, Uid, chdir, execve, setgid, setgroups, setpgid, setsid, setuid},
};
use ostler_wire::CHANNEL_FD;
use serde::{Deserialize, Serialize};

use super::{descriptors, identity::Identity, pidfd::PidFd, signals::reset_in_child};

/// How a process ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum Ending {
    /// By exit(2).
    Status(i32),
    /// By a signal.
    Signal(i32),
    /// By the kernel, for want of memory.
    OutOfMemory,
}

impl fmt::Display for Ending {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        match *self {
            Ending::Status(status) => write!(f, "exit status {status}"),
            Ending::Signal(signal) => match nix::sys::signal::Signal::try_from(signal) {
                Ok(name) => write!(f, "{name}"),
                Err(_) => write!(f, "signal {signal}"),
            },
            Ending::OutOfMemory => f.write_str("SIGKILL by the kernel, for want of memory"),
        }
    }
}

/// As whom and where the application's interpreter runs, from between fork and exec.
#[derive(Debug, Clone, Copy)]
pub struct Guise<'a> {
    /// Who it becomes, if somebody else.
    pub identity: Option<&'a Identity>,
    /// Whether it may still gain privileges by executing a set-user-ID program.
    pub new_privileges: bool,
    /// Its working directory, entered as the user that it has become.
    pub directory: &'a Path,
}

/// Has a command run so, in a session of its own: a terminal's Ctrl-C reaches the master only, a terminal that it was given
/// can be read (a debugger does), and what root types there next cannot be put into its mouth (TIOCSTI).
pub fn disguise(command: &mut Command, guise: Guise) -> io::Result<()> {
    let directory = CString::new(guise.directory.as_os_str().as_bytes())?;
    let identity = guise.identity.map(|identity| (identity.user, identity.group));
    let groups: Vec<Gid> =
        guise.identity.iter().flat_map(|identity| &identity.groups).map(|&id| Gid::from_raw(id)).collect();
    let prepare = move || {
        setsid()?;
        if let Some((user, group)) = identity {
            become_somebody(Uid::from_raw(user), Gid::from_raw(group), &groups, guise.new_privileges)?;
        }
        chdir(directory.as_c_str())?;
        reset_in_child()
    };
    // SAFETY: the closure runs between fork and exec of a process with one thread; it makes system calls only, and
    // allocates nothing.
    unsafe { command.pre_exec(prepare) };
    Ok(())
}

/// Starts a template, which finds its channel at [`CHANNEL_FD`].
pub fn spawn(mut command: Command, channel: OwnedFd, mask: u32) -> io::Result<(i32, PidFd)> {
    let prepare = move || {
        umask(Mode::from_bits_truncate(mask));
        descriptors::place(channel.as_fd(), CHANNEL_FD)
    };
    // SAFETY: the closure runs between fork and exec of a process with one thread; it makes system calls only, and
    // allocates nothing.
    unsafe { command.pre_exec(prepare) };
    start(command)
}

/// Starts a child that inherits these descriptors at their own numbers. They must be open until it is started.
pub fn spawn_with(mut command: Command, inherited: Vec<RawFd>) -> io::Result<(i32, PidFd)> {
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
    start(command)
}

/// Takes hold of the child while its number can only be its own: only this thread reaps.
fn start(mut command: Command) -> io::Result<(i32, PidFd)> {
    has_one_thread()?;
    let mut child = command.spawn()?;
    let pid = child.id() as i32;
    match PidFd::of_child(pid) {
        Ok(held) => Ok((pid, held)),
        Err(error) => {
            let _ = child.kill();
            Err(error)
        }
    }
}

/// A lock that another thread holds would be held for ever in a child that is forked. Without /proc the number is not known.
pub fn has_one_thread() -> io::Result<()> {
    match fs::read_dir("/proc/self/task").map_or(1, Iterator::count) {
        1 => Ok(()),
        threads => {
            Err(io::Error::other(format!("this process has {threads} threads, and must have one when it forks")))
        }
    }
}

/// Has a command end when this process ends. To be said after [`disguise`]: to become somebody else takes it back.
pub fn end_with_us(command: &mut Command) {
    // SAFETY: the closure makes one system call, which touches no memory.
    unsafe { command.pre_exec(|| Ok(prctl::set_pdeathsig(nix::sys::signal::Signal::SIGKILL)?)) };
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

/// Only root is told to become somebody else. What could be kept of root is given up, too: capabilities, which survive if the
/// master was started so (capabilities(7), SECBIT_NO_SETUID_FIXUP), and the keys of root's session.
pub(super) fn become_somebody(user: Uid, group: Gid, groups: &[Gid], new_privileges: bool) -> io::Result<()> {
    setgroups(groups)?;
    setgid(group)?;
    if user.is_root() {
        return Ok(());
    }
    // SAFETY: takes a number and no memory of ours. Without keys in the kernel there are none to keep.
    unsafe { libc::syscall(libc::SYS_keyctl, libc::KEYCTL_JOIN_SESSION_KEYRING, 0) };
    setuid(user)?;
    // Version 3 of struct __user_cap_header_struct: version and process; then twice effective, permitted, inheritable.
    let (header, none) = ([0x2008_0522_u32, 0], [0_u32; 6]);
    // SAFETY: both arrays have the lengths that this version has, and live until the call returns.
    Errno::result(unsafe { libc::syscall(libc::SYS_capset, header.as_ptr(), none.as_ptr()) })?;
    if !new_privileges {
        prctl::set_no_new_privs()?;
    }
    Ok(())
}

/// Orphans of this process's children become its own children (the workers, forked by a template's child).
pub fn adopt_orphans() -> io::Result<()> {
    prctl::set_child_subreaper(true)?;
    Ok(())
}

/// The next child that has ended and is still to be buried.
pub fn next_ended() -> Option<i32> {
    let mut found = MaybeUninit::<libc::siginfo_t>::zeroed();
    let options = libc::WEXITED | libc::WNOHANG | libc::WNOWAIT;
    // SAFETY: writes one siginfo_t, to a variable of this function.
    let asked = unsafe { libc::waitid(libc::P_ALL, 0, found.as_mut_ptr(), options) };
    // SAFETY: all zeros are one, too; what waitid(2) left there names a child or, where none has ended, process 0.
    let found = unsafe { found.assume_init() };
    // SAFETY: of a SIGCHLD, or zero.
    let pid = unsafe { found.si_pid() };
    (asked == 0 && pid != 0).then_some(pid)
}

/// The next child that has ended, known or not.
pub fn reap() -> Option<(i32, Ending)> {
    wait(-1, libc::WNOHANG)
}

/// The next child that a signal has stopped (true) or continued.
pub fn next_stopped() -> Option<(i32, bool)> {
    use nix::sys::wait::{Id, WaitPidFlag, WaitStatus, waitid};
    let flags = WaitPidFlag::WSTOPPED | WaitPidFlag::WCONTINUED | WaitPidFlag::WNOHANG;
    match waitid(Id::All, flags) {
        Ok(WaitStatus::Stopped(pid, _)) => Some((pid.as_raw(), true)),
        Ok(WaitStatus::Continued(pid)) => Some((pid.as_raw(), false)),
        Ok(_) | Err(_) => None,
    }
}

/// Waits for the end of a child.
pub fn bury(pid: i32) -> Option<Ending> {
    wait(pid, 0).map(|(_, ending)| ending)
}

/// By the raw status: what ended a child may be a signal that has no name, of those from SIGRTMIN on.
fn wait(which: i32, options: i32) -> Option<(i32, Ending)> {
    loop {
        let mut status = 0;
        // SAFETY: writes one number, to a variable of this function.
        match unsafe { libc::waitpid(which, &mut status, options) } {
            0 => return None,
            -1 if Errno::last() == Errno::EINTR => continue,
            -1 => return None,
            pid if libc::WIFEXITED(status) => return Some((pid, Ending::Status(libc::WEXITSTATUS(status)))),
            pid if libc::WIFSIGNALED(status) => return Some((pid, Ending::Signal(libc::WTERMSIG(status)))),
            _ => continue,
        }
    }
}

/// Descendants of this process that have a socket open, and what they are called. As this process is their subreaper, none of them can
/// have another's for its parent; their numbers are theirs until we, or a parent among them, have reaped them.
pub fn descendants_with_socket(inode: u64) -> Vec<(i32, String)> {
    let socket = format!("socket:[{inode}]");
    let holds = |pid: &i32| {
        let open = fs::read_dir(format!("/proc/{pid}/fd")).into_iter().flatten().flatten();
        open.map(|entry| entry.path()).any(|path| fs::read_link(path).is_ok_and(|to| to.as_os_str() == &*socket))
    };
    descendants().into_iter().filter(holds).map(named).collect()
}

/// All descendants of this process that have not ended, and what they are called.
pub fn living_descendants() -> Vec<(i32, String)> {
    let lives = |pid: &i32| fs::read_link(format!("/proc/{pid}/exe")).is_ok();
    descendants().into_iter().filter(lives).map(named).collect()
}

fn named(pid: i32) -> (i32, String) {
    (pid, fs::read_to_string(format!("/proc/{pid}/comm")).unwrap_or_default().trim().to_owned())
}

fn descendants() -> Vec<i32> {
    let numbers = fs::read_dir("/proc").into_iter().flatten().flatten();
    let parent = |pid: i32| {
        let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
        // proc(5): the name stands in brackets, and may hold some.
        stat.rsplit_once(") ")?.1.split(' ').nth(1)?.parse::<i32>().ok()
    };
    let all: Vec<(i32, i32)> = numbers
        .filter_map(|entry| entry.file_name().to_str()?.parse().ok())
        .filter_map(|pid| Some((pid, parent(pid)?)))
        .collect();
    let mut found = vec![std::process::id() as i32];
    let mut next = 0;
    while let Some(&pid) = found.get(next) {
        found.extend(all.iter().filter(|(_, parent)| *parent == pid).map(|(child, _)| child));
        next += 1;
    }
    found.split_off(1)
}

/// As many descriptors as the administrator allows: connections need them.
pub fn raise_descriptor_limit() -> io::Result<()> {
    let (_, hard) = getrlimit(Resource::RLIMIT_NOFILE)?;
    setrlimit(Resource::RLIMIT_NOFILE, hard, hard)?;
    Ok(())
}
