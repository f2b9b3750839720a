//! The master's loop: signals, messages and time become events; what state.rs makes of them, perform.rs does.

use std::{collections::VecDeque, path::PathBuf};

use nix::{
    errno::Errno,
    poll::{PollFd, PollFlags, PollTimeout, poll},
    sys::signal::Signal,
};
use ostler_wire::log;
use slog::{error, warn};
use std::os::fd::AsFd;

use self::{
    event::{Event, Number},
    judging::Judging,
    keepers::KeeperId,
    perform::{Performer, Reread, UpgradeStep},
    sizing::Sizing,
    state::State,
    upgrade::SavedMaster,
    watch::Watch,
};
use crate::{
    background::Announce,
    exit::{Exit, Failure, words},
    resources::{
        control::Asker,
        line::Line,
        listen::{ListenerId, Listeners},
        page::{Page, Visitor},
    },
    settings::Settings,
    sys::{clock::Moment, descriptors, names, process, signals::Signals},
};

mod check;
mod commands;
pub mod doctor;
mod elastic;
mod event;
mod events;
mod generation;
mod hooks;
mod judging;
mod keepers;
mod mending;
mod metrics;
mod notes;
mod oom;
mod pages;
mod perform;
mod sampling;
#[cfg(test)]
mod simulation;
mod sizing;
mod slots;
mod spawn;
mod stacks_request;
mod state;
mod statsd;
pub mod status;
mod team;
mod tickets;
mod totals;
mod turns;
pub mod upgrade;
mod verdict;
mod watch;

pub use check::check;

/// Runs until it is told to stop, or the first generation could not boot. Called while the process has one thread.
/// `directory`: where it was started.
pub fn run(
    settings: Settings,
    directory: PathBuf,
    reread: Reread,
    announce: Option<Announce>,
) -> Result<Exit, Failure> {
    match Master::prepare(settings, directory, reread) {
        Ok(mut master) => {
            master.performer.announce = announce;
            master.handle(Event::Start);
            Ok(master.turn())
        }
        Err(failure) => {
            if let Some(announce) = announce {
                announce.tell(failure.exit, &failure.to_string());
            }
            Err(failure)
        }
    }
}

/// Goes on where another executable was in this process.
pub fn resume(saved: SavedMaster, reread: Reread) -> Result<Exit, Failure> {
    let system = |error: std::io::Error| Failure::new(Exit::System, format!("could not go on: {}", words(&error)));
    descriptors::reserve_channel_place().map_err(system)?;
    let signals = Signals::collect().map_err(system)?;
    let (directory, daemon, judging) = (saved.directory.clone(), saved.daemon, saved.judging.clone());
    let executable = upgrade::executable(&directory);
    log::keep().map_err(system)?;
    let (state, performer) = saved.take(reread).map_err(system)?;
    let mut master =
        Master { state, performer, judging, sizing: Default::default(), signals, directory, executable, daemon };
    if let Some(serving) = master.state.serving() {
        let number = serving.number;
        master.performer.use_log_of(number);
        let boot = master.performer.teams.get(&number).map(|team| team.settings.boot.clone());
        boot.iter().for_each(|boot| master.performer.entitle(boot));
        master.performer.use_statsd_of(number);
        let page = master.performer.teams.get(&number).and_then(|team| team.settings.page.clone());
        master.performer.use_page(page);
    }
    master.performer.notify.resumed();
    master.handle(Event::Upgraded);
    master.performer.renew_all();
    master.bury_children();
    Ok(master.turn())
}

/// So many messages of one peer are heard before the others have their turn.
const ONE_TURN: usize = 16;

struct Master<'a> {
    state: State,
    performer: Performer<'a>,
    judging: Judging,
    sizing: Sizing,
    signals: Signals,
    /// Where the first master was started.
    directory: PathBuf,
    /// What an upgrade executes.
    executable: PathBuf,
    /// `--daemon`: WINCH means something.
    daemon: bool,
}

/// Whose descriptor is readable.
#[derive(Clone, Copy)]
enum Source {
    Signals,
    Template(Number),
    /// The one that is kept, or is to be.
    Beside(Number),
    Worker(Number, u16),
    Keeper(KeeperId),
    /// Its files have changed.
    Files(KeeperId),
    Control,
    Asker(Asker),
    /// The address of `--metrics`.
    Page,
    Visitor(Visitor),
    /// What workers share: a listener, or the exchange. Readable once an application has shut it down.
    Listener(ListenerId),
    Exchange,
}

