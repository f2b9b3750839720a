//! HTTP/1.1 without I/O: bytes become requests, responses become bytes (RFC 9110, RFC 9112).
#![forbid(unsafe_code)]

pub mod body;
pub mod request;
pub mod response;

pub use request::{Field, Framing, Limits, Parse, Refusal, RequestHead, Span, Version};
pub use response::{Misuse, ResponseHead};
