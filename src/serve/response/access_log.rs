//! The access log: gunicorn's format strings, one line for each request, written in batches. The loop never waits for it.

use std::{
    os::fd::{AsFd, OwnedFd},
    time::Duration,
};

use nix::errno::Errno;
use ostler_wire::{
    access_format::{AccessFormat, Piece},
    log::terminal,
    sink::{self, FileKind},
};
use slog::{Logger, info, warn};

use super::Outgoing;
use crate::request::incoming::Incoming;

/// A batch is written when it is this long, and before the worker sleeps.
const BATCH: usize = 32 * 1024;
/// How many bytes wait for a slow reader, or for a full disk. Lines beyond that are lost, and counted.
const MOST_WAITING: usize = 256 * 1024;
/// The time between two attempts to write, while there is nothing else to do.
const BETWEEN_TRIES: Duration = Duration::from_millis(200);

/// Writes the lines.
pub(crate) struct AccessLog {
    format: AccessFormat,
    file: Option<OwnedFd>,
    kind: FileKind,
    /// A terminal shows lines in colours, by their status.
    coloured: bool,
    /// What each line begins with.
    level: &'static str,
    batch: Vec<u8>,
    /// The file ends with half a line, and the batch does not begin with its other half.
    torn: bool,
    /// The error log, which tells when lines cannot be written, and when they can be again.
    log: Logger,
    /// Something waits to be written.
    failing: bool,
    said: bool,
    /// How many lines were lost.
    lost: u64,
    /// `%(t)s`
    time: String,
    /// For each Python thread, the head of its request, which may have to be recorded while its call still owns it.
    heads: Vec<Vec<u8>>,
}

impl AccessLog {
    pub fn new(format: AccessFormat, file: Option<OwnedFd>, threads: u16, log: Logger) -> AccessLog {
        let mut log = AccessLog {
            format,
            file: None,
            kind: FileKind::Device,
            coloured: false,
            level: "",
            batch: Vec::new(),
            torn: false,
            log,
            failing: false,
            said: false,
            lost: 0,
            time: String::new(),
            heads: vec![Vec::new(); threads.into()],
        };
        log.reopen(file);
        log.update_time();
        log
    }

    /// Continues in another file.
    pub fn reopen(&mut self, file: Option<OwnedFd>) {
        self.flush();
        self.kind = file.as_ref().map_or(FileKind::Device, |file| FileKind::of(file.as_fd()));
        self.coloured = file.as_ref().is_some_and(|file| terminal::is_coloured(file.as_fd()));
        // Or else a line that begins with what a client has sent could have any level.
        let to_journal = file.as_ref().is_some_and(|file| ostler_wire::log::leads_to_journal(file.as_fd()));
        self.level = if to_journal { "<6>" } else { "" };
        self.file = file;
    }

    pub fn is_on(&self) -> bool {
        self.file.is_some()
    }

    /// A new second has begun.
    pub fn update_time(&mut self) {
        if self.is_on() {
            self.time = ostler_wire::log::now().strftime("[%d/%b/%Y:%H:%M:%S %z]").to_string();
        }
    }

    /// Keeps the head of the request that a Python thread begins to answer.
    pub fn keep_head(&mut self, thread: u16, head: &[u8]) {
        let place = &mut self.heads[usize::from(thread)];
        place.clear();
        place.extend_from_slice(head);
    }

    /// The head that was kept.
    pub fn take_head(&mut self, thread: u16) -> Vec<u8> {
        std::mem::take(&mut self.heads[usize::from(thread)])
    }

