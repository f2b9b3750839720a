//! Seeded numbers for generated tests (SplitMix64); a failing case prints what was generated.

/// A sequence of numbers that look random.
pub struct Random(pub u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    /// From 0 to `bound`, exclusive.
    pub fn below(&mut self, bound: usize) -> usize {
        (self.next() % bound as u64) as usize
    }

    /// True once in `times`.
    pub fn once_in(&mut self, times: usize) -> bool {
        self.below(times) == 0
    }

    /// One of these.
    pub fn pick<'a, T: ?Sized>(&mut self, among: &[&'a T]) -> &'a T {
        among[self.below(among.len())]
    }

    /// Changes a byte, removes one, or puts one in.
    pub fn mutate(&mut self, bytes: &mut Vec<u8>) {
        const TELLING: &[u8] = b"\r\n\t\0\x0b\x7f\x80\xff :;,=\"/?#*%+-_0x1aAg";
        let byte = TELLING[self.below(TELLING.len())];
        let place = self.below(bytes.len() + 1);
        match self.below(3) {
            0 if place < bytes.len() => bytes[place] = byte,
            1 if place < bytes.len() => _ = bytes.remove(place),
            _ => bytes.insert(place, byte),
        }
    }
}
