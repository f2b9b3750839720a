//! Complete requests that wait for a Python thread, oldest first.

use std::{collections::VecDeque, sync::atomic::Ordering::Relaxed, time::Duration};

use ostler_wire::scoreboard::QUEUE_SHOWN;

use crate::{
    connection::{Phase, connections::Connections, work::Work},
    poll::{clock::Clock, timers::Token},
    shared::Shared,
};

/// Connections whose requests wait. One that has closed meanwhile is still among them.
#[derive(Default)]
pub(crate) struct Queue(VecDeque<Token>);

impl Queue {
    pub fn add(&mut self, token: Token) {
        self.0.push_back(token);
    }

    /// Puts a request before all others: it has waited already.
    pub fn put_first(&mut self, token: Token) {
        self.0.push_front(token);
    }

    pub fn oldest(&self) -> Option<Token> {
        self.0.front().copied()
    }

    pub fn take_oldest(&mut self) -> Option<Token> {
        self.0.pop_front()
    }

    pub fn len(&self) -> usize {
        self.0.len()
    }

    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Frees memory that is not needed any more.
    pub fn shrink(&mut self) {
        self.0.shrink_to_fit();
    }

    /// Counts a request that has waited for its call.
    pub fn count_wait(shared: &Shared, waited: Duration) {
        let slot = shared.slot();
        slot.waits.fetch_add(1, Relaxed);
        slot.waited.fetch_add(waited.as_micros() as u64, Relaxed);
    }

    /// Writes to the scoreboard how many requests wait, and which: the master logs them if this process dies.
    pub fn show(&self, shared: &Shared, connections: &Connections, clock: &Clock) {
        let (board, own) = (&shared.scoreboard, shared.slot);
        let (before, queued) = (&board.slot(own).queued, self.len() as u32);
        if before.load(Relaxed) == 0 && queued == 0 {
            return;
        }
        before.store(queued, Relaxed);
        let work = |token: &Token| -> Option<&Box<Work>> {
            match &connections.peek(*token)?.phase {
                Phase::Ready(work) => Some(work),
                _ => None,
            }
        };
        let mut waiting = self.0.iter().filter_map(work);
        for place in 0..QUEUE_SHOWN {
            match waiting.next() {
                Some(work) => {
                    let (line, id) = (work.incoming.line_bytes(), work.incoming.id.as_bytes());
                    board.waiting(own, place).begin(line, id, clock.milliseconds_at(work.ready))
                }
                None => board.waiting(own, place).end(),
            }
        }
    }
}
