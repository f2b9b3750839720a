//! The spool files of a worker, all together: how much they hold and may hold, how many there may be, and how they go; and the memory
//! that bodies may have instead.
//!
//! To delete a large file takes long, half a second for 2.7 GB. Nobody who drops one waits for that: it is left to the loop, which
//! shortens it piece by piece, one piece in a turn.

use std::{
    fmt,
    fs::File,
    io,
    os::unix::fs::FileExt,
    path::{Path, PathBuf},
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicU64, AtomicUsize, Ordering::Relaxed},
    },
    time::Instant,
};

use nix::{
    errno::Errno,
    fcntl::{OFlag, open},
    sys::{
        resource::{Resource, getrlimit},
        stat::Mode,
        statvfs::statvfs,
    },
};
use slog::{Logger, warn};

use super::budget::Budget;
use crate::event_loop::log_limits::Rarely;

/// As much of a file is deleted at once. A multiple of every page's size: of a page that loses its end the kernel clears that end,
/// and it may still be on its way to a client (see spool.rs).
const PIECE: u64 = 1 << 20;
/// The budget for bodies of responses.
const MOST_KEPT: u64 = 64 << 20;
/// The budget for bodies of requests: as many of the largest that `--body-memory` allows.
const BODIES: u64 = 32;

/// What all spool files of a worker share.
#[derive(Debug)]
pub(crate) struct Store {
    directory: PathBuf,
    /// `--spool-limit` in bytes; `u64::MAX` for none.
    limit: u64,
    /// Descriptors for connections, spool files and files that are being sent.
    pub descriptors: usize,
    /// How many of them connections have.
    pub connections: AtomicUsize,
    files: AtomicUsize,
    held: AtomicU64,
    /// For bodies that are kept where the application has made them; or one, however long: it was in memory anyway.
    pub answers: Arc<Budget>,
    /// For bodies of requests that are in memory.
    pub bodies: Arc<Budget>,
    /// Files that nobody needs any more, and their sizes.
    rubbish: Mutex<Vec<(File, u64)>>,
    rubbish_files: AtomicUsize,
    complained: Rarely,
}

/// Why there is no room for more bytes.
#[derive(Debug)]
pub(crate) enum Shortage {
    /// They would not fit `--spool-limit` if they were alone.
    TooLarge,
    /// Others fill `--spool-limit`.
    Full,
    /// As many bytes wait for one client as may.
    Client,
    /// There is no descriptor for another file.
    Descriptors,
    /// The file system is full, or the user's share of it.
    Disk(Errno),
    /// The file cannot be made or written.
    Failed(io::Error),
}

impl Store {
    pub fn new(directory: &Path, limit: u64, body_memory: u64) -> io::Result<Store> {
        let (open_files, _) = getrlimit(Resource::RLIMIT_NOFILE)?;
        let descriptors = ostler_wire::limits::for_clients(open_files);
        Ok(Store {
            directory: directory.into(),
            limit: if limit == 0 { u64::MAX } else { limit },
            descriptors: usize::try_from(descriptors).unwrap_or(usize::MAX),
            connections: AtomicUsize::new(0),
            files: AtomicUsize::new(0),
            held: AtomicU64::new(0),
            answers: Budget::new(MOST_KEPT),
            bodies: Budget::new(BODIES.saturating_mul(body_memory)),
            rubbish: Mutex::default(),
            rubbish_files: AtomicUsize::new(0),
            complained: Rarely::default(),
        })
    }

    /// How many descriptors are left for files, or for connections.
    pub fn descriptors_left(&self) -> usize {
        self.descriptors.saturating_sub(self.connections.load(Relaxed) + self.files.load(Relaxed))
    }

    /// How many files there are.
    pub fn files(&self) -> usize {
        self.files.load(Relaxed)
    }

    /// Makes a file without a name; it is gone when its last descriptor closes.
    pub fn make(self: &Arc<Store>) -> Result<SpoolFile, Shortage> {
        if self.descriptors_left() == 0 {
            return Err(Shortage::Descriptors);
        }
        let flags = OFlag::O_TMPFILE | OFlag::O_RDWR | OFlag::O_CLOEXEC;
        match open(&self.directory, flags, Mode::S_IRUSR | Mode::S_IWUSR) {
            Ok(descriptor) => Ok(SpoolFile {
                file: Some(File::from(descriptor)),
                size: 0,
                permit: DescriptorPermit::new(self.clone()),
            }),
            Err(Errno::EMFILE | Errno::ENFILE) => Err(Shortage::Descriptors),
            Err(error) => Err(self.failure(error.into(), "make")),
        }
    }

    fn failure(&self, error: io::Error, verb: &str) -> Shortage {
        match error.raw_os_error().map(Errno::from_raw) {
            Some(errno @ (Errno::ENOSPC | Errno::EDQUOT)) => Shortage::Disk(errno),
            _ => {
                let text = format!("could not {verb} a spool file in {}: {error}", self.directory.display());
                Shortage::Failed(io::Error::new(error.kind(), text))
            }
        }
    }

    fn reserve(&self, bytes: u64) -> Result<(), Shortage> {
        let more = |held: u64| held.checked_add(bytes).filter(|held| *held <= self.limit);
        self.held.fetch_update(Relaxed, Relaxed, more).map(drop).map_err(|_| Shortage::Full)
    }

    fn release(&self, bytes: u64) {
        self.held.fetch_sub(bytes, Relaxed);
    }

    fn rubbish(&self) -> MutexGuard<'_, Vec<(File, u64)>> {
        // A panic while it was held has left a file out at most.
        self.rubbish.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Whether [`Store::clear_away`] has something to do.
    pub fn has_rubbish(&self) -> bool {
        self.rubbish_files.load(Relaxed) > 0
    }

