//! Nothing that a log, a client, an interpreter or a file does makes the master wait, nor a worker's loop.

use std::{
    fs::{File, OpenOptions},
    io::{BufRead, BufReader, IoSlice, Read},
    os::{
        fd::{AsFd, AsRawFd},
        unix::fs::{OpenOptionsExt, PermissionsExt},
    },
    path::Path,
};

use nix::{
    sys::{
        signal::kill,
        socket::{AddressFamily, MsgFlags, SockFlag, SockType, UnixAddr, connect, sendmsg, socket},
        stat::Mode,
    },
    unistd::{Pid, mkfifo},
};
use ostler_tests::{Python, Rig, Signal, Site};
use serde_json::Value;

/// The capacity of a pipe (pipe(7)).
const PIPE: usize = 64 * 1024;
/// The capacity that the pipe of the error log is given.
const ROOM: usize = 1 << 20;
/// How much of its access log a worker keeps while it cannot be written.
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

fn status(site: &Site) -> Value {
    let answer = site.control(&["status", "--json"]);
    // 1 says that something is wrong with the site.
    assert!(matches!(answer.code, 0 | 1), "{answer:?}");
    serde_json::from_str(&answer.output).expect("JSON")
}

/// Checks that the master's longest turn was short. A master that had waited for the thing that the test holds up would have waited until
/// the test ends. The bound leaves time for a busy machine.
#[track_caller]
fn never_waited(site: &Site) {
    let status = status(site);
    let took = status["longest_turn"]["took"].as_f64().expect("a number");
    assert!(took > 0.0 && took < 2.0, "{}", status["longest_turn"]);
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
    let counted = status(&site)["metrics"]["ostler_log_lines_lost_total{log=\"access\"}"].as_u64();
    assert!(counted > Some(0), "{counted:?}");
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
    let requests = ROOM / 1000 + 50;
    for _ in 0..requests {
        assert_eq!(client.get("/").text(), "said");
    }
    let lost = status(&site)["metrics"]["ostler_log_lines_lost_total{log=\"error\"}"].as_u64();
    assert!(lost > Some(0), "{lost:?}");
    assert_eq!(site.control(&["reload"]).code, 0, "the master's own lines are lost, too");
    never_waited(&site);
    let mut reader = patient(reader);
    let lines = lines_until(&mut reader, "log lines lost");
    assert!(lines.iter().any(|line| line.contains("generation serving")), "{lines:?}");
    std::thread::scope(|scope| {
        scope.spawn(move || std::io::copy(&mut reader, &mut std::io::sink()));
        site.stop();
    });
}

#[test]
fn lines_that_a_worker_lost_are_told_though_it_has_died() {
    let rig = Rig::with_source(SHOUTING).option("--error-logfile", "error.fifo");
    let path = rig.folder().join("error.fifo");
    fifo(&path);
    let reader = stalled_reader(&path);
    let mut site = silent(rig);
    let mut client = site.connect();
    let requests = ROOM / 1000 + 50;
    for _ in 0..requests {
        assert_eq!(client.get("/").text(), "said");
    }
    client.send("GET /die HTTP/1.1\r\nHost: a\r\n\r\n");
    assert!(client.try_answer().is_err());
    assert_eq!(site.get("/").text(), "said", "another worker serves");
    let mut reader = patient(reader);
    let mut told = 0;
    while told < requests + 1 {
        let line = lines_until(&mut reader, "").pop().expect("there is a line");
        told += match line.split_once("log lines lost lines=") {
            Some((_, count)) => count.trim().parse().expect("a number"),
            None => usize::from(line.starts_with('x')),
        };
    }
    std::thread::scope(|scope| {
        scope.spawn(move || std::io::copy(&mut reader, &mut std::io::sink()));
        site.stop();
    });
}

/// Writes a kilobyte to `wsgi.errors`, or dies.
const SHOUTING: &str = "
import os
def app(environ, start_response):
    if environ['PATH_INFO'] == '/die':
        os._exit(7)
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
    never_waited(&site);
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
    refused.says(14, &["access log", "no such file"]);
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
    // The worker reads the message later. Its answer to `stacks` comes after that.
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

/// Closes descriptors 0, 1 and 2, and opens files of its own there.
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

/// An interpreter that first waits to read from the FIFO `gate`, if there is one.
fn slow_interpreter(rig: Rig) -> Rig {
    let python = Python::usual().environment().python.display().to_string();
    let gate = rig.folder().join("gate").display().to_string();
    let script = format!("#!/bin/sh\n[ -p {gate} ] && read line <{gate}\nexec {python} \"$@\"\n");
    let path = rig.folder().write("python", &script);
    std::fs::set_permissions(&path, PermissionsExt::from_mode(0o755)).expect("a private folder is writable");
    rig.interpreter(path)
}

