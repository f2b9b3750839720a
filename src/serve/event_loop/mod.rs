//! The loop: turns what has happened to descriptors, deadlines and messages into steps. Whoever locks it runs it (see `threads`).
//! A connection begins and ends in `intake`, its requests are read in `request` and answered in `response`; it may move to another
//! worker through `exchange`. The worker's own beginning, drain and end are in `life`.

pub(crate) mod calls;
pub(crate) mod clock;
pub(crate) mod late;
pub(crate) mod poll;
pub(crate) mod pool;
pub(crate) mod saying;
pub(crate) mod timers;
pub(crate) mod turn;

use std::{
    collections::VecDeque,
    io,
    os::fd::{AsFd, BorrowedFd, OwnedFd},
    sync::{Arc, atomic::Ordering::Relaxed},
    time::{Duration, Instant},
};

use nix::{
    poll::{PollFd, PollFlags, PollTimeout, poll},
    sys::epoll::{EpollEvent, EpollFlags, EpollTimeout},
};
use ostler_http::Limits;
use ostler_wire::{
    Channel, FromWorker, Recycle, ToWorker, log,
    scoreboard::{Slot, State},
};
use slog::{debug, error, warn};

use crate::{
    Ending, Setup,
    connection::connections::Connections,
    connection::{Backlog, Connection, Interest, Phase},
    event_loop::calls::Calls,
    event_loop::clock::Clock,
    event_loop::poll::{Poll, Source},
    event_loop::pool::Pool,
    event_loop::saying::ClientLines,
    event_loop::timers::{Timers, Token},
    event_loop::turn::Turn,
    exchange::handover::Handover,
    exchange::{self, Exchange},
    intake::idle::Idle,
    intake::spread::Spread,
    intake::{Intake, make_places, most_connections},
    life::Life,
    life::recycle::Recycling,
    request::work::Work,
    response::access_log::AccessLog,
    response::group::Group,
    shared::{Note, Shared},
    threads::lead::{Lead, Threads, Wake},
    threads::recall::Held,
};

/// How often a waiting request looks for an idle sibling.
const RETRY: Duration = Duration::from_millis(1);
/// A wait so long was a sleep: nothing had happened when it began.
const SLEPT: Duration = Duration::from_millis(1);
/// Stands for no bound where there is one to compare with.
const A_DAY: Duration = Duration::from_secs(86_400);
/// What the thread that runs the loop has to do outside of it.
pub(crate) enum Step {
    /// Wake whom it says, make this call, then [`Loop::finish`].
    Call(Box<Work>, Wake),
    /// Nothing to do for the leader: wait, from [`Loop::begin_wait`] to [`Loop::end_wait`].
    Wait,
    /// Nothing to do for anybody but the leader.
    Leave,
    /// Wake this Python thread: it leads.
    Grant(u16),
    /// Log what this Python thread is doing, for the reason given.
    Explain(u16, &'static str),
    /// Answer the master's question for stacks.
    Stacks,
    /// End the process with this code; a thread is stuck in the application.
    Abandon(i32),
    /// All is over.
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
    /// What is said of single clients.
    pub(crate) client_lines: ClientLines,
    /// When it was last tried to tell that lines of the error log were lost.
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
        slot.enter(State::Booting);
        event_loop.tell(FromWorker::Ready);
        Ok(event_loop)
    }

    pub fn slot(&self) -> &Slot {
        self.shared.scoreboard.slot(self.shared.slot)
    }

    /// Sends a message to the master. If it is gone, the channel's end says so soon.
    pub fn tell(&self, message: FromWorker) {
        if let Err(error) = self.channel.send_now(&message) {
            debug!(self.shared.log, "could not tell the master"; "error" => %error);
        }
    }

    /// Looks at the clocks.
    pub fn read_clock(&mut self) {
        if self.clock.read() {
            self.access_log.tell_time();
        }
    }

