//! Names in the file system that somebody else may be able to write. As root the master follows none of those.
//!
//! [`Place::of`] walks a path from directory to directory, each held open. A link is followed where only root and the
//! master's own user can have made it (`/var/run`), and refused elsewhere. What is done in the end is done in the directory
//! that was reached, whatever becomes of the names that led there. A master that is not root has nothing to lose: it
//! follows what the system follows.

use std::{
    collections::VecDeque,
    ffi::{OsStr, OsString},
    fs::File,
    io,
    os::{
        fd::{AsRawFd, OwnedFd},
        unix::ffi::OsStrExt,
    },
    path::{Component, Path, PathBuf},
};

use nix::{
    errno::Errno,
    fcntl::{AtFlags, OFlag, openat, readlinkat},
    sys::{
        stat::{FileStat, Mode, SFlag, fstat, fstatat},
        statfs::{PROC_SUPER_MAGIC, fstatfs},
    },
    unistd::{UnlinkatFlags, geteuid, unlinkat},
};

use super::identity::Identity;
use crate::exit::words;

/// As many links as the system follows in one path.
const MOST_LINKS: usize = 40;

/// A name in a directory that is held open. There may be something of that name, or nothing yet.
#[derive(Debug)]
pub struct Place {
    directory: OwnedFd,
    name: OsString,
    path: PathBuf,
    steps: Vec<Step>,
    /// A link that the kernel makes (`/proc/self/fd/2`), which leads where no path does.
    magic: bool,
}

/// One name on the way: the directory that it stands in, and what it names, if anything.
#[derive(Debug)]
struct Step {
    path: PathBuf,
    directory: Marks,
    named: Option<Marks>,
}

/// What decides who can write something.
#[derive(Debug, Clone, Copy)]
struct Marks {
    kind: SFlag,
    mode: u32,
    user: u32,
    group: u32,
}

/// Who is not to choose what a name leads to.
#[derive(Debug, Clone, Copy)]
pub enum Others<'a> {
    /// Everybody but root and the master's own user.
    All,
    /// The application's user, and every other user but root.
    Application(&'a Identity),
}

/// What somebody else can write, and how that is mended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Weakness {
    /// `/srv/site belongs to user 33`
    pub what: String,
    /// A command.
    pub mend: String,
}

/// All of them in one sentence, and the commands in another.
pub fn mended(weaknesses: &[Weakness]) -> String {
    let all = |part: fn(&Weakness) -> &str, between| weaknesses.iter().map(part).collect::<Vec<_>>().join(between);
    format!("{}. `{}` mends that.", all(|weak| &weak.what, ", "), all(|weak| &weak.mend, " && "))
}

/// Refuses what an application of this identity, or everybody, could write or replace.
pub fn keep_from(path: &Path, identity: &Identity) -> Result<(), String> {
    let weaknesses = Place::anywhere(path)?.weaknesses(Others::Application(identity));
    if weaknesses.is_empty() { Ok(()) } else { Err(mended(&weaknesses)) }
}

impl Place {
    /// Walks to it. `path` is absolute.
    pub fn of(path: &Path) -> Result<Place, String> {
        Place::walk(path, geteuid().is_root())
    }

    /// The same through whatever links there are, for somebody who asks for [`Place::weaknesses`] then.
    pub fn anywhere(path: &Path) -> Result<Place, String> {
        Place::walk(path, false)
    }

