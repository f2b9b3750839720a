//! The master's end of a channel to a template or a worker, behind which is the application.
//!
//! The other end may say anything, as often as it likes, or never read. So what is taken from it is bounded by what was said to
//! it, nothing is believed that cannot be understood, no descriptor is accepted, and what it does not read waits here.

use std::{
    collections::VecDeque,
    io::{self, ErrorKind},
    net::Shutdown,
    os::fd::{AsFd, BorrowedFd, OwnedFd},
};

use ostler_wire::{
    Channel,
    channel::{self, let_go},
};
use serde::{Serialize, de::DeserializeOwned};
use socket2::SockRef;

use crate::sys::descriptors;

/// So much may be said unasked: that it is ready or why not, that it wants to be replaced, that it has drained.
const UNASKED: u32 = 16;
/// An order to fork for each slot, and some more.
const MOST_UNSENT: usize = 2048;
/// Of what is not understood, so much is shown, in bytes.
const SHOWN: usize = 200;

/// The master's end.
#[derive(Debug)]
pub struct Line {
    channel: Channel,
    /// How many messages it may still send. Each message to it calls for one at most.
    due: u32,
    unsent: VecDeque<(Vec<u8>, Vec<OwnedFd>)>,
}

/// What a line brought.
pub enum Heard<T> {
    /// Nothing yet.
    Nothing,
    /// A message.
    Message(T),
    /// Something that no engine sends, and why. The line is to be closed: the process there is not ours any more.
    Nonsense(String),
    /// Its end.
    End,
}

impl Line {
    /// A new one, and the end that is given away.
    pub fn pair() -> io::Result<(Line, Channel)> {
        let (ours, theirs) = Channel::pair()?;
        descriptors::nonblocking(ours.as_fd())?;
        descriptors::refuse_descriptors(ours.as_fd());
        descriptors::forbid_filters(ours.as_fd());
        descriptors::forbid_filters(theirs.as_fd());
        Ok((Line::from(ours), theirs))
    }

    /// The next message.
    pub fn hear<T: DeserializeOwned>(&mut self) -> Heard<T> {
        let packet = match self.channel.packet() {
            // Told first, and once: the other end was closed with something unread. What it has said itself is still there.
            Err(error) if error.kind() == ErrorKind::ConnectionReset => self.channel.packet(),
            packet => packet,
        };
        let (packet, carried) = match packet {
            Ok(Some(packet)) => packet,
            Ok(None) => return Heard::End,
            Err(error) if error.kind() == ErrorKind::WouldBlock => return Heard::Nothing,
            Err(error) if error.raw_os_error().is_some() => return Heard::End,
            Err(error) => return Heard::Nonsense(error.to_string()),
        };
        if !carried.is_empty() {
            let_go(carried);
            return Heard::Nonsense("it passed descriptors".into());
        }
        if self.due == 0 {
            return Heard::Nonsense("it says more than it was asked for".into());
        }
        self.due -= 1;
        serde_json::from_slice(&packet).map_or_else(|error| Heard::Nonsense(cut(&error)), Heard::Message)
    }

    /// It may say one thing more.
    pub fn allow_one_more(&mut self) {
        self.due = self.due.saturating_add(1);
    }

    /// Sends a message, or keeps it until the other end reads. `WouldBlock` if it has not done so for very long.
    pub fn send<T: Serialize>(&mut self, message: &T, carried: &[BorrowedFd]) -> io::Result<()> {
        let text = serde_json::to_vec(message)?;
        self.due = self.due.saturating_add(1);
        if self.unsent.is_empty() {
            match channel::send(self.channel.as_fd(), &text, carried) {
                Err(error) if error.kind() == ErrorKind::WouldBlock => {}
                sent => return sent,
            }
        }
        if self.unsent.len() >= MOST_UNSENT {
            return Err(ErrorKind::WouldBlock.into());
        }
        let carried = carried.iter().map(BorrowedFd::try_clone_to_owned).collect::<io::Result<_>>()?;
        self.unsent.push_back((text, carried));
        Ok(())
    }

    /// Sends what had to wait. An upgrade loses it; then the deadlines of those it was meant for decide.
    pub fn flush(&mut self) {
        while let Some((text, carried)) = self.unsent.front() {
            let carried: Vec<BorrowedFd> = carried.iter().map(AsFd::as_fd).collect();
            match channel::send(self.channel.as_fd(), text, &carried) {
                Err(error) if error.kind() == ErrorKind::WouldBlock => return,
                // Where the other end is closed, that is heard soon.
                _ => drop(self.unsent.pop_front()),
            }
        }
    }

    /// Whether something waits to be sent.
    pub fn is_full(&self) -> bool {
        !self.unsent.is_empty()
    }
}

impl From<Channel> for Line {
    fn from(channel: Channel) -> Line {
        Line { channel, due: UNASKED, unsent: VecDeque::new() }
    }
}

impl AsFd for Line {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.channel.as_fd()
    }
}

