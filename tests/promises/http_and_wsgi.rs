//! HTTP/1.1 and WSGI on the well-behaved path: each test's name says which section of RFC 9110, RFC 9112 or PEP 3333 it holds to.

use ostler_tests::{Answer, Client, Ending, Framing, Gate, Rig, Site};
use serde_json::{Value, json};

fn corners() -> Site {
    Rig::new("corners.py:dispatch").start()
}

#[test]
fn rfc9112_9_3_a_connection_is_kept() {
    let site = corners();
    let mut client = site.connect();
    for _ in 0..3 {
        let answer = client.get("/hello");
        assert_eq!((answer.version.as_str(), answer.status, answer.reason.as_str()), ("HTTP/1.1", 200, "OK"));
        assert_eq!(answer.text(), "hello\n");
        assert_eq!(answer.field("connection"), None);
    }
}

#[test]
fn rfc9112_9_6_a_client_that_says_close_is_closed() {
    let site = corners();
    let mut client = sending(&site, "GET /hello HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n");
    let answer = client.answer();
    assert_eq!(answer.field("connection"), Some("close"));
    assert_eq!(client.ending(), Ending::Closed);
}

#[test]
fn rfc9112_9_3_an_old_client_is_closed_unless_it_asks() {
    let site = corners();
    let mut client = sending(&site, "GET /hello HTTP/1.0\r\n\r\n");
    assert_eq!(client.answer().text(), "hello\n");
    assert_eq!(client.ending(), Ending::Closed);
    let mut client = sending(&site, "GET /hello HTTP/1.0\r\nConnection: keep-alive\r\n\r\n");
    assert_eq!(client.answer().field("connection"), Some("keep-alive"));
    assert_eq!(client.get("/hello").text(), "hello\n");
}

#[test]
fn rfc9112_9_3_2_pipelined_requests_are_answered_in_their_order() {
    let site = corners();
    let mut requests = String::new();
    for number in 0..50 {
        let body = format!("request {number}");
        requests += &format!("POST /echo HTTP/1.1\r\nHost: a\r\nContent-Length: {}\r\n\r\n{body}", body.len());
    }
    let mut client = sending(&site, &requests);
    for number in 0..50 {
        assert_eq!(client.answer().text(), format!("request {number}"));
    }
}

#[test]
fn rfc9112_6_bodies_are_taken_by_length_and_by_chunks() {
    let site = corners();
    let mut client = site.connect();
    let answer = client.post("/echo", "text/plain", b"by length");
    assert_eq!((answer.text(), answer.field("x-length")), ("by length", Some("9")));
    client.send("POST /echo HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nby \r\n6;name=value\r\nchunks\r\n0\r\n\r\n");
    let answer = client.answer();
    assert_eq!((answer.text(), answer.field("x-length")), ("by chunks", Some("9")));
    assert_eq!(client.get("/hello").text(), "hello\n");
}

#[test]
fn a_large_body_arrives_whole_in_any_pieces() {
    let site = corners();
    let mut client = site.connect();
    let body: Vec<u8> = (0..=255).cycle().take(3 << 20).collect();
    let whole = client.post("/digest", "application/octet-stream", &body).text().to_string();
    assert!(whole.ends_with(&format!(" {}\n", body.len())), "{whole}");
    client.send("POST /digest HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n");
    for piece in body.chunks(70_001) {
        client.send(format!("{:x}\r\n", piece.len())).send(piece).send("\r\n");
    }
    assert_eq!(client.send("0\r\n\r\n").answer().text(), whole);
}

#[test]
fn rfc9112_7_1_a_response_of_unknown_length_is_chunked() {
    let site = corners();
    let mut client = site.connect();
    let answer = client.get("/two_blocks");
    assert_eq!((answer.text(), answer.framing), ("one two\n", Framing::Chunked));
    let mut client = sending(&site, "GET /two_blocks HTTP/1.0\r\nConnection: keep-alive\r\n\r\n");
    let answer = client.answer();
    assert_eq!((answer.text(), answer.framing), ("one two\n", Framing::Close));
}

#[test]
fn pep3333_a_result_of_one_block_gets_a_length() {
    let answer = corners().get("/hello");
    assert_eq!((answer.framing, answer.field("content-length")), (Framing::Length, Some("6")));
    let answer = corners().get("/nothing");
    assert_eq!((answer.framing, answer.field("content-length")), (Framing::Length, Some("0")));
    let answer = corners().get("/own_length");
    assert_eq!((answer.text(), answer.framing), ("abcdef", Framing::Length));
}

#[test]
fn rfc9110_9_3_2_head_is_answered_like_get_without_the_body() {
    let site = corners();
    for target in ["/hello", "/two_blocks", "/own_length", "/file"] {
        let mut client = site.connect();
        client.send(format!("HEAD {target} HTTP/1.1\r\nHost: a\r\n\r\n"));
        let head = client.answer_to_head();
        let get = client.get(target);
        // Content-Length, which depends on the body, may be left out if the application did not give it.
        let own = ["Date", "Content-Length", "Transfer-Encoding"];
        let others = |answer: &Answer| {
            answer.fields.iter().filter(|(name, _)| !own.contains(&name.as_str())).cloned().collect::<Vec<_>>()
        };
        assert_eq!(others(&head), others(&get), "{target}");
        let length = head.field("content-length");
        assert!(length.is_none() || length == get.field("content-length"), "{target}: {length:?}");
        assert!(length.is_some() || target != "/own_length");
    }
}

