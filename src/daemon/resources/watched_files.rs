//! Files that others renew, and whether they have, as the kernel tells it (inotify(7)).
//!
//! The watches are put in place by the child that reads the files: to look at a path may take its time, and may need root's rights. Watched
//! are the directories, because tools for certificates put new files or links in the places of the old ones.

use std::{
    collections::BTreeSet,
    io,
    os::fd::{AsFd, BorrowedFd, RawFd},
    path::{Path, PathBuf},
    time::Duration,
};

use nix::sys::inotify::{AddWatchFlags, InitFlags, Inotify};
use ostler_tls::certificates::Files;

use crate::sys::{clock::Moment, descriptors};

/// A certificate and its key are two files: both are there after this time without another change.
const QUIET: Duration = Duration::from_secs(1);
/// As many links as the system follows in one path.
const MOST_LINKS: usize = 40;

/// Some files, and the links on the way to them.
#[derive(Debug)]
pub struct WatchedFiles {
    inotify: Inotify,
    /// What they are called, each in its directory.
    names: BTreeSet<String>,
    /// When what has changed is looked at.
    pub due: Option<Moment>,
}

impl WatchedFiles {
    /// Nothing is watched yet. Fails where the system has no room for watches.
    pub fn new() -> nix::Result<WatchedFiles> {
        let inotify = Inotify::init(InitFlags::IN_NONBLOCK | InitFlags::IN_CLOEXEC)?;
        Ok(WatchedFiles { inotify, names: BTreeSet::new(), due: None })
    }

    /// Those that another executable has watched in this process; what they are called is to be [known](WatchedFiles::know).
    pub fn reclaimed(number: RawFd) -> io::Result<WatchedFiles> {
        Ok(WatchedFiles { inotify: descriptors::reclaim_inotify(number)?, names: BTreeSet::new(), due: None })
    }

    /// Has the kernel watch the directories of these files, and of the links on the way; what they are called there.
    pub fn watch(&self, files: &Files) -> nix::Result<Vec<String>> {
        let events = AddWatchFlags::IN_CLOSE_WRITE
            | AddWatchFlags::IN_CREATE
            | AddWatchFlags::IN_MOVED_TO
            | AddWatchFlags::IN_ATTRIB
            | AddWatchFlags::IN_DELETE_SELF
            | AddWatchFlags::IN_MOVE_SELF
            | AddWatchFlags::IN_ONLYDIR;
        let mut names = Vec::new();
        let pairs = files.pairs.iter().flat_map(|pair| [&pair.certificate, &pair.key]);
        for (directory, name) in pairs.chain(&files.client_authorities).flat_map(|file| way(file)) {
            self.inotify.add_watch(&directory, events)?;
            names.push(name);
        }
        Ok(names)
    }

    /// What [`WatchedFiles::watch`] has found.
    pub fn know(&mut self, names: &[String]) {
        self.names = names.iter().cloned().collect();
    }

    /// Notes what the kernel tells.
    pub fn look(&mut self, now: Moment) {
        while let Ok(events) = self.inotify.read_events() {
            // One without a name is about a directory itself, or about more changes than there was room for.
            let is_about = |name: Option<&str>| name.is_none_or(|name| self.names.contains(name));
            let ours = events.iter().any(|event| {
                let gone = event.mask.contains(AddWatchFlags::IN_IGNORED);
                !gone && is_about(event.name.as_deref().and_then(|name| name.to_str()))
            });
            if ours {
                self.due = Some(now + QUIET);
            }
        }
    }
}

impl AsFd for WatchedFiles {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.inotify.as_fd()
    }
}

/// The directories in which something decides what is at this path: each link on the way, and the file in the end.
fn way(path: &Path) -> Vec<(PathBuf, String)> {
    let mut found = Vec::new();
    let mut path = path.to_owned();
    let mut note = |path: &Path| {
        let name = path.file_name().map(|name| name.to_string_lossy().into_owned());
        found.extend(path.parent().map(Path::to_owned).zip(name));
    };
    for _ in 0..MOST_LINKS {
        let from_the_root: Vec<&Path> = path.ancestors().collect();
        let Some(link) = from_the_root.iter().rev().find(|part| part.is_symlink()) else { break };
        note(link);
        let (Ok(to), Ok(rest)) = (link.read_link(), path.strip_prefix(link)) else { break };
        let to = link.parent().unwrap_or(Path::new("/")).join(to);
        path = if rest.as_os_str().is_empty() { to } else { to.join(rest) };
    }
    note(&path);
    found
}

#[cfg(test)]
mod tests {
    use std::{fs, os::unix::fs::symlink};

    use ostler_tls::certificates::Pair;

    use super::*;
    use crate::fixture::Folder;

    /// Whether a change is noticed.
    fn notices(path: &Path, change: impl FnOnce()) -> bool {
        let mut watched = WatchedFiles::new().unwrap();
        let pair = Pair { certificate: path.into(), key: path.into() };
        let names = watched.watch(&Files { pairs: vec![pair], client_authorities: None }).unwrap();
        watched.know(&names);
        watched.look(Moment(1000));
        assert_eq!(watched.due, None);
        change();
        watched.look(Moment(1000));
        watched.due == Some(Moment(2000))
    }

    #[test]
    fn a_file_that_is_written_or_replaced_has_changed_and_its_neighbours_mean_nothing() {
        let folder = Folder::new();
        let here = folder.path();
        let write = |name: &str| fs::write(here.join(name), name).unwrap();
        write("cert.pem");
        let cert = here.join("cert.pem");
        assert!(notices(&cert, || write("cert.pem")));
        assert!(notices(&cert, || {
            write("new");
            fs::rename(here.join("new"), here.join("cert.pem")).unwrap();
        }));
        assert!(!notices(&cert, || write("access.log")));
    }

    #[test]
    fn links_are_files_too_as_certbot_and_mounted_secrets_have_them() {
        let folder = Folder::new();
        let here = folder.path();
        for directory in ["live", "archive", "mount", "mount/..1", "mount/..2"] {
            fs::create_dir(here.join(directory)).unwrap();
        }
        for file in ["archive/cert1.pem", "archive/cert2.pem", "mount/..1/tls.crt", "mount/..2/tls.crt"] {
            fs::write(here.join(file), file).unwrap();
        }
        let replace = |to: &str, link: &str| {
            symlink(to, here.join("link")).unwrap();
            fs::rename(here.join("link"), here.join(link)).unwrap();
        };
        replace("../archive/cert1.pem", "live/cert.pem");
        assert!(notices(&here.join("live/cert.pem"), || replace("../archive/cert2.pem", "live/cert.pem")));
        assert!(notices(&here.join("live/cert.pem"), || fs::write(here.join("archive/cert2.pem"), "").unwrap()));
        replace("..1", "mount/..data");
        replace("..data/tls.crt", "mount/tls.crt");
        assert!(notices(&here.join("mount/tls.crt"), || replace("..2", "mount/..data")));
    }
}
