//! Upgrade in place: another executable goes on in this process, with the same children, sockets, files and number.
//!
//! What the master knows goes into a sealed memfd, and every descriptor it owns keeps its number. First a child of the
//! new executable has to read the very same state and find every descriptor open; it says so by its exit status, for
//! which nobody else would hit upon [`PROVEN`]. Then the master executes it. Whatever fails before that leaves all as it was.

use std::{
    collections::BTreeMap,
    env,
    ffi::{CString, OsStr, OsString},
    fs::File,
    io::{self, Write},
    os::{
        fd::{AsFd, AsRawFd, OwnedFd, RawFd},
        unix::{ffi::OsStrExt, fs::FileExt},
    },
    path::{Path, PathBuf},
    process::{Command, Stdio},
};

use nix::{
    fcntl::{FcntlArg, SealFlag, fcntl},
    sys::memfd::{MFdFlags, memfd_create},
};
use ostler_wire::{Channel, Listener, scoreboard::Scoreboard};
use serde::{Deserialize, Serialize};
use slog::Level;

use super::{
    event::{Number, PROVEN},
    oom::OomKills,
    perform::{Performer, Reread},
    sampling::Sampling,
    state::State,
    team::{Crashes, Exchange, Team},
    totals::Totals,
    turns::Turns,
};
use crate::{
    exit::{Exit, Failure, words},
    options::HANDOVER_VARIABLE,
    resources::{
        control::{Asker, Control, Conversation, Open},
        line::Line,
        listen::{Bound, ListenerId, Listeners, SocketFile},
        logs::{Logs, Standard},
        notify::Notify,
        pidfile::PidFile,
    },
    settings::{Address, LogTarget, Settings},
    sys::{clock::Moment, descriptors, pidfd::PidFd, process},
};

/// Of [`Kept`]. A master that writes another cannot be followed by this one, nor follow it.
const FORMAT: u32 = 4;

/// What this process was executed for, if it is part of an upgrade.
pub enum Handover {
    /// Read the state, and prove it.
    Prove(RawFd),
    /// Read the state, and go on.
    Take(RawFd),
}

impl Handover {
    /// As the variable says: `prove:N` for the trial, `take:N` in the master's own process.
    pub fn from_environment() -> Option<Handover> {
        let text = env::var(HANDOVER_VARIABLE).ok()?;
        let (what, number) = text.split_once(':')?;
        match what {
            "prove" => number.parse().ok().map(Handover::Prove),
            "take" => number.parse().ok().map(Handover::Take),
            _ => None,
        }
    }
}

/// All that a master knows and owns. Descriptors are numbers, each named once.
#[derive(Serialize, Deserialize)]
pub struct Kept {
    format: u32,
    /// The state machine.
    pub state: State,
    /// Where the first master was started, as the shell saw it.
    pub directory: PathBuf,
    /// `--daemon`
    pub daemon: bool,
    standard: [RawFd; 2],
    /// With the version of its packets.
    exchange: (u16, [RawFd; 2]),
    served_exchange: u16,
    listeners: Vec<KeptListener>,
    teams: Vec<KeptTeam>,
    children: Vec<(i32, RawFd)>,
    /// With the descriptor that carries its lock.
    pid_file: Option<(PathBuf, RawFd)>,
    control: Option<KeptControl>,
    conversations: Vec<(Asker, RawFd)>,
    next_asker: u64,
    restarts: BTreeMap<String, u64>,
    /// A master of an earlier release kept none.
    #[serde(default)]
    totals: Totals,
}

#[derive(Serialize, Deserialize)]
struct KeptListener {
    id: ListenerId,
    /// As it is typed; paths are absolute.
    address: String,
    socket: RawFd,
    told: Listener,
    file: Option<SocketFile>,
}

#[derive(Serialize, Deserialize)]
struct KeptTeam {
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
    exchange: u16,
}

#[derive(Serialize, Deserialize)]
struct KeptControl {
    path: PathBuf,
    socket: RawFd,
    file: SocketFile,
    directory: bool,
}

/// Starts the trial.
pub fn try_out(kept: &Kept, executable: &Path) -> Result<(i32, PidFd), String> {
    let state = kept.seal().map_err(|error| format!("could not write the state: {}", words(&error)))?;
    let mut command = Command::new(executable);
    command.args(env::args_os().skip(1)).stdin(Stdio::null());
    command.env(HANDOVER_VARIABLE, format!("prove:{}", state.as_raw_fd()));
    let mut inherited = kept.descriptors();
    inherited.push(state.as_raw_fd());
    process::spawn_with(command, inherited).map_err(|error| not_executed(executable, &error))
}

