//! The master replaces its own executable and keeps its process id, sockets, workers and files; no client notices.

use std::{fs, path::Path};

use nix::sys::signal::Signal::SIGUSR2;
use ostler_tests::Rig;

use crate::pages::page;

#[test]
fn an_upgrade_keeps_the_process_the_connections_and_the_files() {
    let rig = Rig::with_source(&page("one")).workers(2).installed();
    let pid_file = rig.folder().join("site.pid");
    let mut site = rig.option("--pid", pid_file.to_str().expect("plain")).start();
    let mut kept = site.connect();
    assert_eq!(kept.get("/").text(), "one");
    site.folder().write("app.py", &page("two"));
    site.signal(SIGUSR2);
    assert_eq!(site.log("upgraded").text().matches(&format!("master[{}]", site.pid())).count(), 1);
    assert_eq!(site.log("generation serving").number("generation"), 2);
    site.drained(2);
    assert_eq!(kept.get("/").text(), "two");
    assert_eq!(fs::read_to_string(pid_file).expect("the pid file is there"), format!("{}\n", site.pid()));
    assert_eq!(site.control(&["reload"]).code, 0);
    site.stop();
}

#[test]
fn an_executable_that_does_not_work_changes_nothing() {
    let site = Rig::with_source(&page("one")).installed().start();
    let daemon = site.folder().join("bin/ostler");
    let good = site.folder().join("bin/good");
    fs::rename(&daemon, &good).expect("a private folder is writable");
    site.control_of(&good, &["upgrade"]).says(14, &[]);
    fs::copy("/bin/false", &daemon).expect("a private folder is writable");
    site.control_of(&good, &["upgrade"]).says(14, &[]);
    site.log("upgrade failed");
    site.log("upgrade failed");
    assert_eq!(site.get("/").text(), "one");
    fs::rename(&good, &daemon).expect("a private folder is writable");
    assert_eq!(site.control(&["upgrade"]).code, 0);
    assert_eq!(site.get("/").text(), "one");
}

#[test]
fn a_reload_says_that_a_new_version_is_installed() {
    const SENTENCE: &str = "; a new version is installed: run `ostler upgrade`";
    let site = Rig::with_source(&page("one")).installed().start();
    let (daemon, engine) = (site.folder().join("bin/ostler"), site.folder().join("lib/ostler/libostler_engine.so"));
    let replace = |file: &Path, with: &Path| {
        let new = file.with_extension("new");
        fs::copy(with, &new).expect("a private folder is writable");
        fs::rename(new, file).expect("a private folder is writable");
    };
    let old = engine.with_extension("old");
    fs::copy(&engine, &old).expect("a private folder is writable");
    replace(&daemon, &daemon);
    assert_eq!(site.control(&["reload"]).output, format!("generation 2 serves with 1 worker{SENTENCE}"));
    site.log("new version installed");
    // What the new engine says need not be understood.
    replace(&engine, Path::new("/bin/true"));
    site.control(&["reload"]).says(13, &["generation 3 was discarded: ", SENTENCE]);
    assert_eq!(site.get("/").text(), "one");
    replace(&engine, &old);
    assert_eq!(site.control(&["upgrade"]).output, "generation 4 serves with 1 worker");
}
