//! What the master asks of the system beyond what safe crates offer: all unsafe of the daemon is in this folder.

pub mod clock;
pub mod custody;
pub mod descriptors;
pub mod diag;
pub mod errand;
pub mod identity;
pub mod names;
pub mod pidfd;
pub mod process;
pub mod signals;
pub mod terminal;
