//! Reads certificates and their keys from files, and checks whether clients could do with them. Only the key keeper does so.
//!
//! What is wrong is one sentence: which file, what, and what helps.

mod keys;
mod pem;
mod trial;

use std::{
    path::{Path, PathBuf},
    time::SystemTime,
};

use ostler_wire::Certificate;
use rustls::{
    RootCertStore,
    pki_types::{CertificateDer, PrivateKeyDer},
    sign::CertifiedKey,
};
use serde::{Deserialize, Serialize};
use x509_cert::{
    der::Decode,
    ext::pkix::{SubjectAltName, name::GeneralName},
};
use zeroize::Zeroizing;

pub use keys::Keys;

use crate::keeper::Kept;

/// The files of `--certfile`, `--keyfile` and `--ca-certs`. Paths are absolute, and symbolic links are followed when they are read.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Files {
    /// The first is for clients whose server name fits none.
    pub pairs: Vec<Pair>,
    /// `--ca-certs`
    pub client_authorities: Option<PathBuf>,
}

/// A certificate with its key.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Pair {
    /// The site's certificate, and those that have signed it.
    pub certificate: PathBuf,
    /// Its key; the same file if both stand there.
    pub key: PathBuf,
}

/// Until when a certificate holds.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Expiry {
    /// The first of its names.
    pub name: String,
    /// When it has begun to hold, in seconds since 1970.
    pub not_before: u64,
    /// When it ends.
    pub not_after: u64,
}

/// How long before its end a certificate should have been renewed, in seconds.
const RENEWED_BEFORE: u64 = 14 * 86_400;

impl Expiry {
    /// Whether it should have been renewed by now: two weeks before its end, or in the last third of a shorter life.
    pub fn is_near(&self, now: u64) -> bool {
        let life = self.not_after.saturating_sub(self.not_before);
        now.saturating_add(RENEWED_BEFORE.min(life / 3)) > self.not_after
    }
}

/// A file that was read.
pub struct Content {
    /// All of it.
    pub text: Zeroizing<Vec<u8>>,
    /// Everybody may read it.
    pub is_public: bool,
}

/// Reads a file, or says why not.
pub type Read<'a> = &'a dyn Fn(&Path) -> Result<Content, String>;

/// A template is told all of it in one message, which has to hold other things, too.
const MOST: usize = 96 << 10;

/// Reads all of it. The keys are in the second part alone.
pub fn load(files: &Files, read: Read, now: SystemTime) -> Result<(Kept, Keys), String> {
    let (mut kept, mut keys) = (Kept::default(), Keys::default());
    for pair in &files.pairs {
        one(pair, read, now, &mut kept, &mut keys)?;
    }
    if let Some(path) = &files.client_authorities {
        kept.client_authorities = authorities(path, read)?;
    }
    let size = kept.certificates.iter().map(|certificate| certificate.chain.len()).sum::<usize>()
        + kept.client_authorities.len();
    if size > MOST {
        return Err(format!(
            "the certificates and their authorities take {} KiB, and {} are the most",
            size >> 10,
            MOST >> 10
        ));
    }
    Ok((kept, keys))
}

fn one(pair: &Pair, read: Read, now: SystemTime, kept: &mut Kept, keys: &mut Keys) -> Result<(), String> {
    let (certificate, key) = (pair.certificate.display(), pair.key.display());
    let chain = pem::certificates(
        &pair.certificate,
        &read(&pair.certificate).map_err(|why| unread(&pair.certificate, &why))?.text,
    )?;
    let content = read(&pair.key).map_err(|why| unread(&pair.key, &why))?;
    if content.is_public {
        kept.warnings.push(format!("everybody can read the key {key}. `chmod o= {key}` mends that."));
    }
    let own = parsed(&chain[0], &certificate)?;
    let names = names(&own);
    let shown = names.first().cloned().unwrap_or_else(|| certificate.to_string());
    let (not_before, not_after) =
        in_time(&own, now).map_err(|why| format!("the certificate {certificate} for {shown} {why}"))?;
    let secret = signing_key(&pair.key, &content.text)?;
    let certified = CertifiedKey::new(chain.clone(), secret.clone());
    certified.keys_match().map_err(|_| unlike(pair, &chain, &certified))?;
    trial::handshakes(certified).map_err(|why| format!("the certificate {certificate} cannot be used: {why}"))?;
    kept.warnings.extend(wrong_order(&chain, &certificate, now)?);
    kept.certificates.push(Certificate {
        chain: pem::text(&chain),
        names,
        key: keys::name(&*secret),
        schemes: keys::schemes(&*secret),
    });
    kept.expiries.push(Expiry { name: shown, not_before, not_after });
    keys.add(secret);
    Ok(())
}

fn unread(path: &Path, why: &str) -> String {
    format!("could not read {}: {why}", path.display())
}

fn signing_key(path: &Path, text: &[u8]) -> Result<std::sync::Arc<dyn rustls::sign::SigningKey>, String> {
    let der: PrivateKeyDer = pem::key(path, text)?;
    let unusable = |_| {
        format!(
            "the key {} cannot be used. Keys are RSA of 2048 to 4096 bits, ECDSA P-256 or P-384, or Ed25519.",
            path.display()
        )
    };
    rustls::crypto::ring::sign::any_supported_type(&der).map_err(unusable)
}

