//! What a statsd is told: gunicorn's names, the sums of all workers, once a second. gunicorn sends a datagram for each request; here it is
//! one for all that has happened since the last, and more where that does not fit.

use std::{fmt::Display, time::Duration};

use ostler_wire::{
    counters::{self, STATUS},
    meters::{LOGGED, Times, UNSENT},
};
use slog::Logger;

use super::totals::Totals;
use crate::{resources::statsd::Sender, settings, sys::clock::Moment};

const INTERVAL: Duration = Duration::from_secs(1);
/// What passes an Ethernet in one piece, behind the headers of IPv6, UDP and perhaps a tunnel.
const DATAGRAM: usize = 1432;
/// So many durations are sent in an interval. If there were more requests, each stands for several.
const DURATIONS: u64 = 50;

/// Sends what has grown.
#[derive(Debug)]
pub struct Statsd {
    settings: settings::Statsd,
    sender: Sender,
    /// When to send next.
    pub next: Moment,
    told: Totals,
}

/// What is so at the moment.
#[derive(Debug, Clone, Copy)]
pub struct Now {
    /// How many workers serve.
    pub workers: usize,
    /// How many connections wait to be accepted.
    pub backlog: u64,
}

impl Statsd {
    /// With the settings that are in force from now on. What was counted before is not told again.
    pub fn next(before: Option<Statsd>, settings: Option<settings::Statsd>, totals: &Totals) -> Option<Statsd> {
        let settings = settings?;
        let now = Moment::now();
        let fresh = || Statsd {
            settings: settings.clone(),
            sender: Sender::new(settings.address.clone(), now),
            next: now,
            told: totals.clone(),
        };
        Some(match before {
            Some(before) if before.settings.address == settings.address => Statsd { settings, ..before },
            Some(before) => Statsd { told: before.told, ..fresh() },
            None => fresh(),
        })
    }

    /// Tells what has grown since the last time. `totals` are up to date.
    pub fn send(&mut self, totals: &Totals, now: Now, at: Moment, log: &Logger) {
        self.next = at + INTERVAL;
        // What finds no way is told together with what follows.
        if self.sender.is_open(at, log) {
            let lines = self.lines(totals, now);
            self.sender.send(&datagrams(&lines), log);
            self.told = totals.clone();
        }
    }

    /// Whether this is a process that looked up its name; it has ended.
    pub fn ended(&mut self, pid: i32, log: &Logger) -> bool {
        self.sender.ended(pid, log)
    }

    fn lines(&self, totals: &Totals, now: Now) -> Vec<String> {
        let grown = |field: &str| totals.of(field).saturating_sub(self.told.of(field));
        let mut lines = vec![self.line("workers", now.workers, "|g")];
        if self.settings.backlog {
            lines.push(self.line("backlog", now.backlog, "|h"));
        }
        let statuses = totals.all().keys().filter_map(|field| Some((field, field.strip_prefix(STATUS)?)));
        let statuses = statuses.filter(|(_, status)| *status != UNSENT.to_string());
        let statuses = statuses.map(|(field, status)| (grown(field), format!("request.status.{status}")));
        let logged = LOGGED.map(|kind| (grown(&counters::part("logged", &[kind])), format!("log.{kind}")));
        let counters = [(grown("requests"), "requests".to_owned())].into_iter().chain(statuses).chain(logged);
        lines.extend(counters.filter(|(count, _)| *count > 0).map(|(count, name)| self.line(&name, count, "|c")));
        let durations = Times::read(|name| grown(&counters::part("duration", &[name])));
        lines.extend(sampled(&durations).map(|(milliseconds, stands_for)| {
            let kind = if stands_for == 1 { "|ms".to_owned() } else { format!("|ms|@{}", rate(stands_for)) };
            self.line("request.duration", format_args!("{milliseconds:.3}"), &kind)
        }));
        lines
    }

    fn line(&self, name: &str, value: impl Display, kind: &str) -> String {
        let settings::Statsd { prefix, tags, .. } = &self.settings;
        let tags = if tags.is_empty() { String::new() } else { format!("|#{tags}") };
        format!("{prefix}gunicorn.{name}:{value}{kind}{tags}")
    }
}

