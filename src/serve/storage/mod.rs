//! Memory and files for bodies that wait.

pub(crate) mod budget;
pub(crate) mod spool;
pub(crate) mod store;
