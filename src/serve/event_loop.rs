//! The loop: turns what has happened to descriptors, deadlines and messages into steps. Whoever locks it runs it (see crew.rs).
//! Where connections begin and end is in accepting.rs, then follow reading.rs, queue.rs, grouping.rs and finishing.rs; drains and hand-overs
//! are in moving.rs and handover.rs.

use std::{
    collections::VecDeque,
    io,
    os::fd::{AsFd, BorrowedFd, OwnedFd},
    sync::{Arc, atomic::Ordering::Relaxed},
    time::{Duration, Instant, SystemTime},
};

use nix::{
    poll::{PollFd, PollFlags, PollTimeout, poll},
    sys::epoll::{Epoll, EpollCreateFlags, EpollEvent, EpollFlags, EpollTimeout},
};
use ostler_http::{Limits, forwarded::Believed};
use ostler_wire::{
    Channel, FromWorker, Recycle, ToWorker, log,
    scoreboard::{Slot, State},
};
use slab::Slab;
use slog::{debug, error, warn};

use crate::{
    Ending, Setup,
    accepting::{make_places, most_connections},
    access_log::AccessLog,
    connection::{Backlog, Connection, Interest, Phase, Work},
    describing::believed,
    exchange::{self, Exchange},
    handover::Handover,
    idling::Idle,
    lead::{Lead, Threads, Wake},
    moving::Life,
    recall::Held,
    recycling::Recycling,
    saying::ClientLines,
    shared::{Note, Shared},
    spread::Spread,
    timers::{Timers, Token},
    transport::listener,
};

/// Events taken from the kernel at once.
const EVENTS: usize = 64;
/// Connections that go on by themselves, and timers, that one turn deals with.
const STEPS: u32 = 128;
/// Requests that wait are called for so long in one turn; then it is seen what else there is.
const CALLS: Duration = Duration::from_millis(5);
/// How often a waiting request looks for an idle sibling.
const RETRY: Duration = Duration::from_millis(1);
/// A wait so long was a sleep: nothing had happened when it began.
const SLEPT: Duration = Duration::from_millis(1);
/// Stands for no bound where there is one to compare with.
const A_DAY: Duration = Duration::from_secs(86_400);
/// Serial number of tokens that are no connections.
pub(crate) const SPECIAL: u32 = u32::MAX;
const WAKE: u32 = u32::MAX;
const CHANNEL: u32 = u32::MAX - 1;
pub(crate) const EXCHANGE: u32 = u32::MAX - 2;
const TERMINATED: u32 = u32::MAX - 3;
/// Resting connections wait on the exchange.
pub(crate) const RESTING: u32 = u32::MAX - 4;
/// The exchange has room for them.
pub(crate) const ROOM: u32 = u32::MAX - 5;

