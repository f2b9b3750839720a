//! Each incident of `docs/incidents.md` is provoked by a test, and what ostler says of it is what the page quotes.

use std::{fs, os::unix::fs::symlink};

use nix::sys::signal::Signal;
use ostler_tests::{Gate, Python, Rig, Site, repository};

use crate::pages::page;

#[test]
fn each_incident_of_the_page_is_provoked_by_a_test() {
    let files = fs::read_dir(repository("tests/promises")).expect("the folder is there").flatten();
    let files = files.filter_map(|file| fs::read_to_string(file.path()).ok());
    let tests: Vec<String> =
        files.flat_map(|file| file.split("#[test]\n").skip(1).map(body).collect::<Vec<_>>()).collect();
    let messages = fs::read_to_string(repository("docs/messages.md")).expect("the page is text");
    let page = fs::read_to_string(repository("docs/incidents.md")).expect("the page is text");
    let rows: Vec<&str> = page.lines().filter(|line| line.starts_with("| ") && !line.starts_with("| seen |")).collect();
    assert!(rows.len() >= 20, "{} rows", rows.len());
    for row in rows {
        let names = row.rsplit_once("<!-- ").and_then(|(_, rest)| rest.strip_suffix(" --> |"));
        let names = names.unwrap_or_else(|| panic!("no test is named at the end of {row}"));
        let found = names.split(' ').map(|name| {
            let head = format!("fn {name}()");
            tests
                .iter()
                .find(|test| test.starts_with(&head))
                .unwrap_or_else(|| panic!("there is no test {name}: {row}"))
        });
        let found: String = found.map(String::as_str).collect();
        let said = row.split(" | ").nth(1).expect("a row has three columns");
        for phrase in said.split('`').skip(1).step_by(2) {
            let known = found.contains(phrase) || phrase.starts_with("ostler ") || phrase.starts_with("--");
            assert!(known || messages.contains(&format!("| `{phrase}`")), "no test of this row says {phrase:?}: {row}");
        }
        let phrases = said.split('`').skip(1).step_by(2).filter(|phrase| !phrase.starts_with("ostler "));
        assert!(phrases.into_iter().any(|phrase| found.contains(phrase)), "nothing of this row is looked for: {row}");
    }
}

/// From the name of a function to its end.
fn body(text: &str) -> String {
    text.split_once("\n}\n").map_or(text, |(body, _)| body).to_owned()
}

const HARMS: &str = r#"
import ctypes, os, sys, threading, time

first, second = threading.Lock(), threading.Lock()
both = threading.Barrier(2)
held = []

def lock(one, other):
    with one:
        both.wait()
        with other:
            pass

def one_way():
    lock(first, second)

def other_way():
    lock(second, first)

def hang():
    threading.Event().wait()

def abort():
    os.abort()

def fault():
    ctypes.string_at(0)

def overflow():
    sys.setrecursionlimit(10**9)
    def deeper():
        again()
        # From 3.14 on CPython looks at the stack's end itself, and the innermost callback fails in its place.
        ctypes.string_at(0)
    again = ctypes.CFUNCTYPE(None)(deeper)
    again()

def memory():
    bytearray(2**50)

def threads():
    while True:
        threading.Thread(target=hang, daemon=True).start()

def descriptors():
    try:
        while True:
            held.append(os.open('/dev/null', os.O_RDONLY))
    except OSError:
        pass

def app(environ, start_response):
    name = environ['PATH_INFO'][1:]
    if name:
        globals()[name]()
    start_response('200 OK', [('Content-Type', 'text/plain')])
    return [b'x' * (20 << 20) if name == 'big' else b'well']

def big():
    pass
"#;

#[test]
fn a_hung_request_is_told_with_its_place_and_its_age() {
    let site = Rig::with_source(HARMS).option("--timeout", "1").option("--graceful-timeout", "1").start();
    assert_eq!(site.get("/hang").status, 504);
    let line = site.log("request timed out");
    assert!(line.text().contains("GET /hang HTTP/1.1") && line.number("age_ms") >= 1000, "{}", line.text());
    site.log("in hang");
}

