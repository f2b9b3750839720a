//! The process that calls the hooks of gunicorn's master (see the engine's `process/hooks.rs`). What it says is heard by nobody, and its
//! loss is not the site's: it is named in the log, and the next reload starts another.

use std::{collections::BTreeMap, os::fd::AsFd};

use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use ostler_wire::{Boot, MasterHook, ToTemplate};
use slog::{Logger, error, warn};

use super::spawn;
use crate::{
    exit::{Failure, words},
    resources::{line::Line, logs::Logs},
    settings::Settings,
    sys::pidfd::PidFd,
};

/// How long on_exit may take, in milliseconds, before the master ends without it.
const LAST_HOOK: u16 = 3000;

/// A process that calls hooks.
#[derive(Debug)]
pub struct Hooks {
    pid: i32,
    held: PidFd,
    line: Line,
    /// No worker was forked yet.
    fresh: bool,
    /// The workers' processes, by what gunicorn calls their age.
    workers: BTreeMap<i32, u32>,
    /// How many workers there are to be.
    count: u16,
}

impl Hooks {
    /// Starts one, or has it read the file again; none if the file has no hook for the master.
    pub fn begin(before: Option<Hooks>, settings: &Settings, logs: &Logs, boot: &Boot, log: &Logger) -> Option<Hooks> {
        if before.is_none() && !settings.master_hooks {
            return None;
        }
        let started = before.map_or_else(|| Hooks::start(settings, logs), Ok);
        let mut hooks = started.inspect_err(|failure| error!(log, "hooks not called"; "reason" => %failure)).ok()?;
        hooks.say(&ToTemplate::Hooks(Box::new(boot.clone())), log);
        // Where the number follows the load, the new generation begins with as many as the old one has.
        if settings.range.is_none() {
            hooks.count_is(boot.workers, log);
        }
        Some(hooks)
    }

    fn start(settings: &Settings, logs: &Logs) -> Result<Hooks, Failure> {
        let (pid, held, line) = spawn::template(settings, logs)?;
        let count = settings.workers.get();
        Ok(Hooks { pid, held, line, fresh: true, workers: BTreeMap::new(), count })
    }

    /// There are to be this number of workers.
    pub fn count_is(&mut self, count: u16, log: &Logger) {
        if count != self.count {
            let old = std::mem::replace(&mut self.count, count);
            self.say(&ToTemplate::Hook(MasterHook::WorkersChanged { new: count, old: Some(old) }), log);
        }
    }

    /// A worker is about to be forked.
    pub fn forking(&mut self, slot: u16, log: &Logger) {
        if std::mem::take(&mut self.fresh) {
            self.say(&ToTemplate::Hook(MasterHook::WhenReady), log);
        }
        self.say(&ToTemplate::Hook(MasterHook::PreFork { age: age(slot) }), log);
    }

    /// It was forked.
    pub fn forked(&mut self, slot: u16, pid: i32, log: &Logger) {
        self.workers.insert(pid, age(slot));
        self.say(&ToTemplate::Hook(MasterHook::Forked { age: age(slot), pid }), log);
    }

    /// A child has ended. Whether it was this process.
    pub fn ended(&mut self, pid: i32, log: &Logger) -> bool {
        if self.workers.remove(&pid).is_some() {
            self.say(&ToTemplate::Hook(MasterHook::ChildExit { pid }), log);
        }
        if pid == self.pid {
            warn!(log, "hooks lost"; "pid" => pid, "hint" => "`ostler reload` starts the process again");
        }
        pid == self.pid
    }

    /// The log files were rotated.
    pub fn reopen(&mut self, logs: &Logs) {
        let _ = self.line.send(&ToTemplate::Reopen, &[logs.error()]);
    }

    /// The master is about to end, and nothing is left to do: on_exit is waited for.
    pub fn exit(mut self, log: &Logger) {
        self.say(&ToTemplate::Hook(MasterHook::OnExit), log);
        // A process that a signal has stopped would not hear it.
        let _ = self.held.signal(nix::libc::SIGCONT);
        let mut polled = [PollFd::new(self.held.as_fd(), PollFlags::POLLIN)];
        if poll(&mut polled, PollTimeout::from(LAST_HOOK)) == Ok(0) {
            warn!(log, "hook hangs"; "hint" => "the master ends without on_exit");
        }
    }

    fn say(&mut self, message: &ToTemplate, log: &Logger) {
        self.line.flush();
        if let Err(error) = self.line.send(message, &[]) {
            warn!(log, "hooks not told"; "reason" => words(&error));
        }
    }
}

impl Drop for Hooks {
    fn drop(&mut self) {
        let _ = self.held.kill();
    }
}

fn age(slot: u16) -> u32 {
    u32::from(slot) + 1
}
