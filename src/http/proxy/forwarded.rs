//! What a trusted proxy says about who asked for what: X-Forwarded-For, -Proto, -Protocol, -Ssl, -Host, -Port and -Prefix, and RFC 7239's
//! Forwarded.
//!
//! A proxy is trusted for the fields that it sets, and passes the others through as its client sent them. So each field is believed only
//! if it is named in `Believed`; any other is ignored, whatever it holds.
//!
//! Proxies append, so lists are read from the right. Element 0 was written by the peer, element 1 by the hop that element 0 names, and
//! so on. The reading goes on as long as an element names a trusted hop; the first element that names another address names the client.
//! What stands further left was sent by the client and is ignored. A list that is shorter than X-Forwarded-For counts as if its leftmost
//! element were repeated: some proxy has replaced it or was the first to write it.
//!
//! If believed fields contradict each other, the request is refused: a proxy has passed one of them through unread, and it cannot be
//! known which.
//!
//! Nothing here may be read from a peer that is not trusted; hidden.rs keeps such fields from the application.

use std::net::{IpAddr, Ipv6Addr, SocketAddr};

use crate::{
    Refusal, RequestHead,
    syntax::{self, TARGET, TOKEN, run, trim},
    target,
};

/// Which fields are believed.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Believed {
    /// X-Forwarded-For
    pub address: bool,
    /// X-Forwarded-Proto
    pub proto: bool,
    /// X-Forwarded-Protocol
    pub protocol: bool,
    /// X-Forwarded-Ssl
    pub ssl: bool,
    /// X-Forwarded-Host
    pub host: bool,
    /// X-Forwarded-Port
    pub port: bool,
    /// X-Forwarded-Prefix
    pub prefix: bool,
    /// Forwarded
    pub standard: bool,
    /// X-Request-Start, which identity.rs reads
    pub start: bool,
    /// gunicorn's `secure_scheme_headers`: fields, and the value of each that means https; any other value means http. They take the place
    /// of the three above.
    pub schemes: Option<Vec<(String, String)>>,
    /// gunicorn's `forwarder_headers`: fields with an underscore that are the proxy's own; of these, SCRIPT_NAME is the prefix.
    pub own: Vec<String>,
}

impl Believed {
    /// Whether a field of this name, or what becomes the same variable, tells the scheme.
    pub fn tells_scheme(&self, name: &[u8]) -> bool {
        let fields = self.schemes.iter().flatten();
        fields.into_iter().any(|(field, _)| {
            field.len() == name.len() && syntax::is_same_variable(name, field.to_ascii_lowercase().as_bytes())
        })
    }

    /// Whether the field of this name is the proxy's own, although its name has an underscore.
    pub fn is_own(&self, name: &[u8]) -> bool {
        self.own.iter().any(|own| own == "*" || own.as_bytes().eq_ignore_ascii_case(name))
    }
}

/// What proxies say of the client and its request.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Origin<'a> {
    /// The client, or the outermost hop that is named. `None` stands for the peer, unless the client is `hidden`.
    pub address: Option<IpAddr>,
    /// A trusted hop keeps the client's address to itself: it is neither the peer's nor that hop's.
    pub hidden: bool,
    /// The client's port, where it is told with the address.
    pub port: Option<u16>,
    /// Whether the client came by https.
    pub https: Option<bool>,
    /// Replaces Host; well formed, with its port if it has one.
    pub host: Option<&'a str>,
    /// What the client connected to: X-Forwarded-Port, else the port in the host, else the scheme's, if one of them is told.
    pub server_port: Option<u16>,
    /// What a proxy has removed from the beginning of the path. It starts with one slash, ends without one, is never empty, and holds no
    /// percent sign.
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
    believed: &Believed,
    trusted: impl Fn(IpAddr) -> bool,
) -> Result<Origin<'a>, Refusal> {
    if !head.forwarding && !head.odd_name && believed.schemes.is_none() {
        return Ok(Origin::default());
    }
    let fields = Fields { head, bytes };
    let mut origin = customary(fields, believed, &trusted)?;
    if let Some(schemes) = &believed.schemes {
        origin.https = secure(fields, schemes)?;
    }
    if head.odd_name && believed.is_own(SCRIPT_NAME) {
        let said = told(
            fields.values(SCRIPT_NAME).next_back().filter(|said| !said.is_empty()),
            prefix,
            "SCRIPT_NAME is no plain path",
        )?;
        let said = said.filter(|prefix| !prefix.is_empty());
        if differ(said, origin.prefix) {
            return Err(Refusal::malformed("SCRIPT_NAME contradicts X-Forwarded-Prefix"));
        }
        origin.prefix = said.or(origin.prefix);
    }
    if believed.standard {
        origin = origin.and(standard(fields, &trusted)?)?;
    }
    if origin.server_port.is_none() && (origin.host.is_some() || origin.https.is_some()) {
        origin.server_port = port_of(fields, &origin);
    }
    Ok(origin)
}

