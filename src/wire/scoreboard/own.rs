//! A worker's own place, which is found once: the worker counts there several times for each request.

use std::{ptr::NonNull, sync::Arc};

use super::{Scoreboard, Slot};
use crate::meters::Meters;

/// A slot and its meters.
pub struct Own {
    slot: NonNull<Slot>,
    meters: Option<NonNull<Meters>>,
    _board: Arc<Scoreboard>,
}

impl Own {
    /// That of a slot. Panics where `slot` is not below [`Scoreboard::slots`].
    pub fn new(board: Arc<Scoreboard>, slot: u16) -> Own {
        Own { slot: board.slot(slot).into(), meters: board.meters(slot).map(NonNull::from), _board: board }
    }

    /// See [`Scoreboard::slot`].
    pub fn slot(&self) -> &Slot {
        // SAFETY: it was made from a reference into the board's mapping, which stays as long as the board, and that as long as this.
        unsafe { self.slot.as_ref() }
    }

    /// See [`Scoreboard::meters`].
    pub fn meters(&self) -> Option<&Meters> {
        // SAFETY: as above.
        self.meters.map(|meters| unsafe { meters.as_ref() })
    }
}

// SAFETY: all that can be reached through it are atomics.
unsafe impl Send for Own {}
// SAFETY: as above.
unsafe impl Sync for Own {}
