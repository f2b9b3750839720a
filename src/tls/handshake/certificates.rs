//! Which certificate a client is shown, and keys that sign elsewhere.

use std::{fmt, io, sync::Arc};

use ostler_wire::{Certificate, Tls};
use rustls::{
    Error, SignatureAlgorithm, SignatureScheme,
    pki_types::{CertificateDer, pem::PemObject},
    sign::{CertifiedKey, Signer, SigningKey},
};

use crate::Sign;

/// In the order of [`Tls::certificates`].
pub(super) struct Certificates(Vec<Shown>);

struct Shown {
    names: Vec<String>,
    schemes: Vec<SignatureScheme>,
    key: Arc<CertifiedKey>,
}

impl Certificates {
    pub fn new(tls: &Tls, signer: &Arc<dyn Sign>) -> io::Result<Certificates> {
        let shown = |certificate: &Certificate| {
            let schemes: Vec<_> = certificate.schemes.iter().map(|scheme| SignatureScheme::from(*scheme)).collect();
            let key = RemoteKey { signer: signer.clone(), key: certificate.key, schemes: schemes.clone() };
            let key = Arc::new(CertifiedKey::new(chain(&certificate.chain)?, Arc::new(key)));
            Ok(Shown { names: certificate.names.clone(), schemes, key })
        };
        Ok(Certificates(tls.certificates.iter().map(shown).collect::<io::Result<_>>()?))
    }

    /// That for exactly this name, else one for all names of its domain, else the first. Of several, the first whose key can sign as the
    /// client wants.
    pub fn choose(&self, name: Option<&str>, offered: &[SignatureScheme]) -> Option<Arc<CertifiedKey>> {
        let parent = name.and_then(|name| name.split_once('.')).map(|(_, parent)| parent);
        let exact = |shown: &&Shown| shown.names.iter().any(|own| Some(&own[..]) == name);
        let wild = |shown: &&Shown| shown.names.iter().any(|own| parent.is_some() && own.strip_prefix("*.") == parent);
        let signs = |shown: &&Shown| shown.schemes.iter().any(|scheme| offered.contains(scheme));
        let all = || self.0.iter();
        let (exact, wild) = (|| all().filter(exact), || all().filter(wild));
        let mut fitting = exact().filter(signs).chain(wild().filter(signs));
        let chosen = fitting.next().or_else(|| all().find(signs)).or_else(|| exact().chain(wild()).chain(all()).next());
        chosen.map(|shown| shown.key.clone())
    }
}

/// The certificates of a PEM text.
pub(super) fn chain(pem: &str) -> io::Result<Vec<CertificateDer<'static>>> {
    let chain = CertificateDer::pem_slice_iter(pem.as_bytes()).collect::<Result<Vec<_>, _>>();
    chain.map_err(|error| io::Error::new(io::ErrorKind::InvalidData, format!("certificates are no PEM: {error}")))
}

/// A key that this process does not have.
struct RemoteKey {
    signer: Arc<dyn Sign>,
    key: u64,
    schemes: Vec<SignatureScheme>,
}

impl SigningKey for RemoteKey {
    fn choose_scheme(&self, offered: &[SignatureScheme]) -> Option<Box<dyn Signer>> {
        let scheme = *self.schemes.iter().find(|scheme| offered.contains(scheme))?;
        Some(Box::new(RemoteSigner { signer: self.signer.clone(), key: self.key, scheme }))
    }

    fn algorithm(&self) -> SignatureAlgorithm {
        self.schemes.first().and_then(|scheme| algorithm(*scheme)).unwrap_or(SignatureAlgorithm::Anonymous)
    }
}

/// TLS 1.2 chooses its cipher suites by this; RSA-PSS has an algorithm of its own only there where it does not matter.
fn algorithm(scheme: SignatureScheme) -> Option<SignatureAlgorithm> {
    use SignatureScheme as S;
    match scheme {
        S::RSA_PKCS1_SHA1 | S::RSA_PKCS1_SHA256 | S::RSA_PKCS1_SHA384 | S::RSA_PKCS1_SHA512 => {
            Some(SignatureAlgorithm::RSA)
        }
        S::RSA_PSS_SHA256 | S::RSA_PSS_SHA384 | S::RSA_PSS_SHA512 => Some(SignatureAlgorithm::RSA),
        S::ECDSA_NISTP256_SHA256 | S::ECDSA_NISTP384_SHA384 | S::ECDSA_NISTP521_SHA512 => {
            Some(SignatureAlgorithm::ECDSA)
        }
        S::ED25519 => Some(SignatureAlgorithm::ED25519),
        _ => None,
    }
}

struct RemoteSigner {
    signer: Arc<dyn Sign>,
    key: u64,
    scheme: SignatureScheme,
}

impl Signer for RemoteSigner {
    fn sign(&self, message: &[u8]) -> Result<Vec<u8>, Error> {
        let signed = self.signer.sign(self.key, self.scheme.into(), message);
        signed.map_err(|error| Error::General(format!("the key keeper has not signed: {error}")))
    }

    fn scheme(&self) -> SignatureScheme {
        self.scheme
    }
}

impl fmt::Debug for RemoteKey {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        write!(f, "RemoteKey({})", self.key)
    }
}

impl fmt::Debug for RemoteSigner {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        write!(f, "RemoteSigner({})", self.key)
    }
}
