//! Connections within TLS: they begin, carry requests and responses of any size, move like plain ones, and end visibly.

use std::{
    io::{self, Read, Write},
    net::{Shutdown, TcpStream},
    sync::{Arc, atomic::Ordering::Relaxed},
    thread,
    time::Duration,
};

use ostler_tls::Sign;
use ostler_wire::{Certificate, ClientCertificate, FromWorker, Peers, Tls, Trust, WorkerSettings};
use rcgen::{CertificateParams, KeyPair};
use rustls::{
    ClientConfig, ClientConnection, RootCertStore, SignatureScheme, StreamOwned, SupportedProtocolVersion,
    crypto::ring,
    pki_types::{PrivateKeyDer, PrivatePkcs8KeyDer, ServerName},
    sign::SigningKey,
    version::{TLS12, TLS13},
};

use crate::{
    client::Client,
    hello,
    site::{Certified, Site, nobody, settings},
};

type Secure = Client<StreamOwned<ClientConnection, TcpStream>>;

#[derive(Debug)]
struct Key(Arc<dyn SigningKey>);

impl Sign for Key {
    fn sign(&self, _key: u64, scheme: u16, message: &[u8]) -> io::Result<Vec<u8>> {
        let signer = self.0.choose_scheme(&[scheme.into()]).ok_or(io::ErrorKind::Unsupported)?;
        signer.sign(message).map_err(io::Error::other)
    }
}

/// A site and the clients that know it.
struct SecureSite {
    site: Site,
    configs: [Arc<ClientConfig>; 2],
}

fn start(workers: usize, settings: WorkerSettings) -> SecureSite {
    start_behind(nobody(), workers, settings)
}

fn start_behind(trust: Trust, workers: usize, settings: WorkerSettings) -> SecureSite {
    let (certified, roots) = certified();
    let config = |version: &'static SupportedProtocolVersion| {
        let builder = ClientConfig::builder_with_provider(Arc::new(ring::default_provider()));
        let builder = builder.with_protocol_versions(&[version]).unwrap();
        Arc::new(builder.with_root_certificates(roots.clone()).with_no_client_auth())
    };
    SecureSite {
        site: Site::start_with(workers, settings, Some(certified), trust),
        configs: [config(&TLS13), config(&TLS12)],
    }
}

fn certified() -> (Certified, RootCertStore) {
    let key = KeyPair::generate().unwrap();
    let certificate = CertificateParams::new(vec!["site.example".to_owned()]).unwrap().self_signed(&key).unwrap();
    let mut roots = RootCertStore::empty();
    roots.add(certificate.der().clone()).unwrap();
    let private = PrivateKeyDer::from(PrivatePkcs8KeyDer::from(key.serialize_der()));
    let certificate = Certificate {
        chain: certificate.pem(),
        names: vec!["site.example".to_owned()],
        key: 1,
        schemes: vec![SignatureScheme::ECDSA_NISTP256_SHA256.into()],
    };
    let tls = Tls { certificates: vec![certificate], tls12: true, ..Tls::default() };
    ((tls, Arc::new(Key(ring::sign::any_supported_type(&private).unwrap()))), roots)
}

impl SecureSite {
    /// A client of TLS 1.3 for even numbers, of 1.2 for odd ones.
    fn client(&self, number: usize) -> Secure {
        let name = ServerName::try_from("site.example").unwrap();
        let tls = ClientConnection::new(self.configs[number % 2].clone(), name).unwrap();
        Client(StreamOwned::new(tls, self.site.client().0))
    }

    fn clients(&self, count: usize) -> Vec<Secure> {
        (0..count).map(|number| self.client(number)).collect()
    }
}

/// Whether it has said at its end that nothing is missing.
fn ended_well(client: &mut Secure) -> bool {
    // rustls makes UnexpectedEof of an end without close_notify.
    matches!(client.0.read(&mut [0]), Ok(0))
}

#[test]
fn requests_of_any_size_are_answered() {
    let secure = start(1, settings());
    for number in 0..2 {
        let mut client = secure.client(number);
        assert_eq!(client.asks("/hello"), hello());
        for length in [1, 1000, 16_383, 16_384, 16_385, 100_000, 3_000_000] {
            assert_eq!(client.asks(&format!("/size/{length}")), (200, vec![b'x'; length]));
            assert_eq!(client.asks(&format!("/kept/{length}")), (200, vec![b'x'; length]));
            let body: Vec<u8> = (0..length).map(|at| (at % 251) as u8).collect();
            client.send(format!("POST /echo HTTP/1.1\r\nHost: test\r\nContent-Length: {length}\r\n\r\n"));
            client.send(&body).get("/hello");
            assert!(client.answer() == (200, body), "{length}");
            assert_eq!(client.answer(), hello());
        }
        client.get("/stream/300");
        assert!(client.chunked() == vec![b'y'; 3_000_000]);
    }
}

