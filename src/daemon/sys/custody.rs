//! A child that keeps private keys: what it can still do, and who can look at it.

use std::{
    fs::OpenOptions,
    io,
    os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd},
};

use nix::{
    errno::Errno,
    sys::{
        mman::{MlockAllFlags, mlockall},
        prctl,
        resource::{Resource, setrlimit},
        signal::Signal,
    },
    unistd::{ForkResult, Gid, Pid, Uid, fork, geteuid, getppid, setpgid},
};
use ostler_wire::CHANNEL_FD;

use super::{
    descriptors,
    identity::Identity,
    pidfd::PidFd,
    process::{become_somebody, has_one_thread},
    signals::reset_in_child,
};

/// Who root becomes: somebody without a name, as whom nothing else runs. A process of another user can neither stop it nor change its limits
/// (kill(2), prlimit(2)). Below the numbers of nobody, and above those that systemd gives away (systemd's UIDS-GIDS).
const ALONE: u32 = 65530;

/// Has a child do this work, with this descriptor and no other of ours but those that are lent; it ends when the work is done.
pub fn begin(channel: OwnedFd, lent: &[BorrowedFd], work: impl FnOnce(OwnedFd)) -> io::Result<(i32, PidFd)> {
    has_one_thread()?;
    let master = Pid::this();
    // SAFETY: this process has one thread, so that the child may do whatever this one may. It never returns from here.
    match unsafe { fork() }? {
        ForkResult::Parent { child } => Ok((child.as_raw(), PidFd::of_child(child.as_raw())?)),
        ForkResult::Child => {
            // A panic ends the child, too, and does not go on in its copy of the master.
            let _end = End;
            if let Ok(channel) = alone(master, channel, lent) {
                work(channel);
            }
            drop(_end);
            unreachable!("the process has ended")
        }
    }
}

/// Ends the process. Nothing of the master's is to be dropped or flushed by its copy.
struct End;

impl Drop for End {
    fn drop(&mut self) {
        // SAFETY: has no preconditions.
        unsafe { libc::_exit(0) }
    }
}

/// Takes leave of what was the master's: its signals, its terminal, its descriptors. From here on nobody but root can look into the
/// process (proc(5), ptrace(2)), and it leaves no core.
fn alone(master: Pid, channel: OwnedFd, lent: &[BorrowedFd]) -> io::Result<OwnedFd> {
    prctl::set_dumpable(false)?;
    setrlimit(Resource::RLIMIT_CORE, 0, 0)?;
    prctl::set_pdeathsig(Signal::SIGKILL)?;
    if getppid() != master {
        return Err(io::Error::other("the master has ended"));
    }
    setpgid(Pid::from_raw(0), Pid::from_raw(0))?;
    reset_in_child()?;
    let null = OpenOptions::new().read(true).write(true).open("/dev/null")?;
    (0..=2).try_for_each(|number| descriptors::place(null.as_fd(), number))?;
    descriptors::place(channel.as_fd(), CHANNEL_FD)?;
    // What owns the others is never dropped here.
    std::mem::forget((channel, null));
    descriptors::close_all_but((0..=CHANNEL_FD).chain(lent.iter().map(BorrowedFd::as_raw_fd)));
    descriptors::reclaim(CHANNEL_FD)
}

/// Lets go of what was lent to the child.
pub fn give_back(lent: BorrowedFd) {
    descriptors::close(lent);
}

/// Root becomes somebody who may do nothing, and gets nothing back. Others cannot become anybody, and stay who they are. Where a
/// namespace has no such user (user_namespaces(7)), it is the application's.
pub fn give_up_privileges(identity: Option<&Identity>) -> io::Result<()> {
    if geteuid().is_root() {
        let turn_into = |user, group| {
            let group = Gid::from_raw(group);
            become_somebody(Uid::from_raw(user), group, &[group], false)
        };
        let alone = turn_into(ALONE, ALONE);
        match identity.filter(|identity| alone.is_err() && identity.user != 0) {
            Some(identity) => turn_into(identity.user, identity.group)?,
            None => alone?,
        }
        // Both are taken back where a process becomes somebody else.
        prctl::set_dumpable(false)?;
        prctl::set_pdeathsig(Signal::SIGKILL)?;
    }
    Ok(())
}

/// Keeps the memory from being written to where it would be swapped out to. As far as the system's limit allows.
pub fn lock_memory() -> io::Result<()> {
    Ok(mlockall(MlockAllFlags::MCL_CURRENT | MlockAllFlags::from_bits_retain(libc::MCL_ONFAULT))?)
}

