//! The pid file: written whole or not at all, never over that of another live process, removed only if it is ours.

use std::{
    fs, io,
    io::Write,
    os::unix::fs::OpenOptionsExt,
    path::{Path, PathBuf},
};

use crate::{
    exit::{Exit, Failure, words},
    sys::process::alive,
};

/// A file that holds our process number.
#[derive(Debug)]
pub struct PidFile(PathBuf);

impl PidFile {
    /// Writes it: mode 0644, a number and a newline.
    pub fn write(path: &Path) -> Result<PidFile, Failure> {
        if let Some(pid) = owner(path).filter(|&pid| pid != own() && alive(pid)) {
            return Err(failure(path, &format!("it names process {pid}, which is alive")));
        }
        replace(path).map_err(|error| failure(path, &words(&error)))?;
        Ok(PidFile(path.to_owned()))
    }

    /// One that this process wrote before it replaced its executable.
    pub fn written(path: PathBuf) -> PidFile {
        PidFile(path)
    }

    /// Where it is.
    pub fn path(&self) -> &Path {
        &self.0
    }
}

impl Drop for PidFile {
    /// Removes it, if it is still ours.
    fn drop(&mut self) {
        if owner(&self.0) == Some(own()) {
            let _ = fs::remove_file(&self.0);
        }
    }
}

fn failure(path: &Path, why: &str) -> Failure {
    Failure::new(Exit::System, format!("could not write the pid file {}: {why}", path.display()))
}

fn own() -> i32 {
    std::process::id() as i32
}

fn owner(path: &Path) -> Option<i32> {
    fs::read_to_string(path).ok()?.trim().parse().ok()
}

fn replace(path: &Path) -> io::Result<()> {
    let mut beside = path.as_os_str().to_owned();
    beside.push(format!(".{}", own()));
    let beside = PathBuf::from(beside);
    let written = fs::OpenOptions::new()
        .write(true)
        .create(true)
        .truncate(true)
        .mode(0o644)
        .open(&beside)
        .and_then(|mut file| writeln!(file, "{}", own()))
        .and_then(|()| fs::rename(&beside, path));
    if written.is_err() {
        let _ = fs::remove_file(&beside);
    }
    written
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_live_process_keeps_its_file_and_a_dead_one_does_not() {
        let folder = std::env::temp_dir().join(format!("ostler-pidfile-{}", own()));
        fs::create_dir_all(&folder).unwrap();
        let path = folder.join("pid");
        fs::write(&path, "1\n").unwrap();
        assert!(PidFile::write(&path).unwrap_err().message.contains("names process 1, which is alive"));
        fs::write(&path, "99999999\n").unwrap();
        let file = PidFile::write(&path).unwrap();
        assert_eq!(fs::read_to_string(&path).unwrap(), format!("{}\n", own()));
        fs::write(&path, "1\n").unwrap();
        drop(file);
        assert!(path.exists(), "the file was another's by then");
        fs::remove_file(&path).unwrap();
        drop(PidFile::write(&path).unwrap());
        assert_eq!(fs::read_dir(&folder).unwrap().count(), 0);
        fs::remove_dir(&folder).unwrap();
    }
}
