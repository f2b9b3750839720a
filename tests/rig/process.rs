//! A program under test: its lines as they come, its end, and whatever it would leave behind.

use std::{
    collections::HashMap,
    fs,
    io::{BufRead, BufReader, Read},
    os::fd::{AsFd, FromRawFd, OwnedFd},
    process::{Child, Command, ExitStatus, Stdio},
    sync::{Arc, Condvar, Mutex},
    thread,
    time::{Duration, Instant},
};

use nix::{
    errno::Errno,
    poll::{PollFd, PollFlags, PollTimeout, poll},
    sys::signal::{Signal, kill},
    unistd::Pid,
};

use crate::PATIENCE;

/// Marks every process that descends from one Rig, in its environment. The value is the Rig's own.
const MARK: &str = "RIG_OF_THE_TEST";

/// A program that was started, and everything that descends from it.
pub struct Process {
    child: Child,
    mark: String,
    /// What it says on standard error.
    pub log: Lines,
    /// What it says on standard output.
    pub output: Lines,
}

impl Process {
    /// Starts it. `mark` tells its descendants from those of every other test.
    pub fn start(command: &mut Command, mark: &str) -> Self {
        command.env(MARK, mark).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = command.spawn().unwrap_or_else(|error| panic!("could not start {command:?}: {error}"));
        let log = Lines::of(child.stderr.take().expect("standard error is a pipe"));
        let output = Lines::of(child.stdout.take().expect("standard output is a pipe"));
        Process { child, mark: mark.into(), log, output }
    }

    /// Its process id.
    pub fn pid(&self) -> i32 {
        self.child.id() as i32
    }

    /// Sends it a signal.
    pub fn signal(&self, signal: Signal) {
        kill(Pid::from_raw(self.pid()), signal).expect("the child is not reaped yet");
    }

    /// Waits until it has ended.
    pub fn wait(&mut self) -> ExitStatus {
        assert!(ends_within(self.pid(), PATIENCE), "the process did not end");
        self.child.wait().expect("the child was not reaped by anybody else")
    }

    /// Whether it has ended.
    pub fn has_ended(&mut self) -> bool {
        self.child.try_wait().expect("the child was not reaped by anybody else").is_some()
    }

    /// Everything that descends from it and is alive.
    pub fn descendants(&self) -> Vec<i32> {
        let mark = format!("{MARK}={}", self.mark).into_bytes();
        let processes = fs::read_dir("/proc").expect("/proc is mounted").flatten();
        let pids = processes.filter_map(|entry| entry.file_name().to_str()?.parse().ok());
        pids.filter(|pid| *pid != self.pid() && is_marked(*pid, &mark)).collect()
    }

    /// Kills it and everything that descends from it.
    pub fn kill_all(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
        while let Some(pid) = self.descendants().first() {
            let _ = kill(Pid::from_raw(*pid), Signal::SIGKILL);
            assert!(ends_within(*pid, PATIENCE), "process {pid} outlives SIGKILL");
        }
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        self.kill_all();
    }
}

fn is_marked(pid: i32, mark: &[u8]) -> bool {
    let read = |name| fs::read(format!("/proc/{pid}/{name}")).unwrap_or_default();
    loop {
        let environment = read("environ");
        // Both are empty in the middle of execve(2), and for good in what has no program: a zombie, a thread of the kernel.
        let executing = environment.is_empty() && read("cmdline").is_empty();
        if !executing || fs::read_link(format!("/proc/{pid}/exe")).is_err() {
            return environment.split(|byte| *byte == 0).any(|variable| variable == mark);
        }
        thread::yield_now();
    }
}

/// Waits until any process, a child or not, has ended.
pub fn ends_within(pid: i32, time: Duration) -> bool {
    // SAFETY: pidfd_open(2) takes two numbers and touches no memory of ours.
    let descriptor = unsafe { libc::syscall(libc::SYS_pidfd_open, pid, 0) };
    if descriptor < 0 {
        assert_eq!(Errno::last(), Errno::ESRCH, "pidfd_open");
        return true;
    }
    // SAFETY: the call above has just returned this descriptor, and nobody else knows it.
    let process = unsafe { OwnedFd::from_raw_fd(descriptor as i32) };
    let mut descriptors = [PollFd::new(process.as_fd(), PollFlags::POLLIN)];
    let timeout = PollTimeout::try_from(time).expect("the bounds of tests are short");
    poll(&mut descriptors, timeout).expect("a pidfd can be polled") == 1
}

