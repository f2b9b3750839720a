//! What the application writes to `wsgi.errors` and standard error is in the error log: one entry for what is written at once, with the id of
//! the request that it belongs to, and in the log's own form.

use std::{collections::BTreeMap, thread};

use ostler_tests::{Python, Rig, Site};
use serde_json::Value;

/// A site that believes its clients' ids.
fn start(rig: Rig) -> Site {
    let socket = format!("unix:{}", rig.folder().join("site.sock").display());
    rig.bind(&socket).option("--forwarded-allow-ips", "unix:").start_silently()
}

/// The same, whose log is lines of JSON.
fn json(rig: Rig) -> Site {
    start(rig.flag("--request-id").option("--log-format", "json"))
}

fn ask(site: &Site, path: &str, id: &str) {
    let mut client = site.connect();
    client.send(format!("GET {path} HTTP/1.1\r\nHost: a\r\nX-Request-ID: {id}\r\n\r\n"));
    assert_eq!(client.answer().text(), "ok", "{path}");
}

/// Stops the site; what its application has said, with the ids of requests.
fn said(site: &mut Site) -> Vec<(Option<String>, String)> {
    site.stop();
    let log = site.whole_log();
    let lines = log.lines().map(|line| serde_json::from_str(line).unwrap_or_else(|error| panic!("{error}: {line:?}")));
    let said = lines.filter_map(|line: Value| {
        let text = line["text"].as_str()?.to_owned();
        Some((line["request_id"].as_str().map(str::to_owned), text))
    });
    said.collect()
}

const UNFINISHED: &str = "
import sys, threading
together = threading.Barrier(int(THREADS))
def app(environ, start_response):
    id = environ['HTTP_X_REQUEST_ID']
    for stream in (environ['wsgi.errors'], sys.stderr):
        stream.write(id)
        together.wait(60)
        stream.write(' says')
        together.wait(60)
    start_response('200 OK', [('Content-Length', '2')])
    return [b'ok']
";

#[test]
fn an_unfinished_line_is_told_with_its_own_request_at_the_end_of_its_call() {
    for threads in [1, 4] {
        let source = UNFINISHED.replace("THREADS", &threads.to_string());
        let mut site = json(Rig::with_source(&source).option("--threads", &threads.to_string()));
        for round in 0..3 {
            thread::scope(|scope| {
                for thread in 0..threads {
                    let site = &site;
                    scope.spawn(move || ask(site, "/", &format!("{round}.{thread}")));
                }
            });
            // The first call of all has ended, and nothing else was asked for.
            site.log(&format!("{round}.0 says"));
        }
        let said = said(&mut site);
        assert_eq!(said.len(), 2 * 3 * threads, "{said:?}");
        assert!(
            said.iter().all(|(id, text)| *text == format!("{} says", id.as_ref().expect("it has one"))),
            "{said:?}"
        );
    }
}

const EACH_WAY: &str = r#"
import logging, sys, threading, traceback, warnings
logging.basicConfig(format='%(levelname)s %(message)s')

def raises():
    try:
        raise ValueError('first')
    except ValueError:
        raise KeyError('second\nline')

def caught(tell):
    try:
        raises()
    except KeyError:
        tell()

class Dropped:
    def __del__(self):
        raise OSError('when it was dropped')

def in_thread():
    thread = threading.Thread(target=raises)
    thread.start()
    thread.join()

ways = {
    '/print': lambda: print('several\nlines', 7, file=sys.stderr),
    '/logging': lambda: caught(lambda: logging.exception('logged')),
    '/traceback': lambda: caught(traceback.print_exc),
    '/stack': traceback.print_stack,
    '/warning': lambda: warnings.warn('beware\nof it'),
    '/dropped': lambda: Dropped() and None,
    '/thread': in_thread,
    '/replaced': lambda: setattr(sys, 'stderr', Replaced(sys.stderr)) or print('replaced', file=sys.stderr),
}

class Replaced:
    def __init__(self, stream):
        self.stream = stream
    def write(self, text):
        return self.stream.write(text)

def app(environ, start_response):
    ways[environ['PATH_INFO']]()
    start_response('200 OK', [('Content-Length', '2')])
    return [b'ok']
"#;

