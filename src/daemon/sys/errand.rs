//! Errands: what may wait (look-ups of names, files that lie anywhere, an interpreter that is asked who it is, the memory of other
//! processes) is done by a child. The master hears of it as it hears of any child's end, and reads the outcome from memory.

use std::{
    fs::File,
    io::{self, Write},
    os::unix::fs::FileExt,
    time::Duration,
};

use nix::{
    sys::{
        memfd::{MFdFlags, memfd_create},
        prctl::set_pdeathsig,
        signal::Signal,
    },
    unistd::{ForkResult, Pid, fork, getppid, setpgid},
};
use serde::{Serialize, de::DeserializeOwned};

use super::{clock::Moment, pidfd::PidFd, process::has_one_thread, signals::reset_in_child};

/// A child that is under way. It ends with this, or with the master.
#[derive(Debug)]
pub struct Errand {
    /// Its process.
    pub pid: i32,
    held: PidFd,
    outcome: File,
    /// When it is given up.
    pub deadline: Moment,
}

impl Errand {
    /// Has a child do this work.
    pub fn begin<T: Serialize>(within: Duration, work: impl FnOnce() -> T) -> io::Result<Errand> {
        has_one_thread()?;
        let outcome = File::from(memfd_create("ostler-errand", MFdFlags::MFD_CLOEXEC)?);
        let master = Pid::this();
        // SAFETY: this process has one thread, so that the child may do whatever this one may. It never returns from here.
        let pid = match unsafe { fork() }? {
            ForkResult::Parent { child } => child.as_raw(),
            ForkResult::Child => {
                let done = run(master, &outcome, work);
                // SAFETY: has no preconditions. Nothing of the master's is to be dropped or flushed by its copy.
                unsafe { libc::_exit(done.is_err().into()) }
            }
        };
        Ok(Errand { pid, held: PidFd::of_child(pid)?, outcome, deadline: Moment::now() + within })
    }

    /// What came of it, once its process has ended; none if it ended without a result.
    pub fn outcome<T: DeserializeOwned>(&self) -> Option<T> {
        let mut text = vec![0; usize::try_from(self.outcome.metadata().ok()?.len()).ok()?];
        self.outcome.read_exact_at(&mut text, 0).ok()?;
        serde_json::from_slice(&text).ok()
    }

    /// Gives it up; its end follows.
    pub fn give_up(&self) {
        let _ = self.held.kill();
    }
}

impl Drop for Errand {
    fn drop(&mut self) {
        self.give_up();
    }
}

fn run<T: Serialize>(master: Pid, mut outcome: &File, work: impl FnOnce() -> T) -> io::Result<()> {
    set_pdeathsig(Signal::SIGKILL)?;
    if getppid() != master {
        return Err(io::Error::other("the master has ended"));
    }
    setpgid(Pid::from_raw(0), Pid::from_raw(0))?;
    reset_in_child()?;
    let text = serde_json::to_vec(&work())?;
    outcome.write_all(&text)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_child_brings_the_outcome() {
        // Tests have threads; the child does nothing that could meet a lock.
        let outcome = File::from(memfd_create("test", MFdFlags::MFD_CLOEXEC).unwrap());
        (&outcome).write_all(b"[1,2]").unwrap();
        let mut child = std::process::Command::new("true").spawn().unwrap();
        let pid = child.id() as i32;
        let errand = Errand { pid, held: PidFd::of_child(pid).unwrap(), outcome, deadline: Moment(0) };
        assert_eq!(errand.outcome::<Vec<u32>>(), Some(vec![1, 2]));
        assert_eq!(errand.outcome::<String>(), None, "it is not what was expected");
        child.wait().unwrap();
    }
}