    fn walk(path: &Path, careful: bool) -> Result<Place, String> {
        let failed = |error: Errno| words(&error.into());
        let root = || openat(nix::fcntl::AT_FDCWD, "/", OFlag::O_PATH | OFlag::O_CLOEXEC, Mode::empty());
        let (mut here, mut at) = (root().map_err(failed)?, PathBuf::from("/"));
        let mut ahead = parts(path);
        let (mut steps, mut links) = (Vec::new(), 0);
        while let Some(name) = ahead.pop_front() {
            let last = ahead.is_empty();
            let reached = at.join(&name);
            let directory = Marks::of(&fstat(&here).map_err(failed)?);
            let entry = match openat(
                &here,
                name.as_os_str(),
                OFlag::O_PATH | OFlag::O_NOFOLLOW | OFlag::O_CLOEXEC,
                Mode::empty(),
            ) {
                Ok(entry) => Some(entry),
                Err(Errno::ENOENT) if last => None,
                Err(error) => return Err(format!("{}: {}", reached.display(), failed(error))),
            };
            let named = entry.as_ref().map(fstat).transpose().map_err(failed)?.map(|stat| Marks::of(&stat));
            let step = Step { path: reached.clone(), directory, named };
            let is_link = named.is_some_and(|named| named.kind == SFlag::S_IFLNK);
            let magic = is_link && fstatfs(&here).map_err(failed)?.filesystem_type() == PROC_SUPER_MAGIC;
            if last && (magic || !is_link) {
                steps.push(step);
                return Ok(Place { directory: here, name, path: path.to_owned(), steps, magic });
            }
            let entry = entry.expect("only the last may be missing");
            if magic {
                let followed = OFlag::O_PATH | OFlag::O_DIRECTORY | OFlag::O_CLOEXEC;
                (here, at) = (openat(&here, name.as_os_str(), followed, Mode::empty()).map_err(failed)?, reached);
            } else if is_link {
                links += 1;
                if links > MOST_LINKS {
                    return Err(failed(Errno::ELOOP));
                }
                let weaknesses = step.weaknesses(Others::All);
                if careful && !weaknesses.is_empty() {
                    return Err(format!(
                        "root does not follow the link {}: {}",
                        reached.display(),
                        mended(&weaknesses)
                    ));
                }
                let target = PathBuf::from(readlinkat(&entry, "").map_err(failed)?);
                if target.is_absolute() {
                    (here, at) = (root().map_err(failed)?, PathBuf::from("/"));
                }
                for part in parts(&target).into_iter().rev() {
                    ahead.push_front(part);
                }
                steps.push(step);
            } else {
                (here, at) = (entry, reached);
                steps.push(step);
            }
        }
        Err("it names no file".into())
    }

    /// What somebody else could change so that the path leads elsewhere, or so that what is there says something else.
    pub fn weaknesses(&self, others: Others) -> Vec<Weakness> {
        let mut found: Vec<Weakness> = self.steps.iter().flat_map(|step| step.weaknesses(others)).collect();
        found.dedup();
        found
    }

    /// Whether somebody else could put something of their own there.
    pub fn is_foreign(&self) -> bool {
        let (last, way) = self.steps.split_last().expect("a place has a name");
        let theirs = |directory: &Marks| Others::All.own(directory.user) || directory.is_open_to(Others::All);
        theirs(&last.directory) || way.iter().any(|step| !step.weaknesses(Others::All).is_empty())
    }

    /// Opens what is there, or what these flags make. Where somebody else can write, that is nothing but a file of this one
    /// name: neither a link, nor a second name of another file, nor anything that answers back.
    pub fn open(&self, flags: OFlag, mode: u32) -> Result<File, String> {
        let foreign = geteuid().is_root() && self.is_foreign();
        let follow = if self.magic { OFlag::empty() } else { OFlag::O_NOFOLLOW };
        let wait = if foreign { OFlag::O_NONBLOCK } else { OFlag::empty() };
        let flags = flags | follow | wait | OFlag::O_NOCTTY | OFlag::O_CLOEXEC;
        let opened = openat(&self.directory, self.name.as_os_str(), flags, Mode::from_bits_truncate(mode));
        let file = File::from(opened.map_err(|error| match error {
            Errno::ELOOP => "it is a link".to_owned(),
            _ => words(&error.into()),
        })?);
        let stat = fstat(&file).map_err(|error| words(&error.into()))?;
        match foreign && (Marks::of(&stat).kind != SFlag::S_IFREG || stat.st_nlink > 1) {
            true => Err("somebody else can write to that directory, and it is not a plain file of one name".into()),
            false => Ok(file),
        }
    }

    /// What is there, held, but not opened: a link is itself.
    pub fn hold(&self) -> io::Result<OwnedFd> {
        let flags = OFlag::O_PATH | OFlag::O_NOFOLLOW | OFlag::O_CLOEXEC;
        Ok(openat(&self.directory, self.name.as_os_str(), flags, Mode::empty())?)
    }