    /// Deletes one piece of what nobody needs any more.
    pub fn clear_away(&self) {
        let mut rubbish = self.rubbish();
        let Some((file, size)) = rubbish.last_mut() else { return };
        let left = size.saturating_sub(1) / PIECE * PIECE;
        self.release(*size - left);
        *size = left;
        if left == 0 || file.set_len(left).is_err() {
            self.release(left);
            rubbish.pop();
            self.rubbish_files.store(rubbish.len(), Relaxed);
        }
    }

    /// Says, once in a while, that there is no room, and which limit is to be raised.
    pub fn complain(&self, log: &Logger, shortage: &Shortage, request: &str) {
        if !self.complained.is_due(Instant::now()) {
            return;
        }
        let (limit, value) = match shortage {
            Shortage::TooLarge | Shortage::Full => ("--spool-limit", self.limit),
            Shortage::Client => ("bytes for one client", crate::response::outbox::LARGEST),
            Shortage::Descriptors => ("open files (ulimit -n)", self.open_files()),
            Shortage::Disk(_) | Shortage::Failed(_) => ("size of the file system", self.file_system_size()),
        };
        warn!(log, "no room to spool"; "why" => %shortage, "directory" => %self.directory.display(), "limit" => limit,
            "value" => value, "request" => request, "held" => self.held.load(Relaxed), "files" => self.files.load(Relaxed));
    }

    /// The limit that [`Store::descriptors`] comes from.
    pub fn open_files(&self) -> u64 {
        getrlimit(Resource::RLIMIT_NOFILE).map_or(0, |(open_files, _)| open_files)
    }

    fn file_system_size(&self) -> u64 {
        statvfs(&self.directory).map_or(0, |status| status.blocks() * status.fragment_size())
    }
}

impl fmt::Display for Shortage {
    fn fmt(&self, to: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Shortage::TooLarge => to.write_str("a body is larger than --spool-limit"),
            Shortage::Full => to.write_str("as many bytes as may be are spooled"),
            Shortage::Client => to.write_str("as many bytes as may be wait for one client"),
            Shortage::Descriptors => to.write_str("no descriptor for another file"),
            Shortage::Disk(errno) => to.write_str(errno.desc()),
            Shortage::Failed(error) => error.fmt(to),
        }
    }
}

/// One descriptor of those that [`Store::descriptors_left`] counts.
#[derive(Debug)]
pub(crate) struct DescriptorPermit(Arc<Store>);

impl DescriptorPermit {
    pub fn new(store: Arc<Store>) -> DescriptorPermit {
        store.files.fetch_add(1, Relaxed);
        DescriptorPermit(store)
    }
}

impl Drop for DescriptorPermit {
    fn drop(&mut self) {
        self.0.files.fetch_sub(1, Relaxed);
    }
}

/// A file without a name. Reading begins at its beginning; writing says where.
#[derive(Debug)]
pub struct SpoolFile {
    /// None only while it is dropped.
    file: Option<File>,
    size: u64,
    permit: DescriptorPermit,
}

impl SpoolFile {
    pub(crate) fn file(&self) -> &File {
        self.file.as_ref().expect("taken out by drop alone")
    }

    /// Writes all of it or reports why not; then what stands there does not count.
    pub(crate) fn write(&mut self, bytes: &[u8], at: u64) -> Result<(), Shortage> {
        let store = &self.permit.0;
        let end = at + bytes.len() as u64;
        let more = end.saturating_sub(self.size);
        if end > store.limit {
            return Err(Shortage::TooLarge);
        }
        store.reserve(more)?;
        // What was written before an error stays in the file, so it stays counted.
        self.size += more;
        self.file().write_all_at(bytes, at).map_err(|error| self.permit.0.failure(error, "write"))
    }
}

impl io::Read for SpoolFile {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        self.file().read(into)
    }
}

impl Drop for SpoolFile {
    fn drop(&mut self) {
        let store = &self.permit.0;
        let Some(file) = self.file.take() else { return };
        if self.size <= PIECE {
            return store.release(self.size);
        }
        let mut rubbish = store.rubbish();
        rubbish.push((file, self.size));
        store.rubbish_files.store(rubbish.len(), Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn store(limit: u64) -> Arc<Store> {
        Arc::new(Store::new(&std::env::temp_dir(), limit, 0).unwrap())
    }

    #[test]
    fn all_files_together_hold_no_more_than_the_limit() {
        let store = store(10);
        let (mut one, mut other) = (store.make().unwrap(), store.make().unwrap());
        one.write(b"123456", 0).unwrap();
        one.write(b"654321", 0).unwrap();
        assert!(matches!(other.write(b"12345", 0), Err(Shortage::Full)));
        assert!(matches!(other.write(&[0; 11], 0), Err(Shortage::TooLarge)));
        other.write(b"1234", 0).unwrap();
        drop(one);
        other.write(b"12345", 4).unwrap();
        drop(other);
        assert_eq!((store.held.load(Relaxed), store.files.load(Relaxed)), (0, 0));
    }

    #[test]
    fn a_large_file_goes_in_pieces() {
        let store = store(0);
        let mut file = store.make().unwrap();
        file.write(&[1], 5 * PIECE / 2).unwrap();
        drop(file);
        let pieces = (0..10).take_while(|_| store.has_rubbish()).map(|_| store.clear_away()).count();
        assert_eq!((pieces, store.held.load(Relaxed)), (3, 0));
    }

    #[test]
    fn descriptors_are_counted() {
        let store = store(0);
        let before = store.descriptors_left();
        let file = store.make().unwrap();
        assert_eq!(store.descriptors_left(), before - 1);
        store.connections.store(store.descriptors, Relaxed);
        assert!(matches!(store.make(), Err(Shortage::Descriptors)));
        drop(file);
    }
}
