//! What the reader of a request's head keeps from call to call, while the head arrives in pieces.

/// A head that is not read to its end yet.
#[derive(Debug, Default)]
pub(crate) struct Reading {
    pub progress: Position,
    pub codings: Codings,
    pub connection: ConnectionOptions,
    pub has_content_type: bool,
}

/// How far the reading has come.
#[derive(Debug, Default)]
pub(crate) struct Position {
    pub stage: NextLine,
    /// Offset of the line that is being read.
    pub line: usize,
    /// Offset behind the bytes that have been searched for its end.
    pub seen: usize,
}

/// What the next line is.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
pub(crate) enum NextLine {
    #[default]
    Start,
    RequestLine,
    Fields,
}

/// What the Transfer-Encoding fields have said so far.
#[derive(Debug, Default)]
pub(crate) struct Codings {
    pub count: u16,
    pub chunked: u16,
    /// Whether `chunked` was the last one.
    pub ended: bool,
}

/// What the Connection fields have said so far.
#[derive(Debug, Default)]
pub(crate) struct ConnectionOptions {
    pub close: bool,
    pub keep_alive: bool,
}
