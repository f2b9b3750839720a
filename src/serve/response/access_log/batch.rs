//! Lines that wait to be written together.

/// How long a text may be that is copied in one go.
const SHORT: usize = 32;
/// So many bytes are looked at at once.
const BLOCK: usize = 16;

/// Bytes in a room that is larger than they are. A line is made of some thirty pieces of a few bytes each: where there is room behind a
/// piece, a copy of a fixed length is a few instructions, and one of the piece's own length is a call.
#[derive(Default)]
pub struct Batch {
    room: Vec<u8>,
    filled: usize,
}

/// A text of at most [`SHORT`] bytes that is appended again and again.
#[derive(Clone, Copy, Default)]
pub struct Short {
    bytes: [u8; SHORT],
    length: u8,
}

impl Short {
    /// A text, in as many parts as it takes.
    pub fn parts(text: &str) -> impl Iterator<Item = Short> {
        text.as_bytes().chunks(SHORT).map(|part| {
            let mut short = Short { length: part.len() as u8, ..Short::default() };
            short.bytes[..part.len()].copy_from_slice(part);
            short
        })
    }
}

impl Batch {
    /// What is there.
    pub fn bytes(&self) -> &[u8] {
        &self.room[..self.filled]
    }

    pub fn len(&self) -> usize {
        self.filled
    }

    pub fn truncate(&mut self, length: usize) {
        self.filled = self.filled.min(length);
    }

    /// Takes away what was written.
    pub fn remove_first(&mut self, length: usize) {
        self.room.copy_within(length..self.filled, 0);
        self.filled -= length;
    }

    /// Gives back memory beyond `length` bytes.
    pub fn shrink_to(&mut self, length: usize) {
        self.room.truncate(length.max(self.filled));
        self.room.shrink_to_fit();
    }

    #[inline]
    pub fn push(&mut self, byte: u8) {
        self.extend(&[byte]);
    }

    #[inline]
    pub fn extend(&mut self, bytes: &[u8]) {
        self.free(bytes.len())[..bytes.len()].copy_from_slice(bytes);
        self.filled += bytes.len();
    }

    #[inline]
    pub fn extend_short(&mut self, short: &Short) {
        self.free(SHORT)[..SHORT].copy_from_slice(&short.bytes);
        self.filled += usize::from(short.length);
    }

    pub fn extend_number(&mut self, number: u64) {
        match number {
            0..10 => self.push(b'0' + number as u8),
            _ => self.extend(itoa::Buffer::new().format(number).as_bytes()),
        }
    }

    /// Appends the bytes between double quotes, if they are what JSON needs no escapes for. Otherwise appends nothing, and says so.
    #[inline]
    pub fn extend_quoted(&mut self, bytes: &[u8]) -> bool {
        let end = 1 + bytes.len();
        let free = self.free(end + BLOCK);
        free[0] = b'"';
        free[1..end].copy_from_slice(bytes);
        // What is looked at behind the last byte is plain.
        free[end..end + BLOCK].fill(b' ');
        let (blocks, _) = free[1..=bytes.len().next_multiple_of(BLOCK)].as_chunks::<BLOCK>();
        let is_plain =
            blocks.iter().fold(true, |all, block| all & block.iter().fold(true, |all, byte| all & plain(*byte)));
        free[end] = b'"';
        if is_plain {
            self.filled += end + 1;
        }
        is_plain
    }

    /// Where the next bytes go: more than `length` of them.
    #[inline]
    pub fn free(&mut self, length: usize) -> &mut [u8] {
        if self.room.len() - self.filled <= length {
            self.grow(length);
        }
        &mut self.room[self.filled..]
    }

    /// So many of the free bytes are filled now.
    #[inline]
    pub fn fill(&mut self, length: usize) {
        self.filled = self.room.len().min(self.filled + length);
    }

    #[cold]
    fn grow(&mut self, length: usize) {
        let needed = self.filled + length + 1;
        self.room.resize(needed.next_multiple_of(4096).max(2 * self.room.len()), 0);
    }
}

/// Without branches, so that many bytes are looked at at once.
fn plain(byte: u8) -> bool {
    (byte.wrapping_sub(b' ') <= b'~' - b' ') & (byte != b'"') & (byte != b'\\')
}
