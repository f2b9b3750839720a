//! Tests of the systemd units, which say things that have to stay true here.

use std::process::Command;

use crate::{
    cli::{self, Task},
    fixture::Folder,
    resources::control,
    settings::Rollout,
};

const SERVICE: &str = include_str!("../../systemd/ostler.service");
const TEMPLATE: &str = include_str!("../../systemd/ostler@.service");
const SOCKET: &str = include_str!("../../systemd/ostler.socket");
const SOCKET_TEMPLATE: &str = include_str!("../../systemd/ostler@.socket");

/// What stands behind `key=ostler` in a unit, read as a command line.
fn task(unit: &str, key: &str) -> (Task, Vec<String>) {
    let line = unit.lines().find_map(|line| line.strip_prefix(&format!("{key}=ostler "))).expect("the unit has it");
    let words: Vec<_> = line.split(' ').map(Into::into).collect();
    let typed = cli::parse(&words).unwrap();
    (typed.task, typed.texts.into_values().flatten().collect())
}

#[test]
fn the_commands_in_them_are_ours_and_find_each_other() {
    for unit in [SERVICE, TEMPLATE] {
        let (start, settings) = task(unit, "ExecStart");
        let (reload, finds) = task(unit, "ExecReload");
        assert_eq!(
            (start, reload),
            (
                Task::Serve,
                Task::Control {
                    command: control::Command::Reload { wait: false, rollout: Rollout::AsSet },
                    view: cli::View::Text
                }
            )
        );
        assert_eq!(settings, finds);
    }
    assert_eq!(task(SERVICE, "ExecStart").1, ["/etc/ostler.toml"]);
    assert_eq!(task(TEMPLATE, "ExecStart").1, ["/etc/ostler/%i.toml", "%i"]);
}

#[test]
fn the_unit_of_several_sites_is_that_of_one_with_a_name() {
    let body = |unit: &'static str| unit.split_once("\n\n").expect("a heading, then the unit").1;
    let named = body(SERVICE)
        .replace("/etc/ostler.toml", "/etc/ostler/%i.toml --name %i")
        .replace("Directory=ostler", "Directory=ostler-%i")
        .replace("WSGI site served", "WSGI site %i served")
        .replace("User=ostler", "User=ostler-%i")
        .replace("one called ostler if", "one called ostler-NAME if");
    assert_eq!(body(TEMPLATE), named);
    let sockets = body(SOCKET)
        .replace("/run/ostler.sock", "/run/ostler-%i.sock")
        .replace("ostler.service", "ostler@%i.service")
        .replace("WSGI site served", "WSGI site %i served");
    assert_eq!(body(SOCKET_TEMPLATE), sockets);
}

#[test]
fn systemd_finds_nothing_wrong_with_them() {
    if Command::new("systemd-analyze").arg("--version").output().is_err() {
        eprintln!("systemd-analyze is not installed here, so nobody can say");
        return;
    }
    let folder = Folder::new();
    let ostler = folder.program("ostler", "exit 0");
    let installed = |unit: &str| unit.replace("=ostler ", &format!("={} ", ostler.display()));
    folder.file("ostler.service", &installed(SERVICE));
    folder.file("ostler@.service", &installed(TEMPLATE));
    folder.file("ostler.socket", SOCKET);
    folder.file("ostler@.socket", SOCKET_TEMPLATE);
    for unit in ["ostler.service", "ostler@site.service", "ostler.socket", "ostler@site.socket"] {
        let mut analyze = Command::new("systemd-analyze");
        let said = analyze.args(["verify", "--man=no"]).arg(folder.path().join(unit)).output().unwrap();
        let words = String::from_utf8_lossy(&said.stderr);
        assert!(said.status.success() && words.is_empty(), "{unit}: {words}");
    }
}
