//! Lines for people at a terminal, in colours where the terminal takes them. While the master starts, a sentence stands for each thing that
//! a person waits for: the addresses, the interpreter, the workers; or the reason why there are none, below its traceback.

use std::{
    env,
    io::IsTerminal,
    os::fd::BorrowedFd,
    sync::{
        OnceLock,
        atomic::{AtomicU8, Ordering::Relaxed},
    },
};

use jiff::Zoned;
use slog::Level;

use super::{
    entry::{Entry, printable},
    text::{INDENT, name},
};

const RED: &str = "\x1b[31m";
const YELLOW: &str = "\x1b[33m";
const CYAN: &str = "\x1b[36m";
const FAINT: &str = "\x1b[2m";
const BOLD: &str = "\x1b[1m";
/// Ends a colour.
pub const PLAIN: &str = "\x1b[0m";

/// Where this process is with a start of the master: [`NONE`], [`STARTING`] or [`FAILED`].
static START: AtomicU8 = AtomicU8::new(NONE);
const NONE: u8 = 0;
const STARTING: u8 = 1;
const FAILED: u8 = 2;

/// Whether colours are wanted: not where NO_COLOR is set (no-color.org), nor on a terminal that has none. Read once: an application may
/// change the environment while other threads run.
pub(super) fn colours_are_wanted() -> bool {
    static WANTED: OnceLock<bool> = OnceLock::new();
    let set = |name| env::var_os(name).filter(|value| !value.is_empty());
    *WANTED.get_or_init(|| set("NO_COLOR").is_none() && set("TERM").is_none_or(|terminal| terminal != "dumb"))
}

/// Whether what is written there may be in colours.
pub fn is_coloured(place: BorrowedFd) -> bool {
    colours_are_wanted() && place.is_terminal()
}

/// The colour of an access log's line; empty for none.
pub fn colour_of(status: u16) -> &'static str {
    match status {
        500.. => RED,
        400..500 => YELLOW,
        300..400 => CYAN,
        _ => "",
    }
}

/// `13:58:01 info    master[4711] stopped`, and values of several lines below it; a sentence for what belongs to a start, unless `least`, the
/// lowest level that is written, asks for details.
pub(super) fn lines(entry: &Entry, pid: u32, now: &Zoned, least: Level) -> String {
    if let Some(sentence) = of_start(entry).filter(|_| least.is_at_least(Level::Info)) {
        return sentence;
    }
    let colour = match entry.level {
        Level::Critical | Level::Error => RED,
        Level::Warning => YELLOW,
        Level::Info | Level::Debug | Level::Trace => FAINT,
    };
    let (time, level) = (now.strftime("%H:%M:%S"), in_colour(colour, &format!("{:<8}", name(entry.level))));
    format!("{time} {level}{}[{pid}] {}\n", entry.process, entry.text(INDENT))
}

/// Empty for what nobody waits for; none for what is no part of a start.
fn of_start(entry: &Entry) -> Option<String> {
    let value = |key| entry.pairs.iter().find(|pair| pair.key == key).map_or("", |pair| pair.text.as_str());
    match (START.load(Relaxed), entry.phrase.as_str()) {
        (_, "starting") => START.store(STARTING, Relaxed),
        (STARTING, "generation serving") => START.store(NONE, Relaxed),
        (STARTING, "generation discarded") => START.store(FAILED, Relaxed),
        (STARTING, "listening" | "application imported" | "generation booting" | "worker ready") => {}
        (FAILED, "generation gone" | "stopped") => {}
        _ => return None,
    }
    Some(match entry.phrase.as_str() {
        "listening" => format!("listening on {}\n", in_colour(BOLD, &printable(value("address")))),
        "application imported" => {
            format!("Python {} ({})\n", printable(value("python")), printable(value("executable")))
        }
        "generation serving" => match value("workers") {
            "1" => "1 worker serves; Ctrl-C stops it\n".into(),
            workers => format!("{workers} workers serve; Ctrl-C stops them\n"),
        },
        "generation discarded" => {
            let traceback: String = value("traceback").lines().map(|line| printable(line) + "\n").collect();
            format!("{traceback}{}\n", in_colour(RED, &format!("ostler: {}", printable(value("reason")))))
        }
        _ => String::new(),
    })
}

fn in_colour(colour: &str, text: &str) -> String {
    if colours_are_wanted() { format!("{colour}{text}{PLAIN}") } else { text.into() }
}
