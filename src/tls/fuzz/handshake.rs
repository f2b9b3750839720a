//! No client ends a worker: whatever comes instead of a handshake, and however it is cut, it is refused or waited for.
#![no_main]

use std::{io, sync::{Arc, LazyLock}};

use libfuzzer_sys::fuzz_target;
use ostler_tls::{Acceptor, Sign};
use ostler_wire::{Certificate, ClientCertificate, TicketKeys, Tls};

/// Nobody checks what it signs.
struct Anything;

impl Sign for Anything {
    fn sign(&self, _key: u64, _scheme: u16, _message: &[u8]) -> io::Result<Vec<u8>> {
        Ok(vec![0x30; 70])
    }
}

/// Without and with certificates of clients.
static ACCEPTORS: LazyLock<[Acceptor; 2]> = LazyLock::new(|| {
    let pem = "-----BEGIN CERTIFICATE-----\nMAA=\n-----END CERTIFICATE-----\n".to_owned();
    let certificate = Certificate { chain: pem, names: vec!["*.example".into()], key: 1, schemes: vec![0x0403, 0x0804, 0x0401] };
    let keys = TicketKeys { previous: [1; 32], current: [2; 32], next: [3; 32] };
    [ClientCertificate::None, ClientCertificate::Required].map(|client_certificate| {
        let tls = Tls {
            certificates: vec![certificate.clone()],
            client_authorities: include_str!("authority.pem").to_owned(),
            client_certificate,
            tls12: true,
            ..Tls::default()
        };
        Acceptor::new(&tls, Arc::new(Anything), Some(&keys)).expect("they can be used")
    })
});

fuzz_target!(|input: &[u8]| {
    // Whether clients are asked, and where the input is cut, is told by its first bytes.
    let [which, place, bytes @ ..] = input else { return };
    let (first, second) = bytes.split_at(bytes.len().min(usize::from(*place)));
    let mut handshake = ACCEPTORS[usize::from(which % 2)].begin().expect("it begins");
    for bytes in [first, second] {
        let mut out = Vec::new();
        match handshake.take(bytes, &mut out) {
            Ok(Err(waiting)) => handshake = waiting,
            Ok(Ok(_)) => panic!("nobody knows the keys"),
            Err(_) => return,
        }
    }
});
