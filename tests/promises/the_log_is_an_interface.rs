//! The error log is an interface of stable phrases and keys; the access log is gunicorn's.

use std::{
    fs,
    sync::atomic::{AtomicBool, Ordering::Relaxed},
};

use nix::sys::signal::Signal::SIGUSR1;
use ostler_tests::Rig;

use crate::pages::page_with;

#[test]
fn one_file_for_both_standard_streams_holds_every_line() {
    let source = page_with("served", "print('imported', flush=True)")
        .replace("    start_response", "    print('called', flush=True)\n    start_response");
    let rig = Rig::with_source(&source).option("--access-logfile", "-").limited("exec >both 2>&1; echo before");
    let socket = format!("unix:{}", rig.folder().join("site.sock").display());
    let mut site = rig.bind(&socket).start_silently();
    for _ in 0..3 {
        assert_eq!(site.get("/").text(), "served");
    }
    site.stop();
    let both = fs::read_to_string(site.folder().join("both")).expect("it is there");
    let lines = |phrase: &str| both.lines().filter(|line| line.contains(phrase)).count();
    let expected =
        [("before", 1), (" starting ", 1), (" listening ", 1), ("imported", 2), (" serving ", 1), ("stopped", 1)];
    assert_eq!(expected.map(|(phrase, _)| (phrase, lines(phrase))), expected, "{both}");
    assert_eq!((lines("called"), lines("GET / HTTP/1.1")), (3, 3), "{both}");
}

#[test]
fn each_line_has_time_level_process_phrase_and_keys() {
    let mut site = Rig::new("corners.py").start();
    site.stop();
    let log = site.whole_log();
    assert!(log.lines().count() >= 6, "{log}");
    for line in log.lines() {
        let mut words = line.split(' ');
        let time = words.next().expect("a word");
        assert!(time.len() == 29 && time.as_bytes()[10] == b'T' && time.as_bytes()[19] == b'.', "{line}");
        let level = words.next().unwrap_or_default();
        assert!(["critical", "error", "warning", "info", "debug"].contains(&level), "{line}");
        let process = words.next().unwrap_or_default();
        let process = if process.contains('[') {
            process.to_string()
        } else {
            format!("{process} {}", words.next().unwrap_or_default())
        };
        let known = ["master[", "template g1[", "worker g1.0["];
        assert!(known.iter().any(|name| process.starts_with(name)) && process.ends_with(']'), "{line}");
    }
}

#[test]
fn the_life_of_a_site_is_told_in_stable_phrases() {
    let mut site = Rig::new("corners.py").start();
    site.stop();
    let log = site.whole_log();
    let mut rest = log.as_str();
    for phrase in
        ["starting", "listening", "generation booting", "worker ready", "generation serving", "stopping", "stopped"]
    {
        let at = rest.find(phrase).unwrap_or_else(|| panic!("{phrase:?} does not follow in\n{log}"));
        rest = &rest[at..];
    }
}

#[test]
fn the_level_is_as_asked_for() {
    let quiet = Rig::new("corners.py").option("--log-level", "error");
    let socket = format!("unix:{}", quiet.folder().join("site.sock").display());
    let site = quiet.bind(&socket).start_silently();
    assert_eq!(site.get("/raising").status, 500);
    let line = site.log("/raising");
    assert!(line.text().contains(" error "), "{}", line.text());
    assert_eq!(site.logged(" info "), 0);
}

#[test]
fn the_error_log_goes_to_a_file_and_is_reopened() {
    let rig = Rig::new("corners.py");
    let (log, rotated) = (rig.folder().join("error.log"), rig.folder().join("error.log.1"));
    let socket = format!("unix:{}", rig.folder().join("site.sock").display());
    let mut site = rig.option("--error-logfile", "error.log").bind(&socket).start_silently();
    let mut client = site.connect();
    assert_eq!(client.get("/errors").text(), "hello\n");
    fs::rename(&log, &rotated).expect("the log is there");
    site.signal(SIGUSR1);
    site.folder().wait_for("error.log");
    assert_eq!(client.get("/raising").status, 500);
    site.stop();
    let (old, new) = (fs::read_to_string(rotated).expect("rotated"), fs::read_to_string(log).expect("reopened"));
    assert!(old.contains("generation serving") && old.contains("one line to wsgi.errors"), "{old}");
    assert!(new.contains("RuntimeError: raised by the page") && new.contains("stopped"), "{new}");
}

#[test]
fn nobody_outside_can_forge_a_line() {
    let site = Rig::new("corners.py").start();
    let mut client = site.connect();
    client.send("GET /raising?%0A\x7f2026-11-22T00:00:00.000+00:00%20info HTTP/1.1\r\nHost: a\r\n\r\n");
    let _ = client.try_answer();
    assert_eq!(site.get("/raising?a%0Ab\"c").status, 500);
    let line = site.log("/raising?a%0Ab");
    assert!(!line.text().contains('\u{7f}'));
}

