use std::{
    io::{Read, Write},
    os::{
        fd::{AsFd, OwnedFd},
        unix::net::UnixStream,
    },
};

use ostler_tls::Records;

use crate::transport::{Transport, TransportState};

/// The state of records of TLS_AES_128_GCM_SHA256, with these secrets for receiving and sending.
fn state(receiving: u8, sending: u8) -> Vec<u8> {
    let direction = |secret: u8| [&[0; 8][..], &[secret; 32]].concat();
    [&[1, 0x13, 0, 0, 0][..], &direction(receiving), &direction(sending)].concat()
}

/// A server's end, its client's socket, and the client's records.
fn pair() -> (Transport, UnixStream, Records) {
    let (server, client) = UnixStream::pair().unwrap();
    server.set_nonblocking(true).unwrap();
    // No name, no certificate, nothing received.
    let tls = [&state(1, 2)[..], &[0; 21]].concat();
    let packet = [&[1][..], &(tls.len() as u32).to_le_bytes(), &tls].concat();
    let arrived = TransportState::read(&mut &packet[..]).expect("it is a state");
    (Transport::resume(server.into(), arrived), client, Records::import(&mut &state(2, 1)[..]).unwrap())
}

fn sealed(client: &mut Records, bytes: &[u8]) -> Vec<u8> {
    let mut out = Vec::new();
    client.seal(&[bytes], 0, usize::MAX, &mut out).unwrap();
    out
}

/// What has come to a client.
fn opened(client: &mut Records, mut bytes: Vec<u8>) -> Vec<u8> {
    let opened = client.open(&mut bytes).unwrap();
    assert_eq!(opened.consumed, bytes.len(), "only whole records");
    bytes.truncate(opened.data);
    bytes
}

fn numbers(length: usize) -> Vec<u8> {
    (0..length).map(|number| (number % 251) as u8).collect()
}

#[test]
fn a_buffer_that_is_not_filled_means_that_no_more_is_there() {
    let all = numbers(100_000);
    for room in [1, 4, 5, 100, 16_000, 17_000, 80_000, 200_000] {
        let (transport, mut socket, mut client) = pair();
        // Less than a socket takes at once, in records of many lengths.
        let records: Vec<u8> = [10, 1, 16_384, 4000, 30_000]
            .iter()
            .scan(0, |at, length| {
                *at += length;
                Some(sealed(&mut client, &all[*at - length..*at]))
            })
            .flatten()
            .collect();
        socket.write_all(&records).unwrap();
        let (mut heard, mut buffer) = (Vec::new(), vec![0; room]);
        while let Some(length) = transport.receive(&mut buffer).unwrap() {
            heard.extend_from_slice(&buffer[..length]);
            if length < room {
                assert!(!transport.has_bytes(), "{room}");
                break;
            }
        }
        assert!(heard == all[..50_395], "{room}");
        assert_eq!(transport.held(), 0);
    }
}

#[test]
fn records_may_come_byte_by_byte_to_a_buffer_of_any_size() {
    for room in [1, 3, 64, 1000] {
        let (transport, mut socket, mut client) = pair();
        let (mut heard, mut buffer) = (Vec::new(), vec![0; room]);
        for byte in [sealed(&mut client, b"one "), sealed(&mut client, b"and two")].concat() {
            socket.write_all(&[byte]).unwrap();
            while let Some(length) = transport.receive(&mut buffer).unwrap() {
                heard.extend_from_slice(&buffer[..length]);
                if length < room {
                    break;
                }
            }
        }
        assert_eq!(heard, b"one and two", "{room}");
    }
}

#[test]
fn what_is_reported_as_sent_has_left_and_the_rest_may_come_in_other_parts() {
    let all = numbers(3_000_000);
    for part in [1000, 70_000, 3_000_000] {
        let (transport, mut socket, mut client) = pair();
        socket.set_nonblocking(true).unwrap();
        let (mut sent, mut received) = (0, Vec::new());
        while sent < all.len() {
            let pieces: Vec<&[u8]> = all[sent..].chunks(part).take(3).collect();
            let Some(length) = transport.send_parts(&pieces).unwrap() else {
                assert!(!transport.can_move(), "something is half out");
                let mut buffer = vec![0; 50_000];
                let length = socket.read(&mut buffer).unwrap();
                received.extend_from_slice(&buffer[..length]);
                continue;
            };
            sent += length;
        }
        assert!(transport.can_move());
        let _ = socket.read_to_end(&mut received);
        assert!(opened(&mut client, received) == all, "{part}");
    }
}

#[test]
fn a_file_is_sent_like_its_bytes() {
    let all = numbers(1_000_000);
    let file: OwnedFd =
        nix::sys::memfd::memfd_create("file", nix::sys::memfd::MFdFlags::empty()).expect("there is memory");
    let mut writer = std::fs::File::from(file.try_clone().unwrap());
    writer.write_all(&all).unwrap();
    let (transport, mut socket, mut client) = pair();
    socket.set_nonblocking(true).unwrap();
    let (mut offset, mut received) = (5, Vec::new());
    loop {
        match transport.send_file(file.as_fd(), &mut offset, 2_000_000).unwrap() {
            Some(0) => break,
            Some(_) => {}
            None => {
                let mut buffer = vec![0; 50_000];
                let length = socket.read(&mut buffer).unwrap();
                received.extend_from_slice(&buffer[..length]);
            }
        }
    }
    assert_eq!(offset, 1_000_000, "it is shorter than was asked for");
    let _ = socket.read_to_end(&mut received);
    assert!(opened(&mut client, received) == all[5..]);
}

#[test]
fn a_giver_has_nothing_to_say_any_more() {
    let (transport, mut socket, mut client) = pair();
    socket.set_nonblocking(true).unwrap();
    socket.write_all(&sealed(&mut client, b"whole")[..7]).unwrap();
    assert_eq!(transport.receive(&mut [0; 100]).unwrap(), None);
    assert_eq!(transport.held(), 7);
    let state = transport.state();
    transport.surrender();
    assert!(transport.send(b"data").is_err() && !transport.can_move());
    transport.say_goodbye();
    assert!(socket.read(&mut [0]).is_err(), "nothing has come");
    let TransportState::Tls(_) = TransportState::read(&mut &state[..]).unwrap() else { panic!("it is TLS") };
}

#[test]
fn a_goodbye_is_said_only_behind_a_whole_response() {
    let (transport, mut socket, _) = pair();
    while transport.send(&[b'x'; 70_000]).unwrap().is_some() {}
    transport.finish_sending();
    let mut received = Vec::new();
    socket.read_to_end(&mut received).unwrap();
    let mut client = Records::import(&mut &state(2, 1)[..]).unwrap();
    let _ = client.open(&mut received).unwrap();
    assert!(!client.has_ended());

    let (transport, mut socket, mut client) = pair();
    assert_eq!(transport.send(b"all").unwrap(), Some(3));
    transport.finish_sending();
    let mut received = Vec::new();
    socket.read_to_end(&mut received).unwrap();
    assert_eq!(opened(&mut client, received), b"all");
    assert!(client.has_ended());
}
