//! The half of a worker that knows no Python: event loop, connections, exchange, bodies, time-outs, access log.
//!
//! ```text
//!               ┌── event_loop: one thread at a time leads it, and waits for what comes next ──┐
//! listeners ──▶ intake ──▶ request ──▶ calls ──▶ Application::call ──▶ response ──▶ client     │
//!               │              │                          ▲                  │                 │
//!               │              └─ storage: bodies         └ threads          └─ transport      │
//! siblings ◀──▶ exchange: connections move to another worker                                   │
//! master ◀────▶ life: ready, draining, recycled, ended                                         │
//!               └──────────────────────────────────────────────────────────────────────────────┘
//! ```
//!
//! `event_loop` has a file for each of these moments, and is the only room that knows the loop. The others hold structs that own their
//! fields; each uses those below it alone (see the map in `src/README.md`).
//!
//! [`run`] serves with any [`Application`]; the engine's calls Python. One in Rust:
//!
//! ```
//! use ostler_http::ResponseHead;
//! use ostler_serve::{Application, Request, Response};
//!
//! struct Hello;
//!
//! impl Application for Hello {
//!     type Caller = ResponseHead;
//!
//!     fn caller(&self, _thread: u16) -> ResponseHead {
//!         ResponseHead::default()
//!     }
//!
//!     fn call(&self, head: &mut ResponseHead, request: &mut Request<'_>, response: &mut Response<'_>) {
//!         head.begin(b"200 OK").expect("it is a status");
//!         head.field(b"Content-Type", b"text/plain").expect("it is a field");
//!         let path = request.head.path.of(request.bytes);
//!         // A client that has left is no concern of the application's.
//!         let _ = response.whole(head, path, &mut |wait| wait());
//!     }
//!
//!     // There is no interpreter lock to take and to give back, and there are no stacks to show.
//!     fn prepare(&self, _head: &mut ResponseHead) {}
//!     fn is_prepared(&self, _head: &ResponseHead) -> bool { true }
//!     fn release(&self, _head: &mut ResponseHead) {}
//!     fn stacks(&self) -> String { String::new() }
//!     fn abandon(&self, code: i32) -> ! { std::process::exit(code) }
//! }
//! # use std::{io::{self, Read, Write, pipe}, net::{TcpListener, TcpStream}, sync::Arc, thread};
//! # use ostler_serve::{LoopEnd, Membership, Setup};
//! # use ostler_wire::{Boot, Channel, Listener, ToWorker, log, scoreboard::Scoreboard};
//!
//! // What a master gives to a worker.
//! let listener = TcpListener::bind("127.0.0.1:0")?;
//! listener.set_nonblocking(true)?;
//! let address = listener.local_addr()?;
//! let (master, channel) = Channel::pair()?;
//! let (give, take) = Channel::pair()?;
//! let (terminated, _signals) = pipe()?;
//! let named = Listener::http(format!("http://{address}"), "127.0.0.1", Some(address.port()));
//! let setup = Setup {
//!     boot: Boot { listeners: vec![named], ..Boot::default() },
//!     slot: 0,
//!     listeners: vec![listener.into()],
//!     site: Some(Membership { channel, exchange_give: give.into(), exchange_take: take.into(), becomes: Arc::default() }),
//!     terminated: terminated.into(),
//!     attention: None,
//!     access_log: None,
//!     signer: None,
//!     scoreboard: Arc::new(Scoreboard::new(1, 1)?),
//!     log: log::logger(log::Process::Worker(1, 0), slog::Level::Warning, &Default::default()),
//! };
//! let worker = thread::spawn(|| ostler_serve::run(setup, &Hello));
//! master.send(&ToWorker::Serve, &[])?;
//!
//! let mut client = TcpStream::connect(address)?;
//! client.write_all(b"GET /hello HTTP/1.0\r\n\r\n")?;
//! let mut answer = String::new();
//! client.read_to_string(&mut answer)?;
//! assert!(answer.starts_with("HTTP/1.1 200 OK") && answer.ends_with("/hello"), "{answer}");
//!
//! master.send(&ToWorker::Quit, &[])?;
//! assert_eq!(worker.join().expect("it has not panicked")?, LoopEnd::Quit);
//! # Ok::<(), io::Error>(())
//! ```
#![deny(unsafe_code)]

use std::{io, sync::Arc};

mod application;
mod calls;
mod compression;
mod connection;
mod event_loop;
mod exchange;
mod files;
mod intake;
mod life;
mod log_limits;
mod moment;
mod poll;
mod request;
mod response;
mod shared;
mod storage;
mod threads;
mod transport;

pub use application::{Application, Request};
pub use event_loop::setup::{Membership, Setup};
#[cfg(fuzzing)]
pub use files::fuzzing::Looker;
pub use life::LoopEnd;
pub use moment::Moment;
pub use request::peer::Client;
pub use response::{BodyLength, Response, Waiting};
pub use storage::{
    body::{Body, BodyBytes, LiveBody},
    outbox::{Gone, Kept},
    store::SpoolFile,
};

use event_loop::{Loop, crew::Crew};
use shared::Shared;

/// Serves until told to end. The calling thread is the first that calls the application, which is loaded. Tells the master, if there is
/// one, that the worker is ready. Starts the other threads itself; they have ended when this returns. An error means that the kernel refused a descriptor at the start.
pub fn run<A: Application>(setup: Setup, application: &A) -> io::Result<LoopEnd> {
    let shared = Shared::new(setup.boot.clone(), setup.slot, setup.scoreboard.clone(), setup.log.clone())?;
    let shared = Arc::new(shared);
    let event_loop = Loop::new(setup, shared.clone())?;
    Ok(Crew::new(shared, event_loop, application).run())
}
