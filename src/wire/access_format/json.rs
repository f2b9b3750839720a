//! `json`, or `json:time,status,…`: an object a line, with the fields that are named, in their order.

use serde::{Deserialize, Serialize};

use super::{AccessFormat, Piece, Unreadable, named};

/// A field with a value of its own type: a number, a text, or null where there is nothing to tell.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Field {
    /// When the line was made, as in the error log.
    Time,
    /// What the request is called; null without `--request-id`.
    RequestId,
    /// The client's address; null on a Unix socket.
    Client,
    /// Of the request.
    Method,
    /// As sent, without the query.
    Path,
    /// As sent; empty if there is none.
    Query,
    /// Null if there was no response.
    Status,
    /// Of the request's body.
    BytesIn,
    /// Of the response's body.
    BytesOut,
    /// Seconds from the request's arrival to its call; null if it was not called.
    QueueTime,
    /// Seconds that the call took; null if there was none.
    ApplicationTime,
    /// Seconds from the request's first byte to the end of its response.
    TotalTime,
    /// The worker's slot.
    Worker,
    /// The worker's generation.
    Generation,
    /// Of the request.
    UserAgent,
    /// The Referer field.
    Referrer,
    /// The Host field.
    Host,
    /// `http` or `https`
    Scheme,
    /// `HTTP/1.0` or `HTTP/1.1`
    Protocol,
    /// Of Basic credentials.
    User,
    /// The worker's process.
    Pid,
}

/// The names of the fields. Those of `json` alone come first: [`USUAL`] of them.
pub const FIELDS: [(&str, Field); 21] = [
    ("time", Field::Time),
    ("request_id", Field::RequestId),
    ("client", Field::Client),
    ("method", Field::Method),
    ("path", Field::Path),
    ("query", Field::Query),
    ("status", Field::Status),
    ("bytes_in", Field::BytesIn),
    ("bytes_out", Field::BytesOut),
    ("queue_time", Field::QueueTime),
    ("application_time", Field::ApplicationTime),
    ("total_time", Field::TotalTime),
    ("worker", Field::Worker),
    ("generation", Field::Generation),
    ("user_agent", Field::UserAgent),
    ("referrer", Field::Referrer),
    ("host", Field::Host),
    ("scheme", Field::Scheme),
    ("protocol", Field::Protocol),
    ("user", Field::User),
    ("pid", Field::Pid),
];

/// How many of [`FIELDS`] a line has if none is named.
pub const USUAL: usize = 16;

/// Whether it is this form, and the names that are asked for, if any are.
pub(super) fn asked(format: &str) -> Option<Option<&str>> {
    let rest = format.strip_prefix("json")?;
    if rest.is_empty() { Some(None) } else { rest.strip_prefix(':').map(Some) }
}

pub(super) fn read(names: Option<&str>) -> Result<AccessFormat, Unreadable> {
    let usual = || FIELDS[..USUAL].iter().map(|(name, _)| *name).collect();
    let names: Vec<&str> = names.map_or_else(usual, |names| names.split(',').map(str::trim).collect());
    let mut read = AccessFormat { json: true, ..AccessFormat::default() };
    let mut keys: Vec<&str> = Vec::new();
    for name in names {
        let known = FIELDS.iter().find(|(known, _)| *known == name);
        let (key, piece) = match (known, named(name)) {
            (Some((_, field)), _) => (name, Piece::Value(*field)),
            (None, Some((field, kind))) => (field, read.named(field, kind)?),
            (None, None) => return Err(Unreadable::Field(name.into())),
        };
        if keys.contains(&key) {
            return Err(Unreadable::Other(format!("the field {key} is named twice")));
        }
        let begin = if keys.is_empty() { '{' } else { ',' };
        // A text is always JSON.
        let quoted = serde_json::to_string(key).unwrap_or_default();
        read.pieces.extend([Piece::Text(format!("{begin}{quoted}:")), piece]);
        keys.push(key);
    }
    read.pieces.push(Piece::Text("}".into()));
    Ok(read)
}
