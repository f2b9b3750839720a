//! Content codings by Accept-Encoding (RFC 9110 §12.5.3).

use crate::{
    RequestHead,
    syntax::{thousandths, trim},
};

/// A coding in which a representation may be sent.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Coding {
    /// As in Content-Encoding.
    pub name: &'static str,
    /// What its file's name ends with.
    pub suffix: &'static str,
}

const BROTLI: Coding = Coding { name: "br", suffix: ".br" };
const ZSTD: Coding = Coding { name: "zstd", suffix: ".zst" };
const GZIP: Coding = Coding { name: "gzip", suffix: ".gz" };

/// Those in which a file may lie beside itself; where a client wants two equally, the first counts: it is mostly the smallest.
pub static STORED: [Coding; 3] = [BROTLI, ZSTD, GZIP];
/// Those that can be made while a client waits; the first is the quickest.
pub static MADE: [Coding; 2] = [ZSTD, GZIP];

/// Which of these codings a request takes, the one that it wants most first. Those that it wants less than the representation as it is
/// are left out.
pub fn accepted<const N: usize>(
    head: &RequestHead,
    bytes: &[u8],
    codings: &'static [Coding; N],
) -> impl Iterator<Item = &'static Coding> {
    let plain = quality(head, bytes, b"identity").unwrap_or(0);
    let mut wanted = [(0, None); N];
    for (place, coding) in wanted.iter_mut().zip(codings) {
        let quality = quality(head, bytes, coding.name.as_bytes()).unwrap_or(0);
        *place = (quality, (quality > 0 && quality >= plain).then_some(coding));
    }
    wanted.sort_by_key(|(quality, _)| std::cmp::Reverse(*quality));
    wanted.into_iter().filter_map(|(_, coding)| coding)
}

/// What the request gives to a coding, in thousandths: by its name, or else by `*`.
fn quality(head: &RequestHead, bytes: &[u8], coding: &[u8]) -> Option<u16> {
    let mut any = None;
    for member in members(head, bytes, b"accept-encoding") {
        let mut parts = member.split(|&byte| byte == b';').map(trim);
        let name = parts.next().unwrap_or_default();
        let weight = parts.find_map(|part| part.strip_prefix(b"q=").or(part.strip_prefix(b"Q=")));
        let quality = weight.map_or(Some(1000), thousandths).unwrap_or(0);
        match name {
            b"*" => any = Some(quality),
            _ if is_coding(name, coding) => return Some(quality),
            _ => {}
        }
    }
    // `*` is not meant to prefer the file as it is.
    any.filter(|_| coding != b"identity")
}

/// `x-gzip` is gzip (RFC 9110 §8.4.1.3).
fn is_coding(name: &[u8], coding: &[u8]) -> bool {
    name.eq_ignore_ascii_case(coding) || (coding == b"gzip" && name.eq_ignore_ascii_case(b"x-gzip"))
}

/// The members of a list that may be spread over several fields of this name (RFC 9110 §5.6.1).
pub(super) fn members<'a>(head: &'a RequestHead, bytes: &'a [u8], name: &'a [u8]) -> impl Iterator<Item = &'a [u8]> {
    let lists = head.values(bytes, name).flat_map(|line| line.split(|&byte| byte == b','));
    lists.map(trim).filter(|member| !member.is_empty())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::h1::{Limits, RequestReader};

    fn of(fields: &[&str]) -> String {
        let fields: String = fields.iter().map(|value| format!("Accept-Encoding: {value}\r\n")).collect();
        let bytes = format!("GET / HTTP/1.1\r\nHost: a\r\n{fields}\r\n");
        let limits = Limits { line: 0, fields: 0, field: 0, head: 1 << 16 };
        let mut head = RequestHead::default();
        RequestReader::default().read(&mut head, bytes.as_bytes(), &limits).expect("it is a request");
        accepted(&head, bytes.as_bytes(), &STORED).map(|coding| coding.name).collect::<Vec<_>>().join(" ")
    }

    #[test]
    fn rfc9110_12_5_3_codings_come_in_the_order_of_their_weights() {
        for (fields, codings) in [
            (&[][..], ""),
            (&[""], ""),
            (&["gzip"], "gzip"),
            (&["gzip, deflate, br, zstd"], "br zstd gzip"),
            (&["gzip;q=1.0, br;q=0.5"], "gzip br"),
            (&["GZip"], "gzip"),
            (&["x-gzip"], "gzip"),
            (&["*"], "br zstd gzip"),
            (&["*, br;q=0"], "zstd gzip"),
            (&["*;q=0, gzip"], "gzip"),
            (&["br;q=0"], ""),
            (&["br;q=2"], ""),
            (&["br;q=x, gzip ; q=0.001"], "gzip"),
            (&["identity"], ""),
            (&["identity, gzip;q=0.5"], ""),
            (&["identity;q=0.5, gzip"], "gzip"),
            (&["identity;q=0, gzip;q=0.1"], "gzip"),
            (&["gzip", "br"], "br gzip"),
            (&["brotli, zstandard"], ""),
        ] {
            assert_eq!(of(fields), codings, "{fields:?}");
        }
    }
}
