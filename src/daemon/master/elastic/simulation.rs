//! The rule under loads of every kind: steps, saw teeth, floods, slow leaks, and noise; with calls that compute or wait, threads, forks that take their
//! time, and memory that is short. What has to hold is checked at each look. A history is made from its seed alone.

use super::*;
use crate::master::simulation::chance::Chance;

const HISTORIES: u64 = 100_000;
const MEGA: u64 = 1 << 20;
/// A worker is ready after so many looks at most.
const SLOWEST_BOOT: u64 = 4;
/// Looks until a step is followed: two, those that the figures of memory are waited for, and the boot.
const SLOWEST_STEP: u64 = 2 + 5 + SLOWEST_BOOT;

#[test]
fn every_load_is_followed_within_its_bounds_and_without_flapping() {
    let (mut grown, mut shrunk, mut held) = (0, 0, 0);
    for seed in 0..HISTORIES {
        let mut site = Site::new(seed);
        site.run();
        grown += site.grown.len();
        shrunk += site.shrunk.len();
        held += site.held;
    }
    println!(
        "{HISTORIES} histories: {grown} times more workers, {shrunk} times one fewer, {held} times held by a ceiling"
    );
    assert!(grown.min(shrunk).min(held) > HISTORIES as usize / 4, "the loads try nothing");
}

/// How many calls clients want at a time, by the time in looks.
#[derive(Debug, Clone, Copy)]
enum Load {
    /// From one number to another and back.
    Step { low: u64, high: u64, from: u64, to: u64 },
    /// From none to the highest in this time, again and again.
    SawTooth { high: u64, period: u64 },
    /// Very many, for a moment.
    Flood { from: u64, long: u64 },
    /// One more each time that this has passed; for calls that never end.
    Leak { every: u64 },
    /// Any number below this, at each look.
    Noise { below: u64 },
}

impl Load {
    fn any(chance: &mut Chance, looks: u64) -> Load {
        let from = chance.below(looks / 4);
        match chance.below(5) {
            0 => Load::Step { low: chance.below(4), high: chance.below(40), from, to: from + chance.below(looks / 2) },
            1 => Load::SawTooth { high: 1 + chance.below(40), period: 2 + chance.below(looks / 2) },
            2 => Load::Flood { from, long: chance.below(20) },
            3 => Load::Leak { every: 1 + chance.below(60) },
            _ => Load::Noise { below: 1 + chance.below(20) },
        }
    }

    fn at(self, look: u64, chance: &mut Chance) -> u64 {
        match self {
            Load::Step { low, high, from, to } => {
                if (from..to).contains(&look) {
                    high
                } else {
                    low
                }
            }
            Load::SawTooth { high, period } => look % period * high / period,
            Load::Flood { from, long } => {
                if (from..from + long).contains(&look) {
                    1000
                } else {
                    0
                }
            }
            Load::Leak { every } => look / every,
            Load::Noise { below } => chance.below(below),
        }
    }
}

struct Worker {
    ready: u64,
    /// Its own memory.
    private: u64,
}

struct Site {
    seed: u64,
    chance: Chance,
    load: Load,
    looks: u64,
    range: WorkerRange,
    shrink_after: Duration,
    threads: u16,
    /// The share of a call that computes, and how many processors there are.
    computes: f64,
    processors: u16,
    /// What a worker takes at last, and the limit for all of them.
    takes: u64,
    limit: u64,
    workers: Vec<Worker>,
    rule: Elastic,
    now: Moment,
    /// How many workers the load has needed at each look, and what was decided.
    needed: Vec<(Moment, u16)>,
    crowded: Option<Moment>,
    grown: Vec<(Moment, u16)>,
    shrunk: Vec<Moment>,
    held: usize,
}

