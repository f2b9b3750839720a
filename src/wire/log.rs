//! The error log: one line for each record, written at once, and never waited for.
//!
//! `2026-11-22T13:58:01.123+00:00 info  worker g2.0[4711] worker ready  generation=2 slot=0`. The phrase and the keys
//! are stable; values that hold anything but plain characters are quoted, so that a client cannot forge a line.
//! A line is written by one write(2) to a descriptor opened for appending, so lines of several processes never mix. A line that
//! cannot be written is lost, and counted; the count is logged as soon as there is room again. Nothing here takes a lock, because
//! a child that was forked from a process with threads logs, too.

use std::{
    fmt::{self, Write as _},
    io::IsTerminal,
    os::fd::{AsFd, BorrowedFd, IntoRawFd},
    str::FromStr,
    sync::{
        OnceLock,
        atomic::{
            AtomicBool, AtomicI32, AtomicU64,
            Ordering::{Relaxed, SeqCst},
        },
    },
    time::Duration,
};

use jiff::{Timestamp, Zoned, tz::TimeZone};
use nix::{
    fcntl::OFlag,
    sys::stat::fstat,
    unistd::{dup2_raw, dup3_raw},
};
use slog::{Drain, KV, Level, Logger, OwnedKVList, Record, b, o, record, warn};

use crate::sink::{self, FileKind};

/// The pause between attempts to log that lines were lost, while nothing else is logged.
pub const BETWEEN_TRIES: Duration = Duration::from_secs(1);

/// Where the log is: standard error, until [`keep`] gives it a place of its own.
static PLACE: AtomicI32 = AtomicI32::new(2);
/// How many lines of this process were lost and not yet told.
static LOST: AtomicU64 = AtomicU64::new(0);
/// Whether this process's last line was written only in part.
static TORN: AtomicBool = AtomicBool::new(false);

/// The file that stands at a place of the log's own, by device and inode.
static KEPT: [AtomicU64; 2] = [AtomicU64::new(0), AtomicU64::new(0)];
/// Whether it is just being replaced.
static CHANGING: AtomicBool = AtomicBool::new(false);

/// The tag of the record that tells how many lines were lost: it is not counted when it is lost itself.
const COUNT: &str = "count";

/// Makes the logger of a process; `process` is `master`, `template g1` or `worker g1.0`.
pub fn logger(process: &str, level: Level) -> Logger {
    let process = format!("{process}[{}]", std::process::id());
    let zone = zone().clone();
    Logger::root(Lines { process, terminal: place().is_terminal(), zone }.filter_level(level).ignore_res(), o!())
}

/// The log's descriptor.
pub fn place() -> BorrowedFd<'static> {
    // SAFETY: what stands there is replaced, but never closed. Standard error may be: then writes fail, and lines are lost.
    unsafe { BorrowedFd::borrow_raw(PLACE.load(Relaxed)) }
}

/// Gives the log a descriptor of its own. What stands at 2 is the application's from then on: it may close it, or open its own files
/// there.
pub fn keep() -> std::io::Result<()> {
    let own = sink::own(std::io::stderr().as_fd())?;
    PLACE.store(own.into_raw_fd(), Relaxed);
    remember();
    Ok(())
}

/// Goes on in another file. `along`: which of the descriptors 1 and 2 are replaced, too, if they lead to the log now.
pub fn replace(file: BorrowedFd, along: &[i32]) -> std::io::Result<()> {
    let now = identity(place());
    for &number in along {
        // SAFETY: asks only; a number that is not open is told from one that is.
        if identity(unsafe { BorrowedFd::borrow_raw(number) }) == now {
            // SAFETY: standard output and standard error have no Rust owner in this process.
            let _stays_open = unsafe { dup2_raw(file, number) }?.into_raw_fd();
        }
    }
    if PLACE.load(Relaxed) > 2 {
        let own = sink::own(file)?;
        CHANGING.store(true, SeqCst);
        // SAFETY: the place is the log's alone.
        let _stays_open = unsafe { dup3_raw(own, PLACE.load(Relaxed), OFlag::O_CLOEXEC) }?.into_raw_fd();
        remember();
    }
    Ok(())
}