#[test]
fn rfc9110_15_3_5_no_content_has_neither_body_nor_length() {
    let site = corners();
    let mut client = site.connect();
    let answer = client.get("/no_content");
    assert_eq!((answer.status, answer.field("content-length"), answer.field("transfer-encoding")), (204, None, None));
    assert_eq!(client.get("/hello").text(), "hello\n");
}

#[test]
fn rfc9110_10_1_1_a_client_that_expects_100_gets_it_first() {
    let site = corners();
    let mut client =
        sending(&site, "POST /echo HTTP/1.1\r\nHost: a\r\nContent-Length: 4\r\nExpect: 100-continue\r\n\r\n");
    let interim = client.answer();
    assert_eq!((interim.status, interim.fields.len()), (100, 0));
    assert_eq!(client.send("body").answer().text(), "body");
}

#[test]
fn rfc9110_6_6_1_and_10_2_4_each_answer_has_date_and_server_once() {
    let site = corners();
    let mut client = site.connect();
    for target in ["/hello", "/two_blocks", "/raising"] {
        let answer = client.get(target);
        let date = answer.field("date").expect("a date");
        assert!(date.len() == 29 && date.ends_with(" GMT"), "{date}");
        assert_eq!(answer.field("server"), Some("ostler"), "{target}");
    }
}

#[test]
fn pep3333_environ_variables_are_all_there() {
    let site = corners();
    let port = site.address().rsplit(':').next().expect("a port").to_string();
    let mut client = site.connect();
    client.send(
        "POST /environment/a%20b/%C3%BC?x=%20y&z HTTP/1.1\r\nHost: site.test:8000\r\nContent-Type: text/x\r\n\
        Content-Length: 2\r\nCookie: a=1\r\nX-Twice: one\r\nCookie: b=2\r\nX-Twice: two\r\nX_Under: dropped\r\n\
        Accept: */*\r\n\r\nhi",
    );
    let environ: Value = serde_json::from_str(client.answer().text()).expect("JSON");
    for (key, value) in [
        ("REQUEST_METHOD", json!("POST")),
        ("SCRIPT_NAME", json!("")),
        ("PATH_INFO", json!("/environment/a b/\u{c3}\u{bc}")),
        ("QUERY_STRING", json!("x=%20y&z")),
        ("RAW_URI", json!("/environment/a%20b/%C3%BC?x=%20y&z")),
        ("REQUEST_URI", json!("/environment/a%20b/%C3%BC?x=%20y&z")),
        ("CONTENT_TYPE", json!("text/x")),
        ("CONTENT_LENGTH", json!("2")),
        ("SERVER_NAME", json!("127.0.0.1")),
        ("SERVER_PORT", json!(port)),
        ("SERVER_PROTOCOL", json!("HTTP/1.1")),
        ("REMOTE_ADDR", json!("127.0.0.1")),
        ("HTTP_HOST", json!("site.test:8000")),
        ("HTTP_COOKIE", json!("a=1; b=2")),
        ("HTTP_X_TWICE", json!("one, two")),
        ("HTTP_ACCEPT", json!("*/*")),
        ("wsgi.version", json!([1, 0])),
        ("wsgi.url_scheme", json!("http")),
        ("wsgi.multithread", json!(false)),
        ("wsgi.multiprocess", json!(false)),
        ("wsgi.run_once", json!(false)),
        ("wsgi.input_terminated", json!(true)),
    ] {
        assert_eq!(environ[key], value, "{key}");
    }
    for absent in ["HTTP_CONTENT_TYPE", "HTTP_CONTENT_LENGTH", "HTTP_X_UNDER", "HOME", "PATH"] {
        assert_eq!(environ.get(absent), None, "{absent}");
    }
    assert!(environ["REMOTE_PORT"].as_str().is_some_and(|port| port.parse::<u16>().is_ok()));
    for present in ["wsgi.input", "wsgi.errors", "wsgi.file_wrapper", "SERVER_SOFTWARE"] {
        assert!(environ.get(present).is_some(), "{present}");
    }
}

#[test]
fn pep3333_multithread_and_multiprocess_are_truthful() {
    let site = Rig::new("corners.py").workers(2).option("--threads", "2").start();
    let environ: Value = serde_json::from_str(site.get("/environment").text()).expect("JSON");
    assert_eq!((&environ["wsgi.multithread"], &environ["wsgi.multiprocess"]), (&json!(true), &json!(true)));
}

