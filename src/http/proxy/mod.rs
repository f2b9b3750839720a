//! What proxies in front say of the client, and which of it an application may see.

pub mod forwarded;
pub mod hidden;
pub mod identity;
pub mod proxy_protocol;