fn remember() {
    let (device, inode) = identity(place()).unwrap_or_default();
    KEPT[0].store(device, SeqCst);
    KEPT[1].store(inode, SeqCst);
    CHANGING.store(false, SeqCst);
}

fn kept() -> (u64, u64) {
    (KEPT[0].load(SeqCst), KEPT[1].load(SeqCst))
}

/// The application may have closed the log's descriptor and opened a file that got its number. Then the log goes to standard error.
fn look_at_place() {
    let before = kept();
    if PLACE.load(Relaxed) > 2 && identity(place()) != Some(before) && !CHANGING.load(SeqCst) && kept() == before {
        PLACE.store(2, Relaxed);
    }
}

/// Whether a descriptor leads to the log.
pub fn is_at(descriptor: BorrowedFd) -> bool {
    identity(descriptor) == identity(place())
}

/// Which file it is; none if it is not open.
fn identity(descriptor: BorrowedFd) -> Option<(u64, u64)> {
    fstat(descriptor).ok().map(|status| (status.st_dev, status.st_ino))
}

/// How many lines were lost and not yet told.
pub fn lost() -> u64 {
    LOST.load(Relaxed)
}

/// Tells how many lines were lost, if there is room again. To be called every [`BETWEEN_TRIES`] while [`lost`] is not zero.
pub fn tell_lost(log: &Logger) {
    let lines = lost();
    if lines > 0 {
        warn!(log, #COUNT, "log lines lost"; "lines" => lines);
    }
}

/// Writes text as it is, which the application sends to the log (`wsgi.errors`).
pub fn write_text(text: &[u8]) {
    let lines = text.iter().filter(|byte| **byte == b'\n').count().max(1);
    if !write(text) {
        LOST.fetch_add(lines as u64, Relaxed);
    }
}

/// Whether all of it could be written.
fn write(text: &[u8]) -> bool {
    look_at_place();
    let place = place();
    let kind = FileKind::of(place);
    if TORN.load(Relaxed) {
        if sink::write(place, kind, b"\n").1.is_some() {
            return false;
        }
        TORN.store(false, Relaxed);
    }
    let (written, error) = sink::write(place, kind, text);
    if written > 0 && text[written - 1] != b'\n' && error.is_some() {
        TORN.store(true, Relaxed);
    }
    error.is_none()
}

/// Local time, as the daemon's environment or /etc/localtime says.
pub fn now() -> Zoned {
    Timestamp::now().to_zoned(zone().clone())
}

/// Read once: an application may change TZ while other threads write lines, and jiff reads it under a lock.
fn zone() -> &'static TimeZone {
    static ZONE: OnceLock<TimeZone> = OnceLock::new();
    ZONE.get_or_init(TimeZone::system)
}

/// Reads a level as it is typed: gunicorn's names (`critical`, `error`, `warning`, `info`, `debug`) in any case.
pub fn level(name: &str) -> Option<Level> {
    match name.to_ascii_lowercase().as_str() {
        "warn" => Some(Level::Warning),
        lower => Level::from_str(lower).ok(),
    }
}

struct Lines {
    process: String,
    terminal: bool,
    zone: TimeZone,
}

impl Drain for Lines {
    type Ok = ();
    type Err = std::io::Error;

    fn log(&self, record: &Record, values: &OwnedKVList) -> std::io::Result<()> {
        let line = self.line(record, values).map_err(std::io::Error::other)?;
        let is_count = record.tag() == COUNT;
        let lost = LOST.swap(0, Relaxed);
        let counted = match lost {
            0 => true,
            _ if is_count => write(line.as_bytes()),
            _ => self.count(lost).is_ok_and(|count| write(count.as_bytes())),
        };
        if !counted {
            LOST.fetch_add(lost, Relaxed);
        }
        if !(is_count || counted && write(line.as_bytes())) {
            LOST.fetch_add(1, Relaxed);
        }
        Ok(())
    }
}

