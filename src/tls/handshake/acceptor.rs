//! What all handshakes of a worker share.

use std::{io, sync::Arc};

use ostler_wire::{ClientCertificate, TicketKeys, Tls};
use rustls::{
    CipherSuite, RootCertStore, ServerConfig, SupportedProtocolVersion,
    crypto::{CryptoProvider, ring},
    server::{NoServerSessionStorage, UnbufferedServerConnection, WebPkiClientVerifier, danger::ClientCertVerifier},
    version::{TLS12, TLS13},
};

use super::{
    Failure, Handshake,
    certificates::{Certificates, chain},
    tickets::Tickets,
    witness::Witness,
};
use crate::{Facts, Sign, facts::authorities};

/// The only protocol within TLS (RFC 7301). A client that offers others alone gets no_application_protocol.
const HTTP: &[u8] = b"http/1.1";

/// Begins handshakes.
pub struct Acceptor {
    config: ServerConfig,
    certificates: Arc<Certificates>,
    tickets: Arc<Tickets>,
    client_certificate: ClientCertificate,
    authorities: u64,
}

impl Acceptor {
    /// `signer` has the keys of the certificates. Without ticket keys, and where clients show certificates, there are no tickets: a session
    /// that is resumed is not verified again.
    pub fn new(tls: &Tls, signer: Arc<dyn Sign>, ticket_keys: Option<&TicketKeys>) -> io::Result<Acceptor> {
        let provider = Arc::new(provider(&tls.suites));
        let versions: &[&SupportedProtocolVersion] = if tls.tls12 { &[&TLS13, &TLS12] } else { &[&TLS13] };
        let certificates = Arc::new(Certificates::new(tls, &signer)?);
        let builder = ServerConfig::builder_with_provider(provider.clone()).with_protocol_versions(versions);
        let builder = builder.map_err(|error| invalid(&error))?;
        let builder = match verifier(tls, provider)? {
            Some(verifier) => builder.with_client_cert_verifier(verifier),
            None => builder.with_no_client_auth(),
        };
        let mut config = builder.with_cert_resolver(Witness::new(certificates.clone()));
        config.alpn_protocols = vec![HTTP.to_vec()];
        config.enable_secret_extraction = true;
        config.ignore_client_order = !tls.suites.is_empty();
        config.session_storage = Arc::new(NoServerSessionStorage {});
        let resumes = tls.client_certificate == ClientCertificate::None;
        let tickets = Arc::new(Tickets::new(ticket_keys.filter(|_| resumes)));
        config.ticketer = tickets.clone();
        let authorities = if resumes { 0 } else { authorities(&tls.client_authorities) };
        Ok(Acceptor { config, certificates, tickets, client_certificate: tls.client_certificate, authorities })
    }

    /// Changes the keys of tickets, where there are any.
    pub fn change_ticket_keys(&self, keys: &TicketKeys) {
        use rustls::server::ProducesTickets;
        if self.tickets.enabled() {
            self.tickets.change(keys);
        }
    }

    /// Whether a connection whose handshake another one has made, perhaps with other settings, meets these.
    pub fn admits(&self, facts: &Facts) -> bool {
        match facts.client_certificate {
            Some(_) => facts.authorities == self.authorities,
            None => self.client_certificate != ClientCertificate::Required,
        }
    }

    /// Begins a connection's handshake.
    pub fn begin(&self) -> Result<Handshake, Failure> {
        let witness = Witness::new(self.certificates.clone());
        let mut config = self.config.clone();
        config.cert_resolver = witness.clone();
        config.key_log = witness.clone();
        Ok(Handshake::new(UnbufferedServerConnection::new(Arc::new(config))?, witness, self.authorities))
    }
}

/// ring's, with these suites in this order; with all of them where there are none.
fn provider(suites: &[u16]) -> CryptoProvider {
    let mut provider = ring::default_provider();
    if !suites.is_empty() {
        let wanted = suites.iter().map(|number| CipherSuite::from(*number));
        let known = std::mem::take(&mut provider.cipher_suites);
        provider.cipher_suites =
            wanted.filter_map(|wanted| known.iter().find(|known| known.suite() == wanted).copied()).collect();
    }
    provider
}

fn verifier(tls: &Tls, provider: Arc<CryptoProvider>) -> io::Result<Option<Arc<dyn ClientCertVerifier>>> {
    if tls.client_certificate == ClientCertificate::None {
        return Ok(None);
    }
    let mut authorities = RootCertStore::empty();
    for authority in chain(&tls.client_authorities)? {
        authorities.add(authority).map_err(|error| invalid(&error))?;
    }
    let builder = WebPkiClientVerifier::builder_with_provider(Arc::new(authorities), provider);
    let builder = match tls.client_certificate {
        ClientCertificate::Optional => builder.allow_unauthenticated(),
        ClientCertificate::None | ClientCertificate::Required => builder,
    };
    Ok(Some(builder.build().map_err(|error| invalid(&error))?))
}

fn invalid(error: &dyn std::error::Error) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, error.to_string())
}

impl std::fmt::Debug for Acceptor {
    fn fmt(&self, f: &mut std::fmt::Formatter) -> std::fmt::Result {
        f.write_str("Acceptor")
    }
}
