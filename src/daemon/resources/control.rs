//! The control socket: each connection brings one command and ends with its outcome. What commands do is the master's.
//!
//! One packet holds one [`Command`] or one [`Reply`], as JSON over a `SOCK_SEQPACKET` socket. Its owner and root give commands; whoever
//! else its mode lets connect may look.

use std::{
    collections::BTreeMap,
    io,
    os::fd::{AsFd, BorrowedFd, OwnedFd},
    path::{Path, PathBuf},
    str::FromStr,
};

use nix::{
    errno::Errno,
    fcntl::{AtFlags, OFlag, openat},
    sys::{
        socket::{getsockopt, sockopt},
        stat::{Mode, fchmod, fstat, mkdirat},
    },
    unistd::{AccessFlags, UnlinkatFlags, faccessat, geteuid},
};
use ostler_wire::Channel;
use serde::{Deserialize, Serialize};
use socket2::{Socket, Type};

use super::{
    line::{self, Line},
    unix_socket::{self, SocketFile},
};
use crate::{
    exit::{Exit, Failure, words},
    settings::{Access, Rollout, WorkerRange},
    sys::{descriptors, names::Place},
};

/// More connections than this at once are a mistake of somebody's.
const MOST: usize = 64;
/// A text is cut into replies of this size, in bytes.
const PART: usize = 32 * 1024;

/// Somebody at the control socket who waits for an outcome.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Asker(pub u64);

/// How the number of workers changes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum Change {
    /// By this many more, or fewer.
    By(i32),
    /// To this many, whatever the load is.
    To(u16),
    /// To as many as the load needs, from the first to the second.
    Within(WorkerRange),
}

impl FromStr for Change {
    type Err = String;

    fn from_str(text: &str) -> Result<Change, String> {
        let change = match text {
            _ if text.starts_with(['+', '-']) => text.parse().ok().map(Change::By),
            _ if text.contains("..") => {
                let range = text.parse::<WorkerRange>()?;
                Some(range.elastic().map_or(Change::To(range.least), Change::Within))
            }
            _ => text.parse().ok().map(Change::To),
        };
        change.ok_or_else(|| "expected +N, -N, N or N..M".into())
    }
}

/// What can be asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum Command {
    /// `ostler status`
    Status,
    /// `ostler doctor`
    Doctor,
    /// `ostler reload`
    Reload {
        /// `--wait`
        wait: bool,
        /// `--canary`, `--no-canary`
        rollout: Rollout,
    },
    /// `ostler promote`
    Promote,
    /// `ostler rollback`
    Rollback,
    /// `ostler upgrade`
    Upgrade,
    /// `ostler scale`
    Scale(Change),
    /// `ostler recycle`
    Recycle,
    /// `ostler stacks`, of one worker or of all.
    Stacks(Option<i32>),
    /// `ostler reopen`
    Reopen,
    /// `ostler stop`
    Stop,
}

impl Command {
    /// Whether it changes nothing and keeps nobody from working.
    fn only_looks(self) -> bool {
        match self {
            Command::Status => true,
            // It tells of settings and files, and has the master fork.
            Command::Doctor
            | Command::Reload { .. }
            | Command::Promote
            | Command::Rollback
            | Command::Upgrade
            | Command::Scale(_)
            | Command::Recycle
            | Command::Stacks(_)
            | Command::Reopen
            | Command::Stop => false,
        }
    }
}

/// What is answered: a text in parts, then the end.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum Reply {
    /// A piece of the text.
    Part(String),
    /// That was all; the command ends with this code.
    End(Exit),
}

/// The socket, and all who wait for an outcome.
#[derive(Debug, Default)]
pub struct Control {
    /// None with `--control=off`, or where it could not be bound.
    pub open: Option<Open>,
    /// Each with its connection.
    pub conversations: BTreeMap<Asker, Conversation>,
    /// The next one's number.
    pub next: u64,
}

/// A bound control socket. Its file goes with it.
#[derive(Debug)]
pub struct Open {
    /// Where it is.
    pub path: PathBuf,
    /// Listens.
    pub socket: Socket,
    /// Its file.
    pub file: SocketFile,
    /// Whether its directory was made for it.
    pub directory: bool,
    /// Who may connect.
    pub access: Access,
}