    /// Appends the line of a request that is over.
    pub fn record(&mut self, incoming: &Incoming, outgoing: &Outgoing, took: Duration) {
        let line_start = self.batch.len();
        let mut batch = std::mem::take(&mut self.batch);
        let colour = if self.coloured { terminal::colour_of(outgoing.status) } else { "" };
        batch.extend_from_slice(self.level.as_bytes());
        batch.extend_from_slice(colour.as_bytes());
        // The response's fields come first, then those of environ.
        let noted = |index: usize| outgoing.noted[index].as_deref();
        for piece in &self.format.pieces {
            match piece {
                Piece::Text(text) => batch.extend_from_slice(text.as_bytes()),
                Piece::RequestField(name) => {
                    quoted(&mut batch, incoming.head.value(&incoming.bytes, name.as_bytes()));
                }
                Piece::ResponseField(index) => quoted(&mut batch, noted(*index)),
                Piece::Variable(index) => quoted(&mut batch, noted(self.format.response_fields.len() + index)),
                Piece::Atom(b't') => batch.extend_from_slice(self.time.as_bytes()),
                Piece::Atom(letter) => atom(&mut batch, *letter, incoming, outgoing, took),
            }
        }
        if !colour.is_empty() {
            batch.extend_from_slice(terminal::PLAIN.as_bytes());
        }
        batch.push(b'\n');
        self.batch = batch;
        if self.batch.len() >= BATCH {
            self.make_room(line_start);
        }
    }

    /// Writes a long batch. If too much still waits, the last line is lost.
    #[cold]
    fn make_room(&mut self, line_start: usize) {
        // While writing fails, it is tried before each sleep, not for each line.
        if !self.failing {
            self.flush();
        }
        if self.batch.len() > MOST_WAITING {
            self.batch.truncate(line_start);
            self.lost += 1;
        }
    }

    /// Writes as much of the batch as can be written without waiting.
    pub fn flush(&mut self) {
        let Some(file) = &self.file else { return };
        if self.batch.is_empty() {
            return;
        }
        let (mut written, mut error) = (0, None);
        if self.torn {
            error = sink::write(file.as_fd(), self.kind, b"\n").1;
            self.torn = error.is_some();
        }
        if !self.torn {
            (written, error) = sink::write(file.as_fd(), self.kind, &self.batch);
        }
        match error {
            None => self.all_written(),
            Some(error) => self.not_written(written, error),
        }
    }

    fn all_written(&mut self) {
        self.batch.clear();
        if std::mem::take(&mut self.failing) {
            self.batch.shrink_to(2 * BATCH);
        }
        if std::mem::take(&mut self.said) {
            info!(self.log, "access log written again"; "lost" => std::mem::take(&mut self.lost));
        }
    }

    /// A full disk or a reader that is slow, or has left, must not stop the site. One that is slow is only mentioned once lines are lost.
    #[cold]
    fn not_written(&mut self, written: usize, error: Errno) {
        let whole = match self.kind {
            // Other processes may write behind half a line. So it is ended, and the whole line is written again.
            FileKind::File => self.batch[..written].iter().rposition(|byte| *byte == b'\n').map_or(0, |at| at + 1),
            FileKind::Pipe | FileKind::Socket | FileKind::Device => written,
        };
        self.torn |= whole < written;
        self.batch.drain(..whole);
        self.failing = true;
        if (error != Errno::EAGAIN || self.lost > 0) && !std::mem::replace(&mut self.said, true) {
            let reason = if error == Errno::EAGAIN { "its reader does not read" } else { error.desc() };
            warn!(self.log, "access log not written"; "reason" => reason);
        }
    }

    /// How long the loop may sleep while something waits to be written.
    pub fn due(&self) -> Option<Duration> {
        self.failing.then_some(BETWEEN_TRIES)
    }

    /// The last attempt. What cannot be written now is lost.
    pub fn close(&mut self) {
        self.flush();
        let waiting = self.batch.iter().filter(|byte| **byte == b'\n').count() as u64;
        if self.lost + waiting > 0 {
            warn!(self.log, "access log lines lost"; "lines" => self.lost + waiting);
        }
        self.batch.clear();
        self.lost = 0;
    }
}

