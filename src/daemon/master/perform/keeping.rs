//! Who has the private keys: a keeper is there before a generation boots that needs it, and another one where it is lost or its files
//! have changed.

use std::{io, os::fd::AsFd};

use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use ostler_wire::{Tls, ToTemplate, ToWorker};
use slog::{debug, error, info, warn};

use super::{Performer, booting::Origin, system};
use crate::{
    exit::{Exit, Failure, words},
    master::{
        event::{Event, Number},
        keepers::{Entry, KeeperId},
    },
    resources::keeper::{Order, Word},
    settings::Settings,
    sys::{clock::Moment, process::Ending},
};

/// Keepers that are killed end so fast, in milliseconds.
const PROMPTLY: u16 = 1000;

impl Performer<'_> {
    /// Boots with settings that were just read, once a keeper has their keys, if they name some.
    pub(super) fn boot_read(&mut self, generation: Number, settings: Settings) -> Option<Event> {
        let Some(order) = Order::of(&settings) else {
            return Some(self.boot_with(generation, settings, Origin::Read, None));
        };
        match self.keepers.begin(order, None) {
            Ok(keeper) => {
                self.keepers.booting = Some((generation, Box::new(settings), keeper));
                None
            }
            Err(error) => Some(Event::Unbootable { generation, failure: system("start the key keeper", error) }),
        }
    }

    /// What a keeper says, if it says something.
    pub fn hear_keeper(&mut self, id: KeeperId) -> Option<Event> {
        match self.keepers.at(id)?.keeper.hear() {
            Word::Nothing => None,
            Word::Keeps => self.keeps(id),
            Word::Refused(why) => self.without_keeper(id, Failure::usage(why)),
            Word::End => {
                // Its end follows, and says how.
                self.keepers.at(id).iter().for_each(|entry| entry.keeper.kill());
                self.keepers.at(id).into_iter().for_each(|entry| entry.closed = true);
                None
            }
        }
    }

    fn keeps(&mut self, id: KeeperId) -> Option<Event> {
        let Entry { keeper, replaces, .. } = self.keepers.at(id)?;
        let (replaces, kept) = (*replaces, keeper.kept.as_ref()?);
        for why in &kept.warnings {
            warn!(self.log, "certificate questionable"; "reason" => why);
        }
        if let Some(why) = &kept.unlocked {
            debug!(self.log, "memory of the keys not locked"; "reason" => why);
        }
        info!(self.log, "key keeper started"; "pid" => keeper.pid, "certificates" => kept.certificates.len());
        if let Some((generation, settings, _)) = self.keepers.booting.take_if(|(.., keeper)| *keeper == id) {
            return Some(self.boot_with(generation, *settings, Origin::Read, Some(id)));
        }
        self.put_in_place(replaces?, id);
        None
    }

    /// There will be no such keeper. What it was for goes on without it.
    fn without_keeper(&mut self, id: KeeperId, failure: Failure) -> Option<Event> {
        let replaces = self.keepers.at(id).and_then(|entry| entry.replaces);
        self.keepers.let_go(id);
        if let Some((generation, ..)) = self.keepers.booting.take_if(|(.., keeper)| *keeper == id) {
            self.close_unused();
            return Some(Event::Unbootable { generation, failure });
        }
        let lost = self.keepers.at(replaces?)?.lost;
        match lost {
            true => {
                error!(self.log, "key keeper not started"; "reason" => %failure, "then" => "it is tried again; no handshake comes to an end until then")
            }
            false => {
                error!(self.log, "certificates not renewed"; "reason" => %failure, "then" => "the ones before stay in use")
            }
        }
        None
    }

    /// A child has ended. What follows, if it was a keeper.
    pub(super) fn keeper_ended(&mut self, pid: i32, exit: Ending) -> Option<Option<Event>> {
        if self.keepers.has_left(pid) {
            return Some(None);
        }
        let id = self.keepers.of_process(pid)?;
        // What it has said before comes first.
        let said = self.hear_keeper(id);
        if said.is_some() || self.keepers.of_process(pid).is_none() {
            self.keepers.has_left(pid);
            return Some(said);
        }
        let entry = self.keepers.at(id)?;
        entry.lost = true;
        if entry.keeper.kept.is_none() {
            let why = format!("the key keeper has ended before it had read the certificates: {exit}");
            return Some(self.without_keeper(id, Failure::new(Exit::System, why)));
        }
        error!(self.log, "key keeper lost"; "pid" => pid, "exit" => %exit, "then" => "another one is started");
        self.replace_lost(Moment::now());
        Some(None)
    }

    /// Starts others in the places of those that are lost, not more often than makes sense.
    pub fn replace_lost(&mut self, now: Moment) {
        for id in self.keepers.lost() {
            if self.keepers.mending.until > now {
                return;
            }
            self.keepers.mending.strike(now);
            let Some(order) = self.keepers.at(id).map(|entry| entry.keeper.order.clone()) else { continue };
            if let Err(error) = self.keepers.begin(order, Some(id)) {
                error!(self.log, "key keeper not started"; "reason" => words(&error));
            }
        }
    }

    /// Gives up keepers that take too long.
    pub fn end_late_keepers(&mut self, now: Moment) {
        let late = self.keepers.living().filter(|(_, entry)| entry.keeper.deadline <= now);
        late.for_each(|(_, entry)| entry.keeper.kill());
        self.replace_lost(now);
    }

    /// From now on workers ask another keeper, and show clients its certificates.
    fn put_in_place(&mut self, before: KeeperId, now: KeeperId) {
        let Some(tls) = self.tls_of(Some(now)) else { return };
        let numbers: Vec<Number> =
            self.teams.iter().filter(|(_, team)| team.keeper == Some(before)).map(|(&number, _)| number).collect();
        for number in numbers {
            let Some(team) = self.teams.get_mut(&number) else { continue };
            team.keeper = Some(now);
            for template in team.template.iter_mut().chain(&mut team.beside) {
                let _ = template.send(&ToTemplate::Certificates(Box::new(tls.clone())), &[]);
            }
            for (slot, line) in &mut team.workers {
                let told = self
                    .keepers
                    .introduce(now)
                    .and_then(|socket| line.send(&ToWorker::Certificates(Box::new(tls.clone())), &[socket.as_fd()]));
                if let Err(error) = told.map_err(|error: io::Error| words(&error)) {
                    warn!(self.log, "worker has no way to the keys"; "generation" => number.0, "slot" => slot, "reason" => error);
                }
            }
        }
        self.keepers.let_go(before);
    }

    /// What workers are told of this keeper's certificates.
    pub(super) fn tls_of(&mut self, keeper: Option<KeeperId>) -> Option<Tls> {
        self.keepers.at(keeper?)?.keeper.told()
    }

    /// The master ends, and its keepers with it.
    pub(super) fn end_keepers(&mut self) {
        for held in self.keepers.end() {
            let _ = poll(&mut [PollFd::new(held.as_fd(), PollFlags::POLLIN)], PollTimeout::from(PROMPTLY));
        }
    }
}
