//! Connections that idle between two requests: the one that has idled longest gives way to a new one where there is no room for both.
//! And what a flood of connections or bodies leaves behind, which is given back.

use std::{
    sync::atomic::Ordering::Relaxed,
    time::{Duration, Instant},
};

use ostler_wire::scoreboard::WorkerState;
use slog::debug;

use crate::{
    connection::{Next, Phase},
    event_loop::{Loop, timers::Token},
};

/// So many are found at once, so that not each newcomer costs a look at all connections.
const FOUND: usize = 64;
/// A worker that leaves newcomers to its siblings, because they have room, looks again after so long.
const LEFT_TO_SIBLINGS: Duration = Duration::from_millis(10);
/// Fewer connections than this leave nothing behind that is worth giving back.
const FLOOD: usize = 256;

/// See [`Loop::place_for_one`].
#[derive(Default)]
pub(crate) struct Idle {
    /// Those that have idled longest when it was last looked, and since when; the longest last.
    found: Vec<(Option<Instant>, Token)>,
    /// The most connections since memory was last given back.
    most: usize,
}

/// Where a new connection finds its place: in that of an idle one, if there is no other.
pub(crate) struct Admission(Option<Token>);

impl Loop {
    /// Whether there is room for one more connection.
    pub(crate) fn has_room(&self) -> bool {
        self.connections.len() < self.intake.most && self.shared.store.descriptors_left() > 0
    }

    /// A place for one more connection; where there is none, nobody is accepted until there is.
    pub(crate) fn place_for_one(&mut self) -> Option<Admission> {
        if self.has_room() {
            return Some(Admission(None));
        }
        if self.sibling_has_room() {
            self.intake.paused_until = Some(self.clock.now + LEFT_TO_SIBLINGS);
            self.arm();
            return None;
        }
        let longest = self.longest_idle();
        if longest.is_none() {
            self.intake.crowded = true;
            self.complain("as many connections as there may be, and none of them idles");
            self.arm();
        }
        longest.map(|token| Admission(Some(token)))
    }

    /// Whether another worker would take a newcomer. All workers have the same bound.
    fn sibling_has_room(&self) -> bool {
        let siblings = self.shared.scoreboard.siblings(self.shared.slot);
        siblings.filter(|slot| matches!(slot.state(), WorkerState::Idle | WorkerState::Working)).any(|slot| {
            let connections = slot.connections.load(Relaxed) as usize;
            connections < self.intake.most
        })
    }

    /// The new connection is there.
    pub(crate) fn vacate(&mut self, place: Admission) {
        self.idle.most = self.idle.most.max(self.connections.len() + 1);
        if let Admission(Some(token)) = place {
            debug!(self.shared.log, "an idle connection gave way to a new one");
            self.after(token, Next::Close);
        }
    }

    fn longest_idle(&mut self) -> Option<Token> {
        self.still_idle().or_else(|| {
            self.find_idle();
            self.still_idle()
        })
    }

    /// The next of those that were found which has idled ever since.
    fn still_idle(&mut self) -> Option<Token> {
        while let Some((since, token)) = self.idle.found.pop() {
            if self.idle_since(token) == Some(since)
                && let Some(connection) = self.connection(token)
                && !connection.transport.has_bytes()
            {
                return Some(token);
            }
        }
        None
    }

    fn find_idle(&mut self) {
        let tokens = self.connections.iter().map(|connection| connection.token);
        let mut found: Vec<_> = tokens.filter_map(|token| Some((self.idle_since(token)?, token))).collect();
        if found.len() > FOUND {
            found.select_nth_unstable(FOUND);
            found.truncate(FOUND);
        }
        found.sort_unstable_by(|one, other| other.cmp(one));
        self.idle.found = found;
    }

    /// Since when nothing of a request has come; within, `None` where nothing bounds that.
    fn idle_since(&self, token: Token) -> Option<Option<Instant>> {
        let connection = self.connections.peek(token)?;
        let idles = matches!(connection.phase, Phase::Head) && connection.partial.is_none() && !connection.readable;
        let worker = &self.shared.boot.worker;
        let wait = if connection.requests == 0 { worker.header_timeout } else { worker.keep_alive };
        idles.then(|| connection.deadline.due().and_then(|due| due.checked_sub(wait)))
    }

    /// After a flood of connections or of bodies, what they needed is given back to the system.
    pub(crate) fn give_back_memory(&mut self) {
        if self.idle.most >= FLOOD && self.connections.len() <= self.idle.most / 4 {
            self.shrink();
            trim();
        } else if self.shared.store.bodies.has_ebbed() {
            trim();
        }
    }

    fn shrink(&mut self) {
        self.idle.most = self.connections.len();
        self.connections.shrink();
        self.timers.shrink();
        self.turn.shrink();
        self.ready.shrink_to_fit();
        self.parked.shrink_to_fit();
    }
}

/// glibc keeps what was freed between two blocks that are in use.
#[cfg(target_env = "gnu")]
fn trim() {
    // SAFETY: malloc_trim may be called by any thread at any time; it frees nothing that is in use.
    #[allow(unsafe_code)]
    unsafe {
        nix::libc::malloc_trim(0)
    };
}

#[cfg(not(target_env = "gnu"))]
fn trim() {}
