//! What `make install` and the packages put on a machine serves there, and is all that they put there.

use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
};

use ostler_tests::{Folder, Process, Python, Rig, built, repository};

use crate::two_commands_are_enough::make;

#[test]
fn make_install_leaves_a_program_that_serves_and_uninstall_takes_it_away() {
    let folder = Folder::new();
    let root = folder.join("a b");
    let staged = format!("DESTDIR={}", root.display());
    // As under sudo, whose PATH has no cargo.
    let words = ["PROFILE=dev", "CARGO=/no/cargo", "PREFIX=/opt/o", &staged];
    let mut process = Process::start(&mut make(&[&["install"], &words[..]].concat()), "make install");
    assert!(process.wait().success(), "{}", process.log.whole());
    let said = process.output.whole();
    let installed: Vec<_> = said.lines().filter_map(|line| line.strip_prefix("installed ")).map(Path::new).collect();
    assert_eq!(installed.len(), files(&root), "{said}");
    assert!(installed.iter().all(|file| file.is_file()), "{said}");
    let unit = fs::read_to_string(root.join("opt/o/lib/systemd/system/ostler.service")).unwrap();
    assert!(unit.contains("\nExecStart=/opt/o/bin/ostler --config"), "{unit}");
    assert!(unit.contains("\nExecReload=/opt/o/bin/ostler reload"), "{unit}");

    let rig = Rig::new("corners.py").executable(root.join("opt/o/bin/ostler"));
    let checked = rig.run(&["check"]);
    let engine = root.join("opt/o/lib/ostler/libostler_engine.so");
    assert!(checked.output.contains(&*engine.to_string_lossy()), "{checked:?}");
    let site = rig.start();
    assert_eq!(site.get("/hello").text(), "hello\n");
    drop(site);
    let mut process = Process::start(&mut make(&[&["uninstall"], &words[..]].concat()), "make uninstall");
    assert!(process.wait().success(), "{}", process.log.whole());
    assert_eq!(files(&root), 0);
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
fn the_wheel_serves_with_the_python_of_its_environment() {
    let folder = Folder::new();
    let wheel = wheel(&folder);
    for python in Python::every() {
        let environment = folder.join(&python.version);
        let at = |name: &str| environment.join(name);
        done(Command::new(&python.executable).args(["-m", "venv", "--without-pip"]).arg(&environment));
        let install = ["-m", "pip", "--python", &at("bin/python").display().to_string(), "install", "--no-index"];
        done(Command::new(&python.environment().python).args(install).arg(&wheel));

        let minor = python.version.rsplit_once('.').expect("a version has three numbers").0;
        let packages =
            fs::read_dir(at(&format!("lib/python{minor}/site-packages"))).expect("venv has made it").flatten();
        let mut packages: Vec<_> =
            packages.map(|entry| entry.file_name().into_string().expect("an ASCII name")).collect();
        packages.sort();
        assert_eq!(packages, ["ostler", concat!("ostler-", env!("CARGO_PKG_VERSION"), ".dist-info"), "ostler.pth"]);
        let site = Rig::new("corners.py").without_python().executable(at("bin/ostler")).start();
        assert_eq!(site.get("/hello").text(), "hello\n");
        assert_eq!(site.log("application imported").key("executable"), at("bin/python").to_str());
        drop(site);
        let said = done(Command::new(at("bin/python")).args(["-m", "ostler", "--version"]));
        let version =
            done(Command::new(at("bin/python")).args(["-c", "import ostler; print('ostler', ostler.__version__)"]));
        assert_eq!(said, version);
    }
}

#[test]
fn the_package_serves_with_the_python_that_runs_it_wherever_pip_puts_it() {
    let folder = Folder::new();
    let [pip, python] = [&Python::usual().environment().python, &Python::usual().executable];
    done(
        Command::new(pip)
            .args(["-m", "pip", "install", "--no-index", "--target"])
            .arg(folder.path())
            .arg(wheel(&folder)),
    );
    let settings = ["-m", "ostler", "settings", "app:app"];
    let ask =
        |command: &mut Command| done(command.args(settings).env("PYTHONPATH", folder.path()).env_remove("VIRTUAL_ENV"));
    let set_by = |said: &str, text: &str| said.lines().any(|line| line.starts_with("python ") && line.contains(text));
    let said = ask(&mut Command::new(python));
    assert!(set_by(&said, "OSTLER_PYTHON") && set_by(&said, &python.display().to_string()), "{said}");
    // What the operator has named is stronger.
    let said = ask(Command::new(python).env("OSTLER_PYTHON", pip));
    assert!(set_by(&said, &pip.display().to_string()), "{said}");
}

/// Made of what the tests run, not of a release: its size says nothing.
pub fn wheel(folder: &Folder) -> PathBuf {
    let programs = built("ostler");
    let programs = programs.parent().expect("a file is in a folder");
    let made = folder.join("dist");
    done(Command::new("python3").arg(repository("packaging/wheel.py")).arg(programs).arg(&made));
    let found = fs::read_dir(made).expect("it was just written").flatten().map(|entry| entry.path());
    found.into_iter().find(|path| path.extension().is_some_and(|ending| ending == "whl")).expect("a wheel was made")
}

/// Its output.
pub fn done(command: &mut Command) -> String {
    let output = command.output().unwrap_or_else(|error| panic!("{command:?}: {error}"));
    assert!(output.status.success(), "{command:?}: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).expect("it speaks UTF-8")
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
