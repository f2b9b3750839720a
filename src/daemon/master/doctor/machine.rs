//! What the machine tells: files of the kernel, file systems, log files, the unit of systemd.

use std::{
    env, fs,
    os::{
        fd::{AsFd, AsRawFd, BorrowedFd},
        unix::fs::MetadataExt,
    },
    path::{Path, PathBuf},
    process::{Command, Stdio},
    time::{Duration, SystemTime},
};

use nix::{
    errno::Errno,
    sys::{
        stat::fstat,
        statfs::{Statfs, TMPFS_MAGIC, fstatfs, statfs},
    },
};
use ostler_wire::sink::FileKind;

use crate::{exit::words, resources::logs::Logs, settings::LogTarget};

/// A file or a directory, whatever it is called.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Place {
    pub device: u64,
    pub inode: u64,
}

/// Where files lie. Sizes are bytes.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Filesystem {
    pub size: u64,
    /// What users who are not root may still have.
    pub free: u64,
    /// Its files are in memory.
    pub in_memory: bool,
    /// It has no room for another file, however small.
    pub no_more_files: bool,
}

/// A log that is a file.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct LogFile {
    /// `error log` or `access log`
    pub name: &'static str,
    pub path: PathBuf,
    pub size: u64,
    /// The path leads to another file, or to none: somebody has moved it.
    pub moved: bool,
    /// `ostler reopen` opens it anew.
    pub reopened: bool,
    pub filesystem: Option<Filesystem>,
}

/// Files of Python that were written after some moment.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NewerFiles {
    pub count: u64,
    /// The one that was written last.
    pub newest: PathBuf,
    /// How long before now the moment was, and how long before now that file was written.
    pub since: Duration,
    pub age: Duration,
}

impl Place {
    pub fn of(path: &Path) -> Option<Place> {
        fs::metadata(path).ok().map(|found| Place { device: found.dev(), inode: found.ino() })
    }
}

impl Filesystem {
    pub fn of_path(path: &Path) -> Result<Filesystem, String> {
        statfs(path).map(Filesystem::from).map_err(explain)
    }
}

impl From<Statfs> for Filesystem {
    fn from(found: Statfs) -> Filesystem {
        let bytes = |blocks: u64| blocks.saturating_mul(u64::try_from(found.block_size()).unwrap_or(0));
        Filesystem {
            size: bytes(found.blocks()),
            free: bytes(found.blocks_available()),
            in_memory: found.filesystem_type() == TMPFS_MAGIC,
            // Some file systems count no files.
            no_more_files: found.files() > 0 && found.files_free() == 0,
        }
    }
}

fn explain(error: Errno) -> String {
    words(&error.into())
}

impl LogFile {
    /// Those of a generation.
    pub fn all(logs: &Logs) -> Vec<LogFile> {
        let error = LogFile::of("error log", Some(logs.error()), Some(&logs.error_target));
        let access = LogFile::of("access log", logs.access(), logs.access_target.as_ref());
        let mut all: Vec<_> = error.into_iter().chain(access).collect();
        all.dedup_by(|one, other| one.path == other.path);
        all
    }

    fn of(name: &'static str, file: Option<BorrowedFd>, target: Option<&LogTarget>) -> Option<LogFile> {
        let (file, target) = (file.filter(|file| FileKind::of(file.as_fd()) == FileKind::File)?, target?);
        let found = fstat(file).ok()?;
        let path = match target {
            LogTarget::File(path) => path.clone(),
            LogTarget::Standard => fs::read_link(format!("/proc/self/fd/{}", file.as_raw_fd())).ok()?,
        };
        let there = Place::of(&path);
        Some(LogFile {
            name,
            size: u64::try_from(found.st_size).unwrap_or(0),
            moved: there != Some(Place { device: found.st_dev, inode: found.st_ino }),
            reopened: matches!(target, LogTarget::File(_)),
            filesystem: fstatfs(file).ok().map(Filesystem::from),
            path,
        })
    }
}

/// More files than this are not looked at.
const MOST_FILES: u32 = 20_000;

impl NewerFiles {
    /// Those below a directory; none where there are none. What was installed there, and what is hidden, does not count.
    pub fn find(directory: &Path, since: SystemTime) -> Option<NewerFiles> {
        const NOT_OURS: [&str; 5] = ["__pycache__", "site-packages", "dist-packages", "node_modules", "venv"];
        let (mut count, mut newest, mut left) = (0, None, MOST_FILES);
        let mut directories = vec![directory.to_owned()];
        while let Some(directory) = directories.pop().filter(|directory| directory != Path::new("/")) {
            for entry in fs::read_dir(directory).into_iter().flatten().flatten() {
                left = left.checked_sub(1)?;
                let (name, path) = (entry.file_name(), entry.path());
                let Some(name) = name.to_str().filter(|name| !name.starts_with('.') && !NOT_OURS.contains(name)) else {
                    continue;
                };
                // Of a link itself: what it leads to is somebody else's.
                let Ok(found) = entry.metadata() else { continue };
                if found.is_dir() {
                    directories.push(path);
                } else if name.ends_with(".py")
                    && let Ok(written) = found.modified()
                    && written > since
                {
                    count += 1;
                    newest = newest.max(Some((written, path)));
                }
            }
        }
        newest.map(|(written, newest)| NewerFiles::new(count, newest, since, written))
    }

