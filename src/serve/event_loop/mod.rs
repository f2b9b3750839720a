//! The loop: turns what has happened to descriptors, deadlines and messages into steps. Whoever locks it runs it (see `crew`).
//!
//! This is the top room, and the only one that knows [`Loop`]. The rooms below hold structs that own their fields; here they are put
//! together, with a file for each moment:
//!
//! | moment | file |
//! |---|---|
//! | a thread enters the loop, leads, waits | `crew`, `threads`, `wait` |
//! | a connection is accepted, or ends | `accept` |
//! | a connection moves to another worker, or comes from one | `moves` |
//! | TLS begins, or is broken off | `handshake` |
//! | a head or a body comes | `read` |
//! | a request waits, and is called | `call` |
//! | a call has ended: its connection goes on | `finish`, `write` |
//! | the loop answers instead of the application | `answer`, `file`, `redirect` |
//! | a request is logged | `record` |
//! | what is counted goes to the meters | `tally` |
//! | a deadline expires | `late` |
//! | the master says something | `messages`, `certificates` |
//! | the worker serves, drains, ends | `life`, `cut` |

mod accept;
mod answer;
mod call;
mod certificates;
pub(crate) mod crew;
mod cut;
mod file;
mod finish;
mod handshake;
mod late;
mod life;
mod messages;
mod moves;
mod read;
mod record;
mod redirect;
pub(crate) mod setup;
mod stacks;
mod tally;
mod threads;
mod wait;
mod write;

use std::{
    collections::VecDeque,
    io,
    os::fd::OwnedFd,
    sync::{Arc, OnceLock, atomic::Ordering::Relaxed},
};

use nix::sys::epoll::{EpollEvent, EpollFlags};
use ostler_http::h1::Limits;
use ostler_tls::Acceptor;
use ostler_wire::{Channel, FailedCode, FromWorker, TicketKeys, log::syslog::Sender, scoreboard::WorkerState};
use slog::{debug, error};

use self::{
    setup::{Membership, Setup},
    tally::Tally,
};
use crate::{
    calls::{Calls, group::Group, held::Held, queue::Queue},
    connection::{Connection, Interest, Phase, connections::Connections, pool::Pool, work::Work},
    exchange::{self, Exchange, handover::Handover},
    files::Files,
    intake::{Intake, idle::Idle, make_places, most_connections, spread::Spread},
    life::{Life, LoopEnd, recycle::Recycling},
    log_limits::ClientLines,
    moment::Moment,
    poll::{
        EventSource, Poll,
        clock::Clock,
        timers::{Timers, Token},
        turn::Turn,
    },
    response::access_log::AccessLog,
    shared::Shared,
    threads::lead::{Lead, Threads, Wake},
};

/// What the thread that runs the loop has to do outside of it.
enum Step {
    /// Wake whom it says, make this call, then [`Loop::finish`].
    Call(Box<Work>, Wake),
    /// Nothing to do for the leader: wait, from [`Loop::begin_wait`] to [`Loop::end_wait`].
    Wait,
    /// Nothing to do for this thread: another one leads.
    Leave,
    /// Wake this Python thread: it leads.
    Promote(u16),
    /// The calling thread is wanted.
    Attend,
    /// Log what this Python thread is doing, for the reason given.
    Explain(u16, &'static str),
    /// Answer the master's question for stacks.
    Stacks,
    /// Tell the application of newer code that does not come up.
    Show(Box<FailedCode>),
    /// End the process with this code; a thread is stuck in the application.
    Abandon(i32),
    /// The loop has ended.
    End,
}

/// The state of a worker's loop.
pub(crate) struct Loop {
    shared: Arc<Shared>,
    limits: Limits,
    clock: Clock,
    poll: Poll,
    turn: Turn,
    timers: Timers,
    /// What is to be done outside of the loop, before anything else.
    steps: VecDeque<Step>,
    /// The leader waits with nothing left to do.
    sleeps: bool,
    threads: Threads,
    calls: Calls,
    held: Held,
    /// Since when the stand-by leads.
    busy_since: Option<Moment>,
    connections: Connections,
    intake: Intake,
    idle: Idle,
    /// None without a site.
    exchange: Option<Exchange>,
    handover: Handover,
    spread: Spread,
    /// Requests that are complete, oldest first.
    queue: Queue,
    /// Connections whose bodies wait for a descriptor.
    parked: VecDeque<Token>,
    pool: Pool,
    /// What is read here is used at once.
    scratch: Vec<u8>,
    group: Group,
    life: Life,
    recycling: Recycling,
    /// None without a site.
    channel: Option<Channel>,
    /// The channel of the template that this process is to become.
    becomes: Arc<OnceLock<Channel>>,
    terminated: OwnedFd,
    attention: Option<OwnedFd>,
    access_log: AccessLog,
    /// What handshakes are made with, where TLS is spoken.
    acceptor: Option<Arc<Acceptor>>,
    ticket_keys: Option<TicketKeys>,
    /// None without `--static`.
    files: Option<Box<Files>>,
    tally: Tally,
    /// Limits the log lines about single clients.
    client_lines: ClientLines,
    /// The last attempt to log how many lines of the error log were lost.
    lost_told: Moment,
}

impl Loop {
    pub fn new(setup: Setup, shared: Arc<Shared>) -> io::Result<Loop> {
        let worker = &shared.boot.worker;
        let clock = Clock::new();
        let most_connections = most_connections(worker.connections, shared.store.descriptors);
        if let Err(error) = make_places(most_connections) {
            debug!(shared.log, "no places for descriptors"; "error" => %error);
        }
        let syslog = shared.boot.logging.syslog.as_ref().filter(|syslog| syslog.access);
        let syslog = syslog.map(|syslog| Sender::new(syslog, "access"));
        let (channel, exchange, becomes) = match setup.site {
            Some(Membership { channel, exchange_give, exchange_take, becomes }) => {
                (Some(channel), Some(Exchange::new(exchange_give, exchange_take)?), becomes)
            }
            None => (None, None, Arc::default()),
        };
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
            exchange,
            handover: Handover::new(most_connections, clock.now),
            spread: Spread::default(),
            queue: Queue::default(),
            parked: VecDeque::new(),
            pool: Pool::default(),
            scratch: vec![0; exchange::PACKET],
            group: Group::new(clock.now),
            life: if channel.is_some() { Life::Waiting } else { Life::Serving },
            recycling: Recycling::new(worker, clock.now),
            channel,
            becomes,
            terminated: setup.terminated,
            attention: setup.attention,
            ticket_keys: shared.boot.ticket_keys.clone(),
            acceptor: certificates::acceptor(&shared.boot, setup.signer)?,
            access_log: AccessLog::new(&shared, setup.access_log, syslog, clock.since_1970(), setup.log.clone()),
            files: Files::open(&worker.static_files, &shared.log),
            tally: Tally::default(),
            client_lines: ClientLines::default(),
            lost_told: clock.now,
            clock,
            shared: shared.clone(),
        };
        event_loop.poll.watch(&shared.alarm, EventSource::Alarm, EpollFlags::EPOLLIN)?;
        if let Some(channel) = &event_loop.channel {
            event_loop.poll.watch(channel, EventSource::Master, EpollFlags::EPOLLIN)?;
        }
        event_loop.poll.watch(&event_loop.terminated, EventSource::Terminated, EpollFlags::EPOLLIN)?;
        if let Some(attention) = &event_loop.attention {
            event_loop.poll.watch(attention, EventSource::Attention, EpollFlags::EPOLLIN)?;
        }
        let slot = shared.slot();
        slot.since.store(event_loop.clock.milliseconds(), Relaxed);
        slot.enter(WorkerState::Booting);
        event_loop.tell(FromWorker::Ready);
        Ok(event_loop)
    }

