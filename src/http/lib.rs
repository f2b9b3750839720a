//! HTTP/1.1 without I/O: bytes become requests, responses become bytes (RFC 9110, RFC 9112).
//!
//! A message has one reading, or it is refused: what could be understood in two ways is a [`Refusal`] with a status.
//!
//! ```text
//!            ┌ proxy/proxy_protocol: the line before the first request
//!            ├ uwsgi/: its variables as the text of HTTP/1 ─┐
//! bytes in ──┼ h1/request: RequestReader ─▶ RequestHead ─▶ target, proxy/ ─▶ what the application may see
//!            └ h1/chunked ─▶ the body
//!
//! bytes out ◀── h1/response: ResponseHead::write ◀── status and fields, checked one by one as the application gives them
//! ```
//!
//! | module | job |
//! |---|---|
//! | `head/` | the heads of requests and responses as values, without a protocol |
//! | `h1/` | these values from and to the text of HTTP/1; another version of HTTP would have a module beside it |
//! | `uwsgi/` | requests of the uwsgi protocol, which become the text that `h1/` reads |
//! | `target` | the target of a request and the hosts in it |
//! | `proxy/` | what proxies in front say of the client, and which of it is believed |
//! | `representation/` | which representation a request wants, in which coding, and which part of it |
//! | `answer`, `refusal` | the server's own answers, and why a request gets one |
//! | `syntax` | character classes and lines, on which all of it is built |
//!
//! ```
//! use ostler_http::{RequestHead, ResponseHead, h1::{Additions, Limits, Parse, RequestReader, ResponseFraming}};
//!
//! let bytes = b"GET /shop?page=2 HTTP/1.1\r\nHost: example.com\r\n\r\n";
//! let limits = Limits { line: 8190, fields: 100, field: 8190, head: 65536 };
//! let mut request = RequestHead::default();
//! assert_eq!(RequestReader::default().read(&mut request, bytes, &limits), Ok(Parse::Complete));
//! assert_eq!(request.path.of(bytes), b"/shop");
//!
//! let mut response = ResponseHead::default();
//! response.begin(b"200 OK").unwrap();
//! response.field(b"Content-Type", b"text/plain").unwrap();
//! let mut out = Vec::new();
//! let date = b"Sun, 06 Nov 1994 08:49:37 GMT";
//! let additions = Additions { date, server: b"ostler", request_id: b"", more: &[] };
//! response.write(&mut out, ResponseFraming::Length(2), request.version, request.keep_alive, additions);
//! out.extend(b"hi");
//! assert!(out.starts_with(b"HTTP/1.1 200 OK\r\n") && out.ends_with(b"\r\n\r\nhi"));
//! ```
#![forbid(unsafe_code)]

mod answer;
pub mod h1;
mod head;
pub mod proxy;
#[cfg(test)]
mod random;
mod refusal;
pub mod representation;
mod syntax;
pub mod target;
pub mod uwsgi;

pub use answer::{Answer, error_answer, explained_answer};
pub use head::{
    request::{Field, Framing, RequestHead, Span, Version},
    response::{Misuse, ResponseHead},
};
pub use refusal::Refusal;
