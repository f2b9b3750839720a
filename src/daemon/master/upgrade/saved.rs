//! What a master knows and owns, as it is written for the executable that goes on. Descriptors are numbers.

use std::{
    collections::BTreeMap,
    fs::File,
    io::{self, Write},
    os::{
        fd::{AsFd, AsRawFd, OwnedFd, RawFd},
        unix::fs::FileExt,
    },
    path::{Path, PathBuf},
};

use nix::{
    fcntl::{FcntlArg, SealFlag, fcntl},
    sys::memfd::{MFdFlags, memfd_create},
};
use ostler_tls::keeper::Kept;
use ostler_wire::{Channel, Listener, Logging, scoreboard::Scoreboard};
use serde::{Deserialize, Serialize};
use slog::Level;

use crate::{
    exit::{Exit, Failure, words},
    master::{
        event::Number,
        events::{Event, Events},
        judging::Judging,
        keepers::{KeeperId, Keepers},
        perform::{Performer, Reread},
        state::State,
        team::{Crashes, Exchange, Team},
        tickets::Tickets,
        totals::Totals,
        verdict::figures::Figures,
    },
    resources::{
        control::{Asker, Control, Conversation, Open},
        keeper::{Keeper, Order},
        line::Line,
        listen::{Bound, ListenerId, Listeners},
        logs::{Logs, Standard},
        pidfile::PidFile,
        unix_socket::SocketFile,
        watched_files::WatchedFiles,
    },
    settings::{Access, Address, LogTarget, Settings},
    sys::{descriptors, pidfd::PidFd},
};

/// Of [`SavedMaster`]. A master that writes another cannot be followed by this one, nor follow it.
const FORMAT: u32 = 4;

/// All that a master knows and owns. Descriptors are numbers, each named once.
#[derive(Serialize, Deserialize)]
pub struct SavedMaster {
    format: u32,
    /// The state machine.
    pub state: State,
    /// The figures by which generations are judged.
    #[serde(default)]
    pub judging: Judging,
    /// Where the first master was started, as the shell saw it.
    pub directory: PathBuf,
    /// `--daemon`
    pub daemon: bool,
    standard: [RawFd; 2],
    /// With the version of its packets.
    exchange: (u16, [RawFd; 2]),
    served_exchange: u16,
    listeners: Vec<SavedListener>,
    teams: Vec<SavedTeam>,
    children: Vec<(i32, RawFd)>,
    /// With the descriptor that carries its lock.
    pid_file: Option<(PathBuf, RawFd)>,
    control: Option<SavedControl>,
    conversations: Vec<(Asker, RawFd)>,
    next_asker: u64,
    restarts: BTreeMap<String, u64>,
    #[serde(default)]
    reloads: BTreeMap<String, u64>,
    #[serde(default)]
    last_reloads: BTreeMap<String, u64>,
    /// A master of an earlier release kept none.
    #[serde(default)]
    totals: Totals,
    #[serde(default)]
    events: Vec<Event>,
    #[serde(default)]
    keepers: Vec<SavedKeeper>,
    #[serde(default)]
    tickets: Option<Tickets>,
}

#[derive(Serialize, Deserialize)]
struct SavedListener {
    id: ListenerId,
    /// As it is typed; paths are absolute.
    address: String,
    socket: RawFd,
    told: Listener,
    file: Option<SocketFile>,
    #[serde(default)]
    stored: bool,
}

#[derive(Serialize, Deserialize)]
struct SavedTeam {
    generation: Number,
    template: Option<RawFd>,
    workers: Vec<(u16, RawFd)>,
    /// With its slots and threads.
    scoreboard: (RawFd, u16, u16),
    error: (LogTarget, RawFd),
    access: Option<(LogTarget, RawFd)>,
    listeners: Vec<ListenerId>,
    settings: Settings,
    crashes: Crashes,
    #[serde(default)]
    timeouts: u64,
    #[serde(default)]
    before_canary: Figures,
    exchange: u16,
    #[serde(default)]
    keeper: Option<KeeperId>,
}

#[derive(Serialize, Deserialize)]
struct SavedKeeper {
    id: KeeperId,
    pid: i32,
    held: RawFd,
    line: RawFd,
    order: Order,
    kept: Kept,
    #[serde(default)]
    files: Option<RawFd>,
}

#[derive(Serialize, Deserialize)]
struct SavedControl {
    path: PathBuf,
    socket: RawFd,
    file: SocketFile,
    directory: bool,
    #[serde(default)]
    access: Access,
}