#[test]
fn pipelined_requests_are_answered_in_order_whatever_the_records() {
    let secure = start(1, settings());
    for number in 0..2 {
        let mut client = secure.client(number);
        let requests: String = (1..200)
            .map(|length| format!("GET /size/{length} HTTP/1.1\r\nHost: test\r\nX: {}\r\n\r\n", "x".repeat(length)))
            .collect();
        let sizes = [1, 2, 5, 3000, 100, 16_384, 7, 9000];
        let mut rest = requests.as_bytes();
        for size in sizes.into_iter().cycle() {
            let (piece, behind) = rest.split_at(rest.len().min(size));
            client.send(piece);
            rest = behind;
            if rest.is_empty() {
                break;
            }
        }
        for length in 1..200 {
            assert_eq!(client.answer(), (200, vec![b'x'; length]));
        }
    }
}

#[test]
fn a_body_that_the_application_reads_itself_comes_whole() {
    let secure = start(1, WorkerSettings { request_buffering: false, ..settings() });
    for number in 0..2 {
        let mut client = secure.client(number);
        for length in [5, 70_000, 1_000_000] {
            let body: Vec<u8> = (0..length).map(|at| (at % 241) as u8).collect();
            client.send(format!("POST /echo HTTP/1.1\r\nHost: test\r\nContent-Length: {length}\r\n\r\n"));
            client.send(&body);
            assert!(client.answer() == (200, body), "{length}");
        }
        client.send("POST /echo HTTP/1.1\r\nHost: test\r\nContent-Length: 5\r\nExpect: 100-continue\r\n\r\n");
        let mut head = [0; 25];
        client.0.read_exact(&mut head).unwrap();
        assert_eq!(&head, b"HTTP/1.1 100 Continue\r\n\r\n");
        assert_eq!(client.send("abcde").answer(), (200, b"abcde".to_vec()));
    }
}

#[test]
fn connections_move_again_and_again_and_no_client_shakes_hands_twice() {
    let mut secure = start(1, settings());
    let mut clients = secure.clients(40);
    for client in &mut clients {
        assert_eq!(client.asks("/hello"), hello());
    }
    for round in 0..7 {
        let next = secure.site.add_worker();
        if round == 3 {
            for client in clients.iter_mut().step_by(2) {
                client.0.conn.refresh_traffic_keys().unwrap();
            }
        }
        for client in clients.iter_mut().step_by(3) {
            // Its record is not whole when it moves.
            client.0.conn.writer().write_all(b"GET /hello HTTP/1.1\r\nHo").unwrap();
            let mut sealed = Vec::new();
            client.0.conn.write_tls(&mut sealed).unwrap();
            let (first, rest) = sealed.split_at(9 + round);
            client.0.sock.write_all(first).unwrap();
            secure.site.settled(next - 1);
            client.0.sock.write_all(rest).unwrap();
        }
        secure.site.drain(next - 1, true);
        assert!(matches!(secure.site.hear(next - 1), FromWorker::Drained));
        for (number, client) in clients.iter_mut().enumerate() {
            if number % 3 == 0 {
                client.send("st: test\r\n\r\n");
                assert_eq!(client.answer(), hello());
            }
            assert_eq!(client.asks(&format!("/size/{}", 10_000 * round)), (200, vec![b'x'; 10_000 * round]));
        }
        assert_eq!(secure.site.board.slot(next as u16).taken.load(Relaxed), 40);
    }
}

