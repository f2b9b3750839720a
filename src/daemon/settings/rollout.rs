//! How a new generation takes over from the old one: `--canary`, and what `ostler reload` says.

use std::{fmt, str::FromStr, time::Duration};

use serde::{Deserialize, Serialize};

use super::parse;

const SHORTEST_WATCH: Duration = Duration::from_secs(15);

/// How many of the workers are of the new generation.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum Share {
    /// Of a hundred.
    Percent(u8),
    /// Of all.
    Workers(u16),
}

/// How a generation that is asked for takes over.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum Rollout {
    /// As the settings say.
    #[default]
    AsSet,
    /// This share first.
    Canary(Share),
    /// All at once.
    Whole,
}

impl FromStr for Share {
    type Err = String;

    fn from_str(text: &str) -> Result<Share, String> {
        let is_number = text.trim_end_matches('%').bytes().all(|byte| byte.is_ascii_digit());
        let share = match text.strip_suffix('%') {
            _ if !is_number => None,
            Some(percent) => percent.parse().ok().filter(|percent| (1..100).contains(percent)).map(Share::Percent),
            None => text.parse().ok().filter(|workers| *workers > 0).map(Share::Workers),
        };
        share.ok_or_else(|| "expected a share from 1% to 99%, or a number of workers".into())
    }
}

impl fmt::Display for Share {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        match self {
            Share::Percent(percent) => write!(f, "{percent}%"),
            Share::Workers(workers) => workers.fmt(f),
        }
    }
}

impl Share {
    /// How many of so many workers, at least one; why not, if none would be left.
    pub fn of(self, workers: u16) -> Result<u16, String> {
        let canary = match self {
            Share::Percent(percent) => (u32::from(workers) * u32::from(percent) / 100).max(1) as u16,
            Share::Workers(canary) => canary,
        };
        if canary < workers {
            return Ok(canary);
        }
        let s = if workers == 1 { "" } else { "s" };
        Err(format!(
            "a canary of {self} leaves no worker of the old generation: there would be {workers} worker{s} in all"
        ))
    }
}

/// `--watch`. Within less, nothing could be found out: the worst seconds do not count.
pub fn watch(text: &str) -> Result<Duration, String> {
    match parse::duration(text)? {
        time if time.is_zero() || time >= SHORTEST_WATCH => Ok(time),
        _ => {
            Err(format!("expected 0, or at least {} s, within which a release can be judged", SHORTEST_WATCH.as_secs()))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_share_is_some_of_the_workers_and_leaves_some() {
        let of = |text: &str, workers| text.parse::<Share>().unwrap().of(workers);
        for (text, workers, expected) in
            [("25%", 4, 1), ("25%", 16, 4), ("1%", 4, 1), ("99%", 4, 3), ("50%", 3, 1), ("3", 4, 3), ("1", 2, 1)]
        {
            assert_eq!(of(text, workers), Ok(expected), "{text} of {workers}");
        }
        for (text, workers) in [("25%", 1), ("1", 1), ("4", 4), ("9", 4)] {
            assert!(of(text, workers).unwrap_err().contains("leaves no worker"), "{text} of {workers}");
        }
        for text in ["0", "0%", "100%", "-1", "1.5%", "%", "", "all", "65536", "+1%"] {
            assert!(text.parse::<Share>().is_err(), "{text}");
        }
    }
}
