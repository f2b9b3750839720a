//! Cases of the rule, and the example of the page.

use super::*;
use crate::sys::clock::Moment;

const TIMEOUT: Duration = Duration::from_secs(30);
const HOUR: u64 = 3600;

/// Of a generation that has answered so many requests in each slice of so many seconds, so many of them badly.
fn history(span: u64, seconds: u64, requests: u64, bad: &[u64], count: impl Fn(u64, u64) -> Figures) -> History {
    let mut history = History::new(Duration::from_secs(span), Moment(0), Figures::default());
    let (mut done, mut now) = (Figures::default(), Moment(0));
    for bad in bad {
        now = now + Duration::from_secs(seconds);
        done += &count(requests, *bad);
        history.note(now, done.clone());
    }
    history
}

fn failing(requests: u64, errors: u64) -> Figures {
    Figures { requests, errors, ..slow(requests, 0) }
}

/// In the bucket from 25 ms to 50 ms, or from 500 ms to 1 s.
fn slow(requests: u64, slow: u64) -> Figures {
    let mut durations = [0; BOUNDS.len() + 1];
    (durations[8], durations[12]) = (requests - slow, slow);
    Figures { requests, durations, ..Figures::default() }
}

/// An hour of 36,000 requests, of which these failed.
fn hour(errors: u64) -> History {
    let bad: Vec<_> = (0..360).map(|slice| u64::from(slice < errors)).collect();
    history(HOUR, 10, 100, &bad, failing)
}

fn switched(old: &History, new: &History) -> Verdict {
    judge(old, new, Against::LastHour, TIMEOUT)
}

fn reason(verdict: Verdict) -> String {
    match verdict {
        Verdict::Worse(reason) => reason.sentence(Number(4)),
        Verdict::NotWorse(unjudged) => Unjudged::not_worse(unjudged, Number(4), 600),
        Verdict::TooLittle(shortage) => shortage.sentence(Number(4)),
    }
}

/// docs/deploying.md tells it.
#[test]
fn the_example_of_the_page_is_true() {
    let page = include_str!("../../../../docs/deploying.md");
    let page = page.split_once("## How a release is judged").expect("the page has the section").1;
    let page = page.split_whitespace().collect::<Vec<_>>().join(" ");
    let says = |words: &str| assert!(page.contains(words), "the page does not say: {words}");
    let old = {
        let mut bad = [0; 360];
        for slice in [10, 50, 51, 90, 130, 170, 210, 211, 250, 290, 300, 301] {
            bad[slice] = 1;
        }
        history(HOUR, 10, 100, &bad, failing)
    };
    let bad = [1, 0, 0, 2, 1, 2, 1, 0, 1, 0, 1];
    let new = |seconds: usize| history(60, 1, 10, &bad[..seconds], failing);
    assert_eq!(switched(&old, &new(10)), Verdict::NotWorse(Some(Unjudged::Cold)));
    let Verdict::Worse(reason) = switched(&old, &new(11)) else { panic!("it is worse") };
    says(&format!("`{}`", reason.sentence(Number(4))));
    let all = parts(Measure::Errors, &new(11), 0);
    let rest = without_clumps(all.clone(), 1);
    says(&format!("worst five seconds have {} of 50", reason.new.bad - rest.bad));
    says(&format!("leaves {rest}"));
    let highest = highest_share(&parts(Measure::Errors, &old, 0), rest);
    says(&format!("at most {:.0} %", highest * 100.0));
    let failed = rest.bad + reason.old.bad;
    let of_all = rest.of + reason.old.of;
    says(&format!("{failed} failures among {} requests", grouped(of_all)));
    says(&format!("once in {} thousand times", (1e-3 / reason.chance).round()));
    says(&format!("once in {} thousand", (1e-3 * MEASURES * 60.0 / FALSE_ALARM).round()));
    let named = [RATIO, MORE_ERRORS * 1e3, MORE_LOST * 1e4, MORE_SLOW * 1e3, SLOWER, 1.0 / FALSE_ALARM];
    assert_eq!(named, [1.5, 2.0, 1.0, 5.0, 2.0, 1000.0], "the page names these");
}

#[test]
fn a_clump_is_no_verdict_whatever_is_in_it() {
    let mut bad = [0; 60];
    bad[20..25].fill(10);
    assert_eq!(switched(&hour(0), &history(60, 1, 10, &bad, failing)), Verdict::NotWorse(None));
    bad[40..43].fill(1);
    let verdict = switched(&hour(0), &history(60, 1, 10, &bad, failing));
    assert_eq!(reason(verdict), "failed requests: 53 of 600 (8.8 %) against 0 of 36,000 (0 %) of generation 4");
}

#[test]
fn two_clumps_are_no_verdict_after_a_short_time() {
    let bad: Vec<_> = (0..60).map(|second| if second % 30 < 4 { 10 } else { 0 }).collect();
    let new = history(60, 1, 10, &bad, failing);
    assert_eq!(switched(&history(HOUR, 10, 100, &[0; 170], failing), &new), Verdict::NotWorse(Some(Unjudged::Young)));
    assert!(matches!(switched(&hour(0), &new), Verdict::Worse(_)));
}

#[test]
fn what_the_old_generation_had_for_as_long_is_not_the_release_s() {
    let mut bad = [0; 360];
    bad[100..107].fill(10);
    let old = history(HOUR, 10, 100, &bad, failing);
    let new = history(60, 1, 10, &[1; 60], failing);
    assert_eq!(switched(&old, &new), Verdict::NotWorse(None));
    assert!(matches!(switched(&hour(70), &new), Verdict::Worse(_)), "as many, one here and one there");
}

