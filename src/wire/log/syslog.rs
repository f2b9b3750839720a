//! Messages for a syslog: RFC 5424 by UDP and TCP; to a Unix socket what syslog(3) writes there, because those who listen there expect
//! that. Nobody waits for a syslog: what it does not take is lost, and counted.

use std::{
    fs,
    io::{self, ErrorKind},
    net::{IpAddr, Ipv4Addr, Ipv6Addr, TcpStream, UdpSocket},
    os::{
        fd::{AsFd, AsRawFd, OwnedFd, RawFd},
        unix::net::UnixDatagram,
    },
    sync::{Mutex, MutexGuard},
    time::{Duration, Instant},
};

use jiff::Zoned;
use nix::{
    errno::Errno,
    sys::{
        socket::{
            AddressFamily, MsgFlags, SockFlag, SockType, SockaddrLike, SockaddrStorage, UnixAddr, connect, recv, send,
            socket,
        },
        stat::fstat,
    },
};
use slog::Level;

use crate::{
    settings::{Syslog, SyslogTo},
    sink,
};

/// What common collectors take (rsyslog: `maxMessageSize`). The rest of a longer message is cut off.
const LONGEST: usize = 8 * 1024;
/// RFC 5424 §6: the longest APP-NAME.
const LONGEST_NAME: usize = 48;
/// The pause between attempts to connect.
const BETWEEN_TRIES: Duration = Duration::from_secs(1);
/// How long a process may wait for its first connection, so that the first messages are not lost. A master that reloads waits so, too.
const FIRST: Duration = Duration::from_millis(50);
/// UDP tells of a closed port only with the next datagram. So it takes some in a row to say that they arrive.
const CLEAN: u32 = 3;
/// How often another thread that is just sending is waited for. A child that was forked meanwhile would wait for ever.
const TRIES: u32 = 1000;

/// The shortest time between two tellings that messages are lost: a burst may fill the queue of a slow reader again and again.
const BETWEEN_TELLINGS: Duration = Duration::from_secs(10);

/// What became of a message.
#[derive(Debug, PartialEq, Eq)]
pub enum Outcome {
    /// It is on its way.
    Sent,
    /// The same, and it is to be told that so many were lost before.
    SentAgain(u64),
    /// It is lost. The reason, if that is to be told.
    Lost(Option<String>),
}

/// The way to a syslog, for one of the logs of a process.
#[derive(Debug)]
pub struct Sender {
    to: SyslogTo,
    facility: u8,
    host: String,
    name: String,
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    connection: Option<Connection>,
    /// What is left of a message that a stream took in part.
    rest: Vec<u8>,
    next_try: Option<Instant>,
    /// Whether it was told that messages are lost, and not yet that they are sent again.
    loss_told: bool,
    last_told: Option<Instant>,
    clean: u32,
    /// How many, since that was told last.
    lost: u64,
}

#[derive(Debug)]
struct Connection {
    socket: OwnedFd,
    /// Its device and inode: the application may close it, and get its number for a file of its own.
    marks: (u64, u64),
}

impl Sender {
    /// For the log that is called this: `error` or `access`.
    pub fn new(syslog: &Syslog, log: &str) -> Sender {
        let printable = |c: char| if c.is_ascii_graphic() { c } else { '_' };
        let name = format!("{}.{log}", syslog.prefix).chars().map(printable).take(LONGEST_NAME).collect();
        let host = fs::read_to_string("/proc/sys/kernel/hostname").unwrap_or_default();
        let host = if host.trim().is_empty() { "-".into() } else { host.trim().to_owned() };
        let state = Mutex::new(State { connection: first(&syslog.to), ..State::default() });
        Sender { to: syslog.to.clone(), facility: syslog.facility, host, name, state }
    }

    /// Where it leads.
    pub fn to(&self) -> &SyslogTo {
        &self.to
    }

    /// Sends a message, without waiting.
    pub fn send(&self, level: Level, now: &Zoned, text: &str) -> Outcome {
        let message = self.message(level, now, text);
        match self.lock() {
            Some(mut state) => state.send(&self.to, &message),
            None => Outcome::Lost(None),
        }
    }

    /// The descriptor of its socket, if it has one now.
    pub fn descriptor(&self) -> Option<RawFd> {
        self.lock()?.connection.as_ref().map(|connection| connection.socket.as_raw_fd())
    }

