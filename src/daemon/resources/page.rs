//! The address of `--metrics`: whoever can connect there may ask how the site is, and change nothing. It is HTTP, but as little of it as
//! that needs: each connection brings the head of one GET or HEAD, has one answer, and is closed. What the answers hold is the master's.
//!
//! Nobody can make the master wait, or keep it busy: there are few connections, each with a deadline, and the newest is heard.

use std::{
    collections::BTreeMap,
    io::{self, ErrorKind, Read, Write},
    net::{Ipv4Addr, Shutdown, SocketAddr},
    os::fd::{AsFd, BorrowedFd},
    time::Duration,
};

use nix::sys::stat::Mode;
use socket2::{Domain, Socket, Type};

use self::question::{question, refusal};
use super::unix_socket::{self, SocketFile};
use crate::{
    exit::{Exit, Failure, words},
    settings::PageAddress,
    sys::{clock::Moment, descriptors},
};

mod question;

pub use question::{Question, Subject};

/// More connections than this at once are nobody's who collects metrics.
const MOST: usize = 16;
/// How many may wait in the kernel to be taken. For one that finds no room there, its client asks again a second later.
const QUEUE: i32 = 128;
/// How long a connection may last.
const PATIENCE: Duration = Duration::from_secs(5);
/// The longest head of a request.
const HEAD: usize = 8 * 1024;
/// How many connections are taken in one turn of the master's.
const ONE_TURN: usize = 4;
/// How long none is taken when the system has no room for it.
const PAUSE: Duration = Duration::from_secs(1);

/// The listening socket, and who is connected.
#[derive(Debug)]
pub struct Page {
    pub address: PageAddress,
    socket: Socket,
    file: Option<SocketFile>,
    visitors: BTreeMap<Visitor, Visit>,
    next: u64,
    paused: Option<Moment>,
}

/// One connection, by its number.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Visitor(u64);

#[derive(Debug)]
struct Visit {
    socket: Socket,
    stage: Stage,
    deadline: Moment,
}

#[derive(Debug)]
enum Stage {
    /// What has come of the head.
    Asks(Vec<u8>),
    /// What is left of the answer.
    IsAnswered(Vec<u8>),
    /// It has all of its answer, and is to close. Closing first could take the answer away from it.
    Leaves,
}

/// An answer without what every answer has.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Answer {
    /// The status and its phrase.
    pub status: &'static str,
    pub kind: &'static str,
    /// More fields of the head, each with its end of line.
    pub fields: &'static str,
    pub body: String,
}

pub const PLAIN: &str = "text/plain; charset=utf-8";

impl Page {
    /// Binds the address.
    pub fn bind(address: &PageAddress) -> Result<Page, Failure> {
        let bound = match address {
            PageAddress::Tcp(to) => tcp(*to).map(|socket| (socket, None)).map_err(|error| words(&error)),
            PageAddress::Unix(path) => {
                let mask = Mode::from_bits_truncate(0o117);
                unix_socket::bind(path, Type::STREAM, QUEUE, mask, (None, None))
                    .map(|(socket, file)| (socket, Some(file)))
            }
        };
        let (socket, file) =
            bound.map_err(|why| Failure::new(Exit::Bind, format!("could not bind {address} for --metrics: {why}")))?;
        descriptors::refuse_descriptors(socket.as_fd());
        let visitors = BTreeMap::new();
        Ok(Page { address: address.clone(), socket, file, visitors, next: 0, paused: None })
    }

