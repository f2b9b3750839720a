//! `make serve` and `make test` are all that a new machine needs. That `make test` works is shown by this being run.

use std::{
    fs,
    net::TcpListener,
    os::unix::{
        fs::{PermissionsExt, symlink},
        process::CommandExt,
    },
    path::PathBuf,
    process::{Command, Stdio},
};

use nix::{
    sys::signal::{Signal, killpg},
    unistd::Pid,
};
use ostler_tests::{Client, Folder, Process, repository};

#[test]
fn make_serve_says_where_and_what_next_once_it_serves() {
    let (address, name) = (format!("127.0.0.1:{}", free_port()), format!("example-{}", std::process::id()));
    let mut command = make(&["serve", "PROFILE=dev", &format!("BIND={address}"), &format!("NAME={name}")]);
    let mut make = Process::start(&mut command, &format!("make serve {address}"));
    make.output.find(&format!("open http://{address}/"));
    let index = Client::connect(&address).get("/");
    assert!(index.text().contains("Good day, stranger"), "{}", index.text());
    let worker = Client::connect(&address).get("/worker");
    assert!(worker.text().contains("\"worker\":\"ostler g1."), "{}", worker.text());
    let reload = make.output.find(&format!("reload --name {name}")).text().to_owned();
    let words: Vec<&str> = reload.split_whitespace().take(4).collect();
    let reloaded =
        Command::new(repository(words[0])).args(&words[1..]).output().expect("what was printed is a program");
    assert!(reloaded.status.success(), "{reload}");
    // Until then a worker of the first generation may answer.
    make.log.find("generation kept");
    let worker = Client::connect(&address).get("/worker");
    assert!(worker.text().contains("\"worker\":\"ostler g2."), "{}", worker.text());
    assert!(make.log.text().contains("Finished `dev` profile"), "cargo shows what it does");
    killpg(Pid::from_raw(make.pid()), Signal::SIGINT).expect("the group lives");
    make.wait();
    assert!(make.descendants().is_empty(), "processes that Ctrl-C left: {:?}", make.descendants());
    assert!(make.log.whole().contains("stopped"));
}

#[test]
fn make_serve_promises_nothing_where_it_cannot_serve() {
    let taken = TcpListener::bind("127.0.0.1:0").expect("the loopback has ports");
    let bind = format!("BIND={}", taken.local_addr().expect("a bound socket has an address"));
    let name = format!("NAME=taken-{}", std::process::id());
    let mut make = Process::start(&mut make(&["serve", "PROFILE=dev", &bind, &name]), &format!("make serve {bind}"));
    assert_eq!(make.wait().code(), Some(2));
    assert!(!make.output.whole().contains("open http://"), "{}", make.output.whole());
    assert!(make.log.whole().contains("address already in use"), "{}", make.log.whole());
}

#[test]
fn make_names_all_that_is_missing_at_once_with_what_installs_it() {
    let bare = Folder::new();
    for program in ["sh", "dirname", "sed", "sort", "head", "mktemp", "rm"] {
        symlink(program_of_the_path(program), bare.join(program)).expect("a private folder is writable");
    }
    let fake = |name: &str, script: &str| {
        let path = bare.write(name, &format!("#!/bin/sh\n{script}\n"));
        fs::set_permissions(path, fs::Permissions::from_mode(0o755)).expect("the script is ours");
    };
    let stranger = |lacks: &str, sentences: &[&str]| {
        let mut command = make(&["serve"]);
        // Cargo says which one it is to the programs that it runs.
        command.env("PATH", bare.path()).env_remove("CARGO").env_remove("PYTHON");
        let mut process = Process::start(&mut command, &format!("{} {lacks}", bare.path().display()));
        assert_eq!(process.wait().code(), Some(2), "{lacks}");
        let said = process.output.whole();
        for sentence in sentences {
            assert!(said.contains(sentence), "{sentence:?} is not in\n{said}");
        }
        assert_eq!(said.lines().count(), sentences.len(), "{said}");
    };
    stranger(
        "all",
        &[
            "cargo is missing: Rust 1.91 or later",
            "rustup",
            "cc is missing",
            "apt-get install gcc libc6-dev",
            "python3 is missing: CPython 3.10 or later",
            "apt-get install python3 python3-venv",
        ],
    );
    fake("cargo", "echo cargo 1.65.0");
    fake("cc", "exit 1");
    fake("python3", "case \"$2\" in *ensurepip*) exit 1;; esac");
    stranger(
        "what is of use",
        &[
            "cargo is of Rust 1.65.0, which is too old: ostler needs 1.91 or later",
            "rustup",
            "cc links no programs",
            "apt-get install libc6-dev",
            "python3 cannot make virtual environments",
            "apt-get install python3-venv",
        ],
    );
    fake("cargo", "echo cargo 1.100.1");
    fake("cc", "exit 0");
    fake("python3", "exit 1");
    stranger("a later Python", &["python3 is older than CPython 3.10", "make PYTHON=python3.12"]);
}

pub fn make(words: &[&str]) -> Command {
    let mut command = Command::new(program_of_the_path("make"));
    command.arg("--no-print-directory").args(words).current_dir(repository("")).stdin(Stdio::null()).process_group(0);
    // If make runs the tests, its flags are in the environment. They are not for this make.
    for name in ["MAKEFLAGS", "MAKELEVEL", "MFLAGS", "MAKEOVERRIDES"] {
        command.env_remove(name);
    }
    command
}

fn program_of_the_path(name: &str) -> PathBuf {
    let path = std::env::var_os("PATH").expect("tests run programs");
    std::env::split_paths(&path)
        .map(|folder| folder.join(name))
        .find(|path| path.exists())
        .expect("every machine has it")
}

fn free_port() -> u16 {
    let listener = TcpListener::bind("127.0.0.1:0").expect("the loopback has ports");
    listener.local_addr().expect("a bound socket has an address").port()
}
