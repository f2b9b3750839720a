//! Request targets and the hosts in them (RFC 9112 §3.2, RFC 3986 §3.2): found, checked, decoded.

use std::net::Ipv6Addr;

use crate::{
    Refusal,
    syntax::{HOST, hexadecimal, port, run},
};

/// A target's parts, as offsets from its beginning.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Parts {
    pub path: (usize, usize),
    pub query: (usize, usize),
    pub authority: Option<(usize, usize)>,
}

/// Takes a target apart. All of its bytes are of the class `TARGET`.
pub(crate) fn parts(method: &[u8], target: &[u8]) -> Result<Parts, Refusal> {
    match target {
        _ if method == b"CONNECT" => Err(connect(target)),
        [b'/', ..] => split(target, 0, None),
        b"*" if method == b"OPTIONS" => Ok(Parts { path: (0, 1), query: (1, 1), authority: None }),
        b"*" => Err(Refusal::malformed("asterisk target with a method other than OPTIONS")),
        _ => absolute(target),
    }
}

/// The refusal of CONNECT, the only method whose target is an authority: it asks for a tunnel, and this is no proxy.
fn connect(target: &[u8]) -> Refusal {
    match host(target) {
        Some(Host { port: Some(_), .. }) => Refusal::not_implemented("CONNECT"),
        _ => Refusal::malformed("target of CONNECT is no host and port"),
    }
}

fn absolute(target: &[u8]) -> Result<Parts, Refusal> {
    let scheme = [b"http://".as_slice(), b"https://"]
        .into_iter()
        .find(|scheme| target.get(..scheme.len()).is_some_and(|start| start.eq_ignore_ascii_case(scheme)))
        .ok_or(Refusal::malformed("target has no known form"))?;
    let start = scheme.len();
    let end = target[start..].iter().position(|byte| b"/?".contains(byte)).map_or(target.len(), |at| start + at);
    // No user information (RFC 9110 §4.2.4): `@` is no character of a host.
    if host(&target[start..end]).is_none_or(|host| host.name.is_empty()) {
        return Err(Refusal::malformed("authority of the target is no host"));
    }
    let mut parts = split(target, end, Some((start, end)))?;
    if parts.path.0 == parts.path.1 {
        // An empty path means `/` (RFC 9110 §4.2.3); the span points at the last slash of the scheme.
        parts.path = (start - 1, start);
    }
    Ok(parts)
}

fn split(target: &[u8], path: usize, authority: Option<(usize, usize)>) -> Result<Parts, Refusal> {
    let end = target.len();
    let mark = memchr::memchr(b'?', &target[path..]).map(|mark| path + mark);
    let parts = Parts { path: (path, mark.unwrap_or(end)), query: (mark.map_or(end, |mark| mark + 1), end), authority };
    check_escapes(&target[path..parts.path.1])?;
    Ok(parts)
}

/// A host as in a Host field: `example.com:8000`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Host<'a> {
    /// With the brackets of an IPv6 address. May be empty.
    pub name: &'a [u8],
    pub port: Option<u16>,
}

/// The name in a host as in a Host field, without its port; none if it is no host, or an empty one.
pub fn host_name(bytes: &[u8]) -> Option<&[u8]> {
    host(bytes).map(|host| host.name).filter(|name| !name.is_empty())
}

/// Reads `uri-host [ ":" port ]` (RFC 9110 §7.2). The port may be empty (RFC 3986 §3.2.3), and so may all of it: a
/// client whose target has no authority sends an empty Host.
pub(crate) fn host(bytes: &[u8]) -> Option<Host<'_>> {
    let end = if bytes.starts_with(b"[") { literal(bytes)? } else { registered_name(bytes)? };
    let (name, rest) = bytes.split_at(end);
    match rest {
        [] => Some(Host { name, port: None }),
        [b':', ..] if name.is_empty() => None,
        [b':'] => Some(Host { name, port: None }),
        [b':', digits @ ..] => Some(Host { name, port: Some(port(digits)?) }),
        _ => None,
    }
}

/// Length of an address in brackets. Addresses of a future version (RFC 3986's `IPvFuture`) are refused.
fn literal(bytes: &[u8]) -> Option<usize> {
    let end = memchr::memchr(b']', bytes)?;
    std::str::from_utf8(&bytes[1..end]).ok()?.parse::<Ipv6Addr>().ok()?;
    Some(end + 1)
}

fn registered_name(bytes: &[u8]) -> Option<usize> {
    let mut at = 0;
    loop {
        at += run(&bytes[at..], HOST);
        match &bytes[at..] {
            [b'%', high, low, ..] => _ = pair(*high, *low)?,
            [b'%', ..] => return None,
            _ => return Some(at),
        }
        at += 3;
    }
}