    /// The listening socket, while connections are taken.
    pub fn listens(&self, now: Moment) -> Option<BorrowedFd<'_>> {
        self.paused.is_none_or(|until| until <= now).then(|| self.socket.as_fd())
    }

    /// Who is connected, and whether they are waited for to take their answers.
    pub fn visitors(&self) -> impl Iterator<Item = (Visitor, BorrowedFd<'_>, bool)> {
        let writes = |visit: &Visit| matches!(visit.stage, Stage::IsAnswered(_));
        self.visitors.iter().map(move |(&visitor, visit)| (visitor, visit.socket.as_fd(), writes(visit)))
    }

    /// When [`Page::expire`] is to be called.
    pub fn deadline(&self) -> Option<Moment> {
        self.visitors.values().map(|visit| visit.deadline).chain(self.paused).min()
    }

    /// Closes what has lasted too long.
    pub fn expire(&mut self, now: Moment) {
        self.visitors.retain(|_, visit| now < visit.deadline);
        self.paused.take_if(|until| *until <= now);
    }

    /// Takes connections. If there are too many, one that has its answer gives way, or else the oldest.
    pub fn accept(&mut self, now: Moment) {
        for _ in 0..ONE_TURN {
            match self.socket.accept() {
                Ok((socket, _)) if socket.set_nonblocking(true).is_ok() => {
                    if self.visitors.len() >= MOST {
                        let leaves = |(_, visit): &(&Visitor, &Visit)| matches!(visit.stage, Stage::Leaves);
                        let gives_way = self.visitors.iter().find(leaves).or(self.visitors.iter().next());
                        gives_way.map(|(&visitor, _)| visitor).map(|visitor| self.visitors.remove(&visitor));
                    }
                    let visit = Visit { socket, stage: Stage::Asks(Vec::new()), deadline: now + PATIENCE };
                    self.visitors.insert(Visitor(self.next), visit);
                    self.next += 1;
                }
                Err(error) if error.kind() == ErrorKind::WouldBlock => return,
                Ok(_) | Err(_) => return self.paused = Some(now + PAUSE),
            }
        }
    }

    /// What a connection asks for, once it has; goes on with it otherwise.
    pub fn hear(&mut self, visitor: Visitor) -> Option<Question> {
        let visit = self.visitors.get_mut(&visitor)?;
        let asked = match &mut visit.stage {
            Stage::Asks(head) => read_head(&mut visit.socket, head),
            Stage::IsAnswered(_) => Ok(None),
            Stage::Leaves => discard(&mut visit.socket).map(|()| None),
        };
        match asked {
            Ok(None) => {
                self.send(visitor);
                None
            }
            Ok(Some(Ok(question))) => Some(question),
            Ok(Some(Err(refusal))) => {
                self.answer(visitor, None, &refusal);
                None
            }
            Err(_) => {
                self.visitors.remove(&visitor);
                None
            }
        }
    }

    /// Answers, as much as the connection takes at once.
    pub fn answer(&mut self, visitor: Visitor, question: Option<Question>, answer: &Answer) {
        let Some(visit) = self.visitors.get_mut(&visitor) else { return };
        let Answer { status, kind, fields, body } = answer;
        let allow = if status.starts_with("405") { "Allow: GET, HEAD\r\n" } else { "" };
        let head = format!(
            "HTTP/1.1 {status}\r\nContent-Type: {kind}\r\nContent-Length: {}\r\n{allow}Cache-Control: no-store\r\n\
             X-Content-Type-Options: nosniff\r\n{fields}Connection: close\r\n\r\n",
            body.len()
        );
        let body = if question.is_some_and(|question| question.head) { "" } else { body };
        visit.stage = Stage::IsAnswered((head + body).into());
        self.send(visitor);
    }

    fn send(&mut self, visitor: Visitor) {
        let Some(visit) = self.visitors.get_mut(&visitor) else { return };
        let Stage::IsAnswered(rest) = &mut visit.stage else { return };
        let sent = loop {
            match visit.socket.write(rest) {
                Ok(length) => drop(rest.drain(..length)),
                Err(error) if error.kind() == ErrorKind::WouldBlock => break Ok(()),
                Err(error) => break Err(error),
            }
            if rest.is_empty() {
                visit.stage = Stage::Leaves;
                break visit.socket.shutdown(Shutdown::Write);
            }
        };
        if sent.is_err() {
            self.visitors.remove(&visitor);
        }
    }
}

impl Drop for Page {
    fn drop(&mut self) {
        self.file.iter().for_each(SocketFile::remove);
    }
}

/// `[::]` takes IPv4, too, and gives way to it where there is no IPv6.
fn tcp(to: SocketAddr) -> io::Result<Socket> {
    let bind = |to: SocketAddr| -> io::Result<Socket> {
        let socket = Socket::new(Domain::for_address(to), Type::STREAM.nonblocking().cloexec(), None)?;
        if to.is_ipv6() {
            socket.set_only_v6(!to.ip().is_unspecified())?;
        }
        socket.set_reuse_address(true)?;
        socket.bind(&to.into())?;
        socket.listen(QUEUE)?;
        Ok(socket)
    };
    match bind(to) {
        Err(error) if error.raw_os_error() == Some(libc::EAFNOSUPPORT) && to.ip().is_unspecified() => {
            bind((Ipv4Addr::UNSPECIFIED, to.port()).into())
        }
        bound => bound,
    }
}

/// None while the head is not complete. An error ends the connection.
fn read_head(socket: &mut Socket, head: &mut Vec<u8>) -> io::Result<Option<Result<Question, Answer>>> {
    let mut piece = [0; 2048];
    loop {
        match socket.read(&mut piece) {
            Ok(0) => return Err(ErrorKind::UnexpectedEof.into()),
            Ok(length) => head.extend_from_slice(&piece[..length]),
            Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok(None),
            Err(error) => return Err(error),
        }
        let end = head.windows(4).position(|window| window == b"\r\n\r\n");
        let lines = &head[..end.unwrap_or(head.len())];
        // RFC 9112, section 2.2, lets a server take a line feed alone for the end of a line. This one does not.
        if lines.starts_with(b"\n") || lines.windows(2).any(|pair| pair[0] != b'\r' && pair[1] == b'\n') {
            return Ok(Some(Err(refusal("400 Bad Request"))));
        }
        if end.is_some() {
            return Ok(Some(question(lines)));
        }
        if head.len() > HEAD {
            return Ok(Some(Err(refusal("431 Request Header Fields Too Large"))));
        }
    }
}

fn discard(socket: &mut Socket) -> io::Result<()> {
    match socket.read(&mut [0; 2048]) {
        Ok(0) => Err(ErrorKind::UnexpectedEof.into()),
        Ok(_) => Ok(()),
        Err(error) if error.kind() == ErrorKind::WouldBlock => Ok(()),
        Err(error) => Err(error),
    }
}
