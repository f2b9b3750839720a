//! Who is believed, and who may do what.

use ostler_wire::Peers;

use super::{finding, listed, reached_from_outside};
use crate::master::doctor::{Finding, facts::Facts};

/// A proxy's fields come in so many of a hundred requests. Of strangers who try them there are less.
const OFTEN: u64 = 10;

/// A proxy says who the client is, and is not believed.
pub fn unbelieved(facts: &Facts) -> Option<Finding> {
    let (ignored, requests) = (facts.unbelieved, facts.requests.max(facts.unbelieved));
    let often = u128::from(ignored) * 100 >= u128::from(requests) * u128::from(OFTEN);
    (ignored > 0 && often).then(|| {
        finding(
            "X-Forwarded-* or Forwarded fields come, and are ignored: the application sees the proxy's address, and http.",
            format!(
                "ostler_forwarded_ignored_total is {ignored}, of {requests} requests; --forwarded-allow-ips is {}",
                said(&facts.trust.forwarded_allow)
            ),
            "If they come by your proxy, name its address in --forwarded-allow-ips (%(h)s of the access log shows it). If not, somebody tries them, and nothing is to be done.",
        )
    })
}

/// As it is typed.
fn said(peers: &Peers) -> String {
    let networks = peers.networks.iter().map(|(address, prefix)| match (address.is_ipv4(), prefix) {
        (_, 0) => "*".to_owned(),
        (true, 32) | (false, 128) => address.to_string(),
        _ => format!("{address}/{prefix}"),
    });
    let mut all: Vec<_> = networks.chain(peers.unix.then(|| "unix:".to_owned())).collect();
    all.dedup();
    if all.is_empty() { "empty".into() } else { all.join(",") }
}

/// Everybody is a trusted proxy.
pub fn everybody(facts: &Facts) -> Option<Finding> {
    let trust = &facts.trust;
    let everybody = |peers: &Peers| peers.networks.iter().any(|(_, prefix)| *prefix == 0);
    let uwsgi = facts.listeners.iter().any(|listener| listener.name.starts_with("uwsgi://"));
    let options: Vec<_> = [
        ("--forwarded-allow-ips", everybody(&trust.forwarded_allow)),
        ("--proxy-allow-from", trust.proxy_protocol && everybody(&trust.proxy_allow)),
        ("--uwsgi-allow-from", uwsgi && everybody(&trust.uwsgi_allow)),
    ]
    .into_iter()
    .filter_map(|(option, given)| given.then_some(option))
    .collect();
    let outside = reached_from_outside(facts);
    (!options.is_empty() && !outside.is_empty()).then(|| {
        finding(
            "Whoever reaches the site may say that it is any client, and that it came by https.",
            format!("* is in {}, and the site listens on {}", listed(&options), listed(&outside)),
            "Name the proxy's addresses there, or let only the proxy reach the site (a Unix socket, a firewall, a private network).",
        )
    })
}

/// The application is root.
pub fn root(facts: &Facts) -> Option<Finding> {
    let worker = facts.each_worker().find(|worker| worker.user == Some(0))?;
    Some(finding(
        "The application runs as root: whoever finds a hole in it has the machine.",
        format!("the effective user of {} is 0 in /proc/{}/status", worker.name, worker.pid),
        "Say --user, or start ostler as another user (User= of a unit, USER of a container).",
    ))
}

/// Request lines for everybody.
pub fn control(facts: &Facts) -> Option<Finding> {
    let mode = facts.control.mode;
    (mode & 0o002 != 0).then(|| {
        finding(
            "Every user of this machine may read the request lines of the moment with `ostler status`.",
            format!("--control-mode is {mode:o}"),
            "Say --control-group with a group of those who may, and no --control-mode.",
        )
    })
}

/// A mode for development where others come.
pub fn development(facts: &Facts) -> Option<Finding> {
    let outside = reached_from_outside(facts);
    (facts.reload && !outside.is_empty()).then(|| {
        finding(
            "The site reloads when a file changes, and shows tracebacks to who reaches it.",
            format!("--reload is on, and the site listens on {}", listed(&outside)),
            "Leave --reload out, and say `ostler reload` after a deploy.",
        )
    })
}

#[cfg(test)]
mod tests {
    use super::{
        super::tests::{found, good},
        *,
    };

    fn everywhere(facts: &mut Facts) {
        facts.listeners[0].name = "http://0.0.0.0:80".into();
    }

    #[test]
    fn fields_that_come_often_and_are_ignored_are_found() {
        let with = |ignored| found(unbelieved, |facts| facts.unbelieved = ignored);
        let told = with(100).unwrap().evidence;
        let trusted = "--forwarded-allow-ips is 127.0.0.1,::1,unix:";
        assert_eq!(told, format!("ostler_forwarded_ignored_total is 100, of 1000 requests; {trusted}"));
        assert_eq!(with(99), None);
    }

    #[test]
    fn peers_are_told_as_they_are_typed() {
        let peers = |networks: &[(&str, u8)], unix| Peers {
            networks: networks.iter().map(|(address, prefix)| (address.parse().unwrap(), *prefix)).collect(),
            unix,
        };
        assert_eq!(said(&peers(&[("10.0.0.0", 8), ("::1", 128)], false)), "10.0.0.0/8,::1");
        assert_eq!(said(&peers(&[("0.0.0.0", 0), ("::", 0)], true)), "*,unix:");
        assert_eq!(said(&peers(&[], false)), "empty");
    }

    #[test]
    fn everybody_is_trusted_only_where_everybody_comes() {
        let all = |facts: &mut Facts| facts.trust.forwarded_allow.networks = vec![("0.0.0.0".parse().unwrap(), 0)];
        assert_eq!(found(everybody, all), None);
        assert_eq!(found(everybody, everywhere), None);
        let both = |facts: &mut Facts| {
            all(facts);
            everywhere(facts);
        };
        let told = found(everybody, both).unwrap().evidence;
        assert_eq!(told, "* is in --forwarded-allow-ips, and the site listens on http://0.0.0.0:80");
    }

    #[test]
    fn a_worker_that_is_root_is_found() {
        let told = found(root, |facts| facts.processes[1].user = Some(0)).unwrap();
        assert_eq!(told.evidence, "the effective user of worker 1 is 0 in /proc/101/status");
    }

    #[test]
    fn a_control_socket_for_all_is_found_and_one_for_a_group_is_not() {
        assert_eq!(found(control, |facts| facts.control.mode = 0o666).unwrap().evidence, "--control-mode is 666");
        assert_eq!(found(control, |facts| facts.control.mode = 0o660), None);
    }

    #[test]
    fn reload_is_for_development() {
        assert_eq!(found(development, |facts| facts.reload = true), None);
        let mut facts = good();
        everywhere(&mut facts);
        facts.reload = true;
        assert!(development(&facts).is_some());
    }
}
