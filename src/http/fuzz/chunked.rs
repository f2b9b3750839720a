//! A chunked body is read the same however it arrives, and what was read is the same after writing it again.
#![no_main]

use libfuzzer_sys::fuzz_target;
use ostler_http::{
    Refusal,
    h1::{ChunkedDecoder, LAST_CHUNK, chunk_start},
};

fuzz_target!(|input: &[u8]| {
    let Some((&place, bytes)) = input.split_first() else { return };
    let whole = read(&[bytes]);
    let (first, second) = bytes.split_at(bytes.len().min(usize::from(place)));
    assert_eq!(read(&[first, second]), whole);
    assert_eq!(read(&bytes.chunks(1).collect::<Vec<_>>()), whole);
    if let Ok((data, Some(_))) = whole {
        let mut again = Vec::new();
        for block in data.chunks(usize::from(place) + 1) {
            chunk_start(&mut again, block.len());
            again.extend([block, b"\r\n"].concat());
        }
        again.extend(LAST_CHUNK);
        assert_eq!(read(&[&again]), Ok((data, Some(0))));
    }
});

/// The data, and how many bytes stand behind the body, if it has ended.
fn read(pieces: &[&[u8]]) -> Result<(Vec<u8>, Option<usize>), Refusal> {
    let mut decoder = ChunkedDecoder::default();
    let (mut data, mut behind) = (Vec::new(), None);
    for piece in pieces {
        let mut rest = *piece;
        while behind.is_none() && !rest.is_empty() {
            let step = decoder.step(rest)?;
            assert!(step.done || step.consumed > 0);
            data.extend_from_slice(&rest[step.consumed - step.data..step.consumed]);
            rest = &rest[step.consumed..];
            behind = step.done.then_some(0);
        }
        behind = behind.map(|behind| behind + rest.len());
    }
    Ok((data, behind))
}
