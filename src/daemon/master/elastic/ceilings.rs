//! What more workers cannot go beyond: the processors, which they would only take from each other, and the memory.

/// Of the processors this much counts as all.
const FULL: f64 = 0.9;
/// Workers that compute for less than this share of their time wait for something else, whatever the processors do.
const COMPUTING: f64 = 0.1;
/// If for this share of the last 10 s somebody waited for a processor, others want them, too (PSI).
const CPU_PRESSURE: f64 = 0.5;
/// If for this share of the last 10 s somebody waited for memory, there is too little of it (PSI).
const MEMORY_PRESSURE: f64 = 0.1;
/// This part of a limit of memory stays free, for what workers take that has not been seen yet.
const RESERVE: u64 = 16;

/// How the workers use the processors while none of them is idle.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Processors {
    /// How many the site may use.
    pub count: u16,
    /// For how much of its time a worker has computed or waited for a processor, on average: at most about 1 with Python's lock.
    pub each: f64,
    /// The share of time in which somebody waited for a processor.
    pub pressure: f64,
}

/// What memory is left, and what a worker takes.
#[derive(Debug, Clone, PartialEq)]
pub struct Room {
    /// The limit that is nearest, in bytes.
    pub limit: u64,
    /// Which that is.
    pub which: String,
    /// What is left below it, in bytes.
    pub free: u64,
    /// What the largest worker had to itself when it had most, in bytes: another may need as much.
    pub each: u64,
    /// A worker has answered a request, so that this is known.
    pub is_known: bool,
    /// What is missing until each worker that there is holds what the largest does.
    pub growing: u64,
    /// The share of time in which somebody waited for memory.
    pub pressure: f64,
}

impl Processors {
    /// How many workers are of use, and why not more; none if they leave most of the processors alone.
    pub fn ceiling(&self, wanted: u16) -> Option<(u16, String)> {
        if self.each < COMPUTING {
            return None;
        }
        let (count, used) = (f64::from(self.count), self.each * f64::from(wanted));
        let shared = self.pressure >= CPU_PRESSURE;
        let there = if shared { used.min(count) } else { count };
        let most = ((there * FULL / self.each) as u16).max(self.count);
        let others = if shared { " while others wait for them" } else { "" };
        let s = if self.count == 1 { "" } else { "s" };
        let workers = if wanted == 1 { "the worker needs".into() } else { format!("{wanted} workers need") };
        Some((most, format!("{workers} {used:.1} of {} processor{s}{others}", self.count)))
    }
}

impl Room {
    /// How many workers have room, and why not more.
    pub fn ceiling(&self, wanted: u16) -> Option<(u16, String)> {
        let Room { limit, which, free, each, is_known, growing, pressure } = self;
        if *pressure >= MEMORY_PRESSURE {
            let share = pressure * 100.0;
            return Some((wanted, format!("somebody waited for memory in {share:.0}% of the last 10 s")));
        }
        let left = free.saturating_sub(limit / RESERVE).saturating_sub(*growing);
        let more = (left / (*each).max(1)).min(u16::MAX.into()) as u16;
        let megabytes = |bytes: &u64| format!("{:.1}M", *bytes as f64 / f64::from(1 << 20));
        let takes = if *is_known { "a worker takes" } else { "no worker has answered yet, so that it may take" };
        let told = format!("{takes} {}, {} are free and {which}", megabytes(each), megabytes(free));
        Some((wanted.saturating_add(more), told))
    }
}