    fn lock(&self) -> Option<MutexGuard<'_, State>> {
        for _ in 0..TRIES {
            match self.state.try_lock() {
                Ok(state) => return Some(state),
                Err(std::sync::TryLockError::Poisoned(poisoned)) => return Some(poisoned.into_inner()),
                Err(std::sync::TryLockError::WouldBlock) => std::thread::yield_now(),
            }
        }
        None
    }

    fn message(&self, level: Level, now: &Zoned, text: &str) -> Vec<u8> {
        let (priority, pid) = (self.facility * 8 + super::journal::priority(level), std::process::id());
        let text = &text[..text.floor_char_boundary(LONGEST)];
        match &self.to {
            SyslogTo::Unix { stream, .. } => {
                let end = if *stream { "\0" } else { "" };
                format!("<{priority}>{} {}[{pid}]: {text}{end}", now.strftime("%b %e %H:%M:%S"), self.name).into()
            }
            SyslogTo::Udp(_) | SyslogTo::Tcp(_) => {
                let time = now.strftime("%Y-%m-%dT%H:%M:%S%.3f%:z");
                // RFC 5424 §6.4: the mark says that the text is UTF-8.
                let message = format!("<{priority}>1 {time} {} {} {pid} - - \u{feff}{text}", self.host, self.name);
                match &self.to {
                    // RFC 6587 §3.4.1: a message of several lines stays one.
                    SyslogTo::Tcp(_) => format!("{} {message}", message.len()).into(),
                    _ => message.into(),
                }
            }
        }
    }
}

impl State {
    fn send(&mut self, to: &SyslogTo, message: &[u8]) -> Outcome {
        let mut sent = self.try_send(to, message);
        if sent.is_err() && matches!(to, SyslogTo::Unix { .. }) {
            // Another process may listen there by now.
            sent = self.try_send(to, message);
        }
        match sent {
            Ok(()) => {
                self.clean = self.clean.saturating_add(1);
                let arrives = self.clean >= CLEAN || !matches!(to, SyslogTo::Udp(_));
                // What was lost for a moment, and not told then, is told later.
                let tells = self.lost > 0 && arrives && (std::mem::take(&mut self.loss_told) || self.may_tell());
                if tells { Outcome::SentAgain(std::mem::take(&mut self.lost)) } else { Outcome::Sent }
            }
            Err(error) => {
                // UDP tells of it with the next datagram, which is not sent then.
                let tells_of_another = self.clean > 0 && error.kind() != ErrorKind::WouldBlock;
                let before = u64::from(tells_of_another && matches!(to, SyslogTo::Udp(_)));
                (self.clean, self.lost) = (0, self.lost + 1 + before);
                let tells = !self.loss_told && self.may_tell();
                self.loss_told |= tells;
                let reason = || match error.kind() {
                    ErrorKind::WouldBlock => "it does not read, and its queue is full".to_owned(),
                    _ => crate::limits::explain(&error),
                };
                Outcome::Lost(tells.then(reason))
            }
        }
    }

    fn may_tell(&mut self) -> bool {
        let may = self.last_told.is_none_or(|last| last.elapsed() >= BETWEEN_TELLINGS);
        if may {
            self.last_told = Some(Instant::now());
        }
        may
    }

    fn try_send(&mut self, to: &SyslogTo, message: &[u8]) -> io::Result<()> {
        self.connect(to)?;
        let sent = self.send_rest().and_then(|()| self.send_now(message));
        match &sent {
            // It tells of an earlier datagram.
            Err(error) if error.kind() != ErrorKind::WouldBlock && !matches!(to, SyslogTo::Udp(_)) => {
                self.connection = None;
            }
            Ok(length) => self.rest.extend_from_slice(&message[*length..]),
            Err(_) => {}
        }
        sent.map(drop)
    }

    /// What a stream did not take of the message before.
    fn send_rest(&mut self) -> io::Result<()> {
        if self.rest.is_empty() {
            return Ok(());
        }
        let sent = self.send_now(&self.rest)?;
        self.rest.drain(..sent);
        if self.rest.is_empty() { Ok(()) } else { Err(ErrorKind::WouldBlock.into()) }
    }

    fn send_now(&self, bytes: &[u8]) -> io::Result<usize> {
        let connection = self.connection.as_ref().ok_or(ErrorKind::NotConnected)?;
        Ok(send(connection.socket.as_raw_fd(), bytes, MsgFlags::MSG_DONTWAIT | MsgFlags::MSG_NOSIGNAL)?)
    }

