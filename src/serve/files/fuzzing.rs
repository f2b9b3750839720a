//! For `fuzz/paths.rs`: looks for files as a worker does.

use std::{fs::File, path::Path, time::Duration};

use ostler_http::{Field, RequestHead, ResponseHead, Span};
use ostler_wire::{SendfileRoots, StaticFiles, StaticRoot};
use slog::{Discard, Logger, o};

use super::{Files, Lookup, NamedAnswer, NamedFiles, Roots};

/// A folder as a root of `--static` and of `--sendfile-root`, at `/static` and `/private`, and at all paths.
pub struct Looker {
    below: Box<Files>,
    everywhere: Box<Files>,
    named: NamedFiles,
}

impl Looker {
    /// `step_by_step`: as for a kernel without openat2(2).
    pub fn open(root: &Path, step_by_step: bool) -> Looker {
        let log = Logger::root(Discard, o!());
        let at = |prefix: &str| vec![StaticRoot { prefix: prefix.into(), directory: root.into() }];
        let walk = |roots: &mut Roots| {
            for (_, directory) in roots.iter_mut().filter(|_| step_by_step) {
                *directory = directory.take().map(super::Directory::step_by_step);
            }
        };
        let files = |prefix| {
            let settings =
                StaticFiles { roots: at(prefix), links: false, index: true, only: true, max_age: Duration::ZERO };
            let mut files = Files::open(&settings, &log).expect("there is a root");
            walk(&mut files.roots);
            files
        };
        let roots = SendfileRoots { paths: at(&root.to_string_lossy()), urls: at("/private") };
        let mut named = NamedFiles::open(&roots, &log).expect("there is a root");
        named.walk(walk);
        Looker { below: files("/static"), everywhere: files(""), named }
    }

    /// The files that are served for this path of a request.
    pub fn requested(&mut self, path: &[u8]) -> Vec<File> {
        let (name, value) = (&b"accept-encoding"[..], &b"br, zstd, gzip"[..]);
        let bytes = [path, name, value].concat();
        let mut head = RequestHead::default();
        let mut end = 0;
        let mut span = |part: &[u8]| {
            let start = end;
            end += part.len() as u32;
            Span { start, end }
        };
        head.path = span(path);
        head.fields.push(Field { name: span(name), value: span(value) });
        let looked = [&mut self.below, &mut self.everywhere].map(|files| files.look_up(&head, &bytes));
        looked
            .into_iter()
            .filter_map(|looked| if let Lookup::Found(found) = looked { Some(found.file) } else { None })
            .collect()
    }

    /// The file that is sent where the application names it in this field.
    pub fn named(&self, field: &str, value: &[u8]) -> Option<File> {
        let mut said = ResponseHead::default();
        said.begin(b"200 OK").expect("a status");
        said.field(field.as_bytes(), value).ok()?;
        match self.named.answer(&said, &RequestHead::default(), b"") {
            NamedAnswer::Bytes(_, file, _) => Some(file),
            _ => None,
        }
    }
}
