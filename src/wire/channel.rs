//! One message, one packet: JSON with descriptors beside it, over a `SOCK_SEQPACKET` socket.

use std::{
    io::{self, IoSlice, IoSliceMut},
    os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd, RawFd},
};

use nix::{
    libc,
    sys::socket::{
        AddressFamily, ControlMessage, ControlMessageOwned, MsgFlags, SockFlag, SockType, recv, recvmsg, sendmsg,
        setsockopt, socketpair, sockopt,
    },
};
use serde::{Serialize, de::DeserializeOwned};

use crate::standard;

/// The largest packet. Texts are cut to stay below it (see [`fit`]); the kernel's default send buffer holds it.
pub const LARGEST: usize = 160 * 1024;
/// As many descriptors as Linux passes in one message (`SCM_MAX_FD`).
const MOST_DESCRIPTORS: usize = 253;

/// One end of a connection between two of our processes.
#[derive(Debug)]
pub struct Channel(OwnedFd);

impl Channel {
    /// Two connected ends, both close-on-exec and blocking.
    pub fn pair() -> io::Result<(Channel, Channel)> {
        let (a, b) = socketpair(AddressFamily::Unix, SockType::SeqPacket, None, SockFlag::SOCK_CLOEXEC)
            .map_err(io::Error::from)?;
        Ok((Channel(a), Channel(b)))
    }

    /// Sends one message. `WouldBlock` when the socket is non-blocking and full; `BrokenPipe` when the other end is closed.
    pub fn send<T: Serialize>(&self, message: &T, descriptors: &[BorrowedFd]) -> io::Result<()> {
        let text = serde_json::to_vec(message)?;
        send_with(self.as_fd(), &text, descriptors, MsgFlags::MSG_NOSIGNAL)
    }

    /// The same without descriptors, and without waiting, whatever the socket's flags say: others may share them.
    pub fn send_now<T: Serialize>(&self, message: &T) -> io::Result<()> {
        send(self.as_fd(), &serde_json::to_vec(message)?, &[])
    }

    /// Receives one message and its descriptors; `None` when the other end is closed.
    pub fn receive<T: DeserializeOwned>(&self) -> io::Result<Option<(T, Vec<OwnedFd>)>> {
        let Some((packet, descriptors)) = self.packet()? else { return Ok(None) };
        Ok(Some((serde_json::from_slice(&packet)?, descriptors)))
    }

    /// The same without waiting, whatever the socket's flags say: others may share them. `WouldBlock` where there is no message.
    pub fn receive_now<T: DeserializeOwned>(&self) -> io::Result<Option<(T, Vec<OwnedFd>)>> {
        let Some((packet, descriptors)) = self.packet_with(MsgFlags::MSG_DONTWAIT)? else { return Ok(None) };
        Ok(Some((serde_json::from_slice(&packet)?, descriptors)))
    }

    /// Receives one packet without parsing it.
    pub fn packet(&self) -> io::Result<Option<(Vec<u8>, Vec<OwnedFd>)>> {
        self.packet_with(MsgFlags::empty())
    }

    fn packet_with(&self, flags: MsgFlags) -> io::Result<Option<(Vec<u8>, Vec<OwnedFd>)>> {
        // No buffer for the largest packet is held while waiting: memory that a template touches is copied for each worker.
        let length = length_of_next(flags, self.as_fd())?;
        if length == 0 {
            return Ok(None);
        }
        let mut packet = vec![0; length.min(LARGEST)];
        let (length, descriptors) = receive(self.as_fd(), &mut packet)?;
        packet.truncate(length);
        Ok(Some((packet, descriptors)))
    }
}

impl From<OwnedFd> for Channel {
    fn from(descriptor: OwnedFd) -> Self {
        Channel(descriptor)
    }
}

impl From<Channel> for OwnedFd {
    fn from(channel: Channel) -> Self {
        channel.0
    }
}

impl AsFd for Channel {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}