    /// Device and inode of what is there.
    pub fn marks(&self) -> io::Result<(u64, u64)> {
        let stat = fstatat(&self.directory, self.name.as_os_str(), AtFlags::AT_SYMLINK_NOFOLLOW)?;
        Ok((stat.st_dev, stat.st_ino))
    }

    /// Removes it, a directory only if it is empty.
    pub fn remove(&self, flag: UnlinkatFlags) -> io::Result<()> {
        Ok(unlinkat(&self.directory, self.name.as_os_str(), flag)?)
    }

    /// Its directory, open.
    pub fn directory(&self) -> &OwnedFd {
        &self.directory
    }

    /// Its name there.
    pub fn name(&self) -> &OsStr {
        &self.name
    }

    /// A path for calls that take nothing but paths. Where somebody else could change the one that was given, it leads
    /// through the directory that is held.
    pub fn for_calls(&self) -> PathBuf {
        match geteuid().is_root() && self.is_foreign() {
            true => Path::new("/proc/self/fd").join(self.directory.as_raw_fd().to_string()).join(&self.name),
            false => self.path.clone(),
        }
    }
}

/// The names of a path, without `/` and `.`.
fn parts(path: &Path) -> VecDeque<OsString> {
    let names = path.components().filter(|part| matches!(part, Component::Normal(_) | Component::ParentDir));
    names.map(|part| part.as_os_str().to_owned()).collect()
}

impl Step {
    /// Whoever owns a directory, or may write to it, gives names in it; where it is sticky, a name that is given is its
    /// owner's (unlink(2)). Whoever owns a file, or may write to it, says what is in it.
    fn weaknesses(&self, others: Others) -> Vec<Weakness> {
        let parent = self.path.parent().unwrap_or(Path::new("/"));
        let mut found = Vec::new();
        if others.own(self.directory.user) {
            found.push(self.directory.owned_by_another(parent));
        }
        let given = self.directory.mode & 0o1000 != 0 && self.named.is_some();
        if self.directory.is_open_to(others) && !given {
            found.push(self.directory.open_to_others(parent));
        }
        let Some(named) = &self.named else { return found };
        if others.own(named.user) {
            found.push(named.owned_by_another(&self.path));
        }
        if named.kind == SFlag::S_IFREG && named.is_open_to(others) {
            found.push(named.open_to_others(&self.path));
        }
        found
    }
}

impl Marks {
    fn of(stat: &FileStat) -> Marks {
        let kind = SFlag::from_bits_truncate(stat.st_mode & SFlag::S_IFMT.bits());
        Marks { kind, mode: stat.st_mode & 0o7777, user: stat.st_uid, group: stat.st_gid }
    }

    fn is_open_to(&self, others: Others) -> bool {
        self.mode & 0o002 != 0 || (self.mode & 0o020 != 0 && others.belong_to(self.group))
    }

    fn owned_by_another(&self, path: &Path) -> Weakness {
        let link = if self.kind == SFlag::S_IFLNK { "-h " } else { "" };
        Weakness {
            what: format!("{} belongs to user {}", path.display(), self.user),
            mend: format!("chown {link}root {}", quoted(path)),
        }
    }

    fn open_to_others(&self, path: &Path) -> Weakness {
        let (whose, mend) = match self.mode & 0o002 != 0 {
            true => ("everybody".to_owned(), "go-w"),
            false => (format!("group {}", self.group), "g-w"),
        };
        Weakness {
            what: format!("{} can be written by {whose}", path.display()),
            mend: format!("chmod {mend} {}", quoted(path)),
        }
    }
}

impl Others<'_> {
    fn own(&self, user: u32) -> bool {
        match self {
            Others::All => user != 0 && user != geteuid().as_raw(),
            Others::Application(identity) => user != 0 && user == identity.user,
        }
    }

    fn belong_to(&self, group: u32) -> bool {
        match self {
            Others::All => group != 0,
            Others::Application(identity) => group == identity.group || identity.groups.contains(&group),
        }
    }
}

