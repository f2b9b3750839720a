//! A terminal as a screen: its size, and a mode in which each key is heard at once.

use std::{
    env,
    io::{self, IsTerminal, Write},
    os::fd::{AsFd, AsRawFd},
    panic,
    sync::atomic::{AtomicBool, Ordering::Relaxed},
};

use nix::{
    libc,
    sys::{
        signal::{Signal, raise},
        termios::{SetArg, cfmakeraw, tcgetattr, tcsetattr},
    },
};

/// The other screen, no cursor, and no line that goes on in the next.
const ENTER: &[u8] = b"\x1b[?1049h\x1b[?25l\x1b[?7l\x1b[2J";
const LEAVE: &[u8] = b"\x1b[?7h\x1b[?25h\x1b[?1049l";

/// Whether the terminal is a screen now. What is restored twice would put the cursor where it was, above what was said meanwhile.
static TAKEN: AtomicBool = AtomicBool::new(false);

/// Whether standard input and output are a terminal that can be drawn on.
pub fn is_there() -> bool {
    let draws = env::var_os("TERM").is_none_or(|name| name != "dumb");
    draws && io::stdin().is_terminal() && io::stdout().is_terminal()
}

/// The columns and lines of the terminal at standard output; 80 and 24 if it does not say.
pub fn size() -> (usize, usize) {
    let mut size = libc::winsize { ws_row: 0, ws_col: 0, ws_xpixel: 0, ws_ypixel: 0 };
    // SAFETY: writes a winsize, which lives on here.
    let answer = unsafe { libc::ioctl(io::stdout().as_raw_fd(), libc::TIOCGWINSZ, &raw mut size) };
    match (answer, size.ws_col, size.ws_row) {
        (0, columns @ 1.., lines @ 1..) => (columns.into(), lines.into()),
        _ => (80, 24),
    }
}

/// While it lives, the terminal is a screen. Afterwards it is as it was, after a panic, too.
pub struct Screen(libc::termios);

impl Screen {
    /// Takes the terminal at standard input and output.
    pub fn take() -> io::Result<Screen> {
        let before: libc::termios = tcgetattr(io::stdin())?.into();
        let usual = panic::take_hook();
        // What is said of a panic is to stand where it is read.
        panic::set_hook(Box::new(move |panic| {
            restore(before);
            usual(panic);
        }));
        let screen = Screen(before);
        enter()?;
        Ok(screen)
    }

    /// Gives the terminal back and stops this process, as Ctrl-Z does elsewhere. Once it continues, it has its screen again.
    pub fn suspend(&self) -> io::Result<()> {
        restore(self.0);
        raise(Signal::SIGTSTP)?;
        enter()
    }
}

impl Drop for Screen {
    fn drop(&mut self) {
        restore(self.0);
    }
}

fn enter() -> io::Result<()> {
    let mut raw = tcgetattr(io::stdin())?;
    cfmakeraw(&mut raw);
    TAKEN.store(true, Relaxed);
    tcsetattr(io::stdin(), SetArg::TCSANOW, &raw)?;
    show(ENTER)
}

fn restore(before: libc::termios) {
    if !TAKEN.swap(false, Relaxed) {
        return;
    }
    let _ = show(LEAVE);
    let _ = tcsetattr(io::stdin().as_fd(), SetArg::TCSANOW, &before.into());
}

/// Writes at once.
pub fn show(text: &[u8]) -> io::Result<()> {
    let mut output = io::stdout().lock();
    output.write_all(text)?;
    output.flush()
}
