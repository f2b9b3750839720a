//! Where to listen: `host:port`, `:port`, `[v6]:port`, `host`, `unix:path`, `fd://N`, as gunicorn reads them, `unix:@name`, and
//! `systemd` or `systemd:name` for sockets that systemd passes.

use std::{
    fmt,
    net::Ipv6Addr,
    path::{Path, PathBuf},
};

use ostler_wire::Protocol;
use serde::{Deserialize, Serialize};

/// The port of an address that names none.
const PORT: u16 = 8000;

/// Where to listen.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum Address {
    /// `host:port`; the host may be a name or an address without brackets, and is empty for all addresses.
    Tcp(String, u16),
    /// `unix:path`
    Unix(PathBuf),
    /// `unix:@name`: no file.
    Abstract(String),
    /// `fd://N`: inherited, bound already.
    Inherited(i32),
    /// `systemd`, `systemd:name`: inherited from systemd, all or those with that FileDescriptorName=.
    Passed(Option<String>),
}

impl Address {
    /// Reads an address that may begin with what is spoken there: `https://host:port`, `uwsgi://host:port`, `http://unix:path`, and `uwsgi:///path` for a Unix
    /// socket.
    pub fn with_protocol(text: &str, base: &Path) -> Result<(Address, Option<Protocol>), String> {
        let schemes = [("http://", Protocol::Http), ("https://", Protocol::Https), ("uwsgi://", Protocol::Uwsgi)];
        let found = schemes.into_iter().find_map(|(scheme, protocol)| Some((text.strip_prefix(scheme)?, protocol)));
        let Some((rest, protocol)) = found else { return Ok((Address::parse(text, base)?, None)) };
        let address = match rest.starts_with('/') {
            true => Address::parse(&format!("unix:{rest}"), base),
            false => Address::parse(rest, base),
        };
        Ok((address?, Some(protocol)))
    }

    /// Reads an address; the path of a Unix socket counts from `base`.
    pub fn parse(text: &str, base: &Path) -> Result<Address, String> {
        Address::parse_with_port(text, base, PORT)
    }

    /// The same with the port of an address that names none.
    pub fn parse_with_port(text: &str, base: &Path, port: u16) -> Result<Address, String> {
        let expected = || "expected host:port, :port, [v6]:port, unix:path, unix:@name, systemd or fd://N".to_string();
        if text == "systemd" {
            return Ok(Address::Passed(None));
        }
        if let Some(name) = text.strip_prefix("systemd:") {
            // systemd.socket(5), FileDescriptorName=
            let names_one = (1..256).contains(&name.len()) && !name.contains(|c: char| c == ':' || c.is_control());
            return names_one
                .then(|| Address::Passed(Some(name.into())))
                .ok_or_else(|| "expected a FileDescriptorName= behind systemd:".into());
        }
        if let Some(name) = text.strip_prefix("unix:@") {
            return hidden(name);
        }
        if let Some(path) = text.strip_prefix("unix:") {
            return unix(path.strip_prefix("//").unwrap_or(path), base).ok_or_else(expected);
        }
        if let Some(number) = text.strip_prefix("fd://") {
            return number.parse().map(Address::Inherited).map_err(|_| expected());
        }
        let text = text.strip_prefix("tcp://").unwrap_or(text);
        let (host, port) = match text.rsplit_once(':') {
            Some((host, port)) if !port.contains(']') && !is_v6(text) => {
                (host, port.parse().map_err(|_| port_is(port))?)
            }
            // A resolver takes a number for an address of IPv4.
            _ if text.parse::<u16>().is_ok_and(|port| port > 0) => {
                return Err(format!("expected host:port; a port alone is :{text}"));
            }
            _ => (text, port),
        };
        tcp(host, port).filter(|_| !text.is_empty()).ok_or_else(expected)
    }
}

/// The name is shown in logs and told to the application, and has the room of `sun_path` but its first byte.
fn hidden(name: &str) -> Result<Address, String> {
    match (1..108).contains(&name.len()) && !name.contains(char::is_control) {
        true => Ok(Address::Abstract(name.into())),
        false => Err("expected a name of at most 107 bytes behind the @".into()),
    }
}

fn unix(path: &str, base: &Path) -> Option<Address> {
    (!path.is_empty() && !path.contains('\0')).then(|| Address::Unix(base.join(path)))
}

fn tcp(host: &str, port: u16) -> Option<Address> {
    let bracketed = host.strip_prefix('[').and_then(|rest| rest.strip_suffix(']'));
    match bracketed {
        Some(v6) => is_v6(v6).then(|| Address::Tcp(v6.into(), port)),
        None => {
            let plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '-' | '_');
            (is_v6(host) || host.chars().all(plain)).then(|| Address::Tcp(host.into(), port))
        }
    }
}