/// The key is another's: whether it is that of a certificate further below is what people want to know.
fn unlike(pair: &Pair, chain: &[CertificateDer<'static>], certified: &CertifiedKey) -> String {
    let fits = |one: &CertificateDer<'static>| {
        CertifiedKey::new(vec![one.clone()], certified.key.clone()).keys_match().is_ok()
    };
    match chain.iter().skip(1).position(fits) {
        Some(place) => format!(
            "{} has the site's own certificate as number {}. It has to be the first, followed by those that have signed it.",
            pair.certificate.display(),
            place + 2
        ),
        None => format!("the key {} is not that of the certificate {}", pair.key.display(), pair.certificate.display()),
    }
}

fn parsed(der: &CertificateDer, what: &dyn std::fmt::Display) -> Result<x509_cert::Certificate, String> {
    x509_cert::Certificate::from_der(der)
        .map_err(|error| format!("{what} holds a certificate that cannot be read: {error}"))
}

/// The host names that it is for, lower case. The name of its subject counts where there is no list of names, as of old.
fn names(certificate: &x509_cert::Certificate) -> Vec<String> {
    let listed = certificate.tbs_certificate().get_extension::<SubjectAltName>().ok().flatten();
    match listed {
        Some((_, SubjectAltName(names))) => names.iter().filter_map(host).collect(),
        None => {
            let common = x509_cert::der::oid::db::rfc4519::COMMON_NAME;
            let subject = certificate.tbs_certificate().subject();
            let found = subject.iter().find(|part| part.oid == common).map(|part| part.value.value().to_vec());
            found
                .and_then(|name| String::from_utf8(name).ok())
                .map(|name| name.to_ascii_lowercase())
                .into_iter()
                .collect()
        }
    }
}

fn host(name: &GeneralName) -> Option<String> {
    match name {
        GeneralName::DnsName(name) => Some(name.as_str().to_ascii_lowercase()),
        GeneralName::IpAddress(bytes) => match *bytes.as_bytes() {
            [a, b, c, d] => Some(std::net::Ipv4Addr::new(a, b, c, d).to_string()),
            ref other => <[u8; 16]>::try_from(other).ok().map(|bytes| std::net::Ipv6Addr::from(bytes).to_string()),
        },
        _ => None,
    }
}

/// From when until when it holds, if it holds now.
fn in_time(certificate: &x509_cert::Certificate, now: SystemTime) -> Result<(u64, u64), String> {
    let validity = certificate.tbs_certificate().validity();
    let day = |time: x509_cert::time::Time| time.to_date_time().to_string();
    if validity.not_after.to_system_time() < now {
        return Err(format!("has expired at {}", day(validity.not_after)));
    }
    if validity.not_before.to_system_time() > now {
        return Err(format!("holds only from {} on", day(validity.not_before)));
    }
    Ok((validity.not_before.to_unix_duration().as_secs(), validity.not_after.to_unix_duration().as_secs()))
}

/// What is wrong with the certificates behind the first. Clients have to find their way through any order (RFC 8446, 4.4.2), and not all do.
fn wrong_order(chain: &[CertificateDer], what: &dyn std::fmt::Display, now: SystemTime) -> Result<Vec<String>, String> {
    let all = chain.iter().map(|der| parsed(der, what)).collect::<Result<Vec<_>, _>>()?;
    let follows =
        |pair: &[x509_cert::Certificate]| pair[0].tbs_certificate().issuer() == pair[1].tbs_certificate().subject();
    let mut found = Vec::new();
    if let Some(place) = all.windows(2).position(|pair| !follows(pair)) {
        found.push(format!(
            "certificate {} of {what} has not signed the one before it; some clients may not trust the site",
            place + 2
        ));
    }
    for (place, certificate) in all.iter().enumerate().skip(1) {
        found.extend(in_time(certificate, now).err().map(|why| format!("certificate {} of {what} {why}", place + 1)));
    }
    let alone = all.len() == 1 && all[0].tbs_certificate().issuer() != all[0].tbs_certificate().subject();
    if alone {
        found.push(format!(
            "{what} holds the site's certificate without those that have signed it; some clients may not trust the site"
        ));
    }
    Ok(found)
}

/// Those that may sign clients' certificates.
fn authorities(path: &Path, read: Read) -> Result<String, String> {
    let chain = pem::certificates(path, &read(path).map_err(|why| unread(path, &why))?.text)?;
    let mut store = RootCertStore::empty();
    for (place, one) in chain.iter().enumerate() {
        let unusable = |error| format!("certificate {} of {} can be no authority: {error}", place + 1, path.display());
        store.add(one.clone()).map_err(unusable)?;
        let is_authority =
            parsed(one, &path.display())?.tbs_certificate().get_extension::<x509_cert::ext::pkix::BasicConstraints>();
        if let Ok(Some((_, constraints))) = is_authority
            && !constraints.ca
        {
            return Err(format!(
                "certificate {} of {} is that of a site or a client, and of no authority",
                place + 1,
                path.display()
            ));
        }
    }
    Ok(pem::text(&chain))
}

#[cfg(test)]
mod tests;
