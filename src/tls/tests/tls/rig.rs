//! Certificates, a signer that has their keys, and both ends of a connection in memory.

use std::{
    io::{self, Read, Write},
    sync::{Arc, Mutex},
};

use ostler_tls::{Acceptor, Established, Failure, Records, Sign};
use ostler_wire::{Certificate, Tls};
use rcgen::{CertificateParams, CertifiedIssuer, KeyPair, PKCS_ECDSA_P256_SHA256, PKCS_ED25519, PKCS_RSA_SHA256};
use rustls::{
    ClientConfig, ClientConnection, RootCertStore, SignatureScheme, SupportedProtocolVersion,
    crypto::ring,
    pki_types::{CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer, ServerName},
    sign::SigningKey,
    version::{TLS12, TLS13},
};

/// An authority that every client knows, and what it has signed.
pub struct Authority(CertifiedIssuer<'static, KeyPair>);

#[derive(Clone, Copy)]
pub enum Kind {
    P256,
    Ed25519,
    /// ring makes no such keys.
    Rsa,
}

/// A key with its certificate.
pub struct Pair {
    pub chain: String,
    pub certificate: CertificateDer<'static>,
    pub key: KeyPair,
}

impl Authority {
    pub fn new() -> Authority {
        let mut params = CertificateParams::default();
        params.is_ca = rcgen::IsCa::Ca(rcgen::BasicConstraints::Unconstrained);
        let key = KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256).unwrap();
        Authority(CertifiedIssuer::self_signed(params, key).unwrap())
    }

    pub fn pem(&self) -> String {
        self.0.pem()
    }

    pub fn sign(&self, kind: Kind, names: &[&str]) -> Pair {
        let key = match kind {
            Kind::P256 => KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256).unwrap(),
            Kind::Ed25519 => KeyPair::generate_for(&PKCS_ED25519).unwrap(),
            Kind::Rsa => KeyPair::from_pem_and_sign_algo(include_str!("rsa.pem"), &PKCS_RSA_SHA256).unwrap(),
        };
        let params = CertificateParams::new(names.iter().map(|name| (*name).to_owned()).collect::<Vec<_>>()).unwrap();
        let certificate = params.signed_by(&key, &self.0).unwrap();
        Pair { chain: certificate.pem(), certificate: certificate.der().clone(), key }
    }
}

impl Pair {
    fn signing_key(&self) -> Arc<dyn SigningKey> {
        ring::sign::any_supported_type(&self.private_key()).unwrap()
    }

    fn private_key(&self) -> PrivateKeyDer<'static> {
        PrivatePkcs8KeyDer::from(self.key.serialize_der()).into()
    }
}

/// Has the keys of the pairs, in their order, and counts its signatures.
pub struct Keeper {
    keys: Vec<Arc<dyn SigningKey>>,
    pub signed: Mutex<Vec<u64>>,
}

impl Sign for Keeper {
    fn sign(&self, key: u64, scheme: u16, message: &[u8]) -> io::Result<Vec<u8>> {
        self.signed.lock().unwrap().push(key);
        let signer = self.keys[key as usize].choose_scheme(&[scheme.into()]).ok_or(io::ErrorKind::Unsupported)?;
        signer.sign(message).map_err(io::Error::other)
    }
}

/// The settings for these pairs, each with its names, and the signer.
pub fn settings(pairs: &[(&Pair, &[&str])]) -> (Tls, Arc<Keeper>) {
    const SCHEMES: [SignatureScheme; 5] = [
        SignatureScheme::ECDSA_NISTP256_SHA256,
        SignatureScheme::ED25519,
        SignatureScheme::RSA_PSS_SHA256,
        SignatureScheme::RSA_PSS_SHA512,
        SignatureScheme::RSA_PKCS1_SHA256,
    ];
    let keys: Vec<_> = pairs.iter().map(|(pair, _)| pair.signing_key()).collect();
    let certificates = pairs.iter().enumerate().map(|(index, (pair, names))| Certificate {
        chain: pair.chain.clone(),
        names: names.iter().map(|name| (*name).to_owned()).collect(),
        key: index as u64,
        schemes: SCHEMES
            .iter()
            .filter(|one| keys[index].choose_scheme(&[**one]).is_some())
            .map(|one| (*one).into())
            .collect(),
    });
    let tls = Tls { certificates: certificates.collect(), tls12: true, ..Tls::default() };
    (tls, Arc::new(Keeper { keys, signed: Mutex::default() }))
}

pub struct Client {
    pub tls: ClientConnection,
    /// What it has heard and was not looked at.
    heard: Vec<u8>,
}