impl Drop for Line {
    /// Where the kernel cannot refuse descriptors, close(2) would close those that were not received, too, and might linger.
    fn drop(&mut self) {
        if !descriptors::refuses_descriptors(self.as_fd()) {
            let _ = SockRef::from(&self.channel).shutdown(Shutdown::Read);
            channel::empty(self.as_fd());
        }
    }
}

/// Part of what is wrong with a message is the message.
fn cut(error: &serde_json::Error) -> String {
    let text = error.to_string();
    text[..text.floor_char_boundary(SHOWN)].to_owned()
}

#[cfg(test)]
pub mod tests {
    use std::{
        net::{TcpListener, TcpStream},
        time::{Duration, Instant},
    };

    use ostler_wire::{FromWorker, ToWorker};

    use super::*;

    fn nonsense(line: &mut Line) -> String {
        match line.hear::<FromWorker>() {
            Heard::Nonsense(why) => why,
            _ => panic!("it was believed"),
        }
    }

    #[test]
    fn no_more_is_heard_than_was_asked_for() {
        let (mut line, worker) = Line::pair().unwrap();
        line.send(&ToWorker::Stacks, &[]).unwrap();
        for _ in 0..UNASKED + 2 {
            worker.send(&FromWorker::Ready, &[]).unwrap();
        }
        for _ in 0..UNASKED + 1 {
            assert!(matches!(line.hear(), Heard::Message(FromWorker::Ready)));
        }
        assert_eq!(nonsense(&mut line), "it says more than it was asked for");
    }

    #[test]
    fn last_words_are_heard_of_those_who_did_not_listen() {
        let (mut line, worker) = Line::pair().unwrap();
        line.send(&ToWorker::Stacks, &[]).unwrap();
        worker.send(&FromWorker::Drained, &[]).unwrap();
        drop(worker);
        assert!(matches!(line.hear(), Heard::Message(FromWorker::Drained)));
        assert!(matches!(line.hear::<FromWorker>(), Heard::End));
    }

    #[test]
    fn what_is_not_understood_is_shown_in_part() {
        let (mut line, worker) = Line::pair().unwrap();
        worker.send(&"x".repeat(100_000), &[]).unwrap();
        assert!(nonsense(&mut line).len() <= SHOWN);
        channel::send(worker.as_fd(), b"[[[[", &[]).unwrap();
        nonsense(&mut line);
        drop(worker);
        assert!(matches!(line.hear::<FromWorker>(), Heard::End));
    }

    #[test]
    fn what_is_not_read_waits_and_is_sent_in_order() {
        let (mut line, worker) = Line::pair().unwrap();
        for _ in 0..MOST_UNSENT {
            line.send(&ToWorker::Reopen, &[worker.as_fd()]).unwrap();
        }
        assert!(line.is_full());
        line.send(&ToWorker::Serve, &[]).unwrap();
        while line.send(&ToWorker::Quit, &[]).is_ok() {}
        let mut heard = 0;
        while heard < MOST_UNSENT {
            let (message, carried) = worker.receive::<ToWorker>().unwrap().unwrap();
            assert!(matches!(message, ToWorker::Reopen) && carried.len() == 1);
            heard += 1;
            line.flush();
        }
        assert!(matches!(worker.receive::<ToWorker>().unwrap().unwrap().0, ToWorker::Serve));
        assert!(matches!(worker.receive::<ToWorker>().unwrap().unwrap().0, ToWorker::Quit));
    }

    /// A connection whose close(2) lasts for as long as it may linger, because its peer does not read.
    pub fn lingering() -> (OwnedFd, TcpStream) {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let client = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
        let (peer, _) = listener.accept().unwrap();
        client.set_nonblocking(true).unwrap();
        while io::Write::write(&mut &client, &[0; 65536]).is_ok() {}
        client.set_nonblocking(false).unwrap();
        SockRef::from(&client).set_linger(Some(Duration::from_secs(60))).unwrap();
        (client.into(), peer)
    }

    #[test]
    fn descriptors_are_refused_or_closed_at_once() {
        let started = Instant::now();
        // As with a kernel that cannot refuse them.
        let (ours, worker) = Channel::pair().unwrap();
        descriptors::nonblocking(ours.as_fd()).unwrap();
        let mut line = Line::from(ours);
        for _ in 0..2 {
            let (socket, peer) = lingering();
            worker.send(&FromWorker::Ready, &[socket.as_fd()]).unwrap();
            drop(socket);
            std::mem::forget(peer);
            channel::send(worker.as_fd(), b"", &[]).unwrap();
        }
        assert_eq!(nonsense(&mut line), "it passed descriptors");
        drop(line);
        assert!(started.elapsed() < Duration::from_secs(30), "close(2) lingered");

        let (mut line, worker) = Line::pair().unwrap();
        match worker.send(&FromWorker::Ready, &[worker.as_fd()]) {
            Ok(()) => assert_eq!(nonsense(&mut line), "it passed descriptors"),
            Err(error) => assert_eq!(error.raw_os_error(), Some(libc::EPERM)),
        }
    }
}
