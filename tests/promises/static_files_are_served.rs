//! `--static` answers with files, quickly, rightly and without the application.

use std::{
    fs::{self, File},
    os::unix::fs::{PermissionsExt, symlink},
    time::{Duration, SystemTime},
};

use ostler_tests::{Answer, Client, Gate, Python, Rig, Signal, Site, built};
use serde_json::{Value, json};

use crate::the_uwsgi_protocol_is_spoken::packet;

const SOURCE: &str = "
def app(environ, start_response):
    start_response('200 OK', [('Content-Type', 'text/plain')])
    return [b'application']
";

fn site() -> Rig {
    Rig::with_source(SOURCE).option("--static", "/static=public").file("public/app.css", "body {}")
}

fn get(client: &mut Client, target: &str, fields: &str) -> Answer {
    client.send(format!("GET {target} HTTP/1.1\r\nHost: a\r\n{fields}\r\n")).answer()
}

/// Sets when a file was changed.
fn date(site: &Site, name: &str, seconds: u64) {
    let file = File::options().write(true).open(site.folder().join(name)).expect("it was written");
    file.set_modified(SystemTime::UNIX_EPOCH + Duration::from_secs(seconds)).expect("it is ours");
}

#[test]
fn a_file_is_an_answer_like_any_other() {
    let mut site = site()
        .option("--access-logfile", "access")
        .option("--access-logformat", "%(m)s %(U)s %(s)s %(B)s %({x-request-id}i)s")
        .flag("--request-id=response")
        .option("--generation-header", "X-Generation")
        .start();
    date(&site, "public/app.css", 784_111_777);
    let mut client = site.connect();
    let answer = client.get("/static/app.css?v=2");
    assert_eq!((answer.status, answer.text()), (200, "body {}"));
    for (name, value) in [
        ("Content-Type", "text/css; charset=utf-8"),
        ("Last-Modified", "Sun, 06 Nov 1994 08:49:37 GMT"),
        ("ETag", "\"2ebc98a100000000-7\""),
        ("Cache-Control", "max-age=60, public"),
        ("Accept-Ranges", "bytes"),
        ("Vary", "Accept-Encoding"),
        ("Server", "ostler"),
        ("X-Generation", "1"),
    ] {
        assert_eq!(answer.field(name), Some(value), "{name}");
    }
    assert_eq!(answer.field("X-Request-ID").map(str::len), Some(32));
    let head = client.send("HEAD /static/app.css HTTP/1.1\r\nHost: a\r\n\r\n").answer_to_head();
    assert_eq!((head.status, head.field("Content-Length"), &head.body[..]), (200, Some("7"), &b""[..]));
    client.send("GET /static/app.css HTTP/1.1\r\nHost: a\r\n\r\n".repeat(3)).send("GET / HTTP/1.1\r\nHost: a\r\n\r\n");
    assert_eq!([0; 3].map(|_| client.answer().body), [b"body {}"; 3]);
    assert_eq!(client.answer().text(), "application", "on the same connection");
    site.stop();
    let log = site.folder().read("access");
    let line = format!("GET /static/app.css 200 7 {}", answer.field("X-Request-ID").unwrap());
    assert_eq!(log.lines().next(), Some(line.as_str()));
    assert_eq!(log.lines().nth(1).map(|line| line.starts_with("HEAD /static/app.css 200 0 ")), Some(true), "{log}");
}

#[test]
fn every_kind_of_listener_serves_files() {
    let unix = site();
    let socket = format!("unix:{}", unix.folder().join("site.sock").display());
    assert_eq!(unix.bind(&socket).start().get("/static/app.css").text(), "body {}");
    let asked = [
        ("REQUEST_METHOD", "GET"),
        ("REQUEST_URI", "/static/app.css?v=2"),
        ("SERVER_PROTOCOL", "HTTP/1.1"),
        ("HTTP_HOST", "a"),
        ("HTTP_RANGE", "bytes=0-3"),
    ];
    let site = site().bind("uwsgi://127.0.0.1:0").start();
    let answer = site.connect().send(packet(&asked)).answer();
    assert_eq!((answer.status, answer.text()), (206, "body"));
}

