//! Judges a new generation by figures, against the generation before it: in the same time (a canary), or in its last hour (after a switch).
//!
//! A pure function of two histories. `docs/deploying.md` tells the rule in plain words, with an example that a test computes anew;
//! `verdict/simulation.rs` shows how often it is wrong, and how soon it sees what.

use std::{fmt, time::Duration};

use ostler_wire::meters::{BOUNDS, Times};
use serde::{Deserialize, Serialize};

use self::figures::{Figures, History, Part, windows};
use super::event::Number;

mod binomial;
pub mod figures;
#[cfg(test)]
mod simulation;
#[cfg(test)]
mod tests;

/// How often a release that is like the last one may be called worse: over all looks at all measures of one reload.
const FALSE_ALARM: f64 = 0.001;
/// The worst seconds in a row of the new generation that are left out. Failures come in clumps, such as while a database restarts: one
/// clump of up to four seconds, which touches five looks, says nothing about a release.
const CLUMP: Duration = Duration::from_secs(5);
/// A generation that has served for less does not show how often clumps come to this site: then two of the next one's are left out,
/// and p99, which goes up and down the most, is not judged.
const LONG_ENOUGH: Duration = Duration::from_secs(30 * 60);
/// Fewer bad requests than this, besides those of a clump, are no verdict, however unlikely they are.
const FEWEST_BAD: u64 = 3;
/// Time-outs are rare, for each takes its worker from the site for `--timeout`.
const FEWEST_TIMEOUTS: u64 = 2;
/// Requests besides those of a clump. With fewer, a release that fails one request of ten might show less than [`FEWEST_BAD`].
const FEWEST_REQUESTS: u64 = 30;
/// The share of the bad has to be so many times that of the old generation. A site's own ups and downs stay below.
const RATIO: f64 = 1.5;
/// How much more of the requests have to fail. With much traffic, less than that is beyond chance, too, but no reason to go back.
const MORE_ERRORS: f64 = 0.002;
/// A crash and a time-out cost a worker, and the other calls of its threads.
const MORE_LOST: f64 = 0.0001;
/// So many more have to be slow.
const MORE_SLOW: f64 = 0.005;
/// And so many in all: then the new p99 is above the bound.
const SLOW: f64 = 0.01;
/// Slow is what takes that many times the old generation's p99. Under load, p99 moves by less on its own.
const SLOWER: f64 = 2.0;
/// Nothing below is slow, in microseconds: so long may a process wait for a processor.
const NEVER_SLOW: f64 = 10_000.0;
/// The first requests of any generation are slow, because modules are imported late and caches are empty. p99 does not count
/// them, and goes by the later half of the time only.
const WARMING: Duration = Duration::from_secs(30);

/// What the figures say.
#[derive(Debug, Clone, PartialEq)]
pub enum Verdict {
    /// The new generation is worse, and why.
    Worse(Reason),
    /// There was enough traffic, and nothing is worse so far; and why p99 was not judged, if it was not.
    NotWorse(Option<Unjudged>),
    /// Nothing is worse, but no more can be said.
    TooLittle(Shortage),
}

/// What the new generation is compared with.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum Against {
    /// The old generation beside it: what befalls the site befalls both. Both histories begin when the canary does.
    SameTime,
    /// The old generation before it: its history ends when the new one begins.
    LastHour,
}

/// What is worse.
#[derive(Debug, Clone, PartialEq)]
pub struct Reason {
    /// Which of the measures.
    pub measure: Measure,
    /// Of the new generation.
    pub new: Part,
    /// Of the old one.
    pub old: Part,
    /// How likely chance alone makes such a difference.
    pub chance: f64,
}

/// Why p99 was not judged.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Unjudged {
    /// The old generation has served for too short a time.
    Young,
    /// No bound is far enough above the old generation's p99.
    Unbounded,
    /// The new generation has not served for longer than it takes to warm up.
    Cold,
    /// So few requests have come in the later half of its time, besides those of a clump.
    Few(u64),
}

/// How many requests there were.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Shortage {
    new: u64,
    /// Of those, besides the ones of its worst seconds.
    judged: u64,
    old: u64,
}

/// What is compared.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Measure {
    /// Workers that died by themselves.
    Crashes,
    /// Calls that passed `--timeout`.
    TimeOuts,
    /// Answers of 5xx, and those that the application has begun and broken off.
    Errors,
    /// Requests that took longer than this place of [`BOUNDS`]: twice the old generation's p99, or more.
    Slow(usize),
}

/// How many measures there are.
const MEASURES: f64 = 4.0;