#[test]
fn what_is_said_at_once_is_one_entry_with_the_id_of_its_request() {
    Python::every().iter().for_each(says_each_way);
}

fn says_each_way(python: &Python) {
    let mut site = json(Rig::with_source(EACH_WAY).python(python));
    let chained = ["ValueError: first\n\nDuring handling", "KeyError: 'second\\nline'"];
    let ways: [(&str, &[&str]); 8] = [
        ("/print", &["several\nlines 7"]),
        ("/logging", &["ERROR logged\nTraceback (most recent call last):\n", chained[0], chained[1]]),
        ("/traceback", &["Traceback (most recent call last):\n", chained[0], chained[1]]),
        ("/stack", &["  File ", "ways[environ['PATH_INFO']]()"]),
        ("/warning", &["/", "UserWarning: beware\nof it\n", "warnings.warn"]),
        ("/dropped", &["Exception ignored ", "Traceback (most recent call last):\n", "OSError: when it was dropped"]),
        ("/thread", &["Exception in thread ", chained[0], chained[1]]),
        ("/replaced", &["replaced"]),
    ];
    for (path, _) in ways {
        ask(&site, path, &path[1..]);
    }
    let said = said(&mut site);
    assert_eq!(said.len(), ways.len(), "{said:#?}");
    for ((id, text), (path, parts)) in said.iter().zip(ways) {
        // Another thread answers no request.
        let expected = (path != "/thread").then_some(&path[1..]);
        assert_eq!(id.as_deref(), expected, "{text}");
        assert!(text.starts_with(parts[0]) && parts.iter().all(|part| text.contains(part)), "{path}: {text}");
    }
}

const ODD: &str = r#"
import logging, sys
logging.basicConfig()
print('imported', file=sys.stderr)
def app(environ, start_response):
    id = environ['HTTP_X_REQUEST_ID']
    sys.stderr.write('\udcff \x00 \x1b[31m " \\ \u2028 \U0001f40e\n')
    sys.stderr.buffer.write(b'\xff\xfe not UTF-8\n')
    sys.stderr.buffer.flush()
    environ['wsgi.errors'].write('\ud800\n')
    sys.stderr.write(id * 2_000 + '\n')
    print('', file=sys.stderr)
    print('progress', end='\r', file=sys.stderr)
    print('printed')
    logging.error('<3>', exc_info=ValueError('\x07'))
    sys.stderr.write('<3>level\n')
    if environ['PATH_INFO'] == '/raises':
        raise RuntimeError('raised')
    start_response('200 OK', [('Content-Length', '2')])
    return [b'ok']
"#;

#[test]
fn each_line_is_json_whatever_the_application_writes() {
    let rig = Rig::with_source(ODD).flag("--capture-output").option("--threads", "2").option("--workers", "2");
    let mut site = json(rig);
    thread::scope(|scope| {
        for client in 0..4 {
            let site = &site;
            scope.spawn(move || (0..10).for_each(|number| ask(site, "/", &format!("{client}.{number}"))));
        }
    });
    assert_eq!(site.get("/raises").status, 500);
    let said = said(&mut site);
    assert_eq!(said[0], (None, "imported".into()));
    let mut texts = BTreeMap::<_, Vec<_>>::new();
    for (id, text) in &said[1..] {
        texts.entry(id.clone().expect("all else is said in requests")).or_default().push(text.as_str());
    }
    assert_eq!(texts.len(), 41);
    for (id, texts) in texts {
        let long = id.repeat(2_000);
        let expected = [
            "\\udcff \0 \u{1b}[31m \" \\ \u{2028} \u{1f40e}",
            "\u{fffd}\u{fffd} not UTF-8",
            "\\ud800",
            &long,
            "progress",
            "printed",
            "ERROR:root:<3>\nValueError: \u{7}",
            "level",
        ];
        assert!(
            texts == expected,
            "{id}: {:?}",
            texts.iter().map(|text| &text[..text.len().min(99)]).collect::<Vec<_>>()
        );
    }
    let log = site.whole_log();
    let level = log.lines().find(|line| line.contains("\"level\",\"") || line.ends_with("\"text\":\"level\"}"));
    assert!(level.expect("it was said").contains("\"level\":\"error\""), "{level:?}");
}

