//! Does what state.rs has decided. Each action is one method; what comes of it at once goes back as an event.

use std::{collections::BTreeMap, io, os::fd::AsFd, path::Path, time::Duration};

use ostler_wire::{
    self as wire, EXCHANGE_VERSION, FromTemplate, FromWorker, ToTemplate, ToWorker,
    scoreboard::{MOST_SLOTS, Scoreboard},
    sink,
};
use slog::{Logger, error, info, warn};

use super::{
    event::{Action, Event, Number, Plan},
    generation::Backoff,
    inquiry::{Asked, Inquiry, Who},
    notes::{self, Late, Note},
    oom::OomKills,
    sampling::Sampling,
    state::State,
    team::{Crashes, Exchange, Team},
    template,
    totals::Totals,
    turns::Turns,
    watch::Watch,
};
use crate::{
    background::Announce,
    exit::{Exit, Failure, words},
    resources::{
        control::{Asker, Control, Open},
        line::{Heard, Line},
        listen::{self, Bound, ListenerId, Listeners},
        logs::{Logs, Standard},
        notify::Notify,
        pidfile::PidFile,
    },
    settings::Settings,
    sys::{clock::Moment, descriptors, diag, errand::Errand, pidfd::PidFd},
};

/// How long it may take to look at the settings and all that they name: longer than an interpreter may take to say who it is.
const READING: Duration = Duration::from_secs(40);
/// The kernel asks a client again, whom a listener holds back, a second after it came; and a little more.
const SILENCE: Duration = Duration::from_millis(1250);
/// What a worker may take beyond `--timeout` before it counts as one that makes no progress.
const LITTLE_MORE: Duration = Duration::from_secs(5);
/// What no bound means: a century.
const FOREVER: Duration = Duration::from_secs(3_155_760_000);

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
    pub upgrade: Option<Upgrade>,
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
    /// How much memory everybody has.
    pub sampling: Sampling,
    /// How long the master's turns are.
    pub turns: Turns,
    /// Questions for stacks that are under way.
    pub inquiries: Vec<Inquiry>,
    /// Whom the kernel has killed.
    pub oom_kills: OomKills,
    /// How many workers were replaced, by cause.
    pub restarts: BTreeMap<String, u64>,
    /// What the workers have counted.
    pub totals: Totals,
    /// Whether the workers make progress.
    pub watch: Watch,
    /// When something shared may be made anew, after an application has broken it again and again.
    pub mending: Backoff,
    /// The listening sockets at the stop, by their inodes.
    pub stopped_listeners: Vec<(u64, String)>,
    /// How much longer workers accept at the stop, once that is known.
    pub silence: Option<Duration>,
    /// Who waits for the first generation.
    pub announce: Option<Announce>,
    /// What the master was started with.
    pub standard: Standard,
    /// The master's own.
    pub log: Logger,
}

