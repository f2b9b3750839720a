//! Time-outs that contradict each other, or are missing.

use std::time::Duration;

use super::{finding, listed, span};
use crate::master::doctor::{Finding, facts::Facts};

/// A reload cuts requests that may go on otherwise.
pub fn contradiction(facts: &Facts) -> Option<Finding> {
    let (timeout, graceful) = (facts.worker.timeout, facts.worker.graceful_timeout);
    (graceful < timeout).then(|| {
        finding(
            format!(
                "A request may take {}, but a reload, a stop and a recycled worker end it after {}.",
                span(timeout),
                span(graceful)
            ),
            format!("--timeout is {}, --graceful-timeout is {}", span(timeout), span(graceful)),
            "Make --graceful-timeout at least as long as --timeout, or --timeout shorter.",
        )
    })
}

/// What may last for ever.
pub fn none(facts: &Facts) -> Option<Finding> {
    let worker = &facts.worker;
    let bounds = [
        ("--timeout", worker.timeout, "a call that hangs keeps its thread"),
        ("--boot-timeout", facts.boot_timeout, "an import that hangs holds up a reload"),
        ("--header-timeout", worker.header_timeout, "a client that sends nothing keeps its connection"),
        ("--body-timeout", worker.body_timeout, "a client that stops in a body keeps its connection"),
        ("--write-timeout", worker.write_timeout, "a client that takes no response keeps its connection"),
    ];
    let off: Vec<_> = bounds.into_iter().filter(|(_, time, _)| time.is_zero()).collect();
    (!off.is_empty()).then(|| {
        finding(
            format!("Without a bound {} for ever.", listed(off.iter().map(|(.., why)| why))),
            listed(off.iter().map(|(name, ..)| format!("{name} is 0"))),
            "Set one that is longer than the slowest case that you want.",
        )
    })
}

/// systemd kills what it takes for too slow.
pub fn stop_of_systemd(facts: &Facts) -> Option<Finding> {
    let (unit, Some(most)) = facts.unit.as_ref()? else { return None };
    let ours = facts.worker.graceful_timeout + facts.drain_delay;
    (ours >= *most).then(|| {
        finding(
            format!("systemd kills the site after {}, and a stop may take {}.", span(*most), span(ours)),
            format!(
                "TimeoutStopUSec of {unit} (systemctl show) is {}; --graceful-timeout is {}, --drain-delay is {}",
                span(*most),
                span(facts.worker.graceful_timeout),
                span(facts.drain_delay)
            ),
            "Make TimeoutStopSec= of the unit some seconds longer than both together.",
        )
    })
}

/// nginx keeps an idle connection for so long, and so do the load balancers of AWS.
const OF_PROXIES: Duration = Duration::from_secs(60);

/// A proxy sends a request while we close the connection.
pub fn keep_alive(facts: &Facts) -> Option<Finding> {
    let ours = facts.worker.keep_alive;
    (!ours.is_zero() && ours < OF_PROXIES).then(|| {
        finding(
            "A proxy in front that keeps idle connections longer than this site meets closed ones, and its clients 502.",
            format!("--keep-alive is {}; nginx and AWS's load balancers keep connections for 60 s", span(ours)),
            "Make --keep-alive longer than the proxy's time (75 is the default), or the proxy's shorter.",
        )
    })
}

#[cfg(test)]
mod tests {
    use super::{super::tests::found, *};

    const fn seconds(count: u64) -> Duration {
        Duration::from_secs(count)
    }

    #[test]
    fn a_reload_that_is_more_impatient_than_a_request_may_be_is_found() {
        let told = found(contradiction, |facts| facts.worker.timeout = seconds(120)).unwrap();
        assert_eq!(told.evidence, "--timeout is 120 s, --graceful-timeout is 30 s");
        assert_eq!(found(contradiction, |facts| facts.worker.timeout = seconds(5)), None);
    }

    #[test]
    fn bounds_that_are_off_are_named_together() {
        let told = found(none, |facts| {
            facts.worker.timeout = Duration::ZERO;
            facts.worker.write_timeout = Duration::ZERO;
        });
        assert_eq!(told.unwrap().evidence, "--timeout is 0 and --write-timeout is 0");
    }

    #[test]
    fn a_unit_that_is_more_impatient_than_the_site_is_found() {
        let stop =
            |most: Option<Duration>| found(stop_of_systemd, |facts| facts.unit = Some(("a.service".into(), most)));
        assert!(stop(Some(seconds(30))).unwrap().evidence.starts_with("TimeoutStopUSec of a.service "));
        assert_eq!((stop(Some(seconds(90))), stop(None)), (None, None));
    }

    #[test]
    fn connections_that_end_before_the_proxy_s_are_found() {
        assert!(found(keep_alive, |facts| facts.worker.keep_alive = seconds(2)).is_some());
        assert_eq!(found(keep_alive, |facts| facts.worker.keep_alive = Duration::ZERO), None);
    }
}
