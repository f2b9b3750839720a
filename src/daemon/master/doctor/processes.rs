//! What /proc tells of a template or a worker (proc_pid(5)).

use std::{
    fs::{self, File},
    io::{self, BufRead, BufReader, Read},
    os::unix::ffi::OsStrExt,
    path::{Path, PathBuf},
};

use super::machine::Place;
use crate::{exit::words, master::sampling::Memory};

/// No more is read of what an application maps, in bytes.
const MOST_MAPS: u64 = 16 << 20;

/// One of them. What could not be read is none.
#[derive(Debug, Clone, Default)]
pub struct Process {
    /// `template` or `worker 0`
    pub name: String,
    pub pid: i32,
    /// Its effective user.
    pub user: Option<u32>,
    /// How many descriptors it may have.
    pub descriptors: Option<u64>,
    /// Its working directory, as the kernel calls it now.
    pub directory: Option<PathBuf>,
    pub directory_is: Option<Place>,
    /// The interpreter and the libraries that it runs and that are no longer on disk.
    pub deleted: Vec<PathBuf>,
    pub memory: Option<Memory>,
}

impl Process {
    /// Looks at one.
    pub fn read(name: String, pid: i32, unread: &mut Vec<String>) -> Process {
        let file = |name: &str| PathBuf::from(format!("/proc/{pid}/{name}"));
        let mut read = |name: &str, text: io::Result<String>| {
            text.map_err(|error| unread.push(format!("{}: {}", file(name).display(), words(&error)))).ok()
        };
        let status = read("status", fs::read_to_string(file("status")));
        let limits = read("limits", fs::read_to_string(file("limits")));
        let directory = fs::read_link(file("cwd"));
        let failed = directory.as_ref().err().map(|error| io::Error::from(error.kind()));
        failed.and_then(|error| read("cwd", Err(error)));
        let deleted = deleted(&file("exe"), &file("maps"));
        Process {
            name,
            pid,
            user: status.as_deref().and_then(user),
            descriptors: limits.as_deref().and_then(descriptors),
            directory: directory.ok(),
            directory_is: Place::of(&file("cwd")),
            deleted: deleted.unwrap_or_default(),
            memory: Memory::of(pid),
        }
    }
}

/// `Uid: 0 1000 0 0`: real, effective, saved, of the file system.
fn user(status: &str) -> Option<u32> {
    status.lines().find_map(|line| line.strip_prefix("Uid:"))?.split_whitespace().nth(1)?.parse().ok()
}

/// `Max open files            1024                 4096                 files`: soft, hard, unit.
fn descriptors(limits: &str) -> Option<u64> {
    limits.lines().find_map(|line| line.strip_prefix("Max open files"))?.split_whitespace().next()?.parse().ok()
}

const DELETED: &[u8] = b" (deleted)";

/// How the kernel marks a path whose file has no name any more.
pub fn is_deleted(path: &Path) -> bool {
    path.as_os_str().as_bytes().ends_with(DELETED)
}

fn deleted(executable: &Path, maps: &Path) -> io::Result<Vec<PathBuf>> {
    let executable = fs::read_link(executable)?;
    let lines = BufReader::new(File::open(maps)?.take(MOST_MAPS)).split(b'\n').map_while(Result::ok);
    let libraries = lines.filter_map(|line| deleted_library(&String::from_utf8_lossy(&line)));
    let mut all: Vec<PathBuf> = Some(executable).filter(|path| is_deleted(path)).into_iter().chain(libraries).collect();
    all.sort();
    all.dedup();
    Ok(all)
}

/// `7f…-7f… r-xp 00000000 08:01 1234   /usr/lib/libssl.so.3 (deleted)`. Other memory may be called so, too: that of other names, and
/// what nobody executes.
fn deleted_library(line: &str) -> Option<PathBuf> {
    let mut fields = line.split_whitespace().skip(1);
    let executed = fields.next()?.contains('x');
    let path = Path::new(&line[line.find('/').filter(|_| executed)?..]);
    let name = path.file_name()?.to_string_lossy();
    (is_deleted(path) && name.contains(".so")).then(|| path.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_files_of_proc_are_read() {
        let limits = "Limit                     Soft Limit           Hard Limit           Units\n\
                      Max open files            1024                 4096                 files\n";
        assert_eq!(descriptors(limits), Some(1024));
        assert_eq!(user("Name:\tpython\nUid:\t0\t33\t33\t33\n"), Some(33));
        let ours = Process::read("test".into(), std::process::id() as i32, &mut Vec::new());
        assert!(ours.descriptors.is_some() && ours.memory.is_some() && ours.directory_is.is_some(), "{ours:?}");
    }

    #[test]
    fn only_code_that_is_run_counts_as_deleted() {
        let line = |mode: &str, path: &str| format!("7f0-7f1 {mode} 00000000 08:01 1234    {path}");
        let found = |mode, path| deleted_library(&line(mode, path)).is_some();
        assert!(found("r-xp", "/usr/lib/my lib/libssl.so.3 (deleted)"));
        assert!(!found("r-xp", "/usr/lib/libssl.so.3"));
        assert!(!found("r--p", "/usr/lib/libssl.so.3 (deleted)"));
        assert!(!found("rw-s", "/memfd:ostler-scoreboard (deleted)"));
        assert!(!found("r-xp", "/tmp/ffiAbC (deleted)"));
        assert!(!found("r-xp", ""));
    }
}
