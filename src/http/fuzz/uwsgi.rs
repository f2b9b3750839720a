//! A request of the uwsgi protocol is read the same however it arrives, everything in it can be looked at, and nothing in a variable's value
//! becomes another part of the head.
#![no_main]

use libfuzzer_sys::fuzz_target;
use ostler_http::{
    Framing,
    h1::{Limits, Parse, RequestReader},
    proxy::forwarded,
    target::decode_path,
    uwsgi,
};

const LIMITS: Limits = Limits { line: 200, fields: 8, field: 300, head: 1000 };

fuzz_target!(|input: &[u8]| {
    // Where the input is cut in two is told by its first byte.
    let Some((&place, bytes)) = input.split_first() else { return };
    let cut = bytes.len().min(usize::from(place));
    let (whole, part) = (uwsgi::parse(bytes, &LIMITS), uwsgi::parse(&bytes[..cut], &LIMITS));
    assert!(matches!(part, Ok(None)) || format!("{part:?}") == format!("{whole:?}"));
    uwsgi::line(bytes);
    let Ok(Some(request)) = whole else { return };
    let (head, text) = (&request.head, &request.text);
    let packet = head.length - text.len();
    assert!(packet <= bytes.len());
    let all = [&text[..], &bytes[..packet]].concat();
    assert!(!head.keep_alive && !head.expects_continue && head.framing != Framing::Chunked);
    let mut again = Default::default();
    assert_eq!(RequestReader::default().read(&mut again, &all, &LIMITS), Ok(Parse::Complete));
    assert_eq!(again.fields, head.fields);
    assert!(head.fields.len() <= LIMITS.fields && again.length <= text.len());
    let lines = text[..again.length].split(|byte| *byte == b'\n').count();
    assert_eq!(lines, head.fields.len() + 3, "a line for each field, the request line, the empty one, and what is behind it");
    let mut path = Vec::new();
    decode_path(head.path.of(&all), &mut path);
    assert!(!path.contains(&0));
    let _ = (head.query.of(&all), forwarded::origin(head, &all, &forwarded::Believed::default(), |_| true));
    assert!(request.gateway.script_name.is_none_or(|name| name.starts_with('/') && !name.ends_with('/')));
    assert!(request.gateway.variables.iter().all(|(name, _)| !name.is_empty() && !name.contains('.')));
});
