//! What a site listens to, what is spoken there, and whom it believes.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use serde::{Deserialize, Serialize};

/// A bound socket.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Listener {
    /// What it is bound to, as told to people: `http://127.0.0.1:8000` or `unix:/run/site.sock`; of another protocol than HTTP, it
    /// begins with that: `https://127.0.0.1:8443`, `uwsgi://127.0.0.1:8000`, `uwsgi://unix:/run/site.sock`.
    pub name: String,
    /// What `SERVER_NAME` says where the Host field does not matter: the host, or the socket's path.
    pub host: String,
    /// `SERVER_PORT`; none on a Unix socket.
    pub port: Option<u16>,
    /// What its clients speak.
    #[serde(default)]
    pub protocol: Protocol,
    /// What they are believed.
    #[serde(default)]
    pub trust: Trust,
}

impl Listener {
    /// For HTTP, with the trust that holds when no option is given.
    pub fn http(name: impl Into<String>, host: impl Into<String>, port: Option<u16>) -> Listener {
        let (protocol, trust) = (Protocol::Http, Trust::default());
        Listener { name: name.into(), host: host.into(), port, protocol, trust }
    }

    /// The same for clients that speak something else.
    pub fn speaking(self, protocol: Protocol) -> Listener {
        let name = match protocol {
            Protocol::Http => self.name,
            Protocol::Https => format!("{HTTPS}{}", self.name.trim_start_matches("http://")),
            Protocol::Uwsgi => format!("{UWSGI}{}", self.name.trim_start_matches("http://")),
        };
        Listener { name, protocol, ..self }
    }
}

/// What is spoken on a connection.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Protocol {
    /// HTTP/1.0 and HTTP/1.1 (RFC 9112), in the clear.
    #[default]
    Http,
    /// The same within TLS.
    Https,
    /// The uwsgi protocol, as nginx's `uwsgi_pass` speaks it.
    Uwsgi,
}

/// What the name of a listener for the uwsgi protocol begins with.
const UWSGI: &str = "uwsgi://";
/// The same of one for HTTP within TLS.
const HTTPS: &str = "https://";

impl Protocol {
    /// That of the listener with this name.
    pub fn of(listener: &str) -> Protocol {
        match listener {
            name if name.starts_with(UWSGI) => Protocol::Uwsgi,
            name if name.starts_with(HTTPS) => Protocol::Https,
            _ => Protocol::Http,
        }
    }
}

/// What the peers of a listener are believed about the clients behind them.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Trust {
    /// `--forwarded-allow-ips`
    pub forwarded_allow: Peers,
    /// `--forwarded-fields`: what those are believed about.
    pub forwarded_fields: Vec<ForwardedField>,
    /// `--secure-scheme-headers`: fields, and the values that mean https; in place of the scheme's fields among those.
    #[serde(default)]
    pub secure_schemes: Option<Vec<(String, String)>>,
    /// `--forwarder-headers`: fields with underscores that are theirs.
    #[serde(default)]
    pub forwarder_headers: Vec<String>,
    /// `--proxy-protocol`: a PROXY header is required from the peers of `proxy_allow`.
    pub proxy_protocol: bool,
    /// `--proxy-allow-from`
    pub proxy_allow: Peers,
    /// `--uwsgi-allow-from`: who may speak the uwsgi protocol. At Unix sockets, everybody who may connect.
    #[serde(default)]
    pub uwsgi_allow: Peers,
}

/// The options' defaults: X-Forwarded-For and X-Forwarded-Proto, from this machine.
impl Default for Trust {
    fn default() -> Trust {
        let local = vec![(Ipv4Addr::LOCALHOST.into(), 32), (Ipv6Addr::LOCALHOST.into(), 128)];
        Trust {
            forwarded_allow: Peers { networks: local.clone(), unix: true },
            forwarded_fields: vec![ForwardedField::XForwardedFor, ForwardedField::XForwardedProto],
            secure_schemes: None,
            forwarder_headers: Vec::new(),
            proxy_protocol: false,
            proxy_allow: Peers { networks: local.clone(), unix: false },
            uwsgi_allow: Peers { networks: local, unix: false },
        }
    }
}

/// A set of peers: networks, and whether Unix sockets belong to it.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Peers {
    /// Address and prefix length; `0.0.0.0/0` and `::/0` for `*`.
    pub networks: Vec<(IpAddr, u8)>,
    /// `unix:`
    pub unix: bool,
}

impl Peers {
    /// Whether an address is in one of the networks. An IPv4 address mapped into IPv6 counts as IPv4.
    pub fn contains(&self, address: IpAddr) -> bool {
        let address = address.to_canonical();
        self.networks.iter().any(|(network, prefix)| match (network, address) {
            (IpAddr::V4(n), IpAddr::V4(a)) => same_prefix(n.to_bits().into(), a.to_bits().into(), 32, *prefix),
            (IpAddr::V6(n), IpAddr::V6(a)) => same_prefix(n.to_bits(), a.to_bits(), 128, *prefix),
            _ => false,
        })
    }
}

fn same_prefix(a: u128, b: u128, width: u8, prefix: u8) -> bool {
    (a ^ b).checked_shr(u32::from(width - prefix.min(width))).unwrap_or(0) == 0
}

/// A field by which a proxy tells who asked for what.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[allow(missing_docs, reason = "each is the field of that name")]
pub enum ForwardedField {
    XForwardedFor,
    XForwardedProto,
    XForwardedProtocol,
    XForwardedSsl,
    XForwardedHost,
    XForwardedPort,
    XForwardedPrefix,
    Forwarded,
    XRequestStart,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_network_holds_its_addresses_and_no_others() {
        let peers =
            Peers { networks: vec![("10.0.0.0".parse().unwrap(), 8), ("::1".parse().unwrap(), 128)], unix: false };
        for inside in ["10.255.1.2", "::1", "::ffff:10.1.1.1"] {
            assert!(peers.contains(inside.parse().unwrap()), "{inside}");
        }
        for outside in ["11.0.0.1", "::2", "::ffff:11.1.1.1"] {
            assert!(!peers.contains(outside.parse().unwrap()), "{outside}");
        }
        let everyone = Peers { networks: vec![("0.0.0.0".parse().unwrap(), 0)], unix: false };
        assert!(everyone.contains("203.0.113.9".parse().unwrap()));
    }
}
