//! A reload reads everything anew, and takes over only when all of it is ready. If it fails, nothing changes.

use std::{fs, os::unix::fs::symlink};

use nix::{
    sys::signal::{
        Signal::{SIGCONT, SIGHUP, SIGSTOP},
        kill,
    },
    unistd::Pid,
};
use ostler_tests::{Client, Gate, Rig};

use crate::pages::{page, page_with};

#[test]
fn a_reload_is_waited_for_and_its_failure_is_printed() {
    let site = Rig::with_source(&page("one")).start();
    site.folder().write("app.py", &page("two"));
    assert_eq!(site.control(&["reload"]).code, 0);
    site.drained(1);
    assert_eq!(site.get("/").text(), "two");
    site.folder().write("app.py", "raise KeyError('on purpose')\n");
    site.control(&["reload"]).says(10, &["Traceback", "KeyError: 'on purpose'"]);
    assert_eq!(site.get("/").text(), "two");
}

#[test]
fn whatever_is_wrong_with_the_new_code_the_old_goes_on() {
    let site = Rig::with_source(&page("one")).flag("--preload=off").workers(2).start();
    for (source, why) in [
        ("def app(:\n", "SyntaxError"),
        ("import no_such_module\n", "No module named 'no_such_module'"),
        ("app = 3\n", "callable"),
        ("import os\nos._exit(5)\n", "5"),
        ("import os\nos.kill(os.getpid(), 9)\n", "SIGKILL"),
        ("import sys\nsys.exit(0)\n", "SystemExit"),
    ] {
        site.folder().write("app.py", source);
        let refused = site.control(&["reload"]);
        assert_ne!(refused.code, 0, "{source}");
        assert!(refused.error.contains(why), "{why} is not in {}", refused.error);
        site.log("generation discarded");
        assert_eq!(site.get("/").text(), "one", "after {source}");
    }
    assert_eq!(site.logged("worker lost generation=1"), 0);
}

#[test]
fn a_generation_that_is_not_ready_in_time_is_discarded() {
    let site = Rig::with_source(&page("one")).option("--boot-timeout", "1").start();
    site.folder().write("app.py", "import threading\nthreading.Event().wait()\n");
    let refused = site.control(&["reload"]);
    assert_ne!(refused.code, 0, "{refused:?}");
    site.log("generation discarded");
    assert_eq!(site.get("/").text(), "one");
}

#[test]
fn a_reload_during_a_reload_is_queued_once() {
    let site = Rig::with_source(&page("one")).start();
    let gate = Gate::new();
    site.folder().write("app.py", &page_with("two", &gate.statement()));
    site.signal(SIGHUP);
    let visitor = gate.arrival();
    for _ in 0..2 {
        site.signal(SIGHUP);
        site.log("reload queued");
    }
    site.folder().write("app.py", &page("three"));
    visitor.let_go("on");
    while site.log("generation serving").number("generation") < 3 {}
    site.drained(2);
    assert_eq!(site.get("/").text(), "three");
    assert_eq!(site.control(&["reload"]).code, 0);
    assert_eq!(site.logged("generation booting"), 4, "two of the requests were one reload");
}

#[test]
fn binds_and_workers_are_read_afresh_from_the_file() {
    let rig = Rig::with_source(&page("one")).without_workers().option("--config", "site.toml");
    let socket = |name: &str| format!("unix:{}", rig.folder().join(name).display());
    let (old, new) = (socket("old.sock"), socket("new.sock"));
    let file = |bind: &str| format!("bind = [\"{bind}\", \"127.0.0.1:0\"]\n");
    let site = rig.file("site.toml", &file(&old)).without_bind().start_on(2);
    let mut kept = Client::connect(&old);
    assert_eq!(kept.get("/").text(), "one");
    site.folder().write("site.toml", &file(&new));
    assert_eq!(site.control(&["reload"]).code, 0);
    assert_eq!(Client::connect(&new).get("/").text(), "one");
    site.log("generation gone");
    assert_eq!(kept.get("/").text(), "one", "a connection to the old address is kept");
    assert!(Client::try_connect(&old).is_err());
    assert!(!site.folder().join("old.sock").exists());
    site.folder().write("site.toml", "workers = \"many\"\n");
    site.control(&["reload"]).says(2, &["workers", "many"]);
    site.folder().write("site.toml", &file("unix:/no/such/folder/x.sock"));
    site.control(&["reload"]).says(12, &["/no/such/folder/x.sock"]);
    assert_eq!(Client::connect(&new).get("/").text(), "one");
}

