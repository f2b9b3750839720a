//! What a trusted proxy says about who asked for what: X-Forwarded-For, -Proto, -Host, -Port and -Prefix, and RFC 7239's Forwarded.
//!
//! Proxies append; so lists are read from the right. Element 0 was written by the peer, element 1 by the hop that element 0 names, and so on; the
//! reading goes on as long as it names trusted hops, and the first other one is the client. What stands further left is
//! the client's own and is not looked at. A list shorter than X-Forwarded-For counts as if its leftmost element were
//! repeated: some proxy replaced it or was the first to write it.
//!
//! Where both kinds are present, X-Forwarded-* is read, and a Forwarded that contradicts it refuses the request: one
//! of the two was passed through unread, and which cannot be known.
//!
//! Read none of this from a peer that is not trusted; hidden.rs keeps it from the application.

use std::net::{IpAddr, Ipv6Addr, SocketAddr};

use crate::{
    Refusal, RequestHead,
    syntax::{self, TARGET, TOKEN, run, trim},
    target,
};

/// Who asked for what, as far as proxies say.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Origin<'a> {
    /// The client, or the outermost hop that is known; `None`: the peer.
    pub address: Option<IpAddr>,
    /// The client's port, where it is told with the address.
    pub port: Option<u16>,
    /// Whether the client came by https.
    pub https: Option<bool>,
    /// Replaces Host; well formed, with its port if it has one.
    pub host: Option<&'a str>,
    /// What the client connected to: X-Forwarded-Port, else the port in the host, else the scheme's, if one of them is told.
    pub server_port: Option<u16>,
    /// What a proxy took from the path's beginning: starts with one slash, ends without one, is never empty, and holds no percent sign.
    pub prefix: Option<&'a str>,
}

/// Whether a field of this name is about forwarding: `Forwarded`, `X-Forwarded-` with anything behind it, or what becomes the same
/// variable.
pub(crate) fn is_forwarding(name: &[u8]) -> bool {
    const PREFIX: &[u8] = b"x-forwarded-";
    match name.first() {
        Some(b'f' | b'F') => name.eq_ignore_ascii_case(b"forwarded"),
        Some(b'x' | b'X') => {
            name.get(..PREFIX.len()).is_some_and(|beginning| syntax::is_same_variable(beginning, PREFIX))
        }
        _ => false,
    }
}

/// Reads the forwarding fields of a head that came from a trusted peer.
pub fn origin<'a>(
    head: &RequestHead,
    bytes: &'a [u8],
    trusted: impl Fn(IpAddr) -> bool,
) -> Result<Origin<'a>, Refusal> {
    if !head.forwarding {
        return Ok(Origin::default());
    }
    let fields = Fields { head, bytes };
    let standard = standard(fields, &trusted)?;
    let mut origin = if fields.any_customary() { customary(fields, &trusted)? } else { standard };
    if differ(origin.address, standard.address)
        || differ(origin.https, standard.https)
        || differ(origin.host, standard.host)
    {
        return Err(Refusal::malformed("Forwarded contradicts X-Forwarded-*"));
    }
    if origin.server_port.is_none() && (origin.host.is_some() || origin.https.is_some()) {
        origin.server_port = port_of(fields, &origin);
    }
    Ok(origin)
}

fn differ<T: PartialEq>(one: Option<T>, other: Option<T>) -> bool {
    one.zip(other).is_some_and(|(one, other)| one != other)
}

/// The port in the host that the client asked for, or the one that its scheme implies.
fn port_of(fields: Fields<'_, '_>, origin: &Origin<'_>) -> Option<u16> {
    let host = origin.host.map(str::as_bytes).or_else(|| fields.host());
    let told = host.and_then(target::host).and_then(|host| host.port);
    told.or(origin.https.map(|https| if https { 443 } else { 80 }))
}

/// The fields of a request, by name.
#[derive(Clone, Copy)]
struct Fields<'h, 'a> {
    head: &'h RequestHead,
    bytes: &'a [u8],
}