impl SavedMaster {
    /// Notes all of it.
    pub fn note(
        state: &State,
        performer: &Performer,
        judging: &Judging,
        directory: &Path,
        daemon: bool,
    ) -> SavedMaster {
        let control = performer.control.open.as_ref().map(|open| SavedControl {
            path: open.path.clone(),
            socket: open.socket.as_raw_fd(),
            file: open.file.clone(),
            directory: open.directory,
            access: open.access,
        });
        let conversations = performer.control.conversations.iter();
        SavedMaster {
            format: FORMAT,
            state: state.clone(),
            judging: judging.clone(),
            directory: directory.to_owned(),
            daemon,
            standard: [performer.standard.output.as_raw_fd(), performer.standard.error.as_raw_fd()],
            exchange: performer.exchange.note(),
            served_exchange: performer.served_exchange,
            listeners: performer.listeners.iter().map(SavedListener::note).collect(),
            teams: performer.teams.iter().map(|(&number, team)| SavedTeam::note(number, team)).collect(),
            children: performer.children.iter().map(|(&pid, held)| (pid, held.as_fd().as_raw_fd())).collect(),
            pid_file: performer.pid_file.as_ref().map(|file| (file.path().to_owned(), file.number())),
            control,
            conversations: conversations.map(|(&asker, with)| (asker, with.as_fd().as_raw_fd())).collect(),
            next_asker: performer.control.next,
            restarts: performer.restarts.clone(),
            reloads: performer.reloads.clone(),
            last_reloads: performer.last_reloads.clone(),
            totals: performer.totals.clone(),
            events: performer.events.all(),
            tickets: performer.tickets.clone(),
            keepers: performer
                .keepers
                .living()
                .filter_map(|(id, entry)| SavedKeeper::note(id, &entry.keeper))
                .collect(),
        }
    }

    /// The settings file in force.
    pub fn settings_file(&self) -> Option<PathBuf> {
        self.teams.iter().find_map(|team| team.settings.file.clone())
    }

    /// Each descriptor, once.
    pub(super) fn descriptors(&self) -> Vec<RawFd> {
        let mut all: Vec<RawFd> = self.standard.iter().chain(&self.exchange.1).copied().collect();
        all.extend(self.listeners.iter().map(|listener| listener.socket));
        all.extend(self.pid_file.iter().map(|&(_, number)| number));
        all.extend(self.control.iter().map(|control| control.socket));
        all.extend(self.conversations.iter().map(|&(_, number)| number));
        all.extend(self.children.iter().map(|&(_, number)| number));
        all.extend(self.keepers.iter().flat_map(|keeper| [keeper.held, keeper.line].into_iter().chain(keeper.files)));
        for team in &self.teams {
            all.extend(team.template);
            all.extend(team.workers.iter().map(|&(_, number)| number));
            all.extend([team.scoreboard.0, team.error.1]);
            all.extend(team.access.as_ref().map(|&(_, number)| number));
        }
        all
    }

    pub(super) fn seal(&self) -> io::Result<OwnedFd> {
        let mut file = File::from(memfd_create("ostler-state", MFdFlags::MFD_CLOEXEC | MFdFlags::MFD_ALLOW_SEALING)?);
        file.write_all(&serde_json::to_vec(self)?)?;
        let seals = SealFlag::F_SEAL_WRITE | SealFlag::F_SEAL_GROW | SealFlag::F_SEAL_SHRINK | SealFlag::F_SEAL_SEAL;
        fcntl(&file, FcntlArg::F_ADD_SEALS(seals))?;
        Ok(file.into())
    }

    /// Reads it, and closes the memfd.
    pub fn read(state: RawFd) -> Result<SavedMaster, Failure> {
        let unread = |why: String| Failure::new(Exit::Internal, format!("could not read the master's state: {why}"));
        let read = || {
            let file = File::from(descriptors::reclaim(state)?);
            let mut text = vec![0; usize::try_from(file.metadata()?.len()).unwrap_or(0)];
            file.read_exact_at(&mut text, 0)?;
            Ok(text)
        };
        let text = read().map_err(|error: io::Error| unread(words(&error)))?;
        #[derive(Deserialize)]
        struct Format {
            format: u32,
        }
        let unlike = |error: serde_json::Error| unread(error.to_string());
        match serde_json::from_slice::<Format>(&text).map_err(unlike)?.format {
            FORMAT => serde_json::from_slice(&text).map_err(unlike),
            other => Err(unread(format!("it has format {other}, and this executable knows {FORMAT}"))),
        }
    }

