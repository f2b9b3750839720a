use std::{
    collections::BTreeMap,
    time::{Duration, UNIX_EPOCH},
};

use rcgen::{
    BasicConstraints, CertificateParams, DnType, IsCa, Issuer, KeyPair, PKCS_ECDSA_P384_SHA384, PKCS_ED25519,
    date_time_ymd,
};

use super::*;

/// Noon of a day on which all of these certificates hold.
fn today() -> SystemTime {
    // 2030-06-01
    UNIX_EPOCH + Duration::from_secs(1_906_545_600)
}

fn params(names: &[&str]) -> CertificateParams {
    let mut params = CertificateParams::new(names.iter().map(|name| name.to_string()).collect::<Vec<_>>()).unwrap();
    (params.not_before, params.not_after) = (date_time_ymd(2030, 1, 1), date_time_ymd(2030, 12, 31));
    params
}

fn own(names: &[&str]) -> (String, KeyPair) {
    let key = KeyPair::generate().unwrap();
    (params(names).self_signed(&key).unwrap().pem(), key)
}

/// An authority, with its certificate and its key.
fn authority(name: &str) -> (CertificateParams, String, KeyPair) {
    let mut params = params(&[]);
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    params.distinguished_name.push(DnType::CommonName, name);
    let key = KeyPair::generate().unwrap();
    let pem = params.self_signed(&key).unwrap().pem();
    (params, pem, key)
}

/// Of files by these names.
fn loaded(files: &[(&str, String)], wanted: Files) -> Result<(Kept, Keys), String> {
    let files: BTreeMap<PathBuf, &String> = files.iter().map(|(name, text)| (PathBuf::from(name), text)).collect();
    let read = |path: &Path| {
        let text = files.get(path).ok_or("no such file or directory")?;
        Ok(Content { text: Zeroizing::new(text.as_bytes().to_vec()), is_public: path.ends_with("public") })
    };
    load(&wanted, &read, today())
}

fn pair(certificate: String, key: String) -> Result<(Kept, Keys), String> {
    let files = Files { pairs: vec![Pair { certificate: "cert".into(), key: "key".into() }], client_authorities: None };
    loaded(&[("cert", certificate), ("key", key)], files)
}

fn refusal(certificate: String, key: String) -> String {
    pair(certificate, key).unwrap_err()
}

#[test]
fn a_pair_is_known_by_its_names_its_end_and_what_it_signs() {
    let (certificate, key) = own(&["Shop.example", "*.shop.example", "192.0.2.1"]);
    let (kept, keys) = pair(certificate.clone(), key.serialize_pem()).unwrap();
    let [known] = &kept.certificates[..] else { panic!("one was named") };
    assert_eq!(known.names, ["shop.example", "*.shop.example", "192.0.2.1"]);
    assert_eq!(known.schemes, [0x0403]);
    assert_eq!(known.chain.replace('\r', ""), certificate.replace('\r', ""));
    assert_eq!(
        kept.expiries,
        [Expiry { name: "shop.example".into(), not_before: 1_893_456_000, not_after: 1_924_905_600 }]
    );
    assert!(keys.sign(known.key, rustls::SignatureScheme::ECDSA_NISTP256_SHA256, b"a").is_some());
    assert!(keys.sign(known.key, rustls::SignatureScheme::RSA_PSS_SHA256, b"a").is_none());
    assert!(keys.sign(known.key + 1, rustls::SignatureScheme::ECDSA_NISTP256_SHA256, b"a").is_none());
    assert!(!format!("{:?}", kept).contains("PRIVATE"));
}

#[test]
fn both_may_stand_in_one_file_and_no_key_goes_out_with_the_chain() {
    let (certificate, key) = own(&["a.example"]);
    let both = format!("{}{certificate}", key.serialize_pem());
    let (kept, _) = pair(both.clone(), both).unwrap();
    assert!(!kept.certificates[0].chain.contains("PRIVATE KEY"));
}