    fn connect(&mut self, to: &SyslogTo) -> io::Result<()> {
        if let Some(foreign) = self.connection.take_if(|connection| !connection.is_ours()) {
            // Its number is the application's by now.
            std::mem::forget(foreign);
        }
        self.connection.take_if(|connection| to.is_stream() && connection.has_ended());
        if self.connection.is_some() {
            return Ok(());
        }
        self.rest.clear();
        let now = Instant::now();
        if self.next_try.is_some_and(|next| now < next) {
            return Err(ErrorKind::NotConnected.into());
        }
        self.next_try = matches!(to, SyslogTo::Tcp(_)).then_some(now + BETWEEN_TRIES);
        self.connection = Some(Connection::open(to)?);
        Ok(())
    }
}

impl Connection {
    fn open(to: &SyslogTo) -> io::Result<Connection> {
        let socket: OwnedFd = match to {
            SyslogTo::Unix { path, stream: false } => {
                let socket = UnixDatagram::unbound()?;
                socket.set_nonblocking(true)?;
                socket.connect(path)?;
                socket.into()
            }
            SyslogTo::Unix { path, stream: true } => begin(AddressFamily::Unix, &UnixAddr::new(path)?)?,
            SyslogTo::Udp(address) => {
                let any: IpAddr =
                    if address.is_ipv4() { Ipv4Addr::UNSPECIFIED.into() } else { Ipv6Addr::UNSPECIFIED.into() };
                let socket = UdpSocket::bind((any, 0))?;
                socket.connect(address)?;
                socket.into()
            }
            SyslogTo::Tcp(address) => {
                let family = if address.is_ipv4() { AddressFamily::Inet } else { AddressFamily::Inet6 };
                begin(family, &SockaddrStorage::from(*address))?
            }
        };
        Connection::of(socket)
    }

    fn of(socket: OwnedFd) -> io::Result<Connection> {
        let socket = sink::own(socket.as_fd())?;
        let status = fstat(&socket)?;
        Ok(Connection { socket, marks: (status.st_dev, status.st_ino) })
    }

    fn is_ours(&self) -> bool {
        fstat(&self.socket).is_ok_and(|status| (status.st_dev, status.st_ino) == self.marks)
    }

    /// Whether whoever listened has gone. Nobody there ever says anything.
    fn has_ended(&self) -> bool {
        let flags = MsgFlags::MSG_DONTWAIT | MsgFlags::MSG_PEEK;
        recv(self.socket.as_raw_fd(), &mut [0], flags) == Ok(0)
    }
}

/// A stream that may still be connecting: until it is, it takes nothing.
fn begin(family: AddressFamily, address: &dyn SockaddrLike) -> io::Result<OwnedFd> {
    let flags = SockFlag::SOCK_NONBLOCK | SockFlag::SOCK_CLOEXEC;
    let stream = socket(family, SockType::Stream, flags, None)?;
    match connect(stream.as_raw_fd(), address) {
        Ok(()) | Err(Errno::EINPROGRESS) => Ok(stream),
        Err(error) => Err(error.into()),
    }
}

/// So that the first messages are not lost while a TCP connection is made.
fn first(to: &SyslogTo) -> Option<Connection> {
    let SyslogTo::Tcp(address) = to else { return None };
    let stream = TcpStream::connect_timeout(address, FIRST).ok()?;
    stream.set_nonblocking(true).ok()?;
    Connection::of(stream.into()).ok()
}

#[cfg(test)]
mod tests {
    use std::{io::Read, net::TcpListener};

    use super::*;

    fn sender(to: SyslogTo) -> Sender {
        Sender::new(&Syslog { to, facility: 1, prefix: "shop".into(), only: false, access: false }, "error")
    }

    fn now() -> Zoned {
        "2026-11-22T13:58:01.123+00:00[UTC]".parse().unwrap()
    }

    #[test]
    fn a_datagram_is_a_message_of_rfc_5424() {
        let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
        let sender = sender(SyslogTo::Udp(socket.local_addr().unwrap()));
        assert_eq!(sender.send(Level::Error, &now(), "worker lost\n    one"), Outcome::Sent);
        let mut bytes = [0; 1000];
        let length = socket.recv(&mut bytes).unwrap();
        let (host, pid) = (&sender.host, std::process::id());
        let expected =
            format!("<11>1 2026-11-22T13:58:01.123+00:00 {host} shop.error {pid} - - \u{feff}worker lost\n    one");
        assert_eq!(std::str::from_utf8(&bytes[..length]).unwrap(), expected);
    }

