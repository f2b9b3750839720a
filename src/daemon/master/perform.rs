//! Does what state.rs has decided. Each action is one method; what comes of it at once goes back as an event.

use std::{collections::BTreeMap, io, os::fd::AsFd, sync::atomic::Ordering::Relaxed, time::Duration};

use ostler_wire::{self as wire, EXCHANGE_VERSION, ToTemplate, ToWorker, limits, log::Process, title::Title};
use slog::{Logger, error, info, warn};

use super::{
    doctor::Doctor,
    event::{Action, Event, Number},
    events::{Events, ROUTINE},
    generation::Backoff,
    hooks::Hooks,
    keepers::Keepers,
    oom::OomKills,
    pages::{History, Pages},
    sampling::Sampling,
    stacks_request::StacksRequest,
    statsd::Statsd,
    team::{Exchange, Team},
    tickets::Tickets,
    totals::Totals,
    turns::Turns,
    watch::Watch,
};
use crate::{
    background::Announce,
    exit::{Exit, Failure, words},
    resources::{
        control::{self, Control, Open},
        listen::{Bound, Listeners},
        logs::{Logs, Standard},
        notify::Notify,
        page::Page,
        pidfile::PidFile,
    },
    settings::Settings,
    sys::{clock::Moment, descriptors, diag, errand::Errand, pidfd::PidFd},
};

/// The kernel asks a client again, whom a listener holds back, a second after it came; and a little more.
const SILENCE: Duration = Duration::from_millis(1250);

mod booting;
mod counting;
mod hearing;
mod keeping;
mod reforking;
mod smoke;
mod stacks;
mod telling;

use smoke::SmokeErrand;

/// Looks at the settings afresh.
pub type Reread<'a> = &'a dyn Fn() -> Result<Settings, Failure>;

/// Everything outside the state machine that the master owns.
pub struct Performer<'a> {
    /// For each boot but the first.
    pub reread: Reread<'a>,
    /// The settings of the first generation, read by main.
    pub first: Option<Settings>,
    /// How the end came, once it has.
    pub ended: Option<Result<(), Failure>>,
    /// A step of an upgrade that was ordered. It needs the state, and follows all other actions.
    pub upgrade: Option<UpgradeStep>,
    /// The generations' descriptors.
    pub teams: BTreeMap<Number, Team>,
    /// Every child that somebody may have to kill, by its number, until it is reaped.
    pub children: BTreeMap<i32, PidFd>,
    /// Where connections of generations that boot from now on move.
    pub exchange: Exchange,
    /// The exchange of the generation that serves, by its version: connections can move there from no other.
    pub served_exchange: u16,
    /// The sockets.
    pub listeners: Listeners,
    /// systemd.
    pub notify: Notify,
    /// Our pid file.
    pub pid_file: Option<PidFile>,
    /// The control socket.
    pub control: Control,
    /// The settings that a generation is to boot with, while a child looks at them.
    pub reading: Option<(Number, Errand)>,
    /// A child that asks for a smoke test.
    pub smoke: Option<SmokeErrand>,
    /// How much memory everybody has.
    pub sampling: Sampling,
    /// Looks at the site and its machine.
    pub doctor: Doctor,
    /// How long the master's turns are.
    pub turns: Turns,
    /// Questions for stacks that are under way.
    pub stacks_requests: Vec<StacksRequest>,
    /// Whom the kernel has killed.
    pub oom_kills: OomKills,
    /// How many workers were replaced, by cause.
    pub restarts: BTreeMap<String, u64>,
    /// How many generations after the first came to serve, or did not.
    pub reloads: BTreeMap<String, u64>,
    /// When the last of them did, in microseconds since 1970.
    pub last_reloads: BTreeMap<String, u64>,
    /// What the workers have counted.
    pub totals: Totals,
    /// Who else is told what they have counted.
    pub statsd: Option<Statsd>,
    /// The address of `--metrics`, and what is told there.
    pub page: Option<Page>,
    pub pages: Option<Pages>,
    pub history: History,
    /// Whether the workers make progress.
    pub watch: Watch,
    /// When something shared may be made anew, after an application has broken it again and again.
    pub mending: Backoff,
    /// The listening sockets at the stop, by their inodes.
    pub stopped_listeners: Vec<(u64, String)>,
    /// How much longer workers accept at the stop, once that is known.
    pub silence: Option<Duration>,
    /// Calls the hooks of gunicorn's master.
    pub hooks: Option<Hooks>,
    /// Who has the private keys.
    pub keepers: Keepers,
    /// What session tickets are made with, once there is a keeper.
    pub tickets: Option<Tickets>,
    /// The process that waits for the first generation (`--daemon`).
    pub announce: Option<Announce>,
    /// What `ps` shows of the master, if that is not its command line.
    pub title: Option<Title>,
    /// What the master was started with.
    pub standard: Standard,
    /// The last of what the log was told.
    pub events: Events,
    /// The master's own; it keeps the events, too.
    pub log: Logger,
}

