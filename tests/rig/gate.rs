//! A gate: a call in the application waits at it until the test lets it go on.

use std::{
    io::Write,
    os::{
        fd::AsFd,
        unix::net::{UnixListener, UnixStream},
    },
};

use nix::poll::{PollFd, PollFlags, PollTimeout, poll};

use crate::{Folder, PATIENCE};

/// Applications connect to it and wait for what they can read from it: `tests/apps/corners.py` has pages that do.
pub struct Gate {
    listener: UnixListener,
    folder: Folder,
}

impl Gate {
    /// A closed one.
    #[allow(clippy::new_without_default, reason = "a default value that touches the disk would surprise")]
    pub fn new() -> Gate {
        let folder = Folder::new();
        let listener = UnixListener::bind(folder.join("gate")).expect("a private folder is writable");
        Gate { listener, folder }
    }

    /// The path that the application connects to.
    pub fn path(&self) -> String {
        self.folder.join("gate").display().to_string()
    }

    /// A Python statement for the application that waits here.
    pub fn statement(&self) -> String {
        let path = self.path();
        format!(
            "import socket; gate = socket.socket(socket.AF_UNIX); gate.connect({path:?}); gate.recv(1); gate.close()"
        )
    }

    /// Waits until a call has come to the gate.
    pub fn arrival(&self) -> Visitor {
        let mut descriptors = [PollFd::new(self.listener.as_fd(), PollFlags::POLLIN)];
        let patience = PollTimeout::try_from(PATIENCE).expect("the bounds of tests are short");
        assert_eq!(poll(&mut descriptors, patience), Ok(1), "nobody has come to the gate");
        Visitor(self.listener.accept().expect("poll(2) has just said that there is one").0)
    }
}

impl Gate {
    /// Whether a call is at the gate now.
    pub fn has_visitor(&self) -> bool {
        poll(&mut [PollFd::new(self.listener.as_fd(), PollFlags::POLLIN)], PollTimeout::ZERO) == Ok(1)
    }
}

/// A call that waits at a gate.
pub struct Visitor(UnixStream);

impl Visitor {
    /// Gives it a text, and lets it go on.
    pub fn let_go(mut self, text: &str) {
        self.0.write_all(text.as_bytes()).expect("the visitor still waits");
    }
}