/// A call that was given up.
pub(crate) struct Stuck {
    pub token: Token,
    /// The client was told so, and the access log has it.
    pub answered: bool,
}

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
    pub(crate) believed: Believed,
    pub(crate) epoll: Arc<Epoll>,
    events: Vec<EpollEvent>,
    /// Events from the last wait, and how many of them are dealt with.
    pub(crate) filled: usize,
    pub(crate) cursor: usize,
    /// How many connections the event at hand has brought.
    pub(crate) brought: u32,
    /// How many requests were called since connections from outside were last let in.
    pub(crate) called: u32,
    pub(crate) connections: Slab<Connection>,
    pub(crate) serial: u32,
    /// Requests that are complete, oldest first.
    pub(crate) ready: VecDeque<Token>,
    /// Connections that can go on without waiting.
    pub(crate) again: VecDeque<Token>,
    /// The same, of those that have had their share of this turn: they go on in the next, when everything else was looked at.
    pub(crate) later: VecDeque<Token>,
    /// Until then requests that wait are called in this turn, and how many more steps it may take.
    calls_until: Instant,
    pub(crate) steps_left: u32,
    /// The leader waits with nothing left to do.
    sleeps: bool,
    pub(crate) steps: VecDeque<Step>,
    pub(crate) timers: Timers,
    pub(crate) listeners: Vec<OwnedFd>,
    pub(crate) armed: bool,
    pub(crate) armed_exchange: bool,
    /// Of each listener: when nobody was known to wait in its queue.
    pub(crate) looked: Vec<Instant>,
    /// Since when the stand-by leads.
    pub(crate) busy_since: Option<Instant>,
    pub(crate) paused_until: Option<Instant>,
    pub(crate) complained: Option<Instant>,
    /// What is said of single clients.
    pub(crate) client_lines: ClientLines,
    /// Connections whose bodies wait for a descriptor.
    pub(crate) parked: VecDeque<Token>,
    pub(crate) most_connections: usize,
    /// There are as many connections as may be, and none of them idles.
    pub(crate) crowded: bool,
    pub(crate) idle: Idle,
    pub(crate) exchange: Exchange,
    pub(crate) handover: Handover,
    pub(crate) spread: Spread,
    pub(crate) channel: Channel,
    terminated: OwnedFd,
    pub(crate) access_log: AccessLog,
    /// When it was last tried to tell that lines of the error log were lost.
    lost_told: Instant,
    /// When the wall clock's next second begins.
    next_second: Instant,
    pub(crate) date: [u8; 29],
    pub(crate) now: Instant,
    /// `now` of the beginning, on both clocks.
    epoch: (Instant, u64),
    pub(crate) threads: Threads,
    /// Until when the leader waits for events, while it does.
    waits_until: Option<Instant>,
    /// Calls under way, and how many of them were given up.
    pub(crate) calls: u16,
    pub(crate) stuck: Vec<Stuck>,
    /// The head of each Python thread's request, while there is an access log.
    pub(crate) heads: Vec<Vec<u8>>,
    /// Boxed, because work is handed from place to place.
    #[allow(clippy::vec_box)]
    pub(crate) spare: Vec<Box<Work>>,
    /// Finished calls whose responses wait for each other.
    #[allow(clippy::vec_box)]
    pub(crate) group: Vec<Box<Work>>,
    /// Until then every response leaves at once.
    pub(crate) single_until: Instant,
    pub(crate) scratch: Vec<u8>,
    pub(crate) life: Life,
    /// A moving average of how long calls take.
    pub(crate) service: Duration,
    /// When siblings are next looked at, if none was idle.
    pub(crate) look_again: Instant,
    pub(crate) recycling: Recycling,
    pub(crate) held: Held,
}

