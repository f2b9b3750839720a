//! Idle connections, between two requests: where there is no room for a new one, the one that has idled longest is closed.
//! Also: gives memory back to the system after a flood of connections or bodies.

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

/// How many idle connections one search finds, so that not each newcomer costs a look at all connections.
const FOUND: usize = 64;
/// How long a full worker leaves newcomers to siblings that have room, before it looks again.
const LEFT_TO_SIBLINGS: Duration = Duration::from_millis(10);
/// From this many connections on, their memory is worth giving back.
const FLOOD: usize = 256;

/// See [`Loop::find_place`].
#[derive(Default)]
pub(crate) struct Idle {
    /// The connections that had idled longest at the last search, and since when; the longest last.
    found: Vec<(Option<Instant>, Token)>,
    /// The most connections since memory was last given back.
    most: usize,
}

/// Room for one new connection: free room (`None`), or the place of an idle one that is closed for it.
pub(crate) struct Admission(Option<Token>);

impl Loop {
    /// Whether there is room for one more connection.
    pub(crate) fn has_room(&self) -> bool {
        self.connections.len() < self.intake.most && self.shared.store.descriptors_left() > 0
    }

    /// Room for one more connection. Without any, accepting pauses until there is some.
    pub(crate) fn find_place(&mut self) -> Option<Admission> {
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

    /// Closes the idle connection, if there is one, whose place a new one takes.
    pub(crate) fn evict(&mut self, place: Admission) {
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

    /// The next of the connections found that has been idle ever since.
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

    /// Since when a connection is idle: `None` if it is not, `Some(None)` if it has no deadline to tell that from.
    fn idle_since(&self, token: Token) -> Option<Option<Instant>> {
        let connection = self.connections.peek(token)?;
        let idles = matches!(connection.phase, Phase::Head) && connection.partial.is_none() && !connection.readable;
        let worker = &self.shared.boot.worker;
        let wait = if connection.requests == 0 { worker.header_timeout } else { worker.keep_alive };
        idles.then(|| connection.deadline.due().and_then(|due| due.checked_sub(wait)))
    }

    /// Gives memory back to the system after a flood of connections or of bodies.
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

/// glibc keeps freed memory that lies between two blocks in use, until it is told to trim.
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
