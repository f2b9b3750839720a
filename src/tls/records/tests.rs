use super::*;

/// A server's records, and its client's.
fn pair(number: u16) -> (Records, Records) {
    let suite = Suite::of(number).expect("it is known");
    let secret = |fill: u8| vec![fill; suite.secret_length()];
    let records = |receiving: u8, sending: u8| Records::new(suite, (&secret(receiving), 0), (&secret(sending), 0));
    (records(1, 2).expect("it has its length"), records(2, 1).expect("it has its length"))
}

const ALL: [u16; 9] = [0x1301, 0x1302, 0x1303, 0xc02b, 0xc02c, 0xcca9, 0xc02f, 0xc030, 0xcca8];

fn sealed(from: &mut Records, parts: &[&[u8]]) -> Vec<u8> {
    let mut out = Vec::new();
    let length: usize = parts.iter().map(|part| part.len()).sum();
    assert_eq!(from.seal(parts, 0, usize::MAX, &mut out), Ok(length));
    out
}

fn opened(by: &mut Records, mut bytes: Vec<u8>) -> Result<Vec<u8>, Fault> {
    let opened = by.open(&mut bytes)?;
    assert_eq!(opened.consumed, bytes.len());
    bytes.truncate(opened.data);
    Ok(bytes)
}

fn moved(records: &Records) -> Records {
    let mut state = zeroize::Zeroizing::new(Vec::new());
    records.export(&mut state);
    let mut rest = &state[..];
    let moved = Records::import(&mut rest).expect("it was exported");
    assert!(rest.is_empty());
    moved
}

/// A message of the handshake's kind, as the peer would send it.
fn message(from: &mut Records, content: &[u8]) -> Vec<u8> {
    let mut out = Vec::new();
    from.sending.seal(HANDSHAKE, &mut out, |out| out.extend(content)).unwrap();
    out
}

#[test]
fn what_is_sealed_is_opened_whatever_the_parts() {
    let long: Vec<u8> = (0..3 * PLAINTEXT + 100).map(|at| at as u8).collect();
    for suite in ALL {
        let (mut server, mut client) = pair(suite);
        for parts in [&[&b"head"[..], b"", b"body"][..], &[&long], &[b"x", &long, b"y"], &[b""], &[]] {
            let records = sealed(&mut server, parts);
            assert_eq!(opened(&mut client, records), Ok(parts.concat()), "{suite:x}");
            let records = sealed(&mut client, parts);
            assert_eq!(opened(&mut server, records), Ok(parts.concat()), "{suite:x}");
        }
        let mut out = Vec::new();
        assert_eq!(server.seal(&[b"abc", b"de", &long], 4, PLAINTEXT + 5, &mut out), Ok(PLAINTEXT + 5));
        assert_eq!(opened(&mut client, out).unwrap(), [&b"e"[..], &long[..PLAINTEXT + 4]].concat());
    }
}

#[test]
fn records_come_in_pieces_of_any_size() {
    for suite in ALL {
        let (mut server, mut client) = pair(suite);
        let records = [sealed(&mut client, &[b"one"]), sealed(&mut client, &[b"two"])].concat();
        let (mut buffer, mut data) = (Vec::new(), Vec::new());
        for byte in records {
            buffer.push(byte);
            let opened = server.open(&mut buffer).unwrap();
            data.extend_from_slice(&buffer[..opened.data]);
            buffer.drain(..opened.consumed);
        }
        assert_eq!((&data[..], buffer.len()), (&b"onetwo"[..], 0));
    }
}

#[test]
fn a_record_that_was_changed_ends_the_connection() {
    for suite in ALL {
        let (_, mut client) = pair(suite);
        let record = sealed(&mut client, &[b"data"]);
        for at in 0..record.len() {
            let mut changed = record.clone();
            changed[at] ^= 1;
            let (mut server, _) = pair(suite);
            // A changed length leaves a record that is not whole, or is cut.
            let outcome = server.open(&mut changed);
            assert!(outcome.is_err() || outcome == Ok(Opened::default()), "{suite:x} {at}");
        }
        let (mut server, _) = pair(suite);
        let twice = [&record[..], &record].concat();
        assert_eq!(opened(&mut server, twice), Err(UNREADABLE), "a record that comes again");
    }
}

