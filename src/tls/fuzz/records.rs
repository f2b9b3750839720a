//! What a client seals is what the server hears, whatever comes between its records, and wherever the server moves; what it has not
//! sealed is never heard.
#![no_main]

use libfuzzer_sys::fuzz_target;
use ostler_tls::Records;

const SUITES: [(u16, usize); 6] = [(0x1301, 32), (0x1302, 48), (0x1303, 32), (0xc02f, 28), (0xc030, 44), (0xcca8, 44)];

fn records((suite, secret): (u16, usize), receiving: u8, sending: u8) -> Records {
    let mut state = suite.to_le_bytes().to_vec();
    state.extend([0; 3]);
    for fill in [receiving, sending] {
        state.extend([0; 8]);
        state.extend(vec![fill; secret]);
    }
    Records::import(&mut &state[..]).expect("it is a state")
}

fuzz_target!(|input: &[u8]| {
    let Some((suite, mut rest)) = input.split_first() else { return };
    let suite = SUITES[usize::from(*suite) % SUITES.len()];
    let (mut server, mut client) = (records(suite, 1, 2), records(suite, 2, 1));
    let (mut buffer, mut said, mut heard) = (Vec::new(), Vec::new(), Vec::new());
    while let [what, length, behind @ ..] = rest {
        let (content, behind) = behind.split_at(behind.len().min(usize::from(*length)));
        rest = behind;
        match what % 8 {
            0 => {
                client.seal_any(23, content, &mut buffer);
                said.extend_from_slice(content);
            }
            1 => client.seal_any(21, content, &mut buffer),
            2 => client.seal_any(22, content, &mut buffer),
            3 if *length != 23 => client.seal_any(*length, content, &mut buffer),
            3 | 4 => buffer.extend_from_slice(content),
            5 => {
                let mut state = Default::default();
                server.export(&mut state);
                server = Records::import(&mut &state[..]).expect("it was exported");
            }
            6 => {
                client.seal_any(22, &[24, 0, 0, 1, length % 2], &mut buffer);
                client.change_sending_keys();
            }
            _ => {
                let mut out = Vec::new();
                server.seal(&[content, b"!"], 0, usize::MAX, &mut out).expect("it is sealed");
                let opened = client.open(&mut out).expect("the server makes no mistakes");
                assert_eq!((&out[..opened.data], opened.consumed), (&[content, b"!"].concat()[..], out.len()));
            }
        }
        let Ok(opened) = server.open(&mut buffer) else { return };
        heard.extend_from_slice(&buffer[..opened.data]);
        buffer.drain(..opened.consumed);
        assert!(said.starts_with(&heard));
    }
});