#[test]
fn they_are_counted_apart_from_what_the_application_answers() {
    let site = site().start();
    let mut client = site.connect();
    for target in ["/static/app.css", "/static/app.css", "/", "/static/none"] {
        assert_eq!(client.get(target).status, 200);
    }
    let told = serde_json::from_str::<Value>(&site.control(&["status", "--json"]).output).unwrap();
    let metrics = &told["metrics"];
    assert_eq!(
        (&metrics["ostler_static_answers_total"], &metrics["ostler_request_errors_total"]),
        (&json!(2), &json!(0))
    );
    assert_eq!(metrics["ostler_request_duration_seconds_count"], 2, "{metrics}");
    assert_eq!(metrics["ostler_requests_refused_total"], 0);
    assert_eq!(metrics["ostler_response_body_bytes_total"], 7 + 7 + 11 + 11);
}

#[test]
fn what_is_no_file_is_the_application_s() {
    let site = site()
        .option("--static", "/static/deep=deep")
        .file("deep/app.js", "deep")
        .file("public/deep/app.js", "hidden")
        .file("public/deep/other.js", "hidden")
        .start();
    symlink("/etc", site.folder().join("public/etc")).unwrap();
    let mut client = site.connect();
    assert_eq!(client.get("/static/deep/app.js").text(), "deep", "the longest path counts");
    assert_eq!(client.get("/%73tatic/app.css").text(), "body {}");
    for target in [
        "/static/deep/other.js",
        "/staticx/app.css",
        "/static",
        "/static/",
        "/static/deep",
        "/static/none.css",
        "/static/app.css/",
        "/static//app.css",
        "/static/../app.py",
        "/static/%2e%2e/app.py",
        "/static/..%2fapp.py",
        "/static/a%5c..%5c..%5capp.py",
        "/static/etc/passwd",
    ] {
        assert_eq!(client.get(target).text(), "application", "{target}");
    }
    let line = site.log("file not served");
    assert_eq!(line.key("path"), Some("etc/passwd"));
    assert!(line.text().contains("--static-links"), "{line:?}");
    assert_eq!(client.post("/static/app.css", "text/plain", b"").text(), "application");
    let with_body = "GET /static/app.css HTTP/1.1\r\nHost: a\r\nContent-Length: 1\r\n\r\nx";
    assert_eq!(client.send(with_body).answer().text(), "application");
}

#[test]
fn with_static_only_it_is_404_and_indexes_and_links_are_followed_where_that_is_said() {
    let site = site()
        .flag("--static-only")
        .flag("--static-index")
        .flag("--static-links")
        .file("public/docs/index.html", "<p>docs")
        .file("outside/a.txt", "linked")
        .start();
    symlink("../outside/a.txt", site.folder().join("public/a.txt")).unwrap();
    fs::create_dir(site.folder().join("public/empty")).unwrap();
    let mut client = site.connect();
    assert_eq!(client.get("/static/none").status, 404);
    assert_eq!(client.get("/static/empty").status, 404);
    assert_eq!(client.get("/static/").status, 404);
    for odd in ["/static/..%2f", "/static//a.txt", "/static/docs/..", "/static", "/%73tatic//a.txt", "/stati%63"] {
        assert_eq!(client.get(odd).status, 404, "{odd}");
    }
    assert_eq!(client.get("/staticx").text(), "application");
    assert_eq!(client.get("/").text(), "application");
    let docs = client.get("/static/docs/");
    assert_eq!((docs.text(), docs.field("Content-Type")), ("<p>docs", Some("text/html; charset=utf-8")));
    let moved = client.get("/static/docs?a=b");
    assert_eq!((moved.status, moved.field("Location")), (301, Some("./docs/?a=b")));
    site.folder().write("public/index.html", "<p>index");
    assert_eq!(client.get("/static").field("Location"), Some("./static/"));
    assert_eq!(client.get("/%73tatic").field("Location"), Some("./%73tatic/"));
    assert_eq!(client.get("/static/a.txt").text(), "linked");
}

