//! Master, template and workers: which process is whose child, what each signal does, what happens when one dies, and that no process
//! is left after a stop.

use std::{fs, process::Command};

use nix::{
    sys::signal::{Signal::*, kill},
    unistd::Pid,
};
use ostler_tests::{Client, Ending, Folder, Gate, PATIENCE, Process, Python, Rig, application, built, ends_within};

const ONE: &str = "
def app(environ, start_response):
    start_response('200 OK', [('Content-Type', 'text/plain')])
    return [b'one']
";

fn two() -> String {
    ONE.replace("one", "two")
}

#[test]
fn the_master_is_the_parent_of_one_template_and_all_workers() {
    let site = Rig::new("corners.py").workers(3).start();
    let workers: Vec<i32> = (0..3).map(|_| site.log("worker ready").number("pid")).collect();
    let descendants = site.descendants();
    assert_eq!(descendants.len(), 4, "three workers and a template: {descendants:?}");
    for pid in workers.iter().chain(&descendants) {
        assert!(descendants.contains(pid));
        assert_eq!(parent_of(*pid), site.pid(), "parent of {pid}");
    }
}

#[test]
fn the_master_has_one_thread_and_no_python() {
    let site = Rig::new("corners.py").start();
    let threads = fs::read_dir(format!("/proc/{}/task", site.pid())).expect("the master lives").count();
    assert_eq!(threads, 1);
    let maps = fs::read_to_string(format!("/proc/{}/maps", site.pid())).expect("the master lives");
    assert!(!maps.contains("libpython"), "{maps}");
}

#[test]
fn a_worker_that_is_killed_is_replaced_and_the_log_says_what_it_was_doing() {
    let site = Rig::new("corners.py").start();
    let gate = Gate::new();
    let first = site.log("worker ready").number("pid");
    let mut held = site.connect();
    held.ask(&format!("/gated?{}", gate.path()));
    let _visitor = gate.arrival();
    kill(Pid::from_raw(first), SIGKILL).expect("the worker lives");
    let lost = site.log("worker lost");
    assert_eq!(lost.number("pid"), first);
    for part in ["SIGKILL", "uptime=", "GET /gated"] {
        assert!(lost.text().contains(part), "{part} is not in {}", lost.text());
    }
    assert_ne!(site.log("worker ready").number("pid"), first);
    assert_eq!(site.get("/hello").text(), "hello\n");
}

#[test]
fn a_worker_that_exits_is_replaced_and_the_log_says_its_status() {
    let source = format!("import os\n{ONE}")
        .replace("    start", "    if environ['PATH_INFO'] == '/end': os._exit(7)\n    start");
    let site = Rig::with_source(&source).start();
    let first = site.log("worker ready").number("pid");
    let mut client = site.connect();
    client.send("GET /end HTTP/1.1\r\nHost: a\r\n\r\n");
    assert!(client.try_answer().is_err(), "nobody is left to answer");
    let lost = site.log("worker lost");
    assert!(lost.text().contains("status") && lost.text().contains('7'), "{}", lost.text());
    assert_ne!(site.log("worker ready").number("pid"), first);
    assert_eq!(site.get("/").text(), "one");
}

#[test]
fn a_site_that_cannot_be_imported_exits_with_the_whole_traceback() {
    let refused = Rig::with_source("def deep():\n    import no_such_module\n\ndeep()\n").refuse();
    refused.says(10, &["Traceback (most recent call last)", "in deep", "No module named 'no_such_module'"]);
    assert!(!refused.error.contains("boot.py"), "the traceback shows frames of ostler:\n{}", refused.error);
}

#[test]
fn a_start_in_the_background_is_over_when_the_site_serves_or_cannot() {
    let folder = Folder::new();
    folder.write("app.py", ONE);
    let start = |name: &str| {
        let mut command = Command::new(built("ostler"));
        command.args([
            "--daemon",
            "--bind",
            "unix:site.sock",
            "--control",
            "control.sock",
            "--pid",
            "site.pid",
            "--workers",
            "1",
        ]);
        command
            .args(["--name", "shop", "--error-logfile", name, "--python"])
            .arg(&Python::usual().environment().python);
        command.arg("./app.py").current_dir(folder.path());
        let mut process = Process::start(&mut command, &folder.path().display().to_string());
        (process.wait().code(), process)
    };
    let (code, site) = start("error.log");
    assert_eq!(code, Some(0), "{}", site.log.whole());
    let address = format!("unix:{}", folder.join("site.sock").display());
    assert_eq!(Client::connect(&address).get("/").text(), "one");
    let names: Vec<String> = site.descendants().iter().map(|pid| title(*pid)).collect();
    for name in ["ostler: template g1 [shop]", "ostler: worker g1.0 [shop]"] {
        assert!(names.iter().any(|found| found == name), "{names:?}");
    }
    let (code, second) = start("second.log");
    let said = second.log.whole();
    assert!(code == Some(12) && said.contains("another process answers there"), "{said}");
    let mut stop = Command::new(built("ostler"));
    stop.args(["stop", "--control"]).arg(folder.join("control.sock"));
    assert!(stop.output().expect("it runs").status.success());
    assert!(site.descendants().into_iter().all(|pid| ends_within(pid, PATIENCE)));
    assert!((site.descendants(), folder.leavings()) == (vec![], vec![]), "something is left");
    folder.write("app.py", "raise OSError('no database')\n");
    let (code, third) = start("third.log");
    let said = third.log.whole();
    assert!(code == Some(10) && said.contains("OSError: no database"), "{said}");
    assert!(third.descendants().into_iter().all(|pid| ends_within(pid, PATIENCE)));
    assert!((third.descendants(), folder.leavings()) == (vec![], vec![]), "something is left");
}

