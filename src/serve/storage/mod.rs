//! Where bytes wait that are too many for memory.

pub(crate) mod budget;
pub(crate) mod spool;
pub(crate) mod store;
