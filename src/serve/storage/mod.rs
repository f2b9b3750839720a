//! Memory and files for bodies that wait: of requests for their calls, of responses for their clients.

pub(crate) mod body;
pub(crate) mod budget;
pub(crate) mod outbox;
pub(crate) mod spool;
pub(crate) mod store;
