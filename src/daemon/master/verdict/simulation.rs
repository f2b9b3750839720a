//! How often the rule is wrong about an unchanged release, and how soon it sees a bad one.
//!
//! `RELOADS=5000 cargo test -p ostler verdict::simulation -- --nocapture` simulates more than the usual run, and prints the tables.

use std::time::Duration;

use self::traffic::{BIMODAL, Fault, LONG_TAILED, Site, Traffic};
use super::{
    Against, Measure, Verdict,
    figures::{Figures, History},
    judge,
};
use crate::{master::simulation::chance::Chance, sys::clock::Moment};

mod traffic;

const TIMEOUT: Duration = Duration::from_secs(30);
/// So many reloads follow the same time of the old generation: that is what takes long to simulate.
const FOLLOWING: u64 = 10;
const BEGIN: Moment = Moment(1_000_000);

const CALM: Fault = Fault { errors: 0.0, crashes: 0.0, late: 0.0, stuck: 0.0 };
const QUIET: Site = Site { rate: 10.0, errors: 0.0005, lost: 1e-5, clumps: 0.0, bursts: false, durations: LONG_TAILED };
const BUSY: Site = Site { rate: 10_000.0, lost: 1e-7, ..QUIET };

/// How the new generation comes; times are seconds.
#[derive(Debug, Clone, Copy)]
enum Way {
    /// All at once, after the old one has served for that long.
    Switch { served: u64, watch: u64 },
    /// With this share of the requests, while the old one has the others.
    Canary { share: f64, watch: u64 },
}

const SWITCH: Way = Way::Switch { served: 3600, watch: 60 };
const CANARY: Way = Way::Canary { share: 0.25, watch: 60 };

/// A history, and what the generation has done so far.
struct Counted(History, Figures, Moment);

impl Counted {
    fn new(span: u64) -> Counted {
        Counted(History::new(Duration::from_secs(span), BEGIN, Figures::default()), Figures::default(), BEGIN)
    }

    fn count(&mut self, seconds: u64, grown: &Figures) {
        self.1 += grown;
        self.2 = self.2 + Duration::from_secs(seconds);
        self.0.note(self.2, self.1.clone());
    }
}

/// One reload after another: after how many seconds each new generation was called worse, and why.
fn reloads(site: Site, way: Way, fault: Fault, count: u64, case: u64) -> Vec<Option<(u64, Measure)>> {
    let seeds = (0..count.div_ceil(FOLLOWING)).map(|number| case << 32 | number);
    seeds.flat_map(|seed| following(site, way, fault, seed)).collect()
}

fn following(site: Site, way: Way, fault: Fault, seed: u64) -> Vec<Option<(u64, Measure)>> {
    let (served, watch, share, against) = match way {
        Way::Switch { served, watch } => (served, watch, 1.0, Against::LastHour),
        Way::Canary { share, watch } => (0, watch, share, Against::SameTime),
    };
    let mut traffic = Traffic::new(site, (served + watch * FOLLOWING) as f64, seed);
    let mut before = Counted::new(3600);
    let step = if served < 10 { 1 } else { 10 };
    for begin in (0..served).step_by(step) {
        let [figures, _] = traffic.slice(begin as f64, step as f64, 0.0, 0.0, CALM);
        before.count(step as u64, &figures);
    }
    let reload = |number| {
        let (mut beside, mut new) = (Counted::new(watch), Counted::new(watch));
        (0..watch).find_map(|age| {
            let begin = served + number * watch + age;
            let [others, own] = traffic.slice(begin as f64, 1.0, share, age as f64, fault);
            beside.count(1, &others);
            new.count(1, &own);
            let old = if against == Against::SameTime { &beside } else { &before };
            match judge(&old.0, &new.0, against, TIMEOUT) {
                Verdict::Worse(reason) => Some((age + 1, reason.measure)),
                Verdict::NotWorse(_) | Verdict::TooLittle(_) => None,
            }
        })
    };
    (0..FOLLOWING).map(reload).collect()
}

fn wanted(usual: u64) -> u64 {
    std::env::var("RELOADS").ok().and_then(|count| count.parse().ok()).unwrap_or(usual)
}

