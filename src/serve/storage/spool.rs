//! Bytes that wait: in memory while they are few, in an unlinked file when they are many.

use std::{
    collections::VecDeque,
    os::fd::{AsFd, BorrowedFd},
    sync::Arc,
};

use super::{
    body::{Body, BodyBytes},
    budget::Room,
    store::{Shortage, SpoolFile, Store},
};

/// Bytes are written to the file in blocks of about this size, so that a client that sends them one by one costs few system calls.
pub(crate) const BLOCK: usize = 64 * 1024;

/// A queue of bytes: all in memory, or, once there were more than `room`, the older ones in one or more files.
///
/// Nothing in a file is overwritten: sendfile(2) does not copy, so the kernel may still send from the file's pages.
#[derive(Debug)]
pub(crate) struct Spool {
    /// The newest bytes, from `taken` on.
    memory: Vec<u8>,
    taken: usize,
    /// The oldest first.
    files: VecDeque<Segment>,
    /// The most bytes that wait in files.
    most: u64,
    /// The length at which another file is begun.
    segment: u64,
}

#[derive(Debug)]
struct Segment {
    file: SpoolFile,
    read: u64,
    written: u64,
}

/// Where the oldest bytes of a [`Spool`] are.
pub(crate) enum Front<'a> {
    Empty,
    Memory(&'a [u8]),
    /// This many bytes of the file from this offset.
    File(BorrowedFd<'a>, u64, u64),
}

impl Default for Spool {
    fn default() -> Self {
        Spool::new(u64::MAX, u64::MAX)
    }
}

impl Spool {
    /// No more bytes than `most` wait in files, and each of those is about as long as `segment`.
    pub fn new(most: u64, segment: u64) -> Spool {
        Spool { memory: Vec::new(), taken: 0, files: VecDeque::new(), most, segment }
    }

    /// Appends bytes: all of them or, with an error, none.
    pub fn push(&mut self, bytes: &[u8], room: usize, store: &Arc<Store>) -> Result<(), Shortage> {
        let room = if self.files.is_empty() { room } else { BLOCK };
        if self.memory.len() - self.taken + bytes.len() > room {
            self.flush(bytes.len(), store)?;
            if bytes.len() > BLOCK {
                return self.write(bytes);
            }
        }
        self.keep(bytes);
        Ok(())
    }

    /// Appends bytes in memory, whatever the limits are.
    pub fn keep(&mut self, bytes: &[u8]) {
        self.memory.drain(..self.taken);
        self.taken = 0;
        self.memory.extend_from_slice(bytes);
    }

    /// Allocates memory for exactly that many bytes in all.
    pub fn reserve(&mut self, bytes: usize) {
        self.memory.reserve_exact(bytes.saturating_sub(self.memory.len()));
    }

    /// How many more bytes fit in memory.
    pub fn left_in_memory(&self, room: usize) -> usize {
        if self.files.is_empty() { room.saturating_sub(self.memory.len()) } else { usize::MAX }
    }

    /// Moves the bytes in memory to a file, if there is room for them and `more` there.
    fn flush(&mut self, more: usize, store: &Arc<Store>) -> Result<(), Shortage> {
        if self.length() + more as u64 > self.most {
            return Err(Shortage::Client);
        }
        if self.files.back().is_none_or(|last| last.written >= self.segment) {
            self.files.push_back(Segment { file: store.make()?, read: 0, written: 0 });
        }
        let memory = std::mem::take(&mut self.memory);
        let written = self.write(&memory[self.taken..]);
        self.memory = memory;
        written?;
        self.memory.clear();
        self.memory.shrink_to(BLOCK);
        self.taken = 0;
        Ok(())
    }

    fn write(&mut self, bytes: &[u8]) -> Result<(), Shortage> {
        let last = self.files.back_mut().expect("made by flush");
        last.file.write(bytes, last.written)?;
        last.written += bytes.len() as u64;
        Ok(())
    }

    /// How many bytes wait.
    pub fn length(&self) -> u64 {
        let in_files: u64 = self.files.iter().map(|segment| segment.written - segment.read).sum();
        (self.memory.len() - self.taken) as u64 + in_files
    }

    /// The oldest bytes.
    pub fn front(&self) -> Front<'_> {
        match self.files.front() {
            Some(first) if first.read < first.written => {
                Front::File(first.file.file().as_fd(), first.read, first.written - first.read)
            }
            _ if self.taken < self.memory.len() => Front::Memory(&self.memory[self.taken..]),
            _ => Front::Empty,
        }
    }

    /// Forgets the oldest `count` bytes, which [`Spool::front`] has shown.
    pub fn take(&mut self, count: usize) {
        if let Some(first) = self.files.front_mut().filter(|first| first.read < first.written) {
            first.read += count as u64;
            if first.read == first.written {
                self.files.pop_front();
            }
            return;
        }
        self.taken += count;
        if self.taken == self.memory.len() {
            (self.memory, self.taken) = (Vec::new(), 0);
        }
    }

    /// Turns it into a request's body, with the room that it has taken in memory.
    pub fn into_body(mut self, room: Option<Room>, store: &Arc<Store>) -> Result<Body, Shortage> {
        if !self.files.is_empty() {
            self.flush(0, store)?;
        }
        match self.files.pop_front() {
            Some(only) => Ok(Body::File(only.file, only.written)),
            None if self.memory.is_empty() => Ok(Body::Empty),
            None => Ok(Body::Memory(BodyBytes::new(self.memory, room))),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::{fs::File, os::unix::fs::FileExt};

    fn store() -> Arc<Store> {
        Arc::new(Store::new(&std::env::temp_dir(), 0, 0).unwrap())
    }

    fn taken(spool: &mut Spool, most: usize) -> Vec<u8> {
        let piece = match spool.front() {
            Front::Empty => Vec::new(),
            Front::Memory(bytes) => bytes[..bytes.len().min(most)].to_vec(),
            Front::File(file, offset, left) => {
                let mut bytes = vec![0; left.min(most as u64) as usize];
                File::from(file.try_clone_to_owned().unwrap()).read_exact_at(&mut bytes, offset).unwrap();
                bytes
            }
        };
        spool.take(piece.len());
        piece
    }

    #[test]
    fn bytes_come_out_in_the_order_they_went_in() {
        let mut spool = Spool::new(300_000, 70_000);
        let (mut next_in, mut next_out) = (0u32, 0u32);
        let store = store();
        for round in 0..200 {
            let numbers = [1, 100, 20_000, 40_000][round % 4];
            let bytes: Vec<u8> = (0..numbers).map(|number| ((next_in + number) % 251) as u8).collect();
            match spool.push(&bytes, 1000, &store) {
                Ok(()) => next_in += numbers,
                Err(Shortage::Client) => {}
                Err(other) => panic!("{other}"),
            }
            assert_eq!(spool.length(), u64::from(next_in - next_out));
            for _ in 0..round % 3 {
                for byte in taken(&mut spool, 30_000) {
                    assert_eq!(byte, (next_out % 251) as u8);
                    next_out += 1;
                }
            }
        }
        while spool.length() > 0 {
            for byte in taken(&mut spool, usize::MAX) {
                assert_eq!(byte, (next_out % 251) as u8);
                next_out += 1;
            }
        }
        assert_eq!(next_out, next_in);
        assert!(next_in > 1_000_000);
    }

    #[test]
    fn small_pieces_go_to_the_file_together() {
        let (mut spool, store) = (Spool::default(), store());
        for _ in 0..100_000 {
            spool.push(b"x", 10, &store).unwrap();
        }
        assert_eq!(spool.files[0].written, 10 + BLOCK as u64);
        let Ok(Body::File(_, length)) = spool.into_body(None, &store) else { panic!("it is in a file") };
        assert_eq!(length, 100_000);
    }
}