#[test]
fn a_symbolic_link_is_followed_anew() {
    let rig = Rig::new("corners.py").application("app");
    rig.folder().write("release-1/app.py", &page("one"));
    rig.folder().write("release-2/app.py", &page("two"));
    let current = rig.folder().join("current");
    symlink("release-1", &current).expect("a private folder is writable");
    let site = rig.option("--chdir", current.to_str().expect("plain")).start();
    assert_eq!(site.get("/").text(), "one");
    let next = site.folder().join("next");
    symlink("release-2", &next).expect("a private folder is writable");
    fs::rename(next, current).expect("a private folder is writable");
    assert_eq!(site.control(&["reload"]).code, 0);
    site.drained(1);
    assert_eq!(site.get("/").text(), "two");
}

#[test]
fn what_is_imported_late_comes_from_the_release_that_serves() {
    const LATE: &str = "def application(environ, start_response):\n    import part\n    start_response('200 OK', [])\n    return [part.WHICH]\n";
    let rig = Rig::new("corners.py").application("app");
    for (release, which) in [("release-1", "one"), ("release-2", "two")] {
        rig.folder().write(&format!("{release}/app.py"), LATE);
        rig.folder().write(&format!("{release}/part.py"), &format!("WHICH = b'{which}'\n"));
    }
    let current = rig.folder().join("current");
    symlink("release-1", &current).expect("a private folder is writable");
    let site = rig.option("--chdir", current.to_str().expect("plain")).start();
    let next = site.folder().join("next");
    symlink("release-2", &next).expect("a private folder is writable");
    fs::rename(next, current).expect("a private folder is writable");
    assert_eq!(site.get("/").text(), "one");
    assert_eq!(site.control(&["reload"]).code, 0);
    site.drained(1);
    assert_eq!(site.get("/").text(), "two");
}

#[test]
fn no_kept_connection_is_closed_and_none_waits_for_the_import() {
    let site = Rig::with_source(&page("one")).workers(2).start();
    let mut clients: Vec<Client> = (0..20).map(|_| site.connect()).collect();
    for client in &mut clients {
        assert_eq!(client.get("/").text(), "one");
    }
    let gate = Gate::new();
    site.folder().write("app.py", &page_with("two", &gate.statement()));
    site.signal(SIGHUP);
    let visitor = gate.arrival();
    for client in &mut clients {
        assert_eq!(client.get("/").text(), "one", "while the import waits");
    }
    visitor.let_go("on");
    site.drained(2);
    for client in &mut clients {
        assert_eq!(client.get("/").text(), "two", "the connection moved");
    }
}

#[test]
fn when_the_command_returns_no_new_connection_reaches_the_old_code() {
    let site = Rig::with_source(&page("one")).workers(4).start();
    for round in 0..6 {
        let text = format!("code {round}");
        site.folder().write("app.py", &page(&text));
        let command = if round % 3 == 2 { "rollback" } else { "reload" };
        let before = site.get("/").text().to_owned();
        assert_eq!(site.control(&[command]).code, 0);
        for connection in 0..200 {
            let seen = site.get("/").text().to_owned();
            match command {
                "reload" => assert_eq!(seen, text, "connection {connection} of round {round}"),
                _ => assert_ne!(seen, before, "connection {connection} of round {round}"),
            }
        }
    }
    // A worker that a signal has stopped does not hear that it is to accept no more, and holds the command up for a second.
    let title = |pid: &i32| fs::read_to_string(format!("/proc/{pid}/cmdline")).unwrap_or_default();
    let serving = site.descendants().into_iter().filter(|pid| title(pid).contains("worker")).max();
    let stopped = Pid::from_raw(serving.expect("it has workers"));
    kill(stopped, SIGSTOP).expect("it lives");
    assert_eq!(site.control(&["reload"]).code, 0);
    kill(stopped, SIGCONT).expect("it lives");
}