/// What `ps` shows.
fn title(pid: i32) -> String {
    let line = fs::read_to_string(format!("/proc/{pid}/cmdline")).unwrap_or_default();
    line.trim_end_matches('\0').to_owned()
}

#[test]
fn term_finishes_what_is_under_way_and_exits_0() {
    let mut site = Rig::new("corners.py").start();
    let gate = Gate::new();
    let mut held = site.connect();
    held.ask(&format!("/gated?{}", gate.path()));
    let visitor = gate.arrival();
    site.signal(SIGTERM);
    site.log("worker draining");
    visitor.let_go("finished");
    let answer = held.answer();
    assert_eq!(answer.text(), "finished");
    assert_eq!(answer.field("connection"), Some("close"));
    assert_eq!(held.ending(), Ending::Closed);
    assert_eq!(site.wait(), 0);
}

#[test]
fn int_and_quit_stop_at_once() {
    for signal in [SIGINT, SIGQUIT] {
        let mut site = Rig::new("corners.py").start();
        let gate = Gate::new();
        let mut held = site.connect();
        held.ask(&format!("/gated?{}", gate.path()));
        let _visitor = gate.arrival();
        site.signal(signal);
        assert_eq!(site.wait(), 0, "{signal}");
        assert_eq!(held.answer().status, 503, "{signal}");
    }
}

#[test]
fn hup_replaces_all_workers_by_a_new_generation() {
    let site = Rig::with_source(ONE).workers(2).start();
    let old: Vec<i32> = (0..2).map(|_| site.log("worker ready").number("pid")).collect();
    let mut kept = site.connect();
    assert_eq!(kept.get("/").text(), "one");
    site.folder().write("app.py", &two());
    site.signal(SIGHUP);
    assert_eq!(site.log("generation serving").number("generation"), 2);
    let new: Vec<i32> = (0..2).map(|_| site.log("worker ready").number("pid")).collect();
    assert!(new.iter().all(|pid| !old.contains(pid)));
    for pid in old {
        assert!(ends_within(pid, PATIENCE));
    }
    site.drained(2);
    assert_eq!(kept.get("/").text(), "two", "the connection moved");
    assert_eq!(site.get("/").text(), "two");
}

#[test]
fn a_reload_that_cannot_boot_changes_nothing() {
    let site = Rig::with_source(ONE).start();
    site.folder().write("app.py", "def app(environ, start_response)\n    pass\n");
    site.signal(SIGHUP);
    site.log("generation discarded");
    assert!(site.logged("SyntaxError") >= 1);
    assert_eq!(site.get("/").text(), "one");
    site.folder().write("app.py", &two());
    site.signal(SIGHUP);
    site.log("generation serving");
    site.drained(1);
    assert_eq!(site.get("/").text(), "two");
}

#[test]
fn ttin_adds_a_worker_and_ttou_takes_one_away() {
    let site = Rig::new("corners.py").workers(2).start();
    let old: Vec<i32> = (0..2).map(|_| site.log("worker ready").number("pid")).collect();
    site.signal(SIGTTIN);
    let third = site.log("worker ready").number("pid");
    assert!(!old.contains(&third));
    for left in [2, 1] {
        site.signal(SIGTTOU);
        let gone = site.log("worker drained").number("pid");
        assert!(ends_within(gone, PATIENCE));
        assert_eq!(site.descendants().len(), left + 1, "workers and the template");
    }
    assert_eq!(site.get("/hello").text(), "hello\n");
}

#[test]
fn when_the_master_is_killed_everybody_else_exits() {
    let mut site = Rig::new("corners.py").workers(2).start();
    let descendants = site.descendants();
    assert_eq!(descendants.len(), 3);
    site.kill_master();
    for pid in descendants {
        assert!(ends_within(pid, PATIENCE), "process {pid} outlives its master");
    }
}

