//! What an application finds in its environ of a connection within TLS, named and written as Apache's mod_ssl does it.

use std::collections::BTreeMap;

use ostler_tests::{Pair, Rig, Site, TLS12, TLS13, TlsClient};

/// Answers with what it is told of the connection.
const SOURCE: &str = "
import json
def application(environ, start_response):
    told = {key: value for key, value in environ.items() if key.startswith(('HTTPS', 'SSL_')) or key == 'wsgi.url_scheme'}
    body = json.dumps(told).encode()
    start_response('200 OK', [('Content-Type', 'application/json'), ('Content-Length', str(len(body)))])
    return [body]
";

fn site(clients: &Pair) -> Site {
    let rig = Rig::with_source(SOURCE).bind("https://127.0.0.1:0");
    Pair::of(&["site.test"]).write(rig.folder(), "site");
    clients.write(rig.folder(), "clients");
    let rig = rig.option("--certfile", "site.pem").option("--keyfile", "site.key");
    rig.option("--ca-certs", "clients.pem").option("--cert-reqs", "optional").start()
}

#[test]
fn an_application_sees_its_tls() {
    let client = Pair::of(&["client.test"]);
    let site = site(&client);
    for (version, protocol, cipher) in
        [(&TLS13, "TLSv1.3", "TLS_AES_256_GCM_SHA384"), (&TLS12, "TLSv1.2", "ECDHE-ECDSA-AES256-GCM-SHA384")]
    {
        for shown in [None, Some(&client)] {
            let mut connection = TlsClient::with(&[version], shown).connect(site.address(), "site.test");
            // The second request has its environ from what was made for the first.
            for _ in 0..2 {
                let answer = connection.get("/");
                let mut told: BTreeMap<String, String> = serde_json::from_slice(&answer.body).expect("it is JSON");
                let shows = told.remove("SSL_CLIENT_CERT");
                let pem = shown.map(|client| client.chain.replace("\r\n", "\n"));
                assert_eq!((answer.status, shows), (200, pem));
                let names = ["SSL_CLIENT_S_DN", "SSL_CLIENT_I_DN"].map(|key| told.remove(key));
                let own = shown.map(|_| "CN=rcgen self signed cert".to_owned());
                assert_eq!(names, [own.clone(), own]);
                let serial = told.remove("SSL_CLIENT_M_SERIAL");
                assert_eq!(
                    serial.map(|serial| serial.bytes().all(|digit| b"0123456789ABCDEF".contains(&digit))),
                    shown.map(|_| true)
                );
                let expected = [
                    ("HTTPS", "on"),
                    ("SSL_CIPHER", cipher),
                    ("SSL_CLIENT_VERIFY", if shown.is_some() { "SUCCESS" } else { "NONE" }),
                    ("SSL_PROTOCOL", protocol),
                    ("SSL_TLS_SNI", "site.test"),
                    ("wsgi.url_scheme", "https"),
                ];
                assert!(told.iter().map(|(key, value)| (&key[..], &value[..])).eq(expected), "{told:?}");
            }
        }
    }
}
