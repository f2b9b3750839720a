//! Who gets a connection, with which certificate, and what is known of it.

use std::io::Write;

use ostler_tls::Acceptor;
use ostler_wire::{ClientCertificate, Tls};
use rustls::{AlertDescription, Error};

use crate::rig::{Authority, Client, Kind, Pair, Wishes, client_config, settings};

const SUITES: [(u16, &str, &str); 9] = [
    (0x1301, "TLSv1.3", "TLS_AES_128_GCM_SHA256"),
    (0x1302, "TLSv1.3", "TLS_AES_256_GCM_SHA384"),
    (0x1303, "TLSv1.3", "TLS_CHACHA20_POLY1305_SHA256"),
    (0xc02b, "TLSv1.2", "ECDHE-ECDSA-AES128-GCM-SHA256"),
    (0xc02c, "TLSv1.2", "ECDHE-ECDSA-AES256-GCM-SHA384"),
    (0xcca9, "TLSv1.2", "ECDHE-ECDSA-CHACHA20-POLY1305"),
    (0xc02f, "TLSv1.2", "ECDHE-RSA-AES128-GCM-SHA256"),
    (0xc030, "TLSv1.2", "ECDHE-RSA-AES256-GCM-SHA384"),
    (0xcca8, "TLSv1.2", "ECDHE-RSA-CHACHA20-POLY1305"),
];

#[test]
fn every_suite_is_spoken_and_its_connection_moves() {
    let authority = Authority::new();
    let (p256, rsa) = (authority.sign(Kind::P256, &["site.example"]), authority.sign(Kind::Rsa, &["site.example"]));
    for (suite, protocol, cipher) in SUITES {
        let pair = if (0xc02f..=0xc030).contains(&suite) || suite == 0xcca8 { &rsa } else { &p256 };
        let (tls, keeper) = settings(&[(pair, &["site.example"])]);
        let acceptor = Acceptor::new(&tls, keeper, None).unwrap();
        let wishes =
            Wishes { suite: Some(suite), tls12: protocol == "TLSv1.2", alpn: &["h2", "http/1.1"], ..Wishes::default() };
        let config = client_config(&authority, &wishes);
        for piece in [1, 100, usize::MAX] {
            let mut client = Client::new(&config, "site.example");
            let mut server = client.connect(&acceptor, piece).unwrap();
            let facts = &server.established.facts;
            assert_eq!((facts.protocol(), facts.cipher(), facts.resumed), (protocol, cipher, false));
            assert_eq!(facts.server_name.as_deref(), Some("site.example"));
            assert_eq!(client.tls.alpn_protocol(), Some(&b"http/1.1"[..]));
            for round in 0..10 {
                server.exchange(&mut client);
                if protocol == "TLSv1.3" && round % 3 == 0 {
                    client.tls.refresh_traffic_keys().unwrap();
                }
                server.moves();
            }
        }
    }
}

#[test]
fn a_request_that_comes_with_the_end_of_the_handshake_is_not_lost() {
    let authority = Authority::new();
    let pair = authority.sign(Kind::Ed25519, &["site.example"]);
    let (tls, keeper) = settings(&[(&pair, &[])]);
    let acceptor = Acceptor::new(&tls, keeper, None).unwrap();
    let mut client = Client::new(&client_config(&authority, &Wishes::default()), "site.example");
    client.tls.writer().write_all(b"early ").unwrap();
    let mut server = client.connect(&acceptor, usize::MAX).unwrap();
    client.tls.refresh_traffic_keys().unwrap();
    client.tls.writer().write_all(b"and late").unwrap();
    assert_eq!(server.hear(&mut client), b"early and late");
}

#[test]
fn the_certificate_fits_the_name_or_is_the_first() {
    let authority = Authority::new();
    let sign = |kind: Kind, name: &str| authority.sign(kind, &[name]);
    let pairs: [Pair; 4] = [
        sign(Kind::P256, "first.example"),
        sign(Kind::P256, "*.site.example"),
        sign(Kind::P256, "www.site.example"),
        sign(Kind::Rsa, "www.site.example"),
    ];
    let names = [&["first.example"][..], &["*.site.example"], &["www.site.example"], &["www.site.example"]];
    let (tls, keeper) = settings(&pairs.iter().zip(names).collect::<Vec<_>>());
    let acceptor = Acceptor::new(&tls, keeper.clone(), None).unwrap();
    for (suite, name, chosen) in [
        (None, "first.example", 0),
        (None, "a.site.example", 1),
        (None, "www.site.example", 2),
        (Some(0xc02f), "www.site.example", 3),
        // No name fits: the client refuses it, but is shown the first.
        (None, "a.b.site.example", 0),
        (None, "site.example", 0),
    ] {
        let wishes = Wishes { suite, tls12: suite.is_some(), ..Wishes::default() };
        let _ = Client::new(&client_config(&authority, &wishes), name).connect_or_refuse(&acceptor);
        assert_eq!(keeper.signed.lock().unwrap().pop(), Some(chosen), "{name}");
    }
}

