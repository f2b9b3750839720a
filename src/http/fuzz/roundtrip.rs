//! Request in, frame out, read back: whatever an application says, what is sent is one response, and it holds the application's fields and
//! body and nothing else.
//!
//! The input is a request's head, then the response's parts with NUL between them: status; names and values; an empty part; blocks.
#![no_main]

use libfuzzer_sys::fuzz_target;
use ostler_http::{
    RequestHead, ResponseHead,
    h1::{Additions, ChunkedDecoder, LAST_CHUNK, Limits, Parse, RequestReader, ResponseFraming, chunk_start},
};

const LIMITS: Limits = Limits { line: 200, fields: 8, field: 300, head: 1000 };
const ADDED: Additions =
    Additions { date: b"Sun, 06 Nov 1994 08:49:37 GMT", server: b"ostler", request_id: b"", more: &[] };

fuzz_target!(|input: &[u8]| {
    let mut request = RequestHead::default();
    if RequestReader::default().read(&mut request, input, &LIMITS) != Ok(Parse::Complete) {
        return;
    }
    let mut parts = input[request.length..].split(|&byte| byte == 0);
    let mut head = ResponseHead::default();
    if head.begin(parts.next().unwrap_or_default()).is_err() {
        return;
    }
    let mut fields = Vec::new();
    while let Some(name) = parts.next().filter(|name| !name.is_empty()) {
        let value = parts.next().unwrap_or_default();
        let known = head.content_length().is_some();
        if head.field(name, value).is_ok() && !(known && name.eq_ignore_ascii_case(b"Content-Length")) {
            fields.push((name, value));
        }
    }
    let blocks: Vec<_> = parts.filter(|block| !block.is_empty()).collect();
    let whole = (blocks.len() < 2).then(|| blocks.concat().len() as u64);
    let framing = head.framing(&request, request.method.of(input) == b"HEAD", whole);
    let mut sent = Vec::new();
    head.write(&mut sent, framing, request.version, request.keep_alive, ADDED);
    let body = send(&mut sent, framing, &blocks);
    check(&sent, &fields, head.status(), framing, &body);
});

/// Frames the blocks; answers what of them a client is to get.
fn send(sent: &mut Vec<u8>, framing: ResponseFraming, blocks: &[&[u8]]) -> Vec<u8> {
    let mut body = blocks.concat();
    match framing {
        ResponseFraming::Length(length) => {
            body.truncate(usize::try_from(length).unwrap_or(usize::MAX));
            sent.extend(&body);
        }
        ResponseFraming::Chunked => {
            for block in blocks {
                chunk_start(sent, block.len());
                sent.extend([block, b"\r\n".as_slice()].concat());
            }
            sent.extend(LAST_CHUNK);
        }
        ResponseFraming::Close => sent.extend(&body),
        ResponseFraming::Bodiless => body.clear(),
    }
    body
}

/// Reads it as a simple client does: up to the first empty line, line by line.
fn check(sent: &[u8], fields: &[(&[u8], &[u8])], status: u16, framing: ResponseFraming, body: &[u8]) {
    let end = sent.windows(4).position(|window| window == b"\r\n\r\n").expect("there is an empty line");
    let (head, rest) = (&sent[..end + 2], &sent[end + 4..]);
    let mut lines: Vec<_> = head.strip_suffix(b"\r\n").expect("lines end").split(|&byte| byte == b'\n').collect();
    assert!(lines.remove(0).starts_with(format!("HTTP/1.1 {status} ").as_bytes()));
    let read: Vec<_> = lines.iter().map(|line| split(line.strip_suffix(b"\r").unwrap_or(line))).collect();
    let lost = |name: &[u8]| {
        (status == 204 || framing == ResponseFraming::Chunked) && name.eq_ignore_ascii_case(b"Content-Length")
    };
    let kept: Vec<_> = fields.iter().copied().filter(|(name, _)| !lost(name)).collect();
    assert_eq!(read[..kept.len()], kept);
    let own = read[kept.len()..].iter().filter(|(name, _)| !["Date", "Server"].map(str::as_bytes).contains(name));
    let own: Vec<_> = own.map(|(name, _)| *name).filter(|name| *name != b"Connection").collect();
    let lengths = read.iter().filter(|(name, _)| name.eq_ignore_ascii_case(b"Content-Length")).count();
    match framing {
        ResponseFraming::Length(_) => assert_eq!((lengths, rest), (1, body)),
        ResponseFraming::Chunked => {
            assert_eq!((own.as_slice(), chunked(rest).as_slice()), (&[b"Transfer-Encoding".as_slice()][..], body))
        }
        ResponseFraming::Close => assert_eq!((own.len(), rest), (0, body)),
        ResponseFraming::Bodiless => assert_eq!((own.len(), rest), (0, body)),
    }
}

fn split(line: &[u8]) -> (&[u8], &[u8]) {
    let colon = line.windows(2).position(|window| window == b": ").expect("each line is a field");
    (&line[..colon], &line[colon + 2..])
}

fn chunked(mut rest: &[u8]) -> Vec<u8> {
    let mut decoder = ChunkedDecoder::default();
    let mut data = Vec::new();
    loop {
        let step = decoder.step(rest).expect("own chunks are well formed");
        data.extend_from_slice(&rest[step.consumed - step.data..step.consumed]);
        rest = &rest[step.consumed..];
        if step.done {
            assert!(rest.is_empty());
            return data;
        }
        assert!(step.consumed > 0, "own chunks are complete");
    }
}
