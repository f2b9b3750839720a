//! Requests of the uwsgi protocol, as a web server in front sends them (nginx's `uwsgi_pass`): one on each connection, as a packet of
//! CGI variables, and behind it a body of CONTENT_LENGTH bytes. The response is that of HTTP, and ends with the connection.
//!
//! ```text
//! modifier1   1 byte: 0, or 30 (PATH_INFO still begins with SCRIPT_NAME)
//! size        2 bytes, little-endian: of what follows modifier2
//! modifier2   1 byte: 0
//! variables   each a name and a value, and before each of these its length, in 2 bytes
//! ```
//!
//! The variables that describe the request are written as the head of HTTP/1 that they were made of, and h1/ reads that: so what is
//! refused there is refused here, by the same limits. What the web server itself says of its client and of the request is
//! [`Gateway`]; only a peer that is configured to speak for clients may be read at all.

use std::net::IpAddr;

use crate::{
    Refusal, RequestHead, Span, Version,
    h1::{Limits, Parse, RequestReader},
    proxy::forwarded,
    syntax::{self, TARGET, is_field_value, is_token_text, run},
};
use variables::{Told, variables};

mod variables;

/// A request that was read.
#[derive(Debug)]
pub struct UwsgiRequest {
    /// What has to stand before the packet: the head's spans are of both together, and [`RequestHead::length`] counts both.
    pub text: Vec<u8>,
    /// Its path is PATH_INFO and its query is QUERY_STRING, where these are told. It is as if from a client that speaks HTTP/1.0: it
    /// takes no chunks and no interim responses.
    pub head: RequestHead,
    /// What the web server says beside that.
    pub gateway: Gateway,
}

/// What a web server says of its client, and of the request as the client made it.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Gateway {
    /// REMOTE_ADDR
    pub address: Option<Remote>,
    /// REMOTE_PORT
    pub port: Option<u16>,
    /// Whether the client came by https: UWSGI_SCHEME, else HTTPS, else REQUEST_SCHEME.
    pub https: bool,
    /// SERVER_PORT
    pub server_port: Option<u16>,
    /// SCRIPT_NAME, without a final slash and never empty.
    pub script_name: Option<String>,
    /// What else is for the application's environ, in the order of the wire; of a name that comes twice, the last counts.
    pub variables: Vec<(String, Vec<u8>)>,
}

/// A client of the web server's.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Remote {
    /// At this address.
    At(IpAddr),
    /// At a Unix socket of the web server's (`unix:`).
    Unix,
}

/// Of what comes before the variables.
const FIXED: usize = 4;

/// Reads a request from the beginning of a connection's bytes. `None`: more are needed.
pub fn parse(input: &[u8], limits: &Limits) -> Result<Option<UwsgiRequest>, Refusal> {
    let Some(packet) = packet(input, limits)? else { return Ok(None) };
    let told = Told::read(packet, limits)?;
    let mut text = told.head_text()?;
    let (target, path) = (text.len(), told.path);
    let mut head = RequestHead::default();
    if RequestReader::default().read(&mut head, &text, limits)? != Parse::Complete {
        return Err(Refusal::malformed("a variable that is no part of a head"));
    }
    if let Some(path) = path {
        encode(path, &mut text);
        head.path = Span::new(target, text.len());
    }
    if let Some(query) = told.query {
        let start = text.len();
        text.extend_from_slice(query);
        head.query = Span::new(start, text.len());
    }
    (head.version, head.keep_alive, head.expects_continue) = (Version::Http10, false, false);
    head.length = text.len() + FIXED + packet.len();
    Ok(Some(UwsgiRequest { text, head, gateway: told.gateway()? }))
}

/// What was asked for, as the request line of HTTP, for the log: of a packet that was refused, or of HTTP in its place.
pub fn line(input: &[u8]) -> Vec<u8> {
    let size = |fixed: &[u8; FIXED]| usize::from(u16::from_le_bytes([fixed[1], fixed[2]]));
    let packet = input.split_first_chunk::<FIXED>().and_then(|(fixed, rest)| rest.get(..size(fixed)));
    let value = |name: &[u8]| {
        let found = variables(packet?).map_while(Result::ok).filter(|(other, _)| *other == name).last();
        found.map(|(_, value)| value)
    };
    match [value(b"REQUEST_METHOD"), value(b"REQUEST_URI"), value(b"SERVER_PROTOCOL")] {
        [Some(method), Some(target), protocol] => [method, target, protocol.unwrap_or_default()].join(&b' '),
        _ if input.first().is_some_and(u8::is_ascii_uppercase) => {
            input.split(|byte| b"\r\n".contains(byte)).next().unwrap_or_default().into()
        }
        _ => Vec::new(),
    }
}

/// The variables' bytes.
fn packet<'i>(input: &'i [u8], limits: &Limits) -> Result<Option<&'i [u8]>, Refusal> {
    match input.first() {
        None => return Ok(None),
        Some(0 | 30) => {}
        Some(byte) if byte.is_ascii_uppercase() => {
            return Err(Refusal::malformed("HTTP where the uwsgi protocol is spoken"));
        }
        Some(_) => return Err(Refusal::malformed("modifier1 is neither 0 nor 30")),
    }
    let Some((&[_, low, high, modifier2], rest)) = input.split_first_chunk::<FIXED>() else { return Ok(None) };
    let size = usize::from(u16::from_le_bytes([low, high]));
    if modifier2 != 0 {
        return Err(Refusal::malformed("modifier2 is not 0"));
    }
    if limits.head > 0 && FIXED + size > limits.head {
        return Err(Refusal::fields_too_large("variables too long"));
    }
    Ok(rest.get(..size))
}

