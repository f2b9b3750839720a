//! The checks: each looks at the facts for one thing that is wrong or unwise, and finds nothing where a fact is unknown.

use std::{fmt::Display, net::SocketAddr, time::Duration};

use super::{Finding, facts::Facts};

mod certificates;
mod code;
mod files;
mod room;
mod times;
mod trust;

/// Looks for one thing.
pub type Check = fn(&Facts) -> Option<Finding>;

/// All of them, with what they look at. The order is that of the report.
pub const ALL: &[(&str, Check)] = &[
    ("code on disk", code::folder),
    ("deleted libraries", code::deleted),
    ("newer files", code::newer),
    ("newer packages", code::packages),
    ("python", code::old_python),
    ("descriptors", room::descriptors),
    ("backlog", room::backlog),
    ("memory", room::memory),
    ("memory of a reload", room::memory_of_a_reload),
    ("killed for memory", room::killed),
    ("lost workers", room::lost),
    ("waits for threads", room::waits),
    ("tasks", room::tasks),
    ("processors", room::processors),
    ("time-outs", times::contradiction),
    ("no time-outs", times::none),
    ("stop of systemd", times::stop_of_systemd),
    ("keep-alive", times::keep_alive),
    ("forwarded fields", trust::unbelieved),
    ("trusted peers", trust::everybody),
    ("certificates", certificates::late),
    ("keys", certificates::keys_of_the_application),
    ("user", trust::root),
    ("control socket", trust::control),
    ("reload", trust::development),
    ("spool directory", files::spool),
    ("size of logs", files::size_of_logs),
    ("rotation of logs", files::moved_logs),
    ("room for logs", files::room_for_logs),
];

/// What was found; the table says about what.
fn finding(what: impl Into<String>, evidence: impl Into<String>, advice: impl Into<String>) -> Finding {
    Finding { about: String::new(), what: what.into(), evidence: evidence.into(), advice: advice.into() }
}

/// `512 MiB`
fn size(bytes: u64) -> String {
    let units = ["bytes", "KiB", "MiB", "GiB", "TiB"];
    let unit = (1..units.len()).rev().find(|unit| bytes >> (10 * unit) > 0).unwrap_or(0);
    match bytes as f64 / (1u64 << (10 * unit)) as f64 {
        whole if whole >= 100.0 || unit == 0 => format!("{whole:.0} {}", units[unit]),
        some => format!("{some:.1} {}", units[unit]),
    }
}

/// `1.5 s`, `2 h`
fn span(time: Duration) -> String {
    match time.as_secs() {
        seconds if seconds >= 7200 => format!("{} h", seconds / 3600),
        seconds if seconds >= 600 => format!("{} min", seconds / 60),
        _ => format!("{} s", time.as_secs_f64()),
    }
}

/// `a, b and c`
fn listed<T: Display>(items: impl IntoIterator<Item = T>) -> String {
    let mut texts: Vec<_> = items.into_iter().map(|item| item.to_string()).collect();
    match texts.pop() {
        Some(last) if !texts.is_empty() => format!("{} and {last}", texts.join(", ")),
        last => last.unwrap_or_default(),
    }
}

/// The listeners that other machines may reach.
fn reached_from_outside(facts: &Facts) -> Vec<&str> {
    let is_outside = |name: &&str| {
        let address =
            ["uwsgi://", "http://", "https://"].iter().fold(*name, |name, scheme| name.trim_start_matches(scheme));
        address.parse::<SocketAddr>().is_ok_and(|address| !address.ip().to_canonical().is_loopback())
    };
    facts.listeners.iter().map(|listener| listener.name.as_str()).filter(is_outside).collect()
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;
    use crate::master::doctor::{facts::Listener, processes::Process};

    /// A site in good order, as far as facts have no good default.
    pub fn good() -> Facts {
        let worker = |slot| Process {
            name: format!("worker {slot}"),
            pid: 100 + slot,
            user: Some(1000),
            descriptors: Some(20_000),
            ..Process::default()
        };
        let listener = Listener { name: "http://127.0.0.1:8000".into(), room: Some(2048) };
        Facts {
            workers: 2,
            backlog: 2048,
            boot_timeout: Duration::from_secs(60),
            directory: "/srv/site".into(),
            python_version: "3.14.0".into(),
            generation: 1,
            listeners: vec![listener],
            requests: 1000,
            processors: Some(2),
            somaxconn: Some(4096),
            processes: (0..2).map(worker).collect(),
            ..Facts::default()
        }
    }

    /// What a check finds at a site that was in good order before `spoil`.
    pub fn found(check: Check, spoil: impl FnOnce(&mut Facts)) -> Option<Finding> {
        let mut facts = good();
        assert_eq!(check(&facts), None);
        spoil(&mut facts);
        check(&facts).inspect(|finding| {
            assert!(!finding.evidence.is_empty());
            for sentence in [&finding.what, &finding.advice] {
                assert!(sentence.ends_with('.'), "{sentence}");
            }
        })
    }

    #[test]
    fn a_site_in_good_order_and_one_of_which_nothing_is_known_are_not_complained_of() {
        for facts in [good(), Facts { boot_timeout: Duration::from_secs(1), ..Facts::default() }] {
            for (about, check) in ALL {
                assert_eq!(check(&facts), None, "{about}");
            }
        }
    }

    #[test]
    fn each_check_has_a_name_of_its_own() {
        let names: BTreeSet<_> = ALL.iter().map(|(about, _)| about).collect();
        assert_eq!(names.len(), ALL.len());
    }

    #[test]
    fn numbers_are_told_in_units() {
        assert_eq!([17, 1536, 200 << 20, 5 << 30].map(size), ["17 bytes", "1.5 KiB", "200 MiB", "5.0 GiB"]);
        assert_eq!([1, 90, 600, 7200].map(|time| span(Duration::from_secs(time))), ["1 s", "90 s", "10 min", "2 h"]);
        assert_eq!([listed(["a"]), listed(["a", "b", "c"])], ["a", "a, b and c"]);
    }

    #[test]
    fn only_what_other_machines_reach_is_outside() {
        let names = ["http://127.0.0.1:1", "https://[::1]:1", "unix:/run/a", "https://0.0.0.0:1", "uwsgi://[::]:2"];
        let listeners = names.map(|name| Listener { name: name.into(), room: None }).into();
        assert_eq!(reached_from_outside(&Facts { listeners, ..good() }), ["https://0.0.0.0:1", "uwsgi://[::]:2"]);
    }
}
