//! Limits hold exactly, and what comes in many pieces costs no more than its bytes.

use super::*;

#[test]
fn limits_hold_exactly() {
    let limits = Limits { line: 20, fields: 3, field: 16, head: 80 };
    let status = |text: &str| read_within(text.as_bytes(), &limits).map(|seen| seen.is_some()).map_err(|r| r.status);
    let line = |length: usize| format!("GET /{} HTTP/1.0", "a".repeat(length - 14));
    assert_eq!(status(&format!("{}\r\n\r\n", line(20))), Ok(true));
    assert_eq!(status(&format!("{}\r\n\r\n", line(21))), Err(414));
    assert_eq!(status(&"a".repeat(20)), Ok(false));
    assert_eq!(status(&"a".repeat(21)), Err(414), "before its end has come");
    assert_eq!(status(&format!("{}\r", "a".repeat(20))), Ok(false), "the line's end does not count");

    let field = |length: usize| format!("X: {}\r\n", "a".repeat(length - 3));
    let fields = |fields: &[String]| status(&format!("{}\r\n{}\r\n", line(20), fields.concat()));
    assert_eq!(fields(&[field(16)]), Ok(true));
    assert_eq!(fields(&[field(17)]), Err(431));
    assert_eq!(status(&format!("{}\r\nX: {}", line(20), "a".repeat(14))), Err(431), "before its end has come");
    assert_eq!(fields(&vec![field(5); 3]), Ok(true));
    assert_eq!(fields(&vec![field(5); 4]), Err(431));

    assert_eq!(fields(&[field(16), field(16), field(16)]), Ok(true), "22 + 3 * 18 + 2 is 78");
    let limits = Limits { head: 78, ..limits };
    let status = |text: &str| read_within(text.as_bytes(), &limits).map(|seen| seen.is_some()).map_err(|r| r.status);
    let whole = format!("{}\r\n{}\r\n", line(20), field(16).repeat(3));
    assert_eq!(status(&whole), Ok(true));
    assert_eq!(status(&whole[..77]), Ok(false));
    let limits = Limits { head: 77, ..limits };
    assert_eq!(read_within(whole.as_bytes(), &limits).unwrap_err().status, 431);
    let limits = Limits { head: 10, ..limits };
    assert_eq!(read_within(whole.as_bytes(), &limits).unwrap_err().status, 414);
}

#[test]
fn without_limits_a_head_may_be_long() {
    let none = Limits { line: 0, fields: 0, field: 0, head: 0 };
    let text = format!(
        "GET /{0} HTTP/1.1\r\nHost: a\r\n{1}\r\n",
        "a".repeat(5000),
        format!("X: {}\r\n", "b".repeat(50)).repeat(300)
    );
    assert_eq!(read_within(text.as_bytes(), &none).unwrap().unwrap().fields.len(), 301);
}

/// A line that comes byte by byte must not be read again from its beginning each time: sixteen megabytes would take hours.
#[test]
fn the_cost_of_bytes_that_come_one_by_one_grows_with_their_number() {
    let none = Limits { line: 0, fields: 0, field: 0, head: 0 };
    let text = format!("GET / HTTP/1.1\r\nHost: a\r\nX:{}", "\t".repeat(1 << 24));
    let mut head = RequestHead::default();
    let mut reader = RequestReader::default();
    for end in 0..text.len() {
        assert_eq!(reader.read(&mut head, &text.as_bytes()[..end], &none), Ok(Parse::Partial));
    }
}