impl Site {
    fn new(seed: u64) -> Site {
        let mut chance = Chance(seed.wrapping_mul(0x9E37_79B9_7F4A_7C15));
        let least = 1 + chance.below(6) as u16;
        let range = WorkerRange { least, most: least + 1 + chance.below(20) as u16 };
        let shrink_after = Duration::from_secs(1 + chance.below(30));
        let looks = 100 + chance.below(300);
        let takes = (1 + chance.below(80)) * MEGA;
        Site {
            seed,
            load: Load::any(&mut chance, looks),
            looks,
            range,
            shrink_after,
            threads: [1, 1, 1, 4][chance.below(4) as usize],
            computes: [0.0, 0.02, 0.3, 1.0][chance.below(4) as usize],
            processors: 1 + chance.below(8) as u16,
            takes,
            limit: [u64::MAX / 2, 512 * MEGA, 512 * MEGA + u64::from(least) * takes][chance.below(3) as usize],
            workers: (0..least).map(|_| Worker { ready: 0, private: MEGA }).collect(),
            rule: Elastic::new(Number(1), range, shrink_after, Moment(0)),
            now: Moment(0),
            needed: Vec::new(),
            crowded: None,
            grown: Vec::new(),
            shrunk: Vec::new(),
            held: 0,
            chance,
        }
    }

    fn run(&mut self) {
        for look in 1..=self.looks {
            self.now = Moment(look * 100);
            let demand = self.load.at(look, &mut self.chance);
            self.look(demand);
        }
        // The load is over, and the site is at rest: it is only woken where that is of use.
        let mut woken = 0;
        self.look(0);
        while let Some(due) = self.rule.due(self.now) {
            self.ensure(due > self.now, "it is woken for the past");
            self.now = due;
            self.look(0);
            woken += 1;
            self.ensure(
                woken <= 2 + u64::from(self.range.most - self.range.least),
                "an idle site is woken for nothing",
            );
        }
        self.ensure(self.workers.len() == usize::from(self.range.least), "an idle site keeps more than it has to");
    }

    fn look(&mut self, demand: u64) {
        let (now, capacity) = (self.now, self.capacity());
        let calls = demand.min(capacity);
        let ready = self.workers.iter().filter(|worker| worker.ready <= now.0).count();
        let each = if ready == 0 { 0.0 } else { calls as f64 / ready as f64 * self.computes };
        let each = each.min(1.0).min(f64::from(self.processors) / ready.max(1) as f64);
        // Who is called takes its memory, by and by.
        for worker in self.workers.iter_mut().filter(|worker| worker.ready <= now.0 && demand > 0) {
            worker.private = (worker.private * 2).min(self.takes);
        }
        let figures = Figures {
            wanted: self.workers.len() as u16,
            threads: self.threads,
            idle: if demand >= capacity { 0 } else { 1 + (capacity - demand) as usize / usize::from(self.threads) },
            coming: self.workers.len() - ready,
            calls: calls as usize,
            waiting: (demand - calls) as usize,
            settled: ready == self.workers.len(),
            processors: (self.chance.percent(95)).then_some(Processors { count: self.processors, each, pressure: 0.0 }),
            room: Some(self.room()),
            reading: self.chance.percent(10),
        };
        let needed = calls.div_ceil(self.threads.into()) as u16;
        self.needed.push((now, needed));
        let waits = figures.idle == 0 && figures.waiting > 0;
        let since = if waits { Some(*self.crowded.get_or_insert(now)) } else { None };
        self.crowded = since;
        match self.rule.look(&figures, now) {
            Decision::Stay => {}
            Decision::Held(_) => self.held += 1,
            Decision::Grow(more, _) => self.grow(more, &figures, since),
            Decision::Shrink(_) => self.shrink(&figures),
        }
        self.ensure(!self.is_late(now.0 / 100, figures.waiting), "requests wait although there could be more workers");
        let within = usize::from(self.range.least)..=usize::from(self.range.most);
        self.ensure(within.contains(&self.workers.len()), "the bounds are left");
    }