/// The system calls of a process that reads and answers on the sockets that it has, and of memory, time and chance. There is none that
/// opens a file or a connection, or looks at another process.
const CALLS: &[libc::c_long] = &[
    #[cfg(target_arch = "x86_64")]
    libc::SYS_poll,
    libc::SYS_ppoll,
    libc::SYS_read,
    libc::SYS_write,
    libc::SYS_writev,
    libc::SYS_close,
    libc::SYS_fcntl,
    libc::SYS_recvfrom,
    libc::SYS_recvmsg,
    libc::SYS_sendto,
    libc::SYS_sendmsg,
    libc::SYS_brk,
    libc::SYS_munmap,
    libc::SYS_mremap,
    libc::SYS_madvise,
    libc::SYS_futex,
    libc::SYS_getrandom,
    libc::SYS_clock_gettime,
    libc::SYS_clock_nanosleep,
    libc::SYS_nanosleep,
    libc::SYS_getpid,
    libc::SYS_gettid,
    libc::SYS_tgkill,
    libc::SYS_rt_sigaction,
    libc::SYS_rt_sigprocmask,
    libc::SYS_rt_sigreturn,
    libc::SYS_sigaltstack,
    libc::SYS_restart_syscall,
    libc::SYS_exit,
    libc::SYS_exit_group,
];

/// Those that may not make memory executable.
const MAPPING: [libc::c_long; 2] = [libc::SYS_mmap, libc::SYS_mprotect];

/// As seccomp(2) names it: its numbers are other ones on each.
#[cfg(target_arch = "x86_64")]
const ARCHITECTURE: Option<u32> = Some(0xC000_003E);
#[cfg(target_arch = "aarch64")]
const ARCHITECTURE: Option<u32> = Some(0xC000_00B7);
#[cfg(not(any(target_arch = "x86_64", target_arch = "aarch64")))]
const ARCHITECTURE: Option<u32> = None;

/// From here on any other system call ends the process.
pub fn confine() -> io::Result<()> {
    let mut filter = filter(ARCHITECTURE.ok_or(io::ErrorKind::Unsupported)?);
    prctl::set_no_new_privs()?;
    let program = libc::sock_fprog { len: filter.len() as u16, filter: filter.as_mut_ptr() };
    // SAFETY: the program and what it points to live until the call returns; the kernel copies and checks them.
    Errno::result(unsafe { libc::prctl(libc::PR_SET_SECCOMP, libc::SECCOMP_MODE_FILTER, &program) })?;
    Ok(())
}

/// Over struct seccomp_data: the call's number, the architecture, the instruction's place (8 bytes), and six arguments of 8 bytes.
fn filter(architecture: u32) -> Vec<libc::sock_filter> {
    const NUMBER: u32 = 0;
    const ARCHITECTURE: u32 = 4;
    const PROTECTION: u32 = 16 + 2 * 8;
    let step = |code: u32, k: u32, jt: u8, jf: u8| libc::sock_filter { code: code as u16, jt, jf, k };
    let load = |place| step(libc::BPF_LD | libc::BPF_W | libc::BPF_ABS, place, 0, 0);
    let equal = |what, jt, jf| step(libc::BPF_JMP | libc::BPF_JEQ | libc::BPF_K, what, jt, jf);
    let end = |how| step(libc::BPF_RET | libc::BPF_K, how, 0, 0);
    let (allow, kill) = (end(libc::SECCOMP_RET_ALLOW), end(libc::SECCOMP_RET_KILL_PROCESS));
    let mut filter = vec![load(ARCHITECTURE), equal(architecture, 1, 0), kill, load(NUMBER)];
    for &call in CALLS {
        filter.extend([equal(call as u32, 0, 1), allow]);
    }
    for call in MAPPING {
        let executable = step(libc::BPF_JMP | libc::BPF_JSET | libc::BPF_K, libc::PROT_EXEC as u32, 0, 1);
        filter.extend([equal(call as u32, 0, 4), load(PROTECTION), executable, kill, allow]);
    }
    filter.push(kill);
    filter
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_filter_is_well_formed() {
        let filter = filter(1);
        assert!(filter.len() < 4096);
        for (place, step) in filter.iter().enumerate() {
            let jumps = step.code as u32 & 7 == libc::BPF_JMP;
            assert!(!jumps || place + 1 + usize::from(step.jt.max(step.jf)) < filter.len());
        }
    }
}
