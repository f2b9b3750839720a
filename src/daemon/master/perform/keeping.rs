//! Who has the private keys: a keeper is there before a generation boots that needs it, and another one where it is lost or its files
//! have changed.

use std::{
    collections::{BTreeMap, BTreeSet},
    io,
    os::fd::AsFd,
    time::SystemTime,
};

use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use ostler_tls::certificates::Expiry;
use ostler_wire::{TicketKeys, Tls, ToTemplate, ToWorker};
use slog::{debug, error, info, warn};

use super::{Performer, booting::Origin, system};
use crate::{
    exit::{Exit, Failure, words},
    master::{
        event::{Event, Number},
        keepers::{DAY, Entry, KeeperId},
        tickets::Tickets,
    },
    resources::keeper::{Order, Word},
    settings::Settings,
    sys::{clock::Moment, process::Ending},
};

const STAY: &str = "the ones before stay in use";
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
        if let Err(why) = &kept.watched {
            warn!(self.log, "certificates not watched"; "reason" => why, "then" => "a reload looks at them");
        }
        info!(self.log, "key keeper started"; "pid" => keeper.pid, "certificates" => kept.certificates.len());
        let without_kernel = kept.without_kernel.clone();
        if !std::mem::replace(&mut self.keepers.kernel_told, true) {
            match without_kernel {
                None => info!(self.log, "files within TLS"; "by" => "the kernel"),
                Some(why) => info!(self.log, "files within TLS"; "by" => "the workers", "reason" => why),
            }
        }
        self.keepers.tells_expiries = Moment(0);
        if let Some((generation, settings, _)) = self.keepers.booting.take_if(|(.., keeper)| *keeper == id) {
            self.turns.doing("boot");
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
                error!(self.log, "certificates not renewed"; "reason" => %failure, "then" => STAY)
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
    fn replace_lost(&mut self, now: Moment) {
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
    fn end_late_keepers(&mut self, now: Moment) {
        for (_, entry) in self.keepers.living().filter(|(_, entry)| entry.keeper.deadline <= now) {
            if entry.keeper.kept.is_some() {
                error!(self.log, "key keeper silent"; "pid" => entry.keeper.pid, "then" => "it is killed");
            }
            entry.keeper.kill();
        }
        self.keepers.end_patience(now);
        if self.watch.next.is_some() {
            self.keepers.look(now);
        }
        self.replace_lost(now);
    }

    /// Looks at files that have changed, and gives up keepers that take too long; says which certificates end soon, once a day.
    pub fn look_after_keepers(&mut self, now: Moment) {
        self.end_late_keepers(now);
        for id in self.keepers.changed(now) {
            self.renew(id);
        }
        self.change_ticket_keys(now);
        if self.keepers.tells_expiries <= now {
            self.keepers.tells_expiries = now + DAY;
            self.tell_expiries();
        }
    }

    /// Another keeper reads the files anew. If they are as they should be, it takes the place of this one.
    fn renew(&mut self, id: KeeperId) {
        let Some(order) = self.keepers.at(id).map(|entry| entry.keeper.order.clone()) else { return };
        if let Err(error) = self.keepers.begin(order, Some(id)) {
            error!(self.log, "certificates not renewed"; "reason" => words(&error), "then" => STAY);
        }
    }

    /// An upgrade has brought another executable: its keepers take the places of those that the one before has started.
    pub fn renew_all(&mut self) {
        let all: Vec<KeeperId> = self.keepers.living().map(|(id, _)| id).collect();
        all.into_iter().for_each(|id| self.renew(id));
        // One that was lost just before was not told of.
        let unknown = self.teams.values().filter_map(|team| Some((team.keeper?, Order::of(&team.settings)?)));
        let unknown: BTreeMap<KeeperId, Order> = unknown.filter(|(id, _)| self.keepers.get(*id).is_none()).collect();
        unknown.keys().for_each(|&id| self.keepers.know(id));
        for (id, order) in unknown {
            if let Err(error) = self.keepers.begin(order, Some(id)) {
                error!(self.log, "key keeper not started"; "reason" => words(&error));
            }
        }
    }

    fn tell_expiries(&self) {
        let now = SystemTime::UNIX_EPOCH.elapsed().unwrap_or_default().as_secs();
        let all: BTreeSet<&Expiry> = self
            .keepers
            .living()
            .filter_map(|(_, entry)| entry.keeper.kept.as_ref())
            .flat_map(|kept| &kept.expiries)
            .collect();
        for expiry in all.into_iter().filter(|expiry| expiry.is_near(now)) {
            match expiry.not_after.checked_sub(now) {
                Some(left) => {
                    warn!(self.log, "certificate expires soon"; "name" => &expiry.name, "days" => left / DAY.as_secs())
                }
                None => error!(self.log, "certificate has expired"; "name" => &expiry.name),
            }
        }
    }

    /// What tickets are made with. None without TLS, or if the system has no random numbers.
    pub(super) fn ticket_keys(&mut self) -> Option<TicketKeys> {
        if self.tickets.is_none() {
            self.tickets = Tickets::new(Moment::now()).inspect_err(|error| self.tell_no_keys(error)).ok();
        }
        self.tickets.as_ref().map(|tickets| tickets.keys.clone())
    }

    fn change_ticket_keys(&mut self, now: Moment) {
        let Some(tickets) = self.tickets.as_mut().filter(|tickets| tickets.next <= now) else { return };
        match tickets.following(now) {
            Ok(following) => *tickets = following,
            Err(error) => {
                tickets.next = now + DAY;
                return self.tell_no_keys(&error);
            }
        }
        let keys = tickets.keys.clone();
        for team in self.teams.values_mut().filter(|team| team.keeper.is_some()) {
            for template in team.template.iter_mut().chain(&mut team.beside) {
                let _ = template.send(&ToTemplate::TicketKeys(keys.clone()), &[]);
            }
            for line in team.workers.values_mut() {
                let _ = line.send(&ToWorker::TicketKeys(keys.clone()), &[]);
            }
        }
        debug!(self.log, "ticket keys changed");
    }

    fn tell_no_keys(&self, error: &io::Error) {
        error!(self.log, "no ticket keys"; "reason" => words(error), "then" => "sessions are not resumed");
    }

    /// From now on workers ask another keeper, and show clients its certificates.
    fn put_in_place(&mut self, before: KeeperId, now: KeeperId) {
        let Some(tls) = self.tls_of(Some(now)) else { return };
        if self.tls_of(Some(before)).is_some_and(|before| before.certificates != tls.certificates) {
            let names = tls.certificates.iter().filter_map(|certificate| certificate.names.first().cloned());
            info!(self.log, "certificates renewed"; "names" => names.collect::<Vec<_>>().join(", "));
        }
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
