//! `ostler top`: looks at a site again and again, and shows it on the terminal.
//!
//! A thread asks the master, so that keys are obeyed while a master does not answer; the other one draws and hears keys and signals.

use std::{
    io::{self, Read, Write},
    os::{fd::AsFd, unix::net::UnixStream},
    path::Path,
    sync::mpsc::{Receiver, channel},
    thread,
    time::{Duration, Instant},
};

use nix::{
    errno::Errno,
    poll::{PollFd, PollFlags, PollTimeout, poll},
    sys::signal::Signal,
};
use ostler_wire::log::terminal::{PLAIN, is_coloured};

use self::{
    frame::{Style, Styled, frame},
    view::View,
};
use super::ask::ask_for_status;
use crate::{
    exit::{Exit, Failure, words},
    master::status::Status,
    report,
    sys::{
        signals::Signals,
        terminal::{self, Screen},
    },
};

mod columns;
mod frame;
mod rates;
mod view;

/// What was asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Top {
    /// One frame, and no screen.
    pub once: bool,
    /// Between two looks.
    pub interval: Duration,
}

const CTRL_Z: u8 = 0x1a;
/// A frame that is printed once is as long as it is.
const ALL: usize = 10_000;
/// Two looks for one frame lie no further apart.
const ONCE: Duration = Duration::from_secs(1);

/// The site at a moment.
pub struct Look {
    status: Status,
    at: Instant,
}

impl Look {
    fn at(socket: &Path, named: bool) -> Result<Look, Failure> {
        let status = ask_for_status(socket, named)?;
        Ok(Look { status, at: Instant::now() })
    }
}

/// Shows the site until somebody ends it. The first look has to succeed.
pub fn run(socket: &Path, named: bool, top: Top) -> Result<Exit, Failure> {
    let first = Look::at(socket, named)?;
    if top.once || !terminal::is_there() {
        thread::sleep(top.interval.min(ONCE));
        let second = Look::at(socket, named)?;
        let lines = frame(Some(&first), &second, &View::default(), None, (ALL, ALL));
        // The last line is about keys.
        let lines: String = lines[..lines.len() - 1].iter().map(|(_, line)| format!("{line}\n")).collect();
        return report::print(&lines);
    }
    let failed =
        |error: io::Error| Failure::new(Exit::System, format!("could not use the terminal: {}", words(&error)));
    // Before there is a second thread, which would be interrupted.
    let signals = Signals::collect().map_err(failed)?;
    let (looks, heard) = look_again(socket, named, top.interval).map_err(failed)?;
    let screen = Screen::take().map_err(failed)?;
    let mut live = Live { before: None, now: first, view: View::default(), lost: None, size: terminal::size() };
    let ended = live.turn(signals, &looks, &heard, &screen);
    drop(screen);
    match ended {
        // The terminal was closed.
        Err(error) if error.raw_os_error() == Some(Errno::EIO as i32) => Ok(Exit::Success),
        ended => ended.map(|()| Exit::Success).map_err(failed),
    }
}

type Looks = Receiver<Result<Look, Failure>>;

/// Asks in a thread of its own; the stream has a byte for each answer.
fn look_again(socket: &Path, named: bool, interval: Duration) -> io::Result<(Looks, UnixStream)> {
    let (sender, looks) = channel();
    let (heard, mut bell) = UnixStream::pair()?;
    heard.set_nonblocking(true)?;
    let socket = socket.to_owned();
    thread::Builder::new().spawn(move || {
        loop {
            thread::sleep(interval);
            if sender.send(Look::at(&socket, named)).is_err() || bell.write_all(b"!").is_err() {
                return;
            }
        }
    })?;
    Ok((looks, heard))
}

struct Live {
    before: Option<Look>,
    now: Look,
    view: View,
    /// Why there is no newer look.
    lost: Option<String>,
    /// Of the frame that was drawn last.
    size: (usize, usize),
}

impl Live {
    fn turn(&mut self, mut signals: Signals, looks: &Looks, mut heard: &UnixStream, screen: &Screen) -> io::Result<()> {
        loop {
            self.draw()?;
            let (keys, rings) = {
                let stdin = io::stdin();
                let wanted = [signals.as_fd(), stdin.as_fd(), heard.as_fd()];
                let mut polled = wanted.map(|fd| PollFd::new(fd, PollFlags::POLLIN));
                match poll(&mut polled, PollTimeout::from(1000u16)) {
                    Err(Errno::EINTR) => continue,
                    other => other?,
                };
                (polled[1].any() == Some(true), polled[2].any() == Some(true))
            };
            while let Some(signal) = signals.next()? {
                if matches!(signal, Signal::SIGTERM | Signal::SIGINT | Signal::SIGQUIT | Signal::SIGHUP) {
                    return Ok(());
                }
            }
            if keys {
                let mut typed = [0; 256];
                let count = nix::unistd::read(io::stdin().as_fd(), &mut typed)?;
                if count == 0 || self.view.obey(&String::from_utf8_lossy(&typed[..count])) {
                    return Ok(());
                }
                if typed[..count].contains(&CTRL_Z) {
                    screen.suspend()?;
                }
            }
            if rings {
                let _ = heard.read(&mut [0; 16])?;
            }
            for look in looks.try_iter() {
                self.see(look);
            }
        }
    }

    fn see(&mut self, look: Result<Look, Failure>) {
        match look {
            Ok(look) => {
                self.before = Some(std::mem::replace(&mut self.now, look));
                self.lost = None;
            }
            Err(why) => self.lost = Some(format!("{}; asked again and again", why.message)),
        }
    }

    fn draw(&mut self) -> io::Result<()> {
        let size = terminal::size();
        let silent = self.now.at.elapsed().as_secs();
        let lost = self.lost.clone().or_else(|| (silent > 3).then(|| format!("no answer for {silent} s")));
        let mut text = if size == self.size { String::new() } else { "\x1b[2J".into() };
        self.size = size;
        let lines = frame(self.before.as_ref(), &self.now, &self.view, lost.as_deref(), size);
        for (number, line) in lines.iter().enumerate() {
            // The last one clears what is below it, too, before it may fill the screen's last column.
            let clear = if number + 1 == lines.len() { "\x1b[J" } else { "\x1b[2K" };
            text += &format!("\x1b[{};1H{clear}{}", number + 1, coloured(line));
        }
        terminal::show(text.as_bytes())
    }
}

fn coloured((style, line): &Styled) -> String {
    let colour = match style {
        Style::Plain => return line.clone(),
        Style::Bold => "\x1b[1m",
        Style::Red => "\x1b[31m",
        Style::Yellow => "\x1b[33m",
    };
    if is_coloured(io::stdout().as_fd()) { format!("{colour}{line}{PLAIN}") } else { line.clone() }
}
