//! Who the client is: from the socket, from a PROXY header, or from the fields of a trusted proxy.

use std::{
    net::{IpAddr, Ipv4Addr, SocketAddr},
    sync::Arc,
};

use ostler_http::{
    proxy::forwarded::Origin,
    uwsgi::{Gateway, Remote},
};
use ostler_tls::Facts;
use ostler_wire::{Peers, Trust};

use super::tls_variables::tls_variables;

/// The client, and the address that it used (PEP 3333's REMOTE_ADDR, SERVER_NAME, wsgi.url_scheme …).
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Client {
    /// `REMOTE_ADDR`; empty for a Unix socket, and where a trusted proxy hides its client.
    pub address: String,
    /// `REMOTE_PORT`
    pub port: Option<u16>,
    /// Whether the client came by https: within TLS, or as a trusted proxy says.
    pub https: bool,
    /// The index of the listener in [`ostler_wire::Boot::listeners`]; gives SERVER_NAME and SERVER_PORT where nothing below does.
    pub listener: u16,
    /// Replaces `HTTP_HOST` (X-Forwarded-Host of a trusted proxy, or the authority of an absolute target).
    pub host: Option<String>,
    /// Replaces `SERVER_PORT`.
    pub server_port: Option<u16>,
    /// Goes before PATH_INFO's prefix check: `SCRIPT_NAME` as a trusted proxy says, without a final slash.
    pub prefix: Option<String>,
    /// What else is in its environ, as its connection's TLS shows, or a web server says that speaks the uwsgi protocol; replaces what is
    /// there.
    pub variables: Vec<(String, Vec<u8>)>,
}

/// The client at the other end of a connection.
#[derive(Clone)]
pub(crate) struct Peer {
    pub client: Arc<Client>,
    /// Whether its word on forwarding counts (`--forwarded-allow-ips`).
    pub trusted: bool,
}

impl Peer {
    /// The client of a connection, and whether the connection's listener trusts it.
    pub fn new(address: Option<SocketAddr>, listener: u16, trust: &Trust) -> Peer {
        let ip = address.map(|address| address.ip().to_canonical());
        let client = Client {
            address: ip.map(|ip| ip.to_string()).unwrap_or_default(),
            port: address.map(|address| address.port()),
            listener,
            ..Client::default()
        };
        Peer { client: Arc::new(client), trusted: contains(&trust.forwarded_allow, ip) }
    }

    /// The same, where its connection is within TLS.
    pub fn within_tls(mut self, facts: Facts) -> Peer {
        let client = Arc::make_mut(&mut self.client);
        client.https = true;
        client.variables = tls_variables(&facts);
        self
    }

    /// The client of a smoke test. It sends no fields about forwarding.
    pub fn on_this_machine(https: bool, port: u16, listener: u16) -> Peer {
        let address = Ipv4Addr::LOCALHOST.to_string();
        let client = Client { address, https, listener, server_port: Some(port), ..Client::default() };
        Peer { client: Arc::new(client), trusted: false }
    }

    /// The client of a web server that speaks the uwsgi protocol. It is that client who sent the fields about forwarding, and only if the
    /// server has told who it is are they believed.
    pub fn behind(gateway: Gateway, address: Option<SocketAddr>, listener: u16, trust: &Trust) -> Peer {
        let (ip, trusted) = match gateway.address {
            Some(Remote::At(ip)) => (Some(ip), contains(&trust.forwarded_allow, Some(ip))),
            Some(Remote::Unix) => (None, trust.forwarded_allow.unix),
            None => (address.map(|address| address.ip().to_canonical()), false),
        };
        let client = Client {
            address: ip.map(|ip| ip.to_string()).unwrap_or_default(),
            port: gateway.port,
            https: gateway.https,
            listener,
            host: None,
            server_port: gateway.server_port,
            prefix: gateway.script_name,
            variables: gateway.variables,
        };
        Peer { client: Arc::new(client), trusted }
    }
}

impl Client {
    /// Replaces what a trusted proxy says otherwise.
    pub(crate) fn apply(&mut self, origin: &Origin) {
        if origin.hidden || origin.address.is_some() {
            self.address = origin.address.map(|address| address.to_string()).unwrap_or_default();
            self.port = origin.port;
        }
        self.https = origin.https.unwrap_or(self.https);
        self.host = origin.host.map(str::to_owned).or(self.host.take());
        self.server_port = origin.server_port.or(self.server_port);
        self.prefix = origin.prefix.map(str::to_owned).or(self.prefix.take());
    }
}

/// Whether a new connection must begin with a PROXY header.
pub(crate) fn proxy_expected(trust: &Trust, address: Option<SocketAddr>) -> bool {
    trust.proxy_protocol && contains(&trust.proxy_allow, address.map(|address| address.ip()))
}

/// Whether a peer may speak for clients by the uwsgi protocol. Who may connect to a Unix socket, its file says.
pub(crate) fn may_speak_uwsgi(trust: &Trust, address: Option<SocketAddr>) -> bool {
    address.is_none_or(|address| trust.uwsgi_allow.contains(address.ip()))
}

/// Whether a set contains a peer. A peer without an address uses a Unix socket.
fn contains(peers: &Peers, address: Option<IpAddr>) -> bool {
    address.map_or(peers.unix, |address| peers.contains(address))
}