#[test]
fn a_key_has_one_name_wherever_it_is_kept() {
    let (one, other) = (KeyPair::generate().unwrap(), KeyPair::generate().unwrap());
    let name = |host: &str, key: &KeyPair| {
        let certificate = params(&[host]).self_signed(key).unwrap().pem();
        pair(certificate, key.serialize_pem()).unwrap().0.certificates[0].key
    };
    assert_eq!(name("a.example", &one), name("renewed.example", &one));
    assert_ne!(name("a.example", &one), name("a.example", &other));
}

#[test]
fn other_kinds_of_keys_are_kept_too() {
    for (algorithm, scheme) in [(&PKCS_ED25519, 0x0807), (&PKCS_ECDSA_P384_SHA384, 0x0503)] {
        let key = KeyPair::generate_for(algorithm).unwrap();
        let (kept, _) = pair(params(&["a.example"]).self_signed(&key).unwrap().pem(), key.serialize_pem()).unwrap();
        assert_eq!(kept.certificates[0].schemes, [scheme]);
    }
}

#[test]
fn the_common_name_counts_where_there_is_no_other() {
    let key = KeyPair::generate().unwrap();
    let mut named = params(&[]);
    named.distinguished_name = rcgen::DistinguishedName::new();
    named.distinguished_name.push(DnType::CommonName, "Old.example");
    let (kept, _) = pair(named.self_signed(&key).unwrap().pem(), key.serialize_pem()).unwrap();
    assert_eq!(kept.certificates[0].names, ["old.example"]);
}

#[test]
fn what_does_not_fit_is_said_in_a_sentence() {
    let (certificate, key) = own(&["a.example"]);
    let (other, _) = own(&["b.example"]);
    let key = key.serialize_pem();
    assert_eq!(refusal(other.clone(), key.clone()), "the key key is not that of the certificate cert");
    let wrong_place = refusal(format!("{other}{certificate}"), key.clone());
    assert!(
        wrong_place.starts_with("cert has the site's own certificate as number 2. It has to be the first"),
        "{wrong_place}"
    );
    assert!(refusal(String::new(), key.clone()).starts_with("cert holds no certificate in the form of PEM"));
    assert!(refusal("0\x03".into(), key.clone()).contains("It is DER"));
    assert!(
        refusal(certificate.clone(), certificate.clone()).starts_with("key holds no private key in the form of PEM")
    );
    for encrypted in [
        "-----BEGIN ENCRYPTED PRIVATE KEY-----\nAAAA\n-----END ENCRYPTED PRIVATE KEY-----\n",
        "-----BEGIN RSA PRIVATE KEY-----\nProc-Type: 4,ENCRYPTED\nDEK-Info: A,B\n\nAAAA\n-----END RSA PRIVATE KEY-----\n",
    ] {
        assert!(refusal(certificate.clone(), encrypted.into()).starts_with("the key key is encrypted, and"));
    }
    let cut = key.replace("-----END PRIVATE KEY-----", "");
    assert!(refusal(certificate.clone(), cut).starts_with("key is no good PEM"));
    let garbage = "-----BEGIN PRIVATE KEY-----\nAAAA\n-----END PRIVATE KEY-----\n";
    assert!(refusal(certificate, garbage.into()).starts_with("the key key cannot be used. Keys are RSA"));
    let files = Files { pairs: vec![Pair { certificate: "gone".into(), key: "key".into() }], client_authorities: None };
    assert_eq!(loaded(&[], files).unwrap_err(), "could not read gone: no such file or directory");
}

#[test]
fn a_certificate_holds_today() {
    let key = KeyPair::generate().unwrap();
    let at = |from: i32, to: i32| {
        let mut params = params(&["a.example"]);
        (params.not_before, params.not_after) = (date_time_ymd(from, 1, 1), date_time_ymd(to, 1, 1));
        refusal(params.self_signed(&key).unwrap().pem(), key.serialize_pem())
    };
    assert_eq!(at(2028, 2030), "the certificate cert for a.example has expired at 2030-01-01T00:00:00Z");
    assert_eq!(at(2031, 2032), "the certificate cert for a.example holds only from 2031-01-01T00:00:00Z on");
}

