//! What the application sees of a request and can do with its answer (PEP 3333).

use std::io::{Read, Write};

use ostler_wire::HeaderMap;

use crate::rig::{Site, plan, pythons};

fn cases() -> Site {
    plan("cases").serve()
}

/// The environ of a request that is given without its last lines.
fn environ(site: &Site, head: &str) -> String {
    let answer = site.ask(&format!("{head}\r\nConnection: close\r\n\r\n"));
    assert_eq!(answer.status(), 200, "{answer:?}");
    answer.body
}

fn has(environ: &str, pairs: &[(&str, &str)]) {
    for (key, value) in pairs {
        let line = format!("\n{key}={value}\n");
        assert!(format!("\n{environ}").contains(&line), "no {key}={value} in\n{environ}");
    }
}

fn lacks(environ: &str, keys: &[&str]) {
    for key in keys {
        assert!(!format!("\n{environ}").contains(&format!("\n{key}=")), "{key} in\n{environ}");
    }
}

#[test]
fn environ_holds_what_pep_3333_names_and_nothing_of_the_process() {
    let site = plan("cases").environment("OSTLER_SECRET", Some("1")).serve();
    let port = site.address.port().to_string();
    let seen = environ(&site, "GET /environ/a%20b%C3%A9%2Fc?q=%20x&y HTTP/1.1\r\nHost: example.org:81");
    has(
        &seen,
        &[
            ("REQUEST_METHOD", "'GET'"),
            ("SCRIPT_NAME", "''"),
            ("PATH_INFO", "'/environ/a bÃ©/c'"),
            ("QUERY_STRING", "'q=%20x&y'"),
            ("RAW_URI", "'/environ/a%20b%C3%A9%2Fc?q=%20x&y'"),
            ("REQUEST_URI", "'/environ/a%20b%C3%A9%2Fc?q=%20x&y'"),
            ("SERVER_NAME", "'127.0.0.1'"),
            ("SERVER_PORT", &format!("'{port}'")),
            ("SERVER_PROTOCOL", "'HTTP/1.1'"),
            ("REMOTE_ADDR", "'127.0.0.1'"),
            ("HTTP_HOST", "'example.org:81'"),
            ("wsgi.version", "(1, 0)"),
            ("wsgi.url_scheme", "'http'"),
            ("wsgi.multithread", "False"),
            ("wsgi.multiprocess", "False"),
            ("wsgi.run_once", "False"),
            ("wsgi.input_terminated", "True"),
        ],
    );
    for key in ["wsgi.input=<", "wsgi.errors=<", "wsgi.file_wrapper=<", "wsgi.early_hints=<", "REMOTE_PORT='"] {
        assert!(seen.contains(key), "no {key} in\n{seen}");
    }
    lacks(&seen, &["PATH", "HOME", "OSTLER_SECRET", "CONTENT_TYPE", "CONTENT_LENGTH", "HTTP_CONTENT_LENGTH"]);
}

#[test]
fn one_environ_does_not_show_in_the_next() {
    let site = cases();
    let first = "POST /environ/one?a=1 HTTP/1.1\r\nHost: a\r\nContent-Type: x/y\r\nContent-Length: 0\r\nX-One: 1";
    has(&environ(&site, first), &[("CONTENT_TYPE", "'x/y'"), ("CONTENT_LENGTH", "'0'"), ("HTTP_X_ONE", "'1'")]);
    let second = environ(&site, "GET /environ HTTP/1.0\r\nX-Two: 2");
    has(
        &second,
        &[
            ("REQUEST_METHOD", "'GET'"),
            ("QUERY_STRING", "''"),
            ("SERVER_PROTOCOL", "'HTTP/1.0'"),
            ("PATH_INFO", "'/environ'"),
            ("HTTP_X_TWO", "'2'"),
        ],
    );
    lacks(&second, &["CONTENT_TYPE", "CONTENT_LENGTH", "HTTP_X_ONE", "HTTP_HOST"]);
    let third = environ(&site, first);
    has(&third, &[("HTTP_X_ONE", "'1'"), ("CONTENT_TYPE", "'x/y'"), ("SERVER_PROTOCOL", "'HTTP/1.1'")]);
    lacks(&third, &["HTTP_X_TWO"]);
}

