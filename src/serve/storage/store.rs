//! The limits of a worker's spool files (bytes and descriptors), their deletion, and the budgets for bodies in memory.
//!
//! Deleting a large file takes long: half a second for 2.7 GB. So a large file that is dropped is left to the loop, which
//! shortens it by one piece in each turn.

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
use ostler_wire::standard;
use slog::{Logger, warn};

use super::{budget::Budget, outbox::LARGEST};
use crate::{log_limits::Rarely, moment::Moment};

/// How much of a file is deleted at once. A multiple of every page size: where a file ends within a page, the kernel clears the rest
/// of that page, from which it may still be sending (see spool.rs).
const PIECE: u64 = 1 << 20;
/// The budget for bodies of responses.
const MOST_KEPT: u64 = 64 << 20;
/// The budget for bodies of requests, as a multiple of `--body-memory`.
const BODIES: u64 = 32;

/// What all spool files of a worker share.
#[derive(Debug)]
pub(crate) struct Store {
    directory: PathBuf,
    /// `--spool-limit` in bytes; `u64::MAX` for none.
    limit: u64,
    /// Descriptors for connections, spool files and files that are being sent.
    pub descriptors: usize,
    /// How many of them connections use.
    pub connections: AtomicUsize,
    files: AtomicUsize,
    held: AtomicU64,
    /// For bodies of responses that stay in the application's memory. A single one may be longer: it is in memory anyway.
    pub answers: Arc<Budget>,
    /// For bodies of requests that are in memory.
    pub bodies: Arc<Budget>,
    /// Files that nobody needs any more, and their sizes.
    to_delete: Mutex<Vec<(File, u64)>>,
    to_delete_count: AtomicUsize,
    complained: Rarely,
}

/// Why there is no room for more bytes.
#[derive(Debug)]
pub(crate) enum Shortage {
    /// They would not fit `--spool-limit` even alone.
    TooLarge,
    /// Others fill `--spool-limit`.
    Full,
    /// The most bytes that may wait for one client are waiting.
    Client,
    /// There is no descriptor for another file.
    Descriptors,
    /// The file system or the user's quota is full.
    Disk(Errno),
    /// The file could not be made or written.
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
            to_delete: Mutex::default(),
            to_delete_count: AtomicUsize::new(0),
            complained: Rarely::default(),
        })
    }

    /// How many descriptors are left for files, or for connections.
    pub fn descriptors_left(&self) -> usize {
        self.descriptors.saturating_sub(self.connections.load(Relaxed) + self.files.load(Relaxed))
    }

    /// How many bytes the files hold.
    pub fn held(&self) -> u64 {
        self.held.load(Relaxed)
    }

    /// How many files there are.
    pub fn files(&self) -> usize {
        self.files.load(Relaxed)
    }

    /// Makes an unnamed file (O_TMPFILE), which is deleted when its last descriptor closes.
    pub fn make(self: &Arc<Store>) -> Result<SpoolFile, Shortage> {
        if self.descriptors_left() == 0 {
            return Err(Shortage::Descriptors);
        }
        let flags = OFlag::O_TMPFILE | OFlag::O_RDWR | OFlag::O_CLOEXEC;
        let made = open(&self.directory, flags, Mode::S_IRUSR | Mode::S_IWUSR);
        match made.map_err(io::Error::from).and_then(standard::vacate) {
            Ok(descriptor) => Ok(SpoolFile {
                file: Some(File::from(descriptor)),
                size: 0,
                permit: DescriptorPermit::new(self.clone()),
            }),
            Err(error) => Err(self.failure(error, "make")),
        }
    }

    fn failure(&self, error: io::Error, verb: &str) -> Shortage {
        match error.raw_os_error().map(Errno::from_raw) {
            Some(Errno::EMFILE | Errno::ENFILE) => Shortage::Descriptors,
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

    fn to_delete(&self) -> MutexGuard<'_, Vec<(File, u64)>> {
        // A panic while it was locked has lost the count of one file at most.
        self.to_delete.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Whether [`Store::delete_piece`] has something to do.
    pub fn has_files_to_delete(&self) -> bool {
        self.to_delete_count.load(Relaxed) > 0
    }

    /// Deletes one piece of a file that is not needed any more.
    pub fn delete_piece(&self) {
        let mut to_delete = self.to_delete();
        let Some((file, size)) = to_delete.last_mut() else { return };
        let left = size.saturating_sub(1) / PIECE * PIECE;
        self.release(*size - left);
        *size = left;
        if left == 0 || file.set_len(left).is_err() {
            self.release(left);
            to_delete.pop();
            self.to_delete_count.store(to_delete.len(), Relaxed);
        }
    }

    /// Logs, at most once a minute, that there is no room, and which limit to raise.
    pub fn complain(&self, log: &Logger, shortage: &Shortage, request: &str) {
        if !self.complained.is_due(Moment::now()) {
            return;
        }
        let (limit, value) = match shortage {
            Shortage::TooLarge | Shortage::Full => ("--spool-limit", self.limit),
            Shortage::Client => ("bytes for one client", LARGEST),
            Shortage::Descriptors => ("open files (ulimit -n)", self.open_files()),
            Shortage::Disk(_) | Shortage::Failed(_) => ("size of the file system", self.file_system_size()),
        };
        warn!(log, "no room to spool"; "reason" => %shortage, "directory" => %self.directory.display(), "limit" => limit,
            "value" => value, "request" => request, "held" => self.held.load(Relaxed), "files" => self.files.load(Relaxed));
    }

    /// The limit on open files, from which [`Store::descriptors`] is derived.
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

/// Counts one descriptor in [`Store::descriptors_left`] until it is dropped.
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

/// An unnamed file. Reading begins at its start; each write names its offset.
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

    /// Writes all bytes, or reports why not; after an error the file's content there is undefined.
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
        let mut to_delete = store.to_delete();
        to_delete.push((file, self.size));
        store.to_delete_count.store(to_delete.len(), Relaxed);
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
        let pieces = (0..10).take_while(|_| store.has_files_to_delete()).map(|_| store.delete_piece()).count();
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
