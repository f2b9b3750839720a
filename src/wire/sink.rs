//! Writes to a log that never wait, whether the log is a file, a pipe, a terminal or the journal's socket.
//!
//! Whether an operation waits is a property of the open file, which other processes share and may rely on. So it is asked for in each
//! call where the kernel knows how (`RWF_NOWAIT`, `MSG_DONTWAIT`), or done on an open file of our own (see [`own`]). What is left are
//! regular files: writing to one takes as long as its file system takes.

use std::{
    fs::OpenOptions,
    io::{self, IoSlice, IsTerminal},
    os::{
        fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd},
        unix::fs::OpenOptionsExt,
    },
};

use nix::{
    errno::Errno,
    fcntl::{FcntlArg, fcntl},
    libc,
    poll::{PollFd, PollFlags, PollTimeout, poll},
    sys::{
        socket::{MsgFlags, send},
        stat::fstat,
    },
    unistd::{ftruncate, write as write_to},
};

/// Descriptors of our own get numbers from here on: code that closes or opens low numbers does not touch them.
const ABOVE: i32 = 200;
/// The same where fewer descriptors are allowed.
const ABOVE_AT_LEAST: i32 = 10;
/// One write(2) of at most this much to a pipe goes whole or not at all, and is not mixed with others' (PIPE_BUF).
const PIPE: usize = 4096;
/// How many bytes a pipe should hold for a slow reader: what pipe(7) allows every process.
const ROOM: i32 = 1 << 20;
/// A packet of this size goes to a stream socket whole or not at all.
const SOCKET: usize = 16 * 1024;

/// What a descriptor leads to, as far as writing is concerned.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum FileKind {
    /// A regular file.
    File,
    /// A pipe or FIFO.
    Pipe,
    /// A socket.
    Socket,
    /// A terminal or another device.
    Device,
}

impl FileKind {
    /// That of an open descriptor; a device where nothing is known.
    pub fn of(descriptor: BorrowedFd) -> FileKind {
        match fstat(descriptor).map(|status| status.st_mode & libc::S_IFMT) {
            Ok(libc::S_IFREG) => FileKind::File,
            Ok(libc::S_IFIFO) => FileKind::Pipe,
            Ok(libc::S_IFSOCK) => FileKind::Socket,
            _ => FileKind::Device,
        }
    }

    /// How much of this is written at once: whole lines, if they fit. A line that is too long for a pipe is tried whole, too: Linux mixes it
    /// with others' only where the pipe has no room for all of it.
    fn piece(self, bytes: &[u8]) -> &[u8] {
        let most = match self {
            FileKind::File => bytes.len(),
            FileKind::Pipe | FileKind::Device => PIPE,
            FileKind::Socket => SOCKET,
        };
        if bytes.len() <= most {
            return bytes;
        }
        let is_end = |byte: &u8| *byte == b'\n';
        let end = bytes[..most].iter().rposition(is_end).or_else(|| match self {
            FileKind::Pipe => Some(bytes.iter().position(is_end).unwrap_or(bytes.len() - 1)),
            _ => None,
        });
        &bytes[..end.map_or(most, |at| at + 1)]
    }
}

/// A descriptor of our own for the same thing, close-on-exec. Files, pipes and terminals are opened anew if that is allowed, because the
/// open file is shared with others, who may expect to wait, and may change its flags and its position.
pub fn own(of: BorrowedFd) -> io::Result<OwnedFd> {
    if FileKind::of(of) == FileKind::Pipe && fcntl(of, FcntlArg::F_GETPIPE_SZ).is_ok_and(|room| room < ROOM) {
        // So that a burst of lines is not lost. If the size is refused, the pipe keeps its own.
        let _ = fcntl(of, FcntlArg::F_SETPIPE_SZ(ROOM));
    }
    let anew = match FileKind::of(of) {
        FileKind::Device if !of.is_terminal() => None,
        FileKind::File | FileKind::Pipe | FileKind::Device => open_anew(of).ok(),
        FileKind::Socket => None,
    };
    let of = anew.as_ref().map_or(of, AsFd::as_fd);
    let copy = fcntl(of, FcntlArg::F_DUPFD_CLOEXEC(ABOVE))
        .or_else(|_| fcntl(of, FcntlArg::F_DUPFD_CLOEXEC(ABOVE_AT_LEAST)))?;
    // SAFETY: fcntl has made this descriptor just now, and nothing else knows it.
    Ok(unsafe { OwnedFd::from_raw_fd(copy) })
}

fn open_anew(of: BorrowedFd) -> io::Result<OwnedFd> {
    let path = format!("/proc/self/fd/{}", of.as_raw_fd());
    let flags = libc::O_NONBLOCK | libc::O_NOCTTY | libc::O_APPEND;
    Ok(OpenOptions::new().write(true).custom_flags(flags).open(path)?.into())
}

/// Writes what can be written without waiting. Returns how many bytes that were, and why not more. Stops at the end of a line where the
/// kernel leaves the choice.
pub fn write(to: BorrowedFd, kind: FileKind, bytes: &[u8]) -> (usize, Option<Errno>) {
    let mut written = 0;
    while written < bytes.len() {
        match write_piece(to, kind, kind.piece(&bytes[written..])) {
            Ok(length) => written += length,
            Err(Errno::EINTR) => {}
            Err(error) => {
                if kind == FileKind::File {
                    written -= take_back(to, &bytes[..written]);
                }
                return (written, Some(error));
            }
        }
    }
    (written, None)
}

