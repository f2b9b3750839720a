//! One line of the access log, from the pieces of its format.

use std::time::Duration;

use ostler_wire::{
    access_format::{AccessFormat, Piece},
    log::{local, terminal},
};

use super::{Times, atoms, json};
use crate::{request::incoming::Incoming, response::Outgoing};

/// Makes lines.
pub(super) struct Lines {
    format: AccessFormat,
    /// A terminal shows lines in colours, by their status.
    coloured: bool,
    /// What each line begins with.
    level: &'static str,
    /// The present second, as the format has it.
    time: String,
}

/// A request that is over.
#[derive(Clone, Copy)]
pub(super) struct Finished<'a> {
    pub incoming: &'a Incoming,
    pub outgoing: &'a Outgoing,
    pub times: &'a Times,
}

impl Lines {
    pub fn new(format: AccessFormat) -> Lines {
        Lines { format, coloured: false, level: "", time: String::new() }
    }

    /// Lines from now on are for a terminal with colours, for the journal, or for something else.
    pub fn suit(&mut self, coloured: bool, journal: bool) {
        // Each line of JSON is JSON, wherever it goes.
        self.coloured = coloured && !self.format.json;
        // Or else a line that begins with what a client has sent could have any level.
        self.level = if journal { "<6>" } else { "" };
    }

    /// A new second has begun.
    pub fn update_time(&mut self, since_1970: Duration) {
        let form = if self.format.json { json::TIME } else { atoms::TIME };
        self.time = local(since_1970).strftime(form).to_string();
    }

    /// Appends a line.
    pub fn write(&self, batch: &mut Vec<u8>, finished: Finished) {
        let Finished { incoming, outgoing, times } = finished;
        let colour = if self.coloured { terminal::colour_of(outgoing.status) } else { "" };
        batch.extend_from_slice(self.level.as_bytes());
        batch.extend_from_slice(colour.as_bytes());
        // The response's fields come first, then those of environ.
        let noted = |index: usize| outgoing.noted[index].as_deref();
        for piece in &self.format.pieces {
            let value = match piece {
                Piece::Text(text) => {
                    batch.extend_from_slice(text.as_bytes());
                    continue;
                }
                Piece::Value(field) => {
                    json::value(batch, *field, finished, &self.time);
                    continue;
                }
                Piece::Atom(b't') => {
                    batch.extend_from_slice(self.time.as_bytes());
                    continue;
                }
                Piece::Atom(letter) => {
                    atoms::atom(batch, *letter, incoming, outgoing, times.response);
                    continue;
                }
                Piece::RequestField(name) => incoming.head.value(&incoming.bytes, name.as_bytes()),
                Piece::ResponseField(index) => noted(*index),
                Piece::Variable(index) => noted(self.format.response_fields.len() + index),
            };
            match self.format.json {
                true => json::text(batch, value),
                false => atoms::quoted(batch, value),
            }
        }
        if !colour.is_empty() {
            batch.extend_from_slice(terminal::PLAIN.as_bytes());
        }
        batch.push(b'\n');
    }
}

/// A part of a request that could not be parsed is unknown rather than empty.
pub(super) fn told(value: &[u8]) -> Option<&[u8]> {
    (!value.is_empty()).then_some(value)
}