    /// Owns all of it from now on.
    pub fn take<'a>(self, reread: Reread<'a>) -> io::Result<(State, Performer<'a>)> {
        let own = descriptors::reclaim;
        let bound = self.listeners.into_iter().map(SavedListener::take).collect::<io::Result<_>>()?;
        let teams = self.teams.into_iter().map(SavedTeam::take).collect::<io::Result<_>>()?;
        let held = |(pid, number)| Ok((pid, PidFd::kept(own(number)?)?));
        let children = self.children.into_iter().map(held).collect::<io::Result<_>>()?;
        let conversations = self.conversations.into_iter();
        let conversations =
            conversations.map(|(asker, number)| Ok((asker, Conversation::new(Channel::from(own(number)?)))));
        let control = Control {
            open: self.control.map(SavedControl::take).transpose()?,
            conversations: conversations.collect::<io::Result<_>>()?,
            next: self.next_asker,
        };
        let pid_file =
            self.pid_file.map(|(path, file)| own(file).map(|file| PidFile::written(path, file))).transpose()?;
        let [output, error] = self.standard;
        let exchange = Exchange::reclaimed(self.exchange)?;
        let standard = Standard { output: own(output)?, error: own(error)? };
        let log = ostler_wire::log::logger(ostler_wire::log::Process::Master, Level::Info, &Logging::default());
        let events = Events::from(self.events);
        let log = events.along(log);
        let mut keepers = Keepers::default();
        for saved in self.keepers {
            keepers.take(saved.id, saved.take()?);
        }
        let performer = Performer {
            teams,
            children,
            keepers,
            tickets: self.tickets,
            served_exchange: self.served_exchange,
            pid_file,
            control,
            restarts: self.restarts,
            reloads: self.reloads,
            last_reloads: self.last_reloads,
            totals: self.totals,
            events,
            ..Performer::at_rest(reread, Listeners::reclaimed(bound), exchange, standard, log)
        };
        Ok((self.state, performer))
    }
}

impl SavedListener {
    fn note(bound: &Bound) -> SavedListener {
        SavedListener {
            id: bound.id,
            address: bound.address.to_string(),
            socket: bound.socket.as_raw_fd(),
            told: bound.told.clone(),
            file: bound.file.clone(),
            stored: bound.stored,
        }
    }

    fn take(self) -> io::Result<Bound> {
        let address = Address::parse(&self.address, Path::new("/")).map_err(io::Error::other)?;
        let socket = descriptors::reclaim(self.socket)?;
        let mut bound = Bound::new(self.id, address, socket, self.told, self.file);
        bound.stored = self.stored;
        Ok(bound)
    }
}

impl SavedTeam {
    fn note(generation: Number, team: &Team) -> SavedTeam {
        let access = team.logs.access_target.clone().zip(team.logs.access().map(|file| file.as_raw_fd()));
        SavedTeam {
            generation,
            template: team.template.as_ref().map(|channel| channel.as_fd().as_raw_fd()),
            workers: team.workers.iter().map(|(&slot, channel)| (slot, channel.as_fd().as_raw_fd())).collect(),
            scoreboard: (team.scoreboard.as_fd().as_raw_fd(), team.scoreboard.slots(), team.scoreboard.threads()),
            error: (team.logs.error_target.clone(), team.logs.error().as_raw_fd()),
            access,
            listeners: team.listeners.clone(),
            settings: team.settings.clone(),
            crashes: team.crashes.clone(),
            timeouts: team.timeouts,
            before_canary: team.before_canary.clone(),
            exchange: team.exchange,
            keeper: team.keeper,
        }
    }

    fn take(self) -> io::Result<(Number, Team)> {
        let own = descriptors::reclaim;
        let line = |number| Ok::<_, io::Error>(Line::from(Channel::from(own(number)?)));
        let (memory, slots, threads) = self.scoreboard;
        let (access_target, access) = self.access.unzip();
        let (error_target, error) = self.error;
        let logs = Logs::reclaimed(error_target, access_target, own(error)?, access.map(own).transpose()?);
        let team = Team {
            template: self.template.map(line).transpose()?,
            beside: None,
            workers: self
                .workers
                .into_iter()
                .map(|(slot, number)| Ok((slot, line(number)?)))
                .collect::<io::Result<_>>()?,
            scoreboard: Scoreboard::open(own(memory)?, slots, threads)?,
            logs,
            listeners: self.listeners,
            settings: self.settings,
            crashes: self.crashes,
            timeouts: self.timeouts,
            before_canary: self.before_canary,
            exchange: self.exchange,
            failed_code: None,
            keeper: self.keeper,
        };
        Ok((self.generation, team))
    }
}

impl SavedKeeper {
    /// None of one that has not read its files yet: it ends.
    fn note(id: KeeperId, keeper: &Keeper) -> Option<SavedKeeper> {
        Some(SavedKeeper {
            id,
            pid: keeper.pid,
            held: keeper.held().as_fd().as_raw_fd(),
            line: keeper.line().as_fd().as_raw_fd(),
            order: keeper.order.clone(),
            kept: keeper.kept.clone()?,
            files: keeper.files.as_ref().map(|files| files.as_fd().as_raw_fd()),
        })
    }

    fn take(self) -> io::Result<Keeper> {
        let own = descriptors::reclaim;
        let files = self.files.map(WatchedFiles::reclaimed).transpose()?;
        Keeper::reclaimed(self.pid, [own(self.held)?, own(self.line)?], self.order, self.kept, files)
    }
}

impl SavedControl {
    fn take(self) -> io::Result<Open> {
        let socket = descriptors::reclaim(self.socket)?.into();
        Ok(Open { path: self.path, socket, file: self.file, directory: self.directory, access: self.access })
    }
}
