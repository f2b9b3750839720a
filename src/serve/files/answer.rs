//! What is said of a file that was found: the head of its answer, and which part of it is sent.

use std::{
    fs::File,
    ops::Range,
    time::{Duration, SystemTime},
};

use ostler_http::{
    RequestHead, ResponseHead,
    representation::{
        conditions::{Validators, Verdict, evaluate, range_counts},
        ranges::{Part, part},
    },
};

use super::{Files, Found};

/// How long a file may be kept whose name holds its hash: a year, which is as long as any cache keeps anything.
const IMMUTABLE: &str = "max-age=31536000, public, immutable";

/// The answer to a request for a file.
#[derive(Debug)]
pub(crate) enum FileAnswer<'a> {
    /// These bytes of it, none for 304.
    Bytes(&'a ResponseHead, File, Range<u64>),
    /// The page for 412 or 416, and its fields.
    Error(u16, Vec<(&'static str, String)>),
}

impl Files {
    /// The answer for a file: whole, a part, or that the client has it.
    pub fn answer(&mut self, found: Found, request: &RequestHead, bytes: &[u8]) -> FileAnswer<'_> {
        let etag = found.etag();
        let validators = Validators { etag: etag.as_bytes(), modified: found.modified.as_secs() };
        let wanted = match evaluate(request, bytes, validators) {
            Verdict::Failed => return FileAnswer::Error(412, Vec::new()),
            Verdict::NotModified => None,
            // Only a GET may ask for a part (RFC 9110 §14.2).
            Verdict::Send if request.method.of(bytes) == b"GET" && range_counts(request, bytes, validators) => {
                Some(part(request, bytes, found.length))
            }
            Verdict::Send => Some(Part::Whole),
        };
        let (status, range) = match wanted {
            None => ("304 Not Modified", 0..0),
            Some(Part::Whole) => ("200 OK", 0..found.length),
            Some(Part::Bytes(range)) => ("206 Partial Content", range),
            Some(Part::Unsatisfiable) => {
                return FileAnswer::Error(416, vec![("Content-Range", format!("bytes */{}", found.length))]);
            }
        };
        let mut fields = vec![("ETag", etag)];
        fields.push(("Last-Modified", httpdate::fmt_http_date(SystemTime::UNIX_EPOCH + found.modified)));
        fields.push(("Cache-Control", cache_control(self.max_age, found.hashed)));
        if found.media.compresses {
            fields.push(("Vary", "Accept-Encoding".into()));
        }
        if !status.starts_with("304") {
            fields.push(("Content-Type", found.media.name.into()));
            fields.extend(found.coding.map(|coding| ("Content-Encoding", coding.name.into())));
            fields.push(("Accept-Ranges", "bytes".into()));
            fields.push(("Content-Length", (range.end - range.start).to_string()));
        }
        if status.starts_with("206") {
            let text = format!("bytes {}-{}/{}", range.start, range.end - 1, found.length);
            fields.push(("Content-Range", text));
        }
        self.head.begin(status.as_bytes()).expect("a status that is written in the source");
        for (name, value) in fields {
            self.head.field(name.as_bytes(), value.as_bytes()).expect("a field of plain ASCII");
        }
        FileAnswer::Bytes(&self.head, found.file, range)
    }
}

impl Found {
    /// Another one after each change: of the time to the nanosecond, the size, and the coding.
    fn etag(&self) -> String {
        let (seconds, nanoseconds) = (self.modified.as_secs(), self.modified.subsec_nanos());
        let coding = self.coding.map_or("", |coding| coding.suffix).replace('.', "-");
        format!("\"{seconds:x}{nanoseconds:08x}-{:x}{coding}\"", self.length)
    }
}

fn cache_control(max_age: Duration, hashed: bool) -> String {
    match max_age.as_secs() {
        _ if hashed => IMMUTABLE.into(),
        0 => "no-cache".into(),
        seconds => format!("max-age={seconds}, public"),
    }
}