/// A step of an upgrade.
#[derive(Debug, Clone, Copy)]
pub enum Upgrade {
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
        let log = wire::log::logger("master", settings.log_level());
        info!(log, "starting"; "version" => env!("CARGO_PKG_VERSION"), "pid" => std::process::id(),
            "python" => &settings.python_version, "executable" => %settings.python.display());
        for bound in listeners.iter() {
            info!(log, "listening"; "address" => &bound.told.name);
        }
        let control = Control::default();
        let mut performer = Performer {
            reread,
            first: None,
            ended: None,
            upgrade: None,
            teams: BTreeMap::new(),
            children: BTreeMap::new(),
            exchange: Exchange::new().map_err(|error| system("make a socket pair", error))?,
            served_exchange: EXCHANGE_VERSION,
            listeners,
            notify: Notify::from_environment(),
            pid_file,
            control,
            reading: None,
            sampling: Sampling::default(),
            turns: Turns::new(),
            inquiries: Vec::new(),
            oom_kills: OomKills::watch(),
            restarts: BTreeMap::new(),
            totals: Totals::default(),
            watch: Watch::new(Moment::now()),
            mending: Backoff::NONE,
            stopped_listeners: Vec::new(),
            silence: None,
            announce: None,
            standard,
            log,
        };
        if let Err(failure) = performer.open_control(settings.control.as_deref(), settings.control_chosen) {
            // Who has started the master reads why.
            let _ = descriptors::become_standard_error(performer.standard.error.as_fd());
            return Err(failure);
        }
        performer.first = Some(settings);
        Ok(performer)
    }

    /// A socket that nobody chose may be another master's; then ours is reached by signals only.
    fn open_control(&mut self, path: Option<&Path>, chosen: bool) -> Result<(), Failure> {
        if self.control.open.as_ref().map(|open| open.path.as_path()) == path {
            return Ok(());
        }
        self.control.open = None;
        match path.map(|path| Open::bind(path, chosen)).transpose() {
            Err(failure) if chosen => return Err(failure),
            Err(failure) => warn!(self.log, "no control socket"; "reason" => %failure),
            Ok(open) => self.control.open = open,
        }
        Ok(())
    }

    /// Does one thing.
    pub fn perform(&mut self, action: Action) -> Option<Event> {
        self.turns.doing(action.name());
        match action {
            Action::Boot { generation, like } => return self.boot(generation, like),
            Action::Fork { generation, slot } => return self.fork(generation, slot),
            Action::Admit { generation, slot } => self.tell(generation, slot, &ToWorker::Serve),
            Action::Nudge { generation, slot } => self.tell(generation, slot, &ToWorker::Nudge),
            Action::Drain { generation, slot, within, hand_over, delay } => {
                let hand_over = hand_over && self.can_hand_over(generation);
                let delay = if hand_over { delay } else { delay.max(self.time_for_the_silent()) };
                self.tell(generation, slot, &ToWorker::Drain { within, hand_over, delay });
            }
            Action::Quit { generation, slot } => self.tell(generation, slot, &ToWorker::Quit),
            Action::Abandon { generation, slot } => self.close_worker(generation, slot),
            Action::Release { generation, slot } => self.release(generation, slot),
            Action::Kill(pid) => self.kill(pid),
            Action::AskStacks(pid) => self.ask_stacks(pid),
            Action::EndTemplate(generation) => {
                if let Some(line) = self.teams.get_mut(&generation).and_then(|team| team.template.as_mut()) {
                    let _ = line.send(&ToTemplate::Quit, &[]);
                }
            }
            Action::CloseTemplate(generation) => {
                self.teams.entry(generation).and_modify(|team| team.template = None);
            }
            Action::Serve(generation) => self.serve(generation),
            Action::StopListening => self.stop_listening(),
            Action::Forget(generation) => self.forget(generation),
            Action::TryUpgrade => self.upgrade = Some(Upgrade::Try),
            Action::Execute => self.upgrade = Some(Upgrade::Execute),
            Action::Answer(asker, outcome) => self.control.answer(asker, outcome),
            Action::Note(note) => self.note(&note),
            Action::Exit(result) => self.exit(result),
        }
        None
    }

    /// With the settings of another generation, with those that main has read, or with what there is to be read now: that may take its
    /// time, so that a child does it.
    fn boot(&mut self, generation: Number, like: Option<Number>) -> Option<Event> {
        let in_force = like.and_then(|number| self.teams.get(&number)).map(|team| team.settings.clone());
        if let Some(settings) = in_force.or_else(|| self.first.take()) {
            return Some(self.boot_with(generation, settings));
        }
        match Errand::begin(READING, || self.read_settings()) {
            Ok(errand) => {
                self.reading = Some((generation, errand));
                None
            }
            Err(error) => {
                let failure = system("fork", error);
                Some(Event::Unbootable { generation, failure })
            }
        }
    }

    /// A child has ended. What follows, if it was sent on an errand.
    pub fn errand_ended(&mut self, pid: i32) -> Option<Option<Event>> {
        if self.sampling.ended(pid, Moment::now()) {
            return Some(None);
        }
        let (generation, errand) = self.reading.take_if(|(_, errand)| errand.pid == pid)?;
        self.turns.doing("boot");
        let read = errand.outcome::<Result<Settings, Failure>>().unwrap_or_else(|| {
            let within = READING.as_secs();
            Err(Failure::new(Exit::System, format!("the settings could not be read within {within} s")))
        });
        Some(Some(match read {
            Ok(settings) => self.boot_with(generation, settings),
            Err(failure) => Event::Unbootable { generation, failure },
        }))
    }

    /// Gives up an errand that has taken too long.
    pub fn end_late_errand(&mut self, now: Moment) {
        if let Some((_, errand)) = self.reading.as_mut().filter(|(_, errand)| errand.deadline <= now) {
            errand.give_up();
            errand.deadline = now + READING;
        }
    }

    fn boot_with(&mut self, generation: Number, settings: Settings) -> Event {
        match self.try_boot(generation, settings) {
            Ok((pid, plan)) => Event::Spawned { generation, pid, plan },
            Err(failure) => {
                self.close_unused();
                Event::Unbootable { generation, failure }
            }
        }
    }

    fn try_boot(&mut self, generation: Number, settings: Settings) -> Result<(i32, Plan), Failure> {
        let plan = self.plan(&settings)?;
        let logs = Logs::open(&settings, &self.standard)?;
        let scoreboard = Scoreboard::new(plan.slots, settings.boot.worker.threads)
            .map_err(|error| system("make a scoreboard", error))?;
        let (pid, held, line) = template::spawn(&settings, &logs)?;
        self.children.insert(pid, held);
        let mut team = Team {
            template: Some(line),
            workers: BTreeMap::new(),
            scoreboard,
            logs,
            listeners: plan.listeners.clone(),
            settings,
            crashes: Crashes::default(),
            exchange: self.exchange.version,
        };
        self.send_boot(generation, &plan, &mut team);
        self.teams.insert(generation, team);
        Ok((pid, plan))
    }

    /// Who must not write the settings file is who the application was until now, too.
    fn read_settings(&self) -> Result<Settings, Failure> {
        let mut settings = (self.reread)()?;
        settings.hosts = listen::look_up(&settings.binds);
        let mut identities = self.teams.values().filter_map(|team| team.settings.identity.as_ref());
        identities.try_for_each(|identity| settings.keep_from(identity))?;
        Ok(settings)
    }

    fn plan(&mut self, settings: &Settings) -> Result<Plan, Failure> {
        let workers = settings.workers.get();
        let before: Vec<ListenerId> = self.listeners.iter().map(|bound| bound.id).collect();
        let listeners = self.listeners.open(settings)?;
        for bound in self.listeners.iter().filter(|bound| !before.contains(&bound.id)) {
            info!(self.log, "listening"; "address" => &bound.told.name);
        }
        for why in &settings.out_of_reach {
            warn!(self.log, "setting out of reach"; "reason" => why);
        }
        Ok(Plan {
            application: settings.boot.application.clone(),
            workers,
            slots: MOST_SLOTS,
            boot_timeout: if settings.boot_timeout.is_zero() { FOREVER } else { settings.boot_timeout },
            graceful_timeout: settings.graceful_timeout,
            drain_delay: settings.drain_delay,
            patience: match settings.boot.worker.timeout {
                Duration::ZERO => Duration::ZERO,
                timeout => timeout + LITTLE_MORE,
            },
            keep_previous: settings.keep_previous,
            listeners,
        })
    }

    /// A template that is dead already will be noticed by its exit.
    fn send_boot(&self, generation: Number, plan: &Plan, team: &mut Team) {
        let bound: Vec<_> = plan.listeners.iter().filter_map(|&id| self.listeners.at(id)).collect();
        let mut boot = team.settings.boot.clone();
        boot.generation = generation.0;
        boot.slots = plan.slots;
        boot.workers = plan.workers;
        boot.access_log = team.logs.access().is_some();
        boot.listeners = bound.iter().map(|bound| bound.told.clone()).collect();
        let mut carried = vec![team.scoreboard.as_fd(), self.exchange.give.as_fd(), self.exchange.take.as_fd()];
        carried.extend(team.logs.access());
        carried.extend(bound.iter().map(|bound| bound.socket.as_fd()));
        if let Some(line) = &mut team.template
            && let Err(error) = line.send(&ToTemplate::Boot(Box::new(boot)), &carried)
        {
            error!(self.log, "template not told"; "generation" => generation.0, "reason" => words(&error));
        }
    }

    fn fork(&mut self, generation: Number, slot: u16) -> Option<Event> {
        let forked = self.try_fork(generation, slot);
        forked.err().map(|error| {
            let says = FromTemplate::ForkFailed { slot, error: wire::limits::explain(&error) };
            Event::Template { generation, says }
        })
    }

    fn try_fork(&mut self, generation: Number, slot: u16) -> io::Result<()> {
        let gone = || io::Error::from(io::ErrorKind::BrokenPipe);
        let team = self.teams.get_mut(&generation).ok_or_else(gone)?;
        let (ours, theirs) = Line::pair()?;
        team.scoreboard.clear(slot);
        team.workers.insert(slot, ours);
        team.tell_reach();
        let template = team.template.as_mut().ok_or_else(gone)?;
        template.send(&ToTemplate::Fork { slot }, &[theirs.as_fd()])
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
    /// anew: on an exchange that nobody takes from, their connections would be lost.
    fn can_hand_over(&self, generation: Number) -> bool {
        self.teams.get(&generation).is_some_and(|team| team.exchange == self.served_exchange)
    }

    /// The new generation's files are the master's, too.
    fn serve(&mut self, generation: Number) {
        self.use_log_of(generation);
        let Some(team) = self.teams.get(&generation) else { return };
        self.served_exchange = team.exchange;
        let pid_file = team.settings.pid_file.as_deref();
        if pid_file != self.pid_file.as_ref().map(PidFile::path) {
            self.pid_file = None;
            match pid_file.map(PidFile::write).transpose() {
                Ok(file) => self.pid_file = file,
                Err(why) => error!(self.log, "pid file not written"; "reason" => %why),
            }
        }
        let (control, chosen) = (team.settings.control.clone(), team.settings.control_chosen);
        if let Err(why) = self.open_control(control.as_deref(), chosen) {
            error!(self.log, "no control socket"; "reason" => %why);
        }
        self.notify.ready(&format!("generation {generation} serves"));
        if let Some(announce) = self.announce.take() {
            announce.tell(Exit::Success, "");
        }
    }

    /// Makes a generation's error log and level the master's own.
    pub fn use_log_of(&mut self, generation: Number) {
        let Some(team) = self.teams.get(&generation) else { return };
        if let Err(error) = wire::log::replace(team.logs.error(), &[2]) {
            error!(self.log, "log not replaced"; "reason" => words(&error));
        }
        self.log = wire::log::logger("master", team.settings.log_level());
    }

    fn forget(&mut self, generation: Number) {
        drop(self.reading.take_if(|(number, _)| *number == generation));
        self.teams.remove(&generation);
        self.close_unused();
    }

    fn close_unused(&mut self) {
        let teams = &self.teams;
        self.listeners.keep(|id| teams.values().any(|team| team.listeners.contains(&id)));
    }

    fn note(&mut self, note: &Note) {
        if matches!(note, Note::Stopping(_)) {
            // Who is stopped by a signal would not hear that all stop.
            self.children.values().for_each(|child| drop(child.signal(nix::libc::SIGCONT)));
        }
        match note {
            Note::ReloadAsked | Note::RollbackAsked(_) | Note::UpgradeAsked => self.notify.reloading(),
            Note::Stopping(_) => self.notify.stopping(),
            Note::Discarded(number, failure) => {
                self.notify.not_reloaded(&format!("generation {number} was discarded: {}", failure.message));
            }
            Note::UpgradeFailed(why) => self.notify.not_reloaded(&format!("upgrade failed: {why}")),
            _ => {}
        }
        let cause = match note {
            Note::Replacing(_, why) => Some(why.to_string()),
            Note::WorkerLost { exit, .. } => Some(exit.to_string()),
            Note::Straggler(_, Late::Boot) => Some("boot-timeout".to_owned()),
            Note::Straggler(_, Late::Closed) => Some("closed channel".to_owned()),
            Note::Straggler(_, Late::Turn) => Some("no progress".to_owned()),
            Note::Straggler(_, Late::Stopped) => Some("stopped by a signal".to_owned()),
            _ => None,
        };
        if let Some(cause) = cause {
            *self.restarts.entry(cause).or_default() += 1;
        }
        let worker = match note {
            Note::WorkerLost { worker, .. } | Note::Straggler(worker, _) | Note::Stopped(worker, _) => {
                Some(worker.generation)
            }
            _ => None,
        };
        if let Note::WorkerLost { worker, .. } = note
            && let Some(team) = self.teams.get_mut(&worker.generation)
        {
            team.crashes.count += 1;
            team.crashes.last = notes::called(Some(&team.scoreboard), worker);
        }
        let scoreboard = worker.and_then(|generation| Some(&self.teams.get(&generation)?.scoreboard));
        let hint = match note {
            Note::WorkerLost { exit, .. } | Note::TemplateLost(_, exit) => self.oom_kills.explain(*exit),
            _ => String::new(),
        };
        notes::write(&self.log, note, scoreboard, &hint);
    }

    fn exit(&mut self, result: Result<(), Failure>) {
        self.teams.clear();
        self.end_strays();
        self.close_unused();
        self.pid_file = None;
        self.control.open = None;
        if let Err(failure) = &result {
            match self.announce.take() {
                Some(announce) => announce.tell(failure.exit, &failure.to_string()),
                None => self.tell_who_started(failure),
            }
        }
        self.reading = None;
        info!(self.log, "stopped");
        self.ended = Some(result);
    }

    /// A first start that fails says why where it was started, too, if the log is elsewhere.
    fn tell_who_started(&self, failure: &Failure) {
        let terminal = self.standard.error.as_fd();
        if !wire::log::is_at(terminal) {
            sink::write(terminal, sink::Kind::of(terminal), format!("ostler: {failure}\n").as_bytes());
        }
    }

    /// The log files were moved: opens them afresh, and hands them to everybody. Fails if one stays as it was.
    pub fn reopen_logs(&mut self, serving: Option<Number>) -> Result<(), Failure> {
        let mut outcome = Ok(());
        for (number, team) in &mut self.teams {
            outcome = outcome.and(team.logs.reopen(&self.standard));
            let carried = team.logs.both();
            for line in team.workers.values_mut() {
                let _ = line.send(&ToWorker::Reopen, &carried);
            }
            if let Some(template) = &mut team.template {
                let _ = template.send(&ToTemplate::Reopen, &carried);
            }
            if Some(*number) == serving
                && let Err(error) = wire::log::replace(team.logs.error(), &[2])
            {
                outcome = outcome.and(Err(system("go on in the error log", error)));
            }
        }
        match &outcome {
            Ok(()) => info!(self.log, "logs reopened"),
            Err(why) => error!(self.log, "logs not reopened"; "reason" => %why),
        }
        outcome
    }

    /// The next message of a template, if it has sent one. Closes the channel at its end.
    pub fn hear_template(&mut self, generation: Number) -> Option<Event> {
        let team = self.teams.get_mut(&generation)?;
        let line = team.template.as_mut()?;
        line.flush();
        match line.hear::<FromTemplate>() {
            Heard::Nothing => None,
            Heard::Message(FromTemplate::Forked { slot, pid }) => Some(self.forked(generation, slot, pid)),
            Heard::Message(says) => {
                if let FromTemplate::Stacks(stacks) = &says {
                    self.inquiries.iter_mut().for_each(|inquiry| inquiry.answered((generation, None), Some(stacks)));
                }
                Some(Event::Template { generation, says })
            }
            Heard::End => {
                team.template = None;
                Some(Event::TemplateClosed(generation))
            }
            Heard::Nonsense(why) => {
                team.template = None;
                Some(Event::TemplateNonsense(generation, why))
            }
        }
    }

    /// A template may name any process. Only a child is ever killed.
    fn forked(&mut self, generation: Number, slot: u16, pid: i32) -> Event {
        match PidFd::of_child(pid) {
            Ok(held) => {
                self.children.insert(pid, held);
                Event::Template { generation, says: FromTemplate::Forked { slot, pid } }
            }
            Err(_) => Event::Alleged { generation, slot, pid },
        }
    }

    fn kill(&mut self, pid: i32) {
        let killed = self.children.get(&pid).map(PidFd::kill);
        if let Some(Err(error)) = killed {
            error!(self.log, "process not killed"; "pid" => pid, "reason" => words(&error));
        }
    }

    /// The next message of a worker, if it has sent one. Closes the channel at its end.
    pub fn hear_worker(&mut self, generation: Number, slot: u16) -> Option<Event> {
        let team = self.teams.get_mut(&generation)?;
        let line = team.workers.get_mut(&slot)?;
        line.flush();
        match line.hear::<FromWorker>() {
            Heard::Nothing => None,
            Heard::Message(says) => {
                if matches!(says, FromWorker::AtWork) && self.watch.begin((generation, slot), Moment::now()) {
                    line.allow_one_more();
                }
                if let FromWorker::Stacks(stacks) = &says {
                    self.inquiries
                        .iter_mut()
                        .for_each(|inquiry| inquiry.answered((generation, Some(slot)), Some(stacks)));
                }
                Some(Event::Worker { generation, slot, says })
            }
            Heard::End => {
                self.close_worker(generation, slot);
                Some(Event::WorkerClosed { generation, slot })
            }
            Heard::Nonsense(why) => {
                self.close_worker(generation, slot);
                Some(Event::WorkerNonsense { generation, slot, why })
            }
        }
    }

    /// Asks these processes for their stacks.
    pub fn inquire(&mut self, asker: Asker, asked: BTreeMap<Who, Asked>) {
        for (&who, asked) in &asked {
            match (who, *asked) {
                ((generation, Some(slot)), Asked::ByMessage(_)) => self.tell(generation, slot, &ToWorker::Stacks),
                (_, Asked::BySignal(pid) | Asked::ByMessage(pid)) => self.ask_stacks(pid),
            }
        }
        self.inquiries.push(Inquiry::new(asker, asked, Moment::now()));
    }

    /// One that does not hear does not answer.
    fn ask_stacks(&self, pid: i32) {
        let _ = self.children.get(&pid).map(|child| child.signal(wire::stacks_signal()));
    }

    /// Tells the outcome of what is answered, or has to be by now.
    pub fn close_inquiries(&mut self, now: Moment) {
        let control = &mut self.control;
        self.inquiries.retain_mut(|inquiry| match inquiry.outcome(now) {
            Some(text) => {
                control.answer(inquiry.asker, Ok(text));
                false
            }
            None => true,
        });
    }

    /// Another executable takes over who waits, but not what is half said.
    pub fn finish_conversations(&mut self) {
        self.close_inquiries(Moment(u64::MAX));
        self.control.conversations.retain(|_, conversation| !conversation.is_full());
    }

    /// A worker is dead. Its slot is emptied, so that no sibling takes it for idle.
    fn release(&mut self, generation: Number, slot: u16) {
        self.close_worker(generation, slot);
        if let Some(team) = self.teams.get(&generation) {
            self.totals.fold(generation, slot, team.scoreboard.slot(slot));
            team.scoreboard.clear(slot);
        }
    }

    /// Brings the totals up to date.
    pub fn count(&mut self, state: &State) {
        for generation in state.generations() {
            let Some(team) = self.teams.get(&generation.number) else { continue };
            for worker in generation.slots.iter() {
                self.totals.look(generation.number, worker.slot, team.scoreboard.slot(worker.slot));
            }
        }
    }

    fn close_worker(&mut self, generation: Number, slot: u16) {
        self.inquiries.iter_mut().for_each(|inquiry| inquiry.answered((generation, Some(slot)), None));
        if let Some(team) = self.teams.get_mut(&generation) {
            team.workers.remove(&slot);
        }
    }
}

fn system(what: &str, error: io::Error) -> Failure {
    Failure::new(Exit::System, format!("could not {what}: {}", words(&error)))
}
