//! A handshake with oneself: what a client would find out is found out before there is one.

use std::sync::Arc;

use rustls::{
    ClientConfig, ClientConnection, DigitallySignedStruct, Error, ServerConfig, ServerConnection, SignatureScheme,
    SupportedProtocolVersion,
    client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier},
    crypto::{CryptoProvider, ring, verify_tls12_signature, verify_tls13_signature},
    pki_types::{CertificateDer, ServerName, UnixTime},
    sign::{CertifiedKey, SingleCertAndKey},
    version::{TLS12, TLS13},
};

/// More turns than a handshake has flights.
const TURNS: usize = 10;

/// One by each version of the protocol.
pub fn handshakes(certified: CertifiedKey) -> Result<(), Error> {
    let resolver = Arc::new(SingleCertAndKey::from(certified));
    [&TLS13, &TLS12].into_iter().try_for_each(|version| handshake(resolver.clone(), version))
}

fn handshake(resolver: Arc<SingleCertAndKey>, version: &'static SupportedProtocolVersion) -> Result<(), Error> {
    let provider = Arc::new(ring::default_provider());
    let server = ServerConfig::builder_with_provider(provider.clone()).with_protocol_versions(&[version])?;
    let mut server = ServerConnection::new(Arc::new(server.with_no_client_auth().with_cert_resolver(resolver)))?;
    let verifier = Arc::new(AnyName(provider.clone()));
    let client = ClientConfig::builder_with_provider(provider).with_protocol_versions(&[version])?;
    let client = client.dangerous().with_custom_certificate_verifier(verifier).with_no_client_auth();
    let name = ServerName::try_from("ostler.invalid").expect("it is a name");
    let mut client = ClientConnection::new(Arc::new(client), name)?;
    for _ in 0..TURNS {
        let (mut to_server, mut to_client) = (Vec::new(), Vec::new());
        // Neither fails: both sides are memory.
        let _ = client.write_tls(&mut to_server).and_then(|_| server.read_tls(&mut &to_server[..]));
        server.process_new_packets()?;
        let _ = server.write_tls(&mut to_client).and_then(|_| client.read_tls(&mut &to_client[..]));
        client.process_new_packets()?;
    }
    match client.is_handshaking() || server.is_handshaking() {
        true => Err(Error::General("a handshake with it comes to no end".into())),
        false => Ok(()),
    }
}

/// Believes a certificate whatever it is called, but checks what its key has signed.
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
    ) -> Result<ServerCertVerified, Error> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        verify_tls12_signature(message, certificate, signed, &self.0.signature_verification_algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        verify_tls13_signature(message, certificate, signed, &self.0.signature_verification_algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.0.signature_verification_algorithms.supported_schemes()
    }
}
