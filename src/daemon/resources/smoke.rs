//! A smoke test, as the process that asks for it sees it: one request of HTTP/1.1 on a connection of its own, which ends with the answer.
//! It is a child of the master's, and may wait. Of HTTP it knows as little as that needs.

use std::{
    io::{ErrorKind, Read},
    os::{fd::AsRawFd, unix::net::UnixStream},
    time::{Duration, Instant},
};

use nix::{
    errno::Errno,
    sys::socket::{MsgFlags, send},
};
use ostler_wire::{OwnRequest, channel::fit_excerpt};
use serde::{Deserialize, Serialize};

use crate::{
    exit::{Exit, Failure},
    settings::SmokeTest,
};

/// So many bytes of an answer are kept, and searched for the text; the rest is read and forgotten.
const KEPT: usize = 1 << 20;
/// The end of a chunked body (RFC 9112 §7.1), without the CRLF of the chunk before.
const LAST_CHUNK: &[u8] = b"0\r\n\r\n";

/// What came of it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum Verdict {
    /// The answer is as it should be.
    Passed,
    /// It is not.
    Failed(Failure),
    /// It did not come, or not whole, in time. The worker can be asked where it hangs.
    Late(Failure),
    /// The connection ended without an answer, most likely because its worker did.
    Closed(Failure),
}

/// Asks, and judges the answer.
pub fn run(test: &SmokeTest, connection: UnixStream, within: Duration) -> Verdict {
    let until = Instant::now() + within;
    tell(&connection, request(&test.request).as_bytes(), until);
    let (answer, end) = receive(connection, until);
    judge(test, &answer, end, within)
}

/// Where the answer has ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum End {
    Closed,
    TimedOut,
}

/// What has come.
#[derive(Default)]
struct Answer {
    /// Its beginning.
    kept: Vec<u8>,
    /// Its last bytes.
    tail: Vec<u8>,
    length: usize,
}

fn request(request: &OwnRequest) -> String {
    let OwnRequest { method, target, .. } = request;
    let (host, version) = (request.authority(), env!("CARGO_PKG_VERSION"));
    let length = if matches!(method.as_str(), "POST" | "PUT" | "PATCH") { "Content-Length: 0\r\n" } else { "" };
    format!(
        "{method} {target} HTTP/1.1\r\nHost: {host}\r\nUser-Agent: ostler-smoke/{version}\r\nAccept: */*\r\n{length}\
         Connection: close\r\n\r\n"
    )
}

/// A worker that does not take it will not answer either.
fn tell(connection: &UnixStream, mut bytes: &[u8], until: Instant) {
    let _ = connection.set_write_timeout(left(until));
    while !bytes.is_empty() {
        match send(connection.as_raw_fd(), bytes, MsgFlags::MSG_NOSIGNAL) {
            Ok(sent) => bytes = &bytes[sent..],
            Err(Errno::EINTR) => {}
            Err(_) => return,
        }
    }
}

fn receive(mut connection: UnixStream, until: Instant) -> (Answer, End) {
    let (mut answer, mut buffer) = (Answer::default(), vec![0; 64 * 1024]);
    while let Some(left) = left(until) {
        let _ = connection.set_read_timeout(Some(left));
        match connection.read(&mut buffer) {
            Ok(0) => return (answer, End::Closed),
            Ok(length) => answer.take(&buffer[..length]),
            Err(error) if matches!(error.kind(), ErrorKind::Interrupted | ErrorKind::WouldBlock) => {}
            Err(_) => return (answer, End::Closed),
        }
    }
    (answer, End::TimedOut)
}

fn left(until: Instant) -> Option<Duration> {
    until.checked_duration_since(Instant::now()).filter(|left| !left.is_zero())
}

