//! The memory and the CPU time of templates and workers, as `ostler status` shows it. Reading /proc/PID/smaps_rollup takes a while for a large process, and
//! may wait for as long as that process wants (its memory map is locked): a child of the master reads, once in some seconds at most.

use std::{collections::BTreeMap, fs, io, path::PathBuf, time::Duration};

use ostler_wire::limits::{self, MemoryLeft};
use serde::{Deserialize, Serialize};

use crate::{
    resources::control::Asker,
    sys::{clock::Moment, errand::Errand},
};

/// Figures that are not older are shown again.
const FRESH: Duration = Duration::from_secs(5);
/// So long an answer waits for fresh ones.
const WORTH_WAITING: Duration = Duration::from_millis(250);
/// Of more threads of a worker it is not asked what they do.
const THREADS_LOOKED_AT: usize = 32;
/// When reading is given up.
const PATIENCE: Duration = Duration::from_secs(20);

/// What /proc/PID/smaps_rollup and /proc/PID/status say.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Memory {
    /// Mapped by others, too.
    pub shared: u64,
    /// Its own.
    pub private: u64,
    /// Its own and its part of the shared.
    pub proportional: u64,
    /// Its own when it had most.
    #[serde(default)]
    pub peak: u64,
}

/// What memory is left, and how much processes wait for it and for processors.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
struct System {
    left: Option<MemoryLeft>,
    /// Shares of the last 10 s.
    memory_pressure: f64,
    cpu_pressure: f64,
    /// How many processors the site may use, by affinity and the quotas of control groups.
    processors: u16,
}

/// The figures, and who waits for better ones.
#[derive(Debug, Default)]
pub struct Sampling {
    /// Of each process its memory, none if it cannot be looked at, and its CPU time.
    figures: BTreeMap<i32, (Option<Memory>, Option<u64>)>,
    /// What there is of it for all of them together, if that is known.
    system: System,
    taken: Option<Moment>,
    /// When the reading of these figures began, and of those that are being read.
    begun: Option<Moment>,
    begins: Option<Moment>,
    errand: Option<Errand>,
    /// Until when these wait.
    waiting: Option<(Moment, Vec<Asker>)>,
}

impl Sampling {
    /// Somebody asks. If the figures are old, those of these processes are read first.
    pub fn ask(&mut self, asker: Asker, pids: Vec<i32>, now: Moment) -> io::Result<()> {
        let (_, waiting) = self.waiting.get_or_insert_with(|| (now, Vec::new()));
        waiting.push(asker);
        if self.refresh(pids, now)?
            && let Some((until, _)) = &mut self.waiting
        {
            *until = now + WORTH_WAITING;
        }
        Ok(())
    }

    /// If the figures are old, begins to read those of these processes. Whether it did.
    pub fn refresh(&mut self, pids: Vec<i32>, now: Moment) -> io::Result<bool> {
        self.refresh_older(FRESH, pids, now)
    }

    /// If the figures are older than this, begins to read those of these processes. Whether it did.
    pub fn refresh_older(&mut self, fresh: Duration, pids: Vec<i32>, now: Moment) -> io::Result<bool> {
        let old = self.taken.is_none_or(|taken| now - taken > fresh);
        let new = pids.iter().any(|pid| !self.figures.contains_key(pid));
        if !(old || new) || self.errand.is_some() {
            return Ok(false);
        }
        let read = || {
            let figures =
                pids.into_iter().map(|pid| (pid, (Memory::of(pid), cpu_time(pid)))).collect::<BTreeMap<_, _>>();
            (figures, System::read())
        };
        self.errand = Some(Errand::begin(PATIENCE, read)?);
        self.begins = Some(now);
        Ok(true)
    }

    /// Whether this is the process that read; it has ended.
    pub fn ended(&mut self, pid: i32, now: Moment) -> bool {
        let Some(errand) = self.errand.take_if(|errand| errand.pid == pid) else { return false };
        if let Some(figures) = errand.outcome() {
            ((self.figures, self.system), self.taken) = (figures, Some(now));
            self.begun = self.begins;
        }
        true
    }

    /// The commands that are to be answered now.
    pub fn due(&mut self, now: Moment) -> Vec<Asker> {
        if let Some(errand) = self.errand.as_mut().filter(|errand| errand.deadline <= now) {
            errand.give_up();
            errand.deadline = now + PATIENCE;
        }
        let answered = |waiting: &mut (Moment, _)| self.errand.is_none() || waiting.0 <= now;
        self.waiting.take_if(answered).map(|(_, askers)| askers).unwrap_or_default()
    }

    /// When [`Sampling::due`] is to be called.
    pub fn deadline(&self) -> Option<Moment> {
        let waiting = self.waiting.as_ref().map(|waiting| waiting.0);
        waiting.into_iter().chain(self.errand.as_ref().map(|errand| errand.deadline)).min()
    }

    /// When the reading of the figures began.
    pub fn begun(&self) -> Option<Moment> {
        self.begun
    }

    /// Whether figures are being read.
    pub fn is_reading(&self) -> bool {
        self.errand.is_some()
    }

    /// What memory was left for all processes of the site, if it is known.
    pub fn memory_left(&self) -> Option<&MemoryLeft> {
        self.system.left.as_ref()
    }

    /// For what share of the last 10 s somebody waited for memory.
    pub fn pressure_of_memory(&self) -> f64 {
        self.system.memory_pressure
    }

