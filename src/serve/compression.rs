//! Compresses answers of the application (`--compress`): which ones, in which coding, and the compressing itself.

use std::ops::RangeInclusive;

use ostler_http::{
    RequestHead, ResponseHead,
    representation::{
        coded::may_be_coded,
        encodings::{Coding, MADE, accepted},
    },
};
use ostler_wire::CompressionSettings;
use zlib_rs::{DeflateConfig, ReturnCode, compress_bound, compress_slice};

/// What is longer is sent as it is: it would keep its thread, and a second copy of itself, for too long.
const LONGEST: u64 = 16 << 20;
/// Each is the one that makes most of its time: the next takes half as long again for a few percent.
const GZIP_LEVEL: i32 = 2;
const ZSTD_LEVEL: i32 = 3;
/// Asks zlib for a header and a trailer of gzip around the largest window.
const GZIP_WINDOW: i32 = 16 + 15;
/// How much longer these are than zlib's own, for which its bound is.
const GZIP_WRAPPING: usize = 18;

/// Which answers are compressed.
#[derive(Debug)]
pub(crate) struct Compression {
    types: Vec<String>,
    lengths: RangeInclusive<u64>,
}

impl Compression {
    pub fn new(settings: &CompressionSettings) -> Compression {
        Compression { types: settings.types.clone(), lengths: settings.least.max(1)..=LONGEST }
    }

    /// Whether an answer is compressed for clients that take that.
    pub fn admits(&self, head: &ResponseHead, length: u64) -> bool {
        self.lengths.contains(&length) && may_be_coded(head, &self.types)
    }
}

/// The coding that a client wants most.
pub(crate) fn wanted(request: &RequestHead, bytes: &[u8]) -> Option<&'static Coding> {
    accepted(request, bytes, &MADE).next()
}

/// The body in this coding; none where there is no memory for it.
pub(crate) fn compress(coding: &Coding, body: &[u8]) -> Option<Vec<u8>> {
    if coding.name == "zstd" { zstd(body) } else { gzip(body) }
}

fn zstd(body: &[u8]) -> Option<Vec<u8>> {
    let mut made = vec![0; zstd_safe::compress_bound(body.len())];
    let length = zstd_safe::compress(&mut made[..], body, ZSTD_LEVEL).ok()?;
    made.truncate(length);
    Some(made)
}

fn gzip(body: &[u8]) -> Option<Vec<u8>> {
    let mut made = vec![0; compress_bound(body.len()) + GZIP_WRAPPING];
    let config = DeflateConfig { level: GZIP_LEVEL, window_bits: GZIP_WINDOW, ..DeflateConfig::default() };
    let (coded, outcome) = compress_slice(&mut made, body, config);
    let length = coded.len();
    made.truncate(length);
    (outcome == ReturnCode::Ok).then_some(made)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_does_not_become_smaller_fits_nevertheless() {
        let mut state = 17_u64;
        let noise = std::iter::repeat_with(|| {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
            (state >> 33) as u8
        });
        let noise: Vec<u8> = noise.take(1 << 20).collect();
        for length in [0, 1, 2, 100, 16_383, 65_536, 1 << 20] {
            for coding in &MADE {
                let coded = compress(coding, &noise[..length]).expect("there is memory");
                assert!(coded.len() < length + length / 64 + 64, "{coding:?} {length}");
            }
        }
    }
}