fn judge(test: &SmokeTest, answer: &Answer, end: End, within: Duration) -> Verdict {
    let failure = |what: &str| Failure::new(Exit::Smoke, format!("the smoke test {:?} was {what}", test.to_string()));
    let seconds = within.as_secs_f64();
    let Some((status, head, body)) = answer.parts() else {
        return match end {
            End::Closed => Verdict::Closed(failure("not answered: the worker closed its connection")),
            End::TimedOut => Verdict::Late(failure(&format!("not answered within {seconds} s"))),
        };
    };
    let framed = body;
    let body = if is_chunked(head) { joined(framed) } else { framed.to_vec() };
    let number = status.get(..3).and_then(|number| number.parse().ok()).unwrap_or(0);
    let holds = |text: &str| body.windows(text.len()).any(|part| part == text.as_bytes());
    let why = if !test.admits(number) {
        format!(", not {}", test.expected())
    } else if end == End::TimedOut {
        format!(", but its body did not end within {seconds} s")
    } else if !answer.is_whole(number, head, framed, &test.request) {
        ", but its body was cut off".into()
    } else {
        match &test.text {
            Some(text) if !holds(text) => {
                let first = if answer.length > KEPT { " in its first MiB" } else { "" };
                format!(", but its body does not hold {text:?}{first}")
            }
            _ => return Verdict::Passed,
        }
    };
    let excerpt = fit_excerpt(&String::from_utf8_lossy(&body));
    let traceback = if body.is_empty() { String::new() } else { format!("The body of the answer:\n{excerpt}") };
    let failure = Failure { traceback, ..failure(&format!("answered {status}{why}")) };
    if end == End::TimedOut && test.admits(number) { Verdict::Late(failure) } else { Verdict::Failed(failure) }
}

impl Answer {
    fn take(&mut self, bytes: &[u8]) {
        self.length += bytes.len();
        let room = KEPT.saturating_sub(self.kept.len());
        self.kept.extend_from_slice(&bytes[..bytes.len().min(room)]);
        self.tail.extend_from_slice(bytes);
        self.tail.drain(..self.tail.len().saturating_sub(LAST_CHUNK.len()));
    }

    /// `200 OK`, the fields, and the body as far as it was kept. Interim answers (103) stand before that.
    fn parts(&self) -> Option<(String, &[u8], &[u8])> {
        let mut rest = &self.kept[..];
        loop {
            let end = rest.windows(4).position(|part| part == b"\r\n\r\n")?;
            let (head, body) = (&rest[..end + 2], &rest[end + 4..]);
            let line = head.split(|&byte| byte == b'\r').next()?.strip_prefix(b"HTTP/1.1 ")?;
            if !line.starts_with(b"1") {
                return Some((String::from_utf8_lossy(line).into_owned(), head, body));
            }
            rest = body;
        }
    }

    /// Whether nothing of the body is missing, of which this was kept.
    fn is_whole(&self, status: u16, head: &[u8], body: &[u8], request: &OwnRequest) -> bool {
        if request.method == "HEAD" || matches!(status, 204 | 304) {
            return true;
        }
        if is_chunked(head) {
            return self.tail == LAST_CHUNK;
        }
        let length = self.length - (self.kept.len() - body.len());
        field(head, "content-length").is_none_or(|promised| promised == length.to_string())
    }
}

fn is_chunked(head: &[u8]) -> bool {
    field(head, "transfer-encoding").is_some()
}

fn field(head: &[u8], name: &str) -> Option<String> {
    let head = String::from_utf8_lossy(head);
    let mut fields = head.split("\r\n").filter_map(|line| line.split_once(':'));
    fields.find(|(field, _)| field.eq_ignore_ascii_case(name)).map(|(_, value)| value.trim().to_owned())
}

/// The chunks of a body, as far as they were kept.
fn joined(mut chunked: &[u8]) -> Vec<u8> {
    let mut body = Vec::new();
    while let Some(end) = chunked.windows(2).position(|part| part == b"\r\n") {
        let size = std::str::from_utf8(&chunked[..end]).ok().and_then(|size| usize::from_str_radix(size, 16).ok());
        let Some(size) = size.filter(|size| *size > 0) else { break };
        chunked = &chunked[end + 2..];
        let (chunk, rest) = chunked.split_at(size.min(chunked.len()));
        body.extend_from_slice(chunk);
        chunked = rest.get(2..).unwrap_or_default();
    }
    body
}

#[cfg(test)]
mod tests {
    use std::{io::Write, thread};

    use super::*;

    const PATIENCE: Duration = Duration::from_secs(20);

    fn outcome(typed: &str, answer: &[u8]) -> Result<(), String> {
        let mut all = Answer::default();
        // As it may come: in pieces.
        answer.chunks(3).for_each(|piece| all.take(piece));
        match judge(&typed.parse().unwrap(), &all, End::Closed, PATIENCE) {
            Verdict::Passed => Ok(()),
            Verdict::Failed(failure) => Err(failure.to_string()),
            Verdict::Late(_) => Err("late".into()),
            Verdict::Closed(_) => Err("closed".into()),
        }
    }

