//! Lines for files and for terminals.

use jiff::Zoned;
use slog::Level;

use super::entry::Entry;

/// `2026-11-22T13:58:01.123+00:00 info master[4711] stopped`, and values of several lines below it.
pub fn plain(entry: &Entry, pid: u32, now: &Zoned) -> String {
    let (time, level) = (now.strftime("%Y-%m-%dT%H:%M:%S%.3f%:z"), name(entry.level));
    format!("{time} {level} {}[{pid}] {}\n", entry.process, entry.text(INDENT))
}

/// The same with a short time and the level in colour.
pub fn coloured(entry: &Entry, pid: u32, now: &Zoned) -> String {
    let colour = match entry.level {
        Level::Critical | Level::Error => "\x1b[31m",
        Level::Warning => "\x1b[33m",
        Level::Info | Level::Debug | Level::Trace => "\x1b[2m",
    };
    let (time, level) = (now.strftime("%H:%M:%S"), name(entry.level));
    format!("{time} {colour}{level:<7}\x1b[0m {}[{pid}] {}\n", entry.process, entry.text(INDENT))
}

const INDENT: &str = "    ";

fn name(level: Level) -> &'static str {
    match level {
        Level::Critical => "critical",
        Level::Error => "error",
        Level::Warning => "warning",
        Level::Info => "info",
        Level::Debug => "debug",
        Level::Trace => "trace",
    }
}
