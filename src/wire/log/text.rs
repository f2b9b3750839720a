//! Lines for files.

use jiff::Zoned;
use slog::Level;

use super::entry::Entry;

/// `2026-11-22T13:58:01.123+00:00 info master[4711] stopped`, and values of several lines below it.
pub fn plain(entry: &Entry, pid: u32, now: &Zoned) -> String {
    let (time, level) = (now.strftime("%Y-%m-%dT%H:%M:%S%.3f%:z"), name(entry.level));
    format!("{time} {level} {}[{pid}] {}\n", entry.process, entry.text(INDENT))
}

/// Stands before each line of a value of several lines.
pub const INDENT: &str = "    ";

/// As it is typed.
pub fn name(level: Level) -> &'static str {
    match level {
        Level::Critical => "critical",
        Level::Error => "error",
        Level::Warning => "warning",
        Level::Info => "info",
        Level::Debug => "debug",
        Level::Trace => "trace",
    }
}