    #[test]
    fn an_answer_is_judged_by_status_text_and_end() {
        let plain = b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello";
        let chunked = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nhel\r\n2\r\nlo\r\n0\r\n\r\n";
        for answer in [&plain[..], &chunked[..]] {
            assert_eq!(outcome("/", answer), Ok(()));
            assert_eq!(outcome("/=200 hello", answer), Ok(()));
            let refusal = outcome("/=404", answer).unwrap_err();
            let told = "the smoke test \"/=404\" was answered 200 OK, not 404\nThe body of the answer:\nhello";
            assert_eq!(refusal, told);
            let refusal = outcome("/ Hello", answer).unwrap_err();
            assert!(refusal.contains("200 OK, but its body does not hold \"Hello\"\n"), "{refusal}");
            let cut = &answer[..answer.len() - 1];
            assert!(outcome("/", cut).unwrap_err().contains("200 OK, but its body was cut off"));
        }
        assert_eq!(outcome("HEAD /", b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\n"), Ok(()));
        assert_eq!(outcome("/=204", b"HTTP/1.1 204 No Content\r\nContent-Length: 5\r\n\r\n"), Ok(()));
        let hints = b"HTTP/1.1 103 Early Hints\r\nLink: </a>\r\n\r\n";
        assert_eq!(outcome("/=200 hello", &[&hints[..], &plain[..]].concat()), Ok(()));
        assert_eq!(outcome("/", hints), Err("closed".into()));
        for nothing in [&b""[..], b"HTTP/1.1 200 OK\r\n", b"what\r\n\r\n"] {
            assert_eq!(outcome("/", nothing), Err("closed".into()));
        }
    }

    #[test]
    fn what_is_kept_of_an_answer_is_bounded() {
        let mut long = b"HTTP/1.1 200 OK\r\n\r\n".to_vec();
        long.resize(KEPT + 100, b'x');
        long.extend_from_slice(b"end");
        assert_eq!(outcome("/", &long), Ok(()));
        let told = outcome("/ end", &long).unwrap_err();
        assert!(told.contains("does not hold \"end\" in its first MiB") && told.len() < 6000, "{}", told.len());
    }

    #[test]
    fn a_request_is_sent_and_its_answer_awaited() {
        let (ours, mut theirs) = UnixStream::pair().unwrap();
        let worker = thread::spawn(move || {
            let mut asked = Vec::new();
            let mut byte = [0];
            while !asked.ends_with(b"\r\n\r\n") {
                theirs.read_exact(&mut byte).unwrap();
                asked.push(byte[0]);
            }
            theirs.write_all(b"HTTP/1.1 200 OK\r\n\r\nhello").unwrap();
            String::from_utf8(asked).unwrap()
        });
        let test = "POST https://shop.example:8443/a?b hello".parse().unwrap();
        assert_eq!(run(&test, ours, PATIENCE), Verdict::Passed);
        let asked = worker.join().unwrap();
        assert!(
            asked.starts_with("POST /a?b HTTP/1.1\r\nHost: shop.example:8443\r\nUser-Agent: ostler-smoke/"),
            "{asked}"
        );
        assert!(asked.contains("\r\nContent-Length: 0\r\n") && asked.contains("\r\nConnection: close\r\n"), "{asked}");
    }

    #[test]
    fn who_does_not_answer_is_not_waited_for_for_ever() {
        let within = Duration::from_millis(50);
        let (ours, mut theirs) = UnixStream::pair().unwrap();
        theirs.write_all(b"HTTP/1.1 200 OK\r\n\r\nhel").unwrap();
        let Verdict::Late(told) = run(&"/".parse().unwrap(), ours, within) else { panic!("nobody has answered") };
        assert!(told.message.ends_with("was answered 200 OK, but its body did not end within 0.05 s"), "{told}");
        assert_eq!((told.exit, told.traceback.as_str()), (Exit::Smoke, "The body of the answer:\nhel"));
        let (ours, _theirs) = UnixStream::pair().unwrap();
        let Verdict::Late(told) = run(&"/".parse().unwrap(), ours, within) else { panic!("nobody has answered") };
        assert!(told.message.ends_with("was not answered within 0.05 s"), "{told}");
    }
}