impl Client {
    /// Like [`Client::connect`], where the client may refuse the certificate.
    fn connect_or_refuse(&mut self, acceptor: &Acceptor) -> Result<(), Error> {
        let mut out = Vec::new();
        let _ = acceptor.begin().unwrap().take(&self.output(), &mut out).unwrap();
        self.input(&out)
    }
}

#[test]
fn a_client_without_http_gets_no_connection() {
    let authority = Authority::new();
    let pair = authority.sign(Kind::P256, &["site.example"]);
    let (tls, keeper) = settings(&[(&pair, &[])]);
    let acceptor = Acceptor::new(&tls, keeper, None).unwrap();
    for tls12 in [false, true] {
        let config = client_config(&authority, &Wishes { tls12, alpn: &["h2"], ..Wishes::default() });
        let mut client = Client::new(&config, "site.example");
        let mut out = Vec::new();
        assert!(acceptor.begin().unwrap().take(&client.output(), &mut out).is_err());
        let told = client.input(&out).unwrap_err();
        assert_eq!(told, Error::AlertReceived(AlertDescription::NoApplicationProtocol));
    }
}

#[test]
fn what_is_not_spoken_is_refused() {
    let authority = Authority::new();
    let pair = authority.sign(Kind::P256, &["site.example"]);
    let (mut tls, keeper) = settings(&[(&pair, &[])]);
    tls.suites = vec![0x1302, 0x1301];
    tls.tls12 = false;
    let acceptor = Acceptor::new(&tls, keeper, None).unwrap();
    let connect = |wishes: &Wishes| {
        Client::new(&client_config(&authority, wishes), "site.example").connect(&acceptor, usize::MAX)
    };
    assert_eq!(connect(&Wishes::default()).unwrap().established.facts.suite, 0x1302, "the server's order counts");
    assert!(connect(&Wishes { tls12: true, ..Wishes::default() }).is_err());
    assert!(connect(&Wishes { suite: Some(0x1303), ..Wishes::default() }).is_err());
}

#[test]
fn clients_show_certificates_where_they_are_asked() {
    let (authority, stranger) = (Authority::new(), Authority::new());
    let pair = authority.sign(Kind::P256, &["site.example"]);
    let (mut tls, keeper) = settings(&[(&pair, &[])]);
    tls.client_authorities = authority.pem();
    let known = authority.sign(Kind::P256, &["client.example"]);
    let unknown = stranger.sign(Kind::P256, &["client.example"]);
    for tls12 in [false, true] {
        for (asked, shown, admitted) in [
            (ClientCertificate::None, None, true),
            (ClientCertificate::Optional, None, true),
            (ClientCertificate::Optional, Some(&known), true),
            (ClientCertificate::Optional, Some(&unknown), false),
            (ClientCertificate::Required, None, false),
            (ClientCertificate::Required, Some(&known), true),
            (ClientCertificate::Required, Some(&unknown), false),
        ] {
            tls.client_certificate = asked;
            let acceptor = Acceptor::new(&tls, keeper.clone(), None).unwrap();
            let config = client_config(&authority, &Wishes { tls12, pair: shown, ..Wishes::default() });
            let connected = Client::new(&config, "site.example").connect(&acceptor, usize::MAX);
            assert_eq!(connected.is_ok(), admitted, "{asked:?}");
            if let Ok(server) = connected {
                let certificate = shown.map(|pair| pair.certificate.to_vec());
                assert_eq!(server.established.facts.client_certificate, certificate);
            }
        }
    }
}

#[test]
fn a_client_s_certificate_has_a_size_and_the_client_is_told() {
    let authority = Authority::new();
    let pair = authority.sign(Kind::P256, &["site.example"]);
    let names: Vec<String> = (0..600).map(|number| format!("name{number}.client.example")).collect();
    let large = authority.sign(Kind::P256, &names.iter().map(String::as_str).collect::<Vec<_>>());
    let (mut tls, keeper) = settings(&[(&pair, &[])]);
    (tls.client_authorities, tls.client_certificate) = (authority.pem(), ClientCertificate::Required);
    let acceptor = Acceptor::new(&tls, keeper, None).unwrap();
    for tls12 in [false, true] {
        let config = client_config(&authority, &Wishes { tls12, pair: Some(&large), ..Wishes::default() });
        let mut client = Client::new(&config, "site.example");
        let failure = client.connect(&acceptor, usize::MAX).err().unwrap();
        assert!(failure.0.contains("8 KiB"), "{failure:?}");
        let told = client.tls.process_new_packets().unwrap_err();
        assert_eq!(told, Error::AlertReceived(AlertDescription::UnsupportedCertificate));
    }
}

