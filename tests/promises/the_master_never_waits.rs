//! Nothing that a log, a client, an interpreter or a file does makes the master wait, nor a worker's loop.

use std::{
    fs::{File, OpenOptions},
    io::{BufRead, BufReader, Read},
    os::{fd::AsFd, unix::fs::OpenOptionsExt},
    path::Path,
};

use nix::{sys::stat::Mode, unistd::mkfifo};
use ostler_tests::{Rig, Site};

/// What a pipe holds (pipe(7)).
const PIPE: usize = 64 * 1024;
/// What a worker keeps of its access log while it cannot be written.
const KEPT: usize = 256 * 1024;

fn fifo(path: &Path) {
    mkfifo(path, Mode::from_bits_truncate(0o600)).expect("a private folder is writable");
}

/// Opens a FIFO for reading, and reads nothing yet.
fn stalled_reader(path: &Path) -> File {
    OpenOptions::new().read(true).custom_flags(libc::O_NONBLOCK).open(path).expect("the FIFO is there")
}

/// From now on, reading waits for more.
fn patient(reader: File) -> BufReader<File> {
    nix::fcntl::fcntl(reader.as_fd(), nix::fcntl::FcntlArg::F_SETFL(nix::fcntl::OFlag::empty()))
        .expect("a flag of our own open file");
    BufReader::new(reader)
}

fn lines_until(reader: &mut impl BufRead, phrase: &str) -> Vec<String> {
    let mut lines = Vec::new();
    loop {
        let mut line = String::new();
        assert!(reader.read_line(&mut line).expect("the daemon writes lines") > 0, "it ended without {phrase:?}");
        lines.push(line);
        if lines[lines.len() - 1].contains(phrase) {
            return lines;
        }
    }
}

fn silent(rig: Rig) -> Site {
    let socket = format!("unix:{}", rig.folder().join("site.sock").display());
    rig.bind(&socket).start_silently()
}

#[test]
fn a_reader_of_the_access_log_that_stalls_stops_nothing() {
    let rig = Rig::new("corners.py").option("--access-logfile", "access.fifo").option("--access-logformat", "%(U)s");
    let path = rig.folder().join("access.fifo");
    fifo(&path);
    let reader = stalled_reader(&path);
    let mut site = rig.start();
    let mut client = site.connect();
    // Each line holds its number and a kilobyte.
    let long = "x".repeat(1000);
    let requests = (PIPE + KEPT) / 1000 + 200;
    for number in 0..requests {
        assert_eq!(client.get(&format!("/hello/{number}/{long}")).status, 200);
    }
    site.log("access log not written");
    let mut reader = patient(reader);
    let got = lines_until(&mut reader, "/hello/0/");
    assert_eq!(got.len(), 1);
    std::thread::scope(|scope| {
        let rest = scope.spawn(move || {
            let mut rest = String::new();
            reader.read_to_string(&mut rest).expect("the daemon writes lines");
            rest
        });
        let lost = site.log("access log written again").number("lost") as usize;
        client.get("/last");
        site.stop();
        let rest = rest.join().expect("it reads to the end");
        assert!(lost > 0 && rest.lines().all(|line| line == "/last" || line.ends_with(&long)), "lines are whole");
        assert_eq!(1 + rest.lines().count() + lost, requests + 1, "each line was written or counted");
    });
}

#[test]
fn a_full_error_log_stops_neither_workers_nor_master() {
    let rig = Rig::with_source(SHOUTING).option("--error-logfile", "error.fifo");
    let path = rig.folder().join("error.fifo");
    fifo(&path);
    let reader = stalled_reader(&path);
    let mut site = silent(rig);
    let mut client = site.connect();
    let requests = PIPE / 1000 + 50;
    for _ in 0..requests {
        assert_eq!(client.get("/").text(), "said");
    }
    assert_eq!(site.control(&["status"]).code, 0);
    assert_eq!(site.control(&["reload"]).code, 0, "the master's own lines are lost, too");
    let mut reader = patient(reader);
    let lines = lines_until(&mut reader, "log lines lost");
    assert!(lines.iter().any(|line| line.contains("generation serving")), "{lines:?}");
    std::thread::scope(|scope| {
        scope.spawn(move || std::io::copy(&mut reader, &mut std::io::sink()));
        site.stop();
    });
}