/// Sends one packet with descriptors. Never raises SIGPIPE, and never waits, whatever the socket's flags say.
pub fn send(socket: BorrowedFd, packet: &[u8], descriptors: &[BorrowedFd]) -> io::Result<()> {
    send_with(socket, packet, descriptors, MsgFlags::MSG_NOSIGNAL | MsgFlags::MSG_DONTWAIT)
}

/// The same with other flags.
pub fn send_with(socket: BorrowedFd, packet: &[u8], descriptors: &[BorrowedFd], flags: MsgFlags) -> io::Result<()> {
    let raw: Vec<RawFd> = descriptors.iter().map(AsRawFd::as_raw_fd).collect();
    let rights = [ControlMessage::ScmRights(&raw)];
    let control = if raw.is_empty() { &[][..] } else { &rights[..] };
    loop {
        match sendmsg::<()>(socket.as_raw_fd(), &[IoSlice::new(packet)], control, flags, None) {
            Ok(_) => return Ok(()),
            Err(nix::errno::Errno::EINTR) => continue,
            Err(error) => return Err(error.into()),
        }
    }
}

/// Waits for a packet, leaves it there, and gives its length: 0 when the other end is closed.
fn length_of_next(flags: MsgFlags, socket: BorrowedFd) -> io::Result<usize> {
    loop {
        // unix(7): with MSG_TRUNC the whole length, however small the buffer is.
        match recv(socket.as_raw_fd(), &mut [], flags | MsgFlags::MSG_PEEK | MsgFlags::MSG_TRUNC) {
            Err(nix::errno::Errno::EINTR) => continue,
            outcome => return Ok(outcome?),
        }
    }
}

/// Receives one packet: its length (0: the other end is closed) and the descriptors that came, close-on-exec. Never
/// waits, whatever the socket's flags say.
pub fn receive(socket: BorrowedFd, packet: &mut [u8]) -> io::Result<(usize, Vec<OwnedFd>)> {
    receive_with(socket, packet, MsgFlags::MSG_CMSG_CLOEXEC | MsgFlags::MSG_DONTWAIT)
}

/// The same with other flags.
pub fn receive_with(socket: BorrowedFd, packet: &mut [u8], flags: MsgFlags) -> io::Result<(usize, Vec<OwnedFd>)> {
    let mut control = nix::cmsg_space!([RawFd; MOST_DESCRIPTORS]);
    loop {
        let mut parts = [IoSliceMut::new(packet)];
        let received = match recvmsg::<()>(socket.as_raw_fd(), &mut parts, Some(&mut control), flags) {
            Ok(received) => received,
            Err(nix::errno::Errno::EINTR) => continue,
            Err(error) => return Err(error.into()),
        };
        let mut descriptors = Vec::new();
        for message in received.cmsgs()? {
            if let ControlMessageOwned::ScmRights(raw) = message {
                // SAFETY: the kernel has just made these descriptors for this process, and nothing else knows them.
                descriptors.extend(raw.into_iter().map(|fd| unsafe { OwnedFd::from_raw_fd(fd) }));
            }
        }
        let descriptors = descriptors.into_iter().map(standard::vacate).collect::<io::Result<Vec<_>>>()?;
        if received.flags.contains(MsgFlags::MSG_TRUNC) {
            let_go(descriptors);
            return Err(io::Error::other("a packet was longer than its buffer"));
        }
        return Ok((received.bytes, descriptors));
    }
}

/// Closes descriptors that were not asked for, without waiting: close(2) of a socket may last for as long as its SO_LINGER says.
pub fn let_go(descriptors: Vec<OwnedFd>) {
    let at_once = libc::linger { l_onoff: 0, l_linger: 0 };
    for descriptor in descriptors {
        // Fails on what is no socket.
        let _ = setsockopt(&descriptor, sockopt::Linger, &at_once);
    }
}

