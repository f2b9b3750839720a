//! Which bytes may stand where: the grammar's character classes, and how lines end. All else is built on these.

use crate::Refusal;

/// A character of a token (RFC 9110 §5.6.2).
pub const TOKEN: u8 = 1;
/// A character of a token but the underscore: a name made of these maps to one CGI variable and back.
pub const PLAIN: u8 = 2;
/// A character of a request target: visible ASCII but `#`. Wider than RFC 3986, because browsers send `|`, `[`, `]`, `^` and the like as
/// they are; a fragment is never sent, and servers would read what follows a `#` in different ways.
pub const TARGET: u8 = 4;
/// A character of a registered name: unreserved or sub-delims (RFC 3986 §3.2.2), without the `%` of escapes.
pub const HOST: u8 = 8;

static CLASSES: [u8; 256] = classes();

const fn classes() -> [u8; 256] {
    let mut table = [0; 256];
    let mut byte = 0x21;
    while byte < 0x7f {
        let c = byte as u8;
        table[byte] = (TOKEN * is_token(c) as u8)
            | (PLAIN * (is_token(c) && c != b'_') as u8)
            | (TARGET * (c != b'#') as u8)
            | (HOST * is_host(c) as u8);
        byte += 1;
    }
    table
}

const fn is_token(byte: u8) -> bool {
    byte.is_ascii_alphanumeric()
        || matches!(
            byte,
            b'!' | b'#' | b'$' | b'%' | b'&' | b'\'' | b'*' | b'+' | b'-' | b'.' | b'^' | b'_' | b'`' | b'|' | b'~'
        )
}

const fn is_host(byte: u8) -> bool {
    byte.is_ascii_alphanumeric()
        || matches!(
            byte,
            b'-' | b'.' | b'_' | b'~' | b'!' | b'$' | b'&' | b'\'' | b'(' | b')' | b'*' | b'+' | b',' | b';' | b'='
        )
}

/// The classes of a byte.
#[inline]
pub fn class(byte: u8) -> u8 {
    CLASSES[byte as usize]
}

/// How many bytes at the beginning are of the class.
#[inline]
pub fn run(bytes: &[u8], of: u8) -> usize {
    bytes.iter().position(|&byte| class(byte) & of == 0).unwrap_or(bytes.len())
}

/// How many bytes at the beginning are of a token, and the classes that all of these have.
#[inline]
pub fn token(bytes: &[u8]) -> (usize, u8) {
    let mut classes = u8::MAX;
    for (at, &byte) in bytes.iter().enumerate() {
        if class(byte) & TOKEN == 0 {
            return (at, classes);
        }
        classes &= class(byte);
    }
    (bytes.len(), classes)
}

/// Whether it is a token: one character or more.
#[inline]
pub fn is_token_text(bytes: &[u8]) -> bool {
    !bytes.is_empty() && bytes.iter().fold(TOKEN, |classes, &byte| classes & class(byte)) != 0
}

/// Whether a token is this name, which is in lower case; names compare without case. Setting the bit 0x20 turns a token's
/// capitals into small letters, leaves a hyphen as it is, and makes no letter or hyphen of another character of a token.
#[inline]
pub fn is_name<const N: usize>(token: &[u8], name: &[u8; N]) -> bool {
    let differences =
        |token: &[u8; N]| token.iter().zip(name).fold(0, |all, (byte, small)| all | ((byte | 0x20) ^ small));
    token.try_into().is_ok_and(|token| differences(token) == 0)
}

/// Whether it may be a field's value: no control character but the horizontal tab (RFC 9110 §5.5).
#[inline]
pub fn is_field_value(bytes: &[u8]) -> bool {
    let mut at = 0;
    loop {
        at = control(bytes, at);
        match bytes.get(at) {
            None => return true,
            Some(b'\t') => at += 1,
            Some(_) => return false,
        }
    }
}

/// Offset of the first control character (0 to 31, 127) from `at` on, or the length. Reads eight bytes at a time.
#[inline]
fn control(bytes: &[u8], at: usize) -> usize {
    const ONES: u64 = u64::MAX / 255;
    let (words, rest) = bytes[at..].as_chunks::<8>();
    for (place, eight) in words.iter().enumerate() {
        let word = u64::from_le_bytes(*eight);
        let delete = word ^ (ONES * 0x7f);
        // The classic test for bytes below a bound; the borrow can only mark bytes above the first one found.
        let low = word.wrapping_sub(ONES * 0x20) & !word;
        let found = (low | (delete.wrapping_sub(ONES) & !delete)) & (ONES * 0x80);
        if found != 0 {
            return at + 8 * place + (found.trailing_zeros() / 8) as usize;
        }
    }
    let behind = rest.iter().position(u8::is_ascii_control).unwrap_or(rest.len());
    bytes.len() - rest.len() + behind
}

/// What is known of a line's end.
pub enum LineEnd {
    /// Its CRLF is at this offset.
    EndsAt(usize),
    /// There is no end yet; nothing before this offset needs to be looked at again.
    Open(usize),
    /// It is longer than its limit, without its CRLF.
    TooLong,
}

