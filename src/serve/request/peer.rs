//! Who the client is: from the socket, from a PROXY header, or from the fields of a trusted proxy.

use std::{
    net::{IpAddr, SocketAddr},
    sync::Arc,
};

use ostler_http::{
    Refusal,
    proxy::{
        forwarded::{Origin, origin},
        hidden::{OddNames, hidden_fields},
        proxy_protocol,
    },
    target::is_below,
};
use ostler_wire::{HeaderMap, Peers};

use crate::{
    application::Client,
    connection::{Connection, Peer},
    request::work::Incoming,
    shared::Shared,
};

impl Shared {
    /// Whether a new connection must begin with a PROXY header.
    pub(crate) fn proxy_expected(&self, listener: u16, address: Option<SocketAddr>) -> bool {
        let trust = self.trust(listener);
        trust.proxy_protocol && contains(&trust.proxy_allow, address.map(|address| address.ip()))
    }
}

impl Incoming {
    /// Fills in who the client is, and which fields the application may not see.
    pub(crate) fn describe(&mut self, shared: &Shared) -> Result<(), Refusal> {
        let worker = &shared.boot.worker;
        let (head, bytes) = (&self.head, &self.bytes);
        let odd_names = match worker.header_map {
            HeaderMap::Drop => OddNames::Drop,
            HeaderMap::Refuse => OddNames::Refuse,
            HeaderMap::Dangerous => OddNames::Dangerous,
        };
        hidden_fields(head, bytes, odd_names, self.trusted, &mut self.hidden)?;
        if let Some(authority) = head.authority {
            let host = String::from_utf8_lossy(authority.of(bytes)).into_owned();
            Arc::make_mut(&mut self.client).host = Some(host);
        }
        if self.trusted {
            let trust = shared.trust(self.client.listener);
            let believed = shared.believed[usize::from(self.client.listener)];
            let origin = origin(head, bytes, believed, |ip| trust.forwarded_allow.contains(ip))?;
            if origin != Origin::default() {
                Arc::make_mut(&mut self.client).apply(&origin);
            }
        }
        // A proxy that names a prefix has removed it from the path. --root-path is still part of the path.
        let mounted = self.client.prefix.is_some() || is_below(worker.root_path.as_bytes(), head.path.of(bytes));
        if mounted { Ok(()) } else { Err(Refusal { status: 404, why: "path outside of --root-path" }) }
    }
}

impl Connection {
    /// Takes the PROXY header from the beginning of its bytes, if there must be one; `false` while it is not complete.
    pub(crate) fn take_proxy_header(&mut self, bytes: &mut Vec<u8>) -> Result<bool, Refusal> {
        if !self.proxy_expected {
            return Ok(true);
        }
        let Some((length, addresses)) = proxy_protocol::parse(bytes)? else { return Ok(false) };
        bytes.drain(..length);
        self.proxy_expected = false;
        self.address = addresses.map(|(source, _)| source).or(self.address);
        self.peer = None;
        Ok(true)
    }

    /// The peer of the connection, and whether its listener trusts it.
    pub(crate) fn peer(&mut self, shared: &Shared) -> &Peer {
        self.peer.get_or_insert_with(|| {
            let ip = self.address.map(|address| address.ip().to_canonical());
            let client = Client {
                address: ip.map(|ip| ip.to_string()).unwrap_or_default(),
                port: self.address.map(|address| address.port()),
                listener: self.listener,
                ..Client::default()
            };
            Peer { client: Arc::new(client), trusted: contains(&shared.trust(self.listener).forwarded_allow, ip) }
        })
    }
}

impl Client {
    fn apply(&mut self, origin: &Origin) {
        if origin.hidden || origin.address.is_some() {
            self.address = origin.address.map(|address| address.to_string()).unwrap_or_default();
            self.port = origin.port;
        }
        self.https = origin.https.unwrap_or(self.https);
        self.host = origin.host.map(str::to_owned).or(self.host.take());
        self.server_port = origin.server_port;
        self.prefix = origin.prefix.map(str::to_owned);
    }
}

/// Whether a set contains a peer. A peer without an address uses a Unix socket.
fn contains(peers: &Peers, address: Option<IpAddr>) -> bool {
    address.map_or(peers.unix, |address| peers.contains(address))
}
