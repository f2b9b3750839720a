//! Files that the application names in place of a body: X-Sendfile (a path of the file system) and X-Accel-Redirect (a path of nginx's
//! configuration). Only what is below a directory of `--sendfile-root` is sent.

use std::{
    fs::File,
    ops::Range,
    sync::{Mutex, PoisonError},
};

use nix::errno::Errno;
use ostler_http::{
    RequestHead, ResponseHead,
    representation::{
        media_types::media_type,
        names::{below, way_below},
    },
};
use ostler_wire::SendfileRoots;
use slog::Logger;

use super::{
    Found, Lookup, Roots,
    answer::{NOT_MODIFIED, Wanted, begin},
    modified, open, open_roots, without_file,
};
use crate::{log_limits::ClientLines, moment::Moment};

const SENDFILE: &[u8] = b"x-sendfile";
const REDIRECT: &[u8] = b"x-accel-redirect";

/// The directories whose files the application may have sent.
pub(crate) struct NamedFiles {
    paths: Roots,
    urls: Roots,
    lines: Mutex<ClientLines>,
}

/// The answer where the application has named a file.
pub(crate) enum NamedAnswer {
    Bytes(ResponseHead, File, Range<u64>),
    /// The page for 412.
    Failed,
    /// The page for 416, and its Content-Range.
    Unsatisfiable(String),
    /// There is no such file, or none that may be sent; why.
    Missing(String),
}

impl NamedFiles {
    /// Opens the directories; none without `--sendfile-root`.
    pub fn open(settings: &SendfileRoots, log: &Logger) -> Option<NamedFiles> {
        let open = |roots| open_roots(roots, false, log);
        (!settings.paths.is_empty()).then(|| NamedFiles {
            paths: open(&settings.paths),
            urls: open(&settings.urls),
            lines: Mutex::default(),
        })
    }

    /// The answer for the file that the application's head names. All else that the head says is kept, but for the length.
    pub fn answer(&self, said: &ResponseHead, request: &RequestHead, bytes: &[u8]) -> NamedAnswer {
        let found = match self.look_up(said) {
            Lookup::Found(found) => found,
            Lookup::Failed(Errno::EXDEV | Errno::ELOOP) => return missing("a link leads out of --sendfile-root"),
            Lookup::Failed(errno) => return missing(&errno.desc().to_lowercase()),
            Lookup::Full => return missing("no descriptor is left"),
            Lookup::Elsewhere => return missing("it is below no directory of --sendfile-root"),
            Lookup::Missing | Lookup::Folder => return missing("there is no such file"),
        };
        let etag = found.etag();
        let whole = Wanted::Bytes("", 0..found.length);
        // An application may have computed a part by itself, as Flask does: which part it is, is told anew of the file.
        let is_part = matches!(said.status(), 206 | 416);
        let safe = matches!(request.method.of(bytes), b"GET" | b"HEAD");
        let wanted =
            if safe && (said.status() == 200 || is_part) { found.wanted(&etag, request, bytes) } else { whole };
        let (status, range) = match wanted {
            Wanted::Bytes(status, range) => (status, range),
            Wanted::Failed => return NamedAnswer::Failed,
            Wanted::Unsatisfiable => return NamedAnswer::Unsatisfiable(format!("bytes */{}", found.length)),
        };
        let mut head = ResponseHead::default();
        match status {
            "" | "200 OK" if !is_part => {
                // It was taken from the application.
                let _ = head.begin(said.status_line());
            }
            "" => begin(&mut head, "200 OK"),
            other => begin(&mut head, other),
        }
        carry(said, &mut head, status == NOT_MODIFIED);
        found.validate(&mut head, &etag);
        if status != NOT_MODIFIED {
            if said.value(b"content-type").is_none() {
                let _ = head.field(b"Content-Type", found.media.name.as_bytes());
            }
            found.measure(&mut head, &range);
        }
        NamedAnswer::Bytes(head, found.file, range)
    }

