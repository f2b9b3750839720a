//! What workers know of TLS. No private key is among it: these stay in the key keeper, which signs.

use serde::{Deserialize, Serialize};

/// Certificates, and what is asked of clients; the first certificate is for clients whose server name fits none.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Tls {
    /// In the order of `--certfile`.
    pub certificates: Vec<Certificate>,
    /// `--ca-certs`: who may have signed a client's certificate; PEM, none when empty.
    pub client_authorities: String,
    /// `--cert-reqs`
    pub client_certificate: ClientCertificate,
    /// Whether TLS 1.2 is spoken beside 1.3.
    pub tls12: bool,
    /// `--ciphers`: the cipher suites by their numbers (IANA), best first; all of them when empty.
    pub suites: Vec<u16>,
}

/// A chain whose key the key keeper has.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Certificate {
    /// The site's own certificate first; PEM.
    pub chain: String,
    /// For which server names, lower case: `shop.example`, `*.shop.example`.
    pub names: Vec<String>,
    /// The key's name at the key keeper.
    pub key: u64,
    /// The signature schemes that the key can make, by their numbers (RFC 8446, 4.2.3), best first.
    pub schemes: Vec<u16>,
}

/// Whether clients show a certificate.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum ClientCertificate {
    /// They are not asked.
    #[default]
    None,
    /// They are asked; one that they show must be good.
    Optional,
    /// Without a good one there is no connection.
    Required,
}

/// The keys of session tickets (RFC 8446, 4.6.1), which all workers share. The master changes them.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct TicketKeys {
    /// Opens tickets of the time before.
    pub previous: [u8; 32],
    /// Makes tickets.
    pub current: [u8; 32],
    /// Opens tickets of workers that have been told of the change already.
    pub next: [u8; 32],
}

impl std::fmt::Debug for TicketKeys {
    fn fmt(&self, f: &mut std::fmt::Formatter) -> std::fmt::Result {
        f.write_str("TicketKeys")
    }
}