impl<'h, 'a> Fields<'h, 'a> {
    /// The values of all fields of this name, in the order of the wire.
    fn values(self, name: &'static [u8]) -> impl DoubleEndedIterator<Item = &'a [u8]> + use<'h, 'a> {
        let bytes = self.bytes;
        let fields = self.head.fields.iter();
        fields
            .filter(move |field| field.name.of(bytes).eq_ignore_ascii_case(name))
            .map(move |field| field.value.of(bytes))
    }

    /// The elements of the list that all fields of this name make up, from the right.
    fn list(self, name: &'static [u8]) -> impl Iterator<Item = &'a [u8]> + use<'h, 'a> {
        self.values(name).rev().flat_map(|value| value.rsplit(|&byte| byte == b',').map(trim))
    }

    /// The element that was written by the hop `hops` away from the peer, or the one that counts for it.
    fn element(self, name: &'static [u8], hops: usize) -> Option<&'a [u8]> {
        self.list(name).take(hops + 1).last()
    }

    fn any_customary(self) -> bool {
        [FOR, PROTO, HOST, PORT, PREFIX].into_iter().any(|name| self.values(name).next().is_some())
    }

    fn host(self) -> Option<&'a [u8]> {
        let field = self.head.host.map(|index| self.head.fields[usize::from(index)].value);
        self.head.authority.or(field).map(|span| span.of(self.bytes))
    }
}

const FOR: &[u8] = b"X-Forwarded-For";
const PROTO: &[u8] = b"X-Forwarded-Proto";
const HOST: &[u8] = b"X-Forwarded-Host";
const PORT: &[u8] = b"X-Forwarded-Port";
const PREFIX: &[u8] = b"X-Forwarded-Prefix";

/// A hop, as the next one saw it.
#[derive(Debug, Clone, Copy, Default)]
struct Node {
    /// `None` where the hop is hidden on purpose, or not said.
    address: Option<IpAddr>,
    port: Option<u16>,
}

/// Goes from hop to hop, from the right, to the first that is not trusted or not known. Answers how far that is from the peer, and
/// the outermost hop whose address is known.
fn walk(
    nodes: impl Iterator<Item = Result<Node, Refusal>>,
    trusted: impl Fn(IpAddr) -> bool,
) -> Result<(usize, Node), Refusal> {
    let (mut distance, mut known) = (0, Node::default());
    for (hops, node) in nodes.enumerate() {
        let node = node?;
        distance = hops;
        let Some(address) = node.address else { break };
        known = node;
        if !trusted(address) {
            break;
        }
    }
    Ok((distance, known))
}

/// X-Forwarded-*.
fn customary<'a>(fields: Fields<'_, 'a>, trusted: impl Fn(IpAddr) -> bool) -> Result<Origin<'a>, Refusal> {
    let nodes = fields
        .list(FOR)
        .map(|element| customary_node(element).ok_or(Refusal::malformed("X-Forwarded-For is no list of addresses")));
    let (hops, client) = walk(nodes, trusted)?;
    let element = |name| fields.element(name, hops);
    Ok(Origin {
        address: client.address,
        port: client.port,
        https: told(element(PROTO), scheme, "X-Forwarded-Proto is neither http nor https")?,
        host: told(element(HOST), host, "X-Forwarded-Host is no host")?,
        server_port: told(element(PORT), syntax::port, "X-Forwarded-Port is no port")?,
        prefix: told(element(PREFIX), prefix, "X-Forwarded-Prefix is no plain path")?
            .filter(|prefix| !prefix.is_empty()),
    })
}

/// What was said, read; a refusal if it cannot be.
fn told<'a, T>(
    said: Option<&'a [u8]>,
    read: impl Fn(&'a [u8]) -> Option<T>,
    otherwise: &'static str,
) -> Result<Option<T>, Refusal> {
    said.map(|said| read(said).ok_or(Refusal::malformed(otherwise))).transpose()
}

/// An address with or without a port, in any of the ways found in the field; an IPv6 address may go without its brackets.
fn customary_node(element: &[u8]) -> Option<Node> {
    if element.eq_ignore_ascii_case(b"unknown") {
        return Some(Node::default());
    }
    let text = std::str::from_utf8(element).ok()?;
    match text.parse() {
        Ok(address) => Some(known(address, None)),
        Err(_) => address_and_port(text),
    }
}

/// `192.0.2.1`, `192.0.2.1:80`, `[2001:db8::1]` or `[2001:db8::1]:80`
fn address_and_port(text: &str) -> Option<Node> {
    if let Some(inner) = text.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')) {
        return Some(known(inner.parse::<Ipv6Addr>().ok()?.into(), None));
    }
    match text.parse() {
        // Zones have no meaning beyond the host that wrote them (RFC 4007 §6).
        Ok(SocketAddr::V6(address)) if address.scope_id() != 0 || text.contains('%') => None,
        Ok(address) => Some(known(address.ip(), Some(address.port()))),
        Err(_) => Some(known(text.parse().ok().filter(IpAddr::is_ipv4)?, None)),
    }
}

fn known(address: IpAddr, port: Option<u16>) -> Node {
    Node { address: Some(address.to_canonical()), port }
}

/// WebSocket's schemes are what some proxies say for a request to upgrade.
fn scheme(element: &[u8]) -> Option<bool> {
    match element.to_ascii_lowercase().as_slice() {
        b"http" | b"ws" => Some(false),
        b"https" | b"wss" => Some(true),
        _ => None,
    }
}

fn host(element: &[u8]) -> Option<&str> {
    target::host(element).filter(|host| !host.name.is_empty())?;
    std::str::from_utf8(element).ok()
}

/// `/app`, without final slashes. Two slashes at the beginning would be a host where a link is made of it.
fn prefix(element: &[u8]) -> Option<&str> {
    let plain = element.starts_with(b"/")
        && !element.starts_with(b"//")
        && run(element, TARGET) == element.len()
        && !element.iter().any(|byte| b"?%".contains(byte));
    plain.then_some(std::str::from_utf8(element).ok()?.trim_end_matches('/'))
}

/// One element of Forwarded.
#[derive(Debug, Clone, Copy, Default)]
struct Element<'a> {
    node: Option<Node>,
    https: Option<bool>,
    host: Option<&'a str>,
}