    /// A Python thread begins to work on the loop.
    pub fn comes(&mut self, seat: u16) {
        if self.threads.comes(seat) {
            // The stand-by has nothing to wait for any more.
            self.shared.wake();
        }
        if !self.held.is() {
            self.busy_since = None;
        }
        let armed = self.intake.armed;
        self.arm();
        let at_hand = self.ready.len() + self.turn.left() + self.poll.left();
        if self.intake.armed && !armed && at_hand > 0 {
            self.let_in();
        }
    }

    /// A Python thread is there, and has nothing to do.
    pub fn joins(&mut self, seat: u16) {
        self.threads.rests(seat);
        self.arm();
        if self.threads.lead == Lead::Standby {
            self.shared.wake();
        }
    }

    /// The stand-by leads, because nobody else has for a while. Whether the call that it found waits.
    pub fn standby_comes(&mut self, waits: bool) {
        self.read_clock();
        self.threads.lead = Lead::Standby;
        if !self.recall() && waits {
            self.threads.learn(true);
        }
        self.slot().enter(State::Busy);
        self.busy_since.get_or_insert(self.clock.now);
        self.call_is_long();
        self.arm();
    }

    /// Whether a request would be dispatched now.
    pub fn thread_free(&self) -> bool {
        !self.held.is() && self.threads.any_free()
    }

