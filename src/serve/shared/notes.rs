//! What calls tell the loop while they go on: that their outboxes are to be drained.

use std::sync::Arc;

use crate::{poll::timers::Token, storage::outbox::Outbox};

/// Something that a thread tells the loop during its call.
pub(crate) enum CallNote {
    /// Drain this while its call goes on: its client is slow, or blocks lie in it that the call has not sent itself meanwhile.
    Outbox(Token, Arc<Outbox>),
}

/// The notes that nobody has read yet.
#[derive(Default)]
pub(crate) struct Notes {
    list: Vec<CallNote>,
    /// The stand-by reads them every tick. It stops when it finds none.
    watched: bool,
}

impl Notes {
    /// Adds a note, in place of an earlier one of the same connection.
    pub fn add(&mut self, note: CallNote) {
        let CallNote::Outbox(token, _) = &note;
        match self.list.iter_mut().find(|CallNote::Outbox(other, _)| other == token) {
            Some(earlier) => *earlier = note,
            None => self.list.push(note),
        }
    }

    /// Has the stand-by read them every tick. Returns whether it did not do that already.
    pub fn watch(&mut self) -> bool {
        !std::mem::replace(&mut self.watched, true)
    }

    pub fn are_watched(&self) -> bool {
        self.watched
    }

    /// All of them.
    pub fn take(&mut self) -> Vec<CallNote> {
        self.watched &= !self.list.is_empty();
        std::mem::take(&mut self.list)
    }
}
