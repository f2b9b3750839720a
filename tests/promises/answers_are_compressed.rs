//! `--compress` sends the same answer in fewer bytes: to clients that take that, and where nothing that caches, ranges and conditions rely on
//! becomes untrue.

use std::{
    io::Write,
    process::{Command, Stdio},
};

use ostler_tests::{Answer, Client, Python, Rig};

/// Says what the request's body asks for, a field in each line, and its text in the way that the path names.
const SOURCE: &str = "
TEXT = ''.join(f'<p>line {line} of a page</p>' for line in range(200)).encode()
class Once:
    # As Django's and Flask's responses: no length, one block.
    def __iter__(self):
        yield TEXT
def app(environ, start_response):
    said = environ['wsgi.input'].read().decode('latin-1').splitlines()
    fields = [tuple(line.split(': ', 1)) for line in said]
    write = start_response(environ['QUERY_STRING'].replace('+', ' ') or '200 OK', fields)
    match environ['PATH_INFO']:
        case '/once':
            return Once()
        case '/blocks':
            return [TEXT[:1000], TEXT[1000:]]
        case '/write':
            write(TEXT)
            return []
        case '/short':
            return [TEXT[:999]]
        case '/large':
            return [TEXT * 100]
        case '/huge':
            return [bytes(17 << 20)]
        case '/nothing':
            return []
    return [TEXT]
";
const HTML: &str = "Content-Type: text/html";

fn text() -> String {
    (0..200).map(|line| format!("<p>line {line} of a page</p>")).collect()
}

fn site() -> Rig {
    Rig::with_source(SOURCE).flag("--compress")
}

fn request(method: &str, target: &str, more: &str, said: &str) -> String {
    let length = said.len();
    format!("{method} {target} HTTP/1.1\r\nHost: a\r\nContent-Length: {length}\r\n{more}\r\n{said}")
}

fn ask(client: &mut Client, target: &str, coding: &str, said: &str) -> Answer {
    client.send(request("GET", target, &format!("Accept-Encoding: {coding}\r\n"), said)).answer()
}

/// The body as a program that is not ours reads it.
fn decoded(answer: &Answer) -> Vec<u8> {
    let program = match answer.field("Content-Encoding") {
        None => return answer.body.clone(),
        Some(name) => name,
    };
    let mut child = Command::new(program).arg("-dc").stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
    let mut input = child.stdin.take().unwrap();
    let body = answer.body.clone();
    let writer = std::thread::spawn(move || input.write_all(&body).unwrap());
    let output = child.wait_with_output().unwrap();
    writer.join().unwrap();
    assert!(output.status.success(), "{program} does not read the body");
    output.stdout
}

fn is_compressed(answer: &Answer) -> bool {
    answer.field("Content-Encoding").is_some()
}

#[test]
fn a_client_gets_the_coding_that_it_wants_most() {
    let site = site().start();
    let mut client = site.connect();
    for (accepted, coding) in [
        ("gzip, deflate, br, zstd", Some("zstd")),
        ("gzip, deflate, br", Some("gzip")),
        ("gzip;q=1.0, zstd;q=0.5", Some("gzip")),
        ("identity;q=0, gzip;q=0.1", Some("gzip")),
        ("*", Some("zstd")),
        ("*, zstd;q=0", Some("gzip")),
        ("gzip;q=0", None),
        ("identity, gzip;q=0.5", None),
        ("br", None),
        ("", None),
    ] {
        let answer = ask(&mut client, "/", accepted, HTML);
        assert_eq!((answer.status, answer.field("Content-Encoding")), (200, coding), "{accepted}");
        assert_eq!(answer.field("Vary"), Some("Accept-Encoding"), "{accepted}");
        assert_eq!(answer.field("Content-Length"), Some(answer.body.len().to_string().as_str()), "{accepted}");
        assert_eq!(decoded(&answer), text().as_bytes(), "{accepted}");
        assert_eq!(answer.body.len() < 1500, coding.is_some(), "{accepted}");
    }
}

#[test]
fn curl_sees_no_difference() {
    let site = site().start();
    for target in ["/", "/large"] {
        let get = |arguments: &[&str]| {
            let url = format!("{}{target}", site.address());
            let said = ["--silent", "--show-error", "--max-time", "30", "-X", "GET", "--data-binary", HTML, &url];
            let output = Command::new("curl").args(arguments).args(said).output().unwrap();
            assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
            output.stdout
        };
        let plain = get(&[]);
        assert!(plain.starts_with(b"<p>line 0"));
        assert!(get(&["--compressed"]) == plain);
        assert!(get(&["--compressed", "--header", "Accept-Encoding: gzip"]) == plain);
    }
}

#[test]
fn only_what_is_whole_is_compressed() {
    let site = site().start();
    let mut client = site.connect();
    let known = format!("{HTML}\nContent-Length: {}", text().len());
    for (target, said, compressed) in [
        ("/", HTML, true),
        ("/", known.as_str(), true),
        ("/once", &known, true),
        ("/write", &known, true),
        // It is not known whether there will be more.
        ("/once", HTML, false),
        ("/write", HTML, false),
        ("/blocks", HTML, false),
        ("/blocks", &known, false),
        ("/short", HTML, false),
        ("/?206+Partial+Content", HTML, false),
        ("/?404+Not+Found", HTML, true),
        ("/?500+Broken", HTML, true),
        ("/", "Content-Type: image/png", false),
        ("/", "Content-Type: application/problem+json; charset=utf-8", true),
        ("/", "", false),
        ("/", "Content-Type: text/html\nCache-Control: no-transform", false),
        ("/", "Content-Type: text/html\nContent-Encoding: identity", false),
        ("/", "Content-Type: text/html\nContent-Digest: sha-256=:x:", false),
    ] {
        let answer = ask(&mut client, target, "gzip", said);
        let coded = answer.field("Content-Encoding") == Some("gzip");
        assert_eq!(coded, compressed, "{target} {said}");
        let whole = if target == "/short" { text()[..999].to_string() } else { text() };
        if coded || !is_compressed(&answer) {
            assert_eq!(decoded(&answer), whole.as_bytes(), "{target} {said}");
        }
    }
    assert!(!is_compressed(&ask(&mut client, "/huge", "gzip", "Content-Type: text/plain")));
    let large = ask(&mut client, "/large", "zstd", HTML);
    assert!(is_compressed(&large) && decoded(&large) == text().repeat(100).as_bytes());
    // What the application promises and does not keep is cut, as always.
    let wrong = ask(&mut client, "/", "gzip", &format!("{HTML}\nContent-Length: 10"));
    assert_eq!((wrong.text(), is_compressed(&wrong)), (&text()[..10], false));
}