/// Judges. To be asked at most once a second, until the history of the new generation has its span: before, only [`Verdict::Worse`] is
/// final. `timeout`: `--timeout`.
pub fn judge(old: &History, new: &History, against: Against, timeout: Duration) -> Verdict {
    let before = old.total();
    let is_young = against == Against::LastHour && old.time() < LONG_ENOUGH.as_millis() as u64;
    let clumps = if is_young { 2 } else { 1 };
    let slow = match slow_bound(&before).map(Measure::Slow) {
        _ if is_young => Err(Unjudged::Young),
        slow => slow.ok_or(Unjudged::Unbounded),
    };
    let measures = [Measure::Crashes, Measure::TimeOuts, Measure::Errors].into_iter().chain(slow.ok());
    // A time-out is the end of a call that was bad for longer than a clump.
    let clumps_of = |measure| if measure == Measure::TimeOuts && timeout >= CLUMP { 0 } else { clumps };
    let mut reasons = measures.filter_map(|measure| worse(measure, old, new, clumps_of(measure)));
    if let Some(reason) = reasons.next() {
        return Verdict::Worse(reason);
    }
    let rest = without_clumps(parts(Measure::Errors, new, 0), clumps);
    let shortage = Shortage { new: new.total().requests, judged: rest.of, old: before.requests };
    if shortage.judged.min(shortage.old) < FEWEST_REQUESTS {
        return Verdict::TooLittle(shortage);
    }
    Verdict::NotWorse(slow.and_then(|slow| warm_enough(slow, new, clumps)).err())
}

/// Whether p99 can be judged yet.
fn warm_enough(slow: Measure, new: &History, clumps: u32) -> Result<(), Unjudged> {
    let begin = slow.begin(new.time());
    if new.time() <= begin {
        return Err(Unjudged::Cold);
    }
    let rest = without_clumps(parts(slow, new, begin), clumps);
    if rest.of < FEWEST_REQUESTS { Err(Unjudged::Few(rest.of)) } else { Ok(()) }
}

/// Why the new generation is worse by this measure, if it is.
fn worse(measure: Measure, old: &History, new: &History, clumps: u32) -> Option<Reason> {
    if measure.part(0, &new.total()).bad < measure.fewest() {
        return None;
    }
    let judged = parts(measure, new, measure.begin(new.time()));
    let all: Part = judged.iter().copied().sum();
    let rest = without_clumps(judged, clumps);
    let before = measure.part(old.time(), &old.total());
    if rest.bad < measure.fewest() || rest.share() < measure.too_much(before.share()) {
        return None;
    }
    let of_all = rest.of as f64 / (rest.of as f64 + before.of as f64);
    let chance = binomial::tail(rest.bad, rest.bad.saturating_add(before.bad), of_all);
    let allowed = FALSE_ALARM / (MEASURES * new.looks() as f64);
    // What the old generation has had, too, for as long and over as many requests, is the site's and not the release's.
    let highest = highest_share(&parts(measure, old, 0), rest);
    (chance < allowed && rest.share() >= measure.too_much(highest)).then_some(Reason {
        measure,
        new: all,
        old: before,
        chance,
    })
}

/// The bound above which a request is slow, if the old generation's p99 leaves one.
fn slow_bound(before: &Figures) -> Option<usize> {
    let times = Times { buckets: before.durations, sum: 0 };
    let p99 = times.ranked(times.count().saturating_sub(times.count() / 100 + 1));
    BOUNDS.iter().position(|bound| *bound as f64 >= (SLOWER * p99).max(NEVER_SLOW))
}

/// What a measure makes of the slices of a history, from this age on.
fn parts(measure: Measure, history: &History, begin: u64) -> Vec<Part> {
    let slices = history.slices().filter(|(age, _)| *age >= begin);
    slices.map(|(_, slice)| measure.part(slice.time, &slice.figures)).collect()
}

/// The sum of all parts but the worst rows of them, each as long as a clump.
fn without_clumps(mut parts: Vec<Part>, clumps: u32) -> Part {
    for _ in 0..clumps {
        let rows = windows(&parts, |row| u128::from(row.time) >= CLUMP.as_millis());
        let Some((worst, _)) = rows.max_by_key(|(_, row)| row.bad) else { return Part::default() };
        parts.drain(worst);
    }
    parts.into_iter().sum()
}

/// The highest share in a row of parts that are as long as this one and have as many requests; that of all if there is no such row.
fn highest_share(parts: &[Part], like: Part) -> f64 {
    let all: Part = parts.iter().copied().sum();
    let rows = windows(parts, |row| row.time >= like.time && row.of >= like.of);
    rows.map(|(_, row)| row).chain([all]).map(Part::share).fold(0.0, f64::max)
}