#[test]
fn an_interpreter_that_takes_long_to_start_holds_up_nobody() {
    let mut site = slow_interpreter(Rig::new("corners.py")).start();
    let gate = site.folder().join("gate");
    fifo(&gate);
    site.signal(Signal::SIGHUP);
    site.log("reload asked for");
    // The interpreter has started when it opens the other end.
    let opened = OpenOptions::new().write(true).open(&gate).expect("the interpreter waits");
    never_waited(&site);
    assert_eq!(site.get("/hello").text(), "hello\n");
    std::fs::remove_file(&gate).expect("it is there");
    drop(opened);
    assert_eq!(site.log("generation serving").number("generation"), 2);
    never_waited(&site);
    site.stop();
}

#[test]
fn a_stop_does_not_wait_for_an_interpreter_either() {
    for signal in [Signal::SIGINT, Signal::SIGTERM] {
        let mut site = slow_interpreter(Rig::new("corners.py")).start();
        let gate = site.folder().join("gate");
        fifo(&gate);
        site.signal(Signal::SIGHUP);
        let _kept = OpenOptions::new().write(true).open(&gate).expect("the interpreter waits");
        site.signal(signal);
        assert_eq!(site.wait(), 0, "and nothing is left behind");
    }
}

#[test]
fn settings_that_cannot_be_read_hold_up_nobody() {
    let rig = Rig::new("corners.py").file("own.toml", "threads = 1\n");
    let file = rig.folder().join("own.toml").display().to_string();
    let mut site = rig.option("--config", &file).start();
    std::fs::remove_file(&file).expect("it is there");
    fifo(Path::new(&file));
    site.signal(Signal::SIGHUP);
    let _kept = OpenOptions::new().write(true).open(&file).expect("the settings are read");
    assert_eq!(site.get("/hello").text(), "hello\n");
    never_waited(&site);
    site.stop();
}

#[test]
fn a_template_that_does_not_read_holds_up_nobody() {
    let mut site = Rig::new("corners.py").start();
    let template = status(&site)["generations"][0]["template"].as_i64().expect("a number") as i32;
    kill(Pid::from_raw(template), Signal::SIGSTOP).expect("it is ours");
    for _ in 0..20 {
        site.signal(Signal::SIGTTIN);
        assert_eq!(site.control(&["reopen"]).code, 0);
    }
    never_waited(&site);
    assert_eq!(site.get("/hello").text(), "hello\n");
    site.stop();
}

#[test]
fn a_control_client_that_does_not_read_holds_up_nobody() {
    let mut site = Rig::new("corners.py").workers(2).start();
    let address = UnixAddr::new(&site.folder().join("control.sock")).expect("a short path");
    let flags = SockFlag::SOCK_CLOEXEC;
    let client = socket(AddressFamily::Unix, SockType::SeqPacket, flags, None).expect("a socket can be made");
    connect(client.as_raw_fd(), &address).expect("the master listens");
    let ask = || sendmsg::<()>(client.as_raw_fd(), &[IoSlice::new(b"\"Status\"")], &[], MsgFlags::MSG_DONTWAIT, None);
    for _ in 0..500 {
        let _ = ask();
    }
    never_waited(&site);
    drop(client);
    site.stop();
}

#[test]
fn memory_is_not_read_at_every_status() {
    let site = Rig::new("corners.py").workers(2).start();
    let first = loop {
        // The first answer does not wait for long. On a busy machine, memory may not have been read by then.
        let first = status(&site);
        if first["memory_age"].is_number() {
            break first;
        }
    };
    let private = |status: &Value| status["generations"][0]["workers"][1]["memory"]["private"].as_u64();
    assert!(private(&first).is_some_and(|bytes| bytes > 0), "{first}");
    let second = status(&site);
    assert_eq!(private(&second), private(&first));
    assert!(site.control(&["status"]).output.contains("memory as of "));
    never_waited(&site);
}

#[test]
fn a_first_start_that_fails_says_why_where_it_was_started() {
    let rig = Rig::with_source("raise RuntimeError('not today')").option("--error-logfile", "error.log");
    let refused = rig.refuse();
    refused.says(10, &["ostler: ", "not today"]);
    let taken = Rig::new("corners.py").option("--error-logfile", "error.log").file("control.sock", "not a socket");
    taken.refuse().says(14, &["ostler: could not open the control socket"]);
}
