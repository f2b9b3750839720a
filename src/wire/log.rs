//! The error log: one line for each record, written at once to standard error.
//!
//! `2026-11-22T13:58:01.123+00:00 info  worker g2.0[4711] worker ready  generation=2 slot=0`. The phrase and the keys
//! are stable; values that hold anything but plain characters are quoted, so that nobody outside can forge a line.
//! A line is written by one write(2) to a descriptor opened for appending, so lines of several processes never mix.

use std::{
    fmt::{self, Write as _},
    io::{IsTerminal, Write as _},
    str::FromStr,
};

use slog::{Drain, KV, Level, Logger, OwnedKVList, Record, o};

/// Makes the logger of a process; `process` is `master`, `template g1` or `worker g1.0`.
pub fn logger(process: &str, level: Level) -> Logger {
    let process = format!("{process}[{}]", std::process::id());
    let terminal = std::io::stderr().is_terminal();
    Logger::root(StandardError { process, terminal }.filter_level(level).ignore_res(), o!())
}

/// Reads a level as it is typed: gunicorn's names (`critical`, `error`, `warning`, `info`, `debug`) in any case.
pub fn level(name: &str) -> Option<Level> {
    match name.to_ascii_lowercase().as_str() {
        "warn" => Some(Level::Warning),
        lower => Level::from_str(lower).ok(),
    }
}

struct StandardError {
    process: String,
    terminal: bool,
}

impl Drain for StandardError {
    type Ok = ();
    type Err = std::io::Error;

    fn log(&self, record: &Record, values: &OwnedKVList) -> std::io::Result<()> {
        let line = self.line(record, values).map_err(std::io::Error::other)?;
        std::io::stderr().lock().write_all(line.as_bytes())
    }
}

impl StandardError {
    fn line(&self, record: &Record, values: &OwnedKVList) -> Result<String, Box<dyn std::error::Error + Send + Sync>> {
        let mut line = String::with_capacity(200);
        let now = jiff::Zoned::now();
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
        let mut pairs = Pairs { line: &mut line, block: String::new() };
        record.kv().serialize(record, &mut pairs)?;
        values.serialize(record, &mut pairs)?;
        let block = pairs.block;
        line.push('\n');
        for text in block.lines() {
            writeln!(line, "    {}", printable(text))?;
        }
        Ok(line)
    }
}

/// Puts ` key=value` behind the phrase; a value of several lines (a traceback) follows as an indented block.
struct Pairs<'a> {
    line: &'a mut String,
    block: String,
}

impl slog::Serializer for Pairs<'_> {
    fn emit_arguments(&mut self, key: slog::Key, value: &fmt::Arguments) -> slog::Result {
        let text = value.to_string();
        if text.trim_end().contains('\n') {
            self.block.push_str(&text);
            return Ok(());
        }
        let plain = |c: char| c.is_ascii_graphic() && c != '"' && c != '=' && c != '\\';
        if !text.is_empty() && text.chars().all(plain) {
            write!(self.line, " {key}={text}")?;
        } else {
            write!(self.line, " {key}={text:?}")?;
        }
        Ok(())
    }
}

/// Control characters shown as escapes, everything else as it is.
pub fn printable(text: &str) -> String {
    let mut shown = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '\t' => shown.push(c),
            c if c.is_control() => shown.extend(c.escape_default()),
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
        let drain = StandardError { process: "master[1]".into(), terminal: false };
        let list = OwnedKVList::from(o!("slot" => 3));
        let shown = drain
            .line(
                &slog::record!(
                    Level::Info,
                    "",
                    &format_args!("worker ready"),
                    slog::b!("path" => "/a\x1b[2J b", "trace" => "one\ntwo \x07\n")
                ),
                &list,
            )
            .unwrap();
        let (_, text) = shown.split_once(' ').unwrap();
        assert_eq!(text, "info master[1] worker ready path=\"/a\\u{1b}[2J b\" slot=3\n    one\n    two \\u{7}\n");
    }
}
