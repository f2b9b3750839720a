//! A program under test: its output line by line, its end, and the processes that it leaves behind.

use std::{
    collections::HashMap,
    fs::{self, File},
    io::{BufRead, BufReader, Read},
    os::fd::{AsFd, FromRawFd, OwnedFd},
    process::{Child, Command, ExitStatus, Stdio},
    sync::{Arc, Condvar, Mutex, Once},
    thread,
    time::{Duration, Instant},
};

use nix::{
    errno::Errno,
    poll::{PollFd, PollFlags, PollTimeout, poll},
    pty::openpty,
    sys::signal::{SigHandler, Signal, kill, signal},
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
        command.stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = spawn(command, mark);
        let log = Lines::of(child.stderr.take().expect("standard error is a pipe"));
        let output = Lines::of(child.stdout.take().expect("standard output is a pipe"));
        Process { child, mark: mark.into(), log, output }
    }

    /// Starts it on a terminal of its own. Both streams are what the terminal shows.
    pub fn start_on_terminal(command: &mut Command, mark: &str) -> Self {
        let terminal = openpty(None, None).expect("the machine has pseudo-terminals");
        let end = || Stdio::from(terminal.slave.try_clone().expect("there are descriptors left"));
        let child = spawn(command.stdin(end()).stdout(end()).stderr(end()), mark);
        // The command would keep the terminal open.
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
        let shown = Lines::of(File::from(terminal.master));
        Process { child, mark: mark.into(), log: shown.clone(), output: shown }
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

/// A shell that runs tests in the background has them ignore SIGINT and SIGQUIT, which programs inherit; Python then has no KeyboardInterrupt.
fn heed_interrupts() {
    static ONCE: Once = Once::new();
    ONCE.call_once(|| {
        for ignored in [Signal::SIGINT, Signal::SIGQUIT] {
            // SAFETY: the default is no code of ours.
            let default = unsafe { signal(ignored, SigHandler::SigDfl) };
            default.expect("these signals may be heeded");
        }
    });
}

fn spawn(command: &mut Command, mark: &str) -> Child {
    heed_interrupts();
    command.env(MARK, mark);
    loop {
        match command.spawn() {
            Ok(child) => return child,
            // The program was written a moment ago: a child of another test still has it open for writing, until its own execve(2).
            Err(error) if error.kind() == std::io::ErrorKind::ExecutableFileBusy => thread::yield_now(),
            Err(error) => panic!("could not start {command:?}: {error}"),
        }
    }
}

fn is_marked(pid: i32, mark: &[u8]) -> bool {
    let path = |name| format!("/proc/{pid}/{name}");
    loop {
        let environment = fs::read(path("environ")).unwrap_or_default();
        if !environment.is_empty() || has_none(&fs::read_to_string(path("stat")).unwrap_or_default()) {
            return environment.split(|byte| *byte == 0).any(|variable| variable == mark);
        }
        // During execve(2) a process has no environment. A zombie and a kernel thread have no program either.
        if fs::read_link(path("exe")).is_err() {
            return false;
        }
        thread::yield_now();
    }
}

/// Whether /proc/PID/stat shows an empty environment: its start is not zero, and equals its end (proc(5), fields 50 and 51).
fn has_none(stat: &str) -> bool {
    let behind_name = stat.rsplit(')').next().unwrap_or_default();
    let mut bounds = behind_name.split_ascii_whitespace().skip(47);
    let (start, end) = (bounds.next(), bounds.next());
    start == end && start.is_some_and(|start| start != "0")
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

/// The lines of a stream so far.
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

    /// All of it, once every process that could write to it has ended.
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
    use crate::Folder;

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
        let folder = Folder::new();
        let pipe = folder.join("pipe").display().to_string();
        let mut process = shell(&format!("mkfifo {pipe}; (echo started; read line <>{pipe}) & wait"), "descendants");
        process.output.find("started");
        assert_eq!(process.descendants().len(), 1);
        process.kill_all();
        assert_eq!(process.descendants(), []);
    }
}
