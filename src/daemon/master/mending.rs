//! What all workers share, and an application can break for all: the listeners and the exchange are made anew, and handed to everybody.
//! What of the site lives on after its stop, because an application has given a listener to a process of its own, is found and ended.

use std::os::fd::{AsFd, BorrowedFd};

use nix::{
    poll::{PollFd, PollFlags, PollTimeout, poll},
    sys::stat::fstat,
};
use ostler_wire::{ToTemplate, ToWorker};
use slog::{error, warn};

use super::{Source, perform::Performer, team::Exchange};
use crate::{
    resources::listen::ListenerId,
    sys::{clock::Moment, pidfd::PidFd, process},
};

/// How many milliseconds SIGKILL may take, at the very end, when the master has nothing else to do.
const PROMPTLY: u16 = 1000;
/// So many processes that live on are named.
const NAMED: usize = 20;
const SHUT_DOWN: &str = "an application has shut it down";

impl Performer<'_> {
    /// Whether something may be made anew by now.
    pub fn may_mend(&self, now: Moment) -> bool {
        self.mends_at(now).is_none()
    }

    /// When the pause after the last time is over, if it is not.
    pub fn mends_at(&self, now: Moment) -> Option<Moment> {
        Some(self.mending.until).filter(|until| *until > now)
    }

    /// What is shared, to be looked at for its end.
    pub(super) fn shared(&self) -> impl Iterator<Item = (Source, BorrowedFd<'_>)> {
        let ends = [&self.exchange.give, &self.exchange.take];
        let listeners = self.listeners.iter().map(|bound| (Source::Listener(bound.id), bound.socket.as_fd()));
        listeners.chain(ends.into_iter().map(|end| (Source::Exchange, end.as_fd())))
    }

    /// Listeners that do not listen any more where they should, although nothing tells of their end.
    pub(super) fn lost_listeners(&self) -> Vec<Source> {
        self.listeners.iter().filter(|bound| !bound.listens()).map(|bound| Source::Listener(bound.id)).collect()
    }

    /// These were shut down: makes them anew, and gives them to everybody.
    pub(super) fn mend(&mut self, broken: &[Source]) {
        self.mending.strike(Moment::now());
        for source in broken {
            if let Source::Listener(id) = source {
                self.mend_listener(*id);
            }
        }
        if broken.iter().any(|source| matches!(source, Source::Exchange)) {
            self.mend_exchange();
        }
        self.hand_out();
    }

    fn mend_listener(&mut self, id: ListenerId) {
        let team = self.teams.values().rev().find(|team| team.listeners.contains(&id));
        let (Some(team), Some(bound)) = (team, self.listeners.at(id)) else { return };
        let address = bound.told.name.clone();
        match self.listeners.mend(id, &team.settings) {
            Ok(()) => {
                warn!(self.log, "listener made anew"; "address" => address, "reason" => SHUT_DOWN);
                self.notify.give_up(id);
                self.store_listeners();
            }
            Err(why) => {
                error!(self.log, "listener lost"; "address" => address, "after" => SHUT_DOWN, "reason" => %why)
            }
        }
    }

    /// What is on its way there is still taken by those who have its old end.
    fn mend_exchange(&mut self) {
        match Exchange::new() {
            Ok(exchange) => {
                self.exchange = exchange;
                warn!(self.log, "exchange made anew"; "reason" => SHUT_DOWN);
            }
            Err(error) => error!(self.log, "exchange lost"; "after" => SHUT_DOWN, "reason" => %error),
        }
    }

    /// Gives everybody what is shared now.
    fn hand_out(&mut self) {
        let ours = self.exchange.version;
        // Those of a release whose packets are others know nothing of this, and go soon.
        for team in self.teams.values_mut().filter(|team| team.exchange == ours) {
            let listeners =
                team.listeners.iter().filter_map(|&id| self.listeners.at(id)).map(|bound| bound.socket.as_fd());
            let mut carried = vec![self.exchange.give.as_fd(), self.exchange.take.as_fd()];
            carried.extend(listeners);
            for line in team.workers.values_mut() {
                let _ = line.send(&ToWorker::Inherit, &carried);
            }
            for template in team.template.iter_mut().chain(&mut team.beside) {
                let _ = template.send(&ToTemplate::Inherit, &carried);
            }
        }
    }

    /// Lets go of the listeners, and remembers what to look for when the last worker has, too.
    pub fn stop_listening(&mut self) {
        let inode = |socket: BorrowedFd| fstat(socket).ok().map(|stat| stat.st_ino);
        let ours =
            self.listeners.iter().filter_map(|bound| Some((inode(bound.socket.as_fd())?, bound.told.name.clone())));
        self.stopped_listeners = ours.collect();
        self.listeners.keep(false, |_| false);
    }

    /// All workers have ended. Whoever of their children still holds a listener would keep clients waiting for a site that is gone,
    /// and the next start from its address.
    pub fn end_strays(&mut self) {
        for (inode, address) in std::mem::take(&mut self.stopped_listeners) {
            for (pid, command) in process::descendants_with_socket(inode) {
                warn!(self.log, "process ended that held a listener"; "address" => &address, "pid" => pid, "command" => command);
                end(pid);
            }
        }
        // What an application has started and let go of may be meant to live on; it is only named.
        let strays = process::living_descendants();
        for (pid, command) in strays.into_iter().filter(|(pid, _)| !self.children.contains_key(pid)).take(NAMED) {
            warn!(self.log, "process of the application lives on"; "pid" => pid, "command" => command);
        }
    }
}

/// It is the master's child by now, because its parent has ended.
fn end(pid: i32) {
    let Ok(held) = PidFd::of_child(pid) else { return };
    if held.kill().is_ok() {
        let _ = poll(&mut [PollFd::new(held.as_fd(), PollFlags::POLLIN)], PollTimeout::from(PROMPTLY));
        while process::reap().is_some() {}
    }
}
