//! The key keeper, as the master has it: a child that reads the certificates and their keys, says what they are, and signs for the workers.

use std::{
    fs::File,
    io::{self, Read},
    os::{
        fd::{AsFd, BorrowedFd, OwnedFd},
        unix::fs::MetadataExt,
    },
    path::Path,
    time::{Duration, SystemTime},
};

use nix::{errno::Errno, fcntl::OFlag};
use ostler_tls::{
    certificates::{self, Content, Files},
    keeper::{self, Kept, Report, ToKeeper},
};
use ostler_wire::{Channel, Tls, title::Title};
use serde::{Deserialize, Serialize};
use zeroize::Zeroizing;

use super::{
    line::{Heard, Line},
    watched_files::WatchedFiles,
};
use crate::{
    exit::words,
    settings::{Settings, TlsSettings},
    sys::{clock::Moment, custody, diag, identity::Identity, names::Place, pidfd::PidFd},
};

/// How long it may take to read and check the files.
const READING: Duration = Duration::from_secs(20);
/// How often it is asked whether it lives, while the site is at work, and how long it may take to say so.
const BETWEEN_LOOKS: Duration = Duration::from_secs(1);
const ANSWERS: Duration = Duration::from_secs(3);
/// A file of certificates or keys is smaller.
const LARGEST: u64 = 1 << 20;

/// What a keeper is for, and as whom it lives.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Order {
    /// With the files that it reads.
    pub tls: TlsSettings,
    identity: Option<Identity>,
    name: String,
}

/// A keeper.
#[derive(Debug)]
pub struct Keeper {
    /// Its process.
    pub pid: i32,
    held: PidFd,
    line: Line,
    /// What it was started for.
    pub order: Order,
    /// What it has read, once it has.
    pub kept: Option<Kept>,
    /// When it has to have done so, or to have said that it lives.
    pub deadline: Moment,
    /// When it is to be asked whether it does.
    next: Moment,
    /// Whether its files have changed since; none where that cannot be known.
    pub files: Option<WatchedFiles>,
}

/// What a keeper's line brought.
pub enum Word {
    /// Nothing.
    Nothing,
    /// It has read and checked the files, and signs.
    Keeps,
    /// The files are not as they should be: a sentence.
    Refused(String),
    /// It is gone, or going, without a word.
    End,
}

impl Order {
    /// That of settings with a certificate.
    pub fn of(settings: &Settings) -> Option<Order> {
        let (identity, name) = (settings.identity.clone(), settings.boot.process_name.clone());
        settings.tls.clone().map(|tls| Order { tls, identity, name })
    }
}

impl Keeper {
    /// Starts one, which then reads the files.
    pub fn begin(order: Order) -> io::Result<Keeper> {
        let (line, theirs) = Line::pair()?;
        let files = WatchedFiles::new();
        let lent: Vec<BorrowedFd> = files.iter().map(AsFd::as_fd).collect();
        let (pid, held) = custody::begin(OwnedFd::from(theirs), &lent, |channel| work(channel.into(), &order, &files))?;
        let now = Moment::now();
        Ok(Keeper { pid, held, line, order, kept: None, deadline: now + READING, next: now, files: files.ok() })
    }

    /// One that another executable has started in this process: the hold on its process and its line, what it has read, and what is watched.
    pub fn reclaimed(
        pid: i32,
        [held, line]: [OwnedFd; 2],
        order: Order,
        kept: Kept,
        mut files: Option<WatchedFiles>,
    ) -> io::Result<Keeper> {
        if let (Ok(names), Some(files)) = (&kept.watched, &mut files) {
            files.know(names);
        }
        let line = Line::from(Channel::from(line));
        Ok(Keeper {
            pid,
            held: PidFd::kept(held)?,
            line,
            order,
            kept: Some(kept),
            deadline: Moment(u64::MAX),
            next: Moment::now(),
            files,
        })
    }

    /// The next thing that it says.
    pub fn hear(&mut self) -> Word {
        self.line.flush();
        match self.line.hear::<Report>() {
            Heard::Nothing => Word::Nothing,
            Heard::Message(Report::Keeps(kept)) => {
                if let (Ok(names), Some(files)) = (&kept.watched, &mut self.files) {
                    files.know(names);
                }
                (self.kept, self.deadline) = (Some(kept), Moment(u64::MAX));
                Word::Keeps
            }
            Heard::Message(Report::Lives) => {
                self.deadline = Moment(u64::MAX);
                Word::Nothing
            }
            Heard::Message(Report::Refused(why)) => Word::Refused(why),
            Heard::End | Heard::Nonsense(_) => Word::End,
        }
    }

