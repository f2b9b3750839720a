//! Each body is read at once, byte by byte, cut in two anywhere, and with a request behind it; all must agree.

use super::*;
use crate::random::Random;

/// The data, and the bytes behind the body; `None`: incomplete.
type Read = Result<Option<(Vec<u8>, Vec<u8>)>, Refusal>;

/// Reads pieces that come one after the other.
fn read_pieces<'a>(pieces: impl Iterator<Item = &'a [u8]>) -> Read {
    let mut decoder = ChunkedDecoder::default();
    let (mut data, mut behind, mut done) = (Vec::new(), Vec::new(), false);
    for mut piece in pieces {
        while !done && !piece.is_empty() {
            let step = decoder.step(piece)?;
            assert!(step.consumed > 0 && step.data <= step.consumed || step.done, "{step:?}");
            let (taken, rest) = piece.split_at(step.consumed);
            data.extend_from_slice(&taken[taken.len() - step.data..]);
            (piece, done) = (rest, step.done);
        }
        behind.extend_from_slice(piece);
    }
    assert_eq!(decoder.step(b"")?, Decoded { consumed: 0, data: 0, done });
    Ok(done.then_some((data, behind)))
}

fn read(bytes: &[u8]) -> Read {
    let whole = read_pieces([bytes].into_iter());
    assert_eq!(read_pieces(bytes.chunks(1)), whole, "byte by byte: {}", bytes.escape_ascii());
    let half = bytes.len() / 2;
    assert_eq!(read_pieces([&bytes[..half], &bytes[half..]].into_iter()), whole, "halves: {}", bytes.escape_ascii());
    if let Ok(Some((data, behind))) = &whole {
        let next = b"GET / HTTP/1.1\r\n";
        let followed = read_pieces([[bytes, next].concat().as_slice()].into_iter());
        assert_eq!(followed, Ok(Some((data.clone(), [behind.as_slice(), next].concat()))));
    }
    whole
}

fn data(text: &str) -> Result<String, u16> {
    let read = read(text.as_bytes()).map_err(|refusal| refusal.status)?;
    let (data, behind) = read.unwrap_or_else(|| panic!("incomplete: {text:?}"));
    assert_eq!(behind, b"", "{text:?}");
    Ok(String::from_utf8(data).unwrap())
}

#[test]
fn rfc9112_7_1_chunks() {
    for (text, expected) in [
        ("0\r\n\r\n", ""),
        ("5\r\nhello\r\n0\r\n\r\n", "hello"),
        ("5\r\nhello\r\n1\r\n,\r\n6\r\n world\r\n000\r\n\r\n", "hello, world"),
        ("A\r\n0123456789\r\na\r\n0123456789\r\n0\r\n\r\n", "01234567890123456789"),
        ("0000000000000002\r\n\r\n\r\n0\r\n\r\n", "\r\n"),
        ("1;a\r\nx\r\n1;a=b;c=\"d e\"\r\ny\r\n0;\tz\r\n\r\n", "xy"),
        ("1\r\nx\r\n0\r\nX-Checksum: 1\r\nY:\r\n\r\n", "x"),
    ] {
        assert_eq!(data(text).as_deref(), Ok(expected), "{text:?}");
    }
}

#[test]
fn rfc9112_7_1_sizes_that_are_refused() {
    for size in [
        "",
        " 1",
        "1 ",
        "\t1",
        "1\t",
        "+1",
        "-1",
        "0x1",
        "1_0",
        "g",
        "1g",
        "\"1\"",
        "10000000000000000",
        "00000000000000001",
        "\u{661}",
    ] {
        assert_eq!(data(&format!("{size}\r\nx\r\n0\r\n\r\n")), Err(400), "{size:?}");
    }
    for text in [
        "1\nx\r\n0\r\n\r\n",
        "1\rx\r\n0\r\n\r\n",
        "1\r\r\nx\r\n0\r\n\r\n",
        "\r\n1\r\nx\r\n0\r\n\r\n",
        "0\n\r\n",
        "0\r\r\n",
    ] {
        assert_eq!(data(text), Err(400), "{text:?}");
    }
    assert_eq!(read(b"7fffffffffffffff\r\nx"), Ok(None), "63 bits are a size");
    assert_eq!(data("8000000000000000\r\nx"), Err(400), "one more bit is a sign to some");
}

