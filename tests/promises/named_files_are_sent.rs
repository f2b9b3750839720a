//! A file that the application names by X-Sendfile or X-Accel-Redirect is sent in place of the body, and nothing outside of
//! `--sendfile-root` ever is.

use std::{fs, os::unix::fs::symlink};

use ostler_tests::{Answer, Client, Rig};

/// Says what the request's body asks for: a field in each line; and returns its body in the way that the path names.
const SOURCE: &str = "
import io
def app(environ, start_response):
    fields = [tuple(line.split(': ', 1)) for line in environ['wsgi.input'].read().decode('latin-1').splitlines()]
    status = environ['QUERY_STRING'].replace('+', ' ') or '200 OK'
    fields.append(('Set-Cookie', 'a=b'))
    if environ['PATH_INFO'] == '/iterator':
        def blocks():
            start_response(status, fields)
            yield b'not'
            yield b'this'
        return blocks()
    write = start_response(status, fields)
    match environ['PATH_INFO']:
        case '/write':
            write(b'not')
            return [b'this']
        case '/file':
            return environ['wsgi.file_wrapper'](io.BytesIO(b'not this'))
        case '/nothing':
            return []
    return [b'not this']
";

fn site() -> Rig {
    Rig::with_source(SOURCE)
        .option("--sendfile-root", "/private=media")
        .option("--sendfile-root", "plain")
        .file("media/report.txt", "0123456789")
        .file("media/a b.txt", "blank")
        .file("media/a%20b.txt", "percent")
        .file("plain/p.txt", "plain")
        .file("secret", "secret")
}

fn ask(client: &mut Client, target: &str, more: &str, said: &str) -> Answer {
    let length = said.len();
    let head = format!("POST {target} HTTP/1.1\r\nHost: a\r\nContent-Length: {length}\r\n{more}\r\n{said}");
    client.send(head).answer()
}

/// As [`ask`], by GET.
fn get(client: &mut Client, target: &str, more: &str, said: &str) -> Answer {
    let length = said.len();
    let head = format!("GET {target} HTTP/1.1\r\nHost: a\r\nContent-Length: {length}\r\n{more}\r\n{said}");
    client.send(head).answer()
}

#[test]
fn the_file_takes_the_place_of_the_body_however_that_is_given() {
    let site = site().start();
    let media = site.folder().join("media").display().to_string();
    let mut client = site.connect();
    for target in ["/", "/iterator", "/write", "/file", "/nothing"] {
        for named in [format!("X-Sendfile: {media}/report.txt"), "x-accel-redirect: /private/report.txt?a=b".into()] {
            let said = format!("{named}\nContent-Type: text/x-report\nContent-Length: 8\nETag: \"own\"");
            let answer = ask(&mut client, target, "", &said);
            assert_eq!((answer.status, answer.text()), (200, "0123456789"), "{target} {named}");
            assert_eq!(answer.field("Content-Type"), Some("text/x-report"));
            assert_eq!(answer.field("Set-Cookie"), Some("a=b"));
            assert_eq!((answer.field("X-Sendfile"), answer.field("X-Accel-Redirect")), (None, None));
            assert!(answer.field("ETag").is_some_and(|etag| etag != "\"own\""));
        }
    }
    let bare = ask(&mut client, "/", "", &format!("X-Sendfile: {media}/a%20b.txt"));
    assert_eq!((bare.text(), bare.field("Content-Type")), ("percent", Some("text/plain; charset=utf-8")));
    assert_eq!(ask(&mut client, "/", "", "X-Accel-Redirect: /private/a%20b.txt").text(), "blank");
    let plain = site.folder().join("plain/p.txt").display().to_string();
    assert_eq!(ask(&mut client, "/", "", &format!("X-Sendfile: {plain}")).text(), "plain");
    let gone = ask(&mut client, "/?410+Gone", "", &format!("X-Sendfile: {plain}"));
    assert_eq!((gone.status, gone.text()), (410, "plain"));
}

