//! The key keepers that there are: one for each set of files with which generations were booted, those that are to take the place of one,
//! and those that are on their way out.

use std::{collections::BTreeMap, io, os::fd::OwnedFd, time::Duration};

use serde::{Deserialize, Serialize};

use super::{event::Number, generation::Backoff};
use crate::{
    resources::{
        keeper::{Keeper, Order},
        watched_files::WatchedFiles,
    },
    settings::Settings,
    sys::{clock::Moment, pidfd::PidFd},
};

/// How often it is said which certificates end soon.
pub const DAY: Duration = Duration::from_secs(86_400);

/// A keeper, as generations name it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct KeeperId(pub u32);

/// All of them.
#[derive(Debug)]
pub struct Keepers {
    all: BTreeMap<KeeperId, Entry>,
    /// No other one has had a greater number.
    last: u32,
    /// The settings that a generation is to boot with, while their keeper reads its files.
    pub booting: Option<(Number, Box<Settings>, KeeperId)>,
    /// When it is said again which certificates end soon.
    pub tells_expiries: Moment,
    /// It was said whether the kernel makes records of TLS.
    pub kernel_told: bool,
    /// When another one is tried in place of one that was lost.
    pub mending: Backoff,
    /// Those that nobody uses any more, until they have ended.
    leaving: BTreeMap<i32, PidFd>,
}

/// One of them.
#[derive(Debug)]
pub struct Entry {
    /// Itself.
    pub keeper: Keeper,
    /// Whose place it is to take.
    pub replaces: Option<KeeperId>,
    /// Its line is closed at its end.
    pub closed: bool,
    /// It has ended, and another one is to take its place.
    pub lost: bool,
}

impl Default for Keepers {
    fn default() -> Keepers {
        Keepers {
            all: BTreeMap::new(),
            last: 0,
            booting: None,
            tells_expiries: Moment(0),
            kernel_told: false,
            mending: Backoff::NONE,
            leaving: BTreeMap::new(),
        }
    }
}

impl Keepers {
    /// Starts one.
    pub fn begin(&mut self, order: Order, replaces: Option<KeeperId>) -> io::Result<KeeperId> {
        Ok(self.add(Keeper::begin(order)?, replaces))
    }

    fn add(&mut self, keeper: Keeper, replaces: Option<KeeperId>) -> KeeperId {
        self.last += 1;
        let id = KeeperId(self.last);
        self.all.insert(id, Entry { keeper, replaces, closed: false, lost: false });
        id
    }

    /// There was one of this name.
    pub fn know(&mut self, id: KeeperId) {
        self.last = self.last.max(id.0);
    }

    /// Owns one that another executable has started.
    pub fn take(&mut self, id: KeeperId, keeper: Keeper) {
        self.know(id);
        self.all.insert(id, Entry { keeper, replaces: None, closed: false, lost: false });
    }

    /// The one of this name.
    pub fn at(&mut self, id: KeeperId) -> Option<&mut Entry> {
        self.all.get_mut(&id)
    }

    /// The same to look at.
    pub fn get(&self, id: KeeperId) -> Option<&Keeper> {
        self.all.get(&id).map(|entry| &entry.keeper)
    }

    /// What is watched of each.
    pub fn files(&self) -> impl Iterator<Item = (KeeperId, &WatchedFiles)> {
        self.living().filter_map(|(id, entry)| Some((id, entry.keeper.files.as_ref()?)))
    }

    /// Notes what the kernel tells of its files.
    pub fn look_at_files(&mut self, id: KeeperId, now: Moment) {
        let files = self.all.get_mut(&id).and_then(|entry| entry.keeper.files.as_mut());
        files.into_iter().for_each(|files| files.look(now));
    }

    /// Those whose files have changed, and are at rest since. Others that read them already are done first.
    pub fn changed(&mut self, now: Moment) -> Vec<KeeperId> {
        let replaced: Vec<KeeperId> = self.all.values().filter_map(|entry| entry.replaces).collect();
        let is_due = |(id, entry): (&KeeperId, &mut Entry)| {
            let files = entry.keeper.files.as_mut().filter(|_| !replaced.contains(id))?;
            files.due.take_if(|due| *due <= now).map(|_| *id)
        };
        self.all.iter_mut().filter(|(_, entry)| !entry.lost && entry.keeper.kept.is_some()).filter_map(is_due).collect()
    }