impl Told<'_> {
    /// The head that the web server has read, as HTTP/1 has it.
    fn head_text(&self) -> Result<Vec<u8>, Refusal> {
        let target = self.target()?;
        if !is_token_text(self.method) {
            return Err(Refusal::malformed("REQUEST_METHOD is no method"));
        }
        // A head of HTTP/1.1 without Host would be refused. The web server, which has read the request, has not.
        let has_host = self.fields.iter().any(|(name, _)| *name == b"HOST");
        let version: &[u8] = if has_host && self.protocol != b"HTTP/1.0" { b" HTTP/1.1\r\n" } else { b" HTTP/1.0\r\n" };
        let mut text = [self.method, b" ", &target, version].concat();
        let own = [(&b"CONTENT_TYPE"[..], self.content_type), (b"CONTENT_LENGTH", self.content_length)];
        let own = own.into_iter().filter(|(_, value)| !value.is_empty());
        for (name, value) in self.fields.iter().copied().chain(own) {
            // With a hyphen it would be another variable of the same field.
            if !is_token_text(name) || name.contains(&b'-') {
                return Err(Refusal::malformed("variable of a field without a name of one"));
            }
            if !is_field_value(value) {
                return Err(Refusal::malformed("control character in the variable of a field"));
            }
            text.extend(name.iter().map(|&byte| if byte == b'_' { b'-' } else { byte }));
            text.extend_from_slice(b": ");
            text.extend_from_slice(value);
            text.extend_from_slice(b"\r\n");
        }
        text.extend_from_slice(b"\r\n");
        Ok(text)
    }

    /// REQUEST_URI, or what the others make of it.
    fn target(&self) -> Result<Vec<u8>, Refusal> {
        let plain = |text: &[u8]| run(text, TARGET) == text.len();
        if !self.query.is_none_or(plain) {
            return Err(Refusal::malformed("QUERY_STRING with a character that has no place there"));
        }
        match self.path {
            None | Some([] | [b'/', ..] | b"*") => {}
            Some(_) => return Err(Refusal::malformed("PATH_INFO does not begin with a slash")),
        }
        if self.path.is_some_and(|path| path.contains(&0)) {
            return Err(Refusal::malformed("NUL in PATH_INFO"));
        }
        match (self.uri, self.path) {
            (Some(uri), _) if plain(uri) => Ok(uri.into()),
            (Some(_), _) => Err(Refusal::malformed("REQUEST_URI with a character that has no place there")),
            (None, None) => Err(Refusal::malformed("neither REQUEST_URI nor PATH_INFO")),
            (None, Some(path)) => {
                let mut target = Vec::new();
                encode(self.script_name, &mut target);
                encode(path, &mut target);
                target.extend(
                    self.query
                        .filter(|query| !query.is_empty())
                        .map(|query| [b"?", query].concat())
                        .unwrap_or_default(),
                );
                Ok(target)
            }
        }
    }

    fn gateway(self) -> Result<Gateway, Refusal> {
        let port = |text: &[u8], why| match text {
            b"" => Ok(None),
            _ => syntax::port(text).map(Some).ok_or(Refusal::malformed(why)),
        };
        let scheme = [
            (self.uwsgi_scheme, forwarded::scheme as fn(&[u8]) -> _),
            (self.https, on),
            (self.scheme, forwarded::scheme),
        ];
        let said = scheme.into_iter().find(|(text, _)| !text.is_empty());
        let https =
            said.map(|(text, read)| read(text).ok_or(Refusal::malformed("the scheme is neither http nor https")));
        let script_name = match self.script_name {
            b"" => None,
            name => Some(forwarded::prefix(name).ok_or(Refusal::malformed("SCRIPT_NAME is no plain path"))?),
        };
        Ok(Gateway {
            address: remote(self.address)?,
            port: port(self.port, "REMOTE_PORT is no port")?,
            https: https.transpose()?.unwrap_or(false),
            server_port: port(self.server_port, "SERVER_PORT is no port")?,
            script_name: script_name.filter(|name| !name.is_empty()).map(str::to_owned),
            variables: self.variables,
        })
    }
}

/// Of a client at a Unix socket nginx says `unix:`, Apache nothing.
fn remote(text: &[u8]) -> Result<Option<Remote>, Refusal> {
    match text {
        b"" => Ok(None),
        b"unix:" => Ok(Some(Remote::Unix)),
        _ => {
            let address = str::from_utf8(text).ok().and_then(|text| text.parse::<IpAddr>().ok());
            let address = address.ok_or(Refusal::malformed("REMOTE_ADDR is no address"))?;
            Ok(Some(Remote::At(address.to_canonical())))
        }
    }
}

/// HTTPS
fn on(text: &[u8]) -> Option<bool> {
    match text.to_ascii_lowercase().as_slice() {
        b"on" | b"1" | b"true" | b"yes" | b"https" => Some(true),
        b"off" | b"0" | b"false" | b"no" | b"http" => Some(false),
        _ => None,
    }
}

/// Appends a path as the target of a request has it.
fn encode(path: &[u8], into: &mut Vec<u8>) {
    for &byte in path {
        if syntax::class(byte) & TARGET == 0 || b"%?".contains(&byte) {
            into.extend(format!("%{byte:02X}").bytes());
        } else {
            into.push(byte);
        }
    }
}

#[cfg(test)]
mod tests;