#[test]
fn many_names_are_forgotten_again() {
    let site = cases();
    for round in 0..9 {
        let many: String = (0..50).map(|n| format!("\r\nX-{round}-{n}: {n}")).collect();
        let seen = environ(&site, &format!("GET /environ HTTP/1.1\r\nHost: a{many}"));
        has(&seen, &[(&format!("HTTP_X_{round}_49"), "'49'"), ("HTTP_HOST", "'a'")]);
        assert_eq!(seen.matches("HTTP_X_").count(), 50);
    }
}

#[test]
fn names_that_are_sent_again_are_not_forgotten_however_many_they_are() {
    let site = cases();
    let request = |count| {
        let many: String = (0..count).map(|n| format!("\r\nX-{n}: value {n}")).collect();
        format!("GET /known HTTP/1.1\r\nHost: a{many}\r\nConnection: close\r\n\r\n")
    };
    for count in [60, 70, 95] {
        site.ask(&request(count));
        assert_eq!(site.ask(&request(count)).body, count.to_string());
    }
}

#[test]
fn repeated_fields_are_joined() {
    let site = cases();
    let request =
        "GET /environ HTTP/1.1\r\nHost: a\r\nX-A: 1\r\nCookie: a=1\r\nx-a: 2\r\nCookie: b=2\r\nX-Latin: \u{e9}";
    for _ in 0..2 {
        let seen = environ(&site, "GET /environ HTTP/1.1\r\nHost: a\r\nCookie: a=1\r\nX-A: 1\r\nX-A: 1\r\nX-A: 1");
        has(&seen, &[("HTTP_X_A", "'1, 1, 1'"), ("HTTP_COOKIE", "'a=1'")]);
        let seen = environ(&site, request);
        has(&seen, &[("HTTP_X_A", "'1, 2'"), ("HTTP_COOKIE", "'a=1; b=2'"), ("HTTP_X_LATIN", "'Ã©'")]);
    }
    let dangerous = plan("cases").with(|boot| boot.worker.header_map = HeaderMap::Dangerous).serve();
    has(&environ(&dangerous, &format!("{request}\r\nX_A: 3")), &[("HTTP_X_A", "'1, 2, 3'")]);
}

#[test]
fn script_name_is_cut_at_segments() {
    let site = plan("cases").with(|boot| boot.worker.root_path = "/environ".into()).serve();
    let name = |target: &str| {
        let answer = site.get(target);
        (answer.status(), answer.body)
    };
    // The path below the root names the application here, so it is there twice.
    let (_, seen) = name("/environ/environ/x");
    has(&seen, &[("SCRIPT_NAME", "'/environ'"), ("PATH_INFO", "'/environ/x'")]);
    let (status, _) = name("/environmental");
    assert_eq!(status, 404, "not part of the site");
}

#[test]
fn a_body_of_one_block_has_a_length_and_others_are_chunked() {
    let site = cases();
    for (target, length, body) in [
        ("/hello", Some("5"), "hello"),
        ("/lengthless", Some("9"), "one block"),
        ("/sized", Some("4"), "only"),
        ("/liar", None, "6\r\nfirst \r\n6\r\nsecond\r\n0\r\n\r\n"),
        ("/blocks", None, "4\r\none \r\n3\r\ntwo\r\n0\r\n\r\n"),
        ("/written", None, "a\r\nby write, \r\nd\r\nthen returned\r\n0\r\n\r\n"),
    ] {
        let answer = site.get(target);
        assert_eq!(
            (answer.status(), answer.field("Content-Length"), &answer.body[..]),
            (200, length, body),
            "{target}"
        );
    }
    let nothing = site.get("/nothing");
    assert_eq!((nothing.status(), nothing.field("Content-Length"), &nothing.body[..]), (204, None, ""));
}