/// One connection.
#[derive(Debug)]
pub struct Conversation {
    line: Line,
    /// Of root or of ourselves, and may give commands.
    commands: bool,
    /// It has brought its command, and may bring no other.
    asked: bool,
    /// Its outcome is among what is sent, or has been.
    answered: bool,
}

/// What a connection brought.
pub enum Brought {
    /// Nothing yet.
    Nothing,
    /// Its command.
    Command(Command),
    /// Its end.
    End,
}

/// Where the socket of a second master goes that has the name of another: `/run/ostler/ostler-4711.sock`.
pub fn beside(path: &Path) -> PathBuf {
    let name = path.file_stem().unwrap_or_default().to_string_lossy();
    path.with_file_name(format!("{name}-{}.sock", std::process::id()))
}

/// Whether a master of this name has one that nobody has chosen, when `usual` is that of the first.
pub fn is_beside(name: &str, usual: &str) -> bool {
    let rest = name.strip_prefix(usual);
    rest.is_some_and(|rest| rest.is_empty() || rest.strip_prefix('-').is_some_and(|pid| pid.parse::<u32>().is_ok()))
}

impl Open {
    /// Binds it. `chosen`: somebody named this path, so that its directory is their business.
    pub fn bind(path: &Path, chosen: bool, access: Access) -> Result<Open, Failure> {
        let failed = |why: String| {
            Failure::new(Exit::System, format!("could not open the control socket {}: {why}", path.display()))
        };
        let directory = make_directory(path, chosen, access).map_err(failed)?;
        let (mask, owner) = (Mode::from_bits_truncate(!access.mode & 0o777), (None, access.group));
        let (socket, file) = unix_socket::bind(path, Type::SEQPACKET, 16, mask, owner).map_err(|why| {
            let hint =
                ". A unit of systemd that excludes @privileged needs SystemCallFilter=@chown for --control-group.";
            let forbidden = access.group.is_some() && why == words(&Errno::EPERM.into());
            failed(why + if forbidden { hint } else { "" })
        })?;
        descriptors::refuse_descriptors(socket.as_fd());
        Ok(Open { path: path.to_owned(), socket, file, directory, access })
    }
}

impl Drop for Open {
    fn drop(&mut self) {
        self.file.remove();
        if let Some(Ok(directory)) = self.path.parent().filter(|_| self.directory).map(Place::of) {
            // Another master may live there by now.
            let _ = directory.remove(UnlinkatFlags::RemoveDir);
        }
    }
}

/// Whether it had to be made. In /tmp anybody may have made it before. Whoever may connect may pass through it, as far as it is ours to
/// say so.
fn make_directory(path: &Path, chosen: bool, access: Access) -> Result<bool, String> {
    let path = path.parent().unwrap_or(Path::new("/"));
    if path == Path::new("/") {
        return Ok(false);
    }
    let place = Place::of(path)?;
    let made = mkdirat(place.directory(), place.name(), Mode::S_IRWXU);
    if access.is_shared() && (made.is_ok() || !chosen) {
        let _ = let_pass(&place);
    }
    match made {
        Ok(()) => Ok(true),
        Err(Errno::EEXIST) if chosen => Ok(false),
        Err(Errno::EEXIST) => {
            let there = place.hold().and_then(|held| Ok(fstat(&held)?)).map_err(|error| words(&error))?;
            let root_lets_us = || there.st_uid == 0 && may_write(&place);
            match there.st_uid == geteuid().as_raw() || root_lets_us() {
                true => Ok(false),
                false => Err(format!(
                    "{} belongs to user {}, who has made it first. Have it removed, or say --control PATH.",
                    path.display(),
                    there.st_uid
                )),
            }
        }
        Err(error) => Err(words(&error.into())),
    }
}

fn may_write(directory: &Place) -> bool {
    faccessat(directory.directory(), directory.name(), AccessFlags::W_OK, AtFlags::AT_EACCESS).is_ok()
}

