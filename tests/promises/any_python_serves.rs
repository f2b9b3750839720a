//! The daemon links no Python and serves on every interpreter: the application sees the same as a program run by the interpreter itself.

use std::{os::unix::fs::symlink, process::Command};

use ostler_tests::{Folder, Python, Rig, UNSET, built, repository};

#[test]
fn the_daemon_links_no_python() {
    let linked = Command::new("ldd").arg(built("ostler")).output().expect("ldd is a part of the C library");
    let linked = String::from_utf8_lossy(&linked.stdout);
    assert!(linked.contains("libc.so"), "{linked}");
    assert!(!linked.contains("python"), "{linked}");
}

#[test]
fn an_application_sees_what_its_interpreter_shows() {
    for python in Python::every() {
        for language in [None, Some("C"), Some("C.UTF-8"), Some("POSIX")] {
            compare(python, language);
        }
    }
}

fn compare(python: &Python, language: Option<&str>) {
    let apps = repository("tests/apps");
    let mut alone = Command::new(&python.environment().python);
    alone.arg(apps.join("interpreter.py")).env_remove("RIG_OF_THE_TEST");
    let mut rig = Rig::new("interpreter").python(python).option("--chdir", apps.to_str().expect("a plain path"));
    for name in ["LANG", "LC_ALL", "LC_CTYPE", "PYTHONUTF8", "PYTHONIOENCODING", "PYTHONCOERCECLOCALE"] {
        alone.env_remove(name);
        rig = rig.without_env(name);
    }
    for name in UNSET {
        alone.env_remove(name);
    }
    if let Some(language) = language {
        alone.env("LANG", language);
        rig = rig.env("LANG", language);
    }
    let alone = alone.output().expect("the interpreter runs");
    assert!(alone.status.success(), "{}", String::from_utf8_lossy(&alone.stderr));
    let shown = String::from_utf8(alone.stdout).expect("JSON is ASCII");
    let served = rig.start().get("/");
    let differing: Vec<_> = shown.trim_end().lines().zip(served.text().lines()).filter(|(a, b)| a != b).collect();
    assert_eq!(differing, [], "shown and served on CPython {} with LANG {language:?}", python.version);
    assert_eq!(shown.trim_end().lines().count(), served.text().lines().count());
    if shown.contains("\"numpy\": null") {
        eprintln!("NOT TESTED: numpy on CPython {}, for which there is none yet", python.version);
    }
}

#[test]
fn without_an_option_the_active_environment_serves() {
    let environment = Python::usual().environment();
    let rig =
        Rig::with_source(SHOW_PREFIX).without_python().env("VIRTUAL_ENV", environment.path.to_str().expect("plain"));
    assert_eq!(rig.start().get("/").text(), environment.path.display().to_string());
}

#[test]
fn without_an_active_environment_the_one_beside_the_application_serves() {
    let environment = Python::usual().environment();
    let rig = Rig::with_source(SHOW_PREFIX).without_python();
    symlink(&environment.path, rig.folder().join(".venv")).expect("a private folder is writable");
    let beside = rig.folder().join(".venv").display().to_string();
    assert_eq!(rig.start().get("/").text(), beside);
}

#[test]
fn without_any_environment_python3_of_the_path_serves() {
    let python = Python::usual();
    let folder = Folder::new();
    symlink(&python.executable, folder.join("python3")).expect("a private folder is writable");
    let rig = Rig::with_source(SHOW_PREFIX).without_python().env("PATH", folder.path().to_str().expect("plain"));
    let alone =
        Command::new(folder.join("python3")).args(["-c", "import sys; print(sys.prefix)"]).output().expect("runs");
    assert_eq!(rig.start().get("/").text(), String::from_utf8_lossy(&alone.stdout).trim_end());
}

#[test]
fn an_environment_is_named_by_its_folder_too() {
    let environment = Python::usual().environment();
    let site = Rig::with_source(SHOW_PREFIX).interpreter(&environment.path).start();
    assert_eq!(site.get("/").text(), environment.path.display().to_string());
}

#[test]
fn check_says_which_interpreter_it_found() {
    for python in Python::every() {
        let checked = Rig::new("corners.py").python(python).run(&["check"]);
        assert_eq!(checked.code, 0, "{checked:?}");
        let said = checked.output + &checked.error;
        assert!(said.contains(&python.version), "{said}");
        assert!(said.contains(python.environment().python.to_str().expect("a plain path")), "{said}");
    }
}

#[test]
fn an_unusable_interpreter_is_refused_in_one_sentence() {
    let rig = || Rig::new("corners.py");
    let missing = rig().interpreter("/no/such/python").refuse();
    missing.says(INTERPRETER, &["/no/such/python"]);
    let other = rig().interpreter("/bin/true").refuse();
    other.says(INTERPRETER, &["/bin/true"]);
    let folder = Folder::new();
    let empty = rig().interpreter(folder.path()).refuse();
    empty.says(INTERPRETER, &[folder.path().to_str().expect("plain")]);
}

#[test]
fn an_environment_of_another_version_is_refused() {
    let python = Python::usual();
    let folder = Folder::new();
    folder.write("pyvenv.cfg", "home = /usr/bin\nversion = 3.99.1\n");
    std::fs::create_dir(folder.join("bin")).expect("a private folder is writable");
    symlink(&python.executable, folder.join("bin/python")).expect("a private folder is writable");
    let refused = Rig::new("corners.py").interpreter(folder.path()).refuse();
    refused.says(INTERPRETER, &["was made for Python 3.99"]);
}

const INTERPRETER: i32 = 13;

const SHOW_PREFIX: &str = "
import sys
def app(environ, start_response):
    start_response('200 OK', [('Content-Type', 'text/plain')])
    return [sys.prefix.encode()]
";