const PLAIN: &str = r#"
import os, sys
print('imported', file=sys.stderr)
def app(environ, start_response):
    path = environ['PATH_INFO']
    if path == '/dots':
        for _ in range(3):
            print('.', end='', file=sys.stderr, flush=True)
    elif path == '/json':
        print('{"own": 1}', file=sys.stderr)
    elif path == '/elsewhere':
        os.dup2(os.open('own', os.O_WRONLY | os.O_CREAT | os.O_APPEND), 2)
        print('for the own file', file=sys.stderr)
    else:
        print('two\n  lines', file=sys.stderr)
        print('on standard output')
    start_response('200 OK', [('Content-Length', '2')])
    return [b'ok']
"#;

#[test]
fn a_file_has_the_text_as_it_was_written_behind_the_id_of_its_request() {
    let rig = Rig::with_source(PLAIN).flag("--request-id").option("--error-logfile", "error.log");
    let mut site = start(rig);
    for path in ["/", "/dots", "/json", "/elsewhere"] {
        ask(&site, path, &path.replace('/', "id-"));
    }
    site.output("on standard output");
    site.stop();
    let log = site.folder().read("error.log");
    assert!(log.contains("\nimported\n"), "{log}");
    assert!(log.contains("\n[id-] two\n  lines\n[id-dots] ...\n{\"own\": 1}\n"), "{log}");
    assert_eq!(site.folder().read("own"), "for the own file\n");
    assert!(!log.contains("on standard output") && !log.contains("own file"), "{log}");
}

#[test]
fn without_ids_nothing_is_added() {
    let rig = Rig::with_source(PLAIN).flag("--capture-output").option("--error-logfile", "error.log");
    let mut site = start(rig);
    // The line of dots ends with its call, which is over before the next begins.
    for path in ["/dots", "/"] {
        ask(&site, path, "unused");
    }
    site.stop();
    let log = site.folder().read("error.log");
    assert!(log.contains("\n...\ntwo\n  lines\non standard output\n"), "{log}");
}

const AS_EVER: &str = r#"
import faulthandler, io, os, signal, subprocess, sys
found = []
for stream, number in ((sys.stdout, 1), (sys.stderr, 2)):
    found += [type(stream) is io.TextIOWrapper, stream.fileno() == number, stream.isatty() is False, stream.mode == 'w',
              stream.writable() and not stream.readable() and not stream.seekable(), not stream.closed,
              isinstance(stream.buffer, io.BufferedIOBase)]
found += [sys.stderr.name == '<stderr>', sys.stderr.errors == 'backslashreplace', sys.__stderr__ is sys.stderr]
sys.stderr.reconfigure(line_buffering=True)
faulthandler.enable()

def app(environ, start_response):
    print('a\nb', file=sys.stderr)
    faulthandler.dump_traceback()
    subprocess.run(['sh', '-c', 'echo from a program >&2'], stderr=sys.stderr)
    signal.raise_signal(signal.SIGURG)
    sys.stderr.write('begun ')
    child = os.fork()
    if child == 0:
        print('by a child', file=sys.stderr)
        os._exit(0)
    os.waitpid(child, 0)
    print('and ended', file=sys.stderr)
    wrapper = io.TextIOWrapper(sys.stderr.detach(), 'latin-1', write_through=True)
    sys.stderr = wrapper
    print('detached', file=sys.stderr)
    sys.stderr.close()
    environ['wsgi.errors'].write('to wsgi.errors\n')
    body = repr(found).encode()
    start_response('200 OK', [('Content-Length', str(len(body)))])
    return [body]

signal.signal(signal.SIGURG, lambda *_: print('by a handler', file=sys.stderr))
"#;

#[test]
fn to_python_the_streams_are_what_they_were() {
    let rig = Rig::with_source(AS_EVER).flag("--capture-output").option("--error-logfile", "error.log");
    let mut site = start(rig);
    let answer = site.get("/");
    assert!(!answer.text().contains("False"), "{}", answer.text());
    site.stop();
    let log = site.folder().read("error.log");
    for text in [
        "\na\nb\n",
        "\nCurrent thread ",
        "\nfrom a program\nby a handler\nby a child\nbegun and ended\ndetached\nto wsgi.errors\n",
    ] {
        assert!(log.contains(text), "{text}: {log}");
    }
}
