//! The threads of a worker: which one runs its loop, and which ones call the application.
//!
//! This is the leader/followers pattern. One thread leads: it waits for events. A thread locks the loop while it works on it, but not
//! while it waits or calls. A Python thread that leads calls the application itself, so that a fast request costs no hand-off. Where
//! calls are expected to wait, the leader promotes a free thread to leader before it calls (see lead.rs). After its call, every thread
//! finishes its own connection, makes the calls that are ready, and leads if nobody does.
//! The stand-by thread watches calls that are made while nobody leads. When one is long, the stand-by leads until a Python thread is
//! free, so that reads, writes, time-outs and hand-overs go on while Python works. It ticks only while there are such calls; an idle
//! worker makes no wake-ups.
//!
//! Here stands who does what; `event_loop::crew` has the threads themselves.

pub(crate) mod lead;
pub(crate) mod watch;