    fn grow(&mut self, more: u16, figures: &Figures, since: Option<Moment>) {
        let now = self.now;
        self.ensure(more > 0 && figures.waiting > 0 && figures.idle == 0, "more workers, and nobody waits");
        self.ensure(since.is_some_and(|since| now - since >= WAITING), "more workers after one look");
        let before = self.grown.last().is_none_or(|(before, _)| now - *before >= WAITING);
        self.ensure(before, "more workers before the last could show what they are good for");
        let all = self.workers.len() + usize::from(more);
        let missing = figures.waiting.div_ceil(self.threads.into());
        self.ensure(figures.coming + usize::from(more) <= missing, "more workers than wait");
        if let Some(processors) = figures.processors.filter(|_| self.computes >= 0.9) {
            self.ensure(
                processors.each < 0.1 || all <= usize::from(self.processors.max(figures.wanted)),
                "more compute than processors",
            );
        }
        let room = self.room();
        let largest = all as u64 * room.each;
        self.ensure(largest <= room.limit - room.limit / 16, "more workers than have room");
        // No flapping: what is taken back too early would have to be forked again.
        if let (Some(shrunk), Some((grown, _))) = (self.shrunk.last(), self.grown.last())
            && shrunk > grown
        {
            let before = self.most_needed(*shrunk);
            self.ensure(figures.wanted > before, "it grows again for a load that it had before it shrank");
        }
        let booting = self.chance.below(SLOWEST_BOOT);
        self.workers.extend((0..more).map(|_| Worker { ready: now.0 + booting * 100, private: MEGA }));
        self.grown.push((now, more));
        if let Load::Step { from, to, .. } = self.load {
            let steps = [0, from, to].map(|look| Moment(look * 100));
            let since = steps.into_iter().rfind(|at| *at <= now).expect("time has begun");
            let grown = self.grown.iter().filter(|(at, _)| *at >= since).count();
            self.ensure(!self.is_free() || grown == 1, "it grows twice for one step");
        }
    }

    fn shrink(&mut self, figures: &Figures) {
        let now = self.now;
        let grown = self.grown.last().map_or(Moment(0), |(at, _)| *at);
        self.ensure(now - grown >= self.shrink_after, "it shrinks too soon after it grew");
        self.ensure(self.shrunk.last().is_none_or(|last| now - *last >= BETWEEN_STEPS), "two go at once");
        self.ensure(figures.settled && figures.idle > 0, "one goes that is at work");
        let enough = self.most_needed(now) + 1;
        self.ensure(figures.wanted > enough, "one goes that was needed a while ago");
        self.workers.pop();
        self.shrunk.push(now);
    }

    /// Within `--shrink-after` before this moment.
    fn most_needed(&self, at: Moment) -> u16 {
        let known = self.needed.iter().rev().skip_while(|(when, _)| *when > at);
        let recent = known.take_while(|(when, _)| at - *when < self.shrink_after);
        recent.map(|(_, needed)| *needed).max().unwrap_or(0)
    }

    /// Neither processors nor memory are short.
    fn is_free(&self) -> bool {
        self.computes < 0.1 && self.limit > 1 << 50
    }

    /// A step brings what it needs within two looks, the reading of the memory, and the boot.
    fn is_late(&self, look: u64, waiting: usize) -> bool {
        let Load::Step { from, to, .. } = self.load else { return false };
        let lasts = look > from.max(1) + SLOWEST_STEP && look < to;
        lasts && self.is_free() && waiting > 0 && self.workers.len() < usize::from(self.range.most)
    }

    fn capacity(&self) -> u64 {
        self.workers.iter().filter(|worker| worker.ready <= self.now.0).count() as u64 * u64::from(self.threads)
    }

    fn room(&self) -> Room {
        let private = || self.workers.iter().map(|worker| worker.private);
        let each = private().max().unwrap_or(0);
        let growing = private().map(|private| each - private).sum();
        let free = self.limit.saturating_sub(private().sum());
        Room { limit: self.limit, which: "the limit".into(), free, each, is_known: true, growing, pressure: 0.0 }
    }

    #[track_caller]
    fn ensure(&self, holds: bool, what: &str) {
        assert!(
            holds,
            "seed {}: {what}, at {:?} with {} workers of {:?} under {:?}; grown {:?}, shrunk {:?}",
            self.seed,
            self.now,
            self.workers.len(),
            self.range,
            self.load,
            self.grown,
            self.shrunk
        );
    }
}
