//! `--reload`: a worker's thread looks at the files of the modules that it has imported, and tells the master of a change. The master
//! reloads, as for HUP.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    hash::{DefaultHasher, Hash, Hasher},
    os::{fd::AsFd, unix::fs::MetadataExt},
    path::{Path, PathBuf},
    thread,
    time::Duration,
};

use nix::{
    poll::{PollFd, PollFlags, PollTimeout, poll},
    sys::inotify::{AddWatchFlags, InitFlags, Inotify},
};
use ostler_wire::{Boot, Channel, FileMark, FromWorker, SeenFile};
use pyo3::prelude::*;
use slog::{Logger, debug, warn};

use super::failing::Failed;
use crate::python::embedded::{Embedded, embedded};

const WATCHING: Embedded = embedded!("watching");

/// How often all files are looked at, and the modules counted: not every file system tells of changes.
const EACH: Duration = Duration::from_secs(1);
/// An editor or a checkout writes several files; they count as one change.
const SETTLES: Duration = Duration::from_millis(100);
/// Bytes of paths that a message of a failure carries.
const MOST_NAMES: usize = 16 * 1024;

/// Starts the thread, if the settings ask for it. `channel` is the worker's own, of which it holds a copy.
pub fn start(boot: &Boot, failed: Option<Py<Failed>>, channel: &Channel, log: &Logger) {
    let Some((reload, failed)) = boot.reload.clone().zip(failed) else { return };
    let log_of_thread = log.clone();
    let started = channel.as_fd().try_clone_to_owned().and_then(|channel| {
        let channel = Channel::from(channel);
        let watch = move || {
            let told = Watcher::new(reload.poll).watch(&reload.extra, failed.get(), &channel, &log_of_thread);
            debug!(log_of_thread, "files not watched any more"; "reason" => told.to_string());
        };
        thread::Builder::new().name("ostler-reload".into()).spawn(watch)
    });
    if let Err(error) = started {
        warn!(log, "files not watched"; "reason" => error.to_string());
    }
}

struct Watcher {
    /// None where files are only looked at.
    inotify: Option<Inotify>,
    directories: Vec<PathBuf>,
    marks: BTreeMap<PathBuf, Option<FileMark>>,
}

impl Watcher {
    fn new(only_look: bool) -> Watcher {
        let inotify = || Inotify::init(InitFlags::IN_NONBLOCK | InitFlags::IN_CLOEXEC).ok();
        Watcher { inotify: if only_look { None } else { inotify() }, directories: Vec::new(), marks: BTreeMap::new() }
    }

    /// Ends with the channel.
    fn watch(&mut self, extra: &[String], failed: &Failed, channel: &Channel, log: &Logger) -> std::io::Error {
        let mut changed = self.look_at_all(extra, failed);
        debug!(log, "files looked at"; "files" => self.marks.len());
        loop {
            if let Some(path) = changed {
                let stamp = hash(&self.marks[&path]);
                if let Err(error) = channel.send_now(&FromWorker::Changed { path, stamp }) {
                    return error;
                }
            }
            self.wait();
            changed = self.look_at_all(extra, failed);
        }
    }

    /// What failed or was imported may have been changed since it was read. A module whose file is gone may have been made for once.
    fn look_at_all(&mut self, extra: &[String], failed: &Failed) -> Option<PathBuf> {
        let imported = imported().into_iter().filter(|(path, _)| path.exists());
        let imported = imported.map(|(path, mark)| SeenFile { path, mark: Some(mark) });
        for SeenFile { path, mark } in imported.chain(failed.files()) {
            self.marks.entry(path).or_insert(mark);
        }
        let known = self.marks.keys().cloned();
        let files = files(extra).into_iter().chain(known).collect();
        self.look(files)
    }

    /// Looks at each file; one that has changed since it was looked at, if any has.
    fn look(&mut self, files: BTreeSet<PathBuf>) -> Option<PathBuf> {
        let mut changed = None;
        for file in files {
            let mark = mark(&file);
            self.watch_directory(&file);
            let before = self.marks.insert(file.clone(), mark);
            if before.is_some_and(|before| before != mark) {
                changed = Some(file);
            }
        }
        changed
    }

    fn watch_directory(&mut self, file: &std::path::Path) {
        let (Some(inotify), Some(directory)) = (&self.inotify, file.parent()) else { return };
        if !self.directories.iter().any(|known| known == directory) {
            let events = AddWatchFlags::IN_CLOSE_WRITE
                | AddWatchFlags::IN_MOVED_TO
                | AddWatchFlags::IN_CREATE
                | AddWatchFlags::IN_DELETE;
            // Where this fails, the files are still looked at each second.
            let _ = inotify.add_watch(directory, events);
            self.directories.push(directory.into());
        }
    }

    /// Until something has changed and has come to rest, or it is time to look.
    fn wait(&mut self) {
        let Some(inotify) = &self.inotify else { return thread::sleep(EACH) };
        let mut within = EACH;
        loop {
            let mut polled = [PollFd::new(inotify.as_fd(), PollFlags::POLLIN)];
            match poll(&mut polled, PollTimeout::try_from(within).expect("less than a day")) {
                Ok(count) if count > 0 => drop(inotify.read_events()),
                _ => return,
            }
            within = SETTLES;
        }
    }
}

/// As it is now; none if it is not there.
fn mark(path: &Path) -> Option<FileMark> {
    let metadata = fs::metadata(path).ok()?;
    if !metadata.is_dir() {
        return Some((metadata.mtime(), metadata.mtime_nsec(), metadata.ino(), metadata.len()));
    }
    let names = fs::read_dir(path).ok()?.filter_map(|entry| entry.ok()?.file_name().into_string().ok());
    let may_be_imported = |name: &String| name.ends_with(".py") || !name.contains('.') && !name.starts_with('_');
    let names: BTreeSet<String> = names.filter(may_be_imported).collect();
    Some((hash(&names), 0, 0, 0))
}

fn hash(value: &impl Hash) -> i64 {
    let mut hasher = DefaultHasher::new();
    value.hash(&mut hasher);
    hasher.finish() as i64
}

/// From now on, what is imported is noted as it is then, in this process and those that it forks.
pub fn note_imports(py: Python<'_>) -> PyResult<()> {
    WATCHING.import(py)?.call_method0("note_imports").map(drop)
}

/// The files that were imported since this was asked last, as they were then.
fn imported() -> Vec<(PathBuf, FileMark)> {
    Python::attach(|py| WATCHING.import(py)?.call_method0("take_imported")?.extract()).unwrap_or_default()
}

/// What a change may mend a failed import in.
pub fn touched(py: Python<'_>, error: &PyErr) -> Vec<SeenFile> {
    let named = || WATCHING.import(py)?.call_method1("touched", (error.value(py),))?.extract::<Vec<String>>();
    let mut room = MOST_NAMES;
    let fits = |path: &String| {
        room = room.saturating_sub(path.len());
        room > 0
    };
    let paths = named().unwrap_or_default().into_iter().take_while(fits);
    paths.map(|path| SeenFile { mark: mark(Path::new(&path)), path: path.into() }).collect()
}

/// The files of all modules, and those that the settings name.
fn files(extra: &[String]) -> Vec<PathBuf> {
    Python::attach(|py| WATCHING.import(py)?.call_method1("files", (extra,))?.extract()).unwrap_or_default()
}