#[test]
fn conditions_and_ranges_are_those_of_rfc_9110() {
    let site = site().file("public/abc", "abcdefghij").start();
    date(&site, "public/abc", 784_111_777);
    let mut client = site.connect();
    let whole = client.get("/static/abc");
    assert_eq!(whole.field("Content-Type"), Some("application/octet-stream"));
    let (etag, modified) = (whole.field("ETag").unwrap(), whole.field("Last-Modified").unwrap());
    for fields in [format!("If-None-Match: \"x\", W/{etag}\r\n"), format!("If-Modified-Since: {modified}\r\n")] {
        let answer = get(&mut client, "/static/abc", &fields);
        assert_eq!((answer.status, answer.field("ETag")), (304, Some(etag)), "{fields}");
        assert_eq!((answer.field("Vary"), answer.field("Content-Type")), (Some("Accept-Encoding"), None));
    }
    for (fields, status, body, range) in [
        ("Range: bytes=2-4\r\n".to_string(), 206, "cde", Some("bytes 2-4/10")),
        ("Range: bytes=-3\r\n".into(), 206, "hij", Some("bytes 7-9/10")),
        (format!("Range: bytes=8-\r\nIf-Range: {etag}\r\n"), 206, "ij", Some("bytes 8-9/10")),
        (format!("Range: bytes=8-\r\nIf-Range: {modified}\r\n"), 206, "ij", Some("bytes 8-9/10")),
        ("Range: bytes=8-\r\nIf-Range: \"other\"\r\n".into(), 200, "abcdefghij", None),
        ("Range: bytes=0-1,4-5\r\n".into(), 200, "abcdefghij", None),
        ("Range: lines=1-2\r\n".into(), 200, "abcdefghij", None),
    ] {
        let answer = get(&mut client, "/static/abc", &fields);
        assert_eq!((answer.status, answer.text(), answer.field("Content-Range")), (status, body, range), "{fields}");
    }
    let behind = get(&mut client, "/static/abc", "Range: bytes=10-\r\n");
    assert_eq!((behind.status, behind.field("Content-Range")), (416, Some("bytes */10")));
    assert_eq!(get(&mut client, "/static/abc", "If-Match: \"x\"\r\n").status, 412);
    let head = client.send("HEAD /static/abc HTTP/1.1\r\nHost: a\r\nRange: bytes=2-4\r\n\r\n").answer_to_head();
    assert_eq!((head.status, head.field("Content-Length")), (200, Some("10")), "a range is for GET alone");
}

#[test]
fn what_lies_compressed_beside_a_file_is_sent_to_whom_takes_it() {
    let site = site()
        .file("public/app.css.br", "brotli")
        .file("public/app.css.zst", "zstd")
        .file("public/app.css.gz", "gzip")
        .file("public/a.png", "picture")
        .file("public/a.png.gz", "gzip")
        .file("public/app.6b517d0d5813.js", "hashed")
        .option("--static-max-age", "0")
        .start();
    let mut client = site.connect();
    for (accepted, body, coding) in [
        ("gzip, deflate, br, zstd", "brotli", Some("br")),
        ("gzip, zstd", "zstd", Some("zstd")),
        ("gzip;q=1, br;q=0.5", "gzip", Some("gzip")),
        ("br;q=0", "body {}", None),
    ] {
        let answer = get(&mut client, "/static/app.css", &format!("Accept-Encoding: {accepted}\r\n"));
        assert_eq!((answer.text(), answer.field("Content-Encoding")), (body, coding), "{accepted}");
        assert_eq!(answer.field("Content-Type"), Some("text/css; charset=utf-8"));
        assert_eq!((answer.field("Vary"), answer.field("Cache-Control")), (Some("Accept-Encoding"), Some("no-cache")));
        assert!(coding.is_none_or(|coding| answer.field("ETag").unwrap().contains(&coding[..2])), "{answer:?}");
    }
    date(&site, "public/app.css.br", 784_111_777);
    let fresh = get(&mut client, "/static/app.css", "Accept-Encoding: br, gzip\r\n");
    assert_eq!(fresh.text(), "gzip", "the other is older than the file");
    let picture = get(&mut client, "/static/a.png", "Accept-Encoding: gzip\r\n");
    assert_eq!((picture.text(), picture.field("Vary")), ("picture", None));
    let hashed = client.get("/static/app.6b517d0d5813.js");
    assert_eq!(hashed.field("Cache-Control"), Some("max-age=31536000, public, immutable"));
    assert_eq!(client.get("/static/app.css.gz").field("Content-Encoding"), None, "asked for by its own name");
}

#[test]
fn changes_on_disk_are_seen_at_once_and_large_files_are_whole() {
    let site = site().start();
    let mut client = site.connect();
    let first = client.get("/static/app.css");
    site.folder().write("public/app.css", "p { color: red }");
    let second = client.get("/static/app.css");
    assert_eq!(second.text(), "p { color: red }");
    assert_ne!(first.field("ETag"), second.field("ETag"));
    fs::remove_file(site.folder().join("public/app.css")).unwrap();
    assert_eq!(client.get("/static/app.css").text(), "application");
    for size in [0, 1, 16 * 1024, 16 * 1024 + 1, 3 << 20] {
        let content: Vec<u8> = (0..size).map(|at: usize| (at % 251) as u8).collect();
        fs::write(site.folder().join("public/large"), &content).unwrap();
        assert!(client.get("/static/large").body == content, "{size}");
    }
    let part = get(&mut client, "/static/large", "Range: bytes=1048576-2097151\r\n");
    assert_eq!((part.status, part.body.len(), part.body[0]), (206, 1 << 20, ((1 << 20) % 251) as u8));
}

