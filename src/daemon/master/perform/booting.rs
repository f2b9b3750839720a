//! Starts templates, with the settings that they are to have, and has them fork workers.

use std::{collections::BTreeMap, io, os::fd::AsFd, time::Duration};

use ostler_wire::{
    self as wire, FromTemplate, Listener, ToTemplate,
    scoreboard::{MOST_SLOTS, Scoreboard},
};
use slog::{debug, error, info, warn};

use super::{Performer, system};
use crate::{
    exit::{Exit, Failure, words},
    master::{
        event::{Event, Number, Plan},
        events::ROUTINE,
        generation::warming,
        hooks::Hooks,
        keepers::KeeperId,
        spawn,
        team::{Crashes, Team},
        verdict::figures::Figures,
    },
    resources::{
        line::Line,
        listen::{self, Bound, ListenerId},
        logs::Logs,
    },
    settings::Settings,
    sys::{clock::Moment, errand::Errand, process::Ending},
};

/// What to know of `--compress`.
const COMPRESSED: &str = "the length of a page that holds both a secret and text from the request tells of the secret (BREACH); see --compress";
/// How long it may take to look at the settings and all that they name: longer than an interpreter may take to say who it is.
const READING: Duration = Duration::from_secs(40);
/// What a worker may take beyond `--timeout` before it counts as one that makes no progress.
const LITTLE_MORE: Duration = Duration::from_secs(5);
/// What no bound means: a century.
const FOREVER: Duration = Duration::from_secs(3_155_760_000);

/// Where a generation's settings come from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Origin {
    /// Another generation has them.
    InForce,
    /// They were read for this one.
    Read,
}