#[test]
fn threads_that_wait_for_each_other_are_shown_where_they_wait() {
    let rig = Rig::with_source(HARMS).option("--threads", "2").option("--timeout", "2");
    let site = rig.option("--graceful-timeout", "1").start();
    let mut clients = [site.connect(), site.connect()];
    for (client, target) in clients.iter_mut().zip(["/one_way", "/other_way"]) {
        client.ask(target);
    }
    for client in &mut clients {
        assert_eq!(client.answer().status, 504);
    }
    let told = [site.log("request timed out"), site.log("request timed out")].map(|line| line.text().to_owned());
    for target in ["GET /one_way", "GET /other_way"] {
        assert!(told.iter().any(|line| line.contains(target)), "{told:?}");
    }
    // Line 11 of the application takes the second lock.
    for place in ["line 11 in lock", "in one_way", "in other_way"] {
        site.log(place);
    }
    assert_eq!(site.get("/").text(), "well");
}

#[test]
fn a_crash_is_told_with_its_signal_its_request_and_its_stack() {
    for (harm, signal) in [("fault", "SIGSEGV"), ("abort", "SIGABRT"), ("overflow", "SIGSEGV")] {
        let site = Rig::with_source(HARMS).start();
        site.connect().ask(&format!("/{harm}")).try_answer().expect_err("nobody is left to answer");
        site.log("Fatal Python error");
        site.log(if harm == "overflow" { "in deeper" } else { "in app" });
        let lost = site.log("worker lost");
        assert_eq!(lost.key("exit"), Some(signal), "{}", lost.text());
        assert!(lost.text().contains(&format!("GET /{harm} HTTP/1.1")), "{}", lost.text());
        assert_eq!(site.get("/").text(), "well");
    }
}

#[test]
fn slow_clients_are_named_for_what_they_were_slow_with() {
    let rig = Rig::with_source(HARMS).option("--header-timeout", "0.3").option("--body-timeout", "0.3");
    let site = rig.option("--write-timeout", "0.3").start();
    for (begun, reason) in [
        ("GET / HTTP/1.1\r\nHo", "the head did not come within --header-timeout"),
        ("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 9\r\n\r\nhal", "the body paused for --body-timeout"),
    ] {
        assert_eq!(site.connect().send(begun).answer().status, 408);
        let line = site.log("request refused");
        assert_eq!((line.key("reason"), line.key("status")), (Some(reason), Some("408")));
    }
    let mut reader = site.connect();
    reader.ask("/big");
    reader.is_reset();
    let line = site.log("response cut");
    assert!(line.text().contains("GET /big HTTP/1.1") && line.number("left") > 0, "{}", line.text());
}

#[test]
fn a_recycled_worker_says_why() {
    let site = Rig::with_source(HARMS).option("--max-requests", "1").start();
    assert_eq!(site.get("/").text(), "well");
    assert_eq!(site.log("worker replaced").key("reason"), Some("max-requests"));
}

#[test]
fn a_broken_release_says_in_which_way() {
    let site = Rig::with_source(HARMS).option("--boot-timeout", "4").start();
    for (source, said) in [
        ("def app(:\n", ["SyntaxError", "app.py\", line 1"]),
        ("import no_such_module\n", ["ModuleNotFoundError", "Traceback"]),
        (
            "def late():\n    import threading\n    threading.Event().wait()\nlate()\n",
            ["it is still importing", "in late"],
        ),
        ("import os\nos._exit(5)\n", ["ended while importing", "exit status 5"]),
        ("import os\nos.abort()\n", ["ended while importing", "SIGABRT"]),
        ("import ctypes\nctypes.string_at(0)\n", ["ended while importing", "SIGSEGV"]),
    ] {
        site.folder().write("app.py", source);
        site.control(&["reload"]).says(10, &said);
        assert!(site.log("generation discarded").text().contains(said[0]), "{said:?}");
        assert_eq!(site.get("/").text(), "well");
    }
}

/// A site whose settings and interpreter the test may change.
fn replaceable() -> Site {
    let rig = Rig::with_source(HARMS).file("own.toml", "threads = 1\n").option("--config", "own.toml");
    let python = rig.folder().join("python");
    symlink(&Python::usual().executable, &python).expect("a private folder is writable");
    rig.interpreter(python).start()
}

