//! Responses: what happens when the client leaves, when files change, and when a large part is not yet sent.

use std::{fs::File, time::Instant};

use ostler_tests::{Ending, Gate, PATIENCE, Rig};

use crate::canaries::status;

const STREAMS: &str = "
import os, socket, tempfile
TEXT = [('Content-Type', 'text/plain')]

def app(environ, start_response):
    return globals()[environ['PATH_INFO'][1:]](environ, start_response)

def visit(path):
    with socket.socket(socket.AF_UNIX) as gate:
        gate.connect(path)
        gate.recv(1)

class Closing:
    # An endless stream whose close() is seen at the gate.
    def __init__(self, gate, block):
        self.gate, self.block = gate, block
    def __iter__(self):
        return self
    def __next__(self):
        return self.block
    def close(self):
        visit(self.gate)

def empty_for_ever(environ, start_response):
    start_response('200 OK', TEXT)
    return Closing(environ['QUERY_STRING'], b'')

def full_for_ever(environ, start_response):
    start_response('200 OK', TEXT)
    return Closing(environ['QUERY_STRING'], b'x' * 65536)

def generator(environ, start_response):
    start_response('200 OK', TEXT)
    try:
        yield b'begun'
        while True:
            yield b''
    finally:
        visit(environ['QUERY_STRING'])

def writing(environ, start_response):
    write = start_response('200 OK', TEXT)
    try:
        while True:
            write(b'x' * 65536)
    except OSError as error:
        print('write() raised', type(error).__name__, file=environ['wsgi.errors'])
        raise

def asks(environ, start_response):
    gone = environ['ostler.client_disconnected']
    print('before:', gone(), file=environ['wsgi.errors'])
    visit(environ['QUERY_STRING'])
    print('after:', gone(), file=environ['wsgi.errors'])
    start_response('200 OK', TEXT)
    return [b'asked']

def breaks_late(environ, start_response):
    start_response('200 OK', TEXT)
    for number in range(100):
        yield b'x' * 65536
    raise RuntimeError('broke late')

def breaks_off(environ, start_response):
    start_response(environ['QUERY_STRING'] + ' as asked', TEXT)
    yield b'begun'
    raise RuntimeError('broke off')

def short(environ, start_response):
    start_response('200 OK', TEXT + [('Content-Length', '6')])
    return [b'abc'] if environ['QUERY_STRING'] == 'whole' else iter([b'ab', b'c'])

def file(environ, start_response):
    start_response('200 OK', TEXT)
    return environ['wsgi.file_wrapper'](open(environ['QUERY_STRING'], 'rb'))

def file_beyond(environ, start_response):
    opened = open(environ['QUERY_STRING'], 'rb')
    opened.seek(0, os.SEEK_END)
    opened.seek(10, os.SEEK_CUR)
    start_response('200 OK', TEXT)
    return environ['wsgi.file_wrapper'](opened)

def hints(environ, start_response):
    hint = environ['wsgi.early_hints']
    hint([('Link', '</a.css>; rel=preload'), ('Link', '</b.js>; rel=preload')])
    for wrong in ([('Link', 'a\\r\\nX-Split: yes')], [('Bad Name', 'a')], [('Link', 1)]):
        try:
            hint(wrong)
        except (TypeError, ValueError):
            pass
        else:
            raise AssertionError(wrong)
    visit(environ['QUERY_STRING'])
    start_response('200 OK', TEXT)
    return [b'hinted']
";

#[test]
fn pep3333_close_is_called_soon_after_the_client_has_left() {
    let site = Rig::with_source(STREAMS).start();
    for name in ["empty_for_ever", "full_for_ever", "generator"] {
        let gate = Gate::new();
        let mut client = site.connect();
        client.ask(&format!("/{name}?{}", gate.path()));
        if name != "empty_for_ever" {
            client.until(b"\r\n\r\n");
        }
        assert!(!gate.has_visitor(), "{name}: closed while the client was there");
        drop(client);
        gate.arrival().let_go("on");
        assert!(!gate.has_visitor(), "{name}: closed twice");
    }
}

#[test]
fn pep3333_write_raises_when_the_client_has_left() {
    let site = Rig::with_source(STREAMS).start();
    let mut client = site.connect();
    client.ask("/writing").until(b"xxx");
    drop(client);
    site.log("write() raised BrokenPipeError");
    // The only thread is free again, so everything is logged. The application is not blamed.
    assert_eq!(site.get("/file_beyond?/dev/null").status, 200);
    assert_eq!(site.logged("application raised"), 0);
}