/// Looks for the end of the line that begins at `start`, from `seen` on. A line ends with CRLF; it holds no other control character than
/// the horizontal tab (RFC 9112 §2.2: a bare CR is refused, and so is a bare LF). A verdict depends only on the bytes up to the place that
/// it is about, so it is the same however the bytes arrive.
#[inline]
pub fn line(input: &[u8], start: usize, seen: usize, limit: usize) -> Result<LineEnd, Refusal> {
    let mut at = seen;
    loop {
        at = control(input, at);
        let length = at - start;
        match &input[at..] {
            _ if length > limit => return Ok(LineEnd::TooLong),
            [b'\r', b'\n', ..] => return Ok(LineEnd::EndsAt(at)),
            [] | [b'\r'] => return Ok(LineEnd::Open(at)),
            [b'\t', ..] => at += 1,
            [b'\r', ..] => return Err(Refusal::malformed("bare CR")),
            [b'\n', ..] => return Err(Refusal::malformed("bare LF")),
            _ => return Err(Refusal::malformed("control character")),
        }
    }
}

/// Without white space (space, horizontal tab) at either end.
#[inline]
pub fn trim(bytes: &[u8]) -> &[u8] {
    trim_end(trim_start(bytes))
}

/// Without white space at the beginning.
#[inline]
pub fn trim_start(mut bytes: &[u8]) -> &[u8] {
    while let [b' ' | b'\t', rest @ ..] = bytes {
        bytes = rest;
    }
    bytes
}

/// Without white space at the end.
#[inline]
pub fn trim_end(mut bytes: &[u8]) -> &[u8] {
    while let [rest @ .., b' ' | b'\t'] = bytes {
        bytes = rest;
    }
    bytes
}

/// Whether a name becomes the CGI variable of another, which is in lower case, has hyphens only, and is as long.
pub fn is_same_variable(name: &[u8], plain: &[u8]) -> bool {
    name.iter().zip(plain).all(|(&a, &b)| a.eq_ignore_ascii_case(&b) || (a == b'_' && b == b'-'))
}

/// A number in decimal digits and nothing else; `None` if it is anything else or does not fit.
pub fn decimal(bytes: &[u8]) -> Option<u64> {
    if bytes.is_empty() {
        return None;
    }
    bytes.iter().try_fold(0u64, |number, &byte| {
        let digit = byte.is_ascii_digit().then(|| u64::from(byte - b'0'))?;
        number.checked_mul(10)?.checked_add(digit)
    })
}

/// `0.5` and the like, up to three decimals (RFC 9110 §12.4.2).
pub fn thousandths(text: &[u8]) -> Option<u16> {
    let (whole, decimals) = match text {
        [whole @ (b'0' | b'1')] => (*whole, &[][..]),
        [whole @ (b'0' | b'1'), b'.', decimals @ ..] if decimals.len() <= 3 => (*whole, decimals),
        _ => return None,
    };
    let mut value = u16::from(whole - b'0');
    for place in 0..3 {
        let digit = *decimals.get(place).unwrap_or(&b'0');
        value = value * 10 + digit.is_ascii_digit().then(|| u16::from(digit - b'0'))?;
    }
    (value <= 1000).then_some(value)
}

/// The value of a hexadecimal digit. From a table: digits and letters are mixed, and the processor would often mispredict branches on them.
#[inline]
pub fn hexadecimal(byte: u8) -> Option<u8> {
    let value = HEXADECIMAL[byte as usize];
    (value < 16).then_some(value)
}

static HEXADECIMAL: [u8; 256] = hexadecimal_values();

const fn hexadecimal_values() -> [u8; 256] {
    let (mut table, mut value) = ([u8::MAX; 256], 0);
    while value < 16 {
        table[b"0123456789abcdef"[value] as usize] = value as u8;
        table[b"0123456789ABCDEF"[value] as usize] = value as u8;
        value += 1;
    }
    table
}

/// A port: one to five digits, at most 65535.
pub fn port(bytes: &[u8]) -> Option<u16> {
    if bytes.len() > 5 {
        return None;
    }
    u16::try_from(decimal(bytes)?).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_control_character_is_found_at_each_place_whatever_stands_before_it() {
        for length in 0..40 {
            for filler in [0x20, 0x21, 0x7e, 0x80, 0xff, 0x9f] {
                let clean = vec![filler; length];
                assert_eq!(control(&clean, 0), length);
                for (place, sign) in (0..length).flat_map(|place| [0, 9, 13, 0x1f, 0x7f].map(|sign| (place, sign))) {
                    let mut marked = clean.clone();
                    marked[place] = sign;
                    marked[length - 1] = if place == length - 1 { sign } else { 0x7f };
                    assert_eq!(control(&marked, 0), place, "{marked:?}");
                }
            }
        }
    }

    #[test]
    fn a_token_is_a_name_in_any_case_and_no_other_token_is() {
        let tokens = (0..=255).filter(|&byte| is_token_text(&[byte]));
        let names = || (b'a'..=b'z').chain(b'0'..=b'9').chain([b'-']);
        for (byte, small) in tokens.flat_map(|byte| names().map(move |small| (byte, small))) {
            assert_eq!(is_name(&[byte], &[small]), byte.eq_ignore_ascii_case(&small), "{byte:#x} {small:#x}");
        }
        assert!(!is_name(b"hos", b"host") && !is_name(b"hosts", b"host"));
    }

    #[test]
    fn a_decimal_number_is_digits_alone() {
        assert_eq!(decimal(b"18446744073709551615"), Some(u64::MAX));
        assert_eq!(decimal(b"007"), Some(7));
        for other in ["", "+1", "-1", "1_0", " 1", "1 ", "0x1", "1.0", "18446744073709551616", "\u{661}"] {
            assert_eq!(decimal(other.as_bytes()), None, "{other}");
        }
        assert_eq!(port(b"65535"), Some(65535));
        assert_eq!(port(b"65536"), None);
        assert_eq!(port(b"000080"), None);
    }
}