impl Loop {
    pub fn new(setup: Setup, shared: Arc<Shared>) -> io::Result<Loop> {
        let worker = &shared.boot.worker;
        let now = Instant::now();
        let most_connections = most_connections(worker.connections, shared.store.descriptors);
        if let Err(error) = make_places(most_connections) {
            debug!(shared.log, "no places for descriptors"; "error" => %error);
        }
        let mut event_loop = Loop {
            limits: Limits {
                line: worker.limit_request_line as usize,
                fields: worker.limit_request_fields as usize,
                field: worker.limit_request_field_size as usize,
                head: worker.limit_request_head as usize,
            },
            believed: believed(&worker.forwarded_fields),
            epoll: Arc::new(Epoll::new(EpollCreateFlags::EPOLL_CLOEXEC)?),
            events: vec![EpollEvent::empty(); EVENTS],
            filled: 0,
            cursor: 0,
            brought: 0,
            called: 0,
            connections: Slab::new(),
            serial: 0,
            ready: VecDeque::new(),
            again: VecDeque::new(),
            later: VecDeque::new(),
            calls_until: now + CALLS,
            steps_left: STEPS,
            sleeps: false,
            steps: VecDeque::new(),
            timers: Timers::default(),
            listeners: setup.listeners,
            armed: false,
            armed_exchange: false,
            looked: Vec::new(),
            busy_since: None,
            paused_until: None,
            complained: None,
            client_lines: ClientLines::default(),
            parked: VecDeque::new(),
            most_connections,
            crowded: false,
            idle: Idle::default(),
            handover: Handover::new(most_connections),
            spread: Spread::default(),
            exchange: Exchange::new(setup.exchange_give, setup.exchange_take)?,
            channel: setup.channel,
            terminated: setup.terminated,
            access_log: AccessLog::new(&worker.access_log_format, setup.access_log, setup.log.clone()),
            lost_told: now,
            next_second: now,
            date: [b' '; 29],
            now,
            epoch: (now, ostler_wire::scoreboard::now()),
            threads: Threads::new(),
            waits_until: None,
            calls: 0,
            stuck: Vec::new(),
            heads: vec![Vec::new(); worker.threads.into()],
            spare: Vec::new(),
            group: Vec::new(),
            single_until: now,
            scratch: vec![0; exchange::PACKET],
            life: Life::Waiting,
            service: Duration::ZERO,
            look_again: now,
            recycling: Recycling::new(worker, now),
            held: Held::new(worker.threads),
            shared: shared.clone(),
        };
        event_loop.looked.resize(event_loop.listeners.len(), now);
        for listener in &event_loop.listeners {
            listener::prepare(listener.as_fd());
        }
        let watch =
            |descriptor, place| event_loop.epoll.add(descriptor, EpollEvent::new(EpollFlags::EPOLLIN, special(place)));
        watch(shared.alarm.as_fd(), WAKE)?;
        watch(event_loop.channel.as_fd(), CHANNEL)?;
        watch(event_loop.terminated.as_fd(), TERMINATED)?;
        event_loop.tell_time();
        let slot = event_loop.slot();
        slot.since.store(event_loop.milliseconds(), Relaxed);
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

    /// `now` in milliseconds of the scoreboard's clock.
    pub fn milliseconds(&self) -> u64 {
        self.milliseconds_at(self.now)
    }

    /// The same of another moment.
    pub fn milliseconds_at(&self, moment: Instant) -> u64 {
        self.epoch.1 + moment.saturating_duration_since(self.epoch.0).as_millis() as u64
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
        let armed = self.armed;
        self.arm();
        let at_hand = self.ready.len() + self.again.len() + self.later.len() + self.events_left();
        if self.armed && !armed && at_hand > 0 {
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
        self.now = Instant::now();
        self.threads.lead = Lead::Standby;
        if !self.recall() && waits {
            self.threads.learn(true);
        }
        self.slot().enter(State::Busy);
        self.busy_since.get_or_insert(self.now);
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
                    if (self.now < self.calls_until || !self.leads(Some(seat)))
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
            if self.steps_left > 0
                && let Some(token) = self.again.pop_front()
            {
                self.steps_left -= 1;
                self.go_on(token);
            } else if self.cursor < self.filled {
                let event = self.events[self.cursor];
                self.cursor += 1;
                self.handle(event);
            } else if self.steps_left > 0
                && let Some((token, popped)) = self.timers.pop(self.now)
            {
                self.steps_left -= 1;
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
        if let (Some(until), Some(due)) = (self.waits_until, self.due())
            && due < until
        {
            self.shared.wake();
        }
    }

    /// The leader is about to wait for events, or only to look if there is something left to do: where they go, and for how long.
    pub fn begin_wait(&mut self) -> (Vec<EpollEvent>, EpollTimeout) {
        self.access_log.flush();
        if !self.later.is_empty() {
            self.again.append(&mut self.later);
        }
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
        self.waits_until = Some(due.unwrap_or_else(|| self.now + A_DAY));
        // Rounded up: waking before the deadline would only mean waiting again.
        let wait = due.map_or(EpollTimeout::NONE, |due| {
            let round = if self.sleeps { Duration::from_micros(999) } else { Duration::ZERO };
            let wait = due.saturating_duration_since(self.now) + round;
            EpollTimeout::try_from(wait).unwrap_or(EpollTimeout::MAX)
        });
        let mut events = std::mem::take(&mut self.events);
        events.resize(EVENTS, EpollEvent::empty());
        (events, wait)
    }

    /// The leader has waited, and this has happened. Another thread may lead by now, and be busy with other events.
    pub fn end_wait(&mut self, seat: Option<u16>, mut events: Vec<EpollEvent>, filled: nix::Result<usize>) {
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
        if self.cursor < self.filled {
            self.events.truncate(self.filled);
            self.events.extend_from_slice(&events[..filled]);
            self.filled += filled;
        } else {
            std::mem::swap(&mut self.events, &mut events);
            self.filled = filled;
            self.cursor = 0;
            self.brought = 0;
        }
        self.handover.turn();
        if self.leads(seat) {
            self.waits_until = None;
            if self.slot().state() == State::Idle {
                self.slot().enter(State::Working);
            }
        }
        if self.armed {
            self.called = 0;
        }
        self.count_turn();
        let before = std::mem::replace(&mut self.now, Instant::now());
        if self.armed && self.sleeps && self.now - before >= SLEPT {
            self.looked.fill(self.now);
        }
        self.calls_until = self.now + CALLS;
        self.steps_left = STEPS;
        self.tell_time();
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
        !self.again.is_empty()
            || !self.later.is_empty()
            || self.shared.store.has_rubbish()
            || !self.ready.is_empty() && self.thread_free()
    }

    /// When time alone brings something about.
    fn due(&self) -> Option<Instant> {
        if self.has_more_to_do() {
            return Some(self.now);
        }
        let soon = (!self.ready.is_empty()).then(|| self.now + RETRY);
        let logs = self.access_log.due().into_iter().chain(log_due()).min().map(|wait| self.now + wait);
        let dues = [
            soon,
            self.timers.due(),
            self.paused_until,
            self.life.due(),
            self.recycling.due(),
            self.lets_in_at(),
            self.recall_due(),
            self.held.due(),
            self.client_lines.due(),
            self.spread.due(),
            self.handover.due(self.now),
            logs,
        ];
        dues.into_iter().flatten().min()
    }

    /// What time alone brings about, apart from the connections' deadlines.
    fn look_around(&mut self) {
        if self.paused_until.is_some_and(|until| until <= self.now) {
            self.paused_until = None;
            self.arm();
        }
        if self.lets_in_at().is_some_and(|at| at <= self.now) {
            self.arm();
        }
        self.recall();
        self.look_at_held();
        self.take_again();
        if self.shared.store.has_rubbish() {
            self.shared.store.clear_away();
        }
        self.unpark();
        if self.crowded && self.has_room() {
            self.crowded = false;
            self.arm();
        }
        self.shed();
        self.drain_goes_on();
        self.look_at_age_and_memory();
        if log::lost() > 0 && self.lost_told + log::BETWEEN_TRIES <= self.now {
            self.lost_told = self.now;
            log::tell_lost(&self.shared.log);
        }
        self.say_left_out();
    }

    /// Looks at the wall clock when a second of it is over.
    pub fn tell_time(&mut self) {
        if self.now < self.next_second {
            return;
        }
        let now = SystemTime::now();
        let into_second = now.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default().subsec_nanos();
        self.next_second = self.now + Duration::from_nanos(1_000_000_000 - u64::from(into_second));
        self.date.copy_from_slice(httpdate::fmt_http_date(now).as_bytes());
        self.access_log.tell_time();
    }

    fn handle(&mut self, event: EpollEvent) {
        let token = Token { place: event.data() as u32, serial: (event.data() >> 32) as u32 };
        match (token.serial, token.place) {
            (SPECIAL, WAKE) => self.read_notes(),
            (SPECIAL, CHANNEL) => self.hear(),
            (SPECIAL, EXCHANGE) => self.take_moved(),
            (SPECIAL, RESTING) => self.take_resting(),
            (SPECIAL, ROOM) => self.room_again(),
            (SPECIAL, TERMINATED) => self.terminated(),
            (SPECIAL, listener) => self.accept(listener as u16),
            _ => self.client_event(token, event.events()),
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
        let (now, timers) = (self.now, &mut self.timers);
        let Some(connection) = find(&mut self.connections, token) else { return };
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
                let _ = self.epoll.delete(self.channel.as_fd());
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
        let Some(connection) = find(&mut self.connections, token) else { return };
        // What is waited for from here on has not lain in a queue.
        connection.came = None;
        if connection.interest >= interest {
            return;
        }
        let write = if interest == Interest::ReadWrite { EpollFlags::EPOLLOUT } else { EpollFlags::empty() };
        let flags = EpollFlags::EPOLLIN | EpollFlags::EPOLLRDHUP | EpollFlags::EPOLLET | write;
        let event = EpollEvent::new(flags, u64::from(token.place) | u64::from(token.serial) << 32);
        let watched = match connection.interest {
            Interest::None => connection.transport.watch(&self.epoll, event),
            Interest::Read | Interest::ReadWrite => connection.transport.watch_otherwise(&self.epoll, event),
        };
        connection.interest = interest;
        if let Err(error) = watched {
            error!(self.shared.log, "could not watch a connection"; "error" => %error);
            self.close(token);
        }
    }

    pub fn connection(&mut self, token: Token) -> Option<&mut Connection> {
        find(&mut self.connections, token)
    }

    /// How many events of this turn are still to be dealt with.
    pub fn events_left(&self) -> usize {
        self.filled - self.cursor
    }

    /// The end of everything, for [`crate::run`].
    pub fn ending(&mut self) -> Ending {
        self.log_the_rest();
        self.access_log.close();
        self.life.ending()
    }
}

/// The connection that a token names, if it is still that one.
pub(crate) fn find(connections: &mut Slab<Connection>, token: Token) -> Option<&mut Connection> {
    connections.get_mut(token.place as usize).filter(|connection| connection.token == token)
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

pub(crate) fn special(place: u32) -> u64 {
    u64::from(place) | u64::from(SPECIAL) << 32
}