/// How clients are to be.
#[derive(Default)]
pub struct Wishes<'w> {
    pub tls12: bool,
    pub suite: Option<u16>,
    pub alpn: &'w [&'w str],
    pub pair: Option<&'w Pair>,
}

pub fn client_config(authority: &Authority, wishes: &Wishes) -> Arc<ClientConfig> {
    let mut provider = ring::default_provider();
    provider.cipher_suites.retain(|suite| wishes.suite.is_none_or(|wanted| u16::from(suite.suite()) == wanted));
    let mut roots = RootCertStore::empty();
    roots.add(authority.0.der().clone()).unwrap();
    let version: &[&SupportedProtocolVersion] = if wishes.tls12 { &[&TLS12] } else { &[&TLS13] };
    let builder = ClientConfig::builder_with_provider(Arc::new(provider)).with_protocol_versions(version).unwrap();
    let builder = builder.with_root_certificates(roots);
    let mut config = match wishes.pair {
        Some(pair) => builder.with_client_auth_cert(vec![pair.certificate.clone()], pair.private_key()).unwrap(),
        None => builder.with_no_client_auth(),
    };
    config.alpn_protocols = wishes.alpn.iter().map(|protocol| protocol.as_bytes().to_vec()).collect();
    Arc::new(config)
}

impl Client {
    pub fn new(config: &Arc<ClientConfig>, name: &str) -> Client {
        let name = ServerName::try_from(name.to_owned()).unwrap();
        Client { tls: ClientConnection::new(config.clone(), name).unwrap(), heard: Vec::new() }
    }

    /// What it has to send.
    pub fn output(&mut self) -> Vec<u8> {
        let mut out = Vec::new();
        while self.tls.wants_write() {
            self.tls.write_tls(&mut out).unwrap();
        }
        out
    }

    pub fn input(&mut self, mut bytes: &[u8]) -> Result<(), rustls::Error> {
        while !bytes.is_empty() {
            self.tls.read_tls(&mut bytes).unwrap();
            self.tls.process_new_packets()?;
            // The end of the data is an error of kind WouldBlock.
            let _ = self.tls.reader().read_to_end(&mut self.heard);
        }
        Ok(())
    }

    /// Shakes hands; the client's bytes come in pieces of at most that length.
    pub fn connect(&mut self, acceptor: &Acceptor, piece: usize) -> Result<Server, Failure> {
        let mut handshake = acceptor.begin()?;
        loop {
            let bytes = self.output();
            assert!(!bytes.is_empty(), "both wait for each other");
            let mut pieces = bytes.chunks(piece);
            while let Some(piece) = pieces.next() {
                let mut out = Vec::new();
                let taken = handshake.take(piece, &mut out);
                // Where it fails, the alert tells the client.
                let told = self.input(&out);
                handshake = match taken? {
                    Err(handshake) => handshake,
                    Ok(mut established) => {
                        told.unwrap();
                        established.behind.extend(pieces.flatten());
                        return Ok(Server::new(established));
                    }
                };
            }
        }
    }
}

/// The server's end after the handshake.
pub struct Server {
    pub established: Established,
    raw: Vec<u8>,
}

impl Server {
    fn new(mut established: Established) -> Server {
        let raw = std::mem::take(&mut established.behind);
        Server { established, raw }
    }

    /// Moves to another process.
    pub fn moves(&mut self) {
        let mut state = Default::default();
        self.established.records.export(&mut state);
        self.established.records.wipe();
        self.established.records = Records::import(&mut &state[..]).unwrap();
    }

    /// Reads what the client says.
    pub fn hear(&mut self, client: &mut Client) -> Vec<u8> {
        self.raw.extend(client.output());
        let opened = self.established.records.open(&mut self.raw).unwrap();
        let heard = self.raw[..opened.data].to_vec();
        self.raw.drain(..opened.consumed);
        heard
    }

    /// Sends this to the client.
    pub fn say(&mut self, client: &mut Client, bytes: &[u8]) {
        let mut out = Vec::new();
        self.established.records.seal(&[bytes], 0, usize::MAX, &mut out).unwrap();
        client.input(&out).unwrap();
        assert!(std::mem::take(&mut client.heard) == bytes);
    }

    /// A request and its response.
    pub fn exchange(&mut self, client: &mut Client) {
        client.tls.writer().write_all(b"GET / HTTP/1.1\r\n\r\n").unwrap();
        assert_eq!(self.hear(client), b"GET / HTTP/1.1\r\n\r\n");
        self.say(client, &[b'x'; 40_000]);
    }
}