    /// X-Sendfile counts where there are both.
    fn look_up(&self, said: &ResponseHead) -> Lookup {
        let mut way = Vec::new();
        let root = match (said.value(SENDFILE), said.value(REDIRECT)) {
            (Some(path), _) => self.paths.iter().find(|(prefix, _)| {
                let below = below(prefix.as_bytes(), path);
                way = below.unwrap_or_default().to_vec();
                below.is_some()
            }),
            (None, Some(url)) => {
                let path = url.split(|&byte| byte == b'?').next().unwrap_or_default();
                self.urls.iter().find(|(prefix, _)| way_below(prefix.as_bytes(), path, &mut way).is_some())
            }
            (None, None) => None,
        };
        let Some((_, directory)) = root else { return Lookup::Elsewhere };
        let Some(directory) = directory else { return Lookup::Missing };
        match open(directory, &way) {
            Ok((file, about)) if about.is_file() => Lookup::Found(Found {
                file,
                length: about.len(),
                modified: modified(&about),
                media: media_type(way.rsplit(|&byte| byte == b'/').next().unwrap_or_default()),
                coding: None,
                hashed: false,
            }),
            Ok(_) => Lookup::Missing,
            Err(errno) => without_file(errno),
        }
    }

    #[cfg(fuzzing)]
    pub(super) fn walk(&mut self, change: impl Fn(&mut Roots)) {
        change(&mut self.paths);
        change(&mut self.urls);
    }

    /// Whether one more line may be logged about a file that is missing. Clients cause them, by way of the application.
    pub fn may_log(&self) -> bool {
        let mut lines = self.lines.lock().unwrap_or_else(PoisonError::into_inner);
        let now = Moment::now();
        lines.take_left_out(now);
        lines.admit(now)
    }
}

fn missing(why: &str) -> NamedAnswer {
    NamedAnswer::Missing(why.into())
}

/// Fields that name the file, and those that are told of the file itself.
const OF_THE_FILE: [&[u8]; 7] =
    [SENDFILE, REDIRECT, b"content-length", b"etag", b"last-modified", b"accept-ranges", b"content-range"];

/// Copies the application's fields, but those of the file.
fn carry(said: &ResponseHead, head: &mut ResponseHead, is_bodiless: bool) {
    let of_body: &[&[u8]] = if is_bodiless { &[b"content-type", b"content-encoding"] } else { &[] };
    copy(said, head, |name| is_one_of(&OF_THE_FILE, name) || is_one_of(of_body, name));
}

/// Copies to a page that stands for a file that is not sent what the application says apart from that file: cookies, what other sites and
/// scripts may do. How long the file may be kept does not hold for the page, which nobody is to keep.
pub(crate) fn carry_to_page(said: &ResponseHead, page: &mut ResponseHead) {
    let policies: [&[u8]; 2] = [b"content-security-policy", b"content-security-policy-report-only"];
    let freshness: [&[u8]; 3] = [b"cache-control", b"expires", b"age"];
    let is_of_content = |name: &[u8]| {
        let begins = name.get(..8).is_some_and(|start| start.eq_ignore_ascii_case(b"content-"));
        begins && !is_one_of(&policies, name)
    };
    copy(said, page, |name| is_one_of(&OF_THE_FILE, name) || is_one_of(&freshness, name) || is_of_content(name));
    let _ = page.field(b"Cache-Control", b"no-store");
}

fn is_one_of(names: &[&[u8]], name: &[u8]) -> bool {
    names.iter().any(|known| known.eq_ignore_ascii_case(name))
}

fn copy(said: &ResponseHead, head: &mut ResponseHead, is_left_out: impl Fn(&[u8]) -> bool) {
    for (name, value) in said.fields().filter(|(name, _)| !is_left_out(name)) {
        // They were taken from the application.
        let _ = head.field(name, value);
    }
}
