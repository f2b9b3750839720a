//! A connection's handshake, by rustls. When it is over, rustls's state is dropped, and [`Records`] go on with its secrets.

pub(crate) mod acceptor;
mod certificates;
mod tickets;
mod witness;

use std::sync::Arc;

use rustls::{
    ConnectionTrafficSecrets, Error, ExtractedSecrets, HandshakeKind, PeerIncompatible,
    server::UnbufferedServerConnection,
    unbuffered::{ConnectionState, EncodeError, EncodeTlsData, UnbufferedStatus},
};
use zeroize::Zeroizing;

use self::witness::Witness;
use crate::{
    Facts, Records,
    facts::LONGEST_CERTIFICATE,
    suite::{Suite, Version},
};

/// A handshake under way. It takes the client's bytes and says what to answer.
pub struct Handshake {
    tls: Box<UnbufferedServerConnection>,
    witness: Arc<Witness>,
    /// What rustls was given and has not done with.
    given: Vec<u8>,
    /// What it was not given yet. It gets one record at a time: what follows the client's last message is for [`Records`].
    waiting: Vec<u8>,
    /// How many records it was given.
    records: usize,
    /// See [`Facts::authorities`].
    authorities: u64,
}

/// Each record of a message that is not whole costs a look at all of it: without a bound, a client could keep a loop busy with a message in
/// records of one byte. Messages of 64 KiB fit, in the shortest records that a client may ask for (RFC 6066, 4).
const MOST_RECORDS: usize = 160;
/// An alert (RFC 8446, 6.2).
const UNSUPPORTED_CERTIFICATE: u8 = 43;

/// A connection whose handshake is over.
#[derive(Debug)]
pub struct Established {
    /// Opens and seals what follows.
    pub records: Records,
    /// What the handshake has told.
    pub facts: Facts,
    /// Bytes that came behind the handshake: records that were not opened yet.
    pub behind: Vec<u8>,
}

/// Why there is no connection; for people.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Failure(pub String);

impl From<Error> for Failure {
    fn from(error: Error) -> Failure {
        use PeerIncompatible::*;
        let why = match &error {
            // What says nothing of the client's versions is of TLS 1.1 or older.
            Error::PeerIncompatible(
                SignatureAlgorithmsExtensionRequired
                | Tls12NotOffered
                | Tls12NotOfferedOrEnabled
                | SupportedVersionsExtensionRequired,
            ) => "the client speaks no TLS 1.2 or 1.3 that this site speaks",
            Error::PeerIncompatible(NoCipherSuitesInCommon) => "the client has no cipher suite that this site has",
            Error::PeerIncompatible(NoKxGroupsInCommon | NamedGroupsExtensionRequired) => {
                "the client has no group for the key exchange that this site has"
            }
            Error::PeerIncompatible(NoSignatureSchemesInCommon) => {
                "the client has no signature scheme that the certificate's key can make"
            }
            _ => return Failure(error.to_string()),
        };
        Failure(why.into())
    }
}

impl Handshake {
    fn new(tls: UnbufferedServerConnection, witness: Arc<Witness>, authorities: u64) -> Handshake {
        Handshake { tls: Box::new(tls), witness, given: Vec::new(), waiting: Vec::new(), records: 0, authorities }
    }

    /// Takes bytes of the client's, and appends what is to be sent to it, also where it fails. `Ok(Ok(_))` when it is over, and itself
    /// while more must come.
    pub fn take(mut self, bytes: &[u8], out: &mut Vec<u8>) -> Result<Result<Established, Handshake>, Failure> {
        self.waiting.extend_from_slice(bytes);
        let mut taken = 0;
        while let Some(length) = next_record(&self.waiting[taken..]) {
            self.records += 1;
            if self.records > MOST_RECORDS {
                return Err(Failure("a handshake in more records than any client needs".to_owned()));
            }
            self.given.extend_from_slice(&self.waiting[taken..taken + length]);
            taken += length;
            match self.advance(out) {
                Ok(false) => {}
                Ok(true) => {
                    self.waiting.drain(..taken);
                    return self.establish(out).map(Ok);
                }
                Err(error) => {
                    self.tell_failure(out);
                    return Err(error.into());
                }
            }
        }
        self.waiting.drain(..taken);
        Ok(Err(self))
    }

