//! A Python program serves in its own process (`ostler.WSGIServer`), and starts the daemon (`ostler.serve`, `python -m ostler`).

use std::{fs, os::unix::fs::symlink, path::PathBuf, process::Command};

use nix::sys::signal::Signal::*;
use ostler_tests::{Client, Folder, PATIENCE, Process, Python, built, ends_within, repository};

use crate::what_is_installed_serves::{done, wheel};

/// The package as pip installs it, and programs that use it.
struct Package {
    folder: Folder,
    site: PathBuf,
}

impl Package {
    /// In the places that `pip install --target` gives them, without the time that a wheel takes.
    fn laid_out() -> Package {
        let folder = Folder::new();
        let site = folder.join("site");
        let places = [("ostler", repository("packaging/python/ostler")), ("bin/ostler", built("ostler"))];
        let engine = ("libexec/ostler/libostler_engine.so", built("libostler_engine.so"));
        for (place, source) in places.into_iter().chain([engine]) {
            let place = site.join(place);
            fs::create_dir_all(place.parent().expect("it is in a folder")).expect("a private folder is writable");
            symlink(source, place).expect("a private folder is writable");
        }
        Package { folder, site }
    }

    /// By pip, from a wheel.
    fn install() -> Package {
        let folder = Folder::new();
        let site = folder.join("site");
        let pip = &Python::usual().environment().python;
        let install = ["-m", "pip", "install", "--quiet", "--no-index", "--target"];
        done(Command::new(pip).args(install).arg(&site).arg(wheel(&folder)));
        Package { folder, site }
    }

    fn command(&self, python: &Python, words: &[&str]) -> Command {
        let mut command = Command::new(&python.executable);
        command.args(words).current_dir(self.folder.path()).env("PYTHONPATH", &self.site);
        command.env_remove("VIRTUAL_ENV");
        command
    }

    fn start(&self, python: &Python, words: &[&str]) -> Process {
        Process::start(&mut self.command(python, words), &format!("{words:?} {}", python.version))
    }

    /// A program of tests/programs.
    fn program(&self, python: &Python, name: &str, words: &[&str]) -> Process {
        let path = repository("tests/programs").join(name);
        self.start(python, &[&[path.to_str().expect("a plain path")], words].concat())
    }
}

/// The tool of tests/programs/serves.py, and its address.
fn tool(package: &Package, python: &Python, threads: &str) -> (Process, String) {
    let process = package.program(python, "serves.py", &[threads]);
    let line = process.output.find("port ");
    let port = line.text().trim_start_matches("port ").to_owned();
    (process, format!("http://127.0.0.1:{port}"))
}

#[test]
fn a_server_lives_as_its_program_says() {
    let package = Package::install();
    for python in Python::every() {
        let mut process = package.program(python, "lives.py", &[]);
        let status = process.wait();
        let (said, log) = (process.output.whole(), process.log.whole());
        assert!(status.success() && said == "passed", "CPython {}: {status} {said}\n{log}", python.version);
    }
}

#[test]
fn a_server_in_a_program_is_as_strict_as_the_daemon() {
    let package = Package::laid_out();
    for python in Python::every() {
        let (process, address) = tool(&package, python, "1");
        for (request, status) in [
            ("GET /refused HTTP/1.1\r\n\r\n", 400),
            ("GET /refused HTTP/1.1\r\nHost: a\r\nHost: b\r\n\r\n", 400),
            ("GET /refused HTTP/1.1\r\nHost: a\r\nX : y\r\n\r\n", 400),
            ("GET /refused HTTP/1.1\nHost: a\n\n", 400),
            (
                "POST /refused HTTP/1.1\r\nHost: a\r\nContent-Length: 1\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
                400,
            ),
            ("POST /refused HTTP/1.1\r\nHost: a\r\nContent-Length: +1\r\n\r\nx", 400),
            ("POST /refused HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: gzip\r\n\r\n", 400),
            ("GET /refused HTTP/2.5\r\nHost: a\r\n\r\n", 505),
        ] {
            let answer = Client::connect(&address).send(request).answer();
            assert_eq!(answer.status, status, "{request:?}");
        }
        let mut client = Client::connect(&address);
        assert_eq!(client.get("/kept").text(), "hello");
        assert_eq!(client.post("/posted", "text/plain", &[b'x'; 300_000]).body.len(), 300_000);
        client.send("POST /chunked HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\n\r\n");
        assert_eq!(client.answer().text(), "abc");
        assert_eq!(client.get("/file").body.len(), 1_000_000);
        assert_eq!(client.get("/errors").text(), "hello");
        assert_eq!(process.log.find("for wsgi.errors").text(), "for wsgi.errors");
        assert_eq!(process.output.count("/refused"), 0, "{}", process.output.text());
    }
}

#[test]
fn slow_clients_hold_no_thread_of_a_program() {
    let package = Package::laid_out();
    let (process, address) = tool(&package, Python::usual(), "1");
    let mut slow: Vec<Client> = (0..20).map(|_| Client::connect(&address)).collect();
    for (number, client) in slow.iter_mut().enumerate() {
        client.send(if number % 2 == 0 {
            "GET /slow HT"
        } else {
            "POST /slow HTTP/1.1\r\nHost: a\r\nContent-Length: 9\r\n\r\nx"
        });
    }
    // Takes nothing of a response that is larger than what the kernel holds.
    let mut idle = Client::connect(&address);
    idle.ask("/file");
    process.output.find("GET /file");
    assert_eq!(Client::connect(&address).get("/quick").text(), "hello");
    slow[1].send("12345678");
    assert_eq!(slow[1].answer().text(), "x12345678");
    assert_eq!(idle.answer().body.len(), 1_000_000);
}

