//! The text in which certificates and keys stand in files (RFC 7468).

use std::path::Path;

use rustls::pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject};
use x509_cert::der::pem::{LineEnding, encode_string};

/// All certificates of a file; there is one at least.
pub fn certificates(path: &Path, text: &[u8]) -> Result<Vec<CertificateDer<'static>>, String> {
    const BEGIN: &[u8] = b"-----BEGIN CERTIFICATE-----";
    let found: Result<Vec<CertificateDer>, _> = CertificateDer::pem_slice_iter(text).collect();
    let begun = text.windows(BEGIN.len()).filter(|part| *part == BEGIN).count();
    match found {
        Ok(found) if found.len() < begun => Err(format!(
            "{} has something before -----BEGIN CERTIFICATE----- in the same line; an editor may have put an invisible byte order mark there",
            path.display()
        )),
        Ok(found) if !found.is_empty() => Ok(found),
        Ok(_) => Err(format!(
            "{} holds no certificate in the form of PEM (-----BEGIN CERTIFICATE-----){}",
            path.display(),
            binary(text)
        )),
        Err(error) => Err(format!("{} is no good PEM: {error}", path.display())),
    }
}

/// The first key of a file: PKCS#8, PKCS#1 or SEC1.
pub fn key(path: &Path, text: &[u8]) -> Result<PrivateKeyDer<'static>, String> {
    let (path, has) = (path.display(), |what: &[u8]| text.windows(what.len()).any(|part| part == what));
    if has(b"-----BEGIN ENCRYPTED PRIVATE KEY-----") || has(b"Proc-Type: 4,ENCRYPTED") {
        return Err(format!(
            "the key {path} is encrypted, and at a restart nobody types its passphrase. `openssl pkey -in {path} -out plain.key` takes it off."
        ));
    }
    match PrivateKeyDer::from_pem_slice(text) {
        Ok(key) => Ok(key),
        Err(rustls::pki_types::pem::Error::NoItemsFound) => {
            Err(format!("{path} holds no private key in the form of PEM (-----BEGIN PRIVATE KEY-----){}", binary(text)))
        }
        Err(error) => Err(format!("{path} is no good PEM: {error}")),
    }
}

/// As a text without anything else that stood in the file.
pub fn text(chain: &[CertificateDer]) -> String {
    chain.iter().filter_map(|one| encode_string("CERTIFICATE", LineEnding::LF, one).ok()).collect()
}

/// A DER file begins with a SEQUENCE.
fn binary(text: &[u8]) -> &'static str {
    match text {
        [0x30, ..] => ". It is DER; `openssl x509` or `openssl pkey` with -inform DER makes PEM of it.",
        _ => "",
    }
}
