//! What the master owns outside of its processes: sockets, files, and the channels to whoever speaks to it.

pub mod control;
pub mod line;
pub mod listen;
pub mod logs;
pub mod notify;
pub mod pidfile;
pub mod unix_socket;