#[test]
fn settings_that_have_changed_admit_no_client_that_they_would_refuse() {
    let (authority, other) = (Authority::new(), Authority::new());
    let pair = authority.sign(Kind::P256, &["site.example"]);
    let (tls, keeper) = settings(&[(&pair, &[])]);
    let acceptor = |client_certificate, authorities: &Authority| {
        let tls = Tls { client_certificate, client_authorities: authorities.pem(), ..tls.clone() };
        Acceptor::new(&tls, keeper.clone(), None).unwrap()
    };
    use ClientCertificate::{None as Unasked, Optional, Required};
    let all = [Unasked, Optional, Required].map(|asked| [acceptor(asked, &authority), acceptor(asked, &other)]);
    let facts = |pair: Option<&Pair>| {
        let config = client_config(&authority, &Wishes { pair, ..Wishes::default() });
        Client::new(&config, "site.example").connect(&all[1][0], usize::MAX).unwrap().established.facts
    };
    let admitted = |facts| all.each_ref().map(|pair| pair.each_ref().map(|acceptor| acceptor.admits(&facts)));
    assert_eq!(admitted(facts(None)), [[true, true], [true, true], [false, false]]);
    assert_eq!(admitted(facts(Some(&pair))), [[false, false], [true, false], [true, false]]);
}

#[test]
fn a_message_comes_in_some_records_but_not_in_hundreds() {
    let authority = Authority::new();
    let pair = authority.sign(Kind::P256, &["site.example"]);
    let (tls, keeper) = settings(&[(&pair, &[])]);
    let acceptor = Acceptor::new(&tls, keeper, None).unwrap();
    let hello = Client::new(&client_config(&authority, &Wishes::default()), "site.example").output();
    for (length, answered) in [(20, true), (1, false)] {
        let record = |piece: &[u8]| [&[22, 3, 1, 0, piece.len() as u8][..], piece].concat();
        let records: Vec<u8> = hello[5..].chunks(length).flat_map(record).collect();
        let mut out = Vec::new();
        assert_eq!(acceptor.begin().unwrap().take(&records, &mut out).is_ok(), answered, "{length}");
        assert_eq!(out.is_empty(), !answered);
    }
}

#[test]
fn a_keeper_that_does_not_sign_ends_the_handshake() {
    struct Silent;
    impl ostler_tls::Sign for Silent {
        fn sign(&self, _: u64, _: u16, _: &[u8]) -> std::io::Result<Vec<u8>> {
            Err(std::io::ErrorKind::TimedOut.into())
        }
    }
    let authority = Authority::new();
    let pair = authority.sign(Kind::P256, &["site.example"]);
    let (tls, _) = settings(&[(&pair, &[])]);
    let acceptor = Acceptor::new(&tls, std::sync::Arc::new(Silent), None).unwrap();
    for tls12 in [false, true] {
        let config = client_config(&authority, &Wishes { tls12, ..Wishes::default() });
        let failure = Client::new(&config, "site.example").connect(&acceptor, usize::MAX).err().unwrap();
        assert!(failure.0.contains("the key keeper has not signed"), "{failure:?}");
    }
}

#[test]
fn bytes_that_are_no_handshake_end_it() {
    let authority = Authority::new();
    let pair = authority.sign(Kind::P256, &["site.example"]);
    let (tls, keeper) = settings(&[(&pair, &[])]);
    let acceptor = Acceptor::new(&tls, keeper, None).unwrap();
    let config = client_config(&authority, &Wishes::default());
    let hello = Client::new(&config, "site.example").output();
    for bytes in
        [&b"GET / HTTP/1.1\r\n\r\n"[..], &[0x80, 0x2e, 1, 0, 2], &[22, 3, 1, 255, 255], &[23, 3, 3, 0, 1, 0], &[0; 300]]
    {
        assert!(acceptor.begin().unwrap().take(bytes, &mut Vec::new()).is_err(), "{bytes:?}");
    }
    for at in 0..hello.len() {
        for change in [1, 0x80, 0xff] {
            let mut changed = hello.clone();
            changed[at] ^= change;
            // It may be refused, or wait for more, or be another client's greeting.
            let _ = acceptor.begin().unwrap().take(&changed, &mut Vec::new());
        }
    }
}
