//! Prints what a head costs to read and to write, in nanoseconds. `cargo bench -p ostler-http`

use std::{hint::black_box, time::Instant};

use ostler_http::{
    RequestHead, ResponseHead,
    h1::{Additions, ChunkedDecoder, Limits, RequestReader},
    proxy::forwarded,
    target::decode_path,
};

const LIMITS: Limits = Limits { line: 4094, fields: 100, field: 8190, head: 65536 };

const SMALL: &[u8] = b"GET / HTTP/1.1\r\nHost: 127.0.0.1:8000\r\n\r\n";

const BROWSER: &[u8] = b"GET /shop/items?page=2&sort=price HTTP/1.1\r\nHost: shop.example.com\r\n\
    User-Agent: Mozilla/5.0 (X11; Linux x86_64; rv:128.0) Gecko/20100101 Firefox/128.0\r\n\
    Accept: text/html,application/xhtml+xml,application/xml;q=0.9,image/avif,image/webp,*/*;q=0.8\r\n\
    Accept-Language: en-GB,en;q=0.5\r\nAccept-Encoding: gzip, deflate, br, zstd\r\nReferer: https://shop.example.com/\r\n\
    Connection: keep-alive\r\nUpgrade-Insecure-Requests: 1\r\nSec-Fetch-Dest: document\r\n\
    Cookie: sessionid=0123456789abcdef0123456789abcdef; csrftoken=abcdefghijklmnopqrstuvwxyz0123456789; theme=dark\r\n\r\n";

const PROXIED: &[u8] = b"GET / HTTP/1.1\r\nHost: shop.example.com\r\nX-Forwarded-For: 192.0.2.1\r\n\
    X-Forwarded-Proto: https\r\nUser-Agent: Mozilla/5.0\r\nAccept: */*\r\nAccept-Encoding: gzip\r\nCookie: a=b\r\n\r\n";

fn main() {
    let mut head = RequestHead::default();
    for (name, bytes) in [("read a small head", SMALL), ("read a browser's head", BROWSER)] {
        report(name, || {
            head.clear();
            black_box(RequestReader::default().read(&mut head, black_box(bytes), &LIMITS)).ok();
        });
    }
    head.clear();
    RequestReader::default().read(&mut head, PROXIED, &LIMITS).ok();
    let believed = forwarded::Believed { address: true, proto: true, ..Default::default() };
    report("read what a proxy says", || {
        black_box(forwarded::origin(&head, black_box(PROXIED), &believed, |address| address.is_loopback())).ok();
    });
    let path: String = (0..1300).map(|at| format!("%{:02X}", 128 + at * 37 % 128)).collect();
    let escaped = format!("GET /{path} HTTP/1.1\r\nHost: localhost\r\n\r\n");
    report("read a head with 1,300 escapes", || {
        head.clear();
        black_box(RequestReader::default().read(&mut head, black_box(escaped.as_bytes()), &LIMITS)).ok();
    });
    let mut decoded = Vec::new();
    report("decode a path of 1,300 escapes", || {
        decoded.clear();
        decode_path(black_box(path.as_bytes()), &mut decoded);
        black_box(&decoded);
    });
    let mut response = ResponseHead::default();
    let mut out = Vec::new();
    report("write a head of two fields", || {
        out.clear();
        response.begin(black_box(b"200 OK")).ok();
        response.field(black_box(b"Content-Type"), black_box(b"text/plain; charset=utf-8")).ok();
        response.field(black_box(b"Content-Length"), black_box(b"13")).ok();
        let framing = response.framing(&head, false, Some(13));
        let added = Additions { date: b"Sun, 06 Nov 1994 08:49:37 GMT", server: b"ostler", request_id: b"", more: &[] };
        response.write(&mut out, framing, head.version, true, added);
        black_box(&out);
    });
    report("read a chunked body of one chunk", || {
        let mut rest = black_box(b"d\r\nHello, world!\r\n0\r\n\r\n".as_slice());
        let mut decoder = ChunkedDecoder::default();
        while let Ok(step) = decoder.step(rest)
            && !step.done
        {
            rest = &rest[step.consumed..];
        }
        black_box(rest);
    });
}

/// The best of many short rounds: what disturbs a measurement only ever adds to it.
fn report(name: &str, mut work: impl FnMut()) {
    const CALLS: u32 = 1000;
    let round = |_| {
        let start = Instant::now();
        (0..CALLS).for_each(|_| work());
        start.elapsed() / CALLS
    };
    let best = (0..2000).map(round).min().expect("there are rounds");
    println!("{name}: {} ns", best.as_nanos());
}