#[test]
fn head_says_what_get_says() {
    let site = site().start();
    let mut client = site.connect();
    let known = format!("{HTML}\nETag: \"a\"\nAccept-Ranges: bytes\nContent-Length: {}", text().len());
    for (target, coding) in [("/", "gzip"), ("/once", "gzip"), ("/nothing", "zstd"), ("/", "br")] {
        let fields = format!("Accept-Encoding: {coding}\r\n");
        let head = client.send(request("HEAD", target, &fields, &known)).answer_to_head();
        let get = ask(&mut client, if target == "/nothing" { "/" } else { target }, coding, &known);
        for name in ["Content-Encoding", "Vary", "ETag", "Content-Type", "Accept-Ranges"] {
            assert_eq!(head.field(name), get.field(name), "{name} {target} {coding}");
        }
        let length = (!is_compressed(&get)).then(|| get.field("Content-Length")).flatten();
        assert_eq!(head.field("Content-Length"), length, "of what is not made, it is not known");
    }
}

#[test]
fn caches_keep_the_two_apart_and_conditions_hold() {
    let site = site().start();
    let mut client = site.connect();
    let said = format!("{HTML}\nETag: \"a\"\nVary: Cookie\nAccept-Ranges: bytes");
    let plain = ask(&mut client, "/", "br", &said);
    assert_eq!((plain.field("ETag"), plain.field("Vary")), (Some("\"a\""), Some("Cookie, Accept-Encoding")));
    assert_eq!(plain.field("Accept-Ranges"), Some("bytes"));
    let coded = ask(&mut client, "/", "gzip", &said);
    assert_eq!((coded.field("ETag"), coded.field("Vary")), (Some("W/\"a\""), Some("Cookie, Accept-Encoding")));
    assert_eq!(coded.field("Accept-Ranges"), None);
    for (tag, expected) in [("W/\"a\"", "W/\"a\""), ("\"a\"", "\"a\"")] {
        let fields = format!("Accept-Encoding: gzip\r\nIf-None-Match: {tag}\r\n");
        let same = client.send(request("GET", "/?304+Not+Modified", &fields, "ETag: \"a\"")).answer();
        assert_eq!((same.status, same.field("ETag")), (304, Some(expected)));
    }
}

#[test]
fn a_framework_knows_the_weak_tag_as_its_own() {
    let source = "
from flask import Flask, request
app = Flask(__name__)
@app.get('/')
def page():
    from flask import make_response
    answer = make_response('<p>a page</p>' * 200)
    answer.add_etag()
    return answer.make_conditional(request, accept_ranges=True, complete_length=2600)
";
    let site = Rig::with_source(source).python(Python::usual()).flag("--compress").start();
    let mut client = site.connect();
    let get = |client: &mut Client, fields: &str| {
        client.send(format!("GET / HTTP/1.1\r\nHost: a\r\nAccept-Encoding: gzip\r\n{fields}\r\n")).answer()
    };
    let page = get(&mut client, "");
    assert!(is_compressed(&page) && decoded(&page) == "<p>a page</p>".repeat(200).as_bytes());
    let tag = page.field("ETag").unwrap();
    assert!(tag.starts_with("W/\""));
    let same = get(&mut client, &format!("If-None-Match: {tag}\r\n"));
    assert_eq!((same.status, same.field("ETag")), (304, Some(tag)));
    let part = get(&mut client, "Range: bytes=0-3\r\n");
    assert_eq!(
        (part.status, part.text(), is_compressed(&part)),
        (206, "<p>a", false),
        "a part is of the page as it is"
    );
}

#[test]
fn types_and_sizes_are_options_and_off_is_off() {
    let off = Rig::with_source(SOURCE).start();
    let answer = ask(&mut off.connect(), "/", "gzip", HTML);
    assert_eq!((is_compressed(&answer), answer.field("Vary")), (false, None));
    assert_eq!(off.logged("answers are compressed"), 0);
    let site = site().option("--compress-types", "text/csv,image/*").option("--compress-min-size", "500").start();
    let mut client = site.connect();
    for (target, said, compressed) in [
        ("/", HTML, false),
        ("/", "Content-Type: text/csv", true),
        ("/short", "Content-Type: text/csv", true),
        ("/", "Content-Type: image/x-own", true),
        // It is compressed in itself.
        ("/", "Content-Type: image/webp", false),
    ] {
        assert_eq!(is_compressed(&ask(&mut client, target, "gzip", said)), compressed, "{target} {said}");
    }
    assert!(site.log("answers are compressed").key("hint").is_some_and(|hint| hint.contains("BREACH")));
    let wrong = Rig::with_source(SOURCE).option("--compress-types", "html").refuse();
    wrong.says(2, &["--compress-types: \"html\": expected a type, such as text/html"]);
}
