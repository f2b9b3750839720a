//! One line of the access log, from the pieces of its format.

use std::time::Duration;

use ostler_wire::{
    access_format::{AccessFormat, Piece},
    log::{local, terminal},
};

use super::{
    Times, atoms,
    batch::{Batch, Short},
    json,
};
use crate::{request::incoming::Incoming, response::Outgoing, shared::Shared};

/// Makes lines.
pub(super) struct Lines {
    format: AccessFormat,
    parts: Vec<Part>,
    /// A terminal shows lines in colours, by their status.
    coloured: bool,
    /// What each line begins with.
    level: &'static str,
    /// The present second, as the format has it.
    time: String,
}

/// A text that is the same in each line, and the value behind it.
#[derive(Default)]
struct Part {
    text: Short,
    value: Option<Piece>,
}

/// A request that is over.
#[derive(Clone, Copy)]
pub(super) struct Finished<'a> {
    pub incoming: &'a Incoming,
    pub outgoing: &'a Outgoing,
    pub times: &'a Times,
}

impl Lines {
    pub fn new(shared: &Shared) -> Lines {
        let format = shared.boot.worker.access_log_format.clone();
        let parts = parts(&format.pieces, shared);
        Lines { format, parts, coloured: false, level: "", time: String::new() }
    }

    /// Lines from now on are for a terminal with colours, for the journal, or for something else.
    pub fn suit(&mut self, coloured: bool, journal: bool) {
        // Each line of JSON is JSON, wherever it goes.
        self.coloured = coloured && !self.format.json;
        // Or else a line that begins with what a client has sent could have any level.
        self.level = if journal { "<6>" } else { "" };
    }

    /// A new second has begun.
    pub fn update_time(&mut self, since_1970: Duration) {
        let form = if self.format.json { json::TIME } else { atoms::TIME };
        self.time = local(since_1970).strftime(form).to_string();
    }

    /// Appends a line.
    pub fn write(&self, batch: &mut Batch, finished: Finished) {
        let Finished { incoming, outgoing, times } = finished;
        let colour = if self.coloured { terminal::colour_of(outgoing.status) } else { "" };
        batch.extend(self.level.as_bytes());
        batch.extend(colour.as_bytes());
        // The response's fields come first, then those of environ.
        let noted = |index: usize| outgoing.noted[index].as_deref();
        for part in &self.parts {
            batch.extend_short(&part.text);
            let Some(piece) = &part.value else { continue };
            let value = match piece {
                Piece::Text(_) => continue,
                Piece::Value(field) => {
                    json::value(batch, *field, finished, &self.time);
                    continue;
                }
                Piece::Atom(b't') => {
                    batch.extend(self.time.as_bytes());
                    continue;
                }
                Piece::Atom(letter) => {
                    atoms::atom(batch, *letter, incoming, outgoing, times.response);
                    continue;
                }
                Piece::RequestField(name) => match incoming.id() {
                    Some(id) if name == "x-request-id" => Some(id.as_bytes()),
                    _ => incoming.head.value_of_any(&incoming.bytes, name.as_bytes()),
                },
                Piece::ResponseField(index) => noted(*index),
                Piece::Variable(index) => noted(self.format.response_fields.len() + index),
            };
            match self.format.json {
                true => json::text(batch, value),
                false => atoms::quoted(batch, value),
            }
        }
        if !colour.is_empty() {
            batch.extend(terminal::PLAIN.as_bytes());
        }
        batch.push(b'\n');
    }
}

/// The pieces, with what is the same in each line as text.
fn parts(pieces: &[Piece], shared: &Shared) -> Vec<Part> {
    let (mut parts, mut text) = (Vec::new(), String::new());
    for piece in pieces {
        match piece {
            Piece::Text(piece) => text.push_str(piece),
            Piece::Value(field) if let Some(constant) = json::constant(*field, shared) => text.push_str(&constant),
            piece => {
                parts.extend(Short::parts(&text).map(|text| Part { text, value: None }));
                text.clear();
                match parts.last_mut() {
                    Some(last @ Part { value: None, .. }) => last.value = Some(piece.clone()),
                    _ => parts.push(Part { text: Short::default(), value: Some(piece.clone()) }),
                }
            }
        }
    }
    parts.extend(Short::parts(&text).map(|text| Part { text, value: None }));
    parts
}

/// A part of a request that could not be parsed is unknown rather than empty.
pub(super) fn told(value: &[u8]) -> Option<&[u8]> {
    (!value.is_empty()).then_some(value)
}

#[cfg(test)]
mod tests {
    use std::{io::Write, os::unix::net::UnixStream, sync::Arc, time::Duration};