#[test]
fn neither_a_busy_application_nor_a_slow_client_holds_files_up() {
    let gate = Gate::new();
    let source = format!(
        "{SOURCE}\ndef wait(environ, start_response):\n    {}\n    return app(environ, start_response)\n",
        gate.statement()
    );
    let site = Rig::new("./app.py:wait")
        .file("app.py", &source)
        .option("--static", "/static=public")
        .file("public/small", "small")
        .start();
    let size = 32 << 20;
    File::create(site.folder().join("public/large")).unwrap().set_len(size).unwrap();
    let mut slow = site.connect();
    slow.ask("/static/large");
    let (mut open, mut busy) = (site.connect(), site.connect());
    assert_eq!(open.get("/static/small").text(), "small");
    busy.ask("/");
    let visitor = gate.arrival();
    for _ in 0..10 {
        assert_eq!(open.get("/static/small").text(), "small");
    }
    assert_eq!(slow.answer().body.len() as u64, size);
    visitor.let_go("");
    assert_eq!(busy.answer().text(), "application");
}

/// Runs the daemon where openat2(2) is answered with the status that is the first argument, as sandboxes answer it that do not know it.
const SANDBOX: &str = r#"#!/usr/bin/env python3
import ctypes, os, struct, sys
OPENAT2, ALLOW, ERRNO = 437, 0x7fff0000, 0x00050000
code = [(0x20, 0, 0, 0), (0x15, 0, 1, OPENAT2), (6, 0, 0, ERRNO | int(os.environ['ANSWER'])), (6, 0, 0, ALLOW)]
filters = ctypes.create_string_buffer(b''.join(struct.pack('HBBI', *line) for line in code))
program = ctypes.create_string_buffer(struct.pack('HxxxxxxP', len(code), ctypes.addressof(filters)))
libc = ctypes.CDLL(None, use_errno=True)
assert libc.prctl(38, 1, 0, 0, 0) == 0 and libc.prctl(22, 2, program, 0, 0) == 0, ctypes.get_errno()
os.execv(os.environ['DAEMON'], sys.argv)
"#;

#[test]
fn a_sandbox_without_openat2_follows_no_links() {
    for errno in ["1", "13", "38"] {
        let rig = site().file("public/a/b", "inside").file("secret", "secret");
        let sandbox = rig.folder().write("sandbox", SANDBOX);
        fs::set_permissions(&sandbox, fs::Permissions::from_mode(0o755)).unwrap();
        let daemon = built("ostler").display().to_string();
        let site = rig.executable(sandbox).env("ANSWER", errno).env("DAEMON", &daemon).start();
        symlink("a", site.folder().join("public/link")).unwrap();
        symlink("../secret", site.folder().join("public/out")).unwrap();
        let mut client = site.connect();
        let texts =
            ["a/b", "link/b", "out", "../secret"].map(|way| client.get(&format!("/static/{way}")).text().to_owned());
        assert_eq!(texts, ["inside", "application", "application", "application"], "{errno}");
    }
}

#[test]
fn a_release_has_its_own_files_and_one_without_them_is_refused() {
    let rig = Rig::with_source(SOURCE).option("--static", "/static=current/public");
    rig.folder().write("1/public/a", "one");
    rig.folder().write("2/public/a", "two");
    let link = rig.folder().join("current");
    symlink("1", &link).unwrap();
    let site = rig.start();
    let point = |to: &str| {
        let new = site.folder().join("new");
        symlink(to, &new).unwrap();
        fs::rename(&new, site.folder().join("current")).unwrap();
    };
    point("2");
    assert_eq!(site.get("/static/a").text(), "one", "until the reload");
    site.control(&["reload", "--wait"]).says(0, &[]);
    assert_eq!(site.get("/static/a").text(), "two");
    point("3");
    site.control(&["reload", "--wait"])
        .says(2, &["--static: \"/static=current/public\": current/public: no such file or directory"]);
    assert_eq!(site.get("/static/a").text(), "two");
}

