//! The error log: one line or one entry for each record, written at once, and never waited for.
//!
//! `2026-11-22T13:58:01.123+00:00 info  worker g2.0[4711] worker ready  generation=2 slot=0`. The phrase and the keys
//! are stable, whatever the form: a file, a terminal and the journal have each their own (see [`Form`]).
//! A line is written by one write(2) to a descriptor opened for appending, so lines of several processes never mix. A line that
//! cannot be written is lost, and counted; the count is logged as soon as there is room again. Nothing here takes a lock, because
//! a child that was forked from a process with threads logs, too.

use std::{
    fmt,
    io::{ErrorKind, IsTerminal},
    os::fd::{BorrowedFd, RawFd},
    str::FromStr,
    sync::{
        Arc, OnceLock,
        atomic::{AtomicU8, Ordering::Relaxed},
    },
    time::Duration,
};

use jiff::{Timestamp, Zoned, tz::TimeZone};
use slog::{Drain, Level, Logger, OwnedKVList, Record, b, o, record};

pub use self::{
    counts::{BETWEEN_TRIES, count_alone, count_in, lost, take_counts, take_lost, tell_lost},
    entry::{is_unprintable, printable},
    place::{is_at, keep, leads_to_journal, place, replace},
    said::{Said, entry},
};
use self::{
    counts::{COUNT, count_record, lose, untold},
    entry::Entry,
    place::write,
    syslog::{Outcome, Sender},
};
use crate::settings::{LogForm, Logging};

mod counts;
mod entry;
mod journal;
mod json;
mod place;
mod said;
pub mod syslog;
pub mod terminal;
mod text;

/// The [`LogForm`] that was asked for, as a number.
static FORM: AtomicU8 = AtomicU8::new(LogForm::Text as u8);

/// The error log of a process: of its records, and of what its application says.
#[derive(Clone)]
pub struct ErrorLog(Arc<Records>);

impl ErrorLog {
    /// Its form is what is asked for, or else what the place of the log calls for now.
    pub fn new(process: Process, level: Level, logging: &Logging) -> ErrorLog {
        // Before an application can change the environment.
        terminal::colours_are_wanted();
        FORM.store(logging.form as u8, Relaxed);
        let syslog = logging.syslog.as_ref().map(|syslog| (Sender::new(syslog, "error"), syslog.only));
        let form = Form::of(place());
        let zone = zone().clone();
        ErrorLog(Arc::new(Records { process, pid: std::process::id(), form, level, zone, syslog }))
    }

    /// The descriptor of its own that leads to a syslog now.
    pub fn way_to_syslog(&self) -> Option<RawFd> {
        let ErrorLog(records) = self;
        records.syslog.as_ref().and_then(|(sender, _)| sender.descriptor())
    }

    /// What writes records.
    pub fn logger(&self) -> Logger {
        let ErrorLog(records) = self;
        Logger::root(records.clone().filter_level(records.level).ignore_res(), o!())
    }
}

/// The logger of a process whose application says nothing.
pub fn logger(process: Process, level: Level, logging: &Logging) -> Logger {
    ErrorLog::new(process, level, logging).logger()
}

/// Whether there is a journal on this machine.
pub fn journal_is_there() -> bool {
    std::path::Path::new(journal::SOCKET).exists()
}

/// Local time, as the daemon's environment or /etc/localtime says.
pub fn now() -> Zoned {
    Timestamp::now().to_zoned(zone().clone())
}

/// The same of another moment.
pub fn local(since_1970: Duration) -> Zoned {
    let moment = Timestamp::from_second(since_1970.as_secs() as i64).unwrap_or_default();
    moment.to_zoned(zone().clone())
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

/// Which process writes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Process {
    /// `master`
    Master,
    /// `template g1`: that of a generation, if it knows by now which.
    Template(Option<u32>),
    /// `worker g1.0`: that of a generation and a slot.
    Worker(u32, u16),
    /// `hooks`: it calls the hooks of gunicorn's master.
    Hooks,
}

impl Process {
    /// Its generation and its slot, if it has them.
    fn place(self) -> impl Iterator<Item = (&'static str, u32)> {
        let (generation, slot) = match self {
            Process::Master | Process::Hooks => (None, None),
            Process::Template(generation) => (generation, None),
            Process::Worker(generation, slot) => (Some(generation), Some(slot.into())),
        };
        let place = [("generation", generation), ("slot", slot)];
        place.into_iter().filter_map(|(key, number)| Some((key, number?)))
    }
}

impl fmt::Display for Process {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        match self {
            Process::Master => f.write_str("master"),
            Process::Hooks => f.write_str("hooks"),
            Process::Template(None) => f.write_str("template"),
            Process::Template(Some(generation)) => write!(f, "template g{generation}"),
            Process::Worker(generation, slot) => write!(f, "worker g{generation}.{slot}"),
        }
    }
}