impl Lines {
    fn count(&self, lines: u64) -> Result<String, Box<dyn std::error::Error + Send + Sync>> {
        self.line(&record!(Level::Warning, COUNT, &format_args!("log lines lost"), b!("lines" => lines)), &o!().into())
    }

    fn line(&self, record: &Record, values: &OwnedKVList) -> Result<String, Box<dyn std::error::Error + Send + Sync>> {
        let mut line = String::with_capacity(200);
        let now = Timestamp::now().to_zoned(self.zone.clone());
        let name = match record.level() {
            Level::Critical => "critical",
            Level::Error => "error",
            Level::Warning => "warning",
            Level::Info => "info",
            Level::Debug => "debug",
            Level::Trace => "trace",
        };
        let (colour, plain) = match (self.terminal, record.level()) {
            (false, _) => ("", ""),
            (true, Level::Critical | Level::Error) => ("\x1b[31m", "\x1b[0m"),
            (true, Level::Warning) => ("\x1b[33m", "\x1b[0m"),
            (true, _) => ("\x1b[2m", "\x1b[0m"),
        };
        if self.terminal {
            write!(line, "{} {colour}{name:<7}{plain} {} ", now.strftime("%H:%M:%S"), self.process)?;
        } else {
            write!(line, "{} {name} {} ", now.strftime("%Y-%m-%dT%H:%M:%S%.3f%:z"), self.process)?;
        }
        write!(line, "{}", record.msg())?;
        // slog gives the keys of each list last first.
        let (mut ours, mut loggers) = (Pairs(Vec::new()), Pairs(Vec::new()));
        record.kv().serialize(record, &mut ours)?;
        values.serialize(record, &mut loggers)?;
        let in_order = || ours.0.iter().rev().chain(loggers.0.iter().rev());
        let is_block = |text: &str| text.trim_end().contains('\n');
        for (key, text) in in_order().filter(|(_, text)| !is_block(text)) {
            match is_plain(text) {
                true => write!(line, " {key}={text}")?,
                false => write!(line, " {key}={text:?}")?,
            }
        }
        line.push('\n');
        for text in in_order().filter(|(_, text)| is_block(text)).flat_map(|(_, text)| text.lines()) {
            writeln!(line, "    {}", printable(text))?;
        }
        Ok(line)
    }
}

/// Keys and values as they come. A value of several lines (a traceback) is shown below the line, as an indented block.
struct Pairs(Vec<(slog::Key, String)>);

impl slog::Serializer for Pairs {
    fn emit_arguments(&mut self, key: slog::Key, value: &fmt::Arguments) -> slog::Result {
        self.0.push((key, value.to_string()));
        Ok(())
    }
}

fn is_plain(text: &str) -> bool {
    !text.is_empty() && text.chars().all(|c| c.is_ascii_graphic() && c != '"' && c != '=' && c != '\\')
}

/// What a terminal would obey: control characters, and those that turn the direction of text around or end a line.
pub fn is_unprintable(c: char) -> bool {
    let turns = matches!(c, '\u{61c}' | '\u{200e}' | '\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}');
    c.is_control() || turns || matches!(c, '\u{2028}' | '\u{2029}')
}

/// What a terminal would obey shown as escapes, everything else as it is.
pub fn printable(text: &str) -> String {
    let mut shown = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '\t' => shown.push(c),
            c if is_unprintable(c) => shown.extend(c.escape_default()),
            c => shown.push(c),
        }
    }
    shown
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nobody_can_forge_a_line() {
        let drain = Lines { process: "master[1]".into(), terminal: false, zone: TimeZone::UTC };
        let list = OwnedKVList::from(o!("slot" => 3));
        let shown = drain
            .line(
                &slog::record!(
                    Level::Info,
                    "",
                    &format_args!("worker ready"),
                    slog::b!("path" => "/a\x1b[2J b", "trace" => "one\ntwo \x07\n", "pid" => 7)
                ),
                &list,
            )
            .unwrap();
        let (_, text) = shown.split_once(' ').unwrap();
        assert_eq!(text, "info master[1] worker ready path=\"/a\\u{1b}[2J b\" pid=7 slot=3\n    one\n    two \\u{7}\n");
    }
}
