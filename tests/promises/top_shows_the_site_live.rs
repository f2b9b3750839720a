//! `ostler top` shows what the site does now, obeys keys, and leaves the terminal as it was, however it ends.

use std::{
    os::unix::process::CommandExt,
    process::Command,
    sync::atomic::{AtomicBool, Ordering::Relaxed},
    thread,
};

use ostler_tests::{Gate, Rig, Screen, Signal, Site, built};

/// A page of which a call hangs at the gate.
fn source(gate: &Gate) -> String {
    format!(
        "
def app(environ, start_response):
    if environ['PATH_INFO'].startswith('/hang'):
        {}
    start_response('200 OK', [('Content-Type', 'text/plain')])
    return [b'served']
",
        gate.statement()
    )
}

fn top(site: &Site, size: (u16, u16)) -> Screen {
    let mut command = Command::new(built("ostler"));
    command.args(["top", "--interval", "0.1", "--control"]).arg(site.folder().join("control.sock"));
    // A job of a shell is a group of its own, and can be suspended.
    command.process_group(0);
    Screen::start(command.env("TERM", "xterm").env_remove("NO_COLOR"), size)
}

fn holds(lines: &[String], text: &str) -> bool {
    lines.iter().any(|line| line.contains(text))
}

/// How many requests a second a frame says that there are.
fn rate(lines: &[String]) -> f64 {
    let rates = lines.iter().find_map(|line| line.strip_prefix("requests/s "));
    rates.and_then(|rates| rates.split(' ').next()?.parse().ok()).unwrap_or(-1.0)
}

/// How long the hung request lasts, as a frame says.
fn age(lines: &[String]) -> f64 {
    let line = lines.iter().find_map(|line| line.split_once(" s GET /hang")).map_or("", |(before, _)| before);
    line.rsplit(' ').next().and_then(|age| age.parse().ok()).unwrap_or(-1.0)
}

#[test]
fn rates_hung_requests_and_events_are_seen_and_keys_obeyed() {
    let gate = Gate::new();
    let mut site = Rig::with_source(&source(&gate)).workers(2).option("--refork", "off").start();
    let mut top = top(&site, (80, 24));
    top.shows("a quiet site", |lines| rate(lines) == 0.0 && holds(lines, "generation serving: g1, workers 2"));

    let mut hung = site.connect();
    hung.ask("/hang?%1b%5b2J");
    let visitor = gate.arrival();
    let quits = AtomicBool::new(false);
    thread::scope(|scope| {
        scope.spawn(|| {
            while !quits.load(Relaxed) {
                assert_eq!(site.get("/").status, 200);
            }
        });
        let busy = top.shows("a site at work", |lines| rate(lines) > 0.0 && age(lines) >= 0.0);
        assert!(busy.iter().all(|line| line.chars().count() <= 80 && !line.chars().any(char::is_control)), "{busy:#?}");
        top.shows("an older request", |lines| {
            age(lines) > age(&busy) && rate(lines) != rate(&busy) && rate(lines) > 0.0
        });
        quits.store(true, Relaxed);
    });
    top.shows("a quiet site", |lines| rate(lines) == 0.0);

    top.types("/HANG\r");
    let workers = |lines: &[String]| lines.iter().filter(|line| line.starts_with("g1.")).count();
    top.shows("one worker", |lines| workers(lines) == 1 && age(lines) >= 0.0 && holds(lines, "only \"HANG\""));
    top.types("\x1b");
    top.shows("both", |lines| workers(lines) == 2);
    top.types("s");
    let sorted = top.shows("another order", |lines| holds(lines, "sorted by age of request"));
    let first = sorted.iter().find(|line| line.starts_with("g1.")).expect("there are workers");
    assert!(first.contains(" s GET /hang"), "{sorted:#?}");
    top.resize((40, 10));
    let small = top.shows("a small terminal", |lines| {
        lines.len() <= 10 && lines.iter().all(|line| line.chars().count() <= 40) && workers(lines) > 0
    });
    assert!(small.last().is_some_and(|line| line.starts_with("sorted by")), "{small:#?}");
    top.resize((120, 30));
    top.shows("more columns", |lines| holds(lines, "REQUESTS") && holds(lines, "PID"));

    site.signal(Signal::SIGSTOP);
    top.shows("a master that does not answer", |lines| holds(lines, "! no answer for "));
    top.types("?");
    top.shows("help meanwhile", |lines| holds(lines, "Ctrl-C   end"));
    site.signal(Signal::SIGCONT);
    top.shows("that it does", |lines| !holds(lines, "! no answer"));
    visitor.let_go("x");
    assert_eq!(hung.answer().status, 200);
    site.stop();
    top.shows("that nobody is there", |lines| holds(lines, "! no ostler is running"));
    top.types("q");
    assert_eq!(top.ends(), Some(0));
}

#[test]
fn the_terminal_is_as_it_was_after_each_end() {
    let site = Rig::with_source(&source(&Gate::new())).start();
    let drawn = |top: &mut Screen| drop(top.shows("the site", |lines| holds(lines, "g1.0")));
    for end in ["q", "\x03"] {
        let mut top = top(&site, (80, 24));
        drawn(&mut top);
        top.types(end);
        assert_eq!(top.ends(), Some(0), "{end:?}");
    }
    for signal in [Signal::SIGTERM, Signal::SIGINT, Signal::SIGHUP] {
        let mut top = top(&site, (80, 24));
        drawn(&mut top);
        top.signal(signal);
        assert_eq!(top.ends(), Some(0), "{signal}");
    }
    let mut suspended = top(&site, (80, 24));
    for _ in 0..2 {
        drawn(&mut suspended);
        suspended.types("\x1a");
        suspended.stops();
        suspended.signal(Signal::SIGCONT);
    }
    drawn(&mut suspended);
    suspended.types("q");
    assert_eq!(suspended.ends(), Some(0));
    let mut closed = top(&site, (80, 24));
    drawn(&mut closed);
    closed.hang_up();
    assert!(closed.ends().is_some());
}

#[test]
fn without_a_terminal_one_frame_is_printed() {
    let mut site = Rig::with_source(&source(&Gate::new())).start();
    for words in [["top", "--interval=0.1"].as_slice(), &["top", "--interval=0.1", "--once"]] {
        let printed = site.control(words);
        assert_eq!((printed.code, printed.error.as_str()), (0, ""), "{words:?}");
        let phrases = ["requests/s 0.0", "\ng1.0 ", "generation serving: g1, workers 1"];
        assert!(phrases.iter().all(|phrase| printed.output.contains(phrase)), "{}", printed.output);
        assert!(!printed.output.contains('\x1b') && !printed.output.contains("q end"), "{}", printed.output);
    }
    site.control(&["top", "--interval=0.01"]).says(2, &["--interval", "at least 0.1 s"]);
    site.stop();
    site.control(&["top"]).says(7, &["no ostler is running"]);
}
