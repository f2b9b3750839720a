//! Bytes that wait: in memory while they are few, in an unlinked file when they are many.

use std::{
    fs::File,
    io::{self, Seek, Write},
    os::fd::AsFd,
    path::Path,
};

use nix::{
    fcntl::{OFlag, open},
    sys::stat::Mode,
};

use crate::Body;

/// Makes a file without a name in `directory`; it is gone when its last descriptor closes.
pub(crate) fn unnamed_file(directory: &Path) -> io::Result<File> {
    let flags = OFlag::O_TMPFILE | OFlag::O_RDWR | OFlag::O_CLOEXEC;
    match open(directory, flags, Mode::S_IRUSR | Mode::S_IWUSR) {
        Ok(descriptor) => Ok(File::from(descriptor)),
        Err(error) => Err(io::Error::new(
            io::Error::from(error).kind(),
            format!("could not make a spool file in {}: {}", directory.display(), error.desc()),
        )),
    }
}

/// A queue of bytes: all in memory, or, once they were more than `room`, all in a file.
#[derive(Debug, Default)]
pub(crate) struct Spool {
    memory: Vec<u8>,
    taken: usize,
    file: Option<SpoolFile>,
}

#[derive(Debug)]
struct SpoolFile {
    file: File,
    read: u64,
    written: u64,
}

/// Where the oldest bytes of a [`Spool`] are.
pub(crate) enum Front<'a> {
    Empty,
    Memory(&'a [u8]),
    /// This many bytes of the file from this offset.
    File(std::os::fd::BorrowedFd<'a>, u64, u64),
}

impl Spool {
    /// Appends bytes.
    pub fn push(&mut self, bytes: &[u8], room: usize, directory: &Path) -> io::Result<()> {
        if self.file.is_none() && self.memory.len() - self.taken + bytes.len() <= room {
            self.memory.drain(..self.taken);
            self.taken = 0;
            self.memory.extend_from_slice(bytes);
            return Ok(());
        }
        if self.file.is_none() {
            let mut file = unnamed_file(directory)?;
            file.write_all(&self.memory[self.taken..])?;
            self.file = Some(SpoolFile { file, read: 0, written: self.length() });
            (self.memory, self.taken) = (Vec::new(), 0);
        }
        let spool = self.file.as_mut().expect("made above");
        spool.file.write_all(bytes)?;
        spool.written += bytes.len() as u64;
        Ok(())
    }

    /// How many bytes wait.
    pub fn length(&self) -> u64 {
        (self.memory.len() - self.taken) as u64 + self.file.as_ref().map_or(0, |spool| spool.written - spool.read)
    }

    /// The oldest bytes.
    pub fn front(&self) -> Front<'_> {
        match &self.file {
            Some(spool) => Front::File(spool.file.as_fd(), spool.read, spool.written - spool.read),
            None if self.taken < self.memory.len() => Front::Memory(&self.memory[self.taken..]),
            None => Front::Empty,
        }
    }

    /// Forgets the oldest `count` bytes, which [`Spool::front`] has shown.
    pub fn take(&mut self, count: usize) {
        if let Some(spool) = &mut self.file {
            spool.read += count as u64;
            if spool.read == spool.written {
                self.file = None;
            }
            return;
        }
        self.taken += count;
        if self.taken == self.memory.len() {
            (self.memory, self.taken) = (Vec::new(), 0);
        }
    }

    /// All of it as a request's body.
    pub fn into_body(self) -> io::Result<Body> {
        match self.file {
            Some(SpoolFile { mut file, written, .. }) => {
                file.rewind()?;
                Ok(Body::File(file, written))
            }
            None if self.memory.is_empty() => Ok(Body::Empty),
            None => Ok(Body::Memory(self.memory)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::FileExt;

    #[test]
    fn bytes_come_out_in_the_order_they_went_in() {
        let directory = std::env::temp_dir();
        let mut spool = Spool::default();
        spool.push(b"one ", 8, &directory).unwrap();
        spool.push(b"two and more ", 8, &directory).unwrap();
        spool.push(b"3", 8, &directory).unwrap();
        assert_eq!(spool.length(), 18);
        let mut out = Vec::new();
        loop {
            let piece = match spool.front() {
                Front::Empty => break,
                Front::Memory(bytes) => bytes[..bytes.len().min(3)].to_vec(),
                Front::File(file, offset, left) => {
                    let mut bytes = vec![0; left.min(3) as usize];
                    File::from(file.try_clone_to_owned().unwrap()).read_exact_at(&mut bytes, offset).unwrap();
                    bytes
                }
            };
            spool.take(piece.len());
            out.extend(piece);
        }
        assert_eq!(out, b"one two and more 3");
        assert_eq!(spool.length(), 0);
    }
}
