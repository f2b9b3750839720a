//! Over TCP, with the kernel's records where it makes them and with ours elsewhere: what a client gets is the same. `make test-ktls` runs
//! them where the kernel can.

use std::{
    env,
    io::{Read, Write},
    net::{TcpListener, TcpStream},
    os::fd::{AsFd, OwnedFd},
    sync::mpsc,
    thread,
    time::Duration,
};

use nix::{
    poll::{PollFd, PollFlags, PollTimeout, poll},
    sys::{
        memfd::{MFdFlags, memfd_create},
        socket::{setsockopt, sockopt},
    },
};
use ostler_tls::{Fault, Records};
use zeroize::Zeroizing;

use crate::transport::{Transport, TransportState};

/// Suites, and how long a secret of theirs is.
const SUITES: [(u16, usize); 6] = [(0x1301, 32), (0x1302, 48), (0x1303, 32), (0xc02f, 28), (0xc030, 44), (0xcca8, 44)];

/// The state of records of a suite, with these secrets and a number for receiving and sending.
fn state((suite, length): (u16, usize), receiving: u8, sending: u8) -> Vec<u8> {
    let direction = |secret: u8| [&[0; 8][..], &vec![secret; length]].concat();
    [&suite.to_le_bytes()[..], &[0, 0, 0], &direction(receiving), &direction(sending)].concat()
}

/// A server's end, its client's socket, and the client's records.
fn pair(suite: (u16, usize)) -> (Transport, TcpStream, Records) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let client = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
    client.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
    let server = listener.accept().unwrap().0;
    server.set_nonblocking(true).unwrap();
    // No name, no certificate, nothing received.
    let tls = [&state(suite, 1, 2)[..], &[0; 21]].concat();
    let packet = [&[1][..], &(tls.len() as u32).to_le_bytes(), &tls].concat();
    let arrived = TransportState::read(&mut &packet[..]).expect("it is a state");
    (Transport::resume(server.into(), arrived), client, Records::import(&mut &state(suite, 2, 1)[..]).unwrap())
}

/// The same connection in another process, as far as it can tell.
fn moved(transport: Transport) -> Transport {
    assert!(transport.can_move());
    let (socket, state) = (transport.descriptor().try_clone_to_owned().unwrap(), transport.state());
    transport.surrender();
    Transport::resume(socket, TransportState::read(&mut &state[..]).unwrap())
}

fn numbers(length: usize) -> Vec<u8> {
    (0..length).map(|number| (number % 251) as u8).collect()
}

fn file(content: &[u8]) -> OwnedFd {
    let file = memfd_create("file", MFdFlags::empty()).unwrap();
    std::fs::File::from(file.try_clone().unwrap()).write_all(content).unwrap();
    file
}

fn wait_for_room(transport: &Transport) {
    let descriptor = transport.descriptor();
    assert_ne!(poll(&mut [PollFd::new(descriptor, PollFlags::POLLOUT)], PollTimeout::from(20_000u16)), Ok(0));
}

fn send_file(transport: &Transport, file: &OwnedFd, from: u64, to: u64) {
    let mut offset = from;
    while offset < to {
        let left = to - offset;
        match transport.send_file(file.as_fd(), &mut offset, left).unwrap() {
            Some(sent) => assert!(sent > 0, "the file is long enough"),
            None => wait_for_room(transport),
        }
    }
}

fn send(transport: &Transport, mut bytes: &[u8]) {
    while !bytes.is_empty() {
        let (first, rest) = bytes.split_at(bytes.len() / 2);
        match transport.send_parts(&[first, rest]).unwrap() {
            Some(sent) => bytes = &bytes[sent..],
            None => wait_for_room(transport),
        }
    }
}

/// Whether the kernel makes the records, as it has to where that is tested.
fn assert_left_to_kernel(transport: &Transport) {
    let left = transport.tls().is_some_and(|tls| tls.is_left_to_kernel());
    assert_eq!(left, env::var_os("OSTLER_TEST_KTLS").is_some(), "{transport:?}");
}

