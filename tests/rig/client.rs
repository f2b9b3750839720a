//! A client that sends any bytes and sees every byte of the answer, and how the connection ends.

use std::{
    io::{self, Read, Write},
    net::{Shutdown, TcpStream},
    os::{
        fd::AsFd,
        linux::net::SocketAddrExt,
        unix::net::{SocketAddr, UnixStream},
    },
    path::Path,
    time::Duration,
};

use nix::{
    poll::{PollFd, PollFlags, PollTimeout, poll},
    sys::socket::{setsockopt, sockopt},
};

use crate::{
    Answer, PATIENCE,
    tls::{TlsClient, TlsStream},
};

/// How the other side ended a connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Ending {
    /// In order: FIN.
    Closed,
    /// Abruptly: RST.
    Reset,
}

/// One connection.
pub struct Client {
    stream: Stream,
    /// Bytes that came and are not consumed.
    buffer: Vec<u8>,
}

enum Stream {
    Tcp(TcpStream),
    Unix(UnixStream),
    Tls(Box<TlsStream>),
}

impl Client {
    /// Connects to `http://127.0.0.1:8000`, `https://127.0.0.1:8443`, `unix:/path` or `unix:@name`, as a daemon's log names them; also with
    /// `uwsgi://` before it.
    pub fn connect(address: &str) -> Client {
        Client::try_connect(address).unwrap_or_else(|error| panic!("could not connect to {address}: {error}"))
    }

    /// The same, where it may fail.
    pub fn try_connect(address: &str) -> io::Result<Client> {
        if let Some(address) = address.strip_prefix("https://") {
            return TlsClient::new().try_connect(address, "ostler.test");
        }
        let address = address.trim_start_matches("uwsgi://");
        let stream = match address.strip_prefix("unix:") {
            Some(path) => {
                let stream = match path.strip_prefix('@') {
                    Some(name) => UnixStream::connect_addr(&SocketAddr::from_abstract_name(name)?)?,
                    None => UnixStream::connect(Path::new(path))?,
                };
                stream.set_read_timeout(Some(PATIENCE))?;
                stream.set_write_timeout(Some(PATIENCE))?;
                Stream::Unix(stream)
            }
            None => {
                let stream = TcpStream::connect(address.trim_start_matches("http://"))?;
                stream.set_nodelay(true)?;
                stream.set_read_timeout(Some(PATIENCE))?;
                stream.set_write_timeout(Some(PATIENCE))?;
                Stream::Tcp(stream)
            }
        };
        Ok(Client { stream, buffer: vec![] })
    }

    /// Over a connection that has made its handshake.
    pub(crate) fn within_tls(stream: TlsStream) -> Client {
        Client { stream: Stream::Tls(Box::new(stream)), buffer: vec![] }
    }

    /// What the handshake has agreed upon.
    pub(crate) fn tls(&self) -> &TlsStream {
        let Stream::Tls(stream) = &self.stream else { panic!("it does not speak TLS") };
        stream
    }

    /// Changes its keys (TLS 1.3) with the next request, and asks the site for the same.
    pub fn change_keys(&mut self) {
        let Stream::Tls(stream) = &mut self.stream else { panic!("it does not speak TLS") };
        stream.conn.refresh_traffic_keys().expect("TLS 1.3, after the handshake");
    }

    /// Sends bytes as they are.
    pub fn send(&mut self, bytes: impl AsRef<[u8]>) -> &mut Self {
        self.try_send(bytes).unwrap_or_else(|error| panic!("could not send: {error}"));
        self
    }

    /// The same, where the other side may have closed.
    pub fn try_send(&mut self, bytes: impl AsRef<[u8]>) -> io::Result<()> {
        match &mut self.stream {
            Stream::Tcp(stream) => stream.write_all(bytes.as_ref()),
            Stream::Unix(stream) => stream.write_all(bytes.as_ref()),
            Stream::Tls(stream) => stream.write_all(bytes.as_ref()).and_then(|()| stream.flush()),
        }
    }

    /// Sends FIN: there will be no more requests. Fails where the other side has reset the connection.
    pub fn finish(&mut self) -> io::Result<()> {
        match &self.stream {
            Stream::Tcp(stream) => stream.shutdown(Shutdown::Write),
            Stream::Unix(stream) => stream.shutdown(Shutdown::Write),
            Stream::Tls(stream) => stream.sock.shutdown(Shutdown::Write),
        }
    }

    /// Leaves abruptly: RST.
    pub fn reset(self) {
        let linger = libc::linger { l_onoff: 1, l_linger: 0 };
        match &self.stream {
            Stream::Tcp(stream) => setsockopt(stream, sockopt::Linger, &linger),
            Stream::Unix(stream) => setsockopt(stream, sockopt::Linger, &linger),
            Stream::Tls(stream) => setsockopt(&stream.sock, sockopt::Linger, &linger),
        }
        .expect("a socket can be told not to linger");
    }

    /// Sends a request without a body.
    pub fn ask(&mut self, target: &str) -> &mut Self {
        self.send(format!("GET {target} HTTP/1.1\r\nHost: ostler.test\r\n\r\n"))
    }