impl Origin<'_> {
    /// Joins two statements, which must be the same if both are there.
    fn and(self, standard: Self) -> Result<Self, Refusal> {
        let who =
            |origin: &Self| (origin.hidden || origin.address.is_some()).then_some((origin.hidden, origin.address));
        if differ(who(&self), who(&standard)) || differ(self.https, standard.https) || differ(self.host, standard.host)
        {
            return Err(Refusal::malformed("Forwarded contradicts X-Forwarded-*"));
        }
        let (https, host) = (self.https.or(standard.https), self.host.or(standard.host));
        let Origin { address, hidden, port, .. } = if who(&self).is_some() { self } else { standard };
        Ok(Self { address, hidden, port, https, host, ..self })
    }
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

    /// The elements of the list that all fields of this name make up, from the right. Empty ones do not count (RFC 9110 §5.6.1.2).
    fn list(self, name: &'static [u8]) -> impl Iterator<Item = &'a [u8]> + use<'h, 'a> {
        self.values(name)
            .rev()
            .flat_map(|value| value.rsplit(|&byte| byte == b',').map(trim))
            .filter(|element| !element.is_empty())
    }

    /// The element that was written by the hop `hops` away from the peer, or the leftmost one, which counts for it.
    fn element(self, name: &'static [u8], hops: usize) -> Option<&'a [u8]> {
        self.list(name).take(hops + 1).last()
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
const PROTOCOL: &[u8] = b"X-Forwarded-Protocol";
const SSL: &[u8] = b"X-Forwarded-Ssl";
const SCRIPT_NAME: &[u8] = b"SCRIPT_NAME";

/// A hop, as the next one saw it.
#[derive(Debug, Clone, Copy, Default)]
enum Node {
    #[default]
    Unsaid,
    /// On purpose: `unknown`, or an obfuscated name (RFC 7239 §6.2 and §6.3).
    Hidden,
    Known(IpAddr, Option<u16>),
}

/// Goes from hop to hop, from the right, to the first that is not trusted or not known. Returns how far that is from the peer, and the
/// node; if the list ends before, or an element says nothing, the last trusted node.
fn walk(
    nodes: impl Iterator<Item = Result<Node, Refusal>>,
    trusted: impl Fn(IpAddr) -> bool,
) -> Result<(usize, Node), Refusal> {
    let (mut distance, mut last) = (0, Node::Unsaid);
    for (hops, node) in nodes.enumerate() {
        let node = node?;
        distance = hops;
        match node {
            Node::Known(address, _) if trusted(address) => last = node,
            Node::Known(..) | Node::Hidden => return Ok((distance, node)),
            Node::Unsaid => break,
        }
    }
    Ok((distance, last))
}

/// X-Forwarded-*.
fn customary<'a>(
    fields: Fields<'_, 'a>,
    believed: &Believed,
    trusted: impl Fn(IpAddr) -> bool,
) -> Result<Origin<'a>, Refusal> {
    let nodes = fields
        .list(FOR)
        .filter(|_| believed.address)
        .map(|element| customary_node(element).ok_or(Refusal::malformed("X-Forwarded-For is no list of addresses")));
    let (hops, client) = walk(nodes, trusted)?;
    let element = |name, believed: bool| believed.then(|| fields.element(name, hops)).flatten();
    let usual = believed.schemes.is_none();
    let https = [
        told(element(PROTO, believed.proto && usual), scheme, "X-Forwarded-Proto is neither http nor https")?,
        told(
            element(PROTOCOL, believed.protocol && usual),
            protocol,
            "X-Forwarded-Protocol is neither http nor https",
        )?,
        told(element(SSL, believed.ssl && usual), on_or_off, "X-Forwarded-Ssl is neither on nor off")?,
    ];
    if https.contains(&Some(true)) && https.contains(&Some(false)) {
        return Err(Refusal::malformed("X-Forwarded-Proto, -Protocol and -Ssl contradict each other"));
    }
    Ok(Origin {
        https: https.into_iter().flatten().next(),
        host: told(element(HOST, believed.host), host, "X-Forwarded-Host is no host")?,
        server_port: told(element(PORT, believed.port), syntax::port, "X-Forwarded-Port is no port")?,
        prefix: told(element(PREFIX, believed.prefix), prefix, "X-Forwarded-Prefix is no plain path")?
            .filter(|prefix| !prefix.is_empty()),
        ..client.origin()
    })
}

/// Each of the fields that is there says https or http, and all must say the same.
fn secure(fields: Fields<'_, '_>, schemes: &[(String, String)]) -> Result<Option<bool>, Refusal> {
    let mut https = None;
    for field in &fields.head.fields {
        let name = field.name.of(fields.bytes);
        let Some((_, value)) = schemes.iter().find(|(of, _)| of.as_bytes().eq_ignore_ascii_case(name)) else {
            continue;
        };
        let says = field.value.of(fields.bytes) == value.as_bytes();
        if https.replace(says).is_some_and(|before| before != says) {
            return Err(Refusal::malformed("fields of --secure-scheme-headers contradict each other"));
        }
    }
    Ok(https)
}

impl Node {
    fn origin<'a>(self) -> Origin<'a> {
        match self {
            Node::Unsaid => Origin::default(),
            Node::Hidden => Origin { hidden: true, ..Origin::default() },
            Node::Known(address, port) => Origin { address: Some(address), port, ..Origin::default() },
        }
    }
}

/// Reads a value that is there; refuses the request if it cannot be read.
fn told<'a, T>(
    said: Option<&'a [u8]>,
    read: impl Fn(&'a [u8]) -> Option<T>,
    otherwise: &'static str,
) -> Result<Option<T>, Refusal> {
    said.map(|said| read(said).ok_or(Refusal::malformed(otherwise))).transpose()
}

/// An address with or without a port, in any of the ways found in the field; an IPv6 address may go without its brackets.
fn customary_node(element: &[u8]) -> Option<Node> {
    let text = std::str::from_utf8(element).ok()?;
    // nginx writes `unix:` of a client at a Unix socket.
    if text.eq_ignore_ascii_case("unknown") || text == "unix:" || is_obfuscated(text) {
        return Some(Node::Hidden);
    }
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
    Node::Known(address.to_canonical(), port)
}

/// WebSocket's schemes are what some proxies say for a request to upgrade.
pub(crate) fn scheme(element: &[u8]) -> Option<bool> {
    match element.to_ascii_lowercase().as_slice() {
        b"http" | b"ws" => Some(false),
        b"https" | b"wss" => Some(true),
        _ => None,
    }
}

fn protocol(element: &[u8]) -> Option<bool> {
    if element.eq_ignore_ascii_case(b"ssl") { Some(true) } else { scheme(element) }
}

fn on_or_off(element: &[u8]) -> Option<bool> {
    match element.to_ascii_lowercase().as_slice() {
        b"on" => Some(true),
        b"off" => Some(false),
        _ => None,
    }
}

fn host(element: &[u8]) -> Option<&str> {
    target::host(element).filter(|host| !host.name.is_empty())?;
    std::str::from_utf8(element).ok()
}

/// `/app`, without a final slash. Refuses what would change a link that is made of it: two slashes (or a backslash for one) would begin a
/// host, and segments of dots would lead elsewhere.
pub(crate) fn prefix(element: &[u8]) -> Option<&str> {
    let text = std::str::from_utf8(element).ok()?;
    let path = text.strip_suffix('/').unwrap_or(text);
    let segments = path.strip_prefix('/').map(|rest| rest.split('/'));
    let plain = run(element, TARGET) == element.len() && !element.iter().any(|byte| b"?%\\".contains(byte));
    match segments {
        None if text == "/" => Some(path),
        Some(mut segments) if plain => segments.all(|one| !["", ".", ".."].contains(&one)).then_some(path),
        _ => None,
    }
}

/// One element of Forwarded.
#[derive(Debug, Clone, Copy, Default)]
struct Element<'a> {
    node: Option<Node>,
    https: Option<bool>,
    host: Option<&'a str>,
}

