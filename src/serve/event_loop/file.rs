//! Answers a request with a file of `--static`, at once and without the application.

use std::{fs::File, ops::Range, os::unix::fs::FileExt};

use nix::errno::Errno;
use ostler_http::{Framing, RequestHead, ResponseHead};
use slog::info;

use super::Loop;
use crate::{
    connection::work::Work,
    files::{FileAnswer, Files, Lookup},
    poll::timers::Token,
    response::{COPIED, Response},
};

/// Who answers a request.
enum Answers {
    Application,
    /// The answer is made.
    Loop,
    /// Nobody: there is no descriptor for the file.
    Nobody,
}

impl Loop {
    /// Answers a request that names a static file, and gives back every other one.
    #[inline(never)]
    pub(super) fn answer_with_file(&mut self, token: Token, mut work: Box<Work>) -> Option<Box<Work>> {
        let incoming = &work.incoming;
        let has_body = !matches!(incoming.head.framing, Framing::None | Framing::Length(0));
        if has_body || !matches!(incoming.method(), b"GET" | b"HEAD") {
            return Some(work);
        }
        let Some(mut files) = self.files.take() else { return Some(work) };
        (work.outgoing.date, work.ready, work.started) = (self.clock.date, self.clock.now, self.clock.now);
        let answers = self.make_answer(&mut files, &mut work);
        self.files = Some(files);
        match answers {
            Answers::Application => return Some(work),
            Answers::Nobody => self.overloaded(token, work),
            Answers::Loop => {
                let Some(connection) = self.connections.get(token) else {
                    self.pool.keep(work);
                    return None;
                };
                connection.deadline.clear();
                if let Some(came) = connection.came.take() {
                    let begun = &mut work.incoming.arrival.begun;
                    *begun = came.min(*begun);
                }
                if !work.outgoing.private {
                    let outgoing = &work.outgoing;
                    self.shared.count_file(outgoing.status, work.incoming.method(), outgoing.body_bytes);
                }
                self.answered(token, work);
            }
        }
        None
    }

    fn make_answer(&mut self, files: &mut Files, work: &mut Work) -> Answers {
        let incoming = &work.incoming;
        let lookup = files.look_up(&incoming.head, &incoming.bytes);
        if let Lookup::Failed(errno) = lookup
            && self.client_lines.admit(self.clock.now)
        {
            info!(self.shared.log, "file not served"; "path" => files.way(), "reason" => why(errno),
                "request" => incoming.line(), "request_id" => incoming.id());
        }
        let has_room = self.shared.store.descriptors_left() > 0;
        match lookup {
            Lookup::Elsewhere => return Answers::Application,
            Lookup::Missing | Lookup::Failed(_) if !files.only => return Answers::Application,
            Lookup::Missing | Lookup::Failed(_) => work.response().error(404, &[]),
            Lookup::Full => return Answers::Nobody,
            Lookup::Found(found) if found.length > COPIED as u64 && !has_room => return Answers::Nobody,
            Lookup::Found(found) => {
                let answer = files.answer(found, &incoming.head, &incoming.bytes);
                send(work.response(), answer);
            }
            Lookup::Folder => {
                let head = to_folder(&incoming.head, &incoming.bytes);
                let _ = work.response().whole(&head, b"", &mut |wait| wait());
            }
        }
        Answers::Loop
    }
}

/// The response knows the length of its body, so that none can be wrong.
fn send(mut response: Response, answer: FileAnswer) {
    match answer {
        FileAnswer::Failed => response.error(412, &[]),
        FileAnswer::Unsatisfiable(range) => response.error(416, &[("Content-Range", &range)]),
        FileAnswer::Bytes(head, file, range) => {
            let length = range.end - range.start;
            let short = (length <= COPIED as u64 && response.request.method.of(response.bytes) == b"GET")
                .then(|| read(&file, &range));
            let _ = match short.flatten() {
                Some(body) => response.whole(head, &body, &mut |wait| wait()),
                None => response.file(head, file.into(), range.start, length),
            };
        }
    }
}

/// A short part of a file, so that one send(2) takes it with its head; none of a file that has shrunk meanwhile.
fn read(file: &File, range: &Range<u64>) -> Option<Vec<u8>> {
    let mut bytes = vec![0; (range.end - range.start) as usize];
    file.read_exact_at(&mut bytes, range.start).is_ok().then_some(bytes)
}

/// Sends the client from `/docs` to `/docs/`, so that links in its index are right. The way there is told from where the client is: a
/// proxy in front may know the folder by another path.
fn to_folder(request: &RequestHead, bytes: &[u8]) -> ResponseHead {
    let name = request.path.of(bytes).rsplit(|&byte| byte == b'/').next().unwrap_or_default();
    let query = request.query.of(bytes);
    let mut place = [b"./", name, b"/"].concat();
    if !query.is_empty() {
        place.push(b'?');
        place.extend_from_slice(query);
    }
    let mut head = ResponseHead::default();
    head.begin(b"301 Moved Permanently").expect("a status that is written in the source");
    // A target is of visible ASCII characters, which may stand in a field.
    let _ = head.field(b"Location", &place);
    head
}

fn why(errno: Errno) -> String {
    match errno {
        Errno::EXDEV | Errno::ELOOP => "a link leads out of the folder of --static; --static-links allows that".into(),
        _ => errno.desc().to_lowercase(),
    }
}
