//! What the master owns outside of its processes: sockets, files, and the channels to other processes.

pub mod control;
pub mod keeper;
pub mod line;
pub mod listen;
pub mod logs;
pub mod notify;
pub mod page;
pub mod pidfile;
pub mod smoke;
pub mod statsd;
pub mod unix_socket;
pub mod watched_files;
