//! The PROXY protocol, versions 1 and 2 (HAProxy's proxy-protocol.txt §2): at the beginning of a connection, the address of the client
//! behind the proxy.
//!
//! It may be read only from peers that are configured to send it, and must then be there.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use crate::Refusal;

/// Source and destination as the proxy saw them.
pub type Addresses = (SocketAddr, SocketAddr);

/// Reads a header from the beginning of a connection's bytes. `None`: more are needed. Otherwise the header's length, and the addresses,
/// unless the proxy speaks for itself (its health checks) or knows none.
pub fn parse(input: &[u8]) -> Result<Option<(usize, Option<Addresses>)>, Refusal> {
    if input.is_empty() {
        Ok(None)
    } else if begins(input, SIGNATURE) {
        version2(input)
    } else if begins(input, b"PROXY ") {
        version1(input)
    } else {
        Err(Refusal::malformed("no PROXY header"))
    }
}

/// Whether the input, as far as it has come, agrees with `start`.
fn begins(input: &[u8], start: &[u8]) -> bool {
    input.iter().zip(start).all(|(a, b)| a == b)
}

/// §2.1: the longest line, with its CRLF.
const LINE: usize = 107;

fn version1(input: &[u8]) -> Result<Option<(usize, Option<Addresses>)>, Refusal> {
    let line = &input[..input.len().min(LINE)];
    let Some(end) = memchr::memchr(b'\n', line) else {
        return if line.len() < LINE { Ok(None) } else { Err(Refusal::malformed("PROXY line too long")) };
    };
    let text = line[..end].strip_suffix(b"\r").and_then(|line| std::str::from_utf8(line).ok());
    let addresses = text.and_then(line_addresses).ok_or(Refusal::malformed("PROXY line is malformed"))?;
    Ok(Some((end + 1, addresses)))
}

fn line_addresses(line: &str) -> Option<Option<Addresses>> {
    let mut words = line.strip_prefix("PROXY ")?.split(' ');
    let family = words.next()?;
    if family == "UNKNOWN" {
        // §2.1: what follows must be ignored.
        return Some(None);
    }
    let address = |text: &str| match family {
        "TCP4" => text.parse::<Ipv4Addr>().ok().map(IpAddr::V4),
        "TCP6" => text.parse::<Ipv6Addr>().ok().map(IpAddr::V6),
        _ => None,
    };
    let (source, destination) = (address(words.next()?)?, address(words.next()?)?);
    let (from, to) = (port(words.next()?)?, port(words.next()?)?);
    words.next().is_none().then_some(Some((SocketAddr::new(source, from), SocketAddr::new(destination, to))))
}

/// Decimal, without leading zeros.
fn port(text: &str) -> Option<u16> {
    let port = crate::syntax::port(text.as_bytes())?;
    (text.len() == 1 || !text.starts_with('0')).then_some(port)
}

/// §2.2
const SIGNATURE: &[u8; 12] = b"\r\n\r\n\0\r\nQUIT\n";
/// Of the fixed part.
const FIXED: usize = 16;
/// The most bytes that may follow the fixed part, for addresses and TLVs: enough for a certificate's names.
const VARIABLE: usize = 4096;

fn version2(input: &[u8]) -> Result<Option<(usize, Option<Addresses>)>, Refusal> {
    let Some((fixed, rest)) = input.split_first_chunk::<FIXED>() else {
        return Ok(None);
    };
    let [.., command, family, high, low] = *fixed;
    let length = usize::from(u16::from_be_bytes([high, low]));
    if length > VARIABLE {
        return Err(Refusal::malformed("PROXY header too long"));
    }
    let layout = layout(command, family)?;
    if length < layout.map_or(0, Layout::size) {
        return Err(Refusal::malformed("PROXY header shorter than its addresses"));
    }
    let Some(body) = rest.get(..length) else {
        return Ok(None);
    };
    Ok(Some((FIXED + length, layout.and_then(|layout| layout.read(body)))))
}

/// What stands behind the fixed part; TLVs may follow.
#[derive(Clone, Copy)]
enum Layout {
    V4,
    V6,
}

/// `None` if the header holds no addresses that are used.
fn layout(command: u8, family: u8) -> Result<Option<Layout>, Refusal> {
    match (command, family) {
        // LOCAL, whatever the family.
        (0x20, _) => Ok(None),
        (0x21, 0x11) => Ok(Some(Layout::V4)),
        (0x21, 0x21) => Ok(Some(Layout::V6)),
        // Unspecified; a stream over a Unix socket.
        (0x21, 0x00 | 0x31) => Ok(None),
        (0x21, _) => Err(Refusal::malformed("PROXY header for no stream")),
        _ => Err(Refusal::malformed("PROXY header of an unknown version or command")),
    }
}

impl Layout {
    fn size(self) -> usize {
        match self {
            Self::V4 => 12,
            Self::V6 => 36,
        }
    }

    /// Two addresses, then two ports, in network order.
    fn read(self, body: &[u8]) -> Option<Addresses> {
        match self {
            Self::V4 => pair::<4>(body),
            Self::V6 => pair::<16>(body),
        }
    }
}

