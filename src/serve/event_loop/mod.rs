//! The loop: turns what has happened to descriptors, deadlines and messages into steps. Whoever locks it runs it (see `threads`).
//! A connection begins and ends in `intake`, its requests are read in `request` and answered in `response`; it may move to another
//! worker through `exchange`. The worker's own beginning, drain and end are in `life`.

pub(crate) mod calls;
pub(crate) mod clock;
pub(crate) mod late;
pub(crate) mod log_limits;
mod messages;
pub(crate) mod poll;
pub(crate) mod pool;
pub(crate) mod timers;
pub(crate) mod turn;
mod wait;

use std::{
    collections::VecDeque,
    io,
    os::fd::OwnedFd,
    sync::{Arc, atomic::Ordering::Relaxed},
    time::Instant,
};

use nix::sys::epoll::{EpollEvent, EpollFlags};
use ostler_http::h1::Limits;
use ostler_wire::{
    Channel, FromWorker,
    scoreboard::{Slot, WorkerState},
};
use slog::{debug, error};

use crate::{
    LoopEnd, Setup,
    connection::{Connection, Interest, Phase, connections::Connections},
    event_loop::{
        calls::Calls,
        clock::Clock,
        log_limits::ClientLines,
        poll::{Poll, Source},
        pool::Pool,
        timers::{Timers, Token},
        turn::Turn,
    },
    exchange::{self, Exchange, handover::Handover},
    intake::{Intake, idle::Idle, make_places, most_connections, spread::Spread},
    life::{Life, recycle::Recycling},
    request::work::Work,
    response::{access_log::AccessLog, group::Group},
    shared::Shared,
    threads::{
        lead::{Lead, Threads, Wake},
        recall::Held,
    },
};

/// What the thread that runs the loop has to do outside of it.
pub(crate) enum Step {
    /// Wake whom it says, make this call, then [`Loop::finish`].
    Call(Box<Work>, Wake),
    /// Nothing to do for the leader: wait, from [`Loop::begin_wait`] to [`Loop::end_wait`].
    Wait,
    /// Nothing to do for this thread: another one leads.
    Leave,
    /// Wake this Python thread: it leads.
    Promote(u16),
    /// Log what this Python thread is doing, for the reason given.
    Explain(u16, &'static str),
    /// Answer the master's question for stacks.
    Stacks,
    /// End the process with this code; a thread is stuck in the application.
    Abandon(i32),
    /// The loop has ended.
    End,
}

/// The state of a worker's loop.
pub(crate) struct Loop {
    pub(crate) shared: Arc<Shared>,
    pub(crate) limits: Limits,
    pub(crate) clock: Clock,
    pub(crate) poll: Poll,
    pub(crate) turn: Turn,
    pub(crate) timers: Timers,
    /// What is to be done outside of the loop, before anything else.
    pub(crate) steps: VecDeque<Step>,
    /// The leader waits with nothing left to do.
    sleeps: bool,
    pub(crate) threads: Threads,
    pub(crate) calls: Calls,
    pub(crate) held: Held,
    /// Since when the stand-by leads.
    pub(crate) busy_since: Option<Instant>,
    pub(crate) connections: Connections,
    pub(crate) intake: Intake,
    pub(crate) idle: Idle,
    pub(crate) exchange: Exchange,
    pub(crate) handover: Handover,
    pub(crate) spread: Spread,
    /// Requests that are complete, oldest first.
    pub(crate) ready: VecDeque<Token>,
    /// Connections whose bodies wait for a descriptor.
    pub(crate) parked: VecDeque<Token>,
    pub(crate) pool: Pool,
    pub(crate) scratch: Vec<u8>,
    pub(crate) group: Group,
    pub(crate) life: Life,
    pub(crate) recycling: Recycling,
    pub(crate) channel: Channel,
    terminated: OwnedFd,
    pub(crate) access_log: AccessLog,
    /// Limits the log lines about single clients.
    pub(crate) client_lines: ClientLines,
    /// The last attempt to log how many lines of the error log were lost.
    lost_told: Instant,
}

impl Loop {
    pub fn new(setup: Setup, shared: Arc<Shared>) -> io::Result<Loop> {
        let worker = &shared.boot.worker;
        let clock = Clock::new();
        let most_connections = most_connections(worker.connections, shared.store.descriptors);
        if let Err(error) = make_places(most_connections) {
            debug!(shared.log, "no places for descriptors"; "error" => %error);
        }
        let event_loop = Loop {
            limits: Limits {
                line: worker.limit_request_line as usize,
                fields: worker.limit_request_fields as usize,
                field: worker.limit_request_field_size as usize,
                head: worker.limit_request_head as usize,
            },
            poll: Poll::new()?,
            turn: Turn::new(clock.now),
            timers: Timers::default(),
            steps: VecDeque::new(),
            sleeps: false,
            threads: Threads::new(),
            calls: Calls::default(),
            held: Held::new(worker.threads),
            busy_since: None,
            connections: Connections::default(),
            intake: Intake::new(setup.listeners, most_connections, clock.now),
            idle: Idle::default(),
            exchange: Exchange::new(setup.exchange_give, setup.exchange_take)?,
            handover: Handover::new(most_connections, clock.now),
            spread: Spread::default(),
            ready: VecDeque::new(),
            parked: VecDeque::new(),
            pool: Pool::default(),
            scratch: vec![0; exchange::PACKET],
            group: Group::new(clock.now),
            life: Life::Waiting,
            recycling: Recycling::new(worker, clock.now),
            channel: setup.channel,
            terminated: setup.terminated,
            access_log: AccessLog::new(
                worker.access_log_format.clone(),
                setup.access_log,
                worker.threads,
                setup.log.clone(),
            ),
            client_lines: ClientLines::default(),
            lost_told: clock.now,
            clock,
            shared: shared.clone(),
        };
        event_loop.poll.watch(&shared.alarm, Source::Alarm, EpollFlags::EPOLLIN)?;
        event_loop.poll.watch(&event_loop.channel, Source::Master, EpollFlags::EPOLLIN)?;
        event_loop.poll.watch(&event_loop.terminated, Source::Terminated, EpollFlags::EPOLLIN)?;
        let slot = event_loop.slot();
        slot.since.store(event_loop.clock.milliseconds(), Relaxed);
        slot.enter(WorkerState::Booting);
        event_loop.tell(FromWorker::Ready);
        Ok(event_loop)
    }