#[test]
fn state_moves_at_any_time() {
    for suite in ALL {
        let (mut server, mut client) = pair(suite);
        for round in 0..20 {
            let records = sealed(&mut client, &[b"request", &[round]]);
            assert_eq!(opened(&mut server, records).unwrap(), [&b"request"[..], &[round]].concat());
            let taken = moved(&server);
            let mut giver = std::mem::replace(&mut server, taken);
            giver.wipe();
            let records = sealed(&mut server, &[b"response"]);
            assert_eq!(opened(&mut client, records).unwrap(), b"response");
            if suite < 0x2000 {
                let update = message(&mut client, &[24, 0, 0, 1, round % 2]);
                client.sending.update().unwrap();
                assert_eq!(opened(&mut server, update), Ok(Vec::new()));
            }
        }
        // Only what was asked for is sent: one record of data, and a KeyUpdate where the client has asked.
        assert_eq!(server.receiving.sequence, if suite < 0x2000 { 0 } else { 20 });
    }
}

#[test]
fn a_giver_s_keys_are_gone() {
    for suite in ALL {
        let (mut server, mut client) = pair(suite);
        server.wipe();
        assert!(server.sending.secret().iter().all(|byte| *byte == 0));
        let records = sealed(&mut server, &[b"data"]);
        assert_eq!(opened(&mut client, records), Err(UNREADABLE));
    }
}

#[test]
fn keys_change_before_they_are_used_up() {
    for suite in [0x1301, 0x1302] {
        let (mut server, mut client) = pair(suite);
        let before = MOST - 3;
        (server.sending.sequence, client.receiving.sequence) = (before, before);
        for round in 0..10u8 {
            let records = sealed(moved_in_place(&mut server), &[&[round]]);
            assert_eq!(opened(&mut client, records), Ok(vec![round]));
        }
        // Two more with the old keys and the KeyUpdate, eight with the new ones.
        assert_eq!((server.sending.sequence, client.receiving.sequence), (8, 8));
    }
    let (mut server, _) = pair(0xc02f);
    server.sending.sequence = MOST / 4 * 3 - 1;
    assert!(!server.is_worn());
    sealed(&mut server, &[b"data"]);
    assert!(server.is_worn());
    server.sending.sequence = MOST - 1;
    assert_eq!(server.seal(&[b"data"], 0, 4, &mut Vec::new()).unwrap_err().alert, None);
}

const MOST: u64 = 1 << 24;

/// The same records, after a move.
fn moved_in_place(records: &mut Records) -> &mut Records {
    *records = moved(records);
    records
}

#[test]
fn key_updates_are_answered_once_before_the_next_data() {
    let (mut server, mut client) = pair(0x1301);
    for _ in 0..5 {
        let update = message(&mut client, &[24, 0, 0, 1, 1]);
        client.sending.update().unwrap();
        assert_eq!(opened(&mut server, update), Ok(Vec::new()));
    }
    let mut server = moved(&server);
    let records = sealed(&mut server, &[b"data"]);
    assert_eq!(opened(&mut client, records).unwrap(), b"data");
    assert_eq!((client.receiving.sequence, client.update_asked), (1, false));
}

#[test]
fn a_key_update_may_come_in_pieces_but_nothing_within_it() {
    let (mut server, mut client) = pair(0x1302);
    let pieces: Vec<u8> = [24, 0, 0, 1, 0].iter().flat_map(|byte| message(&mut client, &[*byte])).collect();
    client.sending.update().unwrap();
    let pieces = [pieces, sealed(&mut client, &[b"data"])].concat();
    assert_eq!(opened(&mut server, pieces).unwrap(), b"data");

    let (mut server, mut client) = pair(0x1302);
    let piece = message(&mut client, &[24, 0]);
    opened(&mut server, piece).unwrap();
    let mut server = moved(&server);
    let records = sealed(&mut client, &[b"data"]);
    assert_eq!(opened(&mut server, records).unwrap_err().alert, Some(UNEXPECTED_MESSAGE));
}

