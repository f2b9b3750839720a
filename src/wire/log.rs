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
                    slog::b!("path" => "/a\x1b[2J b", "trace" => "one\ntwo \x07\n", "pid" => 7)
                ),
                &list,
            )
            .unwrap();
        let (_, text) = shown.split_once(' ').unwrap();
        assert_eq!(text, "info master[1] worker ready path=\"/a\\u{1b}[2J b\" pid=7 slot=3\n    one\n    two \\u{7}\n");
    }
}