#[test]
fn a_signal_interrupts_a_server_that_waits() {
    let package = Package::laid_out();
    for python in Python::every() {
        for threads in ["1", "3"] {
            let (mut process, address) = tool(&package, python, threads);
            let mut client = Client::connect(&address);
            assert_eq!(client.get("/").text(), "hello");
            process.signal(SIGUSR1);
            process.output.find("handled");
            assert_eq!(client.get("/").text(), "hello");
            process.signal(SIGINT);
            process.output.find("interrupted");
            assert!(process.wait().success(), "{}", process.log.whole());
            assert_eq!(client.rest().0, b"");
        }
    }
}

/// Says neither its address nor its port: the daemon does. It has no `if __name__ == "__main__"`.
const STARTS: &str = "
import os, sys
import ostler

def app(environ, start_response):
    start_response('200 OK', [])
    return [f'{sys.version.split()[0]} {os.environ[\"SAID\"]}'.encode()]

ostler.serve(app, bind='127.0.0.1:0', workers=1, threads=2, env={'SAID': 'a=b'}, sendfile=False, keep_previous=True)
print('returned', os.getpid(), flush=True)
";

#[test]
fn a_program_starts_the_daemon_and_waits_for_its_end() {
    let package = Package::laid_out();
    package.folder.write("starts.py", STARTS);
    for python in Python::every() {
        let mut process = package.start(python, &["starts.py"]);
        let address = process.log.find("listening").key("address").expect("an address").to_owned();
        process.log.find("generation serving");
        let shown = Client::connect(&address).get("/");
        assert_eq!(shown.text(), format!("{} a=b", python.version));
        // What is sent to the program is meant for the daemon.
        process.signal(SIGHUP);
        assert_eq!(process.log.find("generation serving").number("generation"), 2);
        process.signal(SIGINT);
        process.log.find("stopped");
        process.output.find(&format!("returned {}", process.pid()));
        assert!(process.wait().success());
        assert_eq!(process.log.count("starting"), 1, "one daemon: {}", process.log.whole());
    }
}

#[test]
fn a_daemon_ends_with_the_program_that_started_it() {
    let package = Package::laid_out();
    package.folder.write("starts.py", STARTS);
    let mut process = package.start(Python::usual(), &["starts.py"]);
    let line = process.log.find("starting");
    let master = line.number("pid");
    process.log.find("generation serving");
    process.signal(SIGKILL);
    process.wait();
    assert!(ends_within(master, PATIENCE), "the daemon has outlived its program");
}

#[test]
fn what_serve_cannot_do_it_says_before_anything_starts() {
    let package = Package::laid_out();
    let python = Python::usual();
    package
        .folder
        .write("site_of_another.py", "def app(environ, start_response): pass\ndef make():\n    return lambda: 0\n");
    for (call, words) in [
        ("ostler.serve('a:b', wrokers=2)", &["TypeError", "wrokers", "did you mean workers?"][..]),
        ("ostler.serve('a:b', host='::1')", &["TypeError", "no setting host; say where to listen as bind="]),
        ("ostler.serve(5)", &["TypeError", "not callable", "int"]),
        ("ostler.serve(lambda environ, start_response: None)", &["TypeError", "find", "WSGIServer"]),
        ("import site_of_another as s; ostler.serve(s.make())", &["TypeError", "module:make_app()"]),
        ("ostler.serve('a:b', workers=object())", &["TypeError", "workers", "object"]),
    ] {
        let mut process = package.start(python, &["-c", &format!("import ostler; {call}")]);
        assert_eq!(process.wait().code(), Some(1), "{call}");
        let log = process.log.whole();
        assert!(words.iter().all(|word| log.contains(word)) && !log.contains("starting"), "{call}: {log}");
    }
    for (call, code, words) in [
        ("ostler.serve('site_of_another:app', workers='x')", 2, &["--workers", "\"x\""][..]),
        ("ostler.serve('site_of_another:missing', bind='127.0.0.1:0')", 11, &["missing"]),
    ] {
        let mut process = package.start(python, &["-c", &format!("import ostler; {call}")]);
        let status = process.wait();
        let log = process.log.whole();
        assert!(words.iter().all(|word| log.contains(word)), "{call}: {log}");
        assert_eq!(status.code(), Some(code), "{call}: {log}");
    }
    let ask = "import ostler.daemon, site_of_another as s, sys; print(ostler.daemon.name_of(s.app, sys._getframe()))";
    assert_eq!(done(&mut package.command(python, &["-c", ask])), "site_of_another:app\n");
}

#[test]
fn python_m_ostler_is_the_daemon() {
    let package = Package::laid_out();
    package.folder.write("shown.py", "import sys\ndef app(environ, start_response):\n    start_response('200 OK', [])\n    return [sys.version.split()[0].encode()]\n");
    for python in Python::every() {
        let mut process =
            package.start(python, &["-m", "ostler", "shown:app", "--bind", "127.0.0.1:0", "--workers", "1"]);
        let address = process.log.find("listening").key("address").expect("an address").to_owned();
        process.log.find("generation serving");
        assert_eq!(Client::connect(&address).get("/").text(), python.version);
        process.signal(SIGTERM);
        assert!(process.wait().success());
    }
}
