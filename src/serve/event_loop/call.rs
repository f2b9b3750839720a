//! From a complete request to its call: it waits in the queue for a Python thread, oldest first, and no longer than
//! `--max-queue-time`.

use super::{Loop, Step};
use crate::{
    calls::{first_look, queue::Queue},
    connection::{Interest, Phase, work::Work},
    moment::Moment,
    poll::{clock::took, timers::Token},
    threads::lead::worth_handing_on,
};

impl Loop {
    /// Queues a complete request for a Python thread, unless a static file answers it.
    pub(super) fn request_ready(&mut self, token: Token, mut work: Box<Work>) {
        if self.files.is_some() {
            let Some(other) = self.answer_with_file(token, work) else { return };
            work = other;
        }
        work.ready = self.clock.now;
        work.waited = !self.thread_free() || !self.queue.is_empty();
        let Some(connection) = self.connection(token) else { return };
        if let Some(came) = connection.came.take() {
            work.ready = came;
            work.waited = true;
            let begun = &mut work.incoming.arrival.begun;
            *begun = came.min(*begun);
        }
        if work.waited && connection.half_closed {
            // The client has left already: the event that reported its request has reported that, too.
            let since = work.ready;
            self.record_dropped(work, since);
            return self.close(token);
        }
        connection.phase = Phase::Ready(work);
        connection.deadline.clear();
        self.queue.add(token);
        if self.queue.len() > 1 || !self.thread_free() {
            // So that a client that leaves is noticed.
            self.watch(token, Interest::Read);
            self.count_queue();
        }
    }

    /// The oldest request that still wants an answer.
    pub(super) fn next_ready(&mut self) -> Option<Box<Work>> {
        while self.turn.may_step()
            && let Some(token) = self.queue.take_oldest()
        {
            let bound = self.shared.boot.worker.max_queue_time;
            let now = self.clock.now;
            let Some(connection) = self.connection(token) else { continue };
            match std::mem::replace(&mut connection.phase, Phase::Head) {
                Phase::Ready(work) if work.is_overdue(bound, now) => {
                    self.turn.step();
                    self.overloaded(token, work);
                }
                Phase::Ready(work) => {
                    if work.waited {
                        Queue::count_wait(&self.shared, took(work.ready, now));
                        self.count_queue();
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
    pub(super) fn shed(&mut self) {
        while self.turn.may_step()
            && let Some(token) = self.queue.oldest()
        {
            let bound = self.shared.boot.worker.max_queue_time;
            let now = self.clock.now;
            let Some(connection) = self.connection(token) else {
                self.queue.take_oldest();
                continue;
            };
            let Phase::Ready(work) = &connection.phase else {
                self.queue.take_oldest();
                continue;
            };
            if work.is_overdue(bound, now) {
                if let Phase::Ready(work) = std::mem::replace(&mut connection.phase, Phase::Head) {
                    self.queue.take_oldest();
                    self.turn.step();
                    self.overloaded(token, work);
                }
            } else if !self.give_ready(token) {
                break;
            }
        }
        self.count_queue();
    }

    /// Shows on the scoreboard which requests wait.
    fn count_queue(&self) {
        self.queue.show(&self.shared, &self.connections, &self.clock);
    }

    /// Begins a Python thread's call.
    pub(super) fn dispatch(&mut self, seat: u16, mut work: Box<Work>) -> Step {
        let token = work.outgoing.token;
        let bound = first_look(&self.shared.boot.worker);
        work.started = self.clock.now;
        work.outgoing.date = self.clock.date;
        work.outgoing.thread = Some(seat);
        work.outgoing.may_wait = self.may_group();
        if let Some(live) = &work.outgoing.live {
            live.called(self.shared.clone(), seat);
        }
        self.shared.begin_call(seat, work.incoming.line_bytes(), &work.incoming.id, self.clock.milliseconds());
        self.access_log.keep(seat, &work.incoming, work.ready);
        self.calls.begin();
        self.intake.count_call();
        work.measured = worth_handing_on(self.calls.usual()) || self.threads.expects_waits();
        let wake = self.threads.call_begins(seat);
        let Some(connection) = self.connection(token) else { unreachable!("next_ready has just found it") };
        connection.phase = Phase::Called(seat, None);
        self.set_deadline(token, self.clock.now, bound);
        Step::Call(work, wake)
    }

    /// When a request that waits for its thread is to be taken back.
    pub(super) fn recall_due(&self) -> Option<Moment> {
        if self.calls.under_way() == 0 { None } else { self.held.recall_due() }
    }

    /// Takes back the requests that have waited too long for their threads. Returns whether there were any.
    pub(super) fn recall(&mut self) -> bool {
        let mut any = false;
        while self.calls.under_way() > 0
            && let Some((seat, work)) = self.held.take_late(self.clock.now)
        {
            self.take_back(seat, work);
            any = true;
        }
        any
    }

    fn take_back(&mut self, seat: u16, work: Box<Work>) {
        self.calls.end();
        self.shared.end_call(seat);
        self.busy_since.get_or_insert(self.clock.now);
        self.arm();
        let token = work.outgoing.token;
        let Some(connection) = self.connections.get(token) else { return self.pool.keep(work) };
        connection.phase = Phase::Ready(work);
        connection.deadline.clear();
        self.queue.put_first(token);
        self.count_queue();
    }

    /// A thread whose request was taken back has got the lock.
    pub(super) fn lock_acquired(&mut self) {
        self.read_clock();
        self.held.end(&self.shared, self.queue.len(), self.clock.now);
    }
}
