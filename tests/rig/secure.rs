//! Certificates for sites under test, and clients of their TLS.

use std::{
    io::{self, BufRead, BufReader, Read, Write},
    net::TcpStream,
    sync::Arc,
};

use rcgen::{CertificateParams, KeyPair};
use rustls::{
    ClientConfig, ClientConnection, RootCertStore, StreamOwned, SupportedProtocolVersion,
    crypto::ring,
    pki_types::{CertificateDer, PrivateKeyDer, ServerName, pem::PemObject},
    version::{TLS12, TLS13},
};

use crate::PATIENCE;

/// What each certificate is for.
const NAME: &str = "site.test";

/// A certificate with its key, and clients that know it.
pub struct Certificate {
    /// PEM.
    pub chain: String,
    /// PEM.
    pub key: String,
    roots: RootCertStore,
}

/// The version that a client speaks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Version {
    /// TLS 1.3
    Tls13,
    /// TLS 1.2
    Tls12,
}

impl Certificate {
    /// One that signs itself.
    #[allow(clippy::new_without_default)]
    pub fn new() -> Certificate {
        let key = KeyPair::generate().expect("there is randomness");
        let params = CertificateParams::new(vec![NAME.to_owned()]).expect("it is a name");
        let certificate = params.self_signed(&key).expect("the key signs");
        let mut roots = RootCertStore::empty();
        roots.add(certificate.der().clone()).expect("it can be read");
        Certificate { chain: certificate.pem(), key: key.serialize_pem(), roots }
    }

    /// Connects to `https://127.0.0.1:8443`, as a daemon's log names it, and shakes hands with the first request.
    pub fn connect(&self, address: &str, version: Version) -> SecureClient {
        self.connect_as(address, version, None)
    }

    /// The same, and the client may show a certificate of its own.
    pub fn connect_as(&self, address: &str, version: Version, own: Option<&Certificate>) -> SecureClient {
        self.try_connect(address, version, own)
            .unwrap_or_else(|error| panic!("could not connect to {address}: {error}"))
    }

    /// The same, where it may fail.
    pub fn try_connect(&self, address: &str, version: Version, own: Option<&Certificate>) -> io::Result<SecureClient> {
        let socket = TcpStream::connect(address.trim_start_matches("https://"))?;
        socket.set_nodelay(true)?;
        socket.set_read_timeout(Some(PATIENCE))?;
        socket.set_write_timeout(Some(PATIENCE))?;
        let name = ServerName::try_from(NAME).expect("it is a name");
        let tls = ClientConnection::new(self.clients(version, own), name).map_err(io::Error::other)?;
        Ok(SecureClient(BufReader::new(StreamOwned::new(tls, socket))))
    }

    fn clients(&self, version: Version, own: Option<&Certificate>) -> Arc<ClientConfig> {
        let version: &SupportedProtocolVersion = match version {
            Version::Tls13 => &TLS13,
            Version::Tls12 => &TLS12,
        };
        let builder = ClientConfig::builder_with_provider(Arc::new(ring::default_provider()));
        let builder = builder.with_protocol_versions(&[version]).expect("ring has suites for it");
        let builder = builder.with_root_certificates(self.roots.clone());
        Arc::new(match own {
            Some(own) => {
                let chain = CertificateDer::from_pem_slice(own.chain.as_bytes()).expect("it was written here");
                let key = PrivateKeyDer::from_pem_slice(own.key.as_bytes()).expect("it was written here");
                builder.with_client_auth_cert(vec![chain], key).expect("they belong to each other")
            }
            None => builder.with_no_client_auth(),
        })
    }
}

/// One connection.
pub struct SecureClient(BufReader<StreamOwned<ClientConnection, TcpStream>>);

impl SecureClient {
    /// Asks, and returns the answer's status and body, which has a Content-Length.
    pub fn ask(&mut self, method: &str, target: &str, body: &[u8]) -> io::Result<(u16, Vec<u8>)> {
        let head = format!(
            "{method} {target} HTTP/1.1\r\nHost: {NAME}\r\nContent-Length: {length}\r\n\r\n",
            length = body.len()
        );
        let stream = self.0.get_mut();
        stream.write_all(head.as_bytes())?;
        stream.write_all(body)?;
        stream.flush()?;
        self.answer()
    }

    /// Changes its keys (TLS 1.3) with the next request, and asks the site for the same.
    pub fn change_keys(&mut self) {
        self.0.get_mut().conn.refresh_traffic_keys().expect("TLS 1.3, after the handshake");
    }

    fn answer(&mut self) -> io::Result<(u16, Vec<u8>)> {
        let (mut status, mut length) = (0, 0);
        loop {
            let mut line = String::new();
            if self.0.read_line(&mut line)? == 0 {
                return Err(io::ErrorKind::UnexpectedEof.into());
            }
            if let Some(rest) = line.strip_prefix("HTTP/1.1 ") {
                status = rest[..3].parse().map_err(io::Error::other)?;
            } else if let Some(rest) = line.strip_prefix("Content-Length: ") {
                length = rest.trim().parse().map_err(io::Error::other)?;
            } else if line == "\r\n" {
                break;
            }
        }
        let mut body = vec![0; length];
        self.0.read_exact(&mut body)?;
        Ok((status, body))
    }
}