#[test]
fn an_unchanged_release_is_called_worse_less_than_once_in_a_thousand() {
    let real = |site: Site| Site { clumps: 3.0, bursts: true, ..site };
    let sites = [
        ("10/s", QUIET),
        ("10/s, bursts, 3 clumps an hour", real(QUIET)),
        ("10/s, bursts, 5 % fail anyway", Site { errors: 0.05, ..real(QUIET) }),
        ("10/s, bursts, bimodal", Site { durations: BIMODAL, ..real(QUIET) }),
        ("10,000/s", BUSY),
        ("10,000/s, bursts, 1 clump an hour", Site { clumps: 1.0, ..real(BUSY) }),
        ("10,000/s, bursts, 3 clumps an hour", real(BUSY)),
        ("10,000/s, bursts, 5 % fail anyway", Site { errors: 0.05, ..real(BUSY) }),
        ("10,000/s, bursts, bimodal", Site { durations: BIMODAL, ..real(BUSY) }),
    ];
    let ways = [
        ("switch after 1 h", SWITCH),
        ("switch after 5 min", Way::Switch { served: 300, watch: 60 }),
        ("switch after 5 s", Way::Switch { served: 5, watch: 60 }),
        ("canary 25 %", CANARY),
        ("canary 5 %", Way::Canary { share: 0.05, watch: 60 }),
    ];
    let many = ("bursts, 30 clumps an hour", [QUIET, BUSY].map(|site| Site { clumps: 30.0, ..real(site) }));
    let cases = sites.into_iter().flat_map(|(name, site)| ways.map(|(kind, way)| (name, site, kind, way)));
    // A generation that has served for a short time does not show so many.
    let cases = cases.chain(many.1.map(|site| (many.0, site, ways[0].0, SWITCH)));
    let cases = cases.chain(many.1.map(|site| (many.0, site, ways[3].0, CANARY)));
    let (mut all, mut alarms) = (0, 0);
    for (case, (name, site, kind, way)) in (0..).zip(cases) {
        let told = reloads(site, way, CALM, wanted(70), case);
        let worse: Vec<_> = told.iter().flatten().collect();
        println!("{name:36} {kind:20} {:3} of {}  {:?}", worse.len(), told.len(), &worse[..worse.len().min(6)]);
        all += told.len();
        alarms += worse.len();
    }
    println!("all: {alarms} of {all}");
    // So many are seen of a rate of one in a thousand, or more, with a probability of 95 %: the rule of three, and its like for more.
    assert!((2 * alarms + 3) * 1000 <= all, "{alarms} false alarms in {all} reloads");
}

/// What has to be seen: of how many of ten releases, and in how many seconds by half of those.
#[test]
fn a_bad_release_is_seen_soon() {
    let failing = |errors| Fault { errors, ..CALM };
    let [some, many, all] = [0.01, 0.1, 1.0].map(failing);
    let (crashing, stuck, late) =
        (Fault { crashes: 0.01, ..CALM }, Fault { stuck: 0.1, ..CALM }, Fault { late: 1.0, ..CALM });
    let (young, patient) = (Way::Switch { served: 5, watch: 60 }, Way::Switch { served: 3600, watch: 300 });
    let [small, long] = [(0.05, 60), (0.25, 600)].map(|(share, watch)| Way::Canary { share, watch });
    let cases = [
        ("10/s, switch", QUIET, SWITCH, [(some, 3, 57), (many, 10, 12), (all, 10, 6)]),
        ("10/s, canary 25 %", QUIET, CANARY, [(some, 0, 60), (many, 3, 57), (all, 10, 11)]),
        ("10/s, canary 5 %", QUIET, small, [(some, 0, 60), (many, 0, 60), (all, 9, 30)]),
        ("10,000/s, switch", BUSY, SWITCH, [(some, 10, 6), (many, 10, 6), (all, 10, 6)]),
        ("10,000/s, canary 25 %", BUSY, CANARY, [(some, 10, 6), (many, 10, 6), (all, 10, 6)]),
        ("10,000/s, canary 5 %", BUSY, small, [(some, 10, 9), (many, 10, 6), (all, 10, 6)]),
        ("10/s, switch, 5 min", QUIET, patient, [(some, 8, 200), (many, 10, 15), (all, 10, 7)]),
        ("10/s, canary 25 %, 10 min", QUIET, long, [(some, 4, 500), (many, 10, 80), (all, 10, 11)]),
        ("10/s, switch after 5 s", QUIET, young, [(some, 0, 60), (many, 0, 60), (all, 10, 15)]),
        ("10,000/s, switch after 5 s", BUSY, young, [(some, 10, 11), (many, 10, 11), (all, 10, 11)]),
        ("10/s, crash 1 %, 10 % stuck, all late", QUIET, SWITCH, [(crashing, 4, 50), (stuck, 9, 45), (late, 0, 60)]),
        ("10,000/s, the same", BUSY, SWITCH, [(crashing, 10, 6), (stuck, 10, 36), (late, 10, 36)]),
    ];
    println!("{:38}| {:22}| {:22}| 100 % errors", "", "1 % errors", "10 % errors");
    for (name, site, way, faults) in cases {
        let row = faults.map(|(fault, least, latest)| {
            let told = reloads(site, way, fault, wanted(20), 0);
            let mut seen: Vec<_> = told.iter().flatten().map(|(at, _)| *at).collect();
            seen.sort_unstable();
            let [half, most] = [5, 9].map(|tenths| seen.get(seen.len() * tenths / 10).copied().unwrap_or(0));
            assert!(seen.len() * 10 >= told.len() * least, "{name}: {fault:?} was seen {} times", seen.len());
            assert!(half <= latest, "{name}: {fault:?} was seen after {half} s");
            format!("{:3} %: {half} s, {most} s", seen.len() * 100 / told.len())
        });
        println!("{name:38}| {:22}| {:22}| {}", row[0], row[1], row[2]);
    }
}
