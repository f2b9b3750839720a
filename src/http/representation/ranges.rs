//! Ranges of bytes (RFC 9110 §14.1.2): one is sent alone; several are the whole, which any server may send instead.

use std::ops::Range;

use crate::{
    RequestHead,
    syntax::{decimal, trim},
};

/// Which part of a representation is asked for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Part {
    /// All of it: nothing else is asked for, or it is not a single range.
    Whole,
    /// These bytes, of which there is at least one.
    Bytes(Range<u64>),
    /// 416: it begins behind the end.
    Unsatisfiable,
}

/// The part that a request asks for of a representation with `length` bytes. What cannot be read is ignored (RFC 9110 §14.2).
pub fn part(head: &RequestHead, bytes: &[u8], length: u64) -> Part {
    let mut lines = head.values(bytes, b"range");
    match (lines.next(), lines.next()) {
        (Some(line), None) => single(line, length).unwrap_or(Part::Whole),
        _ => Part::Whole,
    }
}

fn single(line: &[u8], length: u64) -> Option<Part> {
    let (unit, set) = line.split_at_checked(6)?;
    if !unit.eq_ignore_ascii_case(b"bytes=") {
        return None;
    }
    let mut ends = trim(set).splitn(2, |&byte| byte == b'-');
    match (ends.next()?, ends.next()?) {
        (b"", b"") => None,
        (b"", suffix) => Some(match position(suffix)?.min(length) {
            // Of an empty file, its last bytes are the whole.
            0 if length == 0 => Part::Whole,
            0 => Part::Unsatisfiable,
            suffix => Part::Bytes(length - suffix..length),
        }),
        (first, last) => {
            let first = position(first)?;
            let last = if last.is_empty() { u64::MAX } else { position(last)? };
            match first {
                _ if first > last => None,
                _ if first >= length => Some(Part::Unsatisfiable),
                _ => Some(Part::Bytes(first..last.saturating_add(1).min(length))),
            }
        }
    }
}

/// A number of digits, of any size; the largest of ours stands for those that are larger.
fn position(digits: &[u8]) -> Option<u64> {
    let are_digits = !digits.is_empty() && digits.iter().all(u8::is_ascii_digit);
    are_digits.then(|| decimal(digits).unwrap_or(u64::MAX))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rfc9110_14_1_2_a_range_is_cut_to_what_there_is() {
        for (line, length, part) in [
            ("bytes=0-0", 10, Part::Bytes(0..1)),
            ("bytes=0-9", 10, Part::Bytes(0..10)),
            ("Bytes=3-", 10, Part::Bytes(3..10)),
            ("bytes=3-99999999999999999999999", 10, Part::Bytes(3..10)),
            ("bytes=-3", 10, Part::Bytes(7..10)),
            ("bytes=-30", 10, Part::Bytes(0..10)),
            ("bytes=9-9", 10, Part::Bytes(9..10)),
            ("bytes=10-", 10, Part::Unsatisfiable),
            ("bytes=99999999999999999999999-", 10, Part::Unsatisfiable),
            ("bytes=-0", 10, Part::Unsatisfiable),
            ("bytes=0-", 0, Part::Unsatisfiable),
            ("bytes=-5", 0, Part::Whole),
            ("bytes=5-4", 10, Part::Whole),
            ("bytes=0-1,3-4", 10, Part::Whole),
            ("bytes=0-1, 50-60", 10, Part::Whole),
            ("bytes=", 10, Part::Whole),
            ("bytes=-", 10, Part::Whole),
            ("bytes=a-b", 10, Part::Whole),
            ("bytes=+1-2", 10, Part::Whole),
            ("bytes=1", 10, Part::Whole),
            ("bytes", 10, Part::Whole),
            ("items=0-1", 10, Part::Whole),
            ("", 10, Part::Whole),
        ] {
            assert_eq!(single(line.as_bytes(), length).unwrap_or(Part::Whole), part, "{line} of {length}");
        }
    }

    #[test]
    fn no_range_reaches_beyond_its_file_nor_is_empty() {
        let numbers = ["", "0", "1", "4", "5", "6", "18446744073709551615", "18446744073709551616"];
        for (first, last) in numbers.iter().flat_map(|first| numbers.iter().map(move |last| (first, last))) {
            for length in [0, 1, 5, u64::MAX] {
                if let Some(Part::Bytes(bytes)) = single(format!("bytes={first}-{last}").as_bytes(), length) {
                    assert!(bytes.start < bytes.end && bytes.end <= length, "{first}-{last} of {length}: {bytes:?}");
                }
            }
        }
    }
}