#[test]
fn close_is_called_once_whatever_happens() {
    let site = cases();
    let count = |name: &str| site.get(&format!("/kept?{name}")).body;
    assert_eq!(site.get("/closing").body, "1\r\na\r\n1\r\nb\r\n0\r\n\r\n");
    assert_eq!(count("closing"), "1");
    let cut = site.get("/breaking");
    assert_eq!((cut.status(), &cut.body[..]), (200, "1\r\na\r\n"), "cut without the last chunk");
    assert_eq!(count("breaking"), "1");
    site.log("broke on the way");
}

#[test]
fn a_client_that_left_ends_a_call_that_yields_nothing() {
    let site = cases();
    let mut stream = site.connect();
    stream.write_all(b"GET /endless HTTP/1.1\r\nHost: a\r\n\r\n").unwrap();
    // The worker has one Python thread: this is answered when the other call has ended.
    let next = std::thread::scope(|scope| {
        let next = scope.spawn(|| site.get("/kept?endless").body);
        drop(stream);
        next.join().unwrap()
    });
    assert_eq!(next, "1");
}

#[test]
fn exceptions_are_logged_with_request_and_traceback_and_answered_with_500() {
    let site = cases();
    assert_eq!(site.get("/raising?x=1").status(), 500);
    let log = site.log("KeyError: 'raised by the application'");
    assert!(log.contains("application raised request=\"GET /raising?x=1\""), "{log}");
    assert!(log.contains("    Traceback (most recent call last):"), "{log}");
    assert!(log.contains("in raising"), "{log}");
    assert_eq!(site.get("/exiting").status(), 500);
    site.log("SystemExit: 3");
    assert_eq!(site.get("/never_started").status(), 500);
    site.log("did not call start_response");
    assert_eq!(site.get("/text_block").status(), 500);
    site.log("TypeError: the application's result must hold bytes, not str");
    assert_eq!(site.get("/hello").body, "hello");
}

#[test]
fn start_response_obeys_pep_3333() {
    let site = cases();
    assert_eq!(site.get("/twice").status(), 500);
    site.log("AssertionError");
    let replaced = site.get("/replaced");
    assert_eq!((replaced.status(), &replaced.body[..]), (503, "sorry"));
    assert_eq!((replaced.field("X-Old"), replaced.field("X-New")), (None, Some("1")));
    let late = site.get("/too_late");
    assert_eq!((late.status(), &late.body[..]), (200, "b\r\nalready out\r\n"), "cut without the last chunk");
    site.log("RuntimeError: after the head");
    let latin = site.get("/latin");
    assert!(latin.head.starts_with("HTTP/1.1 200 Tr\u{e8}s bien"), "{latin:?}");
    assert_eq!(latin.field("X-Name"), Some("\u{e9}"));
}

#[test]
fn start_response_refuses_with_an_exception() {
    let site = plan("cases").with(|boot| boot.worker.strict_application = true).serve();
    for (what, exception) in [
        ("status_type", "TypeError: the status must be a str, not bytes"),
        ("status_shape", "ValueError: "),
        ("headers_type", "TypeError: the headers must be a list, not tuple"),
        ("pair_type", "TypeError: each header must be a tuple"),
        ("name_type", "TypeError: a header's name must be a str, not bytes"),
        ("value_type", "TypeError: a header's value must be a str, not int"),
        ("value_newline", "ValueError: "),
        ("value_latin", "ValueError: a header's value holds a character that is not latin-1"),
        ("value_surrogate", "ValueError: a header's value holds a character that is not latin-1"),
        ("hop_by_hop", "ValueError: "),
    ] {
        let answer = site.get(&format!("/refused?{what}"));
        assert_eq!(answer.status(), 200);
        assert!(answer.body.starts_with(exception), "{what}: {}", answer.body);
    }
}