    /// How many processors the site may use, if that is known, and for what share of the last 10 s somebody waited for one.
    pub fn processors(&self) -> Option<(u16, f64)> {
        (self.system.processors > 0).then_some((self.system.processors, self.system.cpu_pressure))
    }

    /// The memory of a process, if it is known.
    pub fn of(&self, pid: i32) -> Option<Memory> {
        self.figures.get(&pid).and_then(|(memory, _)| *memory)
    }

    /// How much CPU time a process had used, if it is known: see [`cpu_time`].
    pub fn cpu(&self, pid: i32) -> Option<u64> {
        self.figures.get(&pid).and_then(|(_, time)| *time)
    }

    /// The memory of all of them, if it was looked at a short while ago.
    pub fn total(&self, now: Moment) -> Option<u64> {
        let known = self.figures.values().filter_map(|(memory, _)| Some(memory.as_ref()?.proportional));
        self.taken.filter(|taken| now - *taken <= FRESH * 3).map(|_| known.fold(0, u64::saturating_add))
    }

    /// When the figures were taken.
    pub fn taken(&self) -> Option<Moment> {
        self.taken
    }
}

impl System {
    fn read() -> System {
        let pressure = |resource| limits::pressure(resource).unwrap_or_default();
        let processors =
            std::thread::available_parallelism().map_or(0, |count| count.get().min(u16::MAX.into()) as u16);
        System {
            left: limits::memory_left(),
            memory_pressure: pressure("memory"),
            cpu_pressure: pressure("cpu"),
            processors,
        }
    }
}

/// In microseconds, in user and system mode, that of children it has waited for included. That of a process that has ended can be read
/// until it is reaped, and never waits.
pub fn cpu_time(pid: i32) -> Option<u64> {
    let text = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    // proc_pid_stat(5): utime, stime, cutime and cstime are the fields 14 to 17. The second, a name, may hold anything.
    let ticks = text.rsplit_once(") ")?.1.split(' ').skip(11).take(4).map(str::parse::<u64>);
    let ticks = ticks.sum::<Result<u64, _>>().ok()?;
    let each = nix::unistd::sysconf(nix::unistd::SysconfVar::CLK_TCK).ok()??;
    Some(ticks * 1_000_000 / each as u64)
}

/// For how long the threads of a process have computed, or have waited for a processor that was not free; of many, only the first are looked at.
/// Never waits.
pub fn computing(pid: i32) -> Option<Duration> {
    // Documentation/scheduler/sched-stats.rst: the first two numbers, in nanoseconds.
    let of = |path: PathBuf| {
        let text = fs::read_to_string(path.join("schedstat")).ok()?;
        text.split(' ').take(2).map(|number| number.parse::<u64>().ok()).sum::<Option<u64>>()
    };
    let threads = fs::read_dir(format!("/proc/{pid}/task")).ok()?.flatten().take(THREADS_LOOKED_AT);
    Some(Duration::from_nanos(threads.filter_map(|thread| of(thread.path())).fold(0, u64::saturating_add)))
}

impl Memory {
    /// Of a process, unless it cannot be looked at.
    pub fn of(pid: i32) -> Option<Memory> {
        let read = |name: &str| fs::read_to_string(format!("/proc/{pid}/{name}")).ok();
        Memory::read(&read("smaps_rollup")?, &read("status")?)
    }

    fn read(rollup: &str, status: &str) -> Option<Memory> {
        let kilobytes = |line: &str| line.split_whitespace().nth(1)?.parse::<u64>().ok();
        let mut memory = Memory::default();
        // proc(5): `Pss:                 123 kB`
        for line in rollup.lines().skip(1) {
            let bytes = kilobytes(line)? * 1024;
            match line.split(':').next()? {
                "Pss" => memory.proportional = bytes,
                "Shared_Clean" | "Shared_Dirty" => memory.shared += bytes,
                "Private_Clean" | "Private_Dirty" => memory.private += bytes,
                _ => {}
            }
        }
        // proc_pid_status(5): the most that was resident, and what is now.
        let resident = |name: &str| status.lines().find_map(|line| kilobytes(line.strip_prefix(name)?));
        let given_back = resident("VmHWM")?.saturating_sub(resident("VmRSS")?);
        memory.peak = memory.private + given_back * 1024;
        Some(memory)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn memory_is_read_in_bytes() {
        let text = "5581 rollup\nRss: 900 kB\nPss:  5 kB\nShared_Clean: 1 kB\nShared_Dirty: 2 kB\nPrivate_Clean: 3 kB\n\
                    Private_Dirty: 4 kB\n";
        let status = "VmHWM:\t 12 kB\nVmRSS:\t 10 kB\n";
        let expected = Memory { shared: 3072, private: 7168, proportional: 5120, peak: 9216 };
        assert_eq!(Memory::read(text, status), Some(expected));
        assert!(Memory::of(std::process::id() as i32).is_some_and(|memory| memory.private > 0));
    }

    #[test]
    fn figures_that_are_fresh_are_shown_again() {
        let mut sampling =
            Sampling { taken: Some(Moment(1000)), figures: BTreeMap::from([(1, (None, None))]), ..Sampling::default() };
        sampling.ask(Asker(1), vec![1], Moment(5999)).unwrap();
        assert_eq!(sampling.due(Moment(5999)), [Asker(1)]);
        assert_eq!(sampling.due(Moment(5999)), []);
        assert_eq!(sampling.deadline(), None);
    }
}
