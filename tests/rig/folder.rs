//! A private folder that lives as long as its test.

use std::{
    fs::{self, File},
    io::ErrorKind,
    os::{fd::AsFd, unix::fs::FileTypeExt},
    path::{Path, PathBuf},
    sync::atomic::{AtomicU32, AtomicU64, Ordering},
    time::{Duration, SystemTime},
};

use nix::{
    poll::{PollFd, PollFlags, PollTimeout, poll},
    sys::inotify::{AddWatchFlags, InitFlags, Inotify},
};

use crate::PATIENCE;

/// A new folder under the system's temporary one; removed with all that it holds.
#[derive(Debug)]
pub struct Folder(PathBuf);

impl Folder {
    /// Makes it.
    #[allow(clippy::new_without_default, reason = "a default value that touches the disk would surprise")]
    pub fn new() -> Self {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        loop {
            let number = COUNT.fetch_add(1, Ordering::Relaxed);
            // Short, because the path of a Unix socket in it has room for 107 bytes.
            let path = std::env::temp_dir().join(format!("ostler-{}-{number}", std::process::id()));
            match fs::create_dir(&path) {
                Ok(()) => return Folder(path),
                // Left by an earlier process of the same number that was killed.
                Err(error) if error.kind() == ErrorKind::AlreadyExists => {}
                Err(error) => panic!("could not make {}: {error}", path.display()),
            }
        }
    }

    /// Where it is.
    pub fn path(&self) -> &Path {
        &self.0
    }

    /// The path of something in it.
    pub fn join(&self, name: &str) -> PathBuf {
        self.0.join(name)
    }

    /// Writes a file atomically: a reader sees the old content or the new. Each file's time is a second later than the last one's,
    /// because CPython compares seconds and size to see whether its cached bytecode is of this source.
    pub fn write(&self, name: &str, content: &str) -> PathBuf {
        let path = self.0.join(name);
        let draft = self.0.join(format!("{name}.draft"));
        fs::create_dir_all(path.parent().expect("a file is in a folder")).expect("a private folder is writable");
        fs::write(&draft, content).expect("a private folder is writable");
        static SECONDS: AtomicU64 = AtomicU64::new(1_000_000_000);
        let time = SystemTime::UNIX_EPOCH + Duration::from_secs(SECONDS.fetch_add(1, Ordering::Relaxed));
        File::options()
            .append(true)
            .open(&draft)
            .and_then(|file| file.set_modified(time))
            .expect("it was just written");
        fs::rename(&draft, &path).expect("a private folder is writable");
        path
    }

    /// Reads a file of it.
    pub fn read(&self, name: &str) -> String {
        let path = self.0.join(name);
        fs::read_to_string(&path).unwrap_or_else(|error| panic!("could not read {}: {error}", path.display()))
    }

    /// Waits until there is a file of this name.
    pub fn wait_for(&self, name: &str) {
        let watch = Inotify::init(InitFlags::IN_CLOEXEC | InitFlags::IN_NONBLOCK).expect("the system has inotify");
        let created = AddWatchFlags::IN_CREATE | AddWatchFlags::IN_MOVED_TO;
        watch.add_watch(&self.0, created).expect("a private folder can be watched");
        while !self.join(name).exists() {
            let mut descriptors = [PollFd::new(watch.as_fd(), PollFlags::POLLIN)];
            let patience = PollTimeout::try_from(PATIENCE).expect("the bounds of tests are short");
            assert_eq!(poll(&mut descriptors, patience), Ok(1), "there is no {name}");
            watch.read_events().expect("poll(2) has just said that there are some");
        }
    }

    /// The sockets and pid files in it, which no daemon may leave behind.
    pub fn leavings(&self) -> Vec<PathBuf> {
        let entries = fs::read_dir(&self.0).expect("a private folder is readable").flatten();
        entries
            .filter(|entry| {
                let socket = entry.file_type().is_ok_and(|kind| kind.is_socket());
                socket || entry.path().extension().is_some_and(|extension| extension == "pid")
            })
            .map(|entry| entry.path())
            .collect()
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}
