//! Sessions are resumed by every worker that has the ticket's key.

use ostler_tls::Acceptor;
use ostler_wire::{ClientCertificate, TicketKeys};

use crate::rig::{Authority, Client, Kind, Wishes, client_config, settings};

fn keys(previous: u8, current: u8, next: u8) -> TicketKeys {
    TicketKeys { previous: [previous; 32], current: [current; 32], next: [next; 32] }
}

#[test]
fn tickets_are_good_for_all_workers_until_their_key_is_gone() {
    let authority = Authority::new();
    let pair = authority.sign(Kind::P256, &["site.example"]);
    let (tls, keeper) = settings(&[(&pair, &[])]);
    let worker = |keys: &TicketKeys| Acceptor::new(&tls, keeper.clone(), Some(keys)).unwrap();
    for tls12 in [false, true] {
        let config = client_config(&authority, &Wishes { tls12, ..Wishes::default() });
        let resumes = |acceptor: &Acceptor| {
            let mut client = Client::new(&config, "site.example");
            let mut server = client.connect(acceptor, usize::MAX).unwrap();
            server.exchange(&mut client);
            server.moves();
            server.exchange(&mut client);
            server.established.facts.resumed
        };
        assert!(!resumes(&worker(&keys(1, 2, 3))));
        assert!(resumes(&worker(&keys(1, 2, 3))), "another worker");
        assert!(resumes(&worker(&keys(0, 1, 2))), "one that does not know yet of the change");
        let changed = worker(&keys(1, 2, 3));
        changed.change_ticket_keys(&keys(2, 3, 4));
        assert!(!resumes(&changed), "the key that the last one has made a ticket with is two changes old");
        assert!(resumes(&changed));
        changed.change_ticket_keys(&keys(3, 4, 5));
        assert!(resumes(&changed), "the key before");
        changed.change_ticket_keys(&keys(7, 8, 9));
        assert!(!resumes(&changed));
    }
}

#[test]
fn clients_that_show_certificates_get_no_tickets() {
    let authority = Authority::new();
    let pair = authority.sign(Kind::P256, &["site.example"]);
    let (mut tls, keeper) = settings(&[(&pair, &[])]);
    (tls.client_authorities, tls.client_certificate) = (authority.pem(), ClientCertificate::Optional);
    let acceptor = Acceptor::new(&tls, keeper, Some(&keys(1, 2, 3))).unwrap();
    acceptor.change_ticket_keys(&keys(2, 3, 4));
    for tls12 in [false, true] {
        let config = client_config(&authority, &Wishes { tls12, pair: Some(&pair), ..Wishes::default() });
        for _ in 0..2 {
            let server = Client::new(&config, "site.example").connect(&acceptor, usize::MAX).unwrap();
            assert!(!server.established.facts.resumed);
        }
    }
}

#[test]
fn without_keys_there_are_no_tickets() {
    let authority = Authority::new();
    let pair = authority.sign(Kind::P256, &["site.example"]);
    let (tls, keeper) = settings(&[(&pair, &[])]);
    let acceptor = Acceptor::new(&tls, keeper, None).unwrap();
    let config = client_config(&authority, &Wishes::default());
    for _ in 0..2 {
        let server = Client::new(&config, "site.example").connect(&acceptor, usize::MAX).unwrap();
        assert!(!server.established.facts.resumed);
    }
}
