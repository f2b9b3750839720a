//! What `make install` and the packages put on a machine serves there, and is all that they put there.

use std::{fs, path::Path};

use ostler_tests::{Folder, Process, Rig, repository};

use crate::two_commands_are_enough::make;

#[test]
fn make_install_leaves_a_program_that_serves_and_uninstall_takes_it_away() {
    let root = Folder::new();
    let staged = format!("DESTDIR={}", root.path().display());
    // As under sudo, whose PATH has no cargo.
    let words = ["PROFILE=dev", "CARGO=/no/cargo", "PREFIX=/opt/o", &staged];
    let mut process = Process::start(&mut make(&[&["install"], &words[..]].concat()), "make install");
    assert!(process.wait().success(), "{}", process.log.whole());
    let said = process.output.whole();
    let installed: Vec<_> = said.lines().filter_map(|line| line.strip_prefix("installed ")).map(Path::new).collect();
    assert_eq!(installed.len(), files(root.path()), "{said}");
    assert!(installed.iter().all(|file| file.is_file()), "{said}");
    let unit = root.read("opt/o/lib/systemd/system/ostler.service");
    assert!(unit.contains("\nExecStart=/opt/o/bin/ostler --config"), "{unit}");
    assert!(unit.contains("\nExecReload=/opt/o/bin/ostler reload"), "{unit}");

    let site = Rig::new("corners.py").executable(root.join("opt/o/bin/ostler")).start();
    assert_eq!(site.get("/hello").text(), "hello\n");
    drop(site);
    let mut process = Process::start(&mut make(&[&["uninstall"], &words[..]].concat()), "make uninstall");
    assert!(process.wait().success(), "{}", process.log.whole());
    assert_eq!(files(root.path()), 0);
}

#[test]
fn make_install_builds_nothing() {
    let root = Folder::new();
    let staged = format!("DESTDIR={}", root.path().display());
    let mut process = Process::start(&mut make(&["install", "PROFILE=no-such", &staged]), "make install nothing");
    assert_eq!(process.wait().code(), Some(2));
    assert_eq!(
        process.output.whole(),
        "there is nothing to install in target/no-such: say `make build PROFILE=no-such` first"
    );
    assert_eq!(files(root.path()), 0);
}

#[test]
fn each_setting_of_the_example_exists() {
    let text = fs::read_to_string(repository("packaging/example.toml")).expect("a file of the repository");
    let setting = |line: &str| line.split_once(" = ").is_some_and(|(key, _)| !key.contains(' '));
    let settings: Vec<_> =
        text.lines().filter_map(|line| line.strip_prefix("# ")).filter(|line| setting(line)).collect();
    assert!(settings.len() > 10, "{text}");
    // The places that the example names are not on this machine, and nothing is bound by `settings`.
    let rig = Rig::bare().file("example.toml", &settings.join("\n").replace("/srv/shop/.venv", "python3"));
    rig.run(&["settings", "--config", "example.toml", "--chdir", "."]).says(0, &[]);
}

/// How many files a folder holds.
fn files(folder: &Path) -> usize {
    let entries = fs::read_dir(folder).expect("it is there").flatten();
    entries.map(|entry| if entry.path().is_dir() { files(&entry.path()) } else { 1 }).sum()
}
