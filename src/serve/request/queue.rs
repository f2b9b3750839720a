//! The queue of complete requests that wait for a Python thread: oldest first, and no longer than `--max-queue-time`.

use std::{sync::atomic::Ordering::Relaxed, time::Duration};

use ostler_wire::scoreboard::QUEUE_SHOWN;

use crate::{
    connection::{Interest, Phase},
    event_loop::{Loop, Step, clock::took, late::first_look, timers::Token},
    request::work::Work,
    threads::lead::worth_handing_on,
};

impl Loop {
    /// Queues a complete request for a Python thread.
    pub(crate) fn request_ready(&mut self, token: Token, mut work: Box<Work>) {
        work.ready = self.clock.now;
        work.waited = !self.thread_free() || !self.ready.is_empty();
        let Some(connection) = self.connection(token) else { return };
        if let Some(came) = connection.came.take() {
            work.ready = came;
            work.waited = true;
        }
        if work.waited && connection.half_closed {
            // The client has left already: the event that reported its request has reported that, too.
            let since = work.ready;
            self.record_dropped(work, since);
            return self.close(token);
        }
        connection.phase = Phase::Ready(work);
        connection.deadline.clear();
        self.ready.push_back(token);
        if self.ready.len() > 1 || !self.thread_free() {
            // So that a client that leaves is noticed.
            self.watch(token, Interest::Read);
            self.count_queue();
        }
    }

    /// The oldest request that still wants an answer.
    pub(crate) fn next_ready(&mut self) -> Option<Box<Work>> {
        while self.turn.may_step()
            && let Some(token) = self.ready.pop_front()
        {
            let bound = self.shared.boot.worker.max_queue_time;
            let now = self.clock.now;
            let Some(connection) = self.connection(token) else { continue };
            match std::mem::replace(&mut connection.phase, Phase::Head) {
                Phase::Ready(work) if !bound.is_zero() && took(work.ready, now) > bound => {
                    self.turn.step();
                    self.overloaded(token, work);
                }
                Phase::Ready(work) => {
                    if work.waited {
                        self.count_wait(took(work.ready, now));
                    }
                    return Some(work);
                }
                other => connection.phase = other,
            }
        }
        None
    }

    /// Answers 503 to requests that have waited too long, oldest first, while all Python threads are busy; and moves
    /// waiting ones to siblings that are idle.
    pub(crate) fn shed(&mut self) {
        while self.turn.may_step()
            && let Some(token) = self.ready.front().copied()
        {
            let bound = self.shared.boot.worker.max_queue_time;
            let now = self.clock.now;
            let Some(connection) = self.connection(token) else {
                self.ready.pop_front();
                continue;
            };
            let Phase::Ready(work) = &connection.phase else {
                self.ready.pop_front();
                continue;
            };
            if !bound.is_zero() && took(work.ready, now) > bound {
                if let Phase::Ready(work) = std::mem::replace(&mut connection.phase, Phase::Head) {
                    self.ready.pop_front();
                    self.turn.step();
                    self.overloaded(token, work);
                }
            } else if !self.give_ready(token) {
                break;
            }
        }
        self.count_queue();
    }

    fn count_wait(&self, waited: Duration) {
        let slot = self.slot();
        slot.waits.fetch_add(1, Relaxed);
        slot.waited.fetch_add(waited.as_micros() as u64, Relaxed);
        self.count_queue();
    }

    /// Writes to the scoreboard how many requests wait, and which: the master logs them if this process dies.
    pub(crate) fn count_queue(&self) {
        let (board, own) = (&self.shared.scoreboard, self.shared.slot);
        let (before, queued) = (&board.slot(own).queued, self.ready.len() as u32);
        if before.load(Relaxed) == 0 && queued == 0 {
            return;
        }
        before.store(queued, Relaxed);
        let work = |token: &Token| match &self.connections.peek(*token)?.phase {
            Phase::Ready(work) => Some(work),
            _ => None,
        };
        let mut waiting = self.ready.iter().filter_map(work);
        for place in 0..QUEUE_SHOWN {
            match waiting.next() {
                Some(work) => {
                    board.waiting(own, place).begin(work.incoming.line_bytes(), self.clock.milliseconds_at(work.ready))
                }
                None => board.waiting(own, place).end(),
            }
        }
    }

    /// Begins a Python thread's call.
    pub(crate) fn dispatch(&mut self, seat: u16, mut work: Box<Work>) -> Step {
        let token = work.outgoing.token;
        let bound = first_look(&self.shared.boot.worker);
        work.started = self.clock.now;
        work.outgoing.date = self.clock.date;
        work.outgoing.thread = Some(seat);
        work.outgoing.may_wait = self.may_group();
        self.shared.seats[usize::from(seat)].begin();
        self.shared.call_times[usize::from(seat)].begin();
        if let Some(live) = &work.outgoing.live {
            live.called(self.shared.clone(), seat);
        }
        let activity = self.shared.scoreboard.activity(self.shared.slot, seat);
        activity.begin(work.incoming.line_bytes(), self.clock.milliseconds());
        self.keep_head(seat, &work.incoming);
        self.calls.under_way += 1;
        self.intake.called += 1;
        work.measured = worth_handing_on(self.calls.usual) || self.threads.expects_waits();
        let wake = self.threads.call_begins(seat);
        let Some(connection) = self.connection(token) else { unreachable!("next_ready has just found it") };
        connection.phase = Phase::Called(seat, None);
        self.set_deadline(token, self.clock.now, bound);
        Step::Call(work, wake)
    }
}
