//! The words that the master, its templates and its workers speak to each other.
//!
//! Rare words (boot, fork, ready, drain) are JSON in one `SOCK_SEQPACKET` message each, so that a master and
//! a template of different releases can still understand each other. What changes with every request stands
//! in shared memory (see [`scoreboard`]), where it outlives the worker that wrote it; [`counters`] names all that is counted.

pub mod channel;
pub mod counters;
pub mod limits;
pub mod log;
pub mod message;
pub mod scoreboard;
pub mod sink;

pub use channel::Channel;
pub use message::*;

/// The version of these words. The engine refuses a master that speaks another.
pub const VERSION: u32 = 2;

/// The signal that asks a template, or a worker that boots, for its Python stacks: a real-time one that neither glibc nor systemd nor a
/// profiler is known to use. Its default is to end the process: it is sent to those who have said that they hear it.
pub fn stacks_signal() -> i32 {
    nix::libc::SIGRTMIN() + 11
}

/// The version of the packets on the exchange. Generations that write different ones have different exchanges: a connection
/// never reaches a worker that cannot read where it stands.
pub const EXCHANGE_VERSION: u16 = 1;

/// The descriptor at which a template finds its channel to the master.
pub const CHANNEL_FD: i32 = 3;
