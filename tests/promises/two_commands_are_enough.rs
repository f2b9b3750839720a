//! `make serve` and `make test` are all that a new machine needs. That `make test` works is shown by this being run.

use std::{
    net::TcpListener,
    os::unix::process::CommandExt,
    process::{Command, Stdio},
};

use nix::{
    sys::signal::{Signal, killpg},
    unistd::Pid,
};
use ostler_tests::{Client, Process, repository};

#[test]
fn make_serve_prints_the_address_and_serves_until_ctrl_c() {
    let port = free_port();
    let mut command = make(&["serve", "PROFILE=dev", &format!("BIND=127.0.0.1:{port}")]);
    let mut make = Process::start(&mut command, &format!("make serve {port}"));
    make.output.find(&format!("open http://127.0.0.1:{port}/"));
    make.log.find("generation serving");
    let index = Client::connect(&format!("127.0.0.1:{port}")).get("/");
    assert!(index.text().contains("Good day, stranger"), "{}", index.text());
    killpg(Pid::from_raw(make.pid()), Signal::SIGINT).expect("the group lives");
    make.wait();
    assert!(make.descendants().is_empty(), "processes that Ctrl-C left: {:?}", make.descendants());
    assert!(make.log.whole().contains("stopped"));
}

#[test]
fn make_names_what_is_missing_in_one_sentence() {
    for (setting, sentence) in [
        ("CARGO=no-such-cargo", "cargo is missing: install Rust"),
        ("PYTHON=no-such-python", "no-such-python is missing: install CPython 3.10 or later"),
    ] {
        let mut process = Process::start(&mut make(&["tools", setting]), &format!("make {setting}"));
        assert_eq!(process.wait().code(), Some(2));
        let said = process.output.whole();
        assert_eq!(said.lines().count(), 1, "{said}");
        assert!(said.contains(sentence), "{said}");
    }
}

pub fn make(words: &[&str]) -> Command {
    let mut command = Command::new("make");
    command.arg("--no-print-directory").args(words).current_dir(repository("")).stdin(Stdio::null()).process_group(0);
    // If make runs the tests, its flags are in the environment. They are not for this make.
    for name in ["MAKEFLAGS", "MAKELEVEL", "MFLAGS", "MAKEOVERRIDES"] {
        command.env_remove(name);
    }
    command
}

fn free_port() -> u16 {
    let listener = TcpListener::bind("127.0.0.1:0").expect("the loopback has ports");
    listener.local_addr().expect("a bound socket has an address").port()
}