    /// The next thing to do for the Python thread `seat`, or for the stand-by. A turn takes up what there is, each connection once, and
    /// ends in [`Step::Wait`]: what still can go on then goes on in the next turn, after events, timers and messages, so that nobody
    /// who always has more to send holds up the rest.
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
                        && let Some(seat) = self.threads.grant()
                    {
                        return Step::Grant(seat);
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
            } else if self.give_resting() {
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

    /// A thread that does not lead has done what there was to do.
    fn leave(&mut self, seat: Option<u16>) {
        self.access_log.flush();
        if let Some(seat) = seat {
            self.threads.rests(seat);
        }
        self.hurry();
    }

    /// Wakes the leader if it would wait for too long now.
    pub fn hurry(&self) {
        if let (Some(until), Some(due)) = (self.poll.waits_until, self.due())
            && due < until
        {
            self.shared.wake();
        }
    }

    /// The leader is about to wait for events, or only to look if there is something left to do: where they go, and for how long.
    pub fn begin_wait(&mut self) -> (Vec<EpollEvent>, EpollTimeout) {
        self.access_log.flush();
        self.turn.end();
        self.sleeps = !self.has_more_to_do();
        if self.sleeps {
            self.give_back_memory();
        }
        let at_rest = match (&self.life, self.thread_free()) {
            (Life::Waiting, _) => State::Booting,
            (Life::Serving, true) if !self.sleeps => State::Working,
            (Life::Serving, true) => State::Idle,
            (Life::Serving, false) => State::Busy,
            _ => State::Draining,
        };
        self.slot().enter(at_rest);
        let due = self.due();
        self.poll.waits_until = Some(due.unwrap_or_else(|| self.clock.now + A_DAY));
        // Rounded up: waking before the deadline would only mean waiting again.
        let wait = due.map_or(EpollTimeout::NONE, |due| {
            let round = if self.sleeps { Duration::from_micros(999) } else { Duration::ZERO };
            let wait = due.saturating_duration_since(self.clock.now) + round;
            EpollTimeout::try_from(wait).unwrap_or(EpollTimeout::MAX)
        });
        (self.poll.lend(), wait)
    }

    /// The leader has waited, and this has happened. Another thread may lead by now, and be busy with other events.
    pub fn end_wait(&mut self, seat: Option<u16>, events: Vec<EpollEvent>, filled: nix::Result<usize>) {
        let filled = match filled {
            Ok(filled) => filled,
            Err(nix::errno::Errno::EINTR) => 0,
            Err(error) => {
                // Only who closes or replaces descriptors that are not its own can bring this about.
                error!(self.shared.log, "descriptors lost"; "error" => %error, "by" => "the application");
                self.steps.push_back(Step::Abandon(70));
                0
            }
        };
        self.poll.add(events, filled);
        self.handover.turn();
        if self.leads(seat) {
            self.poll.waits_until = None;
            if self.slot().state() == State::Idle {
                self.slot().enter(State::Working);
            }
        }
        if self.intake.armed {
            self.intake.called = 0;
        }
        self.count_turn();
        let before = self.clock.now;
        self.read_clock();
        if self.intake.armed && self.sleeps && self.clock.now - before >= SLEPT {
            self.intake.looked.fill(self.clock.now);
        }
        self.turn.begin(self.clock.now);
        self.look_around();
    }

    /// The loop turns: the master sees that, and is woken if it does not look.
    fn count_turn(&self) {
        let slot = self.slot();
        slot.turns.store(slot.turns.load(Relaxed).wrapping_add(1).max(1), Relaxed);
        if slot.watched.load(Relaxed) == 0 {
            slot.watched.store(1, Relaxed);
            self.tell(FromWorker::AtWork);
        }
    }

    /// Whether the next turn has something to do whatever happens until then.
    fn has_more_to_do(&self) -> bool {
        self.turn.left() > 0 || self.shared.store.has_rubbish() || !self.ready.is_empty() && self.thread_free()
    }

    /// When time alone brings something about.
    fn due(&self) -> Option<Instant> {
        if self.has_more_to_do() {
            return Some(self.clock.now);
        }
        let soon = (!self.ready.is_empty()).then(|| self.clock.now + RETRY);
        let logs = self.access_log.due().into_iter().chain(log_due()).min().map(|wait| self.clock.now + wait);
        let dues = [
            soon,
            self.timers.due(),
            self.intake.paused_until,
            self.life.due(),
            self.recycling.due(),
            self.lets_in_at(),
            self.recall_due(),
            self.held.due(),
            self.client_lines.due(),
            self.spread.due(),
            self.handover.due(self.clock.now),
            logs,
        ];
        dues.into_iter().flatten().min()
    }

    /// What time alone brings about, apart from the connections' deadlines.
    fn look_around(&mut self) {
        if self.intake.paused_until.is_some_and(|until| until <= self.clock.now) {
            self.intake.paused_until = None;
            self.arm();
        }
        if self.lets_in_at().is_some_and(|at| at <= self.clock.now) {
            self.arm();
        }
        self.recall();
        self.look_at_held();
        self.take_again();
        if self.shared.store.has_rubbish() {
            self.shared.store.clear_away();
        }
        self.unpark();
        if self.intake.crowded && self.has_room() {
            self.intake.crowded = false;
            self.arm();
        }
        self.shed();
        self.drain_goes_on();
        self.look_at_age_and_memory();
        if log::lost() > 0 && self.lost_told + log::BETWEEN_TRIES <= self.clock.now {
            self.lost_told = self.clock.now;
            log::tell_lost(&self.shared.log);
        }
        self.say_left_out();
    }

    fn handle(&mut self, event: EpollEvent) {
        match Source::of(&event) {
            Source::Connection(token) => self.client_event(token, event.events()),
            Source::Listener(listener) => self.accept(listener),
            Source::Waiting => self.take_moved(),
            Source::Resting => self.take_resting(),
            Source::Room => self.room_again(),
            Source::Master => self.hear(),
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

    fn read_notes(&mut self) {
        self.shared.awake();
        for note in self.shared.take_notes() {
            match note {
                Note::Outbox(token, outbox) => {
                    if let Some(Connection { phase: Phase::Called(_, place), .. }) = self.connection(token) {
                        // There may be one of the connection's last call, which has nothing to say any more.
                        if !place.as_ref().is_some_and(|backlog| Arc::ptr_eq(&backlog.outbox, &outbox)) {
                            *place = Some(Backlog::new(outbox));
                        }
                        self.drain_outbox(token);
                    }
                }
            }
        }
    }

    fn hear(&mut self) {
        // The kernel reports a message until it is read, so that two waits may both have told of it; and to read is to wait.
        if !is_readable(self.channel.as_fd()) {
            return;
        }
        let logger = self.shared.log.clone();
        match self.channel.receive_now::<ToWorker>() {
            Ok(Some((ToWorker::Serve, _))) => self.serve(),
            Ok(Some((ToWorker::Drain { within, hand_over, delay }, _))) => self.drain(within, hand_over, delay),
            Ok(Some((ToWorker::Quit, _))) => self.quit(),
            Ok(Some((ToWorker::Stacks, _))) => self.steps.push_back(Step::Stacks),
            // This turn is the answer.
            Ok(Some((ToWorker::Nudge, _))) => {}
            Ok(Some((ToWorker::Inherit, descriptors))) => self.inherit(descriptors),
            Ok(Some((ToWorker::Reopen, descriptors))) => {
                let mut descriptors = descriptors.into_iter();
                if let Some(error_log) = descriptors.next()
                    && let Err(error) = log::replace(error_log.as_fd(), &[1, 2])
                {
                    warn!(logger, "could not reopen the error log"; "error" => %error);
                }
                if self.access_log.is_on() {
                    self.access_log.reopen(descriptors.next());
                }
            }
            Ok(None) => {
                warn!(logger, "the master is gone");
                let _ = self.poll.forget(&self.channel);
                self.drain(self.shared.boot.worker.graceful_timeout, false, Duration::ZERO);
            }
            // The application has read it.
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
            Err(error) => error!(logger, "could not read the master's message"; "error" => %error),
        }
    }

    fn terminated(&mut self) {
        // Two waits may both have told of it; and to read is to wait.
        if is_readable(self.terminated.as_fd()) {
            let _ = nix::unistd::read(&self.terminated, &mut [0; 64]);
        }
        // The master answers with a drain as soon as there is a replacement; if it is stopping itself, with that drain.
        self.ask_replacement(Recycle::Signal);
    }

    /// Sends the master what the application says of its threads.
    pub fn answer_stacks(&self, stacks: String) {
        self.tell(FromWorker::Stacks(ostler_wire::channel::fit(&stacks)));
    }

    /// Watches a connection's socket. What has happened before is reported, too.
    pub fn watch(&mut self, token: Token, interest: Interest) {
        let Some(connection) = self.connections.get(token) else { return };
        // What is waited for from here on has not lain in a queue.
        connection.came = None;
        if connection.interest >= interest {
            return;
        }
        let write = if interest == Interest::ReadWrite { EpollFlags::EPOLLOUT } else { EpollFlags::empty() };
        let flags = EpollFlags::EPOLLIN | EpollFlags::EPOLLRDHUP | EpollFlags::EPOLLET | write;
        let event = Source::Connection(token).event(flags);
        let watched = match connection.interest {
            Interest::None => connection.transport.watch(&self.poll.epoll, event),
            Interest::Read | Interest::ReadWrite => connection.transport.watch_otherwise(&self.poll.epoll, event),
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

    /// The end of everything, for [`crate::run`].
    pub fn ending(&mut self) -> Ending {
        self.log_the_rest();
        self.access_log.close();
        self.life.ending()
    }
}

/// Whether reading would not wait: something has come, or the other end is closed.
fn is_readable(descriptor: BorrowedFd) -> bool {
    let mut descriptors = [PollFd::new(descriptor, PollFlags::POLLIN)];
    matches!(poll(&mut descriptors, PollTimeout::ZERO), Ok(1..))
}

/// When lost lines of the error log are to be told.
fn log_due() -> Option<Duration> {
    (log::lost() > 0).then_some(log::BETWEEN_TRIES)
}