impl Source {
    fn name(self) -> &'static str {
        match self {
            Source::Signals => "signals",
            Source::Template(_) | Source::Beside(_) => "a template's message",
            Source::Worker(..) => "a worker's message",
            Source::Keeper(_) => "a key keeper's message",
            Source::Files(_) => "certificates that have changed",
            Source::Control => "a control connection",
            Source::Asker(_) => "a command",
            Source::Page | Source::Visitor(_) => "somebody at the metrics",
            Source::Listener(_) | Source::Exchange => "the end of what is shared",
        }
    }
}

impl<'a> Master<'a> {
    fn prepare(settings: Settings, directory: PathBuf, reread: Reread<'a>) -> Result<Master<'a>, Failure> {
        let system = |error: std::io::Error| Failure::new(Exit::System, format!("could not start: {}", words(&error)));
        let mut listeners = Listeners::default();
        listeners.adopt(&settings)?;
        descriptors::reserve_channel_place().map_err(system)?;
        let signals = Signals::collect().map_err(system)?;
        process::adopt_orphans().map_err(system)?;
        process::raise_descriptor_limit().map_err(system)?;
        let daemon = settings.daemon;
        let performer = Performer::new(settings, listeners, reread)?;
        let executable = upgrade::executable(&directory);
        let (judging, sizing) = Default::default();
        Ok(Master { state: State::new(), performer, judging, sizing, signals, directory, executable, daemon })
    }

    fn turn(mut self) -> Exit {
        loop {
            if let Some(result) = self.performer.ended.take() {
                self.performer.tell_statsd(&self.state);
                return result.map_or_else(|failure| failure.exit, |()| Exit::Success);
            }
            let ready = self.wait();
            self.performer.turns.begin();
            // Before the end of a watch is decided upon.
            self.judge(Moment::now());
            let mut broken = Vec::new();
            for source in ready {
                self.performer.turns.doing(source.name());
                match source {
                    Source::Signals => self.take_signals(),
                    Source::Template(generation) => self.hear_template(generation, ONE_TURN),
                    Source::Beside(generation) => self.hear_beside(generation, ONE_TURN),
                    Source::Worker(generation, slot) => self.hear_worker(generation, slot, ONE_TURN),
                    Source::Keeper(keeper) => self.hear_keeper(keeper),
                    Source::Files(keeper) => self.performer.keepers.look_at_files(keeper, Moment::now()),
                    Source::Control => self.take_connection(),
                    Source::Asker(asker) => self.hear_asker(asker),
                    Source::Page => self.performer.page.iter_mut().for_each(|page| page.accept(Moment::now())),
                    Source::Visitor(visitor) => self.hear_visitor(visitor),
                    Source::Listener(_) | Source::Exchange => broken.push(source),
                }
            }
            if !broken.is_empty() {
                self.performer.turns.doing("what is broken");
                self.performer.mend(&broken);
            }
            self.performer.turns.doing("what is due");
            self.performer.end_late_errand(Moment::now());
            self.performer.look_after_keepers(Moment::now());
            self.performer.doctor.expire(Moment::now());
            self.performer.page.iter_mut().for_each(|page| page.expire(Moment::now()));
            self.performer.close_stacks_requests(Moment::now());
            self.answer_status(Moment::now());
            self.tell_systemd(Moment::now());
            log::tell_lost(&self.performer.log);
            self.watch(Moment::now());
            self.size(Moment::now());
            if self.performer.statsd.as_ref().is_some_and(|statsd| statsd.next <= Moment::now()) {
                self.performer.tell_statsd(&self.state);
            }
            self.handle(Event::Tick);
            let performer = &mut self.performer;
            performer.turns.end(&performer.log);
        }
    }

    /// Waits until something happens or becomes due.
    fn wait(&self) -> Vec<Source> {
        let mut sources = vec![Source::Signals];
        let mut polled = vec![PollFd::new(self.signals.as_fd(), PollFlags::POLLIN)];
        for (&number, team) in &self.performer.teams {
            sources.extend(team.template.as_ref().map(|_| Source::Template(number)));
            polled.extend(team.template.as_ref().map(polled_line));
            sources.extend(team.beside.as_ref().map(|_| Source::Beside(number)));
            polled.extend(team.beside.as_ref().map(polled_line));
            sources.extend(team.workers.keys().map(|&slot| Source::Worker(number, slot)));
            polled.extend(team.workers.values().map(polled_line));
        }
        for (id, entry) in self.performer.keepers.living().filter(|(_, entry)| !entry.closed) {
            sources.push(Source::Keeper(id));
            polled.push(polled_line(entry.keeper.line()));
        }
        for (id, files) in self.performer.keepers.files() {
            sources.push(Source::Files(id));
            polled.push(PollFd::new(files.as_fd(), PollFlags::POLLIN));
        }
        let control = &self.performer.control;
        sources.extend(control.open.as_ref().map(|_| Source::Control));
        polled.extend(control.open.as_ref().map(|open| PollFd::new(open.socket.as_fd(), PollFlags::POLLIN)));
        for (&asker, conversation) in &control.conversations {
            let writable = if conversation.is_full() { PollFlags::POLLOUT } else { PollFlags::empty() };
            sources.push(Source::Asker(asker));
            polled.push(PollFd::new(conversation.as_fd(), PollFlags::POLLIN | writable));
        }
        if let Some(page) = &self.performer.page {
            if let Some(socket) = page.listens(Moment::now()) {
                sources.push(Source::Page);
                polled.push(PollFd::new(socket, PollFlags::POLLIN));
            }
            for (visitor, socket, writes) in page.visitors() {
                sources.push(Source::Visitor(visitor));
                polled.push(PollFd::new(socket, if writes { PollFlags::POLLOUT } else { PollFlags::POLLIN }));
            }
        }
        if self.performer.may_mend(Moment::now()) {
            for (source, shared) in self.performer.shared() {
                sources.push(source);
                polled.push(PollFd::new(shared, PollFlags::from_bits_retain(libc::POLLRDHUP)));
            }
        }
        match poll(&mut polled, self.timeout()) {
            Ok(_) => {}
            Err(Errno::EINTR) => return Vec::new(),
            Err(error) => error!(self.performer.log, "poll failed"; "reason" => error.desc()),
        }
        let ready = polled.iter().map(|fd| fd.any().unwrap_or(true));
        sources.into_iter().zip(ready).filter_map(|(source, ready)| ready.then_some(source)).collect()
    }

    fn timeout(&self) -> PollTimeout {
        let now = Moment::now();
        let stacks = self.performer.stacks_requests.iter().map(|request| request.deadline).min();
        let lost = (log::lost() > 0).then(|| now + log::BETWEEN_TRIES);
        let reading = self.performer.reading.as_ref().map(|(_, errand)| errand.deadline);
        let own = [
            self.performer.notify.deadline(),
            self.performer.sampling.deadline(),
            self.performer.doctor.deadline(),
            reading,
            stacks,
            lost,
            self.performer.watch.next,
            self.performer.keepers.deadline(),
            self.performer.tickets.as_ref().map(|tickets| tickets.next),
            self.judging.deadline(),
            self.sizing.next,
            self.performer.mends_at(now),
            self.performer.statsd.as_ref().map(|statsd| statsd.next),
            self.performer.page.as_ref().and_then(Page::deadline),
        ];
        let deadlines = own.into_iter().chain([self.state.deadline(now)]);
        let deadline = deadlines.flatten().min();
        match deadline {
            None => PollTimeout::NONE,
            Some(deadline) => PollTimeout::try_from(deadline - now).unwrap_or(PollTimeout::MAX),
        }
    }

    /// One event, and what its actions bring about at once.
    fn handle(&mut self, event: Event) {
        let mut events = VecDeque::from([event]);
        while let Some(event) = events.pop_front() {
            for action in self.state.handle(event, Moment::now()) {
                events.extend(self.performer.perform(action));
            }
            if events.is_empty()
                && let Some(step) = self.performer.upgrade.take()
            {
                events.push_back(self.upgrade(step));
            }
        }
        if self.performer.notify.is_heard() && self.performer.ended.is_none() {
            self.performer.notify.tell(&self.state.standing());
        }
    }

    /// Root executes nothing that the application could have put there.
    fn may_execute(&self) -> Result<(), String> {
        let mut identities = self.performer.teams.values().filter_map(|team| team.settings.identity.as_ref());
        identities.try_for_each(|identity| names::keep_from(&self.executable, identity)).map_err(|why| {
            format!("the application could change {}, which root executes: {why}", self.executable.display())
        })
    }

    /// What it waits for, and what it should know.
    fn tell_systemd(&mut self, now: Moment) {
        let (notify, log) = (&mut self.performer.notify, &self.performer.log);
        if notify.alive(now, self.state.answers()) {
            error!(log, "no worker answers"; "then" => "systemd is not told any more that the site lives");
        }
        if let Some(why) = notify.unheard() {
            warn!(log, "service manager not told"; "reason" => why);
        }
    }

    /// A step of an upgrade; the last one returns only if it comes to nothing.
    fn upgrade(&mut self, step: UpgradeStep) -> Event {
        let saved = |master: &Self| {
            let Master { state, performer, judging, directory, daemon, .. } = master;
            SavedMaster::note(state, performer, judging, directory, *daemon)
        };
        match step {
            UpgradeStep::Try => {
                match self.may_execute().and_then(|()| upgrade::try_out(&saved(self), &self.executable)) {
                    Ok((pid, held)) => {
                        self.performer.children.insert(pid, held);
                        Event::TrialStarted(pid)
                    }
                    Err(why) => Event::UpgradeFailed(why),
                }
            }
            UpgradeStep::Execute => {
                self.answer_status(Moment(u64::MAX));
                self.performer.finish_conversations();
                self.performer.tell_statsd(&self.state);
                Event::UpgradeFailed(upgrade::execute(&saved(self), &self.executable))
            }
        }
    }

    fn take_signals(&mut self) {
        loop {
            match self.signals.next() {
                Ok(Some(Signal::SIGCHLD)) => self.bury_children(),
                Ok(Some(signal)) => self.obey(signal),
                Ok(None) => return,
                Err(error) => return error!(self.performer.log, "signals not read"; "reason" => words(&error)),
            }
        }
    }

    /// Looks whether the workers make progress, if that is due.
    fn watch(&mut self, now: Moment) {
        if self.performer.watch.next.is_none_or(|next| now < next) {
            return;
        }
        let mut watch = std::mem::replace(&mut self.performer.watch, Watch::new(now));
        let events = watch.look(&self.state, &self.performer, now);
        self.performer.sample(&self.state, now, watch.next.is_none());
        self.performer.watch = watch;
        let lost = self.performer.lost_listeners();
        if !lost.is_empty() && self.performer.may_mend(now) {
            self.performer.mend(&lost);
        }
        events.into_iter().for_each(|event| self.handle(event));
    }

    fn bury_children(&mut self) {
        while let Some((pid, stopped)) = process::next_stopped() {
            self.handle(Event::Stopped { pid, stopped });
        }
        while let Some(pid) = process::next_ended() {
            self.hear_everybody();
            self.note_cpu_time(pid);
            let Some(exit) = process::bury(pid) else { break };
            self.performer.children.remove(&pid);
            self.performer.tell_hooks(pid);
            let exit = self.performer.oom_kills.judge(exit);
            match self.performer.errand_ended(pid, exit) {
                None => self.handle(Event::Exited { pid, exit }),
                Some(event) => event.into_iter().for_each(|event| self.handle(event)),
            }
        }
        self.performer.oom_kills.settle();
    }

    /// What a worker that has ended has used in all, while its process can still be looked at.
    fn note_cpu_time(&mut self, pid: i32) {
        for generation in self.state.generations() {
            if let Some(worker) = generation.slots.iter().find(|worker| worker.pid == Some(pid))
                && let Some(time) = sampling::cpu_time(pid)
            {
                self.performer.totals.spent(generation.number, worker.slot, time);
            }
        }
    }

    /// What the dead have said before they died comes first, however much it is: a line bounds it.
    fn hear_everybody(&mut self) {
        let numbers: Vec<Number> = self.performer.teams.keys().copied().collect();
        for number in numbers {
            self.hear_template(number, usize::MAX);
            self.hear_beside(number, usize::MAX);
            let team = self.performer.teams.get(&number);
            let slots: Vec<u16> = team.map(|team| team.workers.keys().copied().collect()).unwrap_or_default();
            for slot in slots {
                self.hear_worker(number, slot, usize::MAX);
            }
        }
    }

    fn hear_template(&mut self, generation: Number, most: usize) {
        for _ in 0..most {
            let Some(event) = self.performer.hear_template(generation) else { return };
            self.handle(event);
        }
    }

    fn hear_beside(&mut self, generation: Number, most: usize) {
        for _ in 0..most {
            let Some(event) = self.performer.hear_beside(generation) else { return };
            self.handle(event);
        }
    }

    fn hear_keeper(&mut self, keeper: KeeperId) {
        let event = self.performer.hear_keeper(keeper);
        event.into_iter().for_each(|event| self.handle(event));
    }

    fn hear_worker(&mut self, generation: Number, slot: u16, most: usize) {
        for _ in 0..most {
            let Some(event) = self.performer.hear_worker(generation, slot) else { return };
            self.handle(event);
        }
    }
}

fn polled_line(line: &Line) -> PollFd<'_> {
    let writable = if line.is_full() { PollFlags::POLLOUT } else { PollFlags::empty() };
    PollFd::new(line.as_fd(), PollFlags::POLLIN | writable)
}