/// Fails on a directory of another user's, which is that user's to open.
fn let_pass(directory: &Place) -> nix::Result<()> {
    let flags = OFlag::O_RDONLY | OFlag::O_DIRECTORY | OFlag::O_NOFOLLOW | OFlag::O_CLOEXEC;
    let held = openat(directory.directory(), directory.name(), flags, Mode::empty())?;
    let found = fstat(&held)?;
    match found.st_uid == geteuid().as_raw() {
        true => fchmod(&held, Mode::from_bits_truncate(found.st_mode | 0o011)),
        false => Err(Errno::EPERM),
    }
}

impl Control {
    /// Takes a waiting connection, if it comes from root, ourselves, or somebody who may look.
    pub fn accept(&mut self) -> io::Result<()> {
        let Some(open) = &self.open else { return Ok(()) };
        let (socket, _) = open.socket.accept()?;
        socket.set_nonblocking(true)?;
        let shared = open.access.is_shared();
        let peer = getsockopt(&socket, sockopt::PeerCredentials)?.uid();
        let conversation = Conversation::new(OwnedFd::from(socket).into());
        if !(shared || conversation.commands) {
            return Err(io::Error::other(format!("user {peer} may not speak to it")));
        }
        // Connections that say nothing do not keep others from asking, and those that look none that commands.
        let less = |other: &Conversation| other.is_idle() || (conversation.commands && !other.commands);
        let gives_way = self.conversations.iter().find(|(_, other)| less(other)).map(|(&asker, _)| asker);
        if self.conversations.len() >= MOST && gives_way.and_then(|asker| self.conversations.remove(&asker)).is_none() {
            return Err(io::Error::other("there are too many connections"));
        }
        self.conversations.insert(Asker(self.next), conversation);
        self.next += 1;
        Ok(())
    }

    /// What a connection says: one command. A connection that says more is closed.
    pub fn hear(&mut self, asker: Asker) -> Brought {
        let Some(conversation) = self.conversations.get_mut(&asker) else { return Brought::Nothing };
        let heard = conversation.line.hear();
        let (again, commands) = (conversation.asked, conversation.commands);
        match heard {
            line::Heard::Nothing => Brought::Nothing,
            line::Heard::Message(_) | line::Heard::Nonsense(_) if again => Brought::End,
            line::Heard::Message(command) if commands || Command::only_looks(command) => {
                conversation.asked = true;
                Brought::Command(command)
            }
            line::Heard::Message(_) => {
                conversation.asked = true;
                let owner = geteuid();
                let text =
                    format!("only root and user {owner} may give this ostler commands; others may ask for status");
                self.answer(asker, Err(Failure::new(Exit::Refused, text)));
                Brought::Nothing
            }
            line::Heard::Nonsense(_) => {
                conversation.asked = true;
                let failure = Failure::new(Exit::Usage, "this master does not know that command");
                self.answer(asker, Err(failure));
                Brought::Nothing
            }
            line::Heard::End => Brought::End,
        }
    }

    /// Tells a connection the outcome. Ignored where the client has left.
    pub fn answer(&mut self, asker: Asker, outcome: Result<String, Failure>) {
        let Some(conversation) = self.conversations.get_mut(&asker) else { return };
        let (text, exit) = match outcome {
            Ok(text) => (text, Exit::Success),
            Err(failure) => (failure.to_string(), failure.exit),
        };
        let line = &mut conversation.line;
        let parts = parts(&text).map(|part| Reply::Part(part.to_owned()));
        let sent = parts.chain([Reply::End(exit)]).try_for_each(|reply| line.send(&reply, &[]));
        conversation.answered = true;
        if sent.is_err() {
            self.conversations.remove(&asker);
        }
    }

    /// Sends what fits by now.
    pub fn send(&mut self, asker: Asker) {
        if let Some(conversation) = self.conversations.get_mut(&asker) {
            conversation.line.flush();
        }
    }
}

impl Conversation {
    /// A new one; the socket is non-blocking.
    pub fn new(channel: Channel) -> Conversation {
        let peer = getsockopt(&channel, sockopt::PeerCredentials).map(|peer| peer.uid());
        let commands = peer.is_ok_and(|user| user == 0 || user == geteuid().as_raw());
        Conversation { line: Line::from(channel), commands, asked: false, answered: false }
    }

