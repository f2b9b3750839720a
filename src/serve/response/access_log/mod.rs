//! The access log: one line for each request, written in batches. The loop never waits for it.

mod atoms;
mod batch;
mod json;
mod line;

use std::{
    os::fd::{AsFd, OwnedFd},
    sync::Arc,
    time::Duration,
};

use nix::errno::Errno;
use ostler_wire::{
    access_format::AccessFilter,
    log::{
        syslog::{Outcome, Sender},
        terminal,
    },
    meters::grow,
    sink::{self, FileKind},
};
use slog::{Level, Logger, info, warn};

use self::{
    batch::Batch,
    line::{Finished, Lines},
};
use super::Outgoing;
use crate::{
    moment::Moment,
    request::incoming::{Arrival, Incoming},
    shared::Shared,
};

/// A batch is written when it is this long, or at the end of a turn.
const BATCH: usize = 32 * 1024;
/// A turn with so many lines will be followed by others: a longer batch costs less by the line.
const BUSY: u32 = 4;
/// How long a line may wait for others.
const MOST_DELAY: Duration = Duration::from_millis(1);
/// How many bytes wait for a slow reader, or for a full disk. Lines beyond that are lost, and counted.
const MOST_WAITING: usize = 256 * 1024;
/// The time between two attempts to write, while there is nothing else to do.
const BETWEEN_TRIES: Duration = Duration::from_millis(200);

/// Writes the lines.
pub(crate) struct AccessLog {
    shared: Arc<Shared>,
    filter: AccessFilter,
    lines: Lines,
    file: Option<OwnedFd>,
    /// Has each line, too.
    syslog: Option<Sender>,
    /// How much of a line stands there for the journal.
    level: usize,
    kind: FileKind,
    batch: Batch,
    /// How many lines this turn has made.
    lines_of_turn: u32,
    /// When a batch that waits for more lines is written, however many they are.
    batch_until: Option<Moment>,
    /// The file ends with half a line, and the batch does not begin with its other half.
    torn: bool,
    /// The error log, which tells when lines cannot be written, and when they can be again.
    log: Logger,
    /// Something waits to be written.
    failing: bool,
    said: bool,
    /// How many lines were lost.
    lost: u64,
    /// For each Python thread, what is needed of its request, which may have to be answered and recorded while its call still owns it.
    kept: Vec<Kept>,
}

/// What is kept of a request during its call.
#[derive(Debug, Clone, Default)]
pub(crate) struct Kept {
    pub head: Vec<u8>,
    pub id: String,
    /// How it came and since when it waited for its call, if there is a log.
    pub arrival: Option<(Arrival, Moment)>,
}

/// What a line tells of a request's times.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Times {
    /// Of the second in which it ended.
    pub millisecond: u32,
    /// How long it waited for its call, if there was one.
    pub queue: Option<Duration>,
    /// How long that took.
    pub call: Option<Duration>,
    /// From the call's beginning to the end of the response.
    pub response: Duration,
    /// From the first byte to the same end.
    pub total: Duration,
}

impl AccessLog {
    pub fn new(
        shared: &Arc<Shared>,
        file: Option<OwnedFd>,
        syslog: Option<Sender>,
        since_1970: Duration,
        log: Logger,
    ) -> AccessLog {
        let settings = &shared.boot.worker;
        let mut log = AccessLog {
            shared: shared.clone(),
            filter: settings.access_log_filter.clone(),
            lines: Lines::new(shared),
            file: None,
            syslog,
            level: 0,
            kind: FileKind::Device,
            batch: Batch::default(),
            lines_of_turn: 0,
            batch_until: None,
            torn: false,
            log,
            failing: false,
            said: false,
            lost: 0,
            kept: vec![Kept::default(); settings.threads.into()],
        };
        log.reopen(file);
        log.update_time(since_1970);
        log
    }

    /// Continues in another file.
    pub fn reopen(&mut self, file: Option<OwnedFd>) {
        self.flush();
        self.kind = file.as_ref().map_or(FileKind::Device, |file| FileKind::of(file.as_fd()));
        let on_terminal = file.as_ref().is_some_and(|file| terminal::is_coloured(file.as_fd()));
        let coloured = on_terminal && self.syslog.is_none();
        let to_journal = file.as_ref().is_some_and(|file| ostler_wire::log::leads_to_journal(file.as_fd()));
        self.level = if to_journal { "<6>".len() } else { 0 };
        self.lines.suit(coloured, to_journal);
        self.file = file;
    }

    pub fn is_on(&self) -> bool {
        self.file.is_some() || self.syslog.is_some()
    }

    /// A new second has begun.
    pub fn update_time(&mut self, since_1970: Duration) {
        if self.is_on() {
            self.lines.update_time(since_1970);
        }
    }

