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
        let (status, range) = match found.wanted(&etag, request, bytes) {
            Wanted::Bytes(status, range) => (status, range),
            Wanted::Failed => return FileAnswer::Failed,
            Wanted::Unsatisfiable => return FileAnswer::Unsatisfiable(format!("bytes */{}", found.length)),
        };
        begin(&mut self.head, status);
        found.validate(&mut self.head, &etag);
        field(&mut self.head, "Cache-Control", &cache_control(self.max_age, found.hashed));
        if found.media.compresses {
            field(&mut self.head, "Vary", "Accept-Encoding");
        }
        if status != NOT_MODIFIED {
            field(&mut self.head, "Content-Type", found.media.name);
            if let Some(coding) = found.coding {
                field(&mut self.head, "Content-Encoding", coding.name);
            }
            found.measure(&mut self.head, &range);
        }
        FileAnswer::Bytes(&self.head, found.file, range)
    }
}

/// What a request wants of a file.
pub(super) enum Wanted {
    /// These bytes, with this status; none with [`NOT_MODIFIED`].
    Bytes(&'static str, Range<u64>),
    Failed,
    Unsatisfiable,
}

pub(super) const NOT_MODIFIED: &str = "304 Not Modified";

impl Found {
    pub(super) fn wanted(&self, etag: &str, request: &RequestHead, bytes: &[u8]) -> Wanted {
        let validators = Validators { etag: etag.as_bytes(), modified: self.modified.as_secs() };
        let verdict = evaluate(request, bytes, validators);
        // Only a GET may ask for a part (RFC 9110 §14.2).
        let may_part = request.method.of(bytes) == b"GET" && range_counts(request, bytes, validators);
        let wanted = if may_part { part(request, bytes, self.length) } else { Part::Whole };
        match (verdict, wanted) {
            (Verdict::Failed, _) => Wanted::Failed,
            (Verdict::NotModified, _) => Wanted::Bytes(NOT_MODIFIED, 0..0),
            (Verdict::Send, Part::Whole) => Wanted::Bytes("200 OK", 0..self.length),
            (Verdict::Send, Part::Bytes(range)) => Wanted::Bytes("206 Partial Content", range),
            (Verdict::Send, Part::Unsatisfiable) => Wanted::Unsatisfiable,
        }
    }

    /// What tells this state of the file from others; a client that has the file already is told, too (RFC 9110 §15.4.5).
    pub(super) fn validate(&self, head: &mut ResponseHead, etag: &str) {
        field(head, "ETag", etag);
        // It may not be later than Date (RFC 9110 §8.8.2.1).
        let modified = (SystemTime::UNIX_EPOCH + self.modified).min(SystemTime::now());
        field(head, "Last-Modified", &httpdate::fmt_http_date(modified));
    }

    /// Which bytes of the file the body is.
    pub(super) fn measure(&self, head: &mut ResponseHead, range: &Range<u64>) {
        field(head, "Accept-Ranges", "bytes");
        field(head, "Content-Length", &(range.end - range.start).to_string());
        if head.status() == 206 {
            field(head, "Content-Range", &format!("bytes {}-{}/{}", range.start, range.end - 1, self.length));
        }
    }

    /// Another one after each change: of the time to the nanosecond, the size, and the coding.
    pub(super) fn etag(&self) -> String {
        let (seconds, nanoseconds) = (self.modified.as_secs(), self.modified.subsec_nanos());
        let (dash, coding) = self.coding.map_or(("", ""), |coding| ("-", coding.name));
        format!("\"{seconds:x}{nanoseconds:08x}-{:x}{dash}{coding}\"", self.length)
    }
}

pub(super) fn begin(head: &mut ResponseHead, status: &str) {
    head.begin(status.as_bytes()).expect("a status that is written in the source");
}

fn field(head: &mut ResponseHead, name: &str, value: &str) {
    head.field(name.as_bytes(), value.as_bytes()).expect("a field of plain ASCII");
}

fn cache_control(max_age: Duration, hashed: bool) -> String {
    match max_age.as_secs() {
        _ if hashed => IMMUTABLE.into(),
        0 => "no-cache".into(),
        seconds => format!("max-age={seconds}, public"),
    }
}
