//! A hold on a child. A process number may be anybody's as soon as its process has been reaped; a pidfd never is.

use std::{
    io,
    mem::MaybeUninit,
    os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd},
};

use nix::errno::Errno;

/// Stands for one child of this process, whatever becomes of its number.
#[derive(Debug)]
pub struct PidFd(OwnedFd);

impl PidFd {
    /// Of a child that has not been reaped yet. Every other number is refused.
    pub fn of_child(pid: i32) -> io::Result<PidFd> {
        // SAFETY: pidfd_open takes two numbers and touches no memory of this process. It refuses those that are not positive.
        let number = unsafe { libc::syscall(libc::SYS_pidfd_open, pid, 0) };
        if number == -1 {
            return Err(io::Error::last_os_error());
        }
        // SAFETY: the call has made this descriptor just now, close-on-exec, and nothing else knows it.
        PidFd::kept(unsafe { OwnedFd::from_raw_fd(number as i32) })
    }

    /// One that was kept over an execve of this very process.
    pub fn kept(descriptor: OwnedFd) -> io::Result<PidFd> {
        let mut info = MaybeUninit::<libc::siginfo_t>::uninit();
        let what = libc::WEXITED | libc::WNOHANG | libc::WNOWAIT;
        let number = descriptor.as_raw_fd() as libc::id_t;
        // SAFETY: `info` has room for what is written, and is not read. Nothing is waited for and nothing is reaped: the
        // call only fails with ECHILD if the process is no child of this one.
        match unsafe { libc::waitid(libc::P_PIDFD, number, info.as_mut_ptr(), what) } {
            0 => Ok(PidFd(descriptor)),
            _ => Err(io::Error::last_os_error()),
        }
    }

    /// Sends SIGKILL. Says nothing of a process that has ended already.
    pub fn kill(&self) -> io::Result<()> {
        self.signal(libc::SIGKILL)
    }

    /// Sends any signal. Says nothing of a process that has ended already.
    pub fn signal(&self, signal: i32) -> io::Result<()> {
        let nothing = std::ptr::null::<libc::siginfo_t>();
        // SAFETY: takes numbers and a null pointer, which stands for what kill(2) would send along.
        match unsafe { libc::syscall(libc::SYS_pidfd_send_signal, self.0.as_raw_fd(), signal, nothing, 0) } {
            0 => Ok(()),
            _ if Errno::last() == Errno::ESRCH => Ok(()),
            _ => Err(io::Error::last_os_error()),
        }
    }
}

impl AsFd for PidFd {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}

#[cfg(test)]
mod tests {
    use std::{os::unix::process::ExitStatusExt, process::Command};

    use super::*;

    #[test]
    fn only_a_child_is_held() {
        for stranger in [-1, 0, 1, std::process::id() as i32, i32::MAX] {
            assert!(PidFd::of_child(stranger).is_err(), "{stranger}");
        }
        let mut child = Command::new("sleep").arg("60").spawn().unwrap();
        let held = PidFd::of_child(child.id() as i32).unwrap();
        held.kill().unwrap();
        assert_eq!(child.wait().unwrap().signal(), Some(libc::SIGKILL));
        held.kill().unwrap();
        assert!(PidFd::kept(held.0).is_err(), "it has been reaped");
        assert!(PidFd::of_child(child.id() as i32).is_err());
    }
}