#[test]
fn messages_that_cannot_come_end_the_connection() {
    for content in
        [&[24, 0, 0, 1, 2][..], &[24, 0, 0, 2, 0, 0], &[24, 0, 0, 1, 0, 0], &[1, 0, 0, 0], &[24, 0, 0, 0], &[]]
    {
        let (mut server, mut client) = pair(0x1303);
        let records = message(&mut client, content);
        assert_eq!(opened(&mut server, records).unwrap_err().alert, Some(UNEXPECTED_MESSAGE), "{content:?}");
    }
    let (mut server, mut client) = pair(0xc02f);
    let renegotiation = message(&mut client, &[1, 0, 0, 0]);
    assert_eq!(opened(&mut server, renegotiation).unwrap_err().alert, Some(NO_RENEGOTIATION));
    for (suite, kind) in
        [(0x1301, CHANGE_CIPHER_SPEC), (0x1301, 22), (0x1301, 21), (0xc02f, 20), (0xc02f, 24), (0xc02f, 71)]
    {
        let (mut server, _) = pair(suite);
        assert!(opened(&mut server, [&[kind, 3, 3, 0, 40][..], &[0; 40]].concat()).is_err(), "{suite:x} {kind}");
    }
}

#[test]
fn alerts_end_the_connection_and_close_notify_ends_what_comes() {
    for suite in ALL {
        let (mut server, mut client) = pair(suite);
        let mut records = sealed(&mut client, &[b"last"]);
        client.alert(CLOSE_NOTIFY, &mut records).unwrap();
        records.extend(b"whatever follows is ignored");
        assert_eq!(opened(&mut server, records).unwrap(), b"last");
        assert!(server.has_ended() && moved(&server).has_ended());

        let (mut server, mut client) = pair(suite);
        let mut records = Vec::new();
        client.alert(BAD_RECORD_MAC, &mut records).unwrap();
        assert_eq!(opened(&mut server, records).unwrap_err().alert, None, "it is not answered");
    }
}

#[test]
fn a_client_that_sends_nothing_of_use_is_cut() {
    for suite in ALL {
        let (mut server, mut client) = pair(suite);
        let mut empty = |server: &mut Records| {
            let mut record = Vec::new();
            client.sending.seal(DATA, &mut record, |_| {}).unwrap();
            opened(server, record)
        };
        (0..MOST_FRUITLESS).for_each(|_| assert_eq!(empty(&mut server), Ok(Vec::new())));
        assert_eq!(empty(&mut moved(&server)).unwrap_err().alert, Some(UNEXPECTED_MESSAGE));
    }
}

#[test]
fn records_have_a_length() {
    for (suite, expansion) in [(0x1301, 256), (0xc02f, 2048)] {
        let (mut server, _) = pair(suite);
        let mut header = |length: u16| server.open(&mut [DATA, 3, 3, (length >> 8) as u8, length as u8]);
        assert_eq!(header(PLAINTEXT as u16 + expansion), Ok(Opened::default()));
        assert_eq!(header(PLAINTEXT as u16 + expansion + 1).unwrap_err().alert, Some(RECORD_OVERFLOW));
        for length in 0..=30 {
            let (mut server, _) = pair(suite);
            let short = [&[DATA, 3, 3, 0, length][..], &[0; 30][..length.into()]].concat();
            assert_eq!(opened(&mut server, short).unwrap_err().alert, Some(BAD_RECORD_MAC));
        }
        let (mut server, mut client) = pair(suite);
        let mut long = Vec::new();
        client.sending.seal(DATA, &mut long, |out| out.resize(out.len() + PLAINTEXT + 1, b'x')).unwrap();
        assert_eq!(opened(&mut server, long).unwrap_err().alert, Some(RECORD_OVERFLOW));
    }
}

#[test]
fn a_state_that_is_none_is_refused() {
    let (server, _) = pair(0x1302);
    let mut state = zeroize::Zeroizing::new(Vec::new());
    server.export(&mut state);
    for length in 0..state.len() {
        assert!(Records::import(&mut &state[..length]).is_none(), "{length}");
    }
    let import = |at: usize, byte: u8| {
        let mut changed = state.clone();
        changed[at] = byte;
        Records::import(&mut &changed[..])
    };
    assert!(import(0, 0xff).is_none(), "an unknown suite");
    assert!(import(4, 5).is_none(), "a message that is too long");
}
