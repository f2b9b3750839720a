//! `ostler profile`: asks for the stacks of one process again and again, and counts them. The answers are those of `ostler stacks`, so a
//! process that is not asked pays nothing, and the site needs no package.

use std::{
    collections::BTreeMap,
    thread,
    time::{Duration, Instant},
};

use crate::exit::Failure;

/// How long, and how often.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Profile {
    /// From the first look to the last.
    pub time: Duration,
    /// Looks a second.
    pub rate: u32,
}

/// What was seen.
#[derive(Debug, Default)]
pub struct Samples {
    /// How often each stack was, folded: the outermost function first.
    stacks: BTreeMap<String, u64>,
    looks: u32,
    /// How often the stacks were taken by a signal, and why the last time.
    signals: u32,
    why: String,
}

/// Looks for as long as it is asked to, by `ask`, which gives the text of `ostler stacks`. The first look has to succeed; a later one that does
/// not ends it early, with the reason.
pub fn sample(
    profile: Profile,
    ask: impl Fn() -> Result<String, Failure>,
) -> Result<(Samples, Option<Failure>), Failure> {
    let (mut samples, start, pause) = (Samples::default(), Instant::now(), Duration::from_secs(1) / profile.rate);
    samples.add(&ask()?);
    while start.elapsed().max(pause * samples.looks) < profile.time {
        thread::sleep((pause * samples.looks).saturating_sub(start.elapsed()));
        match ask() {
            Ok(text) => samples.add(&text),
            Err(failure) => return Ok((samples, Some(failure))),
        }
    }
    Ok((samples, None))
}

impl Samples {
    fn add(&mut self, text: &str) {
        self.looks += 1;
        if let Some(why) = text.lines().find_map(|line| line.strip_prefix("taken by a signal: ")) {
            (self.signals, self.why) = (self.signals + 1, why.into());
        }
        let mut frames: Vec<String> = Vec::new();
        for line in text.lines().chain([""]) {
            match frame(line) {
                Some(frame) => frames.push(frame),
                None if frames.is_empty() => {}
                None => {
                    let stack: Vec<_> = std::mem::take(&mut frames).into_iter().rev().collect();
                    *self.stacks.entry(stack.join(";")).or_default() += 1;
                }
            }
        }
    }

    /// A line for each stack and how often it was seen, the input of flame graphs.
    pub fn folded(&self) -> String {
        let mut stacks: Vec<_> = self.stacks.iter().collect();
        stacks.sort_by_key(|(_, count)| std::cmp::Reverse(**count));
        stacks.into_iter().map(|(stack, count)| format!("{stack} {count}\n")).collect()
    }

    /// How much was seen, for people.
    pub fn summary(&self) -> String {
        let counted = |count: u64, what| format!("{count} {what}{}", if count == 1 { "" } else { "s" });
        let looks = counted(self.looks.into(), "look");
        let mut text = match self.stacks.values().sum() {
            0 => format!(
                "no call lasted long enough to be seen in {looks}: those of less than a millisecond are not. `ostler status` says \
                 how many requests come; --seconds 60 may see a call that is rare"
            ),
            seen => format!("{looks} saw {}; threads without a request are left out", counted(seen, "stack")),
        };
        if self.signals > 0 {
            text += &format!("; {} by a signal: {}", counted(self.signals.into(), "look"), self.why);
        }
        text
    }
}

/// `  File "/srv/shop/app.py", line 7 in total` as `total (/srv/shop/app.py:7)`
fn frame(line: &str) -> Option<String> {
    let (file, rest) = line.strip_prefix("  File \"")?.rsplit_once("\", line ")?;
    let (number, function) = rest.split_once(" in ")?;
    Some(format!("{function} ({file}:{number})").replace(';', ","))
}

#[cfg(test)]
mod tests {
    use super::*;

    const TEXT: &str = "worker g1.0[7]\nThread 0x1 (most recent call first): GET /a HTTP/1.1, for 5 ms\n  File \"/s/a;b.py\", line 7 in inner\n  \
                        File \"/s/a.py\", line 3 in outer\n\nThread 0x2 (most recent call first):\n  idle\n";

    #[test]
    fn stacks_are_folded_from_the_outermost_on_and_counted() {
        let (samples, ended) =
            sample(Profile { time: Duration::from_millis(20), rate: 1000 }, || Ok(TEXT.into())).unwrap();
        assert!(ended.is_none() && samples.looks > 1);
        assert_eq!(samples.folded(), format!("outer (/s/a.py:3);inner (/s/a,b.py:7) {}\n", samples.looks));
        assert!(samples.summary().starts_with(&format!("{0} looks saw {0} stacks", samples.looks)));
    }

    #[test]
    fn a_look_that_fails_ends_it_with_what_was_seen() {
        let first = std::cell::Cell::new(true);
        let ask = || if first.replace(false) { Ok(TEXT.into()) } else { Err(Failure::usage("gone")) };
        let (samples, ended) = sample(Profile { time: Duration::from_secs(60), rate: 1000 }, ask).unwrap();
        assert_eq!((samples.looks, ended.unwrap().message.as_str()), (1, "gone"));
        assert!(sample(Profile { time: Duration::ZERO, rate: 1 }, || Err(Failure::usage("none"))).is_err());
    }

    #[test]
    fn what_was_seen_is_one_sentence() {
        let of = |texts: &[&str]| {
            let mut samples = Samples::default();
            texts.iter().for_each(|text| samples.add(text));
            samples.summary()
        };
        assert_eq!(of(&[TEXT]), "1 look saw 1 stack; threads without a request are left out");
        let idle = "worker g1.0[7]\nThread 0x2 (most recent call first):\n  idle\n";
        assert!(of(&[idle]).starts_with("no call lasted long enough to be seen in 1 look: "));
        let signal = format!("worker g1.0[7]\ntaken by a signal: reading them in Python raised KeyError\n{TEXT}");
        let told = "2 looks saw 2 stacks; threads without a request are left out; 1 look by a signal: reading them in Python raised KeyError";
        assert_eq!(of(&[&signal, TEXT]), told);
    }
}
