//! What is known of a connection after its handshake, for the application and the access log.

use crate::suite::{Suite, Version};

use x509_cert::{
    Certificate,
    der::{
        Decode,
        pem::{self, LineEnding},
    },
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
}

/// What a client's certificate says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Shown {
    /// All of it.
    pub pem: String,
    /// Whose it is (RFC 4514).
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
        let serial = own.serial_number().as_bytes().iter().map(|byte| format!("{byte:02X}")).collect();
        Some(Shown {
            pem: pem::encode_string("CERTIFICATE", LineEnding::LF, der).ok()?,
            subject: own.subject().to_string(),
            issuer: own.issuer().to_string(),
            serial,
        })
    }

    /// Appends them to what moves with the connection, without the suite, which the records know.
    pub fn export(&self, out: &mut Vec<u8>) {
        out.push(self.resumed.into());
        for part in [self.server_name.as_ref().map(String::as_bytes), self.client_certificate.as_deref()] {
            let part = part.unwrap_or_default();
            out.extend((part.len() as u16).to_le_bytes());
            out.extend(part);
        }
    }

    /// Reads them from the beginning of `bytes`, and advances `bytes` past them.
    pub fn import(suite: u16, bytes: &mut &[u8]) -> Option<Facts> {
        let resumed = *bytes.split_off_first()? != 0;
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
        })
    }
}