/// Forwarded. All of it is read first, since a quoted string may hold a comma; the client that unbalances the quotes is refused.
fn standard<'a>(fields: Fields<'_, 'a>, trusted: impl Fn(IpAddr) -> bool) -> Result<Origin<'a>, Refusal> {
    let mut list = Vec::new();
    for value in fields.values(b"Forwarded") {
        elements(value, &mut list).ok_or(Refusal::malformed("Forwarded is malformed"))?;
    }
    list.reverse();
    let (hops, client) = walk(list.iter().map(|element| Ok(element.node.unwrap_or_default())), trusted)?;
    let said = &list[..list.len().min(hops + 1)];
    Ok(Origin {
        address: client.address,
        port: client.port,
        https: said.iter().rev().find_map(|element| element.https),
        host: said.iter().rev().find_map(|element| element.host),
        ..Origin::default()
    })
}

/// RFC 7239 §4, with white space around semicolons besides.
fn elements<'a>(value: &'a [u8], list: &mut Vec<Element<'a>>) -> Option<()> {
    let mut rest = value;
    let mut element = Element::default();
    loop {
        rest = trim(rest);
        if let name @ 1.. = run(rest, TOKEN) {
            let (name, behind) = rest.split_at(name);
            let (text, behind) = text(behind.strip_prefix(b"=")?)?;
            element.say(name, text)?;
            rest = trim(behind);
        }
        let (separator, behind) = match rest {
            [] => {
                list.push(element);
                return Some(());
            }
            [separator, behind @ ..] => (separator, behind),
        };
        match separator {
            b',' => list.push(std::mem::take(&mut element)),
            b';' => {}
            _ => return None,
        }
        rest = behind;
    }
}

/// A token or a quoted string, and what follows it. Nothing that is read here has a use for escapes in the string; they are refused.
fn text(bytes: &[u8]) -> Option<(&[u8], &[u8])> {
    let Some(quoted) = bytes.strip_prefix(b"\"") else {
        let length = run(bytes, TOKEN);
        return (length > 0).then(|| bytes.split_at(length));
    };
    let end = memchr::memchr2(b'"', b'\\', quoted)?;
    (quoted[end] == b'"').then(|| (&quoted[..end], &quoted[end + 1..]))
}

impl<'a> Element<'a> {
    /// No parameter twice (RFC 7239 §4). `by` and extensions are of no use here.
    fn say(&mut self, name: &[u8], text: &'a [u8]) -> Option<()> {
        let first = match name.to_ascii_lowercase().as_slice() {
            b"for" => self.node.replace(standard_node(text)?).is_none(),
            b"proto" => self.https.replace(scheme(text)?).is_none(),
            b"host" => self.host.replace(host(text)?).is_none(),
            _ => true,
        };
        first.then_some(())
    }
}

/// RFC 7239 §6: an address, `unknown` or an obfuscated name; its port may be obfuscated too.
fn standard_node(text: &[u8]) -> Option<Node> {
    let text = std::str::from_utf8(text).ok()?;
    let (name, port) = match text.rsplit_once(':') {
        Some((name, port)) if !port.ends_with(']') => (name, Some(port)),
        _ => (text, None),
    };
    if port.is_some_and(|port| !is_obfuscated(port) && syntax::port(port.as_bytes()).is_none()) {
        return None;
    }
    if name.eq_ignore_ascii_case("unknown") || is_obfuscated(name) {
        return Some(Node::default());
    }
    let node = address_and_port(name).filter(|node| node.port.is_none())?;
    Some(Node { port: port.and_then(|port| syntax::port(port.as_bytes())), ..node })
}

fn is_obfuscated(text: &str) -> bool {
    text.strip_prefix('_').is_some_and(|rest| {
        !rest.is_empty() && rest.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"._-".contains(&byte))
    })
}

#[cfg(test)]
mod tests;
