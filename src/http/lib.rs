//! HTTP/1.1 without I/O: bytes become requests, responses become bytes (RFC 9110, RFC 9112).
//!
//! A message has one reading, or it is refused: what could be understood in two ways is a [`Refusal`] with a status.
//!
//! ```text
//!            ┌ proxy_protocol (the line before the first request)
//! bytes in ──┼ RequestHead::parse ─▶ target, forwarded, hidden ─▶ what the application may see
//!            └ body::ChunkedDecoder ─▶ the body
//!
//! bytes out ◀── ResponseHead::write ◀── status and fields, checked one by one as the application gives them
//! ```
//!
//! ```
//! use ostler_http::{Limits, Parse, RequestHead, ResponseHead, response::ResponseFraming};
//!
//! let bytes = b"GET /shop?page=2 HTTP/1.1\r\nHost: example.com\r\n\r\n";
//! let limits = Limits { line: 8190, fields: 100, field: 8190, head: 65536 };
//! let mut request = RequestHead::default();
//! assert_eq!(request.parse(bytes, &limits), Ok(Parse::Complete));
//! assert_eq!(request.path.of(bytes), b"/shop");
//!
//! let mut response = ResponseHead::default();
//! response.begin(b"200 OK").unwrap();
//! response.field(b"Content-Type", b"text/plain").unwrap();
//! let mut out = Vec::new();
//! let date = b"Sun, 06 Nov 1994 08:49:37 GMT";
//! response.write(&mut out, ResponseFraming::Length(2), request.version, request.keep_alive, date, b"ostler");
//! out.extend(b"hi");
//! assert!(out.starts_with(b"HTTP/1.1 200 OK\r\n") && out.ends_with(b"\r\n\r\nhi"));
//! ```
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