#[test]
fn mistakes_are_told_in_a_sentence() {
    for (options, why) in [
        (&["--static", "/static=none"][..], "--static: \"/static=none\": none: no such file or directory"),
        (&["--static", "/static=app.py"], "app.py is not a directory"),
        (&["--static", "static=."], "expected a path that begins with /, = and a directory, as in /static=public"),
        (&["--static", "/a=.", "--static", "/a/=."], "this path is named twice"),
        (&["--sendfile-root", "/a=.", "--sendfile-root", "/a/=.."], "this path is named twice"),
        (&["--static", "/a=.", "--root-path", "/shop"], "clients ask below --root-path. Say /shop/a=…"),
    ] {
        let mut rig = Rig::with_source(SOURCE);
        for pair in options.chunks(2) {
            rig = rig.option(pair[0], pair[1]);
        }
        rig.refuse().says(2, &[why]);
    }
}

/// Asks for what hostile clients ask for. The root holds links out of it; nothing outside is ever answered.
#[test]
fn no_path_leaves_its_folder() {
    let site = site().file("secret", "the secret").file("public/a/b", "inside").start();
    for (to, name) in [("..", "up"), ("../secret", "link"), ("/", "slash"), ("a", "in"), ("/proc/self/cwd", "magic")] {
        symlink(to, site.folder().join("public").join(name)).unwrap();
    }
    let pieces = [
        "..",
        ".",
        "%2e%2e",
        "%2E.",
        "/",
        "//",
        "%2f",
        "%5c",
        "\\",
        "a",
        "b",
        "up",
        "link",
        "slash",
        "in",
        "magic",
        "secret",
        "app.py",
        "%252e%252e",
        "%c0%ae%c0%ae",
        "..;",
        "%0a",
        "etc/passwd",
        "~",
        "%ff",
    ];
    let mut seed = 4711u64;
    let mut below = |bound: usize| {
        seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (seed >> 33) as usize % bound
    };
    let mut client = site.connect();
    let (mut inside, expected) = (0, ["application", "inside", "body {}"]);
    for _ in 0..3000 {
        let parts: Vec<&str> = (0..1 + below(6)).map(|_| pieces[below(pieces.len())]).collect();
        let target = format!("/static/{}", parts.join(["", "/"][below(2)]));
        let answer = client.get(&target);
        assert!(answer.status == 200 && expected.contains(&answer.text()), "{target}: {answer:?}");
        inside += u32::from(answer.text() == "inside");
    }
    assert!(inside > 0, "some of them name a file");
}

#[test]
fn the_files_of_django_s_admin_are_served_byte_by_byte() {
    let python = Python::usual();
    let source = format!(
        "{SOURCE}
if __name__ == '__main__':
    import django
    from django.conf import settings
    from django.core.management import call_command
    storages = {{'staticfiles': {{'BACKEND': 'django.contrib.staticfiles.storage.ManifestStaticFilesStorage'}}}}
    settings.configure(INSTALLED_APPS=['django.contrib.contenttypes', 'django.contrib.auth', 'django.contrib.admin',
        'django.contrib.staticfiles'], STATIC_URL='/static/', STATIC_ROOT='public', STORAGES=storages)
    django.setup()
    call_command('collectstatic', '--no-input', '-v0')
"
    );
    let rig = Rig::with_source(&source).option("--static", "/static=public");
    let mut collect = std::process::Command::new(&python.environment().python);
    let done = collect.arg("app.py").current_dir(rig.folder().path()).output().expect("it can be run");
    assert!(done.status.success(), "{}", String::from_utf8_lossy(&done.stderr));
    let site = rig.start();
    let (root, mut client) = (site.folder().join("public"), site.connect());
    let (mut folders, mut files, mut immutable) = (vec![root.clone()], 0, 0);
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                folders.push(path);
                continue;
            }
            let name = path.strip_prefix(&root).unwrap().display().to_string();
            let answer = client.get(&format!("/static/{name}"));
            assert!(answer.status == 200 && answer.body == fs::read(&path).unwrap(), "{name}");
            assert_ne!(answer.field("Content-Type"), None, "{name}");
            files += 1;
            immutable += u32::from(answer.field("Cache-Control").unwrap().ends_with("immutable"));
        }
    }
    assert!(files > 200 && immutable > 100, "{files} files, {immutable} of them hashed");
    site.signal(Signal::SIGTERM);
}