#[test]
fn pep3333_input_has_every_reading_method() {
    let site = corners();
    let body = b"abcdef\nghijkl\nmn\nopq\nrst\nuvw\nxyz";
    let expected = json!([
        ["read(3)", "abc"],
        ["readline()", "def\n"],
        ["readline(2)", "gh"],
        ["readline(-1)", "ijkl\n"],
        ["read(0)", ""],
        ["readlines(1)", ["mn\n"]],
        ["next", "opq\n"],
        ["readlines()", ["rst\n", "uvw\n", "xyz"]],
        ["read()", ""],
        ["readline()", ""],
        ["list", []],
    ]);
    let answer = site.connect().post("/reading", "text/plain", body);
    assert_eq!(serde_json::from_str::<Value>(answer.text()).expect("JSON"), expected);
}

#[test]
fn pep3333_errors_go_to_the_error_log() {
    let site = corners();
    assert_eq!(site.get("/errors").text(), "hello\n");
    for line in ["one line to wsgi.errors", "another of three pieces", "and one printed to it"] {
        site.log(line);
    }
    assert_eq!(site.get("/printing").text(), "hello\n");
    site.output("printed by the application");
}

#[test]
fn pep3333_start_response_returns_a_write_callable() {
    assert_eq!(corners().get("/written").text(), "written, then returned\n");
}

#[test]
fn pep3333_start_response_may_wait_for_the_first_block() {
    assert_eq!(corners().get("/lazy").text(), "lazy\n");
}

#[test]
fn pep3333_exc_info_changes_the_status_until_a_block_was_sent() {
    let answer = corners().get("/empty_blocks");
    assert_eq!((answer.status, answer.text()), (503, "changed\n"));
    assert_eq!(answer.values("content-type").len(), 1);
}

#[test]
fn pep3333_exc_info_is_raised_again_after_that_and_the_answer_is_visibly_cut() {
    let site = corners();
    let (bytes, _) = sending(&site, "GET /late_error HTTP/1.1\r\nHost: a\r\n\r\n").rest();
    let text = String::from_utf8_lossy(&bytes);
    assert!(text.starts_with("HTTP/1.1 200 OK\r\n") && text.contains("the first block\n"), "{text}");
    assert!(!text.contains("never sent") && !text.ends_with("0\r\n\r\n"), "{text}");
    site.log("too late for another status");
    assert_eq!(site.get("/hello").text(), "hello\n");
}

#[test]
fn an_exception_is_logged_with_its_traceback_and_answered_with_500() {
    let site = corners();
    let answer = site.get("/raising?secret");
    assert_eq!(answer.status, 500);
    assert!(!answer.text().contains("raised by the page"), "{}", answer.text());
    site.log("/raising");
    site.log("Traceback (most recent call last)");
    site.log("RuntimeError: raised by the page");
    let answer = site.get("/exiting");
    assert_eq!(answer.status, 500);
    site.log("SystemExit: exit called by the page");
    assert_eq!(site.logged("worker lost"), 0);
}

#[test]
fn pep3333_close_is_called_exactly_once() {
    let site = corners();
    let mut client = site.connect();
    assert_eq!(client.get("/closing").text(), "ab\n");
    client.send("HEAD /closing HTTP/1.1\r\nHost: a\r\n\r\n").answer_to_head();
    let mut cut = sending(&site, "GET /closing_after_error HTTP/1.1\r\nHost: a\r\n\r\n");
    cut.try_answer().expect_err("the answer is cut");
    assert_eq!(client.get("/closed_so_far").text(), r#"["whole", "whole", "broken"]"#);
}

#[test]
fn pep3333_file_wrapper_sends_a_file_from_its_present_offset() {
    let site = corners();
    let mut client = site.connect();
    let answer = client.get("/file");
    assert_eq!(answer.body.len(), 900_000);
    assert!(answer.text().starts_with("but this but this "));
    assert_eq!(client.get("/file_part").text(), "23456");
    assert_eq!(client.get("/hello").text(), "hello\n");
}

#[test]
fn pep3333_file_wrapper_falls_back_to_reading() {
    let site = corners();
    let mut client = site.connect();
    assert_eq!(client.get("/file_like").text(), "x".repeat(30));
    assert_eq!(client.get("/closed_so_far").text(), r#"["pretender"]"#);
}

#[test]
fn pep3333_a_block_is_sent_before_the_next_is_asked_for() {
    let site = corners();
    let gate = Gate::new();
    let mut client = site.connect();
    client.ask(&format!("/gated_block?{}", gate.path()));
    client.until(b"before ");
    let visitor = gate.arrival();
    visitor.let_go("after");
    client.until(b"after");
    client.until(b"0\r\n\r\n");
    assert_eq!(client.get("/hello").text(), "hello\n");
}

#[test]
fn the_validator_of_the_standard_library_has_no_complaint() {
    let site = Rig::new("corners.py:checked").start();
    let mut client = site.connect();
    for target in ["/hello", "/two_blocks", "/written", "/lazy", "/own_length", "/file"] {
        assert_eq!(client.get(target).status, 200, "{target}");
    }
    assert_eq!(client.post("/digest", "text/plain", b"hello").status, 200);
    assert_eq!(site.logged("AssertionError"), 0);
}

fn sending(site: &Site, bytes: &str) -> Client {
    let mut client = site.connect();
    client.send(bytes);
    client
}