#[test]
fn the_application_can_ask_whether_the_client_is_there() {
    let site = Rig::with_source(STREAMS).start();
    let gate = Gate::new();
    let mut client = site.connect();
    client.ask(&format!("/asks?{}", gate.path()));
    gate.arrival().let_go("on");
    assert_eq!(client.answer().text(), "asked");
    site.log("before: False");
    site.log("after: False");
    client.ask(&format!("/asks?{}", gate.path()));
    let visitor = gate.arrival();
    drop(client);
    visitor.let_go("on");
    site.log("before: False");
    site.log("after: True");
}

#[test]
fn rfc9112_8_what_was_sent_before_an_error_arrives_and_the_end_does_not() {
    let site = Rig::with_source(STREAMS).start();
    for version in ["1.1", "1.0"] {
        let mut client = site.connect();
        client.send(format!("GET /breaks_late HTTP/{version}\r\nHost: a\r\n\r\n"));
        // The client is slow. All of the response waits for it, and arrives.
        site.log("broke late");
        let (bytes, ending) = client.rest();
        assert!(!bytes.ends_with(b"0\r\n\r\n"));
        if version == "1.0" {
            // Only the close of the connection marks the end of this body, so a cut body must end with a reset.
            assert_eq!(ending, Ending::Reset);
        } else {
            assert_eq!(ending, Ending::Closed);
            let blocks = bytes.windows(7).filter(|window| window == b"10000\r\n").count();
            let end = [b'x'; 65536].into_iter().chain(*b"\r\n");
            assert!(blocks == 100 && bytes.iter().rev().take(65538).eq(end.collect::<Vec<_>>().iter().rev()));
        }
    }
}

#[test]
fn answers_that_the_application_breaks_off_are_counted() {
    let site = Rig::with_source(STREAMS).start();
    let broken = ["/breaks_off?200", "/short?whole", "/short?blocks"];
    // What is answered with 5xx is an error anyway. A whole answer is none, and a client that leaves is no fault of the application's.
    for target in broken.into_iter().chain(["/breaks_off?500"]) {
        site.connect().ask(target).try_answer().expect_err("it is not whole");
    }
    assert_eq!(site.get("/file_beyond?/dev/null").status, 200);
    let mut client = site.connect();
    client.ask("/writing").until(b"xxx");
    drop(client);
    site.log("write() raised BrokenPipeError");
    let deadline = Instant::now() + PATIENCE;
    loop {
        let metrics = status(&site)["metrics"].take();
        let requests = metrics["ostler_requests_total{code=\"2xx\",method=\"GET\"}"].as_u64();
        if requests == Some(5) {
            let counts = ["ostler_responses_broken_total", "ostler_request_errors_total"];
            assert_eq!(counts.map(|name| metrics[name].as_u64()), [Some(3), Some(1)]);
            break;
        }
        assert!(Instant::now() < deadline, "{metrics}");
    }
}

#[test]
fn a_file_is_the_same_with_sendfile_and_without() {
    for flags in [vec![], vec!["--no-sendfile"]] {
        let site = flags.iter().fold(Rig::with_source(STREAMS), |rig, flag| rig.flag(flag)).start();
        let path = site.folder().write("file", &"0123456789".repeat(100_000));
        let answer = site.get(&format!("/file?{}", path.display()));
        assert_eq!(answer.text(), "0123456789".repeat(100_000), "{flags:?}");
        assert_eq!(answer.field("content-length").is_some(), flags.is_empty());
        assert_eq!(site.get(&format!("/file_beyond?{}", path.display())).text(), "");
    }
}

#[test]
fn a_file_that_shrinks_while_it_is_sent_cuts_the_answer() {
    let site = Rig::with_source(STREAMS).start();
    let path = site.folder().write("file", "");
    let file = File::options().write(true).open(&path).expect("just written");
    file.set_len(100 << 20).expect("a sparse file takes no room");
    let mut client = site.connect();
    client.ask(&format!("/file?{}", path.display())).until(b"Content-Length: 104857600\r\n");
    file.set_len(0).expect("it is ours");
    let (bytes, _) = client.rest();
    assert!(bytes.len() < 100 << 20, "all {} bytes of it came", bytes.len());
    assert_eq!(site.get(&format!("/file?{}", path.display())).text(), "");
}

#[test]
fn rfc8297_2_hints_leave_at_once_and_cannot_split_the_answer() {
    let site = Rig::with_source(STREAMS).start();
    let gate = Gate::new();
    let mut client = site.connect();
    client.ask(&format!("/hints?{}", gate.path()));
    let hints = client.answer();
    assert_eq!((hints.status, hints.values("link")), (103, vec!["</a.css>; rel=preload", "</b.js>; rel=preload"]));
    gate.arrival().let_go("on");
    let answer = client.answer();
    assert_eq!((answer.status, answer.text(), answer.field("link")), (200, "hinted", None));
}