    /// Whether something waits to be sent.
    pub fn is_full(&self) -> bool {
        self.line.is_full()
    }

    /// Whether nothing is lost if it is closed.
    fn is_idle(&self) -> bool {
        !self.asked || (self.answered && !self.is_full())
    }
}

impl AsFd for Conversation {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.line.as_fd()
    }
}

fn parts(mut text: &str) -> impl Iterator<Item = &str> {
    std::iter::from_fn(move || {
        let (part, rest) = text.split_at(text.floor_char_boundary(PART));
        text = rest;
        (!part.is_empty()).then_some(part)
    })
}

#[cfg(test)]
mod tests {
    use std::{fs, os::unix::fs::MetadataExt};

    use super::*;

    fn folder(name: &str) -> PathBuf {
        std::env::temp_dir().join(format!("ostler-control-{name}-{}", std::process::id()))
    }

    #[test]
    fn a_directory_that_somebody_else_has_made_is_named_with_its_owner() {
        if !geteuid().is_root() {
            return eprintln!("NOT TESTED: only root gives a directory away");
        }
        let folder = folder("foreign");
        fs::create_dir(&folder).unwrap();
        std::os::unix::fs::chown(&folder, Some(65534), None).unwrap();
        let failure = Open::bind(&folder.join("x.sock"), false, Access::default()).err().unwrap();
        fs::remove_dir(&folder).unwrap();
        let said = format!("{} belongs to user 65534, who has made it first. Have it", folder.display());
        assert!(failure.message.contains(&said), "{failure}");
    }

    #[test]
    fn a_long_answer_arrives_in_parts() {
        let (ours, theirs) = Channel::pair().unwrap();
        crate::sys::descriptors::nonblocking(ours.as_fd()).unwrap();
        let mut control = Control::default();
        control.conversations.insert(Asker(1), Conversation::new(ours));
        let text = "é".repeat(400_000);
        control.answer(Asker(1), Ok(text.clone()));
        assert!(control.conversations[&Asker(1)].is_full(), "it does not fit at once");
        let mut heard = String::new();
        loop {
            match theirs.receive::<Reply>().unwrap().unwrap().0 {
                Reply::Part(part) => heard += &part,
                Reply::End(exit) => break assert_eq!(exit, Exit::Success),
            }
            control.send(Asker(1));
        }
        assert_eq!(heard, text);
    }

    #[test]
    fn a_crowd_that_looks_keeps_nobody_from_commanding() {
        let directory = folder("crowd");
        let path = directory.join("a.sock");
        let open = Open::bind(&path, true, Access { mode: 0o666, group: None }).unwrap();
        assert_eq!(fs::metadata(&path).unwrap().mode() & 0o777, 0o666);
        assert_eq!(fs::metadata(&directory).unwrap().mode() & 0o777, 0o711);
        let mut control = Control { open: Some(open), next: MOST as u64, ..Control::default() };
        let mut theirs = Vec::new();
        for asker in 0..MOST as u64 {
            let (ours, other) = Channel::pair().unwrap();
            let looks = Conversation { commands: false, asked: true, ..Conversation::new(ours) };
            control.conversations.insert(Asker(asker), looks);
            theirs.push(other);
        }
        let socket = Socket::new(socket2::Domain::UNIX, Type::SEQPACKET, None).unwrap();
        socket.connect(&socket2::SockAddr::unix(&path).unwrap()).unwrap();
        control.accept().unwrap();
        assert_eq!(control.conversations.len(), MOST);
        assert!(control.conversations[&Asker(MOST as u64)].commands);
    }

    #[test]
    fn the_socket_is_its_owners_and_goes_with_its_directory() {
        let directory = folder("owner");
        let path = directory.join("a.sock");
        let access = Access::default();
        let open = Open::bind(&path, true, access).unwrap();
        assert_eq!(fs::metadata(&path).unwrap().mode() & 0o777, 0o600);
        assert_eq!(fs::metadata(&directory).unwrap().mode() & 0o777, 0o700);
        assert!(Open::bind(&path, true, access).unwrap_err().message.ends_with("another process answers there"));
        assert!(path.exists());
        drop(open);
        assert!(!directory.exists());
    }
}