#[test]
fn few_requests_are_said_to_be_too_few() {
    let expected = "too little traffic: 30 requests, of which 27 are left without the worst seconds, and 36,000 of generation 4; it takes 30 of each";
    let seldom: Vec<_> = (0..60).map(|second| second % 2).collect();
    let count = |_, requests| failing(requests, 0);
    assert_eq!(reason(switched(&hour(3), &history(60, 1, 0, &seldom, count))), expected);
    let none = history(HOUR, 10, 0, &[0; 360], failing);
    assert!(matches!(switched(&none, &history(60, 1, 10, &[0; 60], failing)), Verdict::TooLittle(_)));
    // All of them fail: that can be said of few.
    let all = history(60, 1, 0, &seldom, |_, requests| failing(requests, requests));
    assert_eq!(
        reason(switched(&hour(3), &all)),
        "failed requests: 30 of 30 (100 %) against 3 of 36,000 (0.008 %) of generation 4"
    );
}

#[test]
fn crashes_are_judged_without_any_request() {
    let crashing = |_, crashes| Figures { crashes, ..Figures::default() };
    let new = history(60, 1, 0, &[4, 0, 0, 4, 0, 0, 0, 0, 4], crashing);
    let expected = "crashes: 12 in 9 requests and seconds against 0 in 39,600 of generation 4";
    assert_eq!(reason(switched(&hour(0), &new)), expected);
    let idle = |seconds| history(seconds, 1, 0, &[0; 15], crashing);
    let verdict = judge(&idle(15), &history(15, 1, 0, &[3; 15], crashing), Against::SameTime, TIMEOUT);
    assert_eq!(reason(verdict), "crashes: 45 in 15 requests and seconds against 0 in 15 of generation 4");
    let alike = history(15, 1, 0, &[3; 15], crashing);
    assert!(matches!(judge(&alike, &alike, Against::SameTime, TIMEOUT), Verdict::TooLittle(_)));
}

#[test]
fn two_time_outs_at_once_are_enough_where_nothing_is_answered() {
    let mut bad = [0; 31];
    bad[30] = 2;
    let new = history(60, 1, 0, &bad, |_, timeouts| Figures { timeouts, ..Figures::default() });
    let expected = "time-outs: 2 of 2 (100 %) against 0 of 36,000 (0 %) of generation 4";
    assert_eq!(reason(switched(&hour(0), &new)), expected);
    let short = judge(&hour(0), &new, Against::LastHour, Duration::from_secs(1));
    assert!(matches!(short, Verdict::TooLittle(_)), "{short:?}");
}

#[test]
fn p99_is_judged_once_the_release_is_warm() {
    let old = history(HOUR, 10, 100, &[0; 360], slow);
    let cold: Vec<_> = (0..60).map(|second| if second < 30 { 5 } else { 0 }).collect();
    assert_eq!(switched(&old, &history(60, 1, 10, &cold, slow)), Verdict::NotWorse(None));
    let verdict = switched(&old, &history(60, 1, 10, &[1; 60], slow));
    let expected = "p99 is above 100 ms: 30 of 300 (10.0 %) against 0 of 36,000 (0 %) of generation 4";
    assert_eq!(reason(verdict), expected);
    let alike = history(60, 1, 10, &[1; 60], slow);
    let old = history(HOUR, 10, 100, &[10; 360], slow);
    assert_eq!(switched(&old, &alike), Verdict::NotWorse(None));
}

#[test]
fn what_was_not_judged_is_said_with_the_reason() {
    let new = |seconds: usize| history(60, 1, 10, &vec![0; seconds], slow);
    let said = |old: &History, new: &History, why: &str| {
        let expected = format!("no worse than generation 4 in 600 requests{why}");
        assert_eq!(reason(switched(old, new)), expected);
    };
    said(&hour(0), &new(60), "");
    said(&hour(0), &new(30), "; p99 was not judged: it takes more than 30 s");
    let few = "0 requests in the later half of its time, besides those of its worst seconds: too few";
    said(&hour(0), &new(33), &format!("; p99 was not judged: {few}"));
    let young = history(HOUR, 10, 100, &[0; 170], slow);
    said(&young, &new(60), "; p99 was not judged: generation 4 had served for less than 30 min");
    let long = |requests, _| {
        let mut durations = [0; BOUNDS.len() + 1];
        durations[BOUNDS.len()] = requests;
        Figures { requests, durations, ..Figures::default() }
    };
    let slow = history(HOUR, 10, 100, &[0; 360], long);
    said(&slow, &new(60), "; p99 was not judged: that of generation 4 is too long to be told from a longer one");
    let one = Shortage { new: 1, judged: 0, old: 1 };
    assert!(one.sentence(Number(4)).starts_with("too little traffic: 1 request, "));
    assert_eq!(Unjudged::not_worse(None, Number(4), 1), "no worse than generation 4 in 1 request");
}

#[test]
fn nothing_that_an_application_writes_breaks_the_rule() {
    let vast = |requests: u64, errors: u64| Figures {
        requests,
        errors,
        crashes: errors,
        timeouts: errors,
        durations: [errors / 1000; BOUNDS.len() + 1],
    };
    let old = history(HOUR, 10, u64::MAX / 2, &[u64::MAX / 8; 60], vast);
    let new = history(60, 1, 0, &[u64::MAX / 4; 60], vast);
    for against in [Against::SameTime, Against::LastHour] {
        judge(&old, &new, against, TIMEOUT);
        judge(&new, &old, against, TIMEOUT);
        judge(&history(60, 1, 0, &[0; 60], vast), &new, against, Duration::ZERO);
    }
}
