//! From bytes to a request that a Python thread can answer.

pub(crate) mod body;
pub(crate) mod peer;
pub(crate) mod queue;
pub(crate) mod read;
pub(crate) mod work;