#[test]
fn a_signal_that_is_not_obeyed_is_told() {
    let site = Rig::new("corners.py").start();
    site.signal(SIGWINCH);
    assert_eq!(site.log("signal ignored").key("signal"), Some("WINCH"));
    assert_eq!(site.get("/hello").text(), "hello\n");
}

#[test]
fn nothing_is_left_behind() {
    let rig = Rig::new("corners.py").workers(2);
    let socket = rig.folder().join("site.sock");
    let pid_file = rig.folder().join("site.pid");
    let rig = rig.option("--pid", pid_file.to_str().expect("plain"));
    let mut site = rig.bind(&format!("unix:{}", socket.display())).start();
    assert_eq!(site.get("/hello").text(), "hello\n");
    assert_eq!(site.folder().leavings().len(), 3, "while it runs: socket, pid file, control socket");
    site.stop();
    assert_eq!(site.folder().leavings().len(), 0);
}

#[test]
fn process_1_of_a_container_without_root_reaps_strangers_and_obeys_signals() {
    let user = ["--map-user=10001", "--map-group=10001"];
    let container = [&["--user", "--pid", "--fork", "--kill-child", "--mount-proc"], &user[..]].concat();
    if !Command::new("unshare").args(&container).arg("true").status().is_ok_and(|status| status.success()) {
        return eprintln!("NOT TESTED: this machine lets nobody make a container");
    }
    let folder = ostler_tests::Folder::new();
    let script = "exec \"$@\" --bind unix:site.sock --control control.sock --workers 1";
    let mut command = Command::new("unshare");
    command.args(&container).args(["sh", "-c", script, "sh"]);
    command.arg(built("ostler")).arg("--python").arg(&Python::usual().environment().python);
    command.arg(application("corners.py")).current_dir(folder.path());
    let mut container = Process::start(&mut command, &folder.path().display().to_string());
    assert!(container.log.find("generation serving").text().contains("master[1]"));
    let mut client = ostler_tests::Client::connect(&format!("unix:{}", folder.join("site.sock").display()));
    let before = container.descendants();
    assert_eq!(client.get("/stranger").text(), "hello\n");
    // The grandchild was given to process 1. Once it has ended, it must not stay as a zombie.
    let master = *before.iter().min().expect("the container lives");
    let mut zombies = children_of(master);
    zombies.retain(|pid| !before.contains(pid));
    for pid in zombies {
        assert!(ends_within(pid, PATIENCE));
    }
    assert_eq!(client.get("/hello").text(), "hello\n");
    kill(Pid::from_raw(master), SIGHUP).expect("the master lives");
    container.log.find("generation serving generation=2");
    assert_eq!(client.get("/hello").text(), "hello\n");
    kill(Pid::from_raw(master), SIGTERM).expect("the master lives");
    assert_eq!(container.wait().code(), Some(0));
    container.log.find("stopped");
    assert_eq!(container.descendants().len(), 0);
}

fn parent_of(pid: i32) -> i32 {
    stat(pid)[1].parse().expect("a process id")
}

fn children_of(pid: i32) -> Vec<i32> {
    let children = fs::read_to_string(format!("/proc/{pid}/task/{pid}/children")).expect("the process lives");
    children.split_whitespace().filter_map(|child| child.parse().ok()).collect()
}

/// The fields of proc(5)'s stat from the state on.
fn stat(pid: i32) -> Vec<String> {
    let text = fs::read_to_string(format!("/proc/{pid}/stat")).expect("the process lives");
    let (_, rest) = text.rsplit_once(") ").expect("the name is in parentheses");
    rest.split(' ').map(String::from).collect()
}

#[test]
fn a_stream_that_was_deleted_does_not_keep_the_other_from_being_flushed() {
    for deleted in ["stdout", "stderr"] {
        let source = format!(
            "
import sys
def application(environ, start_response):
    sys.stdout, sys.stderr = open('stdout', 'w'), open('stderr', 'w', buffering=8192)
    sys.stdout.write('kept'), sys.stderr.write('kept')
    global held
    held = sys.stdout, sys.stderr
    del sys.{deleted}
    start_response('200 OK', [])
    return []
"
        );
        let mut site = Rig::with_source(&source).start();
        assert_eq!(site.get("/").status, 200);
        site.stop();
        assert_eq!(site.logged("application raised at exit"), 0, "{deleted}");
        let other = if deleted == "stdout" { "stderr" } else { "stdout" };
        let written = std::fs::read_to_string(site.folder().join(other)).expect("the application has made it");
        assert_eq!(written, "kept", "{deleted}");
    }
}
