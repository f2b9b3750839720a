//! The record of a request under way.

use std::sync::atomic::{AtomicU32, AtomicU64, Ordering::*, fence};

/// How much of a request line is kept, in bytes; less where the request has an id.
pub const REQUEST_LINE: usize = 224;
/// How much of a request's id is kept, in bytes, behind its line.
pub const REQUEST_ID: usize = 64;
/// How often a reader tries. A writer needs some nanoseconds between the two steps; an application may have left the number odd for ever.
const TRIES: u32 = 100;

/// What one Python thread is doing.
#[repr(C, align(64))]
#[derive(Debug)]
pub struct Activity {
    /// Odd while the line is being written.
    sequence: AtomicU32,
    /// Length of the line in bytes; 0 between requests.
    length: AtomicU32,
    /// When the request was dispatched, in milliseconds of CLOCK_MONOTONIC.
    started: AtomicU64,
    /// The line, and in the last [`REQUEST_ID`] bytes the id if there is one.
    line: [AtomicU64; REQUEST_LINE / 8],
    /// Length of the id in bytes; 0 without one, and in an earlier release's records.
    id_length: AtomicU32,
}

const _: () =
    assert!(size_of::<Activity>() == 256, "records of another size are another format of the upgrade's state");

/// A request under way, as a worker or an application has written it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Underway {
    /// Its first line, as far as that is kept.
    pub line: Vec<u8>,
    /// What it is called.
    pub id: Option<Vec<u8>>,
    /// When it was dispatched, in milliseconds of CLOCK_MONOTONIC.
    pub started: u64,
}

impl Underway {
    /// `GET /path HTTP/1.1`, and the id in brackets behind it.
    pub fn told(&self) -> String {
        match self.id() {
            Some(id) => format!("{} [{id}]", self.line()),
            None => self.line(),
        }
    }

    /// Its line as text.
    pub fn line(&self) -> String {
        String::from_utf8_lossy(&self.line).into_owned()
    }

    /// Its id as text.
    pub fn id(&self) -> Option<String> {
        self.id.as_ref().map(|id| String::from_utf8_lossy(id).into_owned())
    }
}

impl Activity {
    /// Notes that a request begins; `id` is empty if it has none. Both are cut to what is kept of them.
    pub fn begin(&self, line: &[u8], id: &[u8], now: u64) {
        let id = &id[..id.len().min(REQUEST_ID)];
        let room = if id.is_empty() { REQUEST_LINE } else { REQUEST_LINE - REQUEST_ID };
        let line = &line[..line.len().min(room)];
        let sequence = self.sequence.load(Relaxed);
        self.sequence.store(sequence.wrapping_add(1), Relaxed);
        fence(Release);
        self.started.store(now, Relaxed);
        store(&self.line, line);
        if !id.is_empty() {
            store(&self.line[(REQUEST_LINE - REQUEST_ID) / 8..], id);
        }
        self.id_length.store(id.len() as u32, Relaxed);
        self.length.store(line.len() as u32, Relaxed);
        self.sequence.store(sequence.wrapping_add(2), Release);
    }

    /// Notes that the request is over.
    pub fn end(&self) {
        self.length.store(0, Relaxed);
    }

    /// Whether a request is under way.
    pub fn is_underway(&self) -> bool {
        self.length.load(Relaxed) > 0
    }

    /// The request under way; `None` between requests, and if the record changes all the time.
    pub fn current(&self) -> Option<Underway> {
        for _ in 0..TRIES {
            let before = self.sequence.load(Acquire);
            if before % 2 == 1 {
                std::hint::spin_loop();
                continue;
            }
            let length = (self.length.load(Relaxed) as usize).min(REQUEST_LINE);
            if length == 0 {
                return None;
            }
            let id = (self.id_length.load(Relaxed) as usize).min(REQUEST_ID);
            let started = self.started.load(Relaxed);
            let words = std::array::from_fn::<_, { REQUEST_LINE / 8 }, _>(|index| self.line[index].load(Relaxed));
            fence(Acquire);
            if self.sequence.load(Relaxed) == before {
                let bytes = words.map(u64::to_ne_bytes);
                let bytes = bytes.as_flattened();
                let id = (id > 0).then(|| bytes[REQUEST_LINE - REQUEST_ID..][..id].to_vec());
                return Some(Underway { line: bytes[..length].to_vec(), id, started });
            }
        }
        None
    }
}

fn store(words: &[AtomicU64], bytes: &[u8]) {
    let (whole, rest) = bytes.as_chunks::<8>();
    for (word, bytes) in words.iter().zip(whole) {
        word.store(u64::from_ne_bytes(*bytes), Relaxed);
    }
    if let Some(word) = words.get(whole.len()) {
        let mut bytes = [0; 8];
        bytes[..rest.len()].copy_from_slice(rest);
        word.store(u64::from_ne_bytes(bytes), Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::scoreboard::Scoreboard;

    #[test]
    fn a_record_full_of_nonsense_is_read_and_one_that_is_being_written_is_not() {
        let board = Scoreboard::new(1, 1).unwrap();
        let activity = board.activity(0, 0);
        activity.begin(b"GET /whole HTTP/1.1", b"7", 7);
        activity.sequence.fetch_add(1, Relaxed);
        assert_eq!(activity.current(), None, "it is odd for good");
        activity.sequence.fetch_add(1, Relaxed);
        activity.length.store(u32::MAX, Relaxed);
        activity.id_length.store(u32::MAX, Relaxed);
        activity.started.store(u64::MAX, Relaxed);
        let Underway { line, id, started } = activity.current().unwrap();
        assert_eq!((line.len(), id.map(|id| id.len()), started), (REQUEST_LINE, Some(REQUEST_ID), u64::MAX));
    }
}