/// A step of an upgrade.
#[derive(Debug, Clone, Copy)]
pub enum UpgradeStep {
    /// [`Action::TryUpgrade`]
    Try,
    /// [`Action::Execute`]
    Execute,
}

impl<'a> Performer<'a> {
    /// Ready for [`Action::Boot`] of the first generation.
    pub fn new(settings: Settings, mut listeners: Listeners, reread: Reread<'a>) -> Result<Performer<'a>, Failure> {
        listeners.open(&settings)?;
        let standard = Standard::remember().map_err(|error| system("copy standard error", error))?;
        let pid_file = settings.pid_file.as_deref().map(PidFile::write).transpose()?;
        let logs = Logs::open(&settings, &standard)?;
        descriptors::become_standard_error(logs.error()).map_err(|error| system("redirect standard error", error))?;
        wire::log::keep().map_err(|error| system("copy the error log", error))?;
        let events = Events::default();
        let logger = wire::log::logger(wire::log::Process::Master, settings.log_level(), &settings.boot.logging);
        let log = events.along(logger);
        info!(log, "starting"; "version" => env!("CARGO_PKG_VERSION"), "pid" => std::process::id(),
            "python" => &settings.python_version, "executable" => %settings.python.display());
        for bound in listeners.iter() {
            info!(log, #ROUTINE, "listening"; "address" => &bound.told.name);
        }
        let exchange = Exchange::new().map_err(|error| system("make a socket pair", error))?;
        let mut performer =
            Performer { pid_file, events, ..Performer::at_rest(reread, listeners, exchange, standard, log) };
        if let Err(failure) = performer.open_control(&settings) {
            // The reason is read where the master was started.
            let _ = descriptors::become_standard_error(performer.standard.error.as_fd());
            return Err(failure);
        }
        performer.entitle(&settings.boot);
        let page = settings.page.as_ref().map(Page::bind).transpose();
        performer.page = page.inspect_err(|_| {
            let _ = descriptors::become_standard_error(performer.standard.error.as_fd());
        })?;
        performer.first = Some(settings);
        Ok(performer)
    }

    /// One that has no children and has nothing under way.
    pub fn at_rest(
        reread: Reread<'a>,
        listeners: Listeners,
        exchange: Exchange,
        standard: Standard,
        log: Logger,
    ) -> Performer<'a> {
        Performer {
            reread,
            first: None,
            ended: None,
            upgrade: None,
            teams: BTreeMap::new(),
            children: BTreeMap::new(),
            exchange,
            served_exchange: EXCHANGE_VERSION,
            listeners,
            notify: Notify::from_environment(),
            pid_file: None,
            control: Control::default(),
            reading: None,
            smoke: None,
            sampling: Sampling::default(),
            doctor: Doctor::default(),
            turns: Turns::new(),
            stacks_requests: Vec::new(),
            oom_kills: OomKills::watch(),
            restarts: BTreeMap::new(),
            reloads: BTreeMap::new(),
            last_reloads: BTreeMap::new(),
            totals: Totals::default(),
            statsd: None,
            page: None,
            pages: None,
            history: History::default(),
            watch: Watch::new(Moment::now()),
            mending: Backoff::NONE,
            stopped_listeners: Vec::new(),
            silence: None,
            hooks: None,
            keepers: Keepers::default(),
            tickets: None,
            announce: None,
            title: None,
            standard,
            events: Events::default(),
            log,
        }
    }

    /// The socket at the default place may be another master's, whose name nobody has chosen either: then ours is beside it.
    fn open_control(&mut self, settings: &Settings) -> Result<(), Failure> {
        let (chosen, access) = (settings.control_chosen, settings.control_access);
        let wanted = settings.control.as_deref();
        let beside = wanted.filter(|_| !chosen).map(control::beside);
        let is_it = |open: &Open| open.access == access && [wanted, beside.as_deref()].contains(&Some(&open.path));
        if self.control.open.as_ref().map_or(wanted.is_none(), is_it) {
            return Ok(());
        }
        self.control.open = None;
        let Some(wanted) = wanted else { return Ok(()) };
        let opened = Open::bind(wanted, chosen, access).or_else(|failure| {
            let beside = beside.as_deref().and_then(|path| Open::bind(path, chosen, access).ok()).ok_or(failure)?;
            warn!(self.log, "another ostler has this name"; "control" => %beside.path.display(),
                "hint" => "give each site a --name");
            Ok(beside)
        });
        match opened {
            Err(failure) if chosen || access.is_shared() => return Err(failure),
            Err(failure) => warn!(self.log, "no control socket"; "reason" => %failure),
            Ok(open) => self.control.open = Some(open),
        }
        Ok(())
    }

    /// Where gunicorn's configuration is in force, the master is called what people look for there. Elsewhere its command line is shown.
    pub fn entitle(&mut self, boot: &wire::Boot) {
        if self.title.is_none() && boot.gunicorn.as_ref().is_some_and(|gunicorn| gunicorn.in_force) {
            self.title = Title::find_with_environment();
        }
        if let Some(title) = &mut self.title {
            title.set(wire::title::of(boot, Process::Master));
        }
    }

    /// Does one thing.
    pub fn perform(&mut self, action: Action) -> Option<Event> {
        self.turns.doing(action.name());
        match action {
            Action::Boot { generation, like } => return self.boot(generation, like),
            Action::Fork { generation, slot } => return self.fork(generation, slot),
            Action::Smoke { generation, slot, test } => return self.smoke(generation, slot, test),
            Action::Admit { generation, slot } => self.admit(generation, slot),
            Action::TakeTurns { generation, slot, turns } => {
                self.tell(generation, slot, &ToWorker::TakeTurns(turns));
            }
            Action::Nudge { generation, slot } => self.tell(generation, slot, &ToWorker::Nudge),
            Action::Drain { generation, slot, within, hand_over, delay, why } => {
                let closes = if hand_over { Vec::new() } else { self.own_listeners(generation) };
                let hand_over = hand_over && self.can_hand_over(generation);
                let delay = if hand_over { delay } else { delay.max(self.time_for_the_silent()) };
                self.tell(generation, slot, &ToWorker::Drain { within, hand_over, delay, closes, why });
            }
            Action::Stacks { generation, slot } => self.tell(generation, slot, &ToWorker::Stacks),
            Action::Quit { generation, slot } => self.tell(generation, slot, &ToWorker::Quit),
            Action::Abandon { generation, slot } => self.close_worker(generation, slot),
            Action::Release { generation, slot } => self.release(generation, slot),
            Action::Kill(pid) => self.kill(pid),
            Action::AskStacks(pid) => self.ask_stacks(pid),
            Action::Refork { generation, slot, within } => return self.refork(generation, slot, within),
            Action::GiveUpCandidate(generation) | Action::EndFormer(generation) => {
                self.teams.entry(generation).and_modify(|team| team.beside = None);
            }
            Action::Succeed { generation, plan } => self.succeed(generation, &plan),
            Action::FallBack(generation) => {
                self.teams.entry(generation).and_modify(|team| team.template = team.beside.take());
            }
            Action::EndTemplate(generation) => {
                if let Some(line) = self.teams.get_mut(&generation).and_then(|team| team.template.as_mut()) {
                    let _ = line.send(&ToTemplate::Quit, &[]);
                }
            }
            Action::CloseTemplate(generation) => {
                self.teams.entry(generation).and_modify(|team| team.template = None);
            }
            Action::TakeOver(generation) => self.take_over(generation),
            Action::StopListening => self.stop_listening(),
            Action::Forget(generation) => self.forget(generation),
            Action::TryUpgrade => self.upgrade = Some(UpgradeStep::Try),
            Action::Execute => self.upgrade = Some(UpgradeStep::Execute),
            Action::Show(generation, failure) => self.show(generation, failure),
            Action::Answer(asker, outcome) => self.control.answer(asker, outcome),
            Action::Note(note) => self.note(&note),
            Action::Exit(result) => self.exit(result),
        }
        None
    }

    /// The site stops: how much longer its workers accept because clients have connected that the listeners hold back until they
    /// say something. They would be reset.
    fn time_for_the_silent(&mut self) -> Duration {
        let held_back =
            |bound: &Bound| bound.told.port.is_some_and(|port| diag::end_deferring(bound.socket.as_fd(), port));
        *self.silence.get_or_insert_with(|| {
            let found = self.listeners.iter().filter(|bound| held_back(bound)).count();
            if found > 0 { SILENCE } else { Duration::ZERO }
        })
    }

    /// The listeners of a generation that we have bound ourselves, by their places.
    fn own_listeners(&self, generation: Number) -> Vec<u16> {
        let Some(team) = self.teams.get(&generation) else { return Vec::new() };
        let bound = team.listeners.iter().filter_map(|&id| self.listeners.at(id));
        (0..).zip(bound).filter(|(_, bound)| bound.is_ours()).map(|(place, _)| place).collect()
    }

    /// A worker that does not read its channel is left to its deadline, one that is gone to its exit.
    fn tell(&mut self, generation: Number, slot: u16, message: &ToWorker) {
        let Some(line) = self.teams.get_mut(&generation).and_then(|team| team.workers.get_mut(&slot)) else { return };
        if let Err(error) = line.send(message, &[])
            && error.kind() == io::ErrorKind::WouldBlock
        {
            warn!(self.log, "worker does not listen"; "generation" => generation.0, "slot" => slot);
        }
    }

    /// Whether those who serve take what a generation gives. If not, which can be so after an upgrade, its clients are told to connect
    /// anew: on an exchange that no worker takes from, their connections would be lost.
    fn can_hand_over(&self, generation: Number) -> bool {
        self.teams.get(&generation).is_some_and(|team| team.exchange == self.served_exchange)
    }

    /// The new generation's files are the master's, too.
    fn take_over(&mut self, generation: Number) {
        self.use_log_of(generation);
        self.use_statsd_of(generation);
        let page = self.teams.get(&generation).and_then(|team| team.settings.page.clone());
        self.use_page(page);
        let Some(team) = self.teams.get_mut(&generation) else { return };
        team.failed_code = None;
        self.served_exchange = team.exchange;
        let pid_file = team.settings.pid_file.as_deref();
        if pid_file != self.pid_file.as_ref().map(PidFile::path) {
            self.pid_file = None;
            match pid_file.map(PidFile::write).transpose() {
                Ok(file) => self.pid_file = file,
                Err(why) => error!(self.log, "pid file not written"; "reason" => %why),
            }
        }
        let settings = team.settings.clone();
        if let Err(why) = self.open_control(&settings) {
            error!(self.log, "no control socket"; "reason" => %why);
        }
        self.entitle(&settings.boot);
        self.notify.ready();
        self.listeners.give_up_stored().into_iter().for_each(|id| self.notify.give_up(id));
        self.store_listeners();
        if let Some(announce) = self.announce.take() {
            announce.tell(Exit::Success, "");
        }
    }

    fn forget(&mut self, generation: Number) {
        drop(self.reading.take_if(|(number, _)| *number == generation));
        drop(self.smoke.take_if(|smoke| smoke.generation == generation));
        drop(self.keepers.booting.take_if(|(number, ..)| *number == generation));
        self.teams.remove(&generation);
        self.totals.forget(generation);
        self.close_unused();
    }

    fn close_unused(&mut self) {
        let teams = &self.teams;
        let used = |id| teams.values().any(|team| team.listeners.contains(&id));
        for id in self.listeners.keep(self.notify.serves(), used) {
            self.notify.give_up(id);
        }
        self.keepers.keep(|id| teams.values().any(|team| team.keeper == Some(id)));
    }

    /// systemd has a copy of each socket that we have bound, so that clients wait rather than being refused if we crash or restart.
    pub(super) fn store_listeners(&mut self) {
        for bound in self.listeners.own_mut().filter(|bound| !bound.stored) {
            bound.stored = self.notify.store(bound.id, bound.socket.as_fd());
        }
    }

    fn exit(&mut self, result: Result<(), Failure>) {
        self.teams.clear();
        if let Some(hooks) = self.hooks.take() {
            hooks.exit(&self.log);
        }
        self.end_keepers();
        self.end_strays();
        self.close_unused();
        self.pid_file = None;
        self.control.open = None;
        if let Err(failure) = &result {
            self.notify.failed(failure);
            match self.announce.take() {
                Some(announce) => announce.tell(failure.exit, &failure.to_string()),
                None => self.tell_who_started(failure),
            }
        }
        (self.reading, self.smoke) = (None, None);
        info!(self.log, "stopped");
        self.ended = Some(result);
    }

    /// A child has ended.
    pub fn tell_hooks(&mut self, pid: i32) {
        if self.hooks.as_mut().is_some_and(|hooks| hooks.ended(pid, &self.log)) {
            self.hooks = None;
        }
    }

    fn kill(&mut self, pid: i32) {
        let killed = self.children.get(&pid).map(PidFd::kill);
        if let Some(Err(error)) = killed {
            error!(self.log, "process not killed"; "pid" => pid, "reason" => words(&error));
        }
    }

    /// Another executable takes over who waits, but not what is half said.
    pub fn finish_conversations(&mut self) {
        self.close_stacks_requests(Moment(u64::MAX));
        self.doctor.give_up(&mut self.control);
        self.control.conversations.retain(|_, conversation| !conversation.is_full());
    }

    /// A worker is dead. Its slot is emptied, so that no sibling takes it for idle.
    fn release(&mut self, generation: Number, slot: u16) {
        self.close_worker(generation, slot);
        if let Some(team) = self.teams.get(&generation) {
            let record = team.scoreboard.slot(slot);
            self.totals.fold(generation, slot, record, team.scoreboard.meters(slot));
            wire::log::take_lost(record.lines_lost.load(Relaxed));
            team.scoreboard.clear(slot);
        }
    }

    fn close_worker(&mut self, generation: Number, slot: u16) {
        self.stacks_requests.iter_mut().for_each(|request| request.answered((generation, Some(slot)), None));
        if let Some(team) = self.teams.get_mut(&generation) {
            team.workers.remove(&slot);
        }
    }
}

fn system(what: &str, error: io::Error) -> Failure {
    Failure::new(Exit::System, format!("could not {what}: {}", limits::explain(&error)))
}