#[test]
fn ranges_and_conditions_are_those_of_files() {
    let site = site().start();
    let said = "X-Accel-Redirect: /private/report.txt\nContent-Type: text/x-report";
    let mut client = site.connect();
    let part = get(&mut client, "/", "Range: bytes=2-4\r\n", said);
    assert_eq!((part.status, part.text(), part.field("Content-Range")), (206, "234", Some("bytes 2-4/10")));
    assert_eq!(part.field("Set-Cookie"), Some("a=b"));
    let known = format!("If-None-Match: {}\r\n", part.field("ETag").unwrap());
    let same = get(&mut client, "/", &known, said);
    assert_eq!((same.status, same.field("Set-Cookie"), same.field("Content-Type")), (304, Some("a=b"), None));
    let behind = get(&mut client, "/", "Range: bytes=10-\r\n", said);
    assert_eq!((behind.status, behind.field("Content-Range")), (416, Some("bytes */10")));
    let head = format!("HEAD / HTTP/1.1\r\nHost: a\r\nContent-Length: {}\r\n\r\n{said}", said.len());
    let head = client.send(head).answer_to_head();
    assert_eq!((head.status, head.field("Content-Length")), (200, Some("10")));
}

#[test]
fn a_part_that_the_application_has_computed_is_computed_anew() {
    let site = site().file("media/empty.txt", "").start();
    let mut client = site.connect();
    // As Flask says it.
    let said = "Content-Range: bytes 2-4/10\nX-Accel-Redirect: /private/report.txt";
    let part = get(&mut client, "/?206+PARTIAL+CONTENT", "Range: bytes=2-4\r\n", said);
    assert_eq!((part.status, part.text(), part.field("Content-Range")), (206, "234", Some("bytes 2-4/10")));
    let whole = get(&mut client, "/?416+X", "", said);
    assert_eq!((whole.status, whole.text(), whole.field("Content-Range")), (200, "0123456789", None));
    let empty = get(&mut client, "/?206+X", "", "X-Accel-Redirect: /private/empty.txt");
    assert_eq!((empty.status, empty.text()), (200, ""));
}

#[test]
fn what_a_method_has_done_is_not_taken_back_by_a_condition() {
    let site = site().start();
    let answer = ask(&mut site.connect(), "/", "If-None-Match: *\r\n", "X-Accel-Redirect: /private/report.txt");
    assert_eq!((answer.status, answer.text()), (200, "0123456789"));
}

#[test]
fn what_is_not_sent_takes_nothing_but_the_file_with_it() {
    let site = site().start();
    let mut client = site.connect();
    let more = "Content-Type: text/csv\nContent-Disposition: attachment\nCache-Control: max-age=9, public\nETag: \"own\"\n\
                Access-Control-Allow-Origin: *\nContent-Security-Policy: sandbox\nVary: Cookie";
    let known = format!("X-Accel-Redirect: /private/report.txt\n{more}");
    let gone = format!("X-Accel-Redirect: /private/none.txt\n{more}");
    for (status, fields, said) in
        [(412, "If-Match: \"x\"\r\n", &known), (416, "Range: bytes=10-\r\n", &known), (404, "", &gone)]
    {
        let answer = get(&mut client, "/", fields, said);
        assert_eq!(answer.status, status);
        for (name, value) in [
            ("Set-Cookie", Some("a=b")),
            ("Access-Control-Allow-Origin", Some("*")),
            ("Content-Security-Policy", Some("sandbox")),
            ("Vary", Some("Cookie")),
            ("Cache-Control", Some("no-store")),
            ("Content-Type", Some("text/html; charset=utf-8")),
            ("Content-Disposition", None),
            ("ETag", None),
            ("X-Accel-Redirect", None),
        ] {
            assert_eq!(answer.field(name), value, "{name} {status}");
        }
    }
}