    #[test]
    fn a_unix_socket_gets_what_syslog_3_writes_and_may_be_made_anew() {
        let path = std::env::temp_dir().join(format!("ostler-syslog-{}", std::process::id()));
        let sender = sender(SyslogTo::Unix { path: path.clone(), stream: false });
        assert!(matches!(sender.send(Level::Info, &now(), "a"), Outcome::Lost(Some(_))));
        assert_eq!(sender.send(Level::Info, &now(), "b"), Outcome::Lost(None));
        for outcome in [Outcome::SentAgain(2), Outcome::Sent] {
            let socket = UnixDatagram::bind(&path).unwrap();
            assert_eq!(sender.send(Level::Info, &now(), "c"), outcome);
            let mut bytes = [0; 1000];
            let length = socket.recv(&mut bytes).unwrap();
            let expected = format!("<14>Nov 22 13:58:01 shop.error[{}]: c", std::process::id());
            assert_eq!(std::str::from_utf8(&bytes[..length]).unwrap(), expected);
            std::fs::remove_file(&path).unwrap();
        }
    }

    #[test]
    fn a_stream_has_whole_messages_each_with_its_length_even_if_its_reader_is_slow() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let sender = sender(SyslogTo::Tcp(listener.local_addr().unwrap()));
        let (mut reader, _) = listener.accept().unwrap();
        let text = "x".repeat(20_000);
        let mut sent = 0;
        while sender.send(Level::Info, &now(), &text) == Outcome::Sent {
            sent += 1;
        }
        let first = sender.message(Level::Info, &now(), &text);
        assert!(first.len() < LONGEST + 200 && sent > 10);
        reader.set_read_timeout(Some(Duration::from_secs(60))).unwrap();
        let mut bytes = vec![0; first.len()];
        for _ in 0..sent - 1 {
            reader.read_exact(&mut bytes).unwrap();
            assert!(bytes == first);
        }
        assert_eq!(sender.send(Level::Info, &now(), "d"), Outcome::SentAgain(1));
        drop(listener);
        drop(reader);
        let mut outcome = sender.send(Level::Info, &now(), "e");
        while outcome == Outcome::Sent {
            outcome = sender.send(Level::Info, &now(), "e");
        }
        assert_eq!(outcome, Outcome::Lost(None), "it was told a moment ago");
    }

    #[test]
    fn a_datagram_that_nobody_took_is_counted_with_the_next() {
        let address = UdpSocket::bind("127.0.0.1:0").and_then(|socket| socket.local_addr()).unwrap();
        let sender = sender(SyslogTo::Udp(address));
        let send = || sender.send(Level::Info, &now(), "a");
        assert_eq!(send(), Outcome::Sent);
        assert!(matches!(send(), Outcome::Lost(Some(_))));
        assert_eq!((send(), send()), (Outcome::Sent, Outcome::Lost(None)));
        let _socket = UdpSocket::bind(address).unwrap();
        assert_eq!((send(), send(), send()), (Outcome::Sent, Outcome::Sent, Outcome::SentAgain(4)));
    }

    #[test]
    fn a_reader_that_is_slower_than_a_burst_is_told_of_once_and_what_was_lost_adds_up() {
        let path = std::env::temp_dir().join(format!("ostler-slow-syslog-{}", std::process::id()));
        let socket = UnixDatagram::bind(&path).unwrap();
        let sender = sender(SyslogTo::Unix { path: path.clone(), stream: false });
        let (mut told, mut lost) = (Vec::new(), 0);
        for _ in 0..5 {
            loop {
                match sender.send(Level::Info, &now(), "a") {
                    Outcome::Sent => continue,
                    outcome @ Outcome::SentAgain(_) => told.push(outcome),
                    outcome => {
                        lost += 1;
                        if outcome != Outcome::Lost(None) {
                            told.push(outcome);
                        }
                        break;
                    }
                }
            }
            socket.recv(&mut [0; 1000]).unwrap();
        }
        std::fs::remove_file(&path).unwrap();
        assert!(matches!(told[..], [Outcome::Lost(Some(_)), Outcome::SentAgain(1)]), "{told:?}");
        sender.state.lock().unwrap().last_told = Instant::now().checked_sub(BETWEEN_TELLINGS);
        assert_eq!(sender.send(Level::Info, &now(), "a"), Outcome::SentAgain(lost - 1));
        assert_eq!(sender.send(Level::Info, &now(), "a"), Outcome::Lost(None), "that was just told of");
    }

    #[test]
    fn a_number_that_the_application_took_is_not_written_to() {
        let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
        let sender = sender(SyslogTo::Udp(socket.local_addr().unwrap()));
        sender.send(Level::Info, &now(), "a");
        sender.state.lock().unwrap().connection.as_mut().unwrap().marks.1 += 1;
        assert_eq!(sender.send(Level::Info, &now(), "b"), Outcome::Sent);
        let _held = sender.state.lock().unwrap();
        assert_eq!(sender.send(Level::Info, &now(), "c"), Outcome::Lost(None), "it does not wait");
    }
}