/// Forwarded. The whole list is read first, because a quoted string may hold a comma. A client that unbalances the quotes is refused.
fn standard<'a>(fields: Fields<'_, 'a>, trusted: impl Fn(IpAddr) -> bool) -> Result<Origin<'a>, Refusal> {
    let mut list = Vec::new();
    for value in fields.values(b"Forwarded") {
        elements(value, &mut list).ok_or(Refusal::malformed("Forwarded is malformed"))?;
    }
    list.reverse();
    let (hops, client) = walk(list.iter().map(|element| Ok(element.node.unwrap_or_default())), trusted)?;
    let said = &list[..list.len().min(hops + 1)];
    Ok(Origin {
        https: said.iter().rev().find_map(|element| element.https),
        host: said.iter().rev().find_map(|element| element.host),
        ..client.origin()
    })
}

/// RFC 7239 §4; white space around semicolons is accepted, too.
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

/// A token or a quoted string, and what follows it. Escapes in the string are refused: no value that is read here needs them.
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
        return Some(Node::Hidden);
    }
    match address_and_port(name)? {
        Node::Known(address, None) => Some(Node::Known(address, port.and_then(|port| syntax::port(port.as_bytes())))),
        _ => None,
    }
}

fn is_obfuscated(text: &str) -> bool {
    text.strip_prefix('_').is_some_and(|rest| {
        !rest.is_empty() && rest.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"._-".contains(&byte))
    })
}

#[cfg(test)]
mod tests;
