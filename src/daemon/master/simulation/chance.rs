//! Chance that can be repeated.

use std::time::Duration;

/// SplitMix64.
pub struct Chance(pub u64);

impl Chance {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut bits = self.0;
        bits = (bits ^ (bits >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        bits = (bits ^ (bits >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        bits ^ (bits >> 31)
    }

    /// Less than this.
    pub fn below(&mut self, bound: u64) -> u64 {
        self.next() % bound
    }

    /// From 0 to 1, and neither.
    pub fn unit(&mut self) -> f64 {
        ((self.next() >> 11) as f64 + 0.5) / (1u64 << 53) as f64
    }

    /// So many times of a hundred.
    pub fn percent(&mut self, percent: u64) -> bool {
        self.below(100) < percent
    }

    /// Mostly short, now and then longer than any patience.
    pub fn delay(&mut self) -> Duration {
        let milliseconds = match self.below(10) {
            0..6 => self.below(20),
            6..9 => self.below(2_000),
            _ => self.below(30_000),
        };
        Duration::from_millis(milliseconds)
    }
}