    /// The one of this process.
    pub fn of_process(&self, pid: i32) -> Option<KeeperId> {
        self.all.iter().find(|(_, entry)| !entry.lost && entry.keeper.pid == pid).map(|(&id, _)| id)
    }

    /// Those that live.
    pub fn living(&self) -> impl Iterator<Item = (KeeperId, &Entry)> {
        self.all.iter().map(|(&id, entry)| (id, entry)).filter(|(_, entry)| !entry.lost)
    }

    /// Asks them whether they live.
    pub fn look(&mut self, now: Moment) {
        self.all.values_mut().filter(|entry| !entry.lost && !entry.closed).for_each(|entry| entry.keeper.look(now));
    }

    /// Those that were late have been killed: they are not late again before their end is known.
    pub fn end_patience(&mut self, now: Moment) {
        let late = self.all.values_mut().filter(|entry| entry.keeper.deadline <= now);
        late.for_each(|entry| entry.keeper.deadline = Moment(u64::MAX));
    }

    /// Those that have ended and for which no other is on its way.
    pub fn lost(&self) -> Vec<KeeperId> {
        let lost = self.all.iter().filter(|(_, entry)| entry.lost).map(|(&id, _)| id);
        lost.filter(|&id| !self.is_being_replaced(id)).collect()
    }

    /// Whether another one is on its way to take its place.
    pub fn is_being_replaced(&self, id: KeeperId) -> bool {
        self.all.values().any(|entry| entry.replaces == Some(id))
    }

    /// A worker's way to its keys. The socket of a keeper that is lost leads nowhere, until another one is named.
    pub fn introduce(&mut self, id: KeeperId) -> io::Result<OwnedFd> {
        self.all.get_mut(&id).ok_or(io::ErrorKind::NotFound)?.keeper.introduce()
    }

    /// Lets go of it: it ends once the handshakes that it has begun are over.
    pub fn let_go(&mut self, id: KeeperId) {
        if let Some(Entry { keeper, lost: false, .. }) = self.all.remove(&id) {
            let (pid, held) = keeper.leave();
            self.leaving.insert(pid, held);
        }
    }

    /// Lets go of those that nobody uses.
    pub fn keep(&mut self, used: impl Fn(KeeperId) -> bool) {
        let booting = self.booting.as_ref().map(|(.., id)| *id);
        let unused = |(id, entry): (&KeeperId, &Entry)| {
            let needed = used(*id) || booting == Some(*id) || entry.replaces.is_some_and(&used);
            (!needed).then_some(*id)
        };
        let unused: Vec<KeeperId> = self.all.iter().filter_map(unused).collect();
        unused.into_iter().for_each(|id| self.let_go(id));
    }

    /// A child has ended. Whether it was one that nobody uses any more.
    pub fn has_left(&mut self, pid: i32) -> bool {
        self.leaving.remove(&pid).is_some()
    }

    /// Ends all of them at once.
    pub fn end(&mut self) -> Vec<PidFd> {
        for id in self.all.keys().copied().collect::<Vec<_>>() {
            self.let_go(id);
        }
        let ended: Vec<PidFd> = std::mem::take(&mut self.leaving).into_values().collect();
        ended.iter().for_each(|held| drop(held.kill()));
        ended
    }

    /// When the next of them is due.
    pub fn deadline(&self) -> Option<Moment> {
        let reading = self.living().map(|(_, entry)| entry.keeper.deadline).min();
        let mending = (!self.lost().is_empty()).then_some(self.mending.until);
        let settled = self.living().filter(|(id, entry)| entry.keeper.kept.is_some() && !self.is_being_replaced(*id));
        let changed = settled.filter_map(|(_, entry)| entry.keeper.files.as_ref()?.due).min();
        let expiries = self.living().next().map(|_| self.tells_expiries);
        reading.into_iter().chain(mending).chain(changed).chain(expiries).min().filter(|&due| due < Moment(u64::MAX))
    }
}