    /// Keeps what is needed of the request that a Python thread begins to answer.
    pub fn keep(&mut self, thread: u16, incoming: &Incoming, ready: Moment) {
        let is_on = self.is_on();
        let kept = &mut self.kept[usize::from(thread)];
        kept.head.clear();
        kept.head.extend_from_slice(&incoming.bytes[..incoming.head.length]);
        if incoming.id().is_some() {
            kept.id.clone_from(&incoming.id);
        }
        if is_on {
            kept.arrival = Some((incoming.arrival, ready));
        }
    }

    /// What was kept.
    pub fn take_kept(&mut self, thread: u16) -> Kept {
        std::mem::take(&mut self.kept[usize::from(thread)])
    }

    /// Appends the line of a request that is over.
    pub fn record(&mut self, incoming: &Incoming, outgoing: &Outgoing, times: &Times) {
        if !self.filter.admits(incoming.head.path.of(&incoming.bytes), outgoing.status, times.total) {
            return;
        }
        let line_start = self.batch.len();
        self.lines.write(&mut self.batch, Finished { incoming, outgoing, times });
        self.lines_of_turn += 1;
        if self.syslog.is_some() {
            self.send(line_start);
        }
        if self.batch.len() >= BATCH {
            self.make_room(line_start);
        }
    }

    /// Sends the last line. What a syslog does not take is lost.
    fn send(&mut self, line_start: usize) {
        let Some(syslog) = &self.syslog else { return };
        let line = String::from_utf8_lossy(self.batch.bytes()[line_start + self.level..].trim_ascii_end());
        match syslog.send(Level::Info, &ostler_wire::log::now(), &line) {
            Outcome::Lost(Some(why)) => {
                self.count_lost(1);
                warn!(self.log, "access log not written"; "reason" => why, "address" => %syslog.to());
            }
            Outcome::SentAgain(lost) => info!(self.log, "access log written again"; "lost" => lost),
            Outcome::Lost(None) => self.count_lost(1),
            Outcome::Sent => {}
        }
        if self.file.is_none() {
            self.batch.truncate(line_start);
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
            self.count_lost(1);
        }
    }

    /// The turn is over, and the worker may sleep. Writes the batch, unless more will follow at once.
    #[inline]
    pub fn end_turn(&mut self, now: Moment) {
        let is_busy = std::mem::take(&mut self.lines_of_turn) >= BUSY && !self.failing;
        if is_busy && now < *self.batch_until.get_or_insert(now + MOST_DELAY) {
            return;
        }
        self.flush();
    }

    /// Writes as much of the batch as can be written without waiting.
    pub fn flush(&mut self) {
        self.batch_until = None;
        let Some(file) = &self.file else { return };
        if self.batch.len() == 0 {
            return;
        }
        let (mut written, mut error) = (0, None);
        if self.torn {
            error = sink::write(file.as_fd(), self.kind, b"\n").1;
            self.torn = error.is_some();
        }
        if !self.torn {
            (written, error) = sink::write(file.as_fd(), self.kind, self.batch.bytes());
        }
        match error {
            None => self.all_written(),
            Some(error) => self.not_written(written, error),
        }
    }

    fn all_written(&mut self) {
        self.batch.truncate(0);
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
            FileKind::File => {
                self.batch.bytes()[..written].iter().rposition(|byte| *byte == b'\n').map_or(0, |at| at + 1)
            }
            FileKind::Pipe | FileKind::Socket | FileKind::Device => written,
        };
        self.torn |= whole < written;
        self.batch.remove_first(whole);
        self.failing = true;
        if (error != Errno::EAGAIN || self.lost > 0) && !std::mem::replace(&mut self.said, true) {
            let reason = if error == Errno::EAGAIN { "its reader does not read" } else { error.desc() };
            warn!(self.log, "access log not written"; "reason" => reason);
        }
    }

    fn count_lost(&self, lines: u64) {
        if let Some(meters) = self.shared.meters() {
            grow(&meters.lines_lost[1], lines);
        }
    }

    /// When something that waits is written.
    pub fn due(&self, now: Moment) -> Option<Moment> {
        if self.failing { Some(now + BETWEEN_TRIES) } else { self.batch_until }
    }

    /// The last attempt. What cannot be written now is lost.
    pub fn close(&mut self) {
        self.flush();
        let waiting = self.batch.bytes().iter().filter(|byte| **byte == b'\n').count() as u64;
        self.count_lost(waiting);
        if self.lost + waiting > 0 {
            warn!(self.log, "access log lines lost"; "lines" => self.lost + waiting);
        }
        self.batch.truncate(0);
        self.lost = 0;
    }
}