    /// What workers are told, once it has read the files.
    pub fn told(&self) -> Option<Tls> {
        self.kept.as_ref().map(|kept| self.order.tls.with(kept))
    }

    /// A worker's way to it: the worker's end.
    pub fn introduce(&mut self) -> io::Result<OwnedFd> {
        let (ours, theirs) = keeper::pair()?;
        self.line.send(&ToKeeper, &[ours.as_fd()])?;
        Ok(theirs.into())
    }

    /// Asks whether it lives, from time to time: it may have been stopped by a signal.
    pub fn look(&mut self, now: Moment) {
        if self.kept.is_some() && self.deadline == Moment(u64::MAX) && self.next <= now {
            (self.next, self.deadline) = (now + BETWEEN_LOOKS, now + ANSWERS);
            // What comes of a line that is closed is told by its end.
            let _ = self.line.send(&ToKeeper, &[]);
        }
    }

    /// Closes its line, which tells it to end.
    pub fn leave(self) -> (i32, PidFd) {
        (self.pid, self.held)
    }

    /// Ends it at once.
    pub fn kill(&self) {
        let _ = self.held.kill();
    }

    /// The master's end of its line.
    pub fn line(&self) -> &Line {
        &self.line
    }

    /// A hold on its process.
    pub fn held(&self) -> &PidFd {
        &self.held
    }
}

/// All that the child does.
fn work(channel: Channel, order: &Order, files: &nix::Result<WatchedFiles>) {
    if let Some(mut title) = Title::find() {
        let name = if order.name == "ostler" { String::new() } else { format!(" [{}]", order.name) };
        title.set((format!("ostler: key keeper{name}"), "ostler keys".into()));
    }
    // Before they are read, so that no change is missed.
    let watched = files.as_ref().map_err(|error| *error).and_then(|watched| watched.watch(&order.tls.files));
    files.iter().for_each(|files| custody::give_back(files.as_fd()));
    let (mut kept, keys) = match load(&order.tls.files) {
        Ok(loaded) => loaded,
        Err(why) => return drop(channel.send(&Report::Refused(why), &[])),
    };
    kept.watched = watched.map_err(|error| words(&error.into()));
    // Root may lock as much as it likes, and it stays locked.
    if let Err(error) = custody::lock_memory() {
        kept.unlocked = Some(words(&error));
    }
    kept.without_kernel = diag::makes_tls_records().err().map(|error| match error {
        Errno::ENOENT => "the kernel has no module tls".to_owned(),
        error => words(&error.into()),
    });
    if let Err(error) = custody::give_up_privileges(order.identity.as_ref()) {
        let why = format!("the key keeper could not give up its privileges: {}", words(&error));
        return drop(channel.send(&Report::Refused(why), &[]));
    }
    if let Err(error) = custody::confine() {
        kept.warnings.push(format!("the key keeper is not confined by seccomp: {}", words(&error)));
    }
    if channel.send(&Report::Keeps(kept), &[]).is_ok() {
        keeper::keep(channel, &keys);
    }
}

/// Reads and checks the files. Not to be called by a process that stays.
pub fn load(files: &Files) -> Result<(Kept, certificates::Keys), String> {
    certificates::load(files, &read, SystemTime::now())
}

/// Neither a pipe nor anything else that answers when it likes.
fn read(path: &Path) -> Result<Content, String> {
    let mut file = Place::of(path)?.open(OFlag::O_RDONLY | OFlag::O_NONBLOCK, 0)?;
    let found = File::metadata(&file).map_err(|error| words(&error))?;
    match found.len() {
        _ if !found.is_file() => return Err("it is no file".into()),
        LARGEST.. => return Err("it is too large for certificates".into()),
        _ => {}
    }
    // As large as it will be: what grows would leave a copy behind.
    let mut text = Zeroizing::new(Vec::with_capacity(LARGEST as usize + 1));
    file.by_ref().take(LARGEST).read_to_end(&mut text).map_err(|error| words(&error))?;
    Ok(Content { text, is_public: found.mode() & 0o004 != 0 })
}