    pub fn slot(&self) -> &Slot {
        self.shared.scoreboard.slot(self.shared.slot)
    }

    /// Sends a message to the master. If the master has ended, the channel reports that soon.
    pub fn tell(&self, message: FromWorker) {
        if let Err(error) = self.channel.send_now(&message) {
            debug!(self.shared.log, "could not tell the master"; "error" => %error);
        }
    }

    /// Looks at the clocks.
    pub fn read_clock(&mut self) {
        if self.clock.read() {
            self.access_log.update_time();
        }
    }

    /// The next thing to do for the Python thread `seat`, or for the stand-by. A turn serves each connection that can go on, once, and
    /// ends in [`Step::Wait`]. A connection that can still go on then is served in the next turn, after events, timers and messages:
    /// a client that always has more to send does not hold up the others.
    pub fn next(&mut self, seat: Option<u16>) -> Step {
        loop {
            if let Some(step) = self.steps.pop_front() {
                return step;
            }
            if let Some(step) = self.drained() {
                return step;
            }
            match seat {
                _ if self.held.is() => {}
                Some(seat) => {
                    if (self.turn.may_call(self.clock.now) || !self.leads(Some(seat)))
                        && let Some(work) = self.next_ready()
                    {
                        return self.dispatch(seat, work);
                    }
                }
                None => {
                    if self.threads.lead == Lead::Standby
                        && let Some(seat) = self.threads.promote()
                    {
                        return Step::Promote(seat);
                    }
                }
            }
            if let Some(token) = self.turn.next() {
                self.go_on(token);
            } else if let Some(event) = self.poll.next_event() {
                self.handle(event);
            } else if self.turn.may_step()
                && let Some((token, popped)) = self.timers.pop(self.clock.now)
            {
                self.turn.step();
                self.timer(token, popped);
            } else if !self.group.is_empty() {
                self.finish_group();
            } else if self.give_idle() {
                // There may be more to do by now.
            } else if self.leads(seat) {
                return Step::Wait;
            } else {
                self.leave(seat);
                return Step::Leave;
            }
        }
    }

