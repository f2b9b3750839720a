//! What rustls tells of one handshake only while it is under way: the traffic secrets of TLS 1.3, and the server's name.

use std::sync::{Arc, Mutex, OnceLock, PoisonError};

use rustls::{
    KeyLog,
    server::{ClientHello, ResolvesServerCert},
    sign::CertifiedKey,
};
use zeroize::Zeroizing;

use super::certificates::Certificates;

/// Of one handshake. Its configuration names it as the one who chooses the certificate, and who logs the secrets.
pub(super) struct Witness {
    certificates: Arc<Certificates>,
    server_name: OnceLock<String>,
    /// The client's, the server's.
    secrets: Mutex<[Option<Zeroizing<Vec<u8>>>; 2]>,
}

const LABELS: [&str; 2] = ["CLIENT_TRAFFIC_SECRET_0", "SERVER_TRAFFIC_SECRET_0"];

impl Witness {
    pub fn new(certificates: Arc<Certificates>) -> Arc<Witness> {
        Arc::new(Witness { certificates, server_name: OnceLock::new(), secrets: Mutex::default() })
    }

    pub fn server_name(&self) -> Option<String> {
        self.server_name.get().cloned()
    }

    /// For receiving, for sending.
    pub fn traffic_secrets(&self) -> Option<[Zeroizing<Vec<u8>>; 2]> {
        let [client, server] = std::mem::take(&mut *self.secrets.lock().unwrap_or_else(PoisonError::into_inner));
        Some([client?, server?])
    }
}

impl KeyLog for Witness {
    fn will_log(&self, label: &str) -> bool {
        LABELS.contains(&label)
    }

    fn log(&self, label: &str, _client_random: &[u8], secret: &[u8]) {
        if let Some(which) = LABELS.iter().position(|known| *known == label) {
            let kept = Some(Zeroizing::new(secret.to_vec()));
            self.secrets.lock().unwrap_or_else(PoisonError::into_inner)[which] = kept;
        }
    }
}

impl ResolvesServerCert for Witness {
    fn resolve(&self, hello: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        let name = hello.server_name().map(str::to_ascii_lowercase);
        let chosen = self.certificates.choose(name.as_deref(), hello.signature_schemes());
        if let Some(name) = name {
            let _ = self.server_name.set(name);
        }
        chosen
    }
}

impl std::fmt::Debug for Witness {
    fn fmt(&self, f: &mut std::fmt::Formatter) -> std::fmt::Result {
        f.write_str("Witness")
    }
}
