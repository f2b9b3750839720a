//! How an application is found, and what it then sees of its interpreter and of the processes around it.

use std::{fs, process::Command};

use nix::sys::wait::WaitStatus;
use ostler_wire::{BootFailureKind, FromWorker, Preload};

use crate::rig::{apps, plan, pythons};

#[test]
fn an_application_has_many_names() {
    for (spec, answer) in [
        ("named", "(['named'], 'named')"),
        ("named:app", "(['named:app'], 'named')"),
        ("named:Holder.inner", "(['named:Holder.inner'], 'named')"),
        ("named:make('hi:')", "hi:."),
        ("named:make('hi', punctuation='!')", "hi!"),
        ("named.py", "(['named.py'], 'named')"),
        ("./named.py:make('hi.py')", "hi.py."),
        ("folder/beside.py", "imported from the same folder"),
        ("folder/beside.py:application", "imported from the same folder"),
    ] {
        assert_eq!(plan(spec).serve().get("/").body, answer, "{spec}");
    }
}

#[test]
fn what_cannot_be_found_is_told_in_a_sentence() {
    use BootFailureKind::{Application, Import};
    for (spec, kind, message, traceback) in [
        ("missing", Import, "No module named 'missing', looked for with /", ""),
        ("missing.py", Import, "could not import missing.py: FileNotFoundError:", ""),
        (
            "broken",
            Import,
            "could not import broken: ModuleNotFoundError: No module named 'no_such_module_anywhere'",
            "line 2, in begin\n",
        ),
        ("misspelled", Import, "could not import misspelled: SyntaxError: invalid syntax", "def application(:"),
        ("json", Application, r#"json has neither "application" nor "app"; it was looked for in /"#, ""),
        ("site:app", Application, "/site.py, which is Python's own: give yours another name", ""),
        ("named:nothing", Application, r#"named has no attribute "nothing"; it was looked for in /"#, ""),
        ("named:number", Application, "named:number is not callable, it is of type int", ""),
        ("named:number()", Application, "named:number is not callable, it is of type int", ""),
        ("named:make_nothing()", Application, "what named:make_nothing() returned is not callable", ""),
        (
            "named:make_trouble()",
            Application,
            "the factory named:make_trouble raised OSError: no trouble spared",
            "in make_trouble",
        ),
        ("named:make(open('x'))", Application, "is neither an attribute nor a call with literal arguments", ""),
        ("named:1 + 1", Application, "is neither an attribute nor a call with literal arguments", ""),
    ] {
        let bare = ["missing", "missing.py"].contains(&spec);
        let failure = plan(spec).boot().err().unwrap_or_else(|| panic!("{spec} has booted"));
        assert_eq!(failure.kind, kind, "{spec}: {failure:?}");
        assert!(failure.message.contains(message), "{spec}: {failure:?}");
        assert!(failure.traceback.contains(traceback), "{spec}: {failure:?}");
        assert!(!bare || failure.traceback.is_empty(), "{spec}: {failure:?}");
        for ours in ["<ostler", "importlib"] {
            assert!(!failure.traceback.contains(ours), "{spec}: {failure:?}");
        }
    }
}

#[test]
fn a_worker_that_imports_for_itself_says_why_it_could_not() {
    let mut site = plan("broken").with(|boot| boot.preload = Preload::Off).boot().unwrap();
    assert!(!site.loaded.preloaded);
    let FromWorker::Failed(failure) = site.fork(1) else { panic!("it has booted") };
    assert!(failure.traceback.contains("line 2, in begin"), "{failure:?}");
    assert!(matches!(site.wait(), WaitStatus::Exited(_, 3)));
}

#[test]
fn an_application_sees_its_interpreter_as_it_is() {
    for python in pythons() {
        for language in [Some("de_DE.UTF-8"), Some("C"), None] {
            let change = |command: &mut Command| {
                command.env_remove("LC_ALL").env_remove("PYTHONUTF8");
                match language {
                    Some(language) => command.env("LANG", language),
                    None => command.env_remove("LANG"),
                };
            };
            let mut plain = Command::new(&python);
            change(plain.args(["-c", "print(__import__('view').view())"]).current_dir(apps()));
            let plain = plain.stdin(std::process::Stdio::null()).output().unwrap();
            let mut site = plan("view").python(&python).environment("LANG", language).environment("LC_ALL", None);
            site = site.environment("PYTHONUTF8", None);
            let seen = site.serve().get("/").body;
            assert_eq!(seen, String::from_utf8_lossy(&plain.stdout).trim(), "{} LANG={language:?}", python.display());
        }
    }
}

#[test]
fn a_virtual_environment_is_the_applications() {
    for python in pythons() {
        let folder = std::env::temp_dir().join(format!("ostler-venv-{}", std::process::id()));
        let made = Command::new(&python).args(["-m", "venv", "--without-pip"]).arg(&folder).output().unwrap();
        if !made.status.success() {
            // Debian's python3 lacks ensurepip's files, but without pip it can.
            panic!("{}: {made:?}", python.display());
        }
        let seen = plan("view").python(&folder.join("bin/python")).serve().get("/").body;
        fs::remove_dir_all(&folder).unwrap();
        let folder = folder.display();
        assert!(seen.contains(&format!("\"prefix\": \"'{folder}'\"")), "{seen}");
        assert!(seen.contains(&format!("\"executable\": \"'{folder}/bin/python'\"")), "{seen}");
    }
}

#[test]
fn an_import_that_is_unsafe_to_fork_is_named_and_left_to_the_workers() {
    let site = plan("unsafe").serve();
    assert!(!site.loaded.preloaded);
    let found = &site.loaded.unsafe_to_fork;
    for phrase in
        ["thread \"flush-queue\"", "socket listening at 127.0.0.1:", "socket connected to 127.0.0.1:", "pipe pipe:["]
    {
        assert!(found.iter().any(|found| found.starts_with(phrase)), "{phrase} in {found:?}");
    }
    assert!(found.iter().any(|found| found.starts_with("file open for writing: /")), "{found:?}");
    assert!(!found.iter().any(|found| found.contains("unsafe.py")), "{found:?}");
    // Imported once in this process, and its thread lives: nothing is left of the template's own import.
    assert_eq!(site.get("/").body, "x True ['unsafe']");
    let held = fs::read_dir(format!("/proc/{}/fd", site.template_pid())).unwrap();
    let held = held.map(|entry| fs::read_link(entry.unwrap().path()).unwrap().to_string_lossy().into_owned());
    let left: Vec<_> = held.filter(|link| link.contains("(deleted)") && !link.starts_with("/memfd:")).collect();
    assert!(left.is_empty(), "{left:?}");
    assert_eq!(fs::read_link(format!("/proc/{}/cwd", site.template_pid())).unwrap(), apps());
    assert_eq!(fs::read_dir(format!("/proc/{}/task", site.template_pid())).unwrap().count(), 1);
}

/// What collecting.py sees: whether the collector is on, collects, and collects in a child, during the import; then, in a request, whether
/// it is on, collects, its threshold, whether objects are frozen, and whether gc's functions are its own.
#[test]
fn the_collector_rests_during_an_import_and_is_then_as_the_application_wants_it() {
    for (import, seen) in [
        ("gc.set_threshold(777)", "True False True then True True 777 True True"),
        ("gc.set_threshold(777); gc.disable()", "False False False then False False 777 True True"),
        ("gc.set_threshold(777); gc.disable(); gc.enable()", "True True True then True True 777 True True"),
        ("gc.set_threshold(0)", "True False False then True False 0 True True"),
    ] {
        for preload in [Preload::On, Preload::Off] {
            let plan = plan("collecting").environment("COLLECTOR", Some(import)).with(|boot| boot.preload = preload);
            assert_eq!(plan.serve().get("/").body, seen, "{import} {preload:?}");
        }
    }
}

#[test]
fn preload_on_forks_whatever_was_left() {
    let site = plan("unsafe").with(|boot| boot.preload = Preload::On).serve();
    assert!(site.loaded.preloaded);
    assert_eq!(site.get("/").body, "x False ['unsafe']");
}

#[test]
fn a_template_asks_for_the_page_that_warms_it_up() {
    let warm = |url: &str| {
        let url = Some(url.parse().expect("a URL"));
        plan("warm").with(|boot| {
            boot.warm_up = url;
            boot.worker.root_path = "/shop".into();
        })
    };
    let site = warm("https://example.com:8443/shop/a%C3%A9?x=1").serve();
    let asked = site.get("/shop").body;
    assert!(asked.starts_with("https example.com:8443 /shop|/aÃ©?x=1 then http "), "{asked}");
    let site = warm("/shopping").serve();
    let asked = site.get("/shop").body;
    assert!(asked.starts_with("http localhost |/shopping? then http "), "{asked}");
    let site = warm("/shop/raise").serve();
    assert!(site.log("not warmed up").contains("LookupError: no warmth"));
    assert!(site.get("/shop").body.starts_with("http localhost /shop|/raise? then http "));
}

#[test]
fn a_check_imports_and_says_what_it_found() {
    for preload in [Preload::Auto, Preload::Off] {
        let check = |spec| {
            plan(spec).with(|boot| {
                boot.check_only = true;
                boot.preload = preload;
            })
        };
        assert!(check("named").boot().unwrap().loaded.unsafe_to_fork.is_empty());
        assert_eq!(check("broken").boot().err().unwrap().kind, BootFailureKind::Import);
    }
}

#[test]
fn an_engine_refuses_a_master_of_another_version() {
    let failure = plan("named").with(|boot| boot.wire = 77).boot().err().unwrap();
    assert_eq!(failure.kind, BootFailureKind::Interpreter);
    assert!(failure.message.contains("speaks version 77"), "{failure:?}");
}
