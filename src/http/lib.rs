//! HTTP/1.1 without I/O: bytes become requests, responses become bytes (RFC 9110, RFC 9112).
//!
//! The rule of the house: a message has one reading or none. What could be understood in two ways is refused.
#![forbid(unsafe_code)]

mod answer;
pub mod body;
pub mod forwarded;
pub mod hidden;
pub mod proxy_protocol;
#[cfg(test)]
mod random;
mod refusal;
pub mod request;
pub mod response;
mod syntax;
pub mod target;

pub use refusal::Refusal;
pub use request::{Field, Framing, Limits, Parse, RequestHead, Span, Version};
pub use response::{Misuse, ResponseHead};
