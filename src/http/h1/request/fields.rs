//! What fields say about the message itself: its host, its framing, its connection (RFC 9112 §3.2, §6, §9).

use super::RequestReader;
use crate::{
    Framing, Refusal, RequestHead, Version,
    proxy::forwarded,
    syntax::{self, decimal, trim},
    target,
};

/// What the Transfer-Encoding fields have said so far.
#[derive(Debug, Default)]
pub(super) struct Codings {
    count: u16,
    chunked: u16,
    /// Whether `chunked` was the last one.
    ended: bool,
}

/// What the Connection fields have said so far.
#[derive(Debug, Default)]
pub(super) struct ConnectionOptions {
    close: bool,
    keep_alive: bool,
}

impl RequestReader {
    /// Keeps what the field says about the message itself.
    #[inline]
    pub(super) fn note(&mut self, head: &mut RequestHead, name: &[u8], value: &[u8]) -> Result<(), Refusal> {
        match name.len() {
            4 if syntax::is_name(name, b"host") => note_host(head, value),
            6 if syntax::is_name(name, b"expect") => note_expectation(head, value),
            10 if syntax::is_name(name, b"connection") => {
                self.note_connection(value);
                Ok(())
            }
            12 if syntax::is_name(name, b"content-type") => self.note_content_type(),
            14 if syntax::is_same_variable(name, b"content-length") => note_length(head, name, value),
            17 if syntax::is_same_variable(name, b"transfer-encoding") => self.note_codings(name, value),
            9 | 12.. => {
                head.forwarding |= forwarded::is_forwarding(name);
                Ok(())
            }
            _ => Ok(()),
        }
    }

    /// RFC 9110 §5.3: a field that is no list comes once. Of two, the application and a filter in front of it might each take another.
    fn note_content_type(&mut self) -> Result<(), Refusal> {
        match std::mem::replace(&mut self.has_content_type, true) {
            false => Ok(()),
            true => Err(Refusal::malformed("more than one Content-Type")),
        }
    }

    /// RFC 9112 §9.3
    fn note_connection(&mut self, value: &[u8]) {
        for option in value.split(|&byte| byte == b',').map(trim) {
            self.connection.close |= option.eq_ignore_ascii_case(b"close");
            self.connection.keep_alive |= option.eq_ignore_ascii_case(b"keep-alive");
        }
    }

    /// RFC 9112 §6.1. An empty element is refused: others might not skip it.
    fn note_codings(&mut self, name: &[u8], value: &[u8]) -> Result<(), Refusal> {
        if name[8] == b'_' {
            return Err(Refusal::malformed("Transfer-Encoding spelt with an underscore"));
        }
        for coding in value.split(|&byte| byte == b',').map(trim) {
            if !syntax::is_token_text(coding) {
                return Err(Refusal::malformed("Transfer-Encoding is no list of codings"));
            }
            let chunked = coding.eq_ignore_ascii_case(b"chunked");
            let codings = &mut self.codings;
            codings.ended = chunked;
            codings.chunked = codings.chunked.saturating_add(chunked.into());
            codings.count = codings.count.saturating_add(1);
        }
        Ok(())
    }

    /// Decides what depends on several fields, when all are known.
    pub(super) fn conclude(&self, head: &mut RequestHead) -> Result<(), Refusal> {
        if head.host.is_none() && head.version == Version::Http11 {
            return Err(Refusal::malformed("no Host"));
        }
        if self.codings.count > 0 {
            head.framing = self.chunked(head)?;
        }
        let ConnectionOptions { close, keep_alive } = self.connection;
        head.keep_alive = !close && (head.version == Version::Http11 || keep_alive);
        // RFC 9110 §10.1.1: ignored from 1.0, and needless without a body.
        let body = !matches!(head.framing, Framing::None | Framing::Length(0));
        head.expects_continue &= body && head.version == Version::Http11;
        Ok(())
    }

    /// RFC 9112 §6.1 and §6.3: `chunked`, once, last, and in this implementation alone.
    fn chunked(&self, head: &RequestHead) -> Result<Framing, Refusal> {
        let why = match &self.codings {
            _ if head.framing != Framing::None => "both Content-Length and Transfer-Encoding",
            _ if head.version == Version::Http10 => "Transfer-Encoding in HTTP/1.0",
            Codings { ended: false, .. } => "chunked is not the last transfer coding",
            Codings { chunked: 1, count: 1, .. } => return Ok(Framing::Chunked),
            Codings { chunked: 1, .. } => return Err(Refusal::not_implemented("transfer coding other than chunked")),
            _ => "chunked more than once",
        };
        Err(Refusal::malformed(why))
    }
}

/// RFC 9112 §3.2: one, and well formed.
fn note_host(head: &mut RequestHead, value: &[u8]) -> Result<(), Refusal> {
    if target::host(value).is_none() {
        return Err(Refusal::malformed("Host is no host"));
    }
    match head.host.replace((head.fields.len() - 1) as u16) {
        None => Ok(()),
        Some(_) => Err(Refusal::malformed("more than one Host")),
    }
}

/// RFC 9110 §10.1.1
fn note_expectation(head: &mut RequestHead, value: &[u8]) -> Result<(), Refusal> {
    head.expects_continue = true;
    if value.eq_ignore_ascii_case(b"100-continue") {
        return Ok(());
    }
    Err(Refusal::expectation("expectation other than 100-continue"))
}

/// RFC 9112 §6.2. RFC 9110 §8.6 lets equal lengths pass; a sender that repeats itself is not worth the risk.
fn note_length(head: &mut RequestHead, name: &[u8], value: &[u8]) -> Result<(), Refusal> {
    if name[7] == b'_' {
        return Err(Refusal::malformed("Content-Length spelt with an underscore"));
    }
    if head.framing != Framing::None {
        return Err(Refusal::malformed("more than one Content-Length"));
    }
    if value.is_empty() || !value.iter().all(u8::is_ascii_digit) {
        return Err(Refusal::malformed("Content-Length is no number"));
    }
    let length = decimal(value).ok_or(Refusal::body_too_large("Content-Length above 64 bits"))?;
    head.framing = Framing::Length(length);
    Ok(())
}
