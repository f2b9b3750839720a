//! What is known of a connection after its handshake, for the application and the access log.

use ring::digest::{SHA256, digest};
use x509_cert::{
    Certificate,
    der::{
        Decode,
        pem::{self, LineEnding},
    },
};

use crate::{
    names::{name, serial},
    suite::{Suite, Version},
};

/// The longest certificate of a client's that is kept and moves with its connection.
pub(crate) const LONGEST_CERTIFICATE: usize = 8 * 1024;

/// Of a connection.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Facts {
    /// The cipher suite's number (IANA).
    pub suite: u16,
    /// The name that the client asked for (SNI), lower case.
    pub server_name: Option<String>,
    /// It has gone on with the session of an earlier connection.
    pub resumed: bool,
    /// The client's certificate, which an authority of `--ca-certs` has signed; DER.
    pub client_certificate: Option<Vec<u8>>,
    /// Which authorities it was measured by ([`authorities`]); 0 where clients were not asked.
    pub authorities: u64,
}

/// What tells one list of authorities from another.
pub(crate) fn authorities(pem: &str) -> u64 {
    digest(&SHA256, pem.as_bytes()).as_ref().iter().take(8).fold(0, |number, byte| number << 8 | u64::from(*byte))
}

/// What a client's certificate says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Shown {
    /// All of it.
    pub pem: String,
    /// Whose it is, as OpenSSL writes names by RFC 2253.
    pub subject: String,
    /// Who has signed it.
    pub issuer: String,
    /// Its number, in hexadecimal digits.
    pub serial: String,
}

impl Facts {
    /// As OpenSSL calls it.
    pub fn protocol(&self) -> &'static str {
        match Suite::of(self.suite).map(|suite| suite.version) {
            Some(Version::Tls13) => "TLSv1.3",
            Some(Version::Tls12) => "TLSv1.2",
            None => "",
        }
    }

    /// The cipher suite as OpenSSL calls it.
    pub fn cipher(&self) -> &'static str {
        Suite::of(self.suite).map_or("", |suite| suite.name)
    }

    /// What the client's certificate says, if it has shown one.
    pub fn shown(&self) -> Option<Shown> {
        let der = self.client_certificate.as_ref()?;
        let certificate = Certificate::from_der(der).ok()?;
        let own = certificate.tbs_certificate();
        Some(Shown {
            pem: pem::encode_string("CERTIFICATE", LineEnding::LF, der).ok()?,
            subject: name(own.subject()),
            issuer: name(own.issuer()),
            serial: serial(own.serial_number().as_bytes()),
        })
    }

    /// Appends them to what moves with the connection, without the suite, which the records know.
    pub fn export(&self, out: &mut Vec<u8>) {
        out.push(self.resumed.into());
        out.extend(self.authorities.to_le_bytes());
        for part in [self.server_name.as_ref().map(String::as_bytes), self.client_certificate.as_deref()] {
            let part = part.unwrap_or_default();
            out.extend((part.len() as u16).to_le_bytes());
            out.extend(part);
        }
    }

    /// Reads them from the beginning of `bytes`, and advances `bytes` past them.
    pub fn import(suite: u16, bytes: &mut &[u8]) -> Option<Facts> {
        let resumed = *bytes.split_off_first()? != 0;
        let authorities = u64::from_le_bytes(bytes.split_off(..8)?.try_into().ok()?);
        let mut part = || {
            let length = u16::from_le_bytes(bytes.split_off(..2)?.try_into().ok()?);
            bytes.split_off(..usize::from(length))
        };
        let server_name = String::from_utf8(part()?.to_vec()).ok()?;
        let certificate = part()?.to_vec();
        Some(Facts {
            suite,
            server_name: (!server_name.is_empty()).then_some(server_name),
            resumed,
            client_certificate: (!certificate.is_empty()).then_some(certificate),
            authorities,
        })
    }
}

#[cfg(test)]
mod tests {
    use rcgen::{CertificateParams, DistinguishedName, DnType, KeyPair, SerialNumber};

    use super::*;

    #[test]
    fn a_certificate_is_described_as_openssl_does_it() {
        let mut params = CertificateParams::default();
        params.distinguished_name = DistinguishedName::new();
        let email = DnType::CustomDnType(vec![1, 2, 840, 113549, 1, 9, 1]);
        for (kind, value) in [
            (DnType::CountryName, "CH"),
            (DnType::OrganizationName, "Firma, Ltd."),
            (DnType::CommonName, "Ädmin"),
            (email, "a@b.ch"),
        ] {
            params.distinguished_name.push(kind, value);
        }
        params.serial_number = Some(SerialNumber::from(vec![0x0a, 0x1b, 0xff]));
        let certificate = params.self_signed(&KeyPair::generate().unwrap()).unwrap();
        let der = Some(certificate.der().to_vec());
        let facts = Facts { suite: 0x1301, server_name: None, resumed: true, client_certificate: der, authorities: 7 };
        let shown = facts.shown().expect("it can be read");
        assert_eq!(shown.subject, "emailAddress=a@b.ch,CN=Ädmin,O=Firma\\, Ltd.,C=CH");
        assert_eq!((&shown.issuer, &shown.serial[..]), (&shown.subject, "0A1BFF"));
        assert_eq!(shown.pem.lines().next(), Some("-----BEGIN CERTIFICATE-----"));

        let mut moved = Vec::new();
        facts.export(&mut moved);
        assert_eq!(Facts::import(0x1301, &mut &moved[..]), Some(facts));
        assert!((0..moved.len()).all(|length| Facts::import(0x1301, &mut &moved[..length]).is_none()));
    }
}