    /// Has rustls go on with what it was given. Returns whether the handshake is over.
    fn advance(&mut self, out: &mut Vec<u8>) -> Result<bool, Error> {
        loop {
            let UnbufferedStatus { discard, state } = self.tls.process_tls_records(&mut self.given);
            let step = match state {
                Ok(ConnectionState::EncodeTlsData(encoder)) => encode(encoder, out).map(|()| None),
                Ok(ConnectionState::TransmitTlsData(sent)) => {
                    sent.done();
                    Ok(None)
                }
                Ok(ConnectionState::BlockedHandshake) => Ok(Some(false)),
                Ok(ConnectionState::WriteTraffic(_)) => Ok(Some(true)),
                Ok(ConnectionState::PeerClosed | ConnectionState::Closed) => {
                    Err(Error::General("the client has closed".to_owned()))
                }
                // No record of data is given to it, and there is no early data.
                Ok(_) => Err(Error::HandshakeNotComplete),
                Err(error) => Err(error),
            };
            self.given.drain(..discard);
            if let Some(over) = step? {
                return Ok(over);
            }
        }
    }

    /// Appends the alert that rustls has for the client. (Asked without having one, it would read on behind the fault, and panic.)
    fn tell_failure(&mut self, out: &mut Vec<u8>) {
        while self.tls.wants_write()
            && let Ok(ConnectionState::EncodeTlsData(encoder)) = self.tls.process_tls_records(&mut self.given).state
            && encode(encoder, out).is_ok()
        {}
    }

    fn establish(self, out: &mut Vec<u8>) -> Result<Established, Failure> {
        let Handshake { tls, witness, waiting, authorities, .. } = self;
        let suite = tls.negotiated_cipher_suite().and_then(|suite| Suite::of(suite.suite().into()));
        let suite = suite.ok_or_else(|| Failure("a cipher suite without records".to_owned()))?;
        let client_certificate = tls.peer_certificates().and_then(|chain| chain.first()).map(|own| own.to_vec());
        let too_large = client_certificate.as_ref().is_some_and(|own| own.len() > LONGEST_CERTIFICATE);
        let resumed = tls.handshake_kind() == Some(HandshakeKind::Resumed);
        let server_name = witness.server_name();
        let facts = Facts { suite: suite.number, server_name, resumed, client_certificate, authorities };
        let (extracted, _) = tls.dangerous_into_kernel_connection()?;
        let records = records(suite, &extracted, &witness);
        let mut records = records.ok_or_else(|| Failure("secrets that do not fit the cipher suite".to_owned()))?;
        if too_large {
            let _ = records.alert(UNSUPPORTED_CERTIFICATE, out);
            return Err(Failure("the client's certificate has more than 8 KiB".to_owned()));
        }
        Ok(Established { records, facts, behind: waiting })
    }
}

/// How many of the bytes to give to rustls next: a whole record, or what cannot become one.
fn next_record(bytes: &[u8]) -> Option<usize> {
    const LONGEST: usize = crate::PLAINTEXT + 2048 + 5;
    match (bytes.first()?, Records::length(bytes)) {
        (20..=23, None) => None,
        (20..=23, Some(length)) if length <= LONGEST => (length <= bytes.len()).then_some(length),
        _ => Some(bytes.len()),
    }
}

fn encode<Data>(mut encoder: EncodeTlsData<'_, Data>, out: &mut Vec<u8>) -> Result<(), Error> {
    let begin = out.len();
    let length = match encoder.encode(&mut []) {
        Ok(length) => length,
        Err(EncodeError::InsufficientSize(size)) => size.required_size,
        Err(EncodeError::AlreadyEncoded) => 0,
    };
    out.resize(begin + length, 0);
    encoder.encode(&mut out[begin..]).map(|_| ()).map_err(|error| Error::General(error.to_string()))
}

/// TLS 1.3: the witness has seen the traffic secrets, from which KeyUpdate makes the next ones. TLS 1.2: key and IV.
fn records(suite: &'static Suite, extracted: &ExtractedSecrets, witness: &Witness) -> Option<Records> {
    let [receiving, sending] = match suite.version {
        Version::Tls13 => witness.traffic_secrets()?,
        Version::Tls12 => [key_and_iv(&extracted.rx.1)?, key_and_iv(&extracted.tx.1)?],
    };
    Records::new(suite, (&receiving, extracted.rx.0), (&sending, extracted.tx.0))
}

fn key_and_iv(secrets: &ConnectionTrafficSecrets) -> Option<Zeroizing<Vec<u8>>> {
    let (key, iv) = match secrets {
        ConnectionTrafficSecrets::Aes128Gcm { key, iv }
        | ConnectionTrafficSecrets::Aes256Gcm { key, iv }
        | ConnectionTrafficSecrets::Chacha20Poly1305 { key, iv } => (key, iv),
        _ => return None,
    };
    Some(Zeroizing::new([key.as_ref(), iv.as_ref()].concat()))
}