    /// Sends a request without a body and reads the answer.
    pub fn get(&mut self, target: &str) -> Answer {
        self.ask(target).answer()
    }

    /// Sends a request with a body and reads the answer.
    pub fn post(&mut self, target: &str, content_type: &str, body: &[u8]) -> Answer {
        self.send(format!(
            "POST {target} HTTP/1.1\r\nHost: ostler.test\r\nContent-Type: {content_type}\r\nContent-Length: {}\r\n\r\n",
            body.len()
        ));
        self.send(body).answer()
    }

    /// Reads the next response, an interim one included.
    pub fn answer(&mut self) -> Answer {
        self.try_answer().unwrap_or_else(|error| panic!("no answer: {error}"))
    }

    /// The same, for a response that may be cut. The error says what came.
    pub fn try_answer(&mut self) -> Result<Answer, String> {
        Answer::read(&mut self.buffer, false, |buffer| self.stream.fill(buffer))
    }

    /// Reads the next response, which answers HEAD.
    pub fn answer_to_head(&mut self) -> Answer {
        self.try_answer_with_bytes(true).unwrap_or_else(|error| panic!("no answer: {error}")).0
    }

    /// Reads the next response, and returns the bytes that it was made of too.
    pub fn try_answer_with_bytes(&mut self, to_head: bool) -> Result<(Answer, Vec<u8>), String> {
        let mut raw = self.buffer.clone();
        let answer = Answer::read(&mut self.buffer, to_head, |buffer| {
            let known = buffer.len();
            let more = self.stream.fill(buffer);
            raw.extend(&buffer[known..]);
            more
        })?;
        raw.truncate(raw.len() - self.buffer.len());
        Ok((answer, raw))
    }

    /// Reads until these bytes have come, and returns everything up to their end: for an incomplete response.
    pub fn until(&mut self, mark: &[u8]) -> Vec<u8> {
        let end = self.sight(mark).unwrap_or_else(|error| panic!("{error}"));
        self.buffer.drain(..end).collect()
    }

    /// Waits until these bytes have come, without consuming them. Returns where they end.
    pub fn sight(&mut self, mark: &[u8]) -> Result<usize, String> {
        loop {
            if let Some(at) = self.buffer.windows(mark.len()).position(|window| window == mark) {
                return Ok(at + mark.len());
            }
            if !self.stream.fill(&mut self.buffer).map_err(|error| format!("could not read: {error}"))? {
                return Err(format!("the connection ended after {:?}", String::from_utf8_lossy(&self.buffer)));
            }
        }
    }

    /// Everything that came and was not read as an answer.
    pub fn unread(&self) -> &[u8] {
        &self.buffer
    }

    /// Reads everything up to the end of the connection, and how it ended.
    pub fn rest(mut self) -> (Vec<u8>, Ending) {
        let ending = loop {
            match self.stream.fill(&mut self.buffer) {
                Ok(true) => (),
                Ok(false) => break Ending::Closed,
                Err(error) if error.kind() == io::ErrorKind::ConnectionReset => break Ending::Reset,
                Err(error) => panic!("the connection did not end: {error}"),
            }
        };
        (self.buffer, ending)
    }

    /// Whether the other side neither sends anything nor closes within this time.
    pub fn is_quiet(&self, time: Duration) -> bool {
        let descriptor = match &self.stream {
            Stream::Tcp(stream) => stream.as_fd(),
            Stream::Unix(stream) => stream.as_fd(),
            Stream::Tls(stream) => stream.sock.as_fd(),
        };
        let timeout = PollTimeout::try_from(time).expect("the bounds of tests are short");
        let events = poll(&mut [PollFd::new(descriptor, PollFlags::POLLIN)], timeout);
        self.buffer.is_empty() && events == Ok(0)
    }

    /// Waits until the other side has reset the connection, and reads nothing meanwhile.
    pub fn is_reset(self) {
        let descriptor = match &self.stream {
            Stream::Tcp(stream) => stream.as_fd(),
            Stream::Unix(stream) => stream.as_fd(),
            Stream::Tls(stream) => stream.sock.as_fd(),
        };
        let patience = PollTimeout::try_from(PATIENCE).expect("the bounds of tests are short");
        // poll(2) reports errors even if no events are requested.
        let mut descriptors = [PollFd::new(descriptor, PollFlags::empty())];
        assert_eq!(poll(&mut descriptors, patience), Ok(1), "the connection was not reset");
        assert!(descriptors[0].revents().is_some_and(|events| events.contains(PollFlags::POLLERR)), "{descriptors:?}");
    }

    /// Waits for the end of the connection, before which nothing may come.
    pub fn ending(self) -> Ending {
        let (rest, ending) = self.rest();
        assert!(rest.is_empty(), "before the end came {:?}", String::from_utf8_lossy(&rest));
        ending
    }
}

impl Stream {
    fn fill(&mut self, buffer: &mut Vec<u8>) -> io::Result<bool> {
        let mut block = [0; 65536];
        let read = match self {
            Stream::Tcp(stream) => stream.read(&mut block)?,
            Stream::Unix(stream) => stream.read(&mut block)?,
            Stream::Tls(stream) => stream.read(&mut block)?,
        };
        buffer.extend(&block[..read]);
        Ok(read > 0)
    }
}