#[test]
fn broken_settings_and_interpreters_are_told_by_a_reload() {
    let site = replaceable();
    let discarded = |code: i32, said: &str| {
        site.control(&["reload"]).says(code, &[said]);
        assert!(site.log("generation discarded").text().contains(said), "{said}");
        assert_eq!(site.get("/").text(), "well");
    };
    site.folder().write("own.toml", "thread = 1\n");
    discarded(2, "there is no setting thread; the nearest is ");
    fs::remove_file(site.folder().join("own.toml")).expect("it is there");
    discarded(2, "own.toml: no such file or directory");
    site.folder().write("own.toml", "threads = 1\n");
    let python = site.folder().join("python");
    fs::remove_file(&python).expect("it is there");
    discarded(13, &format!("could not run {}: no such file or directory", python.display()));
    symlink("/bin/true", &python).expect("a private folder is writable");
    discarded(13, "it ended without a word");
}

#[test]
fn an_interpreter_that_hangs_is_told() {
    let site = replaceable();
    let python = site.folder().join("python");
    let gate = Gate::new();
    fs::remove_file(&python).expect("it is there");
    let hangs = format!("#!{}\n{}\n", Python::usual().executable.display(), gate.statement());
    site.folder().write("hangs", &hangs);
    fs::set_permissions(site.folder().join("hangs"), std::os::unix::fs::PermissionsExt::from_mode(0o755))
        .expect("ours");
    symlink("hangs", &python).expect("a private folder is writable");
    site.control(&["reload"]).says(13, &["could not run ", "it gave no answer within "]);
    assert_eq!(site.get("/").text(), "well");
}

#[test]
fn an_upgrade_that_is_refused_says_why() {
    let site = Rig::with_source(&page("one")).installed().start();
    let daemon = site.folder().join("bin/ostler");
    let good = site.folder().join("bin/good");
    fs::rename(&daemon, &good).expect("a private folder is writable");
    for reason in ["no such file or directory", "exit status 1"] {
        site.control_of(&good, &["upgrade"]).says(14, &[reason]);
        let line = site.log("upgrade failed");
        assert!(line.key("reason").is_some_and(|why| why.contains(reason)), "{}", line.text());
        fs::copy("/bin/false", &daemon).expect("a private folder is writable");
    }
    assert_eq!(site.get("/").text(), "one");
}

#[test]
fn a_name_that_is_taken_is_refused() {
    let site = Rig::with_source(HARMS).start();
    let control = site.folder().join("control.sock").display().to_string();
    let second = Rig::with_source(HARMS).option("--bind", "127.0.0.1:0").option("--control", &control);
    second.run(&[]).says(14, &[&format!("could not open the control socket {control}: another process answers there")]);
    assert_eq!(site.get("/").text(), "well");
}

#[test]
fn descriptors_memory_and_threads_that_run_out_are_named() {
    let site = Rig::with_source(HARMS).limited("ulimit -n 128; ulimit -v 4000000").start();
    for (harm, raised) in [("/memory", "MemoryError"), ("/threads", "can't start new thread")] {
        assert_eq!(site.get(harm).status, 500);
        assert!(site.log("application raised").text().contains(harm));
        site.log(raised);
    }
    assert_eq!(site.get("/descriptors").text(), "well");
    // Of the connections that come now none finds a place. This one is the worker's only one, so the application has the rest.
    site.connect().ask("/");
    let line = site.log("accepting paused");
    assert_eq!((line.key("limit"), line.key("value")), (Some("open files (ulimit -n)"), Some("128")));
    assert!(line.number("connections") <= 2, "{}", line.text());
}

#[test]
fn a_socket_file_that_was_deleted_is_made_again_and_said() {
    let rig = Rig::with_source(HARMS);
    let socket = rig.folder().join("site.sock");
    let site = rig.bind(&format!("unix:{}", socket.display())).start();
    fs::remove_file(&socket).expect("it is there");
    let told = site.control(&["status"]);
    let gone = format!("! unix:{}: the socket's file was removed or replaced", socket.display());
    assert!(told.code == 1 && told.output.contains(&gone), "{told:?}");
    site.signal(Signal::SIGHUP);
    site.log("listening");
    site.log("generation draining");
    assert!(!site.control(&["status"]).output.contains(&gone));
    assert_eq!(site.get("/").text(), "well");
}