    use ostler_http::h1::{Limits, RequestReader};
    use ostler_wire::{Boot, Trust, access_format::json::FIELDS, log, scoreboard::Scoreboard};

    use super::*;
    use crate::{moment::Moment, poll::timers::Token, request::peer::Peer, transport::Transport};

    const HEAD: &[u8] = b"GET /cart?id=7 HTTP/1.1\r\nHost: localhost\r\nUser-Agent: Mozilla/5.0 (X11; Linux x86_64; rv:128.0) \
        Gecko/20100101 Firefox/128.0\r\nAccept: */*\r\nReferer: http://shop.example/\r\nAuthorization: Basic YTpi\r\n\r\n";
    const TIMES: Times = Times {
        millisecond: 47,
        queue: Some(Duration::from_micros(12)),
        call: Some(Duration::from_millis(31)),
        response: Duration::from_millis(32),
        total: Duration::from_millis(33),
    };

    struct Fixture {
        lines: Lines,
        incoming: Incoming,
        outgoing: Outgoing,
    }

    fn fixture(format: &str) -> Fixture {
        let mut boot = Boot::default();
        boot.worker.access_log_format = format.parse().unwrap();
        let logger = log::logger(log::Process::Worker(1, 0), slog::Level::Critical, &Default::default());
        let shared = Shared::new(boot, 0, Arc::new(Scoreboard::new(1, 1).unwrap()), logger).unwrap();
        let mut lines = Lines::new(&shared);
        lines.update_time(Duration::from_secs(1_800_000_000));
        let (socket, _) = UnixStream::pair().unwrap();
        let transport = Arc::new(Transport::plain(socket.into()));
        let incoming = Incoming::new(Peer::new(None, 0, &Trust::default()), Moment::now());
        let mut outgoing = Outgoing::new(Arc::new(shared), Token { place: 0, serial: 0 }, transport);
        outgoing.status = 200;
        Fixture { lines, incoming, outgoing }
    }

    impl Fixture {
        /// The line of a request whose head, as far as it can be parsed, is this.
        fn write(&mut self, head: &[u8], batch: &mut Batch) {
            let limits = Limits { line: 0, fields: 0, field: 0, head: 0 };
            let incoming = &mut self.incoming;
            incoming.head.clear();
            (incoming.bytes, incoming.filled) = (head.to_vec(), head.len());
            let _ = RequestReader::default().read(&mut incoming.head, &incoming.bytes, &limits);
            self.lines.write(batch, Finished { incoming, outgoing: &self.outgoing, times: &TIMES });
        }
    }

    #[test]
    fn each_line_is_an_object_whatever_the_head() {
        let all = FIELDS.map(|(name, _)| name).join(",");
        let mut fixture = fixture(&format!("json:{all},{{x}}i,{{server}}o,{{RAW_URI}}e"));
        let mut state = 1u64;
        let mut below = |bound: usize| {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            (state >> 33) as usize % bound
        };
        for _ in 0..20_000 {
            let mut head = HEAD.to_vec();
            for _ in 0..below(8) {
                let place = below(head.len());
                head[place] = b"\"\\\0\t\n\r \x7f\x80\xc3\xa9\xe2\x80\xa8\xf0\xff,:{}"[below(20)];
            }
            head.truncate(below(2 * head.len()));
            fixture.outgoing.noted = vec![Some(head.clone()), None];
            let mut batch = Batch::default();
            fixture.write(&head, &mut batch);
            let (end, batch) = batch.bytes().split_last().unwrap();
            assert!(*end == b'\n' && !batch.iter().any(u8::is_ascii_control), "{}", batch.escape_ascii());
            let line: serde_json::Value =
                serde_json::from_slice(batch).unwrap_or_else(|error| panic!("{error}: {}", batch.escape_ascii()));
            assert_eq!(line.as_object().unwrap().len(), FIELDS.len() + 3);
        }
    }

    /// `cargo test --release -p ostler-serve -- --ignored --nocapture the_time_of_a_line`
    #[test]
    #[ignore = "it only measures"]
    fn the_time_of_a_line() {
        for format in ["json", ostler_wire::access_format::DEFAULT] {
            let mut fixture = fixture(format);
            let mut batch = Batch::default();
            fixture.write(HEAD, &mut batch);
            let measure = |_| {
                let started = Moment::now();
                for _ in 0..100_000 {
                    batch.truncate(0);
                    let Fixture { lines, incoming, outgoing } = &fixture;
                    lines.write(&mut batch, Finished { incoming, outgoing, times: &TIMES });
                }
                started.elapsed() / 100_000
            };
            let best = (0..20).map(measure).min().unwrap();
            writeln!(std::io::stderr(), "{best:?} for {} bytes: {format}", batch.len()).unwrap();
        }
    }
}