#[test]
fn a_chain_out_of_order_is_warned_of() {
    let (authority, root, authority_key) = authority("Root");
    let key = KeyPair::generate().unwrap();
    let signed =
        params(&["a.example"]).signed_by(&key, &Issuer::from_params(&authority, &authority_key)).unwrap().pem();
    let warnings = |chain: String| pair(chain, key.serialize_pem()).unwrap().0.warnings;
    assert_eq!(warnings(format!("{signed}{root}")), [""; 0]);
    let (stray, _) = own(&["b.example"]);
    assert!(
        warnings(format!("{signed}{stray}{root}"))[0]
            .starts_with("certificate 2 of cert has not signed the one before it")
    );
    assert!(warnings(signed.clone())[0].contains("without those that have signed it"));
}

#[test]
fn a_key_that_everybody_can_read_is_warned_of() {
    let (certificate, key) = own(&["a.example"]);
    let files =
        Files { pairs: vec![Pair { certificate: "cert".into(), key: "public".into() }], client_authorities: None };
    let (kept, _) = loaded(&[("cert", certificate), ("public", key.serialize_pem())], files).unwrap();
    assert_eq!(kept.warnings, ["everybody can read the key public. `chmod o= public` mends that."]);
}

#[test]
fn an_end_is_near_two_weeks_before_it_or_in_the_last_third_of_a_short_life() {
    let day = 86_400;
    let is_near = |life: u64, left: u64| {
        Expiry { name: String::new(), not_before: 0, not_after: life * day }.is_near((life - left) * day)
    };
    assert!(!is_near(90, 14) && is_near(90, 13));
    assert!(!is_near(6, 2) && is_near(6, 1));
}

#[test]
fn authorities_are_authorities() {
    let (certificate, key) = own(&["a.example"]);
    let with = |authorities: &str| {
        let files = Files {
            pairs: vec![Pair { certificate: "cert".into(), key: "key".into() }],
            client_authorities: Some("ca".into()),
        };
        loaded(&[("cert", certificate.clone()), ("key", key.serialize_pem()), ("ca", authorities.into())], files)
    };
    let (_, root, _) = authority("Root");
    assert!(with(&root).unwrap().0.client_authorities.contains("BEGIN CERTIFICATE"));
    assert!(with("").unwrap_err().starts_with("ca holds no certificate"));
    let mut leaf = params(&["b.example"]);
    leaf.is_ca = IsCa::ExplicitNoCa;
    let leaf = leaf.self_signed(&key).unwrap().pem();
    assert_eq!(with(&leaf).unwrap_err(), "certificate 1 of ca is that of a site or a client, and of no authority");
}

#[test]
fn a_keeper_signs_for_each_worker_in_turn_and_ends_when_nobody_can_ask() {
    use crate::{Sign, keeper};
    use ostler_wire::Channel;
    use std::os::fd::AsFd;

    let (certificate, key) = own(&["a.example"]);
    let (kept, keys) = pair(certificate, key.serialize_pem()).unwrap();
    let (master, theirs) = Channel::pair().unwrap();
    let process = std::thread::spawn(move || keeper::keep(theirs, &keys));
    let worker = || {
        let (ours, theirs) = keeper::pair().unwrap();
        master.send(&keeper::ToKeeper, &[ours.as_fd()]).unwrap();
        theirs
    };
    let flooding = worker();
    let message = [&[b' '; 64][..], b"TLS 1.3, server CertificateVerify\0", &[7; 32]].concat();
    let question = [&[0; 4][..], &kept.certificates[0].key.to_le_bytes(), &0x0403_u16.to_le_bytes(), &message].concat();
    while ostler_wire::channel::send(flooding.as_fd(), &question, &[]).is_ok() {}
    let client = keeper::Keeper::new(worker().into());
    assert!(!client.sign(kept.certificates[0].key, 0x0403, &message).unwrap().is_empty());
    assert!(client.sign(kept.certificates[0].key, 0x0403, b"something else").is_err());
    let talkative = worker();
    ostler_wire::channel::send(talkative.as_fd(), &[0; 4096], &[]).unwrap();
    assert!(talkative.packet().unwrap_or(None).is_none(), "its socket was closed");
    drop((master, flooding));
    assert!(client.sign(kept.certificates[0].key, 0x0403, &message).is_ok(), "handshakes go on for a while");
    drop(client);
    process.join().unwrap();
}