#[test]
fn rfc9112_7_1_data_ends_with_crlf() {
    for text in
        ["1\r\nxy\r\n0\r\n\r\n", "1\r\nx\n0\r\n\r\n", "1\r\nx\r0\r\n\r\n", "1\r\nx0\r\n\r\n", "2\r\nx\r\n0\r\n\r\n"]
    {
        assert_eq!(data(text), Err(400), "{text:?}");
    }
}

#[test]
fn rfc9112_7_1_1_extensions_are_read_by_their_grammar() {
    let with = |extension: &str| data(&format!("1{extension}\r\nx\r\n0{extension}\r\n\r\n"));
    for extension in [
        ";a",
        ";a=b",
        ";a;b=c",
        " ; a = b",
        "\t;\ta\t=\tb \t;c",
        ";a=\"\"",
        ";a=\"x;y=z, \\\"\\\\ \t\u{e9}\"",
        "; a = \"b\" ; c",
        ";!#$%&'*+-.^_`|~=1",
    ] {
        assert_eq!(with(extension).as_deref(), Ok("x"), "{extension:?}");
    }
    for extension in [
        ";",
        ";;",
        ";;a",
        ";a;",
        ";=",
        ";=b",
        ";a=",
        ";a=;b",
        ";a@b",
        ";a=b@c",
        ";a=\"x",
        ";a=\"x\\",
        ";a=\"x\\\"",
        ";a=\"x\"y",
        ";a=\"x\"\"y\"",
        ";a b",
        ";a=b c",
        ";a=b=c",
        ";\"a\"",
        " ",
        " a",
        ";a ",
        ";a=b ",
        ";a=\"b\" ",
        ";a= ",
        "; ",
        ";\u{e9}",
        "=b",
        "\"a\"",
        ",a",
    ] {
        assert_eq!(with(extension), Err(400), "{extension:?}");
    }
}

#[test]
fn rfc9112_7_1_1_extensions_are_bounded_and_hold_no_control_characters() {
    for extension in ["a\nb", "a\rb", "a\0", "a\x7f", "\x0b", "a=\"\n\"", "a=\"\r\n\""] {
        assert_eq!(data(&format!("1;{extension}\r\nx\r\n0\r\n\r\n")), Err(400), "{extension:?}");
    }
    let with = |length: usize| data(&format!("1;{}\r\nx\r\n0\r\n\r\n", "a".repeat(length))).map(|_| ());
    assert_eq!((with(1024), with(1025)), (Ok(()), Err(400)));
    // Signed chunks (64 KiB each) go on for ever; kilobytes of nothing around single bytes do not.
    let signed = format!("{:x};chunk-signature={}\r\n{}\r\n", 1 << 16, "0".repeat(64), "x".repeat(1 << 16));
    assert!(data(&format!("{}0\r\n\r\n", signed.repeat(20))).is_ok());
    let hollow = format!("1;{}\r\nx\r\n", "a".repeat(1000));
    assert_eq!(data(&format!("{}0\r\n\r\n", hollow.repeat(20))), Err(400));
}

#[test]
fn rfc9112_7_1_2_trailers() {
    for line in ["X", ": a", "X : a", " X: a", "X: a\n", "X: \0", "X: a\rb", "X Y: a", "\tX: a", "X: a\r\n folded"] {
        assert_eq!(data(&format!("0\r\n{line}\r\n\r\n")), Err(400), "{line:?}");
    }
    for name in ["Content-Length", "TRANSFER-ENCODING", "host", "Content-Type", "Authorization", "Trailer"] {
        assert_eq!(data(&format!("1\r\nx\r\n0\r\nX: a\r\n{name}: 1\r\n\r\n")).as_deref(), Ok("x"), "{name} is ignored");
    }
    let with = |length: usize| data(&format!("0\r\nX:{}\r\nY:\r\n\r\n", "a".repeat(length))).map(|_| ());
    assert_eq!((with(TRAILER - 4), with(TRAILER - 3)), (Ok(()), Err(431)));
}

#[test]
fn a_body_that_breaks_off_is_never_whole() {
    let text = b"5;a=b\r\nhello\r\n1\r\n,\r\n0\r\nX: y\r\n\r\n";
    for end in 0..text.len() {
        assert_eq!(read(&text[..end]), Ok(None), "{end}");
    }
    assert!(matches!(read(text), Ok(Some(_))));
}

