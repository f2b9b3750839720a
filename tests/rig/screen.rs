//! A program that draws on a terminal: what it shows, what is typed, and how the terminal is left.

use std::{
    fs::File,
    io::{Read, Write},
    os::fd::{AsFd, AsRawFd, OwnedFd},
    process::{Child, Command, Stdio},
    time::{Duration, Instant},
};

use nix::{
    fcntl::{FcntlArg, FdFlag, fcntl},
    poll::{PollFd, PollFlags, PollTimeout, poll},
    pty::openpty,
    sys::{
        signal::{Signal, kill},
        termios::{Termios, tcgetattr},
    },
    unistd::Pid,
};

use crate::{PATIENCE, ends_within};

/// A program on a terminal of its own. It draws each frame from the first line on.
pub struct Screen {
    child: Child,
    master: Option<File>,
    /// Kept open, so that the modes of the terminal can be read when the program has ended.
    slave: OwnedFd,
    before: Termios,
    text: String,
}

impl Screen {
    /// Starts it.
    pub fn start(command: &mut Command, size: (u16, u16)) -> Screen {
        let terminal = openpty(None, None).expect("the machine has pseudo-terminals");
        // A program that held its own terminal open would never see it closed.
        fcntl(&terminal.master, FcntlArg::F_SETFD(FdFlag::FD_CLOEXEC)).expect("it is open");
        let before = tcgetattr(&terminal.slave).expect("it is a terminal");
        let master = File::from(terminal.master);
        set_size(&master, size);
        let end = || Stdio::from(terminal.slave.try_clone().expect("there are descriptors left"));
        let child = command.stdin(end()).stdout(end()).stderr(end()).spawn().expect("it can be started");
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
        Screen { child, master: Some(master), slave: terminal.slave, before, text: String::new() }
    }

    /// Waits for a frame like this; its lines without colours.
    pub fn shows(&mut self, what: &str, is: impl Fn(&[String]) -> bool) -> Vec<String> {
        let deadline = Instant::now() + PATIENCE;
        loop {
            // A frame is whole when the next has begun.
            while let Some((frame, rest)) = self.text.split_once("\x1b[1;1H") {
                let lines = lines(frame);
                self.text = rest.into();
                if is(&lines) {
                    return lines;
                }
                assert!(Instant::now() < deadline, "no frame shows {what}, but\n{}", lines.join("\n"));
            }
            assert!(Instant::now() < deadline && self.read(), "no frame shows {what}, but {:?}", self.text);
        }
    }

    /// Types this.
    pub fn types(&mut self, keys: &str) {
        self.master().write_all(keys.as_bytes()).expect("the terminal is open");
    }

    /// Another size: columns and lines.
    pub fn resize(&self, size: (u16, u16)) {
        set_size(self.master.as_ref().expect("the terminal is open"), size);
    }

    /// Sends the program a signal.
    pub fn signal(&self, signal: Signal) {
        kill(Pid::from_raw(self.child.id() as i32), signal).expect("it is not reaped yet");
    }

    /// The terminal is closed.
    pub fn hang_up(&mut self) {
        self.master = None;
    }

    /// Waits until the program is stopped, while which the terminal has to be as it was.
    pub fn stops(&mut self) {
        let deadline = Instant::now() + PATIENCE;
        let stopped = |status: String| status.rsplit(") ").next().is_some_and(|rest| rest.starts_with('T'));
        while !std::fs::read_to_string(format!("/proc/{}/stat", self.child.id())).is_ok_and(stopped) {
            assert!(Instant::now() < deadline, "it did not stop");
            self.read();
        }
        while self.readable() && self.read() {}
        self.is_as_it_was();
    }

    fn is_as_it_was(&self) {
        assert!(self.text.ends_with("\x1b[?7h\x1b[?25h\x1b[?1049l"), "{:?}", self.text);
        assert_eq!(tcgetattr(&self.slave).expect("it is a terminal"), self.before);
    }

    /// Waits for the program's end, after which an open terminal has to be as it was. Its exit status.
    pub fn ends(mut self) -> Option<i32> {
        if self.master.is_some() {
            let pid = self.child.id() as i32;
            // Whoever draws must be read.
            let deadline = Instant::now() + PATIENCE;
            while !ends_within(pid, Duration::from_millis(1)) {
                assert!(Instant::now() < deadline, "it did not end");
                self.read();
            }
            while self.readable() && self.read() {}
            self.is_as_it_was();
        }
        assert!(ends_within(self.child.id() as i32, PATIENCE), "it did not end");
        self.child.wait().expect("nobody else reaps it").code()
    }

    fn master(&mut self) -> &mut File {
        self.master.as_mut().expect("the terminal is open")
    }

    fn readable(&self) -> bool {
        let master = self.master.as_ref().expect("the terminal is open").as_fd();
        let mut polled = [PollFd::new(master, PollFlags::POLLIN)];
        poll(&mut polled, PollTimeout::from(100u16)).expect("a terminal can be polled") == 1
    }

    /// Reads on, if there is something; whether the program may say more.
    fn read(&mut self) -> bool {
        if !self.readable() {
            return true;
        }
        let mut part = [0; 65536];
        let count = self.master().read(&mut part).unwrap_or(0);
        // The program writes ASCII here, and a character cut in two does not matter.
        self.text += &String::from_utf8_lossy(&part[..count]);
        count > 0
    }
}

impl Drop for Screen {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// What stands in the lines of a frame.
fn lines(frame: &str) -> Vec<String> {
    let mut lines = vec![String::new()];
    let mut parts = frame.split('\x1b');
    lines[0] += parts.next().unwrap_or_default();
    for part in parts {
        let end = part.find(|c: char| c.is_ascii_alphabetic()).map_or(part.len(), |end| end + 1);
        if part[..end].ends_with('H') {
            lines.push(String::new());
        }
        lines.last_mut().expect("there is one").push_str(&part[end..]);
    }
    lines
}

fn set_size(master: &File, (columns, lines): (u16, u16)) {
    let size = libc::winsize { ws_row: lines, ws_col: columns, ws_xpixel: 0, ws_ypixel: 0 };
    // SAFETY: reads a winsize, which lives on here.
    let answer = unsafe { libc::ioctl(master.as_raw_fd(), libc::TIOCSWINSZ, &raw const size) };
    assert_eq!(answer, 0, "a terminal has a size");
}