impl Measure {
    fn part(self, time: u64, figures: &Figures) -> Part {
        let sum = |counts: &[u64]| counts.iter().fold(0, |sum: u64, count| sum.saturating_add(*count));
        let (bad, of) = match self {
            // A worker can crash without being asked for anything, and again and again: each second is an occasion, too.
            Measure::Crashes => {
                return Part { time, bad: figures.crashes, of: figures.requests.saturating_add(time / 1000) };
            }
            Measure::TimeOuts => (figures.timeouts, figures.calls()),
            Measure::Errors => (figures.errors, figures.requests),
            Measure::Slow(bound) => (sum(&figures.durations[bound + 1..]), sum(&figures.durations)),
        };
        // A call that is over in one slice may be counted in the next.
        Part { time, bad, of: of.max(bad) }
    }

    /// From which age on it judges a generation of this age: p99 by the later half.
    fn begin(self, age: u64) -> u64 {
        if matches!(self, Measure::Slow(_)) { (age / 2).max(WARMING.as_millis() as u64) } else { 0 }
    }

    fn fewest(self) -> u64 {
        if self == Measure::TimeOuts { FEWEST_TIMEOUTS } else { FEWEST_BAD }
    }

    /// The least share that is clearly more than this one.
    fn too_much(self, share: f64) -> f64 {
        let more = match self {
            Measure::Crashes | Measure::TimeOuts => share + MORE_LOST,
            Measure::Errors => share + MORE_ERRORS,
            Measure::Slow(_) => (share + MORE_SLOW).max(SLOW),
        };
        more.max(share * RATIO)
    }
}

impl Reason {
    /// `failed requests: 37 of 412 (9.0 %) against 3 of 9,120 (0.03 %) of generation 4`
    pub fn sentence(&self, old: Number) -> String {
        let (Reason { measure, new, old: before, .. }, old) = (self, old.0);
        let what = match measure {
            Measure::Crashes => {
                let among = format!("{} in {} requests and seconds", grouped(new.bad), grouped(new.of));
                let before = format!("{} in {}", grouped(before.bad), grouped(before.of));
                return format!("crashes: {among} against {before} of generation {old}");
            }
            Measure::TimeOuts => "time-outs".to_owned(),
            Measure::Errors => "failed requests".to_owned(),
            Measure::Slow(bound) => format!("p99 is above {} ms", BOUNDS[*bound] / 1000),
        };
        format!("{what}: {new} against {before} of generation {old}")
    }
}

impl Shortage {
    /// `too little traffic: 40 requests, of which 12 are left without the worst seconds, and 36,000 of generation 4; it takes 30 of each`
    pub fn sentence(&self, old: Number) -> String {
        let Shortage { new, judged, old: before } = *self;
        let (new, judged, before) = (requests(new), grouped(judged), grouped(before));
        format!(
            "too little traffic: {new}, of which {judged} are left without the worst seconds, and {before} of generation {old}; it takes {FEWEST_REQUESTS} of each"
        )
    }
}

impl Unjudged {
    /// `no worse than generation 4 in 412 requests; p99 was not judged: it takes more than 30 s`
    pub fn not_worse(unjudged: Option<Unjudged>, old: Number, calls: u64) -> String {
        let but = unjudged.map(|why| match why {
            Unjudged::Young => format!("generation {old} had served for less than {} min", LONG_ENOUGH.as_secs() / 60),
            Unjudged::Unbounded => format!("that of generation {old} is too long to be told from a longer one"),
            Unjudged::Cold => format!("it takes more than {} s", WARMING.as_secs()),
            Unjudged::Few(count) => {
                format!(
                    "{} in the later half of its time, besides those of its worst seconds: too few",
                    requests(count)
                )
            }
        });
        let but = but.map_or_else(String::new, |why| format!("; p99 was not judged: {why}"));
        format!("no worse than generation {old} in {}{but}", requests(calls))
    }
}

impl fmt::Display for Part {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        write!(f, "{} of {} ({})", grouped(self.bad), grouped(self.of), self.percent())
    }
}

/// `36,000 requests`
fn requests(count: u64) -> String {
    format!("{} request{}", grouped(count), if count == 1 { "" } else { "s" })
}

/// `36,000`
fn grouped(number: u64) -> String {
    let digits = number.to_string();
    let groups = digits.as_bytes().rchunks(3).rev().map(String::from_utf8_lossy);
    groups.collect::<Vec<_>>().join(",")
}
