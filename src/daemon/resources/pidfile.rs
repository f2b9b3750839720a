//! The pid file: written whole or not at all, never over that of another ostler that lives, removed only if it is ours.
//!
//! Whoever it belongs to holds a write lock on it (fcntl(2)), which ends with the process and survives execve(2). A number
//! proves nothing: after a crash it may be anybody's.

use std::{
    fs::File,
    io::{self, Write},
    os::fd::{AsRawFd, OwnedFd},
    path::{Path, PathBuf},
};

use nix::{
    errno::Errno,
    fcntl::{AtFlags, FcntlArg, OFlag, fcntl, renameat},
    sys::stat::{Mode, fchmod, fstat},
    unistd::{AccessFlags, UnlinkatFlags, faccessat, geteuid},
};

use crate::{
    exit::{Exit, Failure, words},
    sys::names::Place,
};

/// A file that holds our process number.
#[derive(Debug)]
pub struct PidFile {
    path: PathBuf,
    /// Carries the lock.
    file: OwnedFd,
}

impl PidFile {
    /// Writes it: mode 0644, a number and a newline.
    pub fn write(path: &Path) -> Result<PidFile, Failure> {
        let failed = |why| not_written(path, why);
        let place = Place::of(path).map_err(failed)?;
        let mut beside = path.as_os_str().to_owned();
        beside.push(format!(".{}", std::process::id()));
        let beside = Place::of(Path::new(&beside)).map_err(failed)?;
        // Left behind by somebody of our number, perhaps.
        let _ = beside.remove(UnlinkatFlags::NoRemoveDir);
        let written = write_beside(&beside).and_then(|file| {
            if let Some(holder) = holder(&place) {
                return Err(format!("process {holder} holds it, which is another ostler"));
            }
            let renamed = renameat(beside.directory(), beside.name(), place.directory(), place.name());
            renamed.map_err(|error| words(&error.into())).map(|()| file)
        });
        match written {
            Ok(file) => Ok(PidFile { path: path.to_owned(), file: file.into() }),
            Err(why) => {
                let _ = beside.remove(UnlinkatFlags::NoRemoveDir);
                Err(failed(why))
            }
        }
    }

    /// Whether it could be written, without writing it. Returns the other ostler that holds it, if there is one.
    pub fn check(path: &Path) -> Result<Option<i32>, Failure> {
        let checked = Place::of(path).and_then(|place| {
            let allowed = faccessat(place.directory(), ".", AccessFlags::W_OK, AtFlags::AT_EACCESS);
            allowed.map_err(|error| format!("its directory: {}", words(&error.into())))?;
            match place.open(OFlag::O_DIRECTORY, 0).is_ok() {
                true => Err(words(&Errno::EISDIR.into())),
                false => Ok(holder(&place)),
            }
        });
        checked.map_err(|why| not_written(path, why))
    }

    /// One that this process wrote before it replaced its executable.
    pub fn written(path: PathBuf, file: OwnedFd) -> PidFile {
        PidFile { path, file }
    }

    /// Where it is.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// What has to stay open for as long as it is ours.
    pub fn number(&self) -> i32 {
        self.file.as_raw_fd()
    }
}

impl Drop for PidFile {
    /// Removes it, if it is still ours.
    fn drop(&mut self) {
        let ours = fstat(&self.file).map(|stat| (stat.st_dev, stat.st_ino));
        if let (Ok(place), Ok(ours)) = (Place::of(&self.path), ours)
            && place.marks().is_ok_and(|marks| marks == ours)
        {
            let _ = place.remove(UnlinkatFlags::NoRemoveDir);
        }
    }
}

fn not_written(path: &Path, why: String) -> Failure {
    Failure::new(Exit::System, format!("could not write the pid file {}: {why}", path.display()))
}

/// Nobody else can open it before it is locked, and who can only read it cannot take a write lock.
fn write_beside(beside: &Place) -> Result<File, String> {
    let mut file = beside.open(OFlag::O_WRONLY | OFlag::O_CREAT | OFlag::O_EXCL, 0o600)?;
    let locked = || {
        match fcntl(&file, FcntlArg::F_SETLK(&lock(libc::F_WRLCK))) {
            // There are file systems without locks.
            Ok(_) | Err(Errno::ENOLCK | Errno::EINVAL | Errno::EOPNOTSUPP) => {}
            Err(error) => return Err(io::Error::from(error)),
        }
        writeln!(&mut &file, "{}", std::process::id())?;
        Ok(fchmod(&file, Mode::from_bits_truncate(0o644))?)
    };
    locked().map_err(|error| words(&error))?;
    file.flush().map_err(|error| words(&error))?;
    Ok(file)
}

/// Who holds a write lock on what is there. What belongs to somebody else is no pid file of an ostler that we could disturb.
fn holder(place: &Place) -> Option<i32> {
    let file = place.open(OFlag::O_RDONLY | OFlag::O_NONBLOCK, 0).ok()?;
    let owner = fstat(&file).ok()?.st_uid;
    if owner != 0 && owner != geteuid().as_raw() {
        return None;
    }
    // Asks for what only a write lock prevents.
    let mut found = lock(libc::F_RDLCK);
    fcntl(&file, FcntlArg::F_GETLK(&mut found)).ok()?;
    (found.l_type == libc::F_WRLCK as i16).then_some(found.l_pid)
}

/// Of the whole file.
fn lock(kind: i32) -> libc::flock {
    libc::flock { l_type: kind as i16, l_whence: libc::SEEK_SET as i16, l_start: 0, l_len: 0, l_pid: 0 }
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;
    use crate::fixture::Folder;

    #[test]
    fn a_number_alone_keeps_nobody_out_and_what_is_anothers_by_then_stays() {
        let folder = Folder::new();
        let path = folder.file("pid", "1\n");
        let file = PidFile::write(&path).unwrap();
        assert_eq!(fs::read_to_string(&path).unwrap(), format!("{}\n", std::process::id()));
        fs::rename(folder.file("other", "1\n"), &path).unwrap();
        drop(file);
        assert!(path.exists(), "the file was another's by then");
        fs::remove_file(&path).unwrap();
        drop(PidFile::write(&path).unwrap());
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 0);
    }
}