#[test]
fn what_a_request_was_given_is_dead_after_it() {
    let site = cases();
    assert_eq!(site.get("/late_call").body, "kept");
    site.get("/hello");
    let answer = site.post("/late_call", "fresh");
    assert_eq!(answer.body, "the request that this belongs to is over; True False b''");
}

#[test]
fn input_reads_in_every_way() {
    let site = cases();
    for (how, expected) in [
        ("read", r"[b'ab\ncdef\n\ngh']"),
        ("sizes", r"[b'', b'ab\n', b'cdef\n\ngh', b'']"),
        ("none", r"[b'ab\ncdef\n\ngh', b'']"),
        ("line", r"[b'ab\n', b'cd', b'ef\n', b'\n', b'gh']"),
        ("lines", r"[b'ab\n', b'cdef\n', b'\n', b'gh']"),
        ("hint", r"[b'ab\n', b'|', b'cdef\n', b'\n', b'gh']"),
        ("iterate", r"[b'ab\n', b'cdef\n', b'\n', b'gh', b'']"),
        ("mixed", r"[b'ab\n', b'cd', b'ef\n', b'\ngh']"),
        ("length", r"[b'11', b'11']"),
    ] {
        let target = format!("/body?{how}");
        assert_eq!(site.post(&target, "ab\ncdef\n\ngh").body, expected, "{how} from memory");
        let spooled = plan("cases").with(|boot| boot.worker.body_memory = 2);
        assert_eq!(spooled.serve().post(&target, "ab\ncdef\n\ngh").body, expected, "{how} from a file");
        let live = plan("cases").with(|boot| boot.worker.request_buffering = false);
        assert_eq!(live.serve().post(&target, "ab\ncdef\n\ngh").body, expected, "{how} as it arrives");
    }
    assert_eq!(site.get("/body?read").body, "[b'']");
    let chunked = "POST /body?length HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\nConnection: close\r\n\r\n\
        3\r\nabc\r\n2\r\nde\r\n0\r\n\r\n";
    assert_eq!(site.ask(chunked).body, "[b'5', b'5']");
    let live = plan("cases").with(|boot| boot.worker.request_buffering = false).serve();
    assert_eq!(live.ask(chunked).body, "[b'5', b'none']");
}

#[test]
fn input_outlives_its_request() {
    let site = cases();
    site.post("/body?keep", "kept for later");
    assert_eq!(site.post("/body?kept", "another").body, "[b'kept for later']");
}

#[test]
fn a_body_that_breaks_off_raises() {
    let site = plan("cases").with(|boot| boot.worker.request_buffering = false).serve();
    let mut stream = site.connect();
    stream.write_all(b"POST /body?read HTTP/1.1\r\nHost: a\r\nContent-Length: 10\r\n\r\nhalf").unwrap();
    drop(stream);
    assert_eq!(site.get("/hello").body, "hello");
    site.log("source.read()");
}

#[test]
fn files_are_sent_from_where_they_stand() {
    for sendfile in [true, false] {
        let site = plan("cases").with(|boot| boot.worker.sendfile = sendfile).serve();
        for kind in ["file", "bytes", "spooled", "gzip"] {
            let answer = site.get(&format!("/download?{kind}"));
            let plain = sendfile && matches!(kind, "file" | "spooled");
            assert_eq!(answer.field("Content-Length"), plain.then_some("9995"), "{kind} by the kernel");
            let body: String = if plain { answer.body } else { unchunk(&answer.body) };
            assert_eq!(body, &"0123456789".repeat(1000)[5..], "{kind}");
            assert_eq!(site.get("/closed").body, "True", "{kind} was closed");
        }
        assert_eq!(site.get("/part").body, "2345");
    }
}

fn unchunk(mut body: &str) -> String {
    let mut whole = String::new();
    while let Some((length, rest)) = body.split_once("\r\n") {
        let length = usize::from_str_radix(length, 16).unwrap();
        whole.push_str(&rest[..length]);
        body = &rest[length + 2..];
    }
    whole
}