fn write_piece(to: BorrowedFd, kind: FileKind, piece: &[u8]) -> nix::Result<usize> {
    match kind {
        FileKind::File => write_to(to, piece),
        FileKind::Socket => send(to.as_raw_fd(), piece, MsgFlags::MSG_DONTWAIT | MsgFlags::MSG_NOSIGNAL),
        FileKind::Pipe | FileKind::Device => match write_nowait(to, piece) {
            // Terminals, and pipes before Linux 6.4.
            Err(Errno::EOPNOTSUPP | Errno::ENOSYS) => write_if_ready(to, piece),
            outcome => outcome,
        },
    }
}

fn write_nowait(to: BorrowedFd, piece: &[u8]) -> nix::Result<usize> {
    let slice = IoSlice::new(piece);
    // SAFETY: an IoSlice is an iovec, one is given and one counted, and its bytes live until the call is over. The offset -1 stands for
    // the open file's own.
    let written = unsafe { libc::pwritev2(to.as_raw_fd(), (&raw const slice).cast(), 1, -1, libc::RWF_NOWAIT) };
    Errno::result(written).map(|length| length as usize)
}

fn write_if_ready(to: BorrowedFd, piece: &[u8]) -> nix::Result<usize> {
    match poll(&mut [PollFd::new(to, PollFlags::POLLOUT)], PollTimeout::ZERO)? {
        0 => Err(Errno::EAGAIN),
        _ => write_to(to, piece),
    }
}

/// A full disk may have taken a part of a line, and the next line would follow it. Takes that part back, and returns how many bytes it
/// was. (A process that appends between the write and this loses as many; the disk is full at that moment.)
fn take_back(file: BorrowedFd, written: &[u8]) -> usize {
    let half = written.iter().rev().take_while(|byte| **byte != b'\n').count();
    if half == 0 {
        return 0;
    }
    let before = fstat(file).map(|status| status.st_size - half as i64).unwrap_or(-1);
    if before >= 0 && ftruncate(file, before).is_ok() { half } else { 0 }
}

#[cfg(test)]
mod tests {
    use std::{
        fs::File,
        io::{Read, Seek, SeekFrom},
    };

    use nix::sys::resource::{Resource, getrlimit, setrlimit};

    use super::*;

    fn lines(count: usize) -> Vec<u8> {
        (0..count).flat_map(|number| format!("line {number:0100}\n").into_bytes()).collect()
    }

    fn fill(to: BorrowedFd) -> usize {
        let all = lines(20_000);
        let (written, error) = write(to, FileKind::of(to), &all);
        assert_eq!(error, Some(Errno::EAGAIN));
        assert_eq!(all[written - 1], b'\n', "it ends with a line");
        written
    }

    #[test]
    fn a_full_pipe_is_not_waited_for_and_its_flags_are_left_alone() {
        let (mut reader, writer) = std::io::pipe().unwrap();
        let written = fill(writer.as_fd());
        let flags = fcntl(writer.as_fd(), FcntlArg::F_GETFL).unwrap();
        assert_eq!(flags & libc::O_NONBLOCK, 0);
        let mut got = vec![0; written];
        reader.read_exact(&mut got).unwrap();
        assert_eq!(write(writer.as_fd(), FileKind::Pipe, b"more\n"), (5, None));
    }

    #[test]
    fn neither_is_one_that_cannot_be_asked_in_the_call() {
        let (_reader, writer) = std::io::pipe().unwrap();
        let own = own(writer.as_fd()).unwrap();
        fill(writer.as_fd());
        assert_eq!(write_if_ready(writer.as_fd(), b"x"), Err(Errno::EAGAIN));
        assert_eq!(write_to(&own, &[b'x'; PIPE]), Err(Errno::EAGAIN), "an open file of our own does not wait");
    }

    #[test]
    fn neither_is_a_socket_that_nobody_reads() {
        let (_reader, writer) = std::os::unix::net::UnixStream::pair().unwrap();
        fill(writer.as_fd());
    }

    #[test]
    fn a_file_that_is_full_never_ends_with_half_a_line() {
        // The limit is of the whole process, and its standard output may be a file as well. It is beyond whatever that holds, and the
        // file under test is sparse up to there.
        const LIMIT: u64 = 1 << 40;
        const BEFORE: u64 = LIMIT - 1000;
        let path = std::env::temp_dir().join(format!("ostler-sink-{}", std::process::id()));
        let file = OpenOptions::new().create(true).append(true).open(&path).unwrap();
        file.set_len(BEFORE).unwrap();
        let (soft, hard) = getrlimit(Resource::RLIMIT_FSIZE).unwrap();
        // SAFETY: ignores the signal that comes with the error.
        unsafe { nix::sys::signal::signal(nix::sys::signal::Signal::SIGXFSZ, nix::sys::signal::SigHandler::SigIgn) }
            .unwrap();
        setrlimit(Resource::RLIMIT_FSIZE, LIMIT, hard).unwrap();
        let all = lines(20);
        let (written, error) = write(file.as_fd(), FileKind::of(file.as_fd()), &all);
        setrlimit(Resource::RLIMIT_FSIZE, soft, hard).unwrap();
        let mut there = Vec::new();
        let mut reader = File::open(&path).unwrap();
        reader.seek(SeekFrom::Start(BEFORE)).unwrap();
        reader.read_to_end(&mut there).unwrap();
        std::fs::remove_file(&path).unwrap();
        assert_eq!(error, Some(Errno::EFBIG));
        assert!(written > 0 && there == all[..written] && there.ends_with(b"\n"), "{written}");
    }

    #[test]
    fn a_long_line_goes_in_parts() {
        let (mut reader, writer) = std::io::pipe().unwrap();
        let line = [vec![b'a'; 10_000], b"\n".to_vec()].concat();
        assert_eq!(write(writer.as_fd(), FileKind::Pipe, &line), (10_001, None));
        let mut got = vec![0; 10_001];
        reader.read_exact(&mut got).unwrap();
        assert_eq!(got, line);
    }
}
