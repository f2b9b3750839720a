//! What the master, its templates and its workers say to each other. This crate decides nothing.
//!
//! ```text
//!             ToTemplate ─▶                ◀─ FromWorker
//! template g1 ◀───────────▶    master    ◀──────────────▶ worker g1.0 ◀──▶ exchange ◀──▶ worker g1.1
//!             ◀─ FromTemplate      │        ToWorker ─▶        │
//!                                  └── reads ── scoreboard ◀───┘ writes its slot
//! ```
//!
//! Rare messages (boot, fork, ready, drain; see [`message`]) are JSON in one `SOCK_SEQPACKET` packet each, so that a master and
//! a template of different releases still understand each other. What changes with every request stands
//! in shared memory (see [`scoreboard`]), where it outlives the worker that wrote it; [`counters`] names all that is counted. The
//! log (see [`log`] and [`sink`]) is written by every process itself.
//!
//! ```
//! use ostler_wire::{Channel, ToWorker};
//!
//! let (master, worker) = Channel::pair()?;
//! master.send(&ToWorker::Serve, &[])?;
//! let (message, descriptors) = worker.receive::<ToWorker>()?.expect("the master has not closed its end");
//! assert!(matches!(message, ToWorker::Serve) && descriptors.is_empty());
//! # Ok::<(), std::io::Error>(())
//! ```

pub mod access_format;
pub mod channel;
pub mod counters;
pub mod limits;
pub mod log;
pub mod message;
pub mod meters;
pub mod own_request;
pub mod scoreboard;
pub mod settings;
pub mod sink;
pub mod standard;
pub mod title;

pub use channel::Channel;
pub use message::*;
pub use own_request::OwnRequest;
pub use settings::*;

/// The version of these words. The engine refuses a master that speaks another.
pub const VERSION: u32 = 3;

/// The signal that asks a template, or a worker that boots, for its Python stacks: a real-time one that neither glibc nor systemd nor a
/// profiler is known to use. Its default is to end the process: it is sent to those who have said that they hear it.
pub fn stacks_signal() -> i32 {
    nix::libc::SIGRTMIN() + 11
}

/// The version of the packets on the exchange. Generations that write different ones have different exchanges: a connection
/// never reaches a worker that cannot read where it stands.
pub const EXCHANGE_VERSION: u16 = 2;

/// The descriptor at which a template finds its channel to the master.
pub const CHANNEL_FD: i32 = 3;
