//! The control socket: each command waits for its outcome, which is its exit code.

use std::{fs, os::unix::fs::PermissionsExt, process::Command};

use ostler_tests::{Folder, Gate, PATIENCE, Process, Python, Rig, built, ends_within};
use serde_json::Value;

use crate::pages::{page, page_with};

#[test]
fn status_shows_what_each_process_does() {
    let site = Rig::new("corners.py").workers(2).option("--threads", "2").start();
    let gate = Gate::new();
    let mut held = site.connect();
    held.ask(&format!("/gated?{}", gate.path()));
    let visitor = gate.arrival();
    let table = site.control(&["status"]);
    assert_eq!(table.code, 0, "{table:?}");
    assert!(table.output.contains("GET /gated"), "{}", table.output);
    let json: Value = serde_json::from_str(&site.control(&["status", "--json"]).output).expect("JSON");
    let text = json.to_string();
    for part in ["generation", "pid", "requests", "GET /gated"] {
        assert!(text.contains(part), "{part} is not in {text}");
    }
    visitor.let_go("on");
    assert_eq!(held.answer().text(), "on");
}

#[test]
fn a_site_is_ready_when_it_serves() {
    let gate = Gate::new();
    let source = page_with("served", &gate.statement());
    let mut site = Rig::with_source(&source).flag("--preload=on").launch();
    let visitor = gate.arrival();
    site.control(&["status", "--ready"]).says(9, &["not ready: generation 1 is booting"]);
    visitor.let_go("on");
    site.log("generation serving");
    assert_eq!(site.control(&["status", "--ready"]).code, 0);
    site.stop();
    site.control(&["status", "--ready"]).says(7, &["no ostler is running"]);
}

#[test]
fn scale_recycle_reopen_and_stop_do_what_signals_do() {
    let mut site = Rig::new("corners.py").workers(1).start();
    let first = site.log("worker ready").number("pid");
    assert_eq!(site.control(&["scale", "+2"]).code, 0);
    assert_eq!(site.descendants().len(), 4, "three workers and the template");
    assert_eq!(site.control(&["scale", "-2"]).code, 0);
    assert_ne!(site.control(&["scale", "-1"]).code, 0, "the last worker stays");
    assert_eq!(site.control(&["recycle"]).code, 0);
    assert!(ends_within(first, PATIENCE));
    assert_eq!(site.control(&["reopen"]).code, 0);
    assert_eq!(site.get("/hello").text(), "hello\n");
    assert_eq!(site.control(&["stop"]).code, 0);
    assert_eq!(site.wait(), 0);
}

#[test]
fn one_worker_becomes_twenty_and_one_again() {
    let site = Rig::new("corners.py").workers(1).start();
    assert_eq!(site.control(&["scale", "20"]).code, 0);
    assert_eq!(site.descendants().len(), 21, "twenty workers and the template");
    assert_eq!(site.get("/hello").text(), "hello\n");
    site.control(&["scale", "513"]).says(9, &["there can be from 1 to 512 workers, not 513"]);
    assert_eq!(site.control(&["scale", "1"]).code, 0);
    site.drained(19);
    assert_eq!(site.get("/hello").text(), "hello\n");
}

#[test]
fn stacks_shows_where_python_is() {
    let site = Rig::new("corners.py").start();
    let worker = site.log("worker ready").number("pid");
    let gate = Gate::new();
    let mut held = site.connect();
    held.ask(&format!("/gated?{}", gate.path()));
    let visitor = gate.arrival();
    for words in [vec!["stacks".to_string()], vec!["stacks".into(), worker.to_string()]] {
        let stacks = site.control(&words.iter().map(String::as_str).collect::<Vec<_>>());
        assert_eq!(stacks.code, 0, "{stacks:?}");
        let named = |line: &str| line.contains("Thread 0x") && line.contains("GET /gated") && line.contains(" ms");
        assert_eq!(stacks.output.lines().filter(|line| named(line)).count(), 1, "{}", stacks.output);
        assert!(stacks.output.contains("in gated"), "{}", stacks.output);
    }
    visitor.let_go("on");
    assert_eq!(held.answer().text(), "on");
    let idle = site.control(&["stacks"]).output;
    assert!(idle.matches("\n  idle").count() == 2 && !idle.contains("_enter"), "{idle}");
    let table = site.control(&["status"]).output;
    assert!(table.contains("since the start: 1 request, 0 errors, 0 refused"), "{table}");
}

#[test]
fn the_socket_is_for_its_owner_and_without_a_daemon_there_is_one_sentence() {
    let mut site = Rig::new("corners.py").start();
    let socket = site.folder().join("control.sock");
    let mode = fs::metadata(&socket).expect("the socket is there").permissions().mode();
    assert_eq!(mode & 0o777, 0o600);
    site.stop();
    let refused = site.control(&["status"]);
    refused.says(7, &["control.sock"]);
    assert!(refused.error.trim_end().lines().count() <= 2, "{}", refused.error);
}

#[test]
fn a_second_site_without_a_name_is_reached_and_neither_is_taken_for_the_other() {
    let folder = Folder::new();
    folder.write("app.py", &page("served"));
    let ostler = || {
        let mut command = Command::new(built("ostler"));
        command.current_dir(folder.path()).env("RUNTIME_DIRECTORY", folder.path());
        command
    };
    let start = |bind: &str| {
        let mut command = ostler();
        command.args(["--bind", bind, "--workers", "1", "--python"]).arg(&Python::usual().environment().python);
        let process = Process::start(command.arg("./app.py"), bind);
        process.log.find("generation serving");
        process
    };
    let ask = |words: &[&str]| {
        let told = ostler().args(words).output().expect("it runs");
        (told.status.code(), String::from_utf8_lossy(&[told.stdout, told.stderr].concat()).into_owned())
    };
    let (mut first, mut second) = (start("unix:first.sock"), start("unix:second.sock"));
    let name = format!("ostler-{}", second.pid());
    assert_eq!(second.log.text().matches("another ostler has this name").count(), 1, "{}", second.log.text());
    let (code, said) = ask(&["reload"]);
    assert!(code == Some(2) && said.contains("which site? Say --name with one of ") && said.contains(&name), "{said}");
    assert_eq!(ask(&["reload", "--name", &name]), (Some(0), "generation 2 serves with 1 worker\n".into()));
    assert_eq!(ask(&["reload", "--name", &name]), (Some(0), "generation 3 serves with 1 worker\n".into()));
    assert_eq!(ask(&["stop", "--name", "ostler"]).0, Some(0));
    assert!(first.wait().success());
    assert_eq!(ask(&["stop", "--name", &name]).0, Some(0));
    assert!(second.wait().success());
}