/// What has come to a client, up to the end, and what that was.
fn opened(client: &mut Records, mut bytes: Vec<u8>) -> (Vec<u8>, Result<bool, Fault>) {
    let mut data = Vec::new();
    // Record by record, as a fault takes the data before it along.
    let mut rest = &mut bytes[..];
    while let Some(length) = Records::length(rest) {
        let (record, behind) = rest.split_at_mut(length);
        match client.open(record) {
            Ok(opened) => data.extend_from_slice(&record[..opened.data]),
            Err(fault) => return (data, Err(fault)),
        }
        rest = behind;
    }
    (data, Ok(client.has_ended()))
}

#[test]
fn a_file_arrives_between_what_is_sealed_and_what_the_kernel_is_given() {
    let all = numbers(3_000_000);
    let whole = file(&all);
    for suite in SUITES {
        let (transport, mut socket, mut client) = pair(suite);
        let reader = thread::spawn(move || {
            let mut received = Vec::new();
            socket.read_to_end(&mut received).unwrap();
            received
        });
        send(&transport, b"before");
        send_file(&transport, &whole, 0, 1000);
        send_file(&transport, &whole, 1000, 3_000_000);
        assert_left_to_kernel(&transport);
        send(&transport, &all[..200_000]);
        let transport = moved(transport);
        assert_left_to_kernel(&transport);
        send(&transport, b"after");
        send_file(&transport, &whole, 7, 500_000);
        transport.finish_sending();
        drop(transport);
        let (data, end) = opened(&mut client, reader.join().unwrap());
        assert!(data == [b"before", &all[..], &all[..200_000], b"after", &all[7..500_000]].concat(), "{suite:x?}");
        assert_eq!(end, Ok(true), "it is said that nothing is missing");
    }
}

#[test]
fn no_end_overtakes_what_waits_for_room() {
    let all = numbers(500_000);
    let whole = file(&all);
    // One of these ends where the kernel has taken a record and has no room for it.
    for length in (66_000..450_000).step_by(4000) {
        let (transport, mut socket, mut client) = pair(SUITES[0]);
        setsockopt(&transport.descriptor(), sockopt::SndBuf, &50_000).unwrap();
        let (begin, begun) = mpsc::channel();
        let reader = thread::spawn(move || {
            let mut received = Vec::new();
            // It reads when the server waits for it, or believes that it has sent everything.
            begun.recv().unwrap();
            socket.read_to_end(&mut received).unwrap();
            received
        });
        let mut offset = 0;
        while offset < length {
            let left = length - offset;
            if transport.send_file(whole.as_fd(), &mut offset, left).unwrap().is_none() {
                let _ = begin.send(());
                wait_for_room(&transport);
            }
        }
        transport.finish_sending();
        let _ = begin.send(());
        drop(transport);
        let (data, end) = opened(&mut client, reader.join().unwrap());
        assert!(data == all[..length as usize], "{length}: {} have come", data.len());
        assert_eq!(end, Ok(true), "{length}");
    }
}

#[test]
fn a_client_may_change_its_own_keys_before_and_after_a_move() {
    let whole = file(&numbers(100_000));
    let (mut transport, mut socket, mut client) = pair(SUITES[1]);
    send_file(&transport, &whole, 0, 100_000);
    for changes in [false, true, true, false] {
        if changes {
            let mut state = Zeroizing::new(Vec::new());
            client.export(&mut state);
            // As if it had been asked to: the next data has other keys.
            state[2] |= 1;
            client = Records::import(&mut &state[..]).unwrap();
        }
        let mut records = Vec::new();
        client.seal(&[b"request"], 0, 100, &mut records).unwrap();
        socket.write_all(&records).unwrap();
        assert!(transport.wait(Some(Duration::from_secs(20))).unwrap());
        let mut buffer = [0; 100];
        assert_eq!(transport.receive(&mut buffer).unwrap(), Some(7));
        assert_eq!(&buffer[..7], b"request");
        transport = moved(transport);
        assert_left_to_kernel(&transport);
    }
}