/// As a shell reads it.
fn quoted(path: &Path) -> String {
    let plain = |byte: &u8| byte.is_ascii_alphanumeric() || b"/._-+,:@%".contains(byte);
    match path.as_os_str().as_bytes().iter().all(plain) {
        true => path.display().to_string(),
        false => format!("'{}'", path.display().to_string().replace('\'', r"'\''")),
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::{PermissionsExt, chown, symlink};

    use super::*;
    use crate::fixture::Folder;

    /// An id that nobody has.
    const STRANGER: u32 = 4_100_000_001;

    fn place(path: &Path) -> Place {
        Place::of(path).unwrap()
    }

    fn allow(path: &Path, mode: u32) {
        std::fs::set_permissions(path, std::fs::Permissions::from_mode(mode)).unwrap();
    }

    fn application() -> Identity {
        Identity { user: STRANGER, group: STRANGER, groups: vec![STRANGER], login: None }
    }

    #[test]
    fn what_everybody_can_write_is_weak_and_the_sticky_bit_counts() {
        let folder = Folder::new();
        let file = folder.file("open/file", "");
        let open = folder.path().join("open");
        let weak = |path: &Path| mended(&place(path).weaknesses(Others::Application(&application())));
        assert_eq!(place(&file).weaknesses(Others::All), []);
        allow(&open, 0o777);
        let expected = format!("{0} can be written by everybody. `chmod go-w {0}` mends that.", open.display());
        assert_eq!(weak(&file), expected);
        allow(&open, 0o1777);
        assert_eq!(place(&file).weaknesses(Others::All), [], "nobody else can take that name away");
        assert_eq!(weak(&open.join("new")), expected, "but anybody can give another one");
        assert!(place(&file).is_foreign());
        allow(&open, 0o755);
        allow(&file, 0o666);
        assert!(weak(&file).contains("`chmod go-w "), "{}", weak(&file));
    }

    #[test]
    fn a_link_in_the_way_is_followed_if_it_is_ours() {
        let folder = Folder::new();
        let file = folder.file("target/file", "");
        symlink("target", folder.path().join("link")).unwrap();
        symlink("../link/file", folder.path().join("target/again")).unwrap();
        let there = place(&folder.path().join("target/again"));
        assert_eq!(there.marks().unwrap(), place(&file).marks().unwrap());
        assert!(!there.is_foreign());
        symlink("loop", folder.path().join("loop")).unwrap();
        assert!(Place::of(&folder.path().join("loop")).unwrap_err().contains("symbolic links"));
        assert!(Place::of(&folder.path().join("no/file")).unwrap_err().ends_with("/no: no such file or directory"));
    }

    #[test]
    fn root_follows_no_link_of_somebody_else_and_opens_no_second_name() {
        if !geteuid().is_root() {
            return eprintln!("NOT TESTED: only root can make files of somebody else");
        }
        let folder = Folder::new();
        let secret = folder.file("secret", "");
        let theirs = folder.path().join("theirs");
        std::fs::create_dir(&theirs).unwrap();
        let link = theirs.join("log");
        symlink(&secret, &link).unwrap();
        chown(&theirs, Some(STRANGER), Some(STRANGER)).unwrap();
        let refused = Place::of(&link).unwrap_err();
        assert!(refused.starts_with(&format!("root does not follow the link {}: ", link.display())), "{refused}");
        assert!(refused.contains(&format!("`chown root {}` mends that.", theirs.display())), "{refused}");
        std::fs::remove_file(&link).unwrap();
        std::fs::hard_link(&secret, &link).unwrap();
        let append = OFlag::O_WRONLY | OFlag::O_APPEND | OFlag::O_CREAT;
        assert!(place(&link).open(append, 0o644).unwrap_err().contains("not a plain file of one name"));
        std::fs::remove_file(&link).unwrap();
        place(&link).open(append, 0o644).unwrap();
        let all = place(&link).weaknesses(Others::Application(&application()));
        assert_eq!(all.len(), 1, "{all:?}");
    }

    #[test]
    fn what_the_kernel_links_to_is_opened_by_the_kernel() {
        let file = place(Path::new("/proc/self/fd/2")).open(OFlag::O_WRONLY | OFlag::O_APPEND, 0);
        assert!(file.is_ok() || std::fs::OpenOptions::new().append(true).open("/proc/self/fd/2").is_err());
    }
}