/// Some durations for all of them, in milliseconds, and for how many each stands: in the middle of those.
fn sampled(durations: &Times) -> impl Iterator<Item = (f64, u64)> {
    let count = durations.count();
    let step = count.div_ceil(DURATIONS).max(1);
    (0..count).step_by(step as usize).map(move |first| {
        let stands_for = step.min(count - first);
        (durations.ranked(first + (stands_for - 1) / 2) / 1000.0, stands_for)
    })
}

/// The sample rate of one that stands for several. Collectors cut off what is behind the point of its reciprocal.
fn rate(stands_for: u64) -> f64 {
    let rate = 1.0 / stands_for as f64;
    if (1.0 / rate) as u64 == stands_for { rate } else { rate.next_down() }
}

fn datagrams(lines: &[String]) -> Vec<Vec<u8>> {
    let mut datagrams: Vec<Vec<u8>> = Vec::new();
    for line in lines {
        match datagrams.last_mut().filter(|last| last.len() + 1 + line.len() <= DATAGRAM) {
            Some(last) => last.extend([b"\n", line.as_bytes()].concat()),
            None => datagrams.push(line.as_bytes().to_vec()),
        }
    }
    datagrams
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use ostler_wire::scoreboard::Scoreboard;

    use super::*;
    use crate::{master::event::Number, settings::Address};

    const NOW: Now = Now { workers: 2, backlog: 3 };

    fn statsd(prefix: &str, tags: &str, backlog: bool) -> Statsd {
        let address = Address::parse("127.0.0.1:8125", Path::new("/")).unwrap();
        let settings = settings::Statsd { address, prefix: prefix.into(), tags: tags.into(), backlog };
        Statsd::next(None, Some(settings), &Totals::default()).unwrap()
    }

    fn totals(requests: u64) -> Totals {
        let board = Scoreboard::new(1, 1).unwrap();
        for _ in 0..requests {
            board.meters(0).unwrap().count(404, b"GET", 0, 800);
        }
        board.slot(0).requests.store(requests, std::sync::atomic::Ordering::Relaxed);
        let mut totals = Totals::default();
        totals.look(Number(1), 0, board.slot(0), board.meters(0));
        totals.add_logged([0, 0, 0, 5], 0);
        totals
    }

    #[test]
    fn what_has_grown_is_told_by_gunicorn_s_names() {
        let mut statsd = statsd("shop.", "env:live", true);
        let lines = statsd.lines(&totals(1), NOW);
        let expected = [
            "shop.gunicorn.workers:2|g|#env:live",
            "shop.gunicorn.backlog:3|h|#env:live",
            "shop.gunicorn.requests:1|c|#env:live",
            "shop.gunicorn.request.status.404:1|c|#env:live",
            "shop.gunicorn.log.exception:5|c|#env:live",
            "shop.gunicorn.request.duration:0.750|ms|#env:live",
        ];
        assert_eq!(lines, expected);
        statsd.told = totals(1);
        assert_eq!(statsd.lines(&totals(1), NOW).len(), 2);
        assert!(statsd.lines(&totals(3), NOW).contains(&"shop.gunicorn.requests:2|c|#env:live".to_owned()));
    }

    #[test]
    fn many_requests_are_told_by_some_that_stand_for_them() {
        let lines = statsd("", "", false).lines(&totals(99), NOW);
        let durations: Vec<_> = lines.iter().filter(|line| line.contains("duration")).collect();
        assert_eq!(durations.len(), 50);
        assert!(durations[0].starts_with("gunicorn.request.duration:0.5") && durations[0].ends_with("|ms|@0.5"));
        assert!(durations[49].starts_with("gunicorn.request.duration:0.99") && durations[49].ends_with("|ms"));
        for stands_for in 1..10_000 {
            assert_eq!((1.0 / rate(stands_for)) as u64, stands_for);
        }
        let all: u64 = sampled(&totals(1234).times("duration")).map(|(_, stands_for)| stands_for).sum();
        assert_eq!(all, 1234);
    }

    #[test]
    fn a_datagram_is_no_longer_than_the_network_takes() {
        let lines: Vec<_> = (0..100).map(|number| format!("{number:060}")).collect();
        let sent = datagrams(&lines);
        assert!(sent.len() == 5 && sent.iter().all(|datagram| datagram.len() <= DATAGRAM));
        assert_eq!(sent.join(&b'\n'), lines.join("\n").into_bytes());
    }
}
