//! Writes response heads as HTTP/1.1 text (RFC 9112 §4 to §6): the only place where such text is made.

use crate::{RequestHead, ResponseHead, Version, head::response::append_line};

/// `HTTP/1.1 100 Continue`
pub const CONTINUE: &[u8] = b"HTTP/1.1 100 Continue\r\n\r\n";

/// How the client knows where a response's body ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ResponseFraming {
    /// `Content-Length`, as the application said or as the server counted.
    Length(u64),
    /// `Transfer-Encoding: chunked`
    Chunked,
    /// The connection's end (to an HTTP/1.0 client).
    Close,
    /// The status or the method forbids a body (RFC 9110 §6.4.1). A Content-Length of the application's stays (HEAD, 304).
    Bodiless,
}

/// What the server adds to each head.
#[derive(Debug, Clone, Copy)]
pub struct Additions<'a> {
    /// An IMF-fixdate.
    pub date: &'a [u8; 29],
    /// For `Server`; empty for none.
    pub server: &'a [u8],
    /// For `X-Request-ID`; empty for none.
    pub request_id: &'a [u8],
    /// More fields, each as `Name: value` with CRLF, or empty.
    pub more: &'a [&'a [u8]],
}

impl ResponseHead {
    /// How a body of this response to this request is framed; `whole` is its length where all of it is known. The application's
    /// Content-Length takes precedence.
    pub fn framing(&self, request: &RequestHead, head_request: bool, whole: Option<u64>) -> ResponseFraming {
        if head_request || matches!(self.status(), 204 | 304) {
            return ResponseFraming::Bodiless;
        }
        match (self.content_length().or(whole), request.version) {
            (Some(length), _) => ResponseFraming::Length(length),
            (None, Version::Http11) => ResponseFraming::Chunked,
            (None, Version::Http10) => ResponseFraming::Close,
        }
    }

    /// Appends the whole head to `out`: status line, the application's fields, what is added (unless the application gave it), the
    /// framing's field, `Connection: close` or, to a 1.0 client that asked for it, `keep-alive`; and the empty line. A body that ends with
    /// the connection always closes it.
    pub fn write(
        &self,
        out: &mut Vec<u8>,
        framing: ResponseFraming,
        version: Version,
        keep_alive: bool,
        additions: Additions,
    ) {
        let Additions { date, server, request_id, more } = additions;
        out.reserve(self.lines.len() + server.len() + 170);
        out.extend_from_slice(b"HTTP/1.1 ");
        match (framing, self.status()) {
            // RFC 9110 §8.6: no Content-Length with 204, nor beside another framing.
            (ResponseFraming::Chunked | ResponseFraming::Close, _) | (ResponseFraming::Bodiless, 204) => {
                out.extend_from_slice(&self.lines[..self.length_line.start]);
                out.extend_from_slice(&self.lines[self.length_line.end..]);
            }
            (ResponseFraming::Length(_) | ResponseFraming::Bodiless, _) => out.extend_from_slice(&self.lines),
        }
        if !self.has_date {
            append_line(out, b"Date", date);
        }
        if !self.has_server && !server.is_empty() {
            append_line(out, b"Server", server);
        }
        if !self.has_request_id && !request_id.is_empty() {
            append_line(out, b"X-Request-ID", request_id);
        }
        more.iter().for_each(|line| out.extend_from_slice(line));
        match framing {
            ResponseFraming::Length(length) if self.content_length().is_none() => {
                append_line(out, b"Content-Length", itoa::Buffer::new().format(length).as_bytes());
            }
            ResponseFraming::Chunked => out.extend_from_slice(b"Transfer-Encoding: chunked\r\n"),
            ResponseFraming::Length(_) | ResponseFraming::Close | ResponseFraming::Bodiless => {}
        }
        if !keep_alive || framing == ResponseFraming::Close {
            out.extend_from_slice(b"Connection: close\r\n");
        } else if version == Version::Http10 {
            out.extend_from_slice(b"Connection: keep-alive\r\n");
        }
        out.extend_from_slice(b"\r\n");
    }

    /// Appends a 103 with these fields and the empty line (RFC 8297).
    pub fn write_early_hints(&self, out: &mut Vec<u8>) {
        out.extend_from_slice(b"HTTP/1.1 103 Early Hints\r\n");
        out.extend_from_slice(self.field_lines());
        out.extend_from_slice(b"\r\n");
    }
}

#[cfg(test)]
mod tests;
