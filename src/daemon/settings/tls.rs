//! `--certfile` and what goes with it. What the files hold, the key keeper finds out: no key is in this process.

use std::path::Path;

use ostler_tls::{
    certificates::{Files, Pair},
    keeper::Kept,
};
use ostler_wire::{ClientCertificate, Protocol, Tls};
use serde::{Deserialize, Serialize};

use super::{Address, path};
use crate::{exit::Failure, options::Options};

/// What listeners that speak TLS do.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct TlsSettings {
    /// Where the certificates and keys are.
    pub files: Files,
    /// `--cert-reqs`
    pub client_certificate: ClientCertificate,
    /// `--ciphers`: the cipher suites by their numbers, best first; all of them when empty.
    pub suites: Vec<u16>,
}

/// A cipher suite.
struct Suite {
    number: u16,
    /// As OpenSSL calls it.
    name: &'static str,
    /// As IANA does, where that is another name.
    iana: &'static str,
    tls13: bool,
}

/// All that there are, best first.
const SUITES: [Suite; 9] = [
    tls13(0x1302, "TLS_AES_256_GCM_SHA384"),
    tls13(0x1301, "TLS_AES_128_GCM_SHA256"),
    tls13(0x1303, "TLS_CHACHA20_POLY1305_SHA256"),
    tls12(0xC02C, "ECDHE-ECDSA-AES256-GCM-SHA384", "TLS_ECDHE_ECDSA_WITH_AES_256_GCM_SHA384"),
    tls12(0xC02B, "ECDHE-ECDSA-AES128-GCM-SHA256", "TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256"),
    tls12(0xCCA9, "ECDHE-ECDSA-CHACHA20-POLY1305", "TLS_ECDHE_ECDSA_WITH_CHACHA20_POLY1305_SHA256"),
    tls12(0xC030, "ECDHE-RSA-AES256-GCM-SHA384", "TLS_ECDHE_RSA_WITH_AES_256_GCM_SHA384"),
    tls12(0xC02F, "ECDHE-RSA-AES128-GCM-SHA256", "TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256"),
    tls12(0xCCA8, "ECDHE-RSA-CHACHA20-POLY1305", "TLS_ECDHE_RSA_WITH_CHACHA20_POLY1305_SHA256"),
];

const fn tls13(number: u16, name: &'static str) -> Suite {
    Suite { number, name, iana: name, tls13: true }
}

const fn tls12(number: u16, name: &'static str, iana: &'static str) -> Suite {
    Suite { number, name, iana, tls13: false }
}

impl TlsSettings {
    /// What workers are told, once the key keeper has read the files.
    pub fn with(&self, kept: &Kept) -> Tls {
        let is_tls12 = |number: &u16| SUITES.iter().any(|suite| suite.number == *number && !suite.tls13);
        Tls {
            certificates: kept.certificates.clone(),
            client_authorities: kept.client_authorities.clone(),
            client_certificate: self.client_certificate,
            tls12: self.suites.is_empty() || self.suites.iter().any(is_tls12),
            suites: self.suites.clone(),
        }
    }
}

/// None without a certificate.
pub fn tls(options: &mut Options, chdir: &Path) -> Result<Option<TlsSettings>, Failure> {
    let files = Files {
        pairs: pairs(options, chdir)?,
        client_authorities: options.optional("ca-certs", |text| path(chdir, text))?,
    };
    let client_certificate = options.value("cert-reqs", client_certificate)?;
    if client_certificate != ClientCertificate::None && files.client_authorities.is_none() {
        let text = options.given("cert-reqs").texts.concat();
        return Err(options.failure(
            "cert-reqs",
            &text,
            "nobody is named who may have signed them. Say --ca-certs FILE.",
        ));
    }
    if files.client_authorities.is_some() && client_certificate == ClientCertificate::None {
        let why = "ca-certs: clients are not asked for a certificate. Say --cert-reqs required or optional.";
        options.suspicious.push(why.into());
    }
    let suites = options.optional("ciphers", suites)?.unwrap_or_default();
    if !files.pairs.is_empty() {
        return Ok(Some(TlsSettings { files, client_certificate, suites }));
    }
    let needs_one = ["ca-certs", "ciphers", "redirect-https", "hsts"].into_iter().find(|name| options.is_given(name));
    match needs_one {
        Some("redirect-https") if !options.switch("redirect-https")? => Ok(None),
        Some("hsts") if options.value("hsts", super::parse::duration)?.is_zero() => Ok(None),
        Some(name) => Err(options.failure(name, "", "there is no certificate. Say --certfile FILE.")),
        None => Ok(None),
    }
}

/// Each certificate with the key that stands at the same place of the other list, or else in its own file.
fn pairs(options: &Options, chdir: &Path) -> Result<Vec<Pair>, Failure> {
    let certificates = options.list("certfile", |text| path(chdir, text))?;
    let keys = options.list("keyfile", |text| path(chdir, text))?;
    if certificates.is_empty() && !keys.is_empty() {
        return Err(options.failure("keyfile", "", "there is no certificate. Say --certfile FILE."));
    }
    if !keys.is_empty() && keys.len() != certificates.len() {
        let why = format!(
            "there are {} for {} of --certfile. Give each certificate its own, in the same order.",
            keys.len(),
            certificates.len()
        );
        return Err(options.failure("keyfile", "", &why));
    }
    let keys = if keys.is_empty() { certificates.clone() } else { keys };
    Ok(certificates.into_iter().zip(keys).map(|(certificate, key)| Pair { certificate, key }).collect())
}

