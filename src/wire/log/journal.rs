//! Entries in the journal's native protocol (`NATIVE_PROTOCOL` of systemd): one datagram each to journald's socket, or one sealed memfd
//! where a datagram would be too large.
//!
//! Each entry has a socket of its own. One that was kept might be closed by the application, or shared with a process that it forks.

use std::{
    fs::File,
    io::{self, Write},
    os::{fd::AsFd, unix::net::UnixDatagram},
    sync::OnceLock,
};

use nix::{
    fcntl::{FcntlArg, SealFlag, fcntl},
    libc,
    sys::memfd::{MFdFlags, memfd_create},
};
use slog::Level;

use super::{
    Process,
    entry::{Entry, Pair},
};
use crate::channel;

pub const SOCKET: &str = "/run/systemd/journal/socket";
/// A field's name is no longer (systemd.journal-fields(7)).
const LONGEST_NAME: usize = 64;

/// The device and inode of the stream that leads to the journal: systemd.exec(5), JOURNAL_STREAM. Read once, because an application may
/// change its environment.
pub fn stream() -> Option<(u64, u64)> {
    static STREAM: OnceLock<Option<(u64, u64)>> = OnceLock::new();
    *STREAM.get_or_init(|| {
        let told = std::env::var("JOURNAL_STREAM").ok()?;
        let (device, inode) = told.split_once(':')?;
        Some((device.parse().ok()?, inode.parse().ok()?))
    })
}

/// Sends one entry. Never waits: `WouldBlock` if journald has too much to do.
pub fn send(entry: &[u8]) -> io::Result<()> {
    let socket = UnixDatagram::unbound()?;
    socket.connect(SOCKET)?;
    match channel::send(socket.as_fd(), entry, &[]) {
        Err(error) if matches!(error.raw_os_error(), Some(libc::EMSGSIZE | libc::ENOBUFS)) => {
            channel::send(socket.as_fd(), &[], &[sealed(entry)?.as_fd()])
        }
        sent => sent,
    }
}

fn sealed(entry: &[u8]) -> io::Result<File> {
    let mut file = File::from(memfd_create("ostler-journal", MFdFlags::MFD_CLOEXEC | MFdFlags::MFD_ALLOW_SEALING)?);
    file.write_all(entry)?;
    let seals = SealFlag::F_SEAL_SHRINK | SealFlag::F_SEAL_GROW | SealFlag::F_SEAL_WRITE | SealFlag::F_SEAL_SEAL;
    fcntl(&file, FcntlArg::F_ADD_SEALS(seals))?;
    Ok(file)
}

/// A record: the message as in the other forms, without time, level and number of the process, which the journal has; the phrase; and
/// each key with its value.
pub fn record(entry: &Entry) -> Vec<u8> {
    let mut fields = Fields::new(entry.level, &message(entry));
    fields.add("CODE_FILE", entry.source.0);
    fields.add("CODE_LINE", &entry.source.1.to_string());
    fields.add("OSTLER_PROCESS", &entry.process.to_string());
    fields.add("OSTLER_PHRASE", &entry.phrase);
    for (key, number) in entry.process.place() {
        if !entry.pairs.iter().any(|pair| pair.key == key) {
            fields.add(&name(key), &number.to_string());
        }
    }
    for Pair { key, text: value, .. } in &entry.pairs {
        fields.add(&name(key), value);
    }
    fields.0
}

/// A text that is no record: what a process's application has written, in the call of the request of this id.
pub fn said(level: Level, process: Option<Process>, text: &str, request_id: Option<&str>) -> Vec<u8> {
    let mut fields = Fields::new(level, text);
    if let Some(process) = process {
        fields.add("OSTLER_PROCESS", &process.to_string());
        process.place().for_each(|(key, number)| fields.add(&name(key), &number.to_string()));
    }
    request_id.into_iter().for_each(|id| fields.add("OSTLER_REQUEST_ID", id));
    fields.0
}

/// A record as journald takes it from a stream (sd-daemon(3)): an entry for each line, with the level in front.
pub fn lines(entry: &Entry) -> String {
    message(entry).lines().map(|line| format!("<{}>{line}\n", priority(entry.level))).collect()
}

/// Without time, level and the number of the process.
pub fn message(entry: &Entry) -> String {
    format!("{}: {}", entry.process, entry.text(""))
}

fn name(key: &str) -> String {
    let plain = |c: char| if c.is_ascii_alphanumeric() { c.to_ascii_uppercase() } else { '_' };
    "OSTLER_".chars().chain(key.chars().map(plain)).take(LONGEST_NAME).collect()
}

/// syslog(3)
pub fn priority(level: Level) -> u8 {
    match level {
        Level::Critical => 2,
        Level::Error => 3,
        Level::Warning => 4,
        Level::Info => 6,
        Level::Debug | Level::Trace => 7,
    }
}

struct Fields(Vec<u8>);

impl Fields {
    fn new(level: Level, message: &str) -> Fields {
        let mut fields = Fields(Vec::with_capacity(500));
        fields.add("PRIORITY", &priority(level).to_string());
        fields.add("SYSLOG_IDENTIFIER", "ostler");
        fields.add("MESSAGE", message);
        fields
    }

    /// A value of several lines has its length in front.
    fn add(&mut self, name: &str, value: &str) {
        self.0.extend_from_slice(name.as_bytes());
        if value.contains('\n') {
            self.0.push(b'\n');
            self.0.extend_from_slice(&(value.len() as u64).to_le_bytes());
        } else {
            self.0.push(b'=');
        }
        self.0.extend_from_slice(value.as_bytes());
        self.0.push(b'\n');
    }
}

#[cfg(test)]
mod tests {
    use slog::{b, o};

    use super::*;

    #[test]
    fn a_record_becomes_fields_and_a_client_can_add_none() {
        let pairs = b!("request" => "GET /a\nPRIORITY=0", "x-y" => 1, "slot" => 7);
        let of_logger = o!().into();
        let entry = Entry::of(
            &slog::record!(Level::Error, "", &format_args!("application raised"), pairs),
            &of_logger,
            Process::Worker(2, 0),
        )
        .unwrap();
        let line = format!("CODE_LINE={}\n", entry.source.1);
        let text = String::from_utf8(record(&entry)).unwrap();
        let expected = [
            "PRIORITY=3\nSYSLOG_IDENTIFIER=ostler\n",
            "MESSAGE\n\x3e\0\0\0\0\0\0\0worker g2.0: application raised x-y=1 slot=7\nGET /a\nPRIORITY=0\n",
            "CODE_FILE=src/wire/log/journal.rs\n",
            &line,
            "OSTLER_PROCESS=worker g2.0\nOSTLER_PHRASE=application raised\nOSTLER_GENERATION=2\n",
            "OSTLER_REQUEST\n\x11\0\0\0\0\0\0\0GET /a\nPRIORITY=0\nOSTLER_X_Y=1\nOSTLER_SLOT=7\n",
        ];
        assert_eq!(text, expected.concat());
        assert_eq!(lines(&entry), "<3>worker g2.0: application raised x-y=1 slot=7\n<3>GET /a\n<3>PRIORITY=0\n");
    }
}
