//! Certificates for tests, and clients that speak TLS and look at nothing but what they are shown.

use std::{
    io::{self, Error},
    net::TcpStream,
    sync::Arc,
    time::{Duration, SystemTime},
};

use rcgen::{BasicConstraints, CertificateParams, DnType, IsCa, Issuer, KeyPair};
use rustls::{
    ClientConfig, ClientConnection, DigitallySignedStruct, HandshakeKind, SignatureScheme, StreamOwned,
    SupportedProtocolVersion,
    client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier},
    crypto::{CryptoProvider, ring, verify_tls12_signature, verify_tls13_signature},
    pki_types::{CertificateDer, PrivateKeyDer, ServerName, UnixTime, pem::PemObject},
};

use crate::{Client, Folder, PATIENCE};

/// A connection within TLS.
pub type TlsStream = StreamOwned<ClientConnection, TcpStream>;

const DAY: Duration = Duration::from_secs(86_400);

/// A certificate and its key, as PEM.
#[derive(Debug, Clone)]
pub struct Pair {
    /// The certificate, and whoever has signed it.
    pub chain: String,
    /// Its key.
    pub key: String,
    /// The number that the key is, and nobody but its owner may have.
    pub secret: Vec<u8>,
}

/// Signs certificates.
pub struct Authority {
    params: CertificateParams,
    key: KeyPair,
    /// As PEM.
    pub certificate: String,
}

fn params(names: &[&str], from: SystemTime, to: SystemTime) -> CertificateParams {
    let names: Vec<String> = names.iter().map(|name| name.to_string()).collect();
    let mut params = CertificateParams::new(names).expect("they are names");
    (params.not_before, params.not_after) = (from.into(), to.into());
    params
}

impl Pair {
    /// One for these names that has signed itself, and holds for three months from yesterday on.
    pub fn of(names: &[&str]) -> Pair {
        Pair::lasting(names, 90)
    }

    /// The same for this number of days; one that has ended for less than none.
    pub fn lasting(names: &[&str], days: i32) -> Pair {
        let now = SystemTime::now();
        let end = if days < 0 { now - DAY * days.unsigned_abs() } else { now + DAY * days.unsigned_abs() };
        let key = KeyPair::generate().expect("the system has random numbers");
        let signed = params(names, now - DAY * 90, end).self_signed(&key).expect("it is whole");
        Pair::with(signed.pem(), &key)
    }

    fn with(chain: String, key: &KeyPair) -> Pair {
        // PKCS#8 around SEC1: the number is the first string of 32 bytes in it (04 20).
        let der = key.serialize_der();
        let at = der.windows(2).position(|two| two == [4, 32]).expect("it is a key of P-256") + 2;
        Pair { chain, key: key.serialize_pem(), secret: der[at..at + 32].to_vec() }
    }

    /// Writes both as `NAME.pem` and `NAME.key`, one after the other, each at once.
    pub fn write(&self, folder: &Folder, name: &str) {
        folder.write(&format!("{name}.pem"), &self.chain);
        folder.write(&format!("{name}.key"), &self.key);
    }

    /// As clients see it.
    pub fn der(&self) -> Vec<u8> {
        CertificateDer::from_pem_slice(self.chain.as_bytes()).expect("it was just made").to_vec()
    }
}

impl Authority {
    /// A new one.
    pub fn new(name: &str) -> Authority {
        let now = SystemTime::now();
        let mut params = params(&[], now - DAY, now + DAY * 90);
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.distinguished_name.push(DnType::CommonName, name);
        let key = KeyPair::generate().expect("the system has random numbers");
        let certificate = params.self_signed(&key).expect("it is whole").pem();
        Authority { params, key, certificate }
    }

    /// Signs a certificate for this name.
    pub fn sign(&self, name: &str) -> Pair {
        let now = SystemTime::now();
        let mut params = params(&[name], now - DAY, now + DAY * 90);
        params.distinguished_name.push(DnType::CommonName, name);
        let key = KeyPair::generate().expect("the system has random numbers");
        let signed = params.signed_by(&key, &Issuer::from_params(&self.params, &self.key)).expect("it is whole");
        Pair::with(format!("{}{}", signed.pem(), self.certificate), &key)
    }
}