/// How records are written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Form {
    /// A line with time, level and process.
    Text,
    /// The same for people.
    Terminal,
    /// An entry of the journal's.
    Journal,
    /// An object of JSON on a line.
    Json,
}

impl Form {
    fn of(place: BorrowedFd) -> Form {
        match place {
            _ if FORM.load(Relaxed) == LogForm::Json as u8 => Form::Json,
            _ if FORM.load(Relaxed) == LogForm::Journald as u8 => Form::Journal,
            place if leads_to_journal(place) => Form::Journal,
            place if place.is_terminal() => Form::Terminal,
            _ => Form::Text,
        }
    }
}

/// A record as text for another log, which has its own time and place: the phrase and its pairs, and what has several lines below.
pub fn text_of(record: &Record, values: &OwnedKVList) -> String {
    Entry::of(record, values, Process::Master).map_or_else(|error| error.to_string(), |entry| entry.text(""))
}

/// A record as one line for people, in which nothing moves a terminal.
pub fn sentence_of(record: &Record, values: &OwnedKVList) -> String {
    Entry::of(record, values, Process::Master).map_or_else(|error| error.to_string(), |entry| entry.sentence())
}

struct Records {
    process: Process,
    pid: u32,
    form: Form,
    level: Level,
    zone: TimeZone,
    /// And whether the log has no other place.
    syslog: Option<(Sender, bool)>,
}

impl Drain for Records {
    type Ok = ();
    type Err = std::io::Error;

    fn log(&self, record: &Record, values: &OwnedKVList) -> std::io::Result<()> {
        let entry = Entry::of(record, values, self.process).map_err(std::io::Error::other)?;
        count_record(entry.level, &entry.phrase);
        let is_count = record.tag() == COUNT;
        let lost = untold().swap(0, Relaxed);
        let counted = match lost {
            0 => true,
            _ if is_count => self.deliver(&entry),
            _ => self.count(lost).is_ok_and(|count| self.deliver(&count)),
        };
        if !counted {
            untold().fetch_add(lost, Relaxed);
        }
        if !(is_count || counted && self.deliver(&entry)) {
            lose(1);
        }
        Ok(())
    }
}

impl Records {
    fn count(&self, lines: u32) -> Result<Entry, slog::Error> {
        let none = o!().into();
        Entry::of(
            &record!(Level::Warning, COUNT, &format_args!("log lines lost"), b!("lines" => lines)),
            &none,
            self.process,
        )
    }

    /// Whether it has reached every place.
    fn deliver(&self, entry: &Entry) -> bool {
        let Some((sender, only)) = &self.syslog else { return self.write(entry) };
        let sent = self.send(sender, entry.level, &journal::message(entry));
        if *only { sent } else { self.write(entry) }
    }

    /// Whether the syslog takes it. Says in the log's own place how it stands with the syslog.
    fn send(&self, sender: &Sender, level: Level, message: &str) -> bool {
        let outcome = sender.send(level, &self.now(), message);
        match &outcome {
            Outcome::Lost(Some(why)) => self.tell_of(record!(
                Level::Warning,
                "",
                &format_args!("syslog not reached"),
                b!("address" => %sender.to(), "reason" => why)
            )),
            Outcome::SentAgain(lost) => self.tell_of(record!(
                Level::Info,
                "",
                &format_args!("syslog reached again"),
                b!("address" => %sender.to(), "lost" => lost)
            )),
            Outcome::Lost(None) | Outcome::Sent => {}
        }
        !matches!(outcome, Outcome::Lost(_))
    }

    fn tell_of(&self, record: Record) {
        if let Ok(entry) = Entry::of(&record, &o!().into(), self.process) {
            self.write(&entry);
        }
    }

    fn now(&self) -> Zoned {
        Timestamp::now().to_zoned(self.zone.clone())
    }

    /// Whether all of it could be written.
    fn write(&self, entry: &Entry) -> bool {
        let now = || self.now();
        match self.form {
            Form::Json => write(json::record(entry, self.pid, &now()).as_bytes()),
            Form::Text => write(text::plain(entry, self.pid, &now()).as_bytes()),
            Form::Terminal => write(terminal::lines(entry, self.pid, &now(), self.level).as_bytes()),
            Form::Journal => match journal::send(&journal::record(entry)) {
                Ok(()) => true,
                Err(error) if error.kind() == ErrorKind::WouldBlock => false,
                // There may be no descriptor left for a socket; and a stream is older than the socket is.
                Err(_) => write(journal::lines(entry).as_bytes()),
            },
        }
    }
}