/// The lines that a stream has brought so far.
#[derive(Clone)]
pub struct Lines {
    shared: Arc<(Mutex<Seen>, Condvar)>,
}

#[derive(Default)]
struct Seen {
    lines: Vec<String>,
    ended: bool,
    /// For each phrase, the line after the last that was found.
    next: HashMap<String, usize>,
}

impl Lines {
    fn of(stream: impl Read + Send + 'static) -> Self {
        let lines = Lines { shared: Arc::default() };
        let writer = lines.clone();
        thread::spawn(move || writer.collect(stream));
        lines
    }

    fn collect(&self, stream: impl Read) {
        for line in BufReader::new(stream).split(b'\n').map_while(Result::ok) {
            let line = String::from_utf8_lossy(&line).into_owned();
            self.shared.0.lock().expect("nobody panics with the lines").lines.push(line);
            self.shared.1.notify_all();
        }
        self.shared.0.lock().expect("nobody panics with the lines").ended = true;
        self.shared.1.notify_all();
    }

    /// Waits for the next line that holds a phrase: the first after the one that the last call for it returned.
    pub fn find(&self, phrase: &str) -> Line {
        let deadline = Instant::now() + PATIENCE;
        let (seen, changed) = &*self.shared;
        let mut seen = seen.lock().expect("nobody panics with the lines");
        loop {
            let from = seen.next.get(phrase).copied().unwrap_or(0);
            if let Some(offset) = seen.lines[from..].iter().position(|line| line.contains(phrase)) {
                seen.next.insert(phrase.into(), from + offset + 1);
                return Line(seen.lines[from + offset].clone());
            }
            let left = deadline.saturating_duration_since(Instant::now());
            if seen.ended || left.is_zero() {
                let lines = seen.lines.join("\n");
                drop(seen);
                panic!("no line says {phrase:?} among\n{lines}");
            }
            seen = changed.wait_timeout(seen, left).expect("nobody panics with the lines").0;
        }
    }

    /// How many lines hold a phrase by now.
    pub fn count(&self, phrase: &str) -> usize {
        self.text().lines().filter(|line| line.contains(phrase)).count()
    }

    /// All that came by now.
    pub fn text(&self) -> String {
        self.shared.0.lock().expect("nobody panics with the lines").lines.join("\n")
    }

    /// All of it, once every process that could write to it is gone.
    pub fn whole(&self) -> String {
        let (seen, changed) = &*self.shared;
        let seen = seen.lock().expect("nobody panics with the lines");
        let (seen, waited) =
            changed.wait_timeout_while(seen, PATIENCE, |seen| !seen.ended).expect("nobody panics with the lines");
        let text = seen.lines.join("\n");
        drop(seen);
        assert!(!waited.timed_out(), "somebody still holds the stream that said\n{text}");
        text
    }
}

/// A line of a log.
#[derive(Debug, Clone)]
pub struct Line(String);

impl Line {
    /// All of it.
    pub fn text(&self) -> &str {
        &self.0
    }

    /// The value of one of its keys, without the quotes that it may have.
    pub fn key(&self, key: &str) -> Option<&str> {
        let value = self.0.split_once(&format!(" {key}="))?.1;
        match value.strip_prefix('"') {
            Some(quoted) => quoted.split('"').next(),
            None => value.split(' ').next(),
        }
    }

    /// The value of a key that is a number.
    pub fn number(&self, key: &str) -> i32 {
        let value = self.key(key).unwrap_or_else(|| panic!("no {key} in {:?}", self.0));
        value.parse().unwrap_or_else(|_| panic!("{key} is no number in {:?}", self.0))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shell(script: &str, mark: &str) -> Process {
        Process::start(Command::new("sh").args(["-c", script]), &format!("{mark} {}", std::process::id()))
    }

    #[test]
    fn a_phrase_is_found_once_in_each_line() {
        let mut process = shell("echo ready slot=1 >&2; echo ready slot=2 why=\"a b\" >&2", "phrases");
        assert_eq!(process.log.find("ready").number("slot"), 1);
        assert_eq!(process.log.find("ready").number("slot"), 2);
        assert_eq!(process.log.find("ready slot=2").key("why"), Some("a"));
        assert!(process.wait().success());
    }

    #[test]
    fn descendants_are_found_and_killed() {
        let mut process = shell("sleep 1000 & echo started; wait", "descendants");
        process.output.find("started");
        assert_eq!(process.descendants().len(), 1);
        process.kill_all();
        assert_eq!(process.descendants(), []);
    }
}
