//! The interface between the loop and an application. The engine's application is Python; the tests' is a script in Rust.

use std::{io, ops::Deref};

use ostler_http::RequestHead;

use crate::{
    Response,
    storage::{budget::Room, store::SpoolFile},
};

/// Something that answers requests on the Python threads.
pub trait Application: Sync {
    /// What one thread keeps from call to call (the engine: its caches, its interned names, its thread state).
    type Caller;

    /// Called once on each thread before its first call. The main thread is the first.
    fn caller(&self, thread: u16) -> Self::Caller;

    /// Takes what a call needs and only one thread can have (the interpreter lock). May wait for another thread. If that takes long,
    /// the loop takes the request back.
    fn prepare(&self, caller: &mut Self::Caller);

    /// Whether [`Application::prepare`] would return at once.
    fn is_prepared(&self, caller: &Self::Caller) -> bool;

    /// Answers one request, after [`Application::prepare`]. The thread may keep the interpreter lock when it returns: it calls
    /// [`Application::release`] before it waits for anything. If the call returns without [`Response::whole`], [`Response::end`] or
    /// [`Response::cut`], or panics, the client gets 500 if nothing was sent; otherwise the connection is cut.
    fn call(&self, caller: &mut Self::Caller, request: &mut Request<'_>, response: &mut Response<'_>);

    /// The Python stacks of all threads, as text for the log. Called from any thread, without the interpreter lock, which another
    /// thread may never release.
    fn stacks(&self) -> String;

    /// Ends the process with this exit code, at once: another thread is stuck in the application, so an orderly exit would never end.
    /// Standard streams are flushed if that is possible without waiting.
    fn abandon(&self, code: i32) -> !;

    /// The thread is about to wait: give the interpreter lock back if it is held. Called before each wait, cheap when
    /// there is nothing to do.
    fn release(&self, caller: &mut Self::Caller);
}

/// A complete request, borrowed from its connection for the length of a call.
pub struct Request<'a> {
    /// Its parts are spans of `bytes`.
    pub head: &'a RequestHead,
    /// The head's bytes.
    pub bytes: &'a [u8],
    /// Take it with `std::mem::take`: `wsgi.input` may outlive the call.
    pub body: Body,
    /// The client, from the socket or from a trusted proxy's fields.
    pub client: &'a Client,
    /// Fields that must not reach the application: indexes into `head.fields`, ascending (underscored names, and the
    /// forwarding fields of peers that are not trusted).
    pub hidden: &'a [u16],
}

/// The client, and the address that it used (PEP 3333's REMOTE_ADDR, SERVER_NAME, wsgi.url_scheme …).
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Client {
    /// `REMOTE_ADDR`; empty for a Unix socket, and where a trusted proxy hides its client.
    pub address: String,
    /// `REMOTE_PORT`
    pub port: Option<u16>,
    /// Whether the client came by https, as a trusted proxy says.
    pub https: bool,
    /// The index of the listener in [`ostler_wire::Boot::listeners`]; gives SERVER_NAME and SERVER_PORT where nothing below does.
    pub listener: u16,
    /// Replaces `HTTP_HOST` (X-Forwarded-Host of a trusted proxy, or the authority of an absolute target).
    pub host: Option<String>,
    /// Replaces `SERVER_PORT`.
    pub server_port: Option<u16>,
    /// Goes before PATH_INFO's prefix check: `SCRIPT_NAME` as a trusted proxy says, without a final slash.
    pub prefix: Option<String>,
}

/// A request's body.
#[derive(Default)]
pub enum Body {
    /// There is none, or its length is zero, or it was taken.
    #[default]
    Empty,
    /// All of it.
    Memory(BodyBytes),
    /// All of it, in an unlinked file; and its length in bytes.
    File(SpoolFile, u64),
    /// It is still arriving (`--no-request-buffering`).
    Live(LiveBody),
}

impl Body {
    /// How many bytes there are to read; `None` where that is not known.
    pub fn length(&self) -> Option<u64> {
        match self {
            Body::Empty => Some(0),
            Body::Memory(bytes) => Some(bytes.len() as u64),
            Body::File(_, length) => Some(*length),
            Body::Live(body) => body.length,
        }
    }
}

/// A body in memory. It counts towards the budget for bodies until it is dropped.
pub struct BodyBytes {
    bytes: Vec<u8>,
    /// None for a small one.
    _room: Option<Room>,
}

impl BodyBytes {
    pub(crate) fn new(bytes: Vec<u8>, room: Option<Room>) -> BodyBytes {
        BodyBytes { bytes, _room: room }
    }
}

impl Deref for BodyBytes {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        &self.bytes
    }
}

/// A body that is read from the connection while the application runs. Reading blocks: give the interpreter lock back first.
pub struct LiveBody {
    pub(crate) source: Box<dyn io::Read + Send>,
    /// The declared length; `None` for chunked.
    pub length: Option<u64>,
}

impl io::Read for LiveBody {
    /// Blocks until there is something; 0 at the body's end; an error if the client breaks off, is too slow, or the
    /// call is over.
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        self.source.read(into)
    }
}

/// Why nothing more can be sent.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Gone {
    /// The client has left.
    Left,
    /// This worker has given the request up, and has said why in the log: `--timeout`, a client that was too slow, a full disk.
    GivenUp,
}

/// A body in the application's own memory. It may be dropped by any thread, without the interpreter lock.
pub type Kept = Box<dyn AsRef<[u8]> + Send>;

/// Wraps a wait, so that the interpreter lock is given back meanwhile. The closure that waits uses nothing of Python: it is `Send`.
pub type Waiting<'w> = &'w mut dyn FnMut(&mut (dyn FnMut() + Send));

/// A body's length was not what the application's Content-Length promised.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct BodyLength {
    /// As promised.
    pub promised: u64,
    /// As given.
    pub given: u64,
}