fn atom(batch: &mut Vec<u8>, letter: u8, incoming: &Incoming, outgoing: &Outgoing, took: Duration) {
    let head = &incoming.head;
    let mut number = |value: u64| batch.extend_from_slice(itoa::Buffer::new().format(value).as_bytes());
    match letter {
        b's' if outgoing.status > 0 => number(outgoing.status.into()),
        b'B' => number(outgoing.body_sent()),
        b'b' if outgoing.body_sent() > 0 => number(outgoing.body_sent()),
        b'T' => number(took.as_secs()),
        b'M' => number(took.as_millis() as u64),
        b'D' => number(took.as_micros() as u64),
        b'L' => batch.extend_from_slice(format!("{:.6}", took.as_secs_f64()).as_bytes()),
        b'p' => batch.extend_from_slice(format!("<{}>", std::process::id()).as_bytes()),
        b'h' => quoted(batch, told(incoming.client.address.as_bytes())),
        b'r' => quoted(batch, told(incoming.line_bytes())),
        b'm' => quoted(batch, told(head.method.of(&incoming.bytes))),
        b'U' => quoted(batch, Some(head.path.of(&incoming.bytes))),
        b'q' => quoted(batch, Some(head.query.of(&incoming.bytes))),
        b'H' => batch.extend_from_slice(match head.version {
            ostler_http::Version::Http10 => b"HTTP/1.0",
            ostler_http::Version::Http11 => b"HTTP/1.1",
        }),
        b'f' => quoted(batch, head.value(&incoming.bytes, b"referer")),
        b'a' => quoted(batch, head.value(&incoming.bytes, b"user-agent")),
        b'u' => quoted(batch, head.value(&incoming.bytes, b"authorization").and_then(basic_user).as_deref()),
        _ => batch.push(b'-'),
    }
}

/// A part of a request that could not be parsed is unknown (`-`) rather than empty.
fn told(value: &[u8]) -> Option<&[u8]> {
    (!value.is_empty()).then_some(value)
}

/// A value from outside, escaped so that it cannot end the line or the quotes around it. `-` where there is none.
fn quoted(batch: &mut Vec<u8>, value: Option<&[u8]>) {
    let Some(value) = value else { return batch.push(b'-') };
    let is_plain = |byte: u8| matches!(byte, b' '..=b'~') && !b"\"\\".contains(&byte);
    if value.iter().fold(true, |all, &byte| all & is_plain(byte)) {
        return batch.extend_from_slice(value);
    }
    for &byte in value {
        match byte {
            b'"' | b'\\' => batch.extend_from_slice(&[b'\\', byte]),
            byte if is_plain(byte) => batch.push(byte),
            byte => batch.extend_from_slice(format!("\\x{byte:02x}").as_bytes()),
        }
    }
}

/// The user's name in Basic credentials (RFC 7617).
fn basic_user(credentials: &[u8]) -> Option<Vec<u8>> {
    let (scheme, encoded) = credentials.split_at_checked(6)?;
    if !scheme.eq_ignore_ascii_case(b"basic ") {
        return None;
    }
    let mut decoded = Vec::new();
    let (mut bits, mut count) = (0u32, 0);
    for byte in encoded.trim_ascii().iter().take_while(|byte| **byte != b'=') {
        let value =
            b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/".iter().position(|b| b == byte)?;
        (bits, count) = (bits << 6 | value as u32, count + 6);
        if count >= 8 {
            count -= 8;
            decoded.push((bits >> count) as u8);
        }
    }
    decoded.split(|byte| *byte == b':').next().map(<[u8]>::to_vec)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nobody_can_forge_a_line() {
        let mut batch = Vec::new();
        quoted(&mut batch, Some(b"a\"b\nc\xff d \\x0a\\"));
        assert_eq!(batch, b"a\\\"b\\x0ac\\xff d \\\\x0a\\\\");
    }

    #[test]
    fn the_user_is_named() {
        assert_eq!(basic_user(b"Basic YWxhZGRpbjpvcGVuc2VzYW1l").unwrap(), b"aladdin");
        assert_eq!(basic_user(b"Bearer YWxhZGRpbjpvcGVuc2VzYW1l"), None);
        assert_eq!(basic_user(b"Basic !"), None);
    }
}
