//! `ostler doctor` for people: a paragraph for each thing that was found, and at the end what was looked at.

use ostler_wire::log::printable;

use crate::{exit::Exit, master::doctor::Report};

/// What the exit status tells a monitor.
pub fn health(report: &Report) -> Exit {
    if report.problems.is_empty() && report.findings.is_empty() { Exit::Success } else { Exit::DEGRADED }
}

/// The whole answer.
pub fn text(report: &Report) -> String {
    let mut text = format!("ostler {}, master {}, {}\n", report.version, report.pid, report.addresses.join(", "));
    for problem in &report.problems {
        text += &format!("\n! {}\n", printable(problem));
    }
    for found in &report.findings {
        let [about, what, evidence, advice] =
            [&found.about, &found.what, &found.evidence, &found.advice].map(|part| printable(part));
        text += &format!("\n{about}: {what}\n  seen: {evidence}\n  do: {advice}\n");
    }
    let count = match report.problems.len() + report.findings.len() {
        0 => "nothing was found".to_owned(),
        1 => "1 thing was found".to_owned(),
        several => format!("{several} things were found"),
    };
    text += &format!("\n{count}; looked at status, {}\n", report.looked_at.join(", "));
    for unread in &report.unread {
        text += &format!("could not read {}\n", printable(unread));
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::master::doctor::Finding;

    fn report() -> Report {
        Report {
            version: "1.0".into(),
            pid: 4711,
            addresses: vec!["http://127.0.0.1:8000".into()],
            problems: vec![],
            findings: vec![],
            looked_at: vec!["user".into(), "memory".into()],
            unread: vec!["/proc/7/cwd: permission denied".into()],
        }
    }

    #[test]
    fn a_clean_bill_says_what_was_looked_at() {
        let expected = "ostler 1.0, master 4711, http://127.0.0.1:8000\n\nnothing was found; looked at status, user, memory\n\
                        could not read /proc/7/cwd: permission denied\n";
        assert_eq!((text(&report()).as_str(), health(&report())), (expected, Exit::Success));
    }

    #[test]
    fn each_finding_is_a_paragraph() {
        let [about, what, evidence, advice] = ["user", "It is root.", "Uid is 0", "Say --user."].map(String::from);
        let findings = vec![Finding { about, what, evidence, advice }];
        let problems = vec!["1 of 2 workers serve".into()];
        let told = text(&Report { problems, findings, ..report() });
        let parts = "\n\n! 1 of 2 workers serve\n\nuser: It is root.\n  seen: Uid is 0\n  do: Say --user.\n\n2 things were found; ";
        assert!(told.contains(parts), "{told}");
    }
}