/// The numbers are those of Python's ssl, which gunicorn takes.
fn client_certificate(text: &str) -> Result<ClientCertificate, String> {
    match text.to_ascii_lowercase().as_str() {
        "0" | "none" => Ok(ClientCertificate::None),
        "1" | "optional" => Ok(ClientCertificate::Optional),
        "2" | "required" => Ok(ClientCertificate::Required),
        _ => Err("expected none, optional or required, or 0, 1 or 2".into()),
    }
}

/// As for OpenSSL, a list without suites of TLS 1.3 says nothing of these.
fn suites(text: &str) -> Result<Vec<u16>, String> {
    let known = |name: &str| SUITES.iter().find(|suite| [suite.name, suite.iana].contains(&name));
    let names = text.split([':', ',', ' ']).filter(|name| !name.is_empty());
    let named = names.map(|name| known(name).ok_or_else(|| unknown(name))).collect::<Result<Vec<&Suite>, _>>()?;
    if named.is_empty() {
        return Err("expected names of cipher suites".into());
    }
    let unsaid = SUITES.iter().filter(|suite| suite.tls13 && !named.iter().any(|suite| suite.tls13));
    Ok(unsaid.chain(named.iter().copied()).map(|suite| suite.number).collect())
}

fn unknown(name: &str) -> String {
    format!("there is no {name}; there are {}", SUITES.map(|suite| suite.name).join(", "))
}

/// What is spoken at an address that does not say it, where there is a certificate: TLS, as with gunicorn; but a proxy on this machine,
/// which comes by a Unix socket, needs none.
pub fn usual(address: &Address) -> Protocol {
    match address {
        Address::Unix(_) | Address::Abstract(_) => Protocol::Http,
        Address::Tcp(..) | Address::Inherited(_) | Address::Passed(_) => Protocol::Https,
    }
}

/// Refuses addresses that do not go with the certificates, or with their absence.
pub fn refuse_binds(
    tls: Option<&TlsSettings>,
    binds: &[(Address, Protocol)],
    options: &Options,
) -> Result<(), Failure> {
    let speaks = |protocol| move |bind: &&(Address, Protocol)| bind.1 == protocol;
    let https = binds.iter().find(speaks(Protocol::Https));
    match (tls, https) {
        (None, Some((address, _))) => {
            Err(options.failure("bind", &format!("https://{address}"), "there is no certificate. Say --certfile FILE."))
        }
        (Some(_), None) => Err(options.failure("certfile", "", "no address speaks TLS. Say --bind https://ADDRESS.")),
        _ if options.switch("redirect-https")? && !binds.iter().any(|bind| speaks(Protocol::Http)(&bind)) => {
            let why = "no address is in the clear. Say --bind http://ADDRESS, too.";
            Err(options.failure("redirect-https", "", why))
        }
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{cli, fixture::Folder, options::Options};

    fn of(arguments: &[&str]) -> Result<Option<TlsSettings>, String> {
        let invocation = Folder::new().invocation(arguments, &[]);
        let typed = cli::parse(&invocation.arguments).map_err(|failure| failure.message)?;
        let mut options = Options::gather(&invocation, &typed.texts).map_err(|failure| failure.message)?;
        tls(&mut options, Path::new("/etc")).map_err(|failure| failure.message)
    }

    #[test]
    fn each_certificate_has_its_key() {
        let pairs = |arguments: &[&str]| of(arguments).unwrap().unwrap().files.pairs;
        let pair = |certificate: &str, key: &str| Pair { certificate: certificate.into(), key: key.into() };
        assert_eq!(pairs(&["--certfile", "a.pem"]), [pair("/etc/a.pem", "/etc/a.pem")]);
        let two = ["--certfile=a", "--keyfile=b", "--certfile=/c", "--keyfile=d"];
        assert_eq!(pairs(&two), [pair("/etc/a", "/etc/b"), pair("/c", "/etc/d")]);
        assert!(of(&two[..3]).unwrap_err().contains("there are 1 for 2 of --certfile"));
        assert!(of(&["--keyfile=b"]).unwrap_err().contains("there is no certificate"));
        assert_eq!(of(&[]), Ok(None));
    }

    #[test]
    fn clients_are_asked_for_what_can_be_checked() {
        let asked = |word: &str| of(&["--certfile=a", "--ca-certs=b", "--cert-reqs", word]);
        for (word, expected) in [("1", ClientCertificate::Optional), ("required", ClientCertificate::Required)] {
            assert_eq!(asked(word).unwrap().unwrap().client_certificate, expected);
            assert!(of(&["--certfile=a", "--cert-reqs", word]).unwrap_err().contains("Say --ca-certs FILE."));
        }
        assert_eq!(asked("0").unwrap().unwrap().client_certificate, ClientCertificate::None);
        assert!(asked("3").unwrap_err().contains("expected none, optional or required"));
    }

    #[test]
    fn suites_have_two_names_and_those_of_the_newer_version_are_said_apart() {
        let both = suites("ECDHE-RSA-AES128-GCM-SHA256:TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256").unwrap();
        assert_eq!(both, [0x1302, 0x1301, 0x1303, 0xC02F, 0xC02B]);
        assert_eq!(suites("TLS_AES_128_GCM_SHA256").unwrap(), [0x1301]);
        assert!(suites("HIGH:!aNULL").unwrap_err().starts_with("there is no HIGH; there are TLS_AES_256_GCM_SHA384, "));
        let tls = |ciphers| of(&["--certfile=a", "--ciphers", ciphers]).unwrap().unwrap().with(&Kept::default());
        assert!(!tls("TLS_AES_128_GCM_SHA256").tls12 && tls("ECDHE-RSA-AES128-GCM-SHA256").tls12);
    }
}