/// Says a kilobyte in `wsgi.errors`.
const SHOUTING: &str = "
def app(environ, start_response):
    environ['wsgi.errors'].write('x' * 1000 + '\\n')
    start_response('200 OK', [('Content-Type', 'text/plain')])
    return [b'said']
";

#[test]
fn a_fifo_that_nobody_reads_prevents_no_start_and_no_reopening() {
    let rig = Rig::new("corners.py").option("--access-logfile", "access.fifo");
    fifo(&rig.folder().join("access.fifo"));
    let mut site = rig.start();
    assert_eq!(site.get("/hello").text(), "hello\n");
    assert!(site.log("access log not written").text().contains("Broken pipe"));
    assert_eq!(site.control(&["reopen"]).code, 0);
    assert_eq!(site.control(&["reload"]).code, 0);
    site.stop();
}

#[test]
fn a_log_that_cannot_be_opened_again_stays_the_one_before() {
    let rig =
        Rig::new("corners.py").option("--access-logfile", "logs/access.log").option("--access-logformat", "%(U)s");
    let logs = rig.folder().join("logs");
    std::fs::create_dir(&logs).expect("a private folder is writable");
    let mut site = rig.start();
    std::fs::rename(&logs, site.folder().join("elsewhere")).expect("the folder is there");
    let refused = site.control(&["reopen"]);
    refused.says(7, &["access log", "no such file"]);
    assert!(site.log("logs not reopened").text().contains("logs/access.log"));
    assert_eq!(site.get("/hello").text(), "hello\n");
    site.stop();
    assert_eq!(site.folder().read("elsewhere/access.log"), "/hello\n");
}

#[test]
fn what_workers_print_goes_to_the_reopened_log() {
    let rig = Rig::with_source(PRINTING).option("--error-logfile", "error.log").flag("--capture-output");
    let mut site = silent(rig);
    assert_eq!(site.get("/").text(), "printed");
    std::fs::rename(site.folder().join("error.log"), site.folder().join("error.log.1")).expect("the log is there");
    assert_eq!(site.control(&["reopen"]).code, 0);
    // The worker hears of it in its own time; what it answers to the stacks' question comes after that.
    assert_eq!(site.control(&["stacks"]).code, 0);
    assert_eq!(site.get("/").text(), "printed");
    site.stop();
    let (old, new) = (site.folder().read("error.log.1"), site.folder().read("error.log"));
    for line in ["on standard output", "on standard error"] {
        assert_eq!((old.matches(line).count(), new.matches(line).count()), (1, 1), "{line}");
    }
}

const PRINTING: &str = "
import sys
def app(environ, start_response):
    print('on standard output')
    print('on standard error', file=sys.stderr)
    start_response('200 OK', [('Content-Type', 'text/plain')])
    return [b'printed']
";

#[test]
fn an_application_that_takes_the_standard_descriptors_gets_no_line_of_the_log() {
    for preload in ["on", "off"] {
        let mut site = Rig::with_source(TAKING).flag(&format!("--preload={preload}")).start();
        assert_eq!(site.get("/").text(), "1 2");
        assert_eq!(site.get("/raise").status, 500);
        assert!(site.log("application raised").text().contains("/raise"));
        site.log("into wsgi.errors");
        site.stop();
        let own = site.folder().read("own.1") + &site.folder().read("own.2");
        assert_eq!(own, "its own line\n", "with --preload={preload}");
    }
}

/// Closes what stands at 0, 1 and 2, and opens files of its own there.
const TAKING: &str = "
import os
os.close(0); os.open('/dev/null', os.O_RDONLY)
numbers = []
for number in (1, 2):
    os.close(number)
    numbers.append(os.open('own.%d' % number, os.O_WRONLY | os.O_CREAT | os.O_APPEND))
os.write(2, b'its own line\\n')
def app(environ, start_response):
    environ['wsgi.errors'].write('into wsgi.errors\\n')
    if environ['PATH_INFO'] == '/raise':
        raise RuntimeError('of the page')
    start_response('200 OK', [('Content-Type', 'text/plain')])
    return [' '.join(map(str, numbers)).encode()]
";
