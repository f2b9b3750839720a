//! A record of the log, from which each form is made.

use std::fmt::{self, Write as _};

use slog::{KV, Key, Level, OwnedKVList, Record};

use super::Process;

/// One record.
pub(super) struct Entry {
    pub level: Level,
    pub process: Process,
    pub phrase: String,
    /// In the order in which they are written.
    pub pairs: Vec<Pair>,
    /// The file and the line of the source that it comes from.
    pub source: (&'static str, u32),
}

/// A key and its value.
pub(super) struct Pair {
    pub key: Key,
    pub text: String,
    /// Whether it is a number, or true or false.
    pub bare: bool,
}

impl Entry {
    /// The record's pairs come first, then those of its logger.
    pub fn of(record: &Record, values: &OwnedKVList, process: Process) -> Result<Entry, slog::Error> {
        // slog gives the keys of each list last first.
        let (mut ours, mut loggers) = (Pairs(Vec::new()), Pairs(Vec::new()));
        record.kv().serialize(record, &mut ours)?;
        values.serialize(record, &mut loggers)?;
        let pairs = ours.0.into_iter().rev().chain(loggers.0.into_iter().rev()).collect();
        let source = (record.file(), record.line());
        Ok(Entry { level: record.level(), process, phrase: record.msg().to_string(), pairs, source })
    }

    /// `worker ready generation=2 slot=0`, and the values of several lines (a traceback) below it, each line behind `indent`. Values that
    /// hold anything but plain characters are quoted, so that a client cannot forge a line.
    pub fn text(&self, indent: &str) -> String {
        let mut text = self.phrase.clone();
        for Pair { key, text: value, .. } in self.pairs.iter().filter(|pair| !is_block(&pair.text)) {
            // Writing to a String does not fail.
            let _ = match is_plain(value) {
                true => write!(text, " {key}={value}"),
                false => write!(text, " {key}={value:?}"),
            };
        }
        for line in self.pairs.iter().filter(|pair| is_block(&pair.text)).flat_map(|pair| pair.text.lines()) {
            text.extend(["\n", indent, &printable(line)]);
        }
        text
    }

    /// `worker lost: g2.0, pid 4711, exit SIGSEGV`: one line for people. What has several lines is left out, but for the first of a reason.
    pub fn sentence(&self) -> String {
        let of = |key: &str| self.pairs.iter().find(|pair| pair.key == key).map(|pair| pair.text.as_str());
        let process = match (of("generation"), of("slot")) {
            (Some(generation), Some(slot)) => Some(format!("g{generation}.{slot}")),
            (Some(generation), None) => Some(format!("g{generation}")),
            _ => None,
        };
        let told = |pair: &&Pair| {
            let named = process.is_some() && ["generation", "slot"].contains(&pair.key);
            !named && pair.text != "none" && (pair.key == "reason" || !is_block(&pair.text))
        };
        let pairs = self.pairs.iter().filter(told).map(|pair| {
            let line = pair.text.lines().next().unwrap_or_default();
            match (pair.key, line) {
                ("retry", "no") => "not replaced".into(),
                ("retry", "0.000") => "replaced at once".into(),
                ("retry", pause) => format!("replaced in {pause} s"),
                ("reason", reason) => reason.into(),
                // `exit status 7` is an exit.
                (key, line) if line.starts_with(key) => line.into(),
                (key, line) => format!("{key} {line}"),
            }
        });
        let pairs: Vec<_> = process.clone().into_iter().chain(pairs).collect();
        let text =
            if pairs.is_empty() { self.phrase.clone() } else { format!("{}: {}", self.phrase, pairs.join(", ")) };
        printable(&text.replace('\t', " "))
    }
}

/// Keys and values as they come.
struct Pairs(Vec<Pair>);

impl Pairs {
    fn add(&mut self, key: Key, value: &dyn fmt::Display, bare: bool) -> slog::Result {
        self.0.push(Pair { key, text: value.to_string(), bare });
        Ok(())
    }
}

/// Other types of numbers, which nobody logs, would be texts.
impl slog::Serializer for Pairs {
    fn emit_arguments(&mut self, key: Key, value: &fmt::Arguments) -> slog::Result {
        self.add(key, value, false)
    }

    fn emit_bool(&mut self, key: Key, value: bool) -> slog::Result {
        self.add(key, &value, true)
    }

    fn emit_u16(&mut self, key: Key, value: u16) -> slog::Result {
        self.add(key, &value, true)
    }

    fn emit_u32(&mut self, key: Key, value: u32) -> slog::Result {
        self.add(key, &value, true)
    }

    fn emit_u64(&mut self, key: Key, value: u64) -> slog::Result {
        self.add(key, &value, true)
    }

    fn emit_usize(&mut self, key: Key, value: usize) -> slog::Result {
        self.add(key, &value, true)
    }

    fn emit_i32(&mut self, key: Key, value: i32) -> slog::Result {
        self.add(key, &value, true)
    }

    /// A key without a value is left out.
    fn emit_none(&mut self, _: Key) -> slog::Result {
        Ok(())
    }
}

fn is_block(text: &str) -> bool {
    text.trim_end().contains('\n')
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
    use slog::{b, o, record};

    use super::{super::sentence_of, *};

    #[test]
    fn nobody_can_forge_a_line() {
        let pairs = b!("path" => "/a\x1b[2J b", "trace" => "one\ntwo \x07\n", "pid" => 7, "id" => None::<&str>);
        let of_logger = o!("slot" => 3).into();
        let entry =
            Entry::of(&record!(Level::Info, "", &format_args!("worker ready"), pairs), &of_logger, Process::Master)
                .unwrap();
        assert_eq!(entry.text("  "), "worker ready path=\"/a\\u{1b}[2J b\" pid=7 slot=3\n  one\n  two \\u{7}");
    }

    #[test]
    fn a_sentence_is_one_line_of_what_matters() {
        let pairs = b!("generation" => 2, "slot" => 3, "pid" => 7, "exit" => "SIGSEGV", "requests" => "none",
            "reason" => "line\twith\x1b[2J\nanother\n", "traceback" => "one\ntwo\n");
        let none = o!().into();
        let entry =
            Entry::of(&record!(Level::Error, "", &format_args!("worker lost"), pairs), &none, Process::Master).unwrap();
        assert_eq!(entry.sentence(), "worker lost: g2.3, pid 7, exit SIGSEGV, line with\\u{1b}[2J");
        for (exit, retry, told) in [
            ("exit status 7", "0.000", "exit status 7, replaced at once"),
            ("SIGKILL", "0.250", "exit SIGKILL, replaced in 0.250 s"),
            ("exit status 1", "no", "exit status 1, not replaced"),
        ] {
            let sentence = sentence_of(
                &record!(Level::Error, "", &format_args!("worker lost"), b!("exit" => exit, "retry" => retry)),
                &none,
            );
            assert_eq!(sentence, format!("worker lost: {told}"));
        }
    }
}