/// What a client was shown, and how.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Shown {
    /// The site's own certificate; none if the session was resumed by a client that has forgotten it.
    pub certificate: Vec<u8>,
    /// Whether the session was resumed.
    pub resumed: bool,
}

/// A client that remembers the sessions of its connections.
pub struct TlsClient(Arc<ClientConfig>);

impl TlsClient {
    /// One that speaks all versions.
    #[allow(clippy::new_without_default, reason = "there is none like it")]
    pub fn new() -> TlsClient {
        TlsClient::speaking(rustls::ALL_VERSIONS)
    }

    /// One that speaks these.
    pub fn speaking(versions: &[&'static SupportedProtocolVersion]) -> TlsClient {
        TlsClient::with(versions, None)
    }

    /// One that shows a certificate if it is asked.
    pub fn showing(certificate: &Pair) -> TlsClient {
        TlsClient::with(rustls::ALL_VERSIONS, Some(certificate))
    }

    /// One that speaks these, and shows a certificate if it has one and is asked.
    pub fn with(versions: &[&'static SupportedProtocolVersion], shows: Option<&Pair>) -> TlsClient {
        let provider = Arc::new(ring::default_provider());
        let builder = ClientConfig::builder_with_provider(provider.clone()).with_protocol_versions(versions);
        let builder = builder.expect("these suites go with them").dangerous();
        let builder = builder.with_custom_certificate_verifier(Arc::new(AnyName(provider)));
        let config = match shows {
            None => builder.with_no_client_auth(),
            Some(certificate) => {
                let chain = CertificateDer::pem_slice_iter(certificate.chain.as_bytes()).collect::<Result<_, _>>();
                let key = PrivateKeyDer::from_pem_slice(certificate.key.as_bytes()).expect("it was just made");
                builder.with_client_auth_cert(chain.expect("it was just made"), key).expect("they fit")
            }
        };
        TlsClient(Arc::new(config))
    }

    /// Connects to `127.0.0.1:8443`, also with `https://` before it, and asks for this name.
    pub fn connect(&self, address: &str, name: &str) -> Client {
        self.try_connect(address, name).unwrap_or_else(|error| panic!("could not connect to {address}: {error}"))
    }

    /// The same, where it may fail. The handshake is over when this returns.
    pub fn try_connect(&self, address: &str, name: &str) -> io::Result<Client> {
        let socket = TcpStream::connect(address.trim_start_matches("https://"))?;
        socket.set_nodelay(true)?;
        socket.set_read_timeout(Some(PATIENCE))?;
        socket.set_write_timeout(Some(PATIENCE))?;
        let name = ServerName::try_from(name.to_owned()).map_err(Error::other)?;
        let mut stream = StreamOwned::new(ClientConnection::new(self.0.clone(), name).map_err(Error::other)?, socket);
        while stream.conn.is_handshaking() {
            stream.conn.complete_io(&mut stream.sock)?;
        }
        Ok(Client::within_tls(stream))
    }
}

impl Client {
    /// What its handshake has brought.
    pub fn shown(&self) -> Shown {
        let connection = &self.tls().conn;
        let certificate = connection.peer_certificates().and_then(|all| all.first()).map(|first| first.to_vec());
        Shown {
            certificate: certificate.unwrap_or_default(),
            resumed: connection.handshake_kind() == Some(HandshakeKind::Resumed),
        }
    }
}

/// Believes every certificate, but not that somebody has its key who has not.
#[derive(Debug)]
struct AnyName(Arc<CryptoProvider>);

impl ServerCertVerifier for AnyName {
    fn verify_server_cert(
        &self,
        _: &CertificateDer,
        _: &[CertificateDer],
        _: &ServerName,
        _: &[u8],
        _: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        verify_tls12_signature(message, certificate, signed, &self.0.signature_verification_algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        verify_tls13_signature(message, certificate, signed, &self.0.signature_verification_algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.0.signature_verification_algorithms.supported_schemes()
    }
}
