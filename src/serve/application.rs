//! The interface between the loop and an application. The engine's application is Python; the tests' is a script in Rust.

use ostler_http::RequestHead;
use ostler_wire::FailedCode;

use crate::{request::peer::Client, response::Response, storage::body::Body};

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

    /// `--reload`: newer code does not come up, and browsers are to be shown why.
    fn show(&self, _failed: FailedCode) {}

    /// Ends the process with this exit code, at once: another thread is stuck in the application, so an orderly exit would never end.
    /// Standard streams are flushed if that is possible without waiting.
    fn abandon(&self, code: i32) -> !;

    /// [`crate::Setup::attention`] has become readable. Called on the calling thread, between two calls and without the loop's lock.
    fn attend(&self, _caller: &mut Self::Caller) {}

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
    /// What it is called, if requests have ids (`--request-id`).
    pub id: Option<&'a str>,
    /// The application is to find that in X-Request-ID, and the client's fields do not have it.
    pub adds_id: bool,
}
