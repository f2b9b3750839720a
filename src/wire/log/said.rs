//! What an application says in the log: texts that are no records. Each is one entry, whatever lines it has.
//!
//! In a file and on a terminal a text stays as it was written, behind `[id]` where it belongs to a request with an id. The other forms take
//! a level from `<3>` in front of a text (sd-daemon(3)). Python itself does not tell how bad what it prints is, so that the level of
//! all others is info, which is what journald takes for standard error, too.

use std::{borrow::Cow, io::ErrorKind, os::fd::BorrowedFd};

use serde::de::IgnoredAny;
use slog::Level;

use super::{ErrorLog, Form, Process, Records, is_at, journal, json, leads_to_journal, lose, printable, write};

/// A text, and what is known of it.
#[derive(Debug, Clone, Copy)]
pub struct Said<'a> {
    /// As it was written.
    pub text: &'a [u8],
    /// The id of the request that it belongs to.
    pub request_id: Option<&'a str>,
    /// Whether it goes on in a line that this thread has begun.
    pub goes_on: bool,
}

impl ErrorLog {
    /// Writes a text of the application's.
    pub fn say(&self, said: Said) {
        let ErrorLog(records) = self;
        let mut written = true;
        if let Some((sender, only)) = &records.syslog {
            if let Some((level, text)) = entry_of(said.text) {
                let lines: Vec<_> = text.split('\n').map(printable).collect();
                let message = format!("{}: {}{}", records.process, mark(said.request_id), lines.join("\n"));
                written = records.send(sender, level, &message);
            }
            if *only {
                return if !written {
                    lose(1)
                };
            }
        }
        if !records.write_said(said) {
            lose(said.text.iter().filter(|byte| **byte == b'\n').count().max(1) as u32);
        }
    }
}

impl Records {
    /// Whether all of it could be written.
    fn write_said(&self, said: Said) -> bool {
        if matches!(self.form, Form::Text | Form::Terminal) {
            return write(&plain(said));
        }
        let Some((level, text)) = entry_of(said.text) else { return true };
        let process = self.process;
        if self.form == Form::Json {
            return write(json::said(level, process, &text, said.request_id, &self.now()).as_bytes());
        }
        send(&journal::said(level, Some(process), &text, said.request_id)).unwrap_or_else(|| write(said.text))
    }
}

/// Writes a text as one entry, if `to` leads to the journal. Whether it could be written; none if journald is not there, and the text
/// is to be written as anywhere else.
pub fn entry(to: BorrowedFd, level: Level, text: &str) -> Option<bool> {
    if !(leads_to_journal(to) || Form::of(to) == Form::Journal && is_at(to)) {
        return None;
    }
    send(&journal::said(level, None::<Process>, text.trim_end(), None))
}

fn send(entry: &[u8]) -> Option<bool> {
    match journal::send(entry) {
        Ok(()) => Some(true),
        Err(error) if error.kind() == ErrorKind::WouldBlock => Some(false),
        Err(_) => None,
    }
}

/// The text as it is. One that is an object of JSON stays one.
fn plain(said: Said<'_>) -> Cow<'_, [u8]> {
    match said.request_id {
        Some(_) if !said.goes_on && !is_object(said.text) => {
            Cow::Owned([mark(said.request_id).as_bytes(), said.text].concat())
        }
        _ => Cow::Borrowed(said.text),
    }
}

fn is_object(text: &[u8]) -> bool {
    text.starts_with(b"{") && serde_json::from_slice::<IgnoredAny>(text).is_ok()
}

fn mark(request_id: Option<&str>) -> String {
    request_id.map(|id| format!("[{id}] ")).unwrap_or_default()
}

/// Its level, and what is left of it; none if that is nothing.
fn entry_of(text: &[u8]) -> Option<(Level, Cow<'_, str>)> {
    let text = text.trim_ascii_end();
    let (level, text) = match text {
        [b'<', digit @ b'0'..=b'7', b'>', rest @ ..] => (level_of(*digit), rest),
        _ => (Level::Info, text),
    };
    (!text.is_empty()).then(|| (level, String::from_utf8_lossy(text)))
}

/// syslog(3)
fn level_of(priority: u8) -> Level {
    match priority {
        b'0'..=b'2' => Level::Critical,
        b'3' => Level::Error,
        b'4' => Level::Warning,
        b'5' | b'6' => Level::Info,
        _ => Level::Debug,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_text_says_its_level_and_nothing_is_no_entry() {
        let of = |text: &'static str| entry_of(text.as_bytes()).map(|(level, text)| (level, text.into_owned()));
        assert_eq!(of("one\n  two\n\n"), Some((Level::Info, "one\n  two".into())));
        assert_eq!(of("<3>lost\n"), Some((Level::Error, "lost".into())));
        assert_eq!(of("<9>lost"), Some((Level::Info, "<9>lost".into())));
        assert_eq!((of(" \n"), of("<6>\n")), (None, None));
    }

    #[test]
    fn a_file_has_the_text_as_it_is_behind_the_id_of_its_request() {
        let of = |text: &'static str, request_id, goes_on| {
            String::from_utf8(plain(Said { text: text.as_bytes(), request_id, goes_on }).into_owned()).unwrap()
        };
        assert_eq!(of("<3>a\nb\n", None, false), "<3>a\nb\n");
        assert_eq!(of("a\nb\n", Some("4711"), false), "[4711] a\nb\n");
        assert_eq!(of("b\n", Some("4711"), true), "b\n");
        assert_eq!(of("{\"a\":1}\n", Some("4711"), false), "{\"a\":1}\n");
        for no_object in ["{'a': 1}\n", "{} started\n", "{\n"] {
            assert_eq!(of(no_object, Some("4711"), false), format!("[4711] {no_object}"));
        }
    }
}
