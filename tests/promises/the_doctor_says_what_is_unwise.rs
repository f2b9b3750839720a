//! `ostler doctor` names what is unwise at a running site and its machine, with its evidence; a site in good order gets a clean bill.

use std::{
    fs::{self, File},
    time::{Duration, SystemTime},
};

use nix::unistd::geteuid;
use ostler_tests::{Python, Rig, Site};
use serde_json::Value;

use crate::pages::page;

/// What of the findings is the machine's and the calendar's.
const OF_MACHINE: [&str; 3] = ["python", "spool directory", "memory of a reload"];

/// What the doctor says: what was found about what, in its order, and the exit status.
struct Report(Value, i32);

impl Report {
    fn of(site: &Site) -> Report {
        let answer = site.control(&["doctor", "--json"]);
        Report(serde_json::from_str(&answer.output).unwrap_or_else(|_| panic!("{answer:?}")), answer.code)
    }

    /// The evidence of what was found about something.
    fn evidence(&self, about: &str) -> Option<&str> {
        let findings = self.0["findings"].as_array().expect("a list");
        let found = findings.iter().find(|finding| finding["about"] == about)?;
        assert_eq!(self.1, 1, "exit status of a site with findings");
        found["evidence"].as_str()
    }

    #[track_caller]
    fn found(&self, about: &str, evidence: &[&str]) {
        let told = self.evidence(about).unwrap_or_else(|| panic!("nothing about {about} in {:#}", self.0));
        assert!(evidence.iter().all(|part| told.contains(part)), "{evidence:?} are not all in {told:?}");
    }
}

#[test]
fn a_site_in_good_order_gets_a_clean_bill() {
    let mut rig = Rig::with_source(&page("served")).option("--worker-connections", "20").option("--backlog", "8");
    if geteuid().is_root() {
        let Some(python) = Python::every().iter().find(|python| python.is_public()) else {
            return eprintln!("NOT TESTED: as root, this needs an interpreter that everybody may run");
        };
        rig = rig.installed().interpreter(&python.executable).option("-u", "nobody").option("-g", "nogroup");
    }
    let site = rig.start();
    assert_eq!(site.get("/").text(), "served");
    let Report(report, code) = Report::of(&site);
    let findings = report["findings"].as_array().expect("a list");
    let ours: Vec<_> = findings.iter().filter(|one| !OF_MACHINE.iter().any(|of| one["about"] == *of)).collect();
    assert!(ours.is_empty() && report["problems"].as_array().is_some_and(Vec::is_empty), "{report:#}");
    assert_eq!(code, i32::from(!findings.is_empty()));
    assert_eq!(report["unread"], serde_json::json!([]));
    let text = site.control(&["doctor"]);
    assert_eq!(text.code, code);
    assert!(text.output.contains(" found; looked at status, code on disk, "), "{}", text.output);
}

#[test]
fn limits_of_the_system_that_are_too_low_are_told_with_where_they_were_read() {
    let rig = Rig::with_source(&page("served")).limited("ulimit -n 200");
    let site = rig.option("--backlog", &i32::MAX.to_string()).start();
    let worker = site.log("worker ready").number("pid");
    let report = Report::of(&site);
    let limits = format!("\"Max open files\" of /proc/{worker}/limits is 200");
    report.found("descriptors", &["--worker-connections is 10000", &limits]);
    report.found("backlog", &["--backlog is 2147483647", "/proc/sys/net/core/somaxconn is "]);
    let text = site.control(&["doctor"]);
    let paragraph = format!("descriptors for 119 only.\n  seen: --worker-connections is 10000; {limits}\n  do: Raise ");
    assert!(text.code == 1 && text.output.contains(&paragraph), "{}", text.output);
}

#[test]
fn times_that_contradict_each_other_or_are_missing_are_told() {
    let site = Rig::with_source(&page("served")).option("--timeout", "60").option("--graceful-timeout", "5").start();
    Report::of(&site).found("time-outs", &["--timeout is 60 s, --graceful-timeout is 5 s"]);
    let site = Rig::with_source(&page("served")).option("--timeout", "0").option("--keep-alive", "2").start();
    let report = Report::of(&site);
    assert_eq!(report.evidence("time-outs"), None);
    assert_eq!(report.evidence("no time-outs"), Some("--timeout is 0"));
    report.found("keep-alive", &["--keep-alive is 2 s"]);
}

