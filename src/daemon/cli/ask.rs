//! The commands to a running master: `ostler reload` and its like. Each waits for its outcome and ends with it.

use std::{
    fs,
    io::{self, ErrorKind},
    os::fd::{AsRawFd, OwnedFd},
    path::Path,
};

use nix::{
    sys::{
        socket::{getsockopt, sockopt},
        stat::fstat,
    },
    unistd::geteuid,
};
use ostler_wire::Channel;
use serde::de::DeserializeOwned;
use socket2::{Domain, SockAddr, Socket, Type};

use super::{View, doctor, profile, requests, top};
use crate::{
    exit::{Exit, Failure, words},
    master::{doctor::Report, status::Status},
    report,
    resources::control::{Command, Reply},
    sys::names::Place,
};

const WHO_MAY: &str = "Commands are for root and the user of the site; --control-group lets a group ask for status.";

/// Sends a command and prints what comes of it. `named`: somebody has named the socket.
pub fn ask(socket: &Path, named: bool, command: Command, view: View) -> Result<Exit, Failure> {
    if let View::Top(asked) = view {
        return top::run(socket, named, asked);
    }
    if let View::Profile(asked) = view {
        let (samples, ended) = profile::sample(asked, || Ok(outcome(socket, named, &command)?.0))?;
        report::print(&samples.folded())?;
        eprintln!("{}", samples.summary());
        return ended.map_or(Ok(Exit::Success), Err);
    }
    let (text, channel) = outcome(socket, named, &command)?;
    if command == Command::Stop {
        // Closed by the end of the master: its process is gone when the command returns.
        while let Ok(Some(_)) = channel.receive::<Reply>() {}
    }
    match (command, view) {
        (Command::Status, View::Text) => {
            let status = status(&text)?;
            report::print(&status.table())?;
            Ok(health(&status))
        }
        (Command::Status, View::Json) => {
            report::print(&report::escaped_json(&format!("{}\n", text.trim_end())))?;
            status(&text).map(|status| health(&status))
        }
        (Command::Status, View::Requests { json: false }) => report::print(&requests::table(&status(&text)?)),
        (Command::Status, View::Requests { json: true }) => {
            report::print(&report::escaped_json(&requests::json(&status(&text)?)))
        }
        (Command::Status, View::Ready) => match status(&text)?.readiness() {
            Ok(ready) => report::print(&format!("ready: {ready}\n")),
            Err(why) => Err(Failure::new(Exit::Refused, format!("not ready: {why}"))),
        },
        (Command::Doctor, view) => {
            let report: Report = read(&text)?;
            let shown = match view {
                View::Json => report::escaped_json(&format!("{}\n", text.trim_end())),
                _ => doctor::text(&report),
            };
            report::print(&shown)?;
            Ok(doctor::health(&report))
        }
        _ => report::print(&format!("{}\n", text.trim_end())),
    }
}

/// What the exit status tells a monitor.
pub fn health(status: &Status) -> Exit {
    if status.problems.is_empty() { Exit::Success } else { Exit::DEGRADED }
}

/// What a master says of itself.
pub fn ask_for_status(socket: &Path, named: bool) -> Result<Status, Failure> {
    status(&outcome(socket, named, &Command::Status)?.0)
}

/// What comes of a command, if that is what was asked for; and the channel on which it came.
fn outcome(socket: &Path, named: bool, command: &Command) -> Result<(String, Channel), Failure> {
    let channel = connect(socket, named)?;
    let gone = |error: io::Error| {
        Failure::new(Exit::NotRunning, format!("{} does not answer: {}", socket.display(), words(&error)))
    };
    channel.send(command, &[]).map_err(gone)?;
    let mut text = String::new();
    let exit = loop {
        match channel.receive::<Reply>().map_err(gone)? {
            Some((Reply::Part(part), _)) => text += &part,
            Some((Reply::End(exit), _)) => break exit,
            None => return Err(Failure::new(Exit::NotRunning, "the master ended before it answered")),
        }
    };
    match exit {
        Exit::Success => Ok((text, channel)),
        _ => Err(Failure::new(exit, text)),
    }
}

fn status(text: &str) -> Result<Status, Failure> {
    read(text)
}

fn read<T: DeserializeOwned>(text: &str) -> Result<T, Failure> {
    let unknown = |error: serde_json::Error| Failure::new(Exit::Internal, format!("the master's answer: {error}"));
    serde_json::from_slice(text.as_bytes()).map_err(unknown)
}

/// Connects to the very socket that the path leads to now, and makes sure of who listens.
fn connect(path: &Path, named: bool) -> Result<Channel, Failure> {
    let shown = path.display();
    let nobody = |why: &str| Failure::new(Exit::NotRunning, format!("no ostler is running: {why} {shown}"));
    if fs::symlink_metadata(path).is_err_and(|error| error.kind() == ErrorKind::NotFound) {
        return Err(nobody("there is no"));
    }
    let failed = |why: String| Failure::new(Exit::System, format!("could not connect to {shown}: {why}"));
    let held = Place::of(path).and_then(|place| place.hold().map_err(|error| words(&error))).map_err(failed)?;
    let connected = Socket::new(Domain::UNIX, Type::SEQPACKET.cloexec(), None).and_then(|socket| {
        let address = SockAddr::unix(format!("/proc/self/fd/{}", held.as_raw_fd()))?;
        socket.connect(&address).map(|()| socket)
    });
    let socket = connected.map_err(|error| match error.kind() {
        ErrorKind::ConnectionRefused => nobody("nobody answers at"),
        ErrorKind::PermissionDenied => failed(format!("{}. {WHO_MAY}", words(&error))),
        _ => failed(words(&error)),
    })?;
    let peer = getsockopt(&socket, sockopt::PeerCredentials).map_err(|error| failed(words(&error.into())))?;
    match may_listen(path, named, peer.uid()) {
        true => Ok(Channel::from(OwnedFd::from(socket))),
        false => Err(failed(format!("process {} of user {} listens there, who has no say", peer.pid(), peer.uid()))),
    }
}

/// Root, we ourselves, and the user of the directory: whoever named it means them, and elsewhere root or we have given it to
/// them (systemd does so for `User=`), which cannot be said of a directory in /tmp.
fn may_listen(path: &Path, named: bool, user: u32) -> bool {
    let given = || {
        let directory = Place::of(path.parent()?).ok().filter(|place| named || !place.is_foreign())?;
        fstat(directory.hold().ok()?).ok()
    };
    user == 0 || user == geteuid().as_raw() || given().is_some_and(|directory| directory.st_uid == user)
}