impl Performer<'_> {
    /// With the settings of another generation, with those that main has read, or with what there is to be read now: that may take its
    /// time, so that a child does it.
    pub(super) fn boot(&mut self, generation: Number, like: Option<Number>) -> Option<Event> {
        let in_force = like.and_then(|number| self.teams.get(&number)).map(|team| (team.settings.clone(), team.keeper));
        if let Some((settings, keeper)) = in_force {
            return Some(self.boot_with(generation, settings, Origin::InForce, keeper));
        }
        if let Some(settings) = self.first.take() {
            return self.boot_read(generation, settings);
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
    pub fn errand_ended(&mut self, pid: i32, exit: Ending) -> Option<Option<Event>> {
        if let Some(event) = self.keeper_ended(pid, exit) {
            return Some(event);
        }
        if self.sampling.ended(pid, Moment::now()) || self.doctor.ended(pid, &mut self.control) {
            return Some(None);
        }
        if self.statsd.as_mut().is_some_and(|statsd| statsd.ended(pid, &self.log)) {
            return Some(None);
        }
        if let Some(event) = self.smoke_ended(pid) {
            return Some(Some(event));
        }
        let (generation, errand) = self.reading.take_if(|(_, errand)| errand.pid == pid)?;
        self.turns.doing("boot");
        let read = errand.outcome::<Result<Settings, Failure>>().unwrap_or_else(|| {
            let within = READING.as_secs();
            Err(Failure::new(Exit::System, format!("the settings could not be read within {within} s")))
        });
        Some(match read {
            Ok(settings) => self.boot_read(generation, settings),
            Err(failure) => Some(Event::Unbootable { generation, failure }),
        })
    }

    /// Gives up an errand that has taken too long.
    pub fn end_late_errand(&mut self, now: Moment) {
        if let Some((_, errand)) = self.reading.as_mut().filter(|(_, errand)| errand.deadline <= now) {
            errand.give_up();
            errand.deadline = now + READING;
        }
    }

    pub(super) fn boot_with(
        &mut self,
        generation: Number,
        settings: Settings,
        origin: Origin,
        keeper: Option<KeeperId>,
    ) -> Event {
        match self.try_boot(generation, settings, origin, keeper) {
            Ok((pid, plan)) => Event::Spawned { generation, pid, plan },
            Err(failure) => {
                self.close_unused();
                Event::Unbootable { generation, failure }
            }
        }
    }

    pub(super) fn try_boot(
        &mut self,
        generation: Number,
        settings: Settings,
        origin: Origin,
        keeper: Option<KeeperId>,
    ) -> Result<(i32, Plan), Failure> {
        let plan = self.plan(&settings)?;
        let logs = Logs::open(&settings, &self.standard)?;
        let scoreboard = Scoreboard::new(plan.slots, settings.boot.worker.threads)
            .map_err(|error| system("make a scoreboard", error))?;
        if origin == Origin::Read {
            let boot = self.boot_of(generation, &plan, &settings, &logs, None);
            self.hooks = Hooks::begin(self.hooks.take(), &settings, &logs, &boot, &self.log);
        }
        let (pid, held, line) = spawn::template(&settings, &logs)?;
        self.children.insert(pid, held);
        let mut team = Team {
            template: Some(line),
            beside: None,
            workers: BTreeMap::new(),
            scoreboard,
            logs,
            listeners: plan.listeners.clone(),
            settings,
            crashes: Crashes::default(),
            timeouts: 0,
            before_canary: Figures::default(),
            exchange: self.exchange.version,
            failed_code: None,
            keeper,
        };
        self.send_boot(generation, &plan, &mut team);
        self.teams.insert(generation, team);
        Ok((pid, plan))
    }

    /// The settings file may be writable neither by the new application's user nor by those of the generations that still run.
    pub(super) fn read_settings(&self) -> Result<Settings, Failure> {
        let mut settings = (self.reread)()?;
        settings.hosts = listen::look_up(&settings.binds);
        let mut identities = self.teams.values().filter_map(|team| team.settings.identity.as_ref());
        identities.try_for_each(|identity| settings.keep_from(identity))?;
        Ok(settings)
    }

    pub(super) fn plan(&mut self, settings: &Settings) -> Result<Plan, Failure> {
        let workers = settings.workers.get();
        let before: Vec<ListenerId> = self.listeners.iter().map(|bound| bound.id).collect();
        let listeners = self.listeners.open(settings)?;
        for bound in self.listeners.iter().filter(|bound| !before.contains(&bound.id)) {
            info!(self.log, #ROUTINE, "listening"; "address" => &bound.told.name);
        }
        settings.understood.iter().for_each(|told| info!(self.log, #ROUTINE, "{told}"));
        if settings.boot.worker.compression.is_some() {
            info!(self.log, #ROUTINE, "answers are compressed"; "hint" => COMPRESSED);
        }
        for why in settings.passed_over() {
            warn!(self.log, "passed socket not used"; "reason" => why);
        }
        for why in &settings.needless {
            debug!(self.log, "setting without effect"; "reason" => why);
        }
        for why in &settings.suspicious {
            warn!(self.log, "setting passed over"; "reason" => why);
        }
        for why in &settings.out_of_reach {
            warn!(self.log, "setting out of reach"; "reason" => why);
        }
        if settings.new_version {
            warn!(self.log, "new version installed"; "then" => "run `ostler upgrade`");
        }
        Ok(Plan {
            application: settings.boot.application.clone(),
            workers,
            range: settings.range,
            shrink_after: settings.shrink_after,
            slots: MOST_SLOTS,
            boot_timeout: if settings.boot_timeout.is_zero() { FOREVER } else { settings.boot_timeout },
            smoke: settings.smoke.iter().map(ToString::to_string).collect(),
            smoke_timeout: settings.smoke_timeout,
            graceful_timeout: settings.graceful_timeout,
            drain_delay: settings.drain_delay,
            patience: match settings.boot.worker.timeout {
                Duration::ZERO => Duration::ZERO,
                timeout => timeout + LITTLE_MORE,
            },
            canary: settings.canary,
            canary_time: settings.canary_time,
            watch: settings.watch,
            ready_after_watch: settings.ready_after_watch,
            keep_previous: settings.keep_previous,
            refork: settings.boot.worker.refork,
            warms: self.warms(settings),
            listeners,
            new_version: settings.new_version,
        })
    }

    /// Whether the first worker would have the requests soon that make it warm, and what it has loaded could be shared. Its connections
    /// have to move to the generation that serves.
    fn warms(&self, settings: &Settings) -> bool {
        let boot = &settings.boot;
        let shares = boot.worker.refork > 0 && boot.preload != wire::Preload::Off && boot.warm_up.is_none();
        let share = self.watch.rate / f64::from(settings.workers.get() + 1);
        let soon = share * warming::TRICKLE.as_secs_f64() >= f64::from(warming::REQUESTS);
        shares && soon && !self.teams.is_empty() && self.served_exchange == self.exchange.version
    }

    fn boot_of(
        &self,
        generation: Number,
        plan: &Plan,
        settings: &Settings,
        logs: &Logs,
        tls: Option<wire::Tls>,
    ) -> wire::Boot {
        let bound = plan.listeners.iter().filter_map(|&id| self.listeners.at(id));
        let listener = |bound: &Bound| Listener { trust: settings.trust.clone(), ..bound.told.clone() };
        let shows_failure = self.teams.is_empty();
        wire::Boot {
            worker: wire::WorkerSettings {
                refork: if plan.warms { plan.refork.min(warming::REQUESTS) } else { plan.refork },
                ..settings.boot.worker.clone()
            },
            reload: settings.boot.reload.clone().map(|watched| wire::FilesWatched { shows_failure, ..watched }),
            generation: generation.0,
            slots: plan.slots,
            workers: plan.range.map_or(plan.workers, |range| range.most),
            access_log: logs.access().is_some(),
            listeners: bound.map(listener).collect(),
            tls,
            ..settings.boot.clone()
        }
    }

    /// A template that is dead already will be noticed by its exit.
    pub(super) fn send_boot(&mut self, generation: Number, plan: &Plan, team: &mut Team) {
        let tls = self.tls_of(team.keeper);
        let ticket_keys = tls.as_ref().and_then(|_| self.ticket_keys());
        let boot = self.boot_of(generation, plan, &team.settings, &team.logs, tls);
        let boot = wire::Boot { ticket_keys, ..boot };
        let bound: Vec<_> = plan.listeners.iter().filter_map(|&id| self.listeners.at(id)).collect();
        let mut carried = vec![team.scoreboard.as_fd(), self.exchange.give.as_fd(), self.exchange.take.as_fd()];
        carried.extend(team.logs.access());
        carried.extend(bound.iter().map(|bound| bound.socket.as_fd()));
        if let Some(line) = &mut team.template
            && let Err(error) = line.send(&ToTemplate::Boot(Box::new(boot)), &carried)
        {
            error!(self.log, "template not told"; "generation" => generation.0, "reason" => words(&error));
        }
    }

    pub(super) fn fork(&mut self, generation: Number, slot: u16) -> Option<Event> {
        let forked = self.try_fork(generation, slot);
        forked.err().map(|error| {
            let says = FromTemplate::ForkFailed { slot, error: wire::limits::explain(&error) };
            Event::Template { generation, says }
        })
    }

    pub(super) fn try_fork(&mut self, generation: Number, slot: u16) -> io::Result<()> {
        let gone = || io::Error::from(io::ErrorKind::BrokenPipe);
        let team = self.teams.get_mut(&generation).ok_or_else(gone)?;
        let (ours, theirs) = Line::pair()?;
        team.scoreboard.clear(slot);
        team.workers.insert(slot, ours);
        team.tell_reach();
        if let Some(hooks) = &mut self.hooks {
            hooks.forking(slot, &self.log);
        }
        let template = team.template.as_mut().ok_or_else(gone)?;
        let keys = team.keeper.map(|keeper| self.keepers.introduce(keeper)).transpose()?;
        let carried: Vec<_> = [theirs.as_fd()].into_iter().chain(keys.iter().map(AsFd::as_fd)).collect();
        template.send(&ToTemplate::Fork { slot }, &carried)
    }
}