#[test]
fn a_record_that_is_begun_moves_with_its_connection() {
    let mut secure = start(1, settings());
    let mut clients = secure.clients(2);
    for client in &mut clients {
        assert_eq!(client.asks("/hello"), hello());
        client.0.conn.writer().write_all(b"GET /hello HTTP/1.1\r\nHost: test\r\n\r\n").unwrap();
    }
    let sealed: Vec<_> = clients
        .iter_mut()
        .map(|client| {
            let mut sealed = Vec::new();
            client.0.conn.write_tls(&mut sealed).unwrap();
            sealed
        })
        .collect();
    for at in 0..sealed[0].len().min(20) {
        if at > 0 {
            clients
                .iter_mut()
                .zip(&sealed)
                .for_each(|(client, sealed)| client.0.sock.write_all(&sealed[at - 1..at]).unwrap());
        }
        let next = secure.site.add_worker();
        secure.site.drain(next - 1, true);
        assert!(matches!(secure.site.hear(next - 1), FromWorker::Drained));
        secure.site.settled(next);
        if next == 7 {
            // The scoreboard has as many slots.
            clients
                .iter_mut()
                .zip(&sealed)
                .for_each(|(client, sealed)| client.0.sock.write_all(&sealed[at..]).unwrap());
            break;
        }
    }
    for client in &mut clients {
        assert_eq!(client.answer(), hello());
    }
}

#[test]
fn a_connection_that_has_only_connected_moves_and_one_in_its_handshake_is_waited_for() {
    let mut secure = start(1, settings());
    let mut fresh = secure.client(0);
    let mut shaking = secure.client(0);
    let mut hello_bytes = Vec::new();
    shaking.0.conn.write_tls(&mut hello_bytes).unwrap();
    let (first, rest) = hello_bytes.split_at(100);
    shaking.0.sock.write_all(first).unwrap();
    while secure.site.board.slot(0).connections.load(Relaxed) < 2 {
        thread::yield_now();
    }
    secure.site.settled(0);
    secure.site.add_worker();
    secure.site.drain(0, true);
    while secure.site.board.slot(1).taken.load(Relaxed) < 1 {
        thread::yield_now();
    }
    assert_eq!(fresh.asks("/hello"), hello());
    shaking.0.sock.write_all(rest).unwrap();
    assert_eq!(shaking.asks("/hello"), hello());
    assert!(matches!(secure.site.hear(0), FromWorker::Drained));
    assert_eq!(shaking.asks("/hello"), hello());
}

#[test]
fn a_handshake_has_the_time_of_a_head_and_holds_nobody() {
    let secure = start(1, WorkerSettings { header_timeout: Duration::from_millis(600), ..settings() });
    let mut slow: Vec<Secure> = secure.clients(20);
    for client in &mut slow {
        let mut bytes = Vec::new();
        client.0.conn.write_tls(&mut bytes).unwrap();
        client.0.sock.write_all(&bytes[..50]).unwrap();
    }
    assert_eq!(secure.client(0).asks("/hello"), hello());
    for client in &mut slow {
        assert_eq!(client.0.sock.read(&mut [0]).unwrap(), 0, "it is closed");
    }
    assert_eq!(secure.client(1).asks("/hello"), hello());
}

#[test]
fn handshakes_that_come_to_no_end_give_way_to_newcomers() {
    let secure = start(1, WorkerSettings { connections: 4, ..settings() });
    let mut slow: Vec<Secure> = secure.clients(4);
    for client in &mut slow {
        let mut bytes = Vec::new();
        client.0.conn.write_tls(&mut bytes).unwrap();
        client.0.sock.write_all(&bytes[..50]).unwrap();
    }
    while secure.site.board.slot(0).connections.load(Relaxed) < 4 {
        thread::yield_now();
    }
    secure.site.settled(0);
    let mut newcomers = secure.clients(2);
    assert!(newcomers.iter_mut().all(|client| client.asks("/hello") == hello()));
}

#[test]
fn http_without_tls_is_told_so() {
    let secure = start(1, settings());
    let mut plain = secure.site.client();
    let answer = plain.asks("/hello");
    assert_eq!(answer.0, 400);
    let said = String::from_utf8(answer.1).unwrap();
    assert!(said.contains("https"), "{said}");
    assert!(plain.closed());
    for garbage in [&b"\x00\x01\x02"[..], b"\x16\x03\x01\x00\x05hello", &[0x80, 0x2e, 1, 0, 2]] {
        let mut client = secure.site.client();
        client.send(garbage);
        client.0.shutdown(Shutdown::Write).unwrap();
        let told = client.rest();
        assert!(told.is_empty() || told[0] == 21, "{told:?}");
    }
    assert_eq!(secure.client(0).asks("/hello"), hello());
}

