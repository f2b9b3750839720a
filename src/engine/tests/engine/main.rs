//! The engine as a master sees it: real interpreters, real sockets, no daemon.

mod rig;

mod boot;
mod calls;
mod life;