#[test]
fn the_access_log_is_in_gunicorns_format() {
    let mut site = Rig::new("corners.py").option("--access-logfile", "access.log").start();
    let mut client = site.connect();
    client
        .send("GET /hello?x=1 HTTP/1.1\r\nHost: a\r\nReferer: http://from.test/\r\nUser-Agent: a \"browser\"\r\n\r\n");
    assert_eq!(client.answer().text(), "hello\n");
    assert_eq!(client.get("/two_blocks").text(), "one two\n");
    site.stop();
    let log = site.folder().read("access.log");
    let lines: Vec<&str> = log.lines().collect();
    assert_eq!(lines.len(), 2, "{log}");
    let (before, rest) = lines[0].split_once(" [").expect("a time");
    let (time, after) = rest.split_once("] ").expect("a time");
    assert_eq!(before, "127.0.0.1 - -");
    assert!(time.len() == 26 && time.as_bytes()[2] == b'/' && time.as_bytes()[11] == b':', "{time}");
    assert_eq!(after, r#""GET /hello?x=1 HTTP/1.1" 200 6 "http://from.test/" "a \"browser\"""#);
    assert!(lines[1].ends_with(r#""GET /two_blocks HTTP/1.1" 200 8 "-" "-""#), "{}", lines[1]);
}

#[test]
fn the_atoms_of_the_access_log_are_honoured() {
    let format = "%(h)s|%(m)s|%(U)s|%(q)s|%(H)s|%(s)s|%(B)s|%(b)s|%({x-one}i)s|%({content-type}o)s|%({wsgi.url_scheme}e)s|\
        %(p)s|%(D)s|%(M)s|%(L)s|%(T)s|%({missing}i)s";
    let mut site = Rig::new("corners.py").option("--access-logfile", "-").option("--access-logformat", format).start();
    let worker = site.log("worker ready").number("pid");
    site.connect().send("GET /hello?q HTTP/1.1\r\nHost: a\r\nX-One: 1\r\n\r\n").answer();
    site.stop();
    let output = site.whole_output();
    let atoms: Vec<&str> = output.trim_end().split('|').collect();
    let plain =
        ["127.0.0.1", "GET", "/hello", "q", "HTTP/1.1", "200", "6", "6", "1", "text/plain; charset=utf-8", "http"];
    assert_eq!(atoms[..11], plain, "{output}");
    assert_eq!(atoms[11].trim_matches(['<', '>']), worker.to_string(), "{output}");
    let (micro, milli): (u64, u64) = (atoms[12].parse().expect("a number"), atoms[13].parse().expect("a number"));
    assert!(micro < 10_000_000 && milli <= micro / 1000 + 1, "{output}");
    assert!(atoms[14].contains('.') && atoms[15].parse::<u64>().is_ok(), "{output}");
    assert_eq!(atoms[16], "-");
}

#[test]
fn no_line_is_lost_when_logs_are_rotated_under_load() {
    const ROTATIONS: usize = 20;
    let rig = Rig::new("corners.py").workers(2).option("--access-logfile", "access.log");
    let socket = format!("unix:{}", rig.folder().join("site.sock").display());
    let mut site = rig.option("--error-logfile", "error.log").bind(&socket).start_silently();
    let rotated = AtomicBool::new(false);
    let requests: usize = std::thread::scope(|scope| {
        let ask = || {
            let (mut client, mut asked) = (site.connect(), 0);
            while !rotated.load(Relaxed) {
                assert_eq!(client.get("/raising").status, 500);
                asked += 1;
            }
            asked
        };
        let clients: Vec<_> = (0..3).map(|_| scope.spawn(ask)).collect();
        for number in 0..ROTATIONS {
            for name in ["access.log", "error.log"] {
                let log = site.folder().join(name);
                fs::rename(&log, log.with_extension(number.to_string())).expect("the log is there");
            }
            site.signal(SIGUSR1);
            site.folder().wait_for("error.log");
            site.folder().wait_for("access.log");
        }
        rotated.store(true, Relaxed);
        clients.into_iter().map(|client| client.join().expect("each request is answered")).sum()
    });
    site.stop();
    let count = |name: &str, phrase: &str| {
        let mut files: Vec<String> = (0..ROTATIONS).map(|number| format!("{name}.{number}")).collect();
        files.push(format!("{name}.log"));
        files.iter().map(|file| site.folder().read(file).matches(phrase).count()).sum::<usize>()
    };
    assert!(requests > ROTATIONS, "{requests}");
    assert_eq!(
        (count("access", "\"GET /raising HTTP/1.1\" 500 "), count("error", "application raised")),
        (requests, requests)
    );
}

#[test]
fn a_full_disk_stops_nothing_and_is_said_once() {
    let site = Rig::new("corners.py").option("--access-logfile", "/dev/full").start();
    for _ in 0..3 {
        assert_eq!(site.get("/hello").text(), "hello\n");
    }
    let line = site.log("access log not written");
    assert!(line.text().contains("No space left on device"), "{}", line.text());
    assert_eq!(site.logged("access log not written"), 1);
}