/// Executes the new executable. Why that could not be, if it returns.
pub fn execute(kept: &Kept, executable: &Path) -> String {
    let executed = kept.seal().and_then(|state| {
        let mut inherited = kept.descriptors();
        inherited.push(state.as_raw_fd());
        let arguments = env::args_os().map(text).collect::<io::Result<Vec<_>>>()?;
        process::execute(executable, &arguments, &environment(state.as_raw_fd())?, &inherited)
    });
    match executed {
        Err(error) => not_executed(executable, &error),
    }
}

fn not_executed(executable: &Path, error: &io::Error) -> String {
    format!("could not execute {}: {}", executable.display(), words(error))
}

fn environment(state: RawFd) -> io::Result<Vec<CString>> {
    let pair = |(key, value): (OsString, OsString)| text([key.as_os_str(), value.as_os_str()].join(OsStr::new("=")));
    let mut all =
        env::vars_os().filter(|(key, _)| key != HANDOVER_VARIABLE).map(pair).collect::<io::Result<Vec<_>>>()?;
    all.push(text(OsString::from(format!("{HANDOVER_VARIABLE}=take:{state}")))?);
    Ok(all)
}

fn text(text: OsString) -> io::Result<CString> {
    Ok(CString::new(text.as_bytes())?)
}

/// What to execute: the path by which this process was started, so that symbolic links are followed anew.
pub fn executable(directory: &Path) -> PathBuf {
    let actual = env::current_exe().unwrap_or_default();
    let name = env::args_os().next().unwrap_or_default();
    let candidates: Vec<PathBuf> = if name.as_bytes().contains(&b'/') {
        vec![directory.join(&name)]
    } else {
        let path = env::var_os("PATH").unwrap_or_default();
        env::split_paths(&path).map(|place| directory.join(place).join(&name)).collect()
    };
    let is_ours = |path: &PathBuf| path.canonicalize().is_ok_and(|path| path == actual);
    candidates.into_iter().find(is_ours).unwrap_or(actual)
}

/// The trial: whether this executable can go on from there.
pub fn prove(state: RawFd) -> Result<u8, Failure> {
    let kept = Kept::read(state)?;
    for number in kept.descriptors() {
        descriptors::set_inheritable(number, false).map_err(|error| {
            Failure::new(Exit::Internal, format!("could not keep descriptor {number}: {}", words(&error)))
        })?;
    }
    Ok(PROVEN)
}

impl Kept {
    /// Notes all of it.
    pub fn note(state: &State, performer: &Performer, directory: &Path, daemon: bool) -> Kept {
        let control = performer.control.open.as_ref().map(|open| KeptControl {
            path: open.path.clone(),
            socket: open.socket.as_raw_fd(),
            file: open.file.clone(),
            directory: open.directory,
        });
        let conversations = performer.control.conversations.iter();
        Kept {
            format: FORMAT,
            state: state.clone(),
            directory: directory.to_owned(),
            daemon,
            standard: [performer.standard.output.as_raw_fd(), performer.standard.error.as_raw_fd()],
            exchange: performer.exchange.note(),
            served_exchange: performer.served_exchange,
            listeners: performer.listeners.iter().map(KeptListener::note).collect(),
            teams: performer.teams.iter().map(|(&number, team)| KeptTeam::note(number, team)).collect(),
            children: performer.children.iter().map(|(&pid, held)| (pid, held.as_fd().as_raw_fd())).collect(),
            pid_file: performer.pid_file.as_ref().map(|file| (file.path().to_owned(), file.number())),
            control,
            conversations: conversations.map(|(&asker, with)| (asker, with.as_fd().as_raw_fd())).collect(),
            next_asker: performer.control.next,
            restarts: performer.restarts.clone(),
            totals: performer.totals.clone(),
        }
    }

    /// The settings file in force.
    pub fn settings_file(&self) -> Option<PathBuf> {
        self.teams.iter().find_map(|team| team.settings.file.clone())
    }

    /// Each descriptor, once.
    fn descriptors(&self) -> Vec<RawFd> {
        let mut all: Vec<RawFd> = self.standard.iter().chain(&self.exchange.1).copied().collect();
        all.extend(self.listeners.iter().map(|listener| listener.socket));
        all.extend(self.pid_file.iter().map(|&(_, number)| number));
        all.extend(self.control.iter().map(|control| control.socket));
        all.extend(self.conversations.iter().map(|&(_, number)| number));
        all.extend(self.children.iter().map(|&(_, number)| number));
        for team in &self.teams {
            all.extend(team.template);
            all.extend(team.workers.iter().map(|&(_, number)| number));
            all.extend([team.scoreboard.0, team.error.1]);
            all.extend(team.access.as_ref().map(|&(_, number)| number));
        }
        all
    }