#[test]
fn forwarded_fields_that_come_and_are_not_believed_are_told() {
    let rig = || Rig::with_source(&page("served"));
    let ask = |site: &Site, fields: &str| {
        let answer = site.connect().send(format!("GET / HTTP/1.1\r\nHost: a\r\n{fields}\r\n")).answer();
        assert_eq!(answer.text(), "served");
    };
    let stranger = rig().option("--forwarded-allow-ips", "192.0.2.1").start();
    ask(&stranger, "X-Real-Thing: 1\r\n");
    assert_eq!(Report::of(&stranger).evidence("forwarded fields"), None);
    ask(&stranger, "X-Forwarded-For: 192.0.2.7\r\nX-Forwarded-Proto: https\r\n");
    ask(&stranger, "Forwarded: for=192.0.2.7\r\n");
    let evidence = "ostler_forwarded_ignored_total is 2, of 3 requests; --forwarded-allow-ips is 192.0.2.1";
    // A request is counted a moment after its client has the answer.
    let told = |_| Report::of(&stranger).evidence("forwarded fields") == Some(evidence);
    assert!((0..1000).any(told), "{:#}", Report::of(&stranger).0);
    let trusted = rig().option("--forwarded-allow-ips", "127.0.0.1").start();
    ask(&trusted, "X-Forwarded-For: 192.0.2.7\r\n");
    assert_eq!(Report::of(&trusted).evidence("forwarded fields"), None);
}

#[test]
fn code_that_is_no_longer_there_is_told_until_a_reload() {
    let rig = Rig::bare().application("app:app").file("site/app.py", &page("one")).option("--chdir", "site");
    let site = rig.python(Python::usual()).start();
    let (folder, old) = (site.folder().join("site"), site.folder().join("old"));
    assert_eq!(Report::of(&site).evidence("code on disk"), None);
    fs::rename(&folder, &old).expect("the folder is ours");
    Report::of(&site).found("code on disk", &["/cwd of the template leads to ", "/old"]);
    site.folder().write("site/app.py", &page("two"));
    Report::of(&site).found("code on disk", &["/old"]);
    assert_eq!(site.control(&["reload"]).code, 0);
    assert_eq!((site.get("/").text(), Report::of(&site).evidence("code on disk")), ("two", None));
    fs::remove_dir_all(&folder).expect("the folder is ours");
    Report::of(&site).found("code on disk", &["/site (deleted)"]);
}

#[test]
fn a_file_that_was_edited_without_a_reload_is_told() {
    let site = Rig::with_source(&page("served")).start();
    assert_eq!(Report::of(&site).evidence("newer files"), None);
    let path = site.folder().write("app.py", &page("edited"));
    let soon = SystemTime::now() + Duration::from_secs(3600);
    File::options().append(true).open(&path).and_then(|file| file.set_modified(soon)).expect("the file is ours");
    Report::of(&site).found("newer files", &["/app.py was written 0 s ago; generation 1 serves for "]);
}

#[test]
fn a_log_that_was_rotated_without_us_is_told_until_it_is_opened_anew() {
    let site = Rig::with_source(&page("served")).option("--access-logfile", "access.log").start();
    assert_eq!(Report::of(&site).evidence("rotation of logs"), None);
    fs::rename(site.folder().join("access.log"), site.folder().join("access.log.1")).expect("the folder is ours");
    Report::of(&site).found("rotation of logs", &["/access.log is not the file that the master holds open"]);
    assert_eq!(site.control(&["reopen"]).code, 0);
    assert_eq!(Report::of(&site).evidence("rotation of logs"), None);
}

#[test]
fn it_begins_with_what_status_says_is_wrong() {
    let site = Rig::with_source(&page("one")).start();
    site.folder().write("app.py", "import no_such_module\n");
    assert_eq!(site.control(&["reload"]).code, 10);
    let Report(report, code) = Report::of(&site);
    let problem = report["problems"][0].as_str().expect("a sentence");
    assert!(code == 1 && problem.starts_with("the last reload failed "), "{report:#}");
    let text = site.control(&["doctor"]).output;
    assert!(text.lines().nth(2).is_some_and(|line| line.starts_with("! the last reload failed ")), "{text}");
}
