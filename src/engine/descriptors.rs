//! Descriptors that are not the application's, known by their number and by the file behind it. The application may have closed one by
//! mistake, and opened another file that got the same number.

use std::{
    io,
    os::fd::{AsFd, BorrowedFd, OwnedFd, RawFd},
};

use nix::sys::stat::fstat;

/// Descriptors of this process, as they were when they were noted.
pub struct KnownDescriptors(Vec<(RawFd, File)>);

/// Device and inode.
type File = (libc::dev_t, libc::ino_t);

impl KnownDescriptors {
    pub fn note(descriptors: impl IntoIterator<Item = RawFd>) -> io::Result<KnownDescriptors> {
        let note = |number| Ok((number, behind(number)?));
        descriptors.into_iter().map(note).collect::<io::Result<_>>().map(KnownDescriptors)
    }

    /// All that are open.
    pub fn all() -> io::Result<KnownDescriptors> {
        let numbers = std::fs::read_dir("/proc/self/fd")?.flatten();
        let numbers: Vec<RawFd> = numbers.filter_map(|entry| entry.file_name().to_str()?.parse().ok()).collect();
        // The directory's own is closed by now.
        let known = |number| Some((number, behind(number).ok()?));
        Ok(KnownDescriptors(numbers.into_iter().filter_map(known).collect()))
    }

    /// Those that still lead to the same file. Makes system calls only.
    pub fn left(&self) -> impl Iterator<Item = RawFd> {
        self.with(true)
    }

    /// Those that are closed or lead to another file.
    pub fn lost(&self) -> impl Iterator<Item = RawFd> {
        self.with(false)
    }

    fn with(&self, same: bool) -> impl Iterator<Item = RawFd> {
        let is_same = |number, file| behind(number).is_ok_and(|found| found == file);
        self.0.iter().filter(move |(number, file)| is_same(*number, *file) == same).map(|(number, _)| *number)
    }
}

/// A descriptor of our own for the same file; it is closed when a program is executed.
pub fn copy(number: RawFd) -> io::Result<OwnedFd> {
    // SAFETY: borrowed for this call; where it is closed, that is the answer.
    unsafe { BorrowedFd::borrow_raw(number) }.try_clone_to_owned()
}

fn behind(number: RawFd) -> io::Result<File> {
    // SAFETY: borrowed for this call, which only asks; where it is closed, that is the answer.
    let status = fstat(unsafe { BorrowedFd::borrow_raw(number) }.as_fd())?;
    Ok((status.st_dev, status.st_ino))
}