#[test]
fn a_long_body_is_held_until_it_is_sent_and_then_let_go() {
    let site = cases();
    let references = || site.get("/large_references").body.parse::<u32>().unwrap();
    let before = references();
    let mut slow = site.connect();
    slow.write_all(b"GET /large HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n").unwrap();
    while references() == before {}
    let mut answer = Vec::new();
    slow.read_to_end(&mut answer).unwrap();
    let body: Vec<u8> = (0..=255).cycle().take(256 * 40_000).collect();
    assert!(answer.ends_with(&[b"\r\n\r\n", &body[..]].concat()));
    while references() > before {}
}

#[test]
fn an_application_may_answer_from_threads_of_its_own() {
    assert_eq!(cases().get("/two_threads").body, "f\r\nfrom a thread, \r\n7\r\n[False]\r\n0\r\n\r\n");
}

#[test]
fn early_hints_go_before_the_answer() {
    let answer = cases().get("/hints");
    assert!(answer.head.starts_with("HTTP/1.1 103 Early Hints\r\nLink: </style.css>; rel=preload"), "{answer:?}");
    assert!(answer.body.starts_with("HTTP/1.1 200 OK") && answer.body.ends_with("hinted"), "{answer:?}");
}

#[test]
fn errors_and_standard_output_reach_the_log_line_by_line() {
    let site = cases();
    site.get("/errors");
    for words in ["said on wsgi.errors: ✓", "one line", "said on standard output"] {
        site.log(words);
    }
}

#[test]
fn requests_on_one_connection_stay_apart() {
    let site = cases();
    let mut stream = site.connect();
    let one = "POST /body?read HTTP/1.1\r\nHost: a\r\nContent-Length: 3\r\n\r\nabc";
    let two = "GET /body?read HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n";
    stream.write_all(format!("{one}{one}{two}").as_bytes()).unwrap();
    let mut text = String::new();
    stream.read_to_string(&mut text).unwrap();
    let bodies: Vec<&str> = text.split("\r\n\r\n").skip(1).map(|part| part.split("HTTP").next().unwrap()).collect();
    assert_eq!(bodies, ["[b'abc']", "[b'abc']", "[b'']"]);
}

#[test]
fn the_access_log_gets_what_it_names_of_the_environ() {
    let format = "%({REQUEST_METHOD}e)s %({wsgi.url_scheme}e)s %({query_string}e)s %({none}e)s %(s)s";
    let site = plan("cases").with(|boot| {
        boot.access_log = true;
        boot.worker.access_log_format = format.parse().unwrap();
    });
    let site = site.serve();
    site.get("/hello?x=1");
    site.log("GET http x=1 - 200");
}

#[test]
fn wsgiref_has_nothing_to_object_to() {
    let site = cases();
    for (target, body) in [("hello", "hello"), ("lengthless", "9\r\none block\r\n0\r\n\r\n"), ("body?line", "")] {
        let answer = site.post(&format!("/validated/{target}"), "a\nb");
        assert_eq!(answer.status(), 200, "{target}: {answer:?}");
        assert!(answer.body.contains(body), "{target}: {answer:?}");
    }
}

#[test]
fn requests_leave_nothing_behind() {
    for python in pythons() {
        let site = plan("cases").python(&python).serve();
        let allocated = || site.get("/allocated").body.parse::<i64>().unwrap();
        let round = || {
            for target in ["/hello", "/blocks", "/replaced", "/written", "/refused?value_type"] {
                site.get(target);
            }
            site.post("/body?lines", "a\nb\nc");
            site.get("/download?bytes");
        };
        (0..20).for_each(|_| round());
        let before = allocated();
        (0..100).for_each(|_| round());
        let grown = allocated() - before;
        assert!(grown < 100, "{grown} blocks of memory more after 100 rounds on {}", python.display());
    }
}
