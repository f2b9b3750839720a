//! On a terminal a start is three sentences, or a traceback that ends with the reason; answers are coloured by their status.

use ostler_tests::{Client, Python, Rig, Site};

const APP: &str = "
def app(environ, start_response):
    status = environ['PATH_INFO'][1:]
    start_response(status + ' So', [('Content-Type', 'text/plain')])
    return [b'answered']
";

fn rig() -> Rig {
    Rig::with_source(APP).workers(2).on_terminal().env("TERM", "xterm").without_env("NO_COLOR")
}

/// The lines up to the one that holds this phrase.
fn shown(site: &Site, last: &str) -> Vec<String> {
    let last = site.log(last).text().to_owned();
    let all = site.shown();
    let lines = all.lines().take(all.lines().take_while(|line| *line != last).count() + 1);
    lines.map(|line| line.trim_end().to_owned()).collect()
}

#[test]
fn a_start_is_three_sentences() {
    let mut site = rig().launch();
    let python = Python::usual();
    let lines = shown(&site, "Ctrl-C");
    assert_eq!(lines.len(), 3, "{lines:#?}");
    assert!(lines[0].starts_with("listening on \x1b[1mhttp://127.0.0.1:"), "{lines:#?}");
    let interpreter = python.environment().python.display().to_string();
    assert_eq!(lines[1], format!("Python {} ({interpreter})", python.version));
    assert_eq!(lines[2], "2 workers serve; Ctrl-C stops them");
    assert_eq!(site.control(&["reload"]).code, 0);
    for phrase in ["generation booting", "application imported", "worker ready", "generation serving"] {
        assert!(site.log(phrase).text().contains(" generation=2"), "{phrase}");
    }
    site.stop();
}

#[test]
fn whoever_asks_for_details_gets_them_from_the_beginning() {
    let site = rig().option("--log-level", "debug").launch();
    for phrase in ["starting version=", "listening address=", "worker ready generation=1", "generation serving"] {
        site.log(phrase);
    }
}

#[test]
fn a_failed_start_ends_with_the_reason() {
    let mut site =
        Rig::with_source("raise RuntimeError('broken on purpose')").on_terminal().env("NO_COLOR", "1").launch();
    assert_eq!(site.wait(), 10);
    let log = site.whole_log();
    let lines: Vec<&str> = log.lines().map(str::trim_end).collect();
    let [.., raised, reason] = lines.as_slice() else { panic!("{lines:#?}") };
    assert_eq!(*raised, "RuntimeError: broken on purpose");
    assert_eq!(*reason, "ostler: could not import ./app.py: RuntimeError: broken on purpose");
    assert_eq!(lines[1], "Traceback (most recent call last):");
}

#[test]
fn answers_are_coloured_by_their_status_unless_that_is_unwanted() {
    let colours = [(200, ""), (302, "\x1b[36m"), (404, "\x1b[33m"), (503, "\x1b[31m")];
    for variable in [None, Some(("NO_COLOR", "1")), Some(("TERM", "dumb"))] {
        let rig = rig().option("--access-logfile", "-");
        let site = match variable {
            Some((name, value)) => rig.env(name, value).launch(),
            None => rig.launch(),
        };
        let address = site.log("listening on ").text().split("http://").nth(1).expect("it has an address").to_owned();
        let address = address.trim_end().trim_end_matches("\x1b[0m").to_owned();
        site.log("Ctrl-C");
        for (status, colour) in colours {
            assert_eq!(Client::connect(&address).get(&format!("/{status}")).status, status);
            let line = site.log(&format!("\"GET /{status} HTTP/1.1\" {status} 8")).text().trim_end().to_owned();
            let colour = if variable.is_some() { "" } else { colour };
            assert!(line.starts_with(&format!("{colour}127.0.0.1 - - [")), "{line:?}");
            assert_eq!(line.ends_with("\x1b[0m"), !colour.is_empty(), "{line:?}");
        }
        assert_eq!(site.shown().contains('\x1b'), variable.is_none(), "{}", site.shown());
    }
}

#[test]
fn what_goes_elsewhere_has_neither_sentences_nor_colours() {
    let mut site = Rig::with_source(APP).option("--access-logfile", "-").start();
    assert_eq!(site.get("/404").status, 404);
    site.output("\"GET /404 HTTP/1.1\" 404 8");
    site.stop();
    let log = site.whole_log();
    assert!(!(log.clone() + &site.whole_output()).contains('\x1b'));
    assert!(log.lines().all(|line| line.contains(" info ")), "{log}");
}