#[test]
fn an_end_is_said_and_a_cut_is_not() {
    let secure = start(1, settings());
    for number in 0..2 {
        let mut client = secure.client(number);
        client.send("GET /hello HTTP/1.1\r\nHost: test\r\nConnection: close\r\n\r\n");
        assert_eq!(client.answer(), hello());
        assert!(ended_well(&mut client));

        let mut client = secure.client(number);
        assert_eq!(client.asks("/hello"), hello());
        client.0.conn.send_close_notify();
        client.0.flush().unwrap();
        assert!(ended_well(&mut client), "it answers the client's own end");

        let mut client = secure.client(number);
        client.get("/hello");
        client.0.conn.send_close_notify();
        client.0.flush().unwrap();
        assert_eq!(client.answer(), hello(), "the request before the end");
        assert!(ended_well(&mut client));

        let mut client = secure.client(number);
        client.send("GET /panic HTTP/1.0\r\n\r\n");
        let _ = client.0.read_to_end(&mut Vec::new());
    }
}

#[test]
fn a_record_that_was_changed_is_answered_with_an_alert() {
    let secure = start(1, settings());
    for number in 0..2 {
        let mut client = secure.client(number);
        assert_eq!(client.asks("/hello"), hello());
        client.0.sock.write_all(&[23, 3, 3, 0, 30]).unwrap();
        client.0.sock.write_all(&[7; 30]).unwrap();
        let told = client.0.read(&mut [0]).unwrap_err().to_string();
        assert!(told.contains("BadRecordMac"), "{told}");
        assert_eq!(secure.client(number).asks("/hello"), hello());
    }
}

#[test]
fn a_slow_client_takes_its_response_to_the_end() {
    let secure = start(1, settings());
    for number in 0..2 {
        let mut slow = secure.client(number);
        slow.get("/size/30000000").get("/kept/20000000").get("/stream/1000");
        assert_eq!(secure.client(0).asks("/hello"), hello());
        assert!(slow.answer() == (200, vec![b'x'; 30_000_000]));
        // Keys change while responses are under way.
        if number == 0 {
            slow.0.conn.refresh_traffic_keys().unwrap();
            slow.0.flush().unwrap();
        }
        assert!(slow.answer() == (200, vec![b'x'; 20_000_000]));
        assert!(slow.chunked() == vec![b'y'; 10_000_000]);
    }
}

#[test]
fn a_handshake_follows_a_proxy_header_wherever_the_bytes_are_cut_and_the_connection_moves() {
    let proxies = Peers { networks: vec![("127.0.0.0".parse().unwrap(), 8)], unix: false };
    let trust = Trust { proxy_protocol: true, proxy_allow: proxies, ..nobody() };
    let mut secure = start_behind(trust, 1, settings());
    let header = b"PROXY TCP4 203.0.113.7 127.0.0.1 5555 443\r\n";
    let mut clients = Vec::new();
    for cut in [0, 10, header.len(), header.len() + 3, header.len() + 200] {
        let mut client = secure.client(0);
        let mut begun = header.to_vec();
        client.0.conn.write_tls(&mut begun).unwrap();
        client.0.sock.write_all(&begun[..cut]).unwrap();
        clients.push((client, begun.split_off(cut)));
    }
    while secure.site.board.slot(0).connections.load(Relaxed) < 5 {
        thread::yield_now();
    }
    secure.site.settled(0);
    secure.site.add_worker();
    secure.site.drain(0, true);
    for (client, rest) in &mut clients {
        client.0.sock.write_all(rest).unwrap();
        assert_eq!(client.asks("/hello"), hello());
    }
    assert!(matches!(secure.site.hear(0), FromWorker::Drained));
    assert!(clients.iter_mut().all(|(client, _)| client.asks("/hello") == hello()));
}

#[test]
fn a_connection_that_new_settings_would_refuse_goes_no_further() {
    let mut secure = start(1, settings());
    let (mut idle, mut asking) = (secure.client(0), secure.client(0));
    for client in [&mut idle, &mut asking] {
        assert_eq!(client.asks("/hello"), hello());
    }
    asking.send("GET /hello HT");
    secure.site.settled(0);
    let (tls, _) = secure.site.tls.as_mut().unwrap();
    tls.client_authorities = tls.certificates[0].chain.clone();
    tls.client_certificate = ClientCertificate::Required;
    secure.site.add_worker();
    secure.site.drain(0, true);
    assert!(matches!(secure.site.hear(0), FromWorker::Drained));
    assert!(ended_well(&mut idle));
    asking.send("TP/1.1\r\nHost: test\r\n\r\n");
    assert_eq!(asking.answer().0, 421);
    assert!(ended_well(&mut asking));
}