/// Refuses a path with a `%` that two hexadecimal digits do not follow, which RFC 3986 §2.1 does not allow and servers read in several ways
/// (nginx and Apache refuse it too; gunicorn and waitress hand it on as it is), and one with `%00` (RFC 3986 §7.3; nginx refuses it). The
/// query is not looked at: it is the application that decodes it.
fn check_escapes(path: &[u8]) -> Result<(), Refusal> {
    let mut rest = path;
    while let Some(at) = memchr::memchr(b'%', rest) {
        rest = &rest[at..];
        // Escapes often follow each other: a character beyond ASCII has two to four.
        while let [b'%', behind @ ..] = rest {
            match escaped(behind) {
                None => return Err(Refusal::malformed("percent sign without two hexadecimal digits in the path")),
                Some(0) => return Err(Refusal::malformed("NUL in the path")),
                Some(_) => rest = &behind[2..],
            }
        }
    }
    Ok(())
}

/// Decodes a path's percent-encoding, once, and appends it to `into`. A `%2F` becomes a slash, as in all of CGI; an application that
/// needs to tell them apart has the raw target. In the path of a parsed head every `%` begins an escape; in other texts, a `%` that does
/// not stays as it is.
pub fn decode_path(path: &[u8], into: &mut Vec<u8>) {
    into.reserve(path.len());
    let mut rest = path;
    while let Some(at) = memchr::memchr(b'%', rest) {
        into.extend_from_slice(&rest[..at]);
        rest = &rest[at..];
        while let [b'%', behind @ ..] = rest {
            let byte = escaped(behind);
            into.push(byte.unwrap_or(b'%'));
            rest = if byte.is_some() { &behind[2..] } else { behind };
        }
    }
    into.extend_from_slice(rest);
}

/// Whether a path, decoded, is `root` or below it; `root` has no final slash. The asterisk of OPTIONS stands for the whole server.
pub fn is_below(root: &[u8], path: &[u8]) -> bool {
    if root.is_empty() || path == b"*" {
        return true;
    }
    let mut decoded = Vec::with_capacity(path.len());
    decode_path(path, &mut decoded);
    decoded.strip_prefix(root).is_some_and(|rest| matches!(rest, [] | [b'/', ..]))
}

/// The byte that an escape stands for, of what is behind its percent sign.
#[inline]
fn escaped(digits: &[u8]) -> Option<u8> {
    match digits {
        [high, low, ..] => pair(*high, *low),
        _ => None,
    }
}

#[inline]
fn pair(high: u8, low: u8) -> Option<u8> {
    Some(hexadecimal(high)? << 4 | hexadecimal(low)?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rfc3986_2_1_a_path_is_decoded_once() {
        for (raw, path) in [
            ("/", b"/".as_slice()),
            ("/a%20b+c", b"/a b+c"),
            ("/%2525", b"/%25"),
            ("/a%2Fb%2f", b"/a/b/"),
            ("/%e4%BD%a0", "/\u{4f60}".as_bytes()),
            ("/%ff%0d%0A", b"/\xff\r\n"),
            ("*", b"*"),
        ] {
            assert_eq!(check_escapes(raw.as_bytes()), Ok(()), "{raw}");
            let mut decoded = b"kept".to_vec();
            decode_path(raw.as_bytes(), &mut decoded);
            assert_eq!(decoded, [b"kept", path].concat(), "{raw}");
        }
    }

    #[test]
    fn a_path_is_below_a_root_at_whole_segments() {
        for (root, path, below) in [
            ("", "/", true),
            ("/shop", "/shop", true),
            ("/shop", "/shop/", true),
            ("/shop", "/%73hop%2Fa", true),
            ("/shop", "*", true),
            ("/shop", "/shopper", false),
            ("/shop", "/", false),
            ("/shop", "//shop", false),
            ("/a b", "/a%20b/c", true),
        ] {
            assert_eq!(is_below(root.as_bytes(), path.as_bytes()), below, "{root} {path}");
        }
    }

    #[test]
    fn rfc3986_2_1_what_is_no_escape_stays_as_it_is() {
        for raw in ["/%", "/%2", "/%zz", "/%2g", "/%% 0", "/% 20", "/%u0041", "/%+1"] {
            let mut decoded = Vec::new();
            decode_path(raw.as_bytes(), &mut decoded);
            assert_eq!(decoded, raw.as_bytes());
        }
    }
}