    fn seal(&self) -> io::Result<OwnedFd> {
        let mut file = File::from(memfd_create("ostler-state", MFdFlags::MFD_CLOEXEC | MFdFlags::MFD_ALLOW_SEALING)?);
        file.write_all(&serde_json::to_vec(self)?)?;
        let seals = SealFlag::F_SEAL_WRITE | SealFlag::F_SEAL_GROW | SealFlag::F_SEAL_SHRINK | SealFlag::F_SEAL_SEAL;
        fcntl(&file, FcntlArg::F_ADD_SEALS(seals))?;
        Ok(file.into())
    }

    /// Reads it, and closes the memfd.
    pub fn read(state: RawFd) -> Result<Kept, Failure> {
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
        let bound = self.listeners.into_iter().map(KeptListener::take).collect::<io::Result<_>>()?;
        let teams = self.teams.into_iter().map(KeptTeam::take).collect::<io::Result<_>>()?;
        let held = |(pid, number)| Ok((pid, PidFd::kept(own(number)?)?));
        let children = self.children.into_iter().map(held).collect::<io::Result<_>>()?;
        let conversations = self.conversations.into_iter();
        let conversations =
            conversations.map(|(asker, number)| Ok((asker, Conversation::new(Channel::from(own(number)?)))));
        let control = Control {
            open: self.control.map(KeptControl::take).transpose()?,
            conversations: conversations.collect::<io::Result<_>>()?,
            next: self.next_asker,
        };
        let pid_file =
            self.pid_file.map(|(path, file)| own(file).map(|file| PidFile::written(path, file))).transpose()?;
        let [output, error] = self.standard;
        let performer = Performer {
            reread,
            first: None,
            ended: None,
            upgrade: None,
            teams,
            children,
            exchange: Exchange::reclaimed(self.exchange)?,
            served_exchange: self.served_exchange,
            listeners: Listeners::reclaimed(bound),
            notify: Notify::from_environment(),
            pid_file,
            control,
            reading: None,
            sampling: Sampling::default(),
            turns: Turns::new(),
            stacks_requests: Vec::new(),
            oom_kills: OomKills::watch(),
            restarts: self.restarts,
            totals: self.totals,
            standard: Standard { output: own(output)?, error: own(error)? },
            watch: super::watch::Watch::new(Moment::now()),
            mending: super::generation::Backoff::NONE,
            stopped_listeners: Vec::new(),
            silence: None,
            announce: None,
            log: ostler_wire::log::logger("master", Level::Info),
        };
        Ok((self.state, performer))
    }
}

impl KeptListener {
    fn note(bound: &Bound) -> KeptListener {
        KeptListener {
            id: bound.id,
            address: bound.address.to_string(),
            socket: bound.socket.as_raw_fd(),
            told: bound.told.clone(),
            file: bound.file.clone(),
        }
    }

    fn take(self) -> io::Result<Bound> {
        let address = Address::parse(&self.address, Path::new("/")).map_err(io::Error::other)?;
        let socket = descriptors::reclaim(self.socket)?;
        Ok(Bound::new(self.id, address, socket, self.told, self.file))
    }
}

impl KeptTeam {
    fn note(generation: Number, team: &Team) -> KeptTeam {
        let access = team.logs.access_target.clone().zip(team.logs.access().map(|file| file.as_raw_fd()));
        KeptTeam {
            generation,
            template: team.template.as_ref().map(|channel| channel.as_fd().as_raw_fd()),
            workers: team.workers.iter().map(|(&slot, channel)| (slot, channel.as_fd().as_raw_fd())).collect(),
            scoreboard: (team.scoreboard.as_fd().as_raw_fd(), team.scoreboard.slots(), team.scoreboard.threads()),
            error: (team.logs.error_target.clone(), team.logs.error().as_raw_fd()),
            access,
            listeners: team.listeners.clone(),
            settings: team.settings.clone(),
            crashes: team.crashes.clone(),
            exchange: team.exchange,
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
            exchange: self.exchange,
        };
        Ok((self.generation, team))
    }
}

impl KeptControl {
    fn take(self) -> io::Result<Open> {
        let socket = descriptors::reclaim(self.socket)?.into();
        Ok(Open { path: self.path, socket, file: self.file, directory: self.directory })
    }
}