/// Drops the packets that wait in a socket that is about to be closed. An empty packet looks like a closed end, and others may follow
/// it: so a closed end ends this only after a number of tries.
pub fn empty(socket: BorrowedFd) {
    const MOST_PACKETS: usize = 1024;
    for _ in 0..MOST_PACKETS {
        match receive(socket, &mut [0; 1]) {
            Ok((_, descriptors)) => let_go(descriptors),
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => return,
            // The packet was longer, and `receive` has dropped it.
            Err(_) => {}
        }
    }
}

/// Cuts a text in the middle so that it fits a message with room to spare. A traceback's end is what matters most.
pub fn fit(text: &str) -> String {
    cut(text, 48 * 1024, "\n")
}

/// The same for what should be one sentence.
pub fn fit_sentence(text: &str) -> String {
    cut(text, 4 * 1024, " ")
}

/// The same for an excerpt that people read.
pub fn fit_excerpt(text: &str) -> String {
    cut(text, 4 * 1024, "\n")
}

/// `room` counts what JSON makes of the text: a control character is six bytes there.
fn cut(text: &str, room: usize, around: &str) -> String {
    let size = |c: char| match c {
        '"' | '\\' | '\n' | '\r' | '\t' => 2,
        c if c < ' ' => 6,
        c => c.len_utf8(),
    };
    let within = |characters: &mut dyn Iterator<Item = char>, room: usize| {
        let mut left = room;
        let fits = |c: &char| {
            left = left.saturating_sub(size(*c));
            left > 0
        };
        characters.take_while(fits).map(char::len_utf8).sum::<usize>()
    };
    if within(&mut text.chars(), room) == text.len() {
        return text.to_owned();
    }
    let head = within(&mut text.chars(), room / 4);
    let tail = text.len() - within(&mut text.chars().rev(), room * 3 / 4);
    format!("{}{around}… {} bytes left out …{around}{}", &text[..head], tail - head, &text[tail..])
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{FromTemplate, ToTemplate};

    #[test]
    fn a_message_arrives_whole_with_its_descriptor() {
        let (here, there) = Channel::pair().unwrap();
        let (carried, other) = Channel::pair().unwrap();
        here.send(&ToTemplate::Fork { slot: 7 }, &[carried.as_fd()]).unwrap();
        let (message, mut descriptors) = there.receive::<ToTemplate>().unwrap().unwrap();
        assert!(matches!(message, ToTemplate::Fork { slot: 7 }));
        let carried = Channel::from(descriptors.pop().unwrap());
        carried.send(&FromTemplate::Forked { slot: 7, pid: 1 }, &[]).unwrap();
        assert!(matches!(
            other.receive::<FromTemplate>().unwrap().unwrap().0,
            FromTemplate::Forked { slot: 7, pid: 1 }
        ));
    }

    #[test]
    fn a_closed_end_is_seen() {
        let (here, there) = Channel::pair().unwrap();
        drop(there);
        assert!(here.receive::<FromTemplate>().unwrap().is_none());
        let error = here.send(&ToTemplate::Quit, &[]).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::BrokenPipe);
    }

    #[test]
    fn a_long_text_is_cut_in_the_middle() {
        let cut = fit(&format!("start{}end", "é".repeat(100_000)));
        assert!(cut.len() < 50_000 && cut.starts_with("start") && cut.ends_with("end") && cut.contains("left out"));
    }

    #[test]
    fn whatever_is_said_fits_a_packet() {
        use crate::{BootFailure, BootFailureKind};
        for character in ["\0", "\"", "\u{ad}", "\u{10ffff}", "\u{7f}"] {
            let text = character.repeat(1 << 20);
            let failure = BootFailure::new(BootFailureKind::Import, &text, &text);
            let packet = serde_json::to_vec(&FromTemplate::Failed(failure)).unwrap();
            assert!(packet.len() < LARGEST / 2, "{character:?}: {}", packet.len());
        }
    }
}
