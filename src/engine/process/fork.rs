//! Forks workers that are not the template's children: a middle process forks the worker, reports its pid, and ends. So the worker
//! becomes the child of the nearest sub-reaper (prctl(2), PR_SET_CHILD_SUBREAPER), the master.

use std::{
    io::{self, Read, Write},
    os::fd::OwnedFd,
};

use nix::{
    errno::Errno,
    fcntl::OFlag,
    sys::wait::waitpid,
    unistd::{ForkResult, Pid, pipe2},
};
use pyo3::{Python, ffi};

use super::streams;

/// On which side of the fork this process is.
pub enum Side {
    /// The process that forked, with the worker's pid.
    Template(Pid),
    /// The new process.
    Worker,
}

/// Forks a worker with CPython's own hooks around it, so that random states, locks and `os.register_at_fork` are right.
pub fn worker(py: Python<'_>) -> io::Result<Side> {
    streams::end_lines(py);
    let (answer, tell) = pipe2(OFlag::O_CLOEXEC)?;
    // SAFETY: the token shows that this thread holds the interpreter lock.
    unsafe { ffi::PyOS_BeforeFork() };
    // SAFETY: the child goes on as CPython's own os.fork() does, or only forks again.
    match unsafe { nix::unistd::fork() } {
        Ok(ForkResult::Child) => {
            drop(answer);
            middle(tell);
            // SAFETY: this process was forked after PyOS_BeforeFork, by the thread that holds the lock.
            unsafe { ffi::PyOS_AfterFork_Child() };
            Ok(Side::Worker)
        }
        outcome => {
            // SAFETY: follows PyOS_BeforeFork in the same process.
            unsafe { ffi::PyOS_AfterFork_Parent() };
            let ForkResult::Parent { child } = outcome? else { unreachable!("the child is dealt with above") };
            drop(tell);
            template(child, answer)
        }
    }
}

/// Waits for the end of a child. It may be gone already: a SIGCHLD handler of the application has waited for it, or SIGCHLD is ignored.
fn wait_for(child: Pid) -> io::Result<()> {
    loop {
        match waitpid(child, None) {
            Err(Errno::EINTR) => {}
            Ok(_) | Err(Errno::ECHILD) => return Ok(()),
            Err(error) => return Err(error.into()),
        }
    }
}

/// Forks a child that ends at once. Libraries that stop their threads before a fork have stopped them afterwards.
pub fn trial() -> io::Result<()> {
    // SAFETY: the child does nothing but end.
    match unsafe { nix::unistd::fork() }? {
        ForkResult::Child => exit(0),
        ForkResult::Parent { child } => wait_for(child),
    }
}

/// The names of this process's threads, apart from the main one.
pub fn other_threads() -> Vec<String> {
    let main = std::process::id().to_string();
    let tasks = std::fs::read_dir("/proc/self/task").into_iter().flatten().flatten();
    let others = tasks.filter(|task| task.file_name().to_string_lossy() != main);
    let name = |task: std::fs::DirEntry| std::fs::read(task.path().join("comm")).unwrap_or_default();
    others.map(|task| String::from_utf8_lossy(&name(task)).trim_end().to_owned()).collect()
}

/// Ends this process at once: no destructors, no hooks, nothing flushed.
pub fn exit(code: i32) -> ! {
    // SAFETY: has no preconditions.
    unsafe { libc::_exit(code) }
}

/// The process between template and worker. Returns in the worker only.
fn middle(tell: OwnedFd) {
    // SAFETY: the only thread of this process, and it has called nothing but close(2) since it was forked.
    let pid = match unsafe { nix::unistd::fork() } {
        Ok(ForkResult::Child) => return,
        Ok(ForkResult::Parent { child }) => child.as_raw(),
        Err(error) => -(error as i32),
    };
    let _ = std::fs::File::from(tell).write_all(&pid.to_ne_bytes());
    exit(0)
}

fn template(middle: Pid, answer: OwnedFd) -> io::Result<Side> {
    let mut pid = [0; 4];
    let read = std::fs::File::from(answer).read_exact(&mut pid);
    wait_for(middle)?;
    read?;
    match i32::from_ne_bytes(pid) {
        pid if pid > 0 => Ok(Side::Template(Pid::from_raw(pid))),
        error => Err(Errno::from_raw(-error).into()),
    }
}