    /// This one, if it is newer.
    pub fn of(path: PathBuf, since: SystemTime) -> Option<NewerFiles> {
        let written = fs::metadata(&path).and_then(|found| found.modified()).ok();
        written.filter(|written| *written > since).map(|written| NewerFiles::new(1, path, since, written))
    }

    fn new(count: u64, newest: PathBuf, since: SystemTime, written: SystemTime) -> NewerFiles {
        let ago = |then: SystemTime| then.elapsed().unwrap_or_default();
        NewerFiles { count, newest, since: ago(since), age: ago(written) }
    }
}

/// Where pip puts packages beside an interpreter, which is that of a virtual environment as a rule.
pub fn packages(python: &Path, version: &str) -> Option<PathBuf> {
    let (major, rest) = version.split_once('.')?;
    let minor = rest.split('.').next()?;
    Some(python.parent()?.parent()?.join(format!("lib/python{major}.{minor}/site-packages")))
}

/// A file that holds one number.
pub fn number(path: &str, unread: &mut Vec<String>) -> Option<u64> {
    match fs::read_to_string(path) {
        Ok(text) => text.trim().parse().ok(),
        Err(error) => {
            unread.push(format!("{path}: {}", words(&error)));
            None
        }
    }
}

/// The unit of systemd that this process belongs to, and how long it lets a stop take.
pub fn unit(unread: &mut Vec<String>) -> Option<(String, Option<Duration>)> {
    env::var_os("INVOCATION_ID")?;
    let groups = fs::read_to_string("/proc/self/cgroup").ok()?;
    let group = groups.lines().find(|line| line.ends_with(".service"))?;
    let unit = group.rsplit('/').next()?.to_owned();
    let manager = if group.contains("/user@") { "--user" } else { "--system" };
    let mut command = Command::new("/usr/bin/systemctl");
    command.args([manager, "show", "--property=TimeoutStopUSec", "--value", &unit]);
    let answer = command.stdin(Stdio::null()).stderr(Stdio::null()).output();
    let text = answer.map(|answer| String::from_utf8_lossy(&answer.stdout).trim().to_owned());
    match text.as_deref().map(span) {
        Ok(Some(time)) => Some((unit, time)),
        Ok(None) => {
            unread.push(format!("TimeoutStopSec of {unit}: systemctl says nothing of it"));
            None
        }
        Err(error) => {
            unread.push(format!("TimeoutStopSec of {unit}: /usr/bin/systemctl: {}", words(error)));
            None
        }
    }
}

/// As systemd prints it (systemd.time(7)): `1min 30s`, `infinity`. The inner none is for ever, the outer one no time.
fn span(text: &str) -> Option<Option<Duration>> {
    if text == "infinity" {
        return Some(None);
    }
    let part = |word: &str| {
        let (number, unit) = word.split_at(word.find(|c: char| !c.is_ascii_digit() && c != '.')?);
        let seconds = match unit {
            "us" | "μs" => 1e-6,
            "ms" => 1e-3,
            "s" => 1.0,
            "min" => 60.0,
            "h" => 3600.0,
            "d" => 86_400.0,
            "w" => 604_800.0,
            _ => return None,
        };
        Duration::try_from_secs_f64(number.parse::<f64>().ok()? * seconds).ok()
    };
    let parts: Option<Vec<Duration>> = text.split_whitespace().map(part).collect();
    parts.filter(|parts| !parts.is_empty()).map(|parts| Some(parts.into_iter().sum()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fixture::Folder;

    #[test]
    fn times_are_read_as_systemd_prints_them() {
        let seconds = |text| span(text).map(|time| time.map(|time| time.as_secs_f64()));
        assert_eq!(seconds("1min 30s"), Some(Some(90.0)));
        assert_eq!(seconds("1h 5ms"), Some(Some(3600.005)));
        assert_eq!(seconds("infinity"), Some(None));
        assert_eq!([seconds(""), seconds("90"), seconds("2 parsecs")], [None; 3]);
    }

    #[test]
    fn files_of_python_that_are_newer_are_found_but_for_what_was_installed() {
        let folder = Folder::new();
        let before = SystemTime::now() - Duration::from_secs(60);
        for name in ["venv/a.py", ".git/a.py", "lib/site-packages/a.py", "page.html"] {
            folder.file(name, "");
        }
        assert_eq!(NewerFiles::find(folder.path(), before), None);
        let path = folder.file("shop/views.py", "");
        let found = NewerFiles::find(folder.path(), before).unwrap();
        assert_eq!((found.count, found.newest), (1, path));
        assert_eq!(NewerFiles::find(folder.path(), SystemTime::now() + Duration::from_secs(60)), None);
    }
}
