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
    /// The page for 412.
    Failed,
    /// The page for 416, and its Content-Range.
    Unsatisfiable(String),
}

impl Files {
    /// The answer for a file: whole, a part, or that the client has it.
    pub fn answer(&mut self, found: Found, request: &RequestHead, bytes: &[u8]) -> FileAnswer<'_> {
        let etag = found.etag();
        let validators = Validators { etag: etag.as_bytes(), modified: found.modified.as_secs() };
        let verdict = evaluate(request, bytes, validators);
        // Only a GET may ask for a part (RFC 9110 §14.2).
        let may_part = request.method.of(bytes) == b"GET" && range_counts(request, bytes, validators);
        let wanted = if may_part { part(request, bytes, found.length) } else { Part::Whole };
        let (status, range) = match (verdict, wanted) {
            (Verdict::Failed, _) => return FileAnswer::Failed,
            (Verdict::NotModified, _) => ("304 Not Modified", 0..0),
            (Verdict::Send, Part::Whole) => ("200 OK", 0..found.length),
            (Verdict::Send, Part::Bytes(range)) => ("206 Partial Content", range),
            (Verdict::Send, Part::Unsatisfiable) => {
                return FileAnswer::Unsatisfiable(format!("bytes */{}", found.length));
            }
        };
        self.head.begin(status.as_bytes()).expect("a status that is written in the source");
        self.describe(&found, &etag);
        if verdict == Verdict::Send {
            self.describe_body(&found, &range);
        }
        FileAnswer::Bytes(&self.head, found.file, range)
    }

    /// What a client is told that has the file already, too (RFC 9110 §15.4.5).
    fn describe(&mut self, found: &Found, etag: &str) {
        self.field("ETag", etag);
        self.field("Last-Modified", &httpdate::fmt_http_date(SystemTime::UNIX_EPOCH + found.modified));
        self.field("Cache-Control", &cache_control(self.max_age, found.hashed));
        if found.media.compresses {
            self.field("Vary", "Accept-Encoding");
        }
    }

    fn describe_body(&mut self, found: &Found, range: &Range<u64>) {
        let (length, whole) = (range.end - range.start, found.length);
        self.field("Content-Type", found.media.name);
        if let Some(coding) = found.coding {
            self.field("Content-Encoding", coding.name);
        }
        self.field("Accept-Ranges", "bytes");
        self.field("Content-Length", &length.to_string());
        if self.head.status() == 206 {
            self.field("Content-Range", &format!("bytes {}-{}/{whole}", range.start, range.end - 1));
        }
    }

    fn field(&mut self, name: &str, value: &str) {
        self.head.field(name.as_bytes(), value.as_bytes()).expect("a field of plain ASCII");
    }
}

impl Found {
    /// Another one after each change: of the time to the nanosecond, the size, and the coding.
    fn etag(&self) -> String {
        let (seconds, nanoseconds) = (self.modified.as_secs(), self.modified.subsec_nanos());
        let (dash, coding) = self.coding.map_or(("", ""), |coding| ("-", coding.name));
        format!("\"{seconds:x}{nanoseconds:08x}-{:x}{dash}{coding}\"", self.length)
    }
}

fn cache_control(max_age: Duration, hashed: bool) -> String {
    match max_age.as_secs() {
        _ if hashed => IMMUTABLE.into(),
        0 => "no-cache".into(),
        seconds => format!("max-age={seconds}, public"),
    }
}