#[test]
fn chunks_are_written_as_they_are_read() {
    for length in [1, 9, 10, 15, 16, 255, 256, 65535, 65536, 1_000_000] {
        let mut out = Vec::new();
        chunk_start(&mut out, length);
        assert_eq!(out, format!("{length:x}\r\n").as_bytes());
        out.extend(vec![b'x'; length]);
        out.extend_from_slice(b"\r\n");
        out.extend_from_slice(LAST_CHUNK);
        assert_eq!(read(&out).unwrap().unwrap().0.len(), length);
    }
}

fn token(c: char) -> bool {
    c.is_ascii_alphanumeric() || "!#$%&'*+-.^_`|~".contains(c)
}

/// Whether a text is `*( BWS ";" BWS name [ BWS "=" BWS ( token / quoted-string ) ] )`.
fn naive_extensions(mut text: &str) -> bool {
    let blank = |c: char| c == ' ' || c == '\t';
    let behind_token = |text| Some(str::trim_start_matches(text, token)).filter(|rest| rest.len() < text.len());
    while !text.is_empty() {
        let Some(rest) = text.trim_start_matches(blank).strip_prefix(';') else { return false };
        let Some(rest) = behind_token(rest.trim_start_matches(blank)) else { return false };
        let value = rest.trim_start_matches(blank).strip_prefix('=').map(|value| value.trim_start_matches(blank));
        let behind = match value {
            None => Some(rest),
            Some(value) => value.strip_prefix('"').map_or(behind_token(value), behind_quotes),
        };
        let Some(behind) = behind else { return false };
        text = behind;
    }
    true
}

fn behind_quotes(text: &str) -> Option<&str> {
    let mut chars = text.char_indices();
    loop {
        match chars.next()? {
            (at, '"') => return Some(&text[at + 1..]),
            (_, '\\') => _ = chars.next()?,
            _ => {}
        }
    }
}

/// A second reading, from the grammar alone, of a body that is all there; `None` refuses or is incomplete.
fn naive(text: &str) -> Option<String> {
    let (line, rest) = text.split_once("\r\n")?;
    let (size, extension) = line.split_at(line.find(|c: char| !c.is_ascii_hexdigit()).unwrap_or(line.len()));
    let clean = |text: &str| text.chars().all(|c| c == '\t' || c >= ' ' && c != '\x7f');
    if size.is_empty() || size.len() > 16 || !naive_extensions(extension) || !clean(extension) {
        return None;
    }
    let size = usize::from_str_radix(size, 16).ok()?;
    if size > 0 {
        let chars: Vec<char> = rest.chars().collect();
        let chunk: String = chars.get(..size)?.iter().collect();
        let rest: String = chars[size..].iter().collect();
        return Some(chunk + &naive(rest.strip_prefix("\r\n")?)?);
    }
    let mut rest = rest;
    loop {
        let line;
        (line, rest) = rest.split_once("\r\n")?;
        if line.is_empty() {
            return Some(String::new());
        }
        let (name, value) = line.split_once(':')?;
        if name.is_empty() || !name.chars().all(token) || !clean(value) {
            return None;
        }
    }
}

#[test]
fn generated_bodies_are_read_as_the_naive_reading_reads_them() {
    let mut random = Random(2);
    let mut accepted = 0;
    for _ in 0..60_000 {
        let mut text = String::new();
        for _ in 0..random.below(4) {
            let content = "x\r\n0;".repeat(random.below(6) + 1);
            let extension = random.pick(&["", "", "", ";a", ";a=\"b\tc\"", " ; a = b;c", ";a=\"\\\"\";b"]);
            text += &format!("{:x}{extension}\r\n{content}\r\n", content.len());
        }
        text += random.pick(&[
            "0\r\n\r\n",
            "0\r\n\r\n",
            "00\r\nX: y\r\n\r\n",
            "0;a\r\nX:\r\nY: \tz\r\n\r\n",
            "0\r\nHost: a\r\n\r\n",
            "0 ;a=\"b\"\r\n\r\n",
        ]);
        let mut bytes = text.into_bytes();
        if !random.once_in(3) {
            random.mutate(&mut bytes);
        }
        let latin1: String = bytes.iter().map(|&byte| char::from(byte)).collect();
        let strict = read(&bytes).ok().flatten().map(|(data, _)| data.iter().map(|&byte| char::from(byte)).collect());
        accepted += u32::from(strict.is_some());
        assert_eq!(strict, naive(&latin1), "{}", bytes.escape_ascii());
    }
    assert!((15_000..45_000).contains(&accepted), "both kinds are generated: {accepted} accepted");
}