    /// Sends a message to the master, if there is one. If it has ended, the channel reports that soon.
    fn tell(&self, message: FromWorker) {
        if let Some(Err(error)) = self.channel.as_ref().map(|channel| channel.send_now(&message)) {
            debug!(self.shared.log, "could not tell the master"; "error" => %error);
        }
    }

    /// Looks at the clocks.
    fn read_clock(&mut self) {
        if self.clock.read() {
            self.access_log.update_time(self.clock.since_1970());
        }
    }

    /// The next thing to do for the Python thread `seat`, or for the stand-by. A turn serves each connection that can go on, once, and
    /// ends in [`Step::Wait`]. A connection that can still go on then is served in the next turn, after events, timers and messages:
    /// a client that always has more to send does not hold up the others.
    fn next(&mut self, seat: Option<u16>) -> Step {
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
                    if self.threads.lead() == Lead::Standby
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
        self.threads.lead() == seat.map_or(Lead::Standby, Lead::Thread)
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
        match EventSource::of(&event) {
            EventSource::Connection(token) => self.client_event(token, event.events()),
            EventSource::Listener(listener) => self.accept(listener),
            EventSource::Waiting => self.take_moved(),
            EventSource::Idle => self.take_idle(),
            EventSource::Room => self.room_again(),
            EventSource::Master => self.read_messages(),
            EventSource::Terminated => self.terminated(),
            EventSource::Attention => self.wants_attention(),
            EventSource::Alarm => self.read_alarm(),
        }
    }

    fn client_event(&mut self, token: Token, flags: EpollFlags) {
        let Some(connection) = self.connection(token) else { return };
        connection.reported(flags);
        let gone = flags.intersects(EpollFlags::EPOLLHUP | EpollFlags::EPOLLERR);
        match &connection.phase {
            // Nobody would read the answer. A connection that lingers has both directions shut, which looks the same: to close it before it
            // was read to its end would reset a client on a Unix socket, who has yet to read the answer.
            Phase::Head | Phase::Body(..) | Phase::Writing(..) if gone => self.close(token),
            Phase::Ready(_) if gone || flags.contains(EpollFlags::EPOLLRDHUP) => self.close(token),
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

    fn timer(&mut self, token: Token, popped: Moment) {
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

    /// Watches a connection's socket.
    fn watch(&mut self, token: Token, interest: Interest) {
        if let Some(connection) = self.connections.get(token)
            && let Err(error) = connection.watch(interest, &self.poll)
        {
            error!(self.shared.log, "could not watch a connection"; "error" => %error);
            self.close(token);
        }
    }

    fn connection(&mut self, token: Token) -> Option<&mut Connection> {
        self.connections.get(token)
    }

    /// How the worker has ended, for [`crate::run`].
    fn ending(&mut self) -> LoopEnd {
        self.record_unfinished();
        self.access_log.close();
        self.write_tally();
        self.life.ending()
    }
}
