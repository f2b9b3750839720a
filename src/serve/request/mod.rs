//! From bytes to a request that a Python thread can answer. The loop reads them (see `event_loop::read`).

pub(crate) mod body;
pub(crate) mod identity;
pub(crate) mod incoming;
pub(crate) mod peer;
pub(crate) mod rate;
mod tls_variables;