    fn leads(&self, seat: Option<u16>) -> bool {
        self.threads.lead == seat.map_or(Lead::Standby, Lead::Thread)
    }

    /// A thread that does not lead has nothing left to do.
    fn leave(&mut self, seat: Option<u16>) {
        self.access_log.flush();
        if let Some(seat) = seat {
            self.threads.add_free(seat);
        }
        self.shorten_wait();
    }

    fn handle(&mut self, event: EpollEvent) {
        match Source::of(&event) {
            Source::Connection(token) => self.client_event(token, event.events()),
            Source::Listener(listener) => self.accept(listener),
            Source::Waiting => self.take_moved(),
            Source::Idle => self.take_idle(),
            Source::Room => self.room_again(),
            Source::Master => self.read_messages(),
            Source::Terminated => self.terminated(),
            Source::Alarm => self.read_notes(),
        }
    }

    fn client_event(&mut self, token: Token, flags: EpollFlags) {
        let Some(connection) = self.connection(token) else { return };
        let ended = flags.intersects(EpollFlags::EPOLLRDHUP | EpollFlags::EPOLLHUP | EpollFlags::EPOLLERR);
        connection.half_closed |= ended;
        connection.readable |= ended || flags.contains(EpollFlags::EPOLLIN);
        let gone = flags.intersects(EpollFlags::EPOLLHUP | EpollFlags::EPOLLERR);
        match &connection.phase {
            // Nobody would read the answer.
            Phase::Head | Phase::Body(..) | Phase::Writing(..) | Phase::Lingering(_) if gone => self.close(token),
            Phase::Ready(_) if ended => self.close(token),
            Phase::Ready(_) => {}
            Phase::Head | Phase::Body(..) | Phase::Called(..) | Phase::Writing(..) | Phase::Lingering(_) => {
                self.go_on(token);
            }
        }
    }

    /// Moves a connection on as far as it goes without waiting.
    fn go_on(&mut self, token: Token) {
        let Some(connection) = self.connection(token) else { return };
        match &connection.phase {
            Phase::Head => self.read_head(token),
            Phase::Body(..) => self.read_body(token),
            Phase::Ready(_) => {}
            Phase::Called(_, None) => {}
            Phase::Called(_, Some(_)) | Phase::Writing(..) => self.drain_outbox(token),
            Phase::Lingering(_) => self.linger(token),
        }
    }

    fn timer(&mut self, token: Token, popped: Instant) {
        let (now, timers) = (self.clock.now, &mut self.timers);
        let Some(connection) = self.connections.get(token) else { return };
        if timers.is_due(token, &mut connection.deadline, popped, now) {
            return self.timed_out(token);
        }
        if let Phase::Called(_, Some(backlog)) | Phase::Writing(_, backlog, _) = &mut connection.phase
            && timers.is_due(token, &mut backlog.deadline, popped, now)
        {
            self.too_slow_to_answer(token, "the client paused for --write-timeout");
        }
    }

    /// Watches a connection's socket. Epoll reports earlier events, too.
    pub fn watch(&mut self, token: Token, interest: Interest) {
        let Some(connection) = self.connections.get(token) else { return };
        // Bytes that come from now on have not waited in the listener's queue.
        connection.came = None;
        if connection.interest >= interest {
            return;
        }
        let write = if interest == Interest::ReadWrite { EpollFlags::EPOLLOUT } else { EpollFlags::empty() };
        let flags = EpollFlags::EPOLLIN | EpollFlags::EPOLLRDHUP | EpollFlags::EPOLLET | write;
        let event = Source::Connection(token).event(flags);
        let watched = match connection.interest {
            Interest::None => connection.transport.watch(&self.poll.epoll, event),
            Interest::Read | Interest::ReadWrite => connection.transport.change_watch(&self.poll.epoll, event),
        };
        connection.interest = interest;
        if let Err(error) = watched {
            error!(self.shared.log, "could not watch a connection"; "error" => %error);
            self.close(token);
        }
    }

    pub fn connection(&mut self, token: Token) -> Option<&mut Connection> {
        self.connections.get(token)
    }

    /// How the worker has ended, for [`crate::run`].
    pub fn ending(&mut self) -> LoopEnd {
        self.record_unfinished();
        self.access_log.close();
        self.life.ending()
    }
}