fn pair<const SIZE: usize>(body: &[u8]) -> Option<Addresses>
where
    IpAddr: From<[u8; SIZE]>,
{
    let (source, rest) = body.split_first_chunk::<SIZE>()?;
    let (destination, rest) = rest.split_first_chunk::<SIZE>()?;
    let [from_high, from_low, to_high, to_low, ..] = *rest else {
        return None;
    };
    let address = |bytes: [u8; SIZE], high, low| SocketAddr::new(bytes.into(), u16::from_be_bytes([high, low]));
    Some((address(*source, from_high, from_low), address(*destination, to_high, to_low)))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Checks that the verdict is the same however many bytes arrive at once, and whatever follows.
    fn read(header: &[u8]) -> Result<Option<Addresses>, u16> {
        let verdict = parse(header);
        let mut longer = header.to_vec();
        longer.extend_from_slice(b"GET / HTTP/1.1\r\n");
        if matches!(verdict, Ok(Some(_))) {
            assert_eq!(parse(&longer), verdict, "with a request behind it");
        }
        let first = (0..=header.len()).map(|end| parse(&header[..end])).find(|part| *part != Ok(None));
        assert_eq!(first.unwrap_or(Ok(None)), verdict, "byte by byte");
        match verdict {
            Ok(Some((length, addresses))) => {
                assert_eq!(length, header.len());
                Ok(addresses)
            }
            Ok(None) => panic!("incomplete"),
            Err(refusal) => Err(refusal.status),
        }
    }

    fn pair(source: &str, destination: &str) -> Result<Option<Addresses>, u16> {
        Ok(Some((source.parse().unwrap(), destination.parse().unwrap())))
    }

    #[test]
    fn version_1_lines() {
        assert_eq!(
            read(b"PROXY TCP4 192.0.2.1 198.51.100.2 56324 443\r\n"),
            pair("192.0.2.1:56324", "198.51.100.2:443")
        );
        assert_eq!(read(b"PROXY TCP6 2001:db8::1 ::1 0 65535\r\n"), pair("[2001:db8::1]:0", "[::1]:65535"));
        assert_eq!(read(b"PROXY UNKNOWN\r\n"), Ok(None));
        assert_eq!(read(b"PROXY UNKNOWN ffff::1 ffff::2 1 whatever\r\n"), Ok(None));
    }

    #[test]
    fn version_1_lines_that_are_refused() {
        for line in [
            "PROXY TCP4 192.0.2.1 198.51.100.2 56324 443\n",
            "PROXY TCP4 192.0.2.1 198.51.100.2 56324\r\n",
            "PROXY TCP4 192.0.2.1 198.51.100.2 56324 443 \r\n",
            "PROXY TCP4  192.0.2.1 198.51.100.2 56324 443\r\n",
            "PROXY TCP4 192.0.2.01 198.51.100.2 56324 443\r\n",
            "PROXY TCP4 ::1 ::1 56324 443\r\n",
            "PROXY TCP6 192.0.2.1 198.51.100.2 56324 443\r\n",
            "PROXY TCP4 192.0.2.1 198.51.100.2 056324 443\r\n",
            "PROXY TCP4 192.0.2.1 198.51.100.2 65536 443\r\n",
            "PROXY TCP4 192.0.2.1 198.51.100.2 +1 443\r\n",
            "PROXY UDP4 192.0.2.1 198.51.100.2 1 2\r\n",
            "PROXY \r\n",
            "proxy UNKNOWN\r\n",
            "GET / HTTP/1.1\r\n",
            "\r\n\r\nG",
        ] {
            assert_eq!(read(line.as_bytes()), Err(400), "{line}");
        }
        assert_eq!(read(&[b"PROXY UNKNOWN ".as_slice(), &[b'a'; 200]].concat()), Err(400));
    }

    fn binary(command: u8, family: u8, body: &[u8]) -> Vec<u8> {
        let length = u16::try_from(body.len()).unwrap().to_be_bytes();
        [SIGNATURE.as_slice(), &[command, family], &length, body].concat()
    }

    #[test]
    fn version_2_headers() {
        let four = [192, 0, 2, 1, 198, 51, 100, 2, 0xdc, 0x04, 0x01, 0xbb];
        let addresses = pair("192.0.2.1:56324", "198.51.100.2:443");
        assert_eq!(read(&binary(0x21, 0x11, &four)), addresses);
        assert_eq!(read(&binary(0x21, 0x11, &[&four[..], &[4, 0, 2, 0, 0]].concat())), addresses, "a TLV is skipped");
        let six = [&[0; 15][..], &[1], &[0; 15], &[2], &[0, 1, 0, 2]].concat();
        assert_eq!(read(&binary(0x21, 0x21, &six)), pair("[::1]:1", "[::2]:2"));
        assert_eq!(read(&binary(0x20, 0x00, &[])), Ok(None), "LOCAL");
        assert_eq!(read(&binary(0x20, 0x11, &four)), Ok(None), "LOCAL");
        assert_eq!(read(&binary(0x21, 0x00, &[])), Ok(None), "unspecified");
        assert_eq!(read(&binary(0x21, 0x31, &[0; 216])), Ok(None), "Unix");
    }

    #[test]
    fn version_2_headers_that_are_refused() {
        for (header, why) in [
            (binary(0x11, 0x11, &[0; 12]), "version"),
            (binary(0x22, 0x11, &[0; 12]), "command"),
            (binary(0x21, 0x12, &[0; 12]), "datagrams"),
            (binary(0x21, 0x41, &[0; 12]), "family"),
            (binary(0x21, 0x11, &[0; 11]), "too short for its addresses"),
            (binary(0x21, 0x21, &[0; 35]), "too short for its addresses"),
            (binary(0x20, 0x00, &[0; VARIABLE + 1]), "too long"),
        ] {
            assert_eq!(read(&header), Err(400), "{why}");
        }
    }
}