/// `fe80::1%eth0` has its zone behind the percent sign.
fn is_v6(text: &str) -> bool {
    text.split('%').next().is_some_and(|address| address.parse::<Ipv6Addr>().is_ok())
}

fn port_is(port: &str) -> String {
    format!("expected a port from 0 to 65535 behind the colon, found {port:?}")
}

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        match self {
            Address::Tcp(host, port) if is_v6(host) => write!(f, "[{host}]:{port}"),
            Address::Tcp(host, port) => write!(f, "{host}:{port}"),
            Address::Unix(path) => write!(f, "unix:{}", path.display()),
            Address::Abstract(name) => write!(f, "unix:@{name}"),
            Address::Inherited(number) => write!(f, "fd://{number}"),
            Address::Passed(None) => f.write_str("systemd"),
            Address::Passed(Some(name)) => write!(f, "systemd:{name}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(text: &str) -> Result<Address, String> {
        Address::parse(text, Path::new("/srv"))
    }

    #[test]
    fn addresses_as_gunicorn_reads_them() {
        let tcp = |host: &str, port| Ok(Address::Tcp(host.into(), port));
        for (text, expected) in [
            ("127.0.0.1:80", tcp("127.0.0.1", 80)),
            ("tcp://localhost:80", tcp("localhost", 80)),
            (":8080", tcp("", 8080)),
            ("[::1]:80", tcp("::1", 80)),
            ("[::]", tcp("::", 8000)),
            ("::1", tcp("::1", 8000)),
            ("[fe80::1%eth0]:80", tcp("fe80::1%eth0", 80)),
            ("site.example", tcp("site.example", 8000)),
            ("0.0.0.0:0", tcp("0.0.0.0", 0)),
            ("0", tcp("0", 8000)),
            ("unix:run/site.sock", Ok(Address::Unix("/srv/run/site.sock".into()))),
            ("unix:/run/site.sock", Ok(Address::Unix("/run/site.sock".into()))),
            ("unix:///run/site.sock", Ok(Address::Unix("/run/site.sock".into()))),
            ("unix:@site", Ok(Address::Abstract("site".into()))),
            ("fd://3", Ok(Address::Inherited(3))),
            ("systemd", Ok(Address::Passed(None))),
            ("systemd:admin", Ok(Address::Passed(Some("admin".into())))),
        ] {
            assert_eq!(parse(text), expected, "{text}");
        }
    }

    #[test]
    fn other_texts_are_refused() {
        for text in [
            "",
            "host:",
            "host:x",
            "host:65536",
            "8000",
            "[::1",
            "[host]:80",
            "unix:",
            "unix:@",
            "unix:@a\n",
            "fd://x",
            "systemd:",
            "systemd:a:b",
            "http://a:80",
            "a b:80",
            "1:2:3",
        ] {
            assert!(parse(text).is_err(), "{text}");
        }
    }

    #[test]
    fn an_address_may_begin_with_what_is_spoken_there() {
        let parse = |text: &str| Address::with_protocol(text, Path::new("/srv"));
        let socket = || Address::Unix("/run/a".into());
        for (text, expected) in [
            (":80", (Address::Tcp(String::new(), 80), None)),
            ("http://:80", (Address::Tcp(String::new(), 80), Some(Protocol::Http))),
            ("https://:443", (Address::Tcp(String::new(), 443), Some(Protocol::Https))),
            ("uwsgi://[::1]:3031", (Address::Tcp("::1".into(), 3031), Some(Protocol::Uwsgi))),
            ("uwsgi://unix:/run/a", (socket(), Some(Protocol::Uwsgi))),
            ("uwsgi://unix:///run/a", (socket(), Some(Protocol::Uwsgi))),
            ("uwsgi:///run/a", (socket(), Some(Protocol::Uwsgi))),
            ("uwsgi://systemd:a", (Address::Passed(Some("a".into())), Some(Protocol::Uwsgi))),
        ] {
            assert_eq!(parse(text), Ok(expected), "{text}");
        }
        for text in ["uwsgi://", "https://", "fastcgi://a:80", "uwsgi://uwsgi://a:80", "UWSGI://a:80"] {
            assert!(parse(text).is_err(), "{text}");
        }
    }

    #[test]
    fn an_address_is_shown_as_it_can_be_typed() {
        for text in
            ["127.0.0.1:80", "[::1]:80", ":80", "unix:/run/site.sock", "unix:@site", "fd://3", "systemd", "systemd:a"]
        {
            assert_eq!(parse(text).unwrap().to_string(), text);
        }
    }
}