#[test]
fn the_application_is_not_run_for_a_body_that_nobody_gets() {
    let source = "
class Blocks:
    def __init__(self, block):
        self.block, self.asked, self.closed = block, 0, False
    def __iter__(self):
        return self
    def __next__(self):
        self.asked += 1
        return self.block
    def close(self):
        self.closed = True
blocks = []
def app(environ, start_response):
    path = environ['PATH_INFO']
    if path == '/told':
        start_response('200 OK', [])
        return [repr([(each.asked, each.closed) for each in blocks]).encode()]
    named = [('X-Accel-Redirect', '/private/report.txt')]
    if path == '/generator':
        def generate():
            try:
                start_response('200 OK', named)
                while True:
                    yield b'not this'
            finally:
                blocks.append(Blocks(b''))
                blocks[-1].close()
        return generate()
    start_response('200 OK', named)
    blocks.append(Blocks(b'not this' if path == '/endless' else b''))
    return blocks[-1]
";
    let rig =
        Rig::with_source(source).option("--sendfile-root", "/private=media").file("media/report.txt", "0123456789");
    let site = rig.start();
    let mut client = site.connect();
    for target in ["/endless", "/empty", "/generator"] {
        assert_eq!(client.get(target).text(), "0123456789", "{target}");
    }
    assert_eq!(client.get("/told").text(), "[(0, True), (0, True), (0, True)]");
}

#[test]
fn a_directory_s_name_may_hold_the_sign_that_ends_a_path() {
    let rig = Rig::with_source(SOURCE).file("media=1/report.txt", "0123456789");
    let place = rig.folder().join("media=1").display().to_string();
    let site = rig.option("--sendfile-root", &place).option("--sendfile-root", "/private=media=1").start();
    let mut client = site.connect();
    for named in [format!("X-Sendfile: {place}/report.txt"), "X-Accel-Redirect: /private/report.txt".into()] {
        assert_eq!(ask(&mut client, "/", "", &named).text(), "0123456789", "{named}");
    }
}

#[test]
fn what_is_outside_is_404_and_said_in_the_log() {
    let site = site().start();
    symlink("../secret", site.folder().join("media/link")).unwrap();
    let folder = site.folder().path().display().to_string();
    let mut client = site.connect();
    for named in [
        "X-Sendfile: /etc/passwd".to_string(),
        format!("X-Sendfile: {folder}/secret"),
        format!("X-Sendfile: {folder}/media/../secret"),
        format!("X-Sendfile: {folder}/media/link"),
        format!("X-Sendfile: {folder}/media"),
        format!("X-Sendfile: {folder}/media/none"),
        "X-Sendfile: media/report.txt".into(),
        "X-Sendfile: ".into(),
        "X-Accel-Redirect: /private/../secret".into(),
        "X-Accel-Redirect: /private/%2e%2e/secret".into(),
        "X-Accel-Redirect: /plain/p.txt".into(),
        "X-Accel-Redirect: /private".into(),
    ] {
        let answer = ask(&mut client, "/", "", &named);
        assert_eq!((answer.status, answer.field("X-Sendfile")), (404, None), "{named}");
        assert!(!answer.text().contains("secret"), "{named}");
    }
    let line = site.log("file not served");
    assert_eq!((line.key("path"), line.key("request")), (Some("/etc/passwd"), Some("POST /")));
    assert_eq!(line.key("reason"), Some("it is below no directory of --sendfile-root"));
}

#[test]
fn without_the_option_a_proxy_gets_the_fields_and_large_files_are_whole() {
    let site = Rig::with_source(SOURCE).start();
    let answer = ask(&mut site.connect(), "/", "", "X-Accel-Redirect: /private/report.txt");
    assert_eq!((answer.text(), answer.field("X-Accel-Redirect")), ("not this", Some("/private/report.txt")));
    let site = self::site().start();
    let content: Vec<u8> = (0..5 << 20).map(|at: usize| (at % 251) as u8).collect();
    fs::write(site.folder().join("media/large"), &content).unwrap();
    let mut client = site.connect();
    for _ in 0..2 {
        assert!(ask(&mut client, "/", "", "X-Accel-Redirect: /private/large").body == content);
    }
}

#[test]
fn a_directory_that_is_missing_is_refused() {
    let rig = Rig::with_source(SOURCE).option("--sendfile-root", "/private=none");
    rig.refuse().says(2, &["--sendfile-root: \"/private=none\": none: no such file or directory"]);
}
