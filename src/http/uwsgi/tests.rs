use super::*;
use crate::{Framing, target::decode_path};

const LIMITS: Limits = Limits { line: 100, fields: 20, field: 200, head: 4000 };
const GET: &[(&str, &str)] =
    &[("REQUEST_METHOD", "GET"), ("REQUEST_URI", "/a%20b?x=1"), ("SERVER_PROTOCOL", "HTTP/1.1")];

fn packet_of(modifiers: [u8; 2], variables: &[(&str, &str)]) -> Vec<u8> {
    let part = |text: &str| [&(text.len() as u16).to_le_bytes()[..], text.as_bytes()].concat();
    let all: Vec<u8> = variables.iter().flat_map(|(name, value)| [part(name), part(value)].concat()).collect();
    [&[modifiers[0]][..], &(all.len() as u16).to_le_bytes(), &[modifiers[1]], &all].concat()
}

/// Checks that the verdict is the same however many bytes arrive at once, and whatever follows.
fn read(packet: &[u8]) -> Result<(Vec<u8>, UwsgiRequest), Refusal> {
    let verdict = parse(packet, &LIMITS).map(|request| request.expect("it is complete"));
    let longer = [packet, b"body"].concat();
    let with_body = parse(&longer, &LIMITS).map(|request| request.expect("it is complete"));
    assert_eq!(format!("{verdict:?}"), format!("{with_body:?}"), "with a body behind it");
    let first = (0..=packet.len()).map(|end| parse(&packet[..end], &LIMITS)).find(|part| !matches!(part, Ok(None)));
    let first = first.map(|first| first.map(|request| request.expect("it is not None")));
    assert_eq!(format!("{:?}", first.as_ref()), format!("{:?}", Some(&verdict)), "byte by byte");
    verdict.map(|request| {
        let bytes = [&request.text[..], packet].concat();
        assert_eq!(request.head.length, bytes.len());
        (bytes, request)
    })
}

fn with(more: &[(&str, &str)]) -> Vec<u8> {
    packet_of([0, 0], &[GET, more].concat())
}

fn why(more: &[(&str, &str)]) -> (u16, &'static str) {
    let refusal = read(&with(more)).map(drop).unwrap_err();
    (refusal.status, refusal.why)
}

#[test]
fn variables_become_the_head_that_they_were_made_of() {
    let (bytes, UwsgiRequest { head, gateway, text }) = read(&with(&[
        ("HTTP_HOST", "a.example"),
        ("HTTP_X_REAL_NAME", " b "),
        ("CONTENT_LENGTH", "12"),
        ("CONTENT_TYPE", "text/plain"),
        ("HTTP_CONTENT_LENGTH", "13"),
        ("HTTP_TRANSFER_ENCODING", "chunked"),
        ("HTTP_CONNECTION", "keep-alive"),
        ("HTTP_EXPECT", "100-continue"),
    ]))
    .unwrap();
    let line = b"GET /a%20b?x=1 HTTP/1.1\r\nHOST: a.example\r\nX-REAL-NAME:  b \r\n";
    assert!(text.starts_with(line), "{}", text.escape_ascii());
    assert_eq!((head.method.of(&bytes), head.target.of(&bytes)), (&b"GET"[..], &b"/a%20b?x=1"[..]));
    assert_eq!((head.path.of(&bytes), head.query.of(&bytes)), (&b"/a%20b"[..], &b"x=1"[..]));
    assert_eq!(head.value(&bytes, b"x-real-name"), Some(&b"b"[..]));
    assert_eq!(head.value(&bytes, b"content-type"), Some(&b"text/plain"[..]));
    assert_eq!(head.framing, Framing::Length(12), "what its connection said is of no concern here");
    assert_eq!((head.version, head.keep_alive, head.expects_continue), (Version::Http10, false, false));
    assert_eq!(
        gateway,
        Gateway { variables: vec![("SERVER_PROTOCOL".into(), b"HTTP/1.1".into())], ..Gateway::default() }
    );
}

#[test]
fn the_path_and_the_query_are_what_the_web_server_has_made_of_them() {
    for path in ["/", "/app/x", "", "/a%b?c d\u{4f60}\n", "/#"] {
        let (bytes, request) = read(&with(&[("PATH_INFO", path), ("QUERY_STRING", "y=%20")])).unwrap();
        let mut decoded = Vec::new();
        decode_path(request.head.path.of(&bytes), &mut decoded);
        assert_eq!(decoded, path.as_bytes());
        assert_eq!(request.head.query.of(&bytes), b"y=%20");
        assert_eq!(request.head.target.of(&bytes), b"/a%20b?x=1");
    }
    let bare = [("REQUEST_METHOD", "GET"), ("PATH_INFO", "/a b"), ("SCRIPT_NAME", "/app"), ("QUERY_STRING", "q")];
    let (bytes, request) = read(&packet_of([30, 0], &bare)).unwrap();
    assert_eq!(request.head.target.of(&bytes), b"/app/a%20b?q");
    assert!(request.text.starts_with(b"GET /app/a%20b?q HTTP/1.0\r\n\r\n"), "without Host it is no HTTP/1.1");
}

#[test]
fn the_web_server_says_who_its_client_is() {
    let (_, request) = read(&with(&[
        ("REMOTE_ADDR", "::ffff:192.0.2.7"),
        ("REMOTE_PORT", "4711"),
        ("SERVER_PORT", "443"),
        ("SERVER_NAME", "a.example"),
        ("HTTPS", "on"),
        ("REQUEST_SCHEME", "http"),
        ("SCRIPT_NAME", "/app/"),
        ("MY_VAR", "1"),
        ("SSL_CERT", "a\n\tb"),
        ("SERVER_SOFTWARE", "other"),
        ("MY_VAR", "2"),
    ]))
    .unwrap();
    let gateway = request.gateway;
    assert_eq!(gateway.address, Some(Remote::At("192.0.2.7".parse().unwrap())));
    assert_eq!((gateway.port, gateway.server_port, gateway.https), (Some(4711), Some(443), true));
    assert_eq!(gateway.script_name.as_deref(), Some("/app"));
    let names: Vec<&str> = gateway.variables.iter().map(|(name, _)| &name[..]).collect();
    assert_eq!(names, ["SERVER_PROTOCOL", "SERVER_NAME", "HTTPS", "REQUEST_SCHEME", "MY_VAR", "SSL_CERT", "MY_VAR"]);
    assert_eq!(read(&with(&[("REMOTE_ADDR", "unix:")])).unwrap().1.gateway.address, Some(Remote::Unix));
}

#[test]
fn the_scheme_is_told_by_the_first_that_tells_it() {
    for (variables, https) in [
        (&[("REQUEST_SCHEME", "https")][..], true),
        (&[("REQUEST_SCHEME", "https"), ("HTTPS", "off")], false),
        (&[("HTTPS", "on"), ("UWSGI_SCHEME", "http")], false),
        (&[("UWSGI_SCHEME", "https"), ("REQUEST_SCHEME", "http")], true),
        (&[("UWSGI_SCHEME", ""), ("HTTPS", ""), ("REQUEST_SCHEME", "https")], true),
        (&[], false),
    ] {
        assert_eq!(read(&with(variables)).unwrap().1.gateway.https, https, "{variables:?}");
    }
    assert_eq!(why(&[("UWSGI_SCHEME", "gopher")]).0, 400);
}

#[test]
fn what_is_no_request_is_refused() {
    for (variables, expected) in [
        (&[("CONTENT_LENGTH", "1"), ("CONTENT_LENGTH", "2")][..], "more than one CONTENT_LENGTH"),
        (&[("CONTENT_LENGTH", "+1")], "Content-Length is no number"),
        (&[("HTTP_CONTENT-LENGTH", "2")], "variable of a field without a name of one"),
        (&[("HTTP_TRANSFER-ENCODING", "chunked"), ("HTTP_HOST", "a")], "variable of a field without a name of one"),
        (&[("HTTP_HOST", "a b")], "Host is no host"),
        (&[("HTTP_A", "b\r\nC: d")], "control character in the variable of a field"),
        (&[("HTTP_A\r\nB", "c")], "variable of a field without a name of one"),
        (&[("HTTP_", "c")], "variable of a field without a name of one"),
        (&[("CONTENT_TYPE", "a\nb")], "control character in the variable of a field"),
        (&[("REQUEST_URI", "/a b")], "REQUEST_URI with a character that has no place there"),
        (&[("REQUEST_URI", "/\r\nA: b")], "REQUEST_URI with a character that has no place there"),
        (&[("REQUEST_URI", "/%zz")], "percent sign without two hexadecimal digits in the path"),
        (&[("REQUEST_METHOD", "G T")], "REQUEST_METHOD is no method"),
        (&[("REQUEST_METHOD", "")], "REQUEST_METHOD is no method"),
        (&[("QUERY_STRING", "a b")], "QUERY_STRING with a character that has no place there"),
        (&[("PATH_INFO", "a")], "PATH_INFO does not begin with a slash"),
        (&[("PATH_INFO", "/\0")], "NUL in PATH_INFO"),
        (&[("SERVER_PROTOCOL", "HTTP/1.1\r\nA: b")], "SERVER_PROTOCOL is no version of HTTP"),
        (&[("REMOTE_ADDR", "a.example")], "REMOTE_ADDR is no address"),
        (&[("REMOTE_PORT", "65536")], "REMOTE_PORT is no port"),
        (&[("SERVER_PORT", "x")], "SERVER_PORT is no port"),
        (&[("SCRIPT_NAME", "//evil")], "SCRIPT_NAME is no plain path"),
        (&[("SCRIPT_NAME", "/a/../b")], "SCRIPT_NAME is no plain path"),
        (&[("wsgi.input", "a")], "a variable's name holds a dot or another character that has no place there"),
        (&[("", "a")], "a variable's name holds a dot or another character that has no place there"),
    ] {
        assert_eq!(why(variables), (400, expected), "{variables:?}");
    }
    assert_eq!(why(&[("REQUEST_METHOD", "CONNECT"), ("REQUEST_URI", "a:1")]).0, 501);
    assert_eq!(why(&[("HTTP_EXPECT", "tea")]).0, 417);
    assert_eq!(read(&packet_of([0, 0], &[])).unwrap_err().why, "neither REQUEST_URI nor PATH_INFO");
}

#[test]
fn what_is_no_packet_is_refused_at_its_first_byte() {
    for (start, why) in [
        (&b"GET / HTTP/1.1\r\n\r\n"[..], "HTTP where the uwsgi protocol is spoken"),
        (&[1][..], "modifier1 is neither 0 nor 30"),
        (&[0, 0, 0, 1], "modifier2 is not 0"),
        (&[0, 1, 0, 0, 9], "a variable is longer than its packet"),
        (&[0, 4, 0, 0, 2, 0, b'a', b'b'], "a variable is longer than its packet"),
        (&[0, 4, 0, 0, 255, 255, b'a', b'b'], "a variable is longer than its packet"),
    ] {
        assert_eq!(read(start).unwrap_err(), Refusal { status: 400, why }, "{start:?}");
    }
}

#[test]
fn limits_are_those_of_http() {
    let long = "a".repeat(201);
    assert_eq!(why(&[("HTTP_A", &long)]).0, 431);
    assert_eq!(why(&[("MY_VAR", &long)]), (431, "variables too long"));
    assert_eq!(why(&[("REQUEST_URI", &format!("/{long}"))]).0, 414);
    assert_eq!(why(&[("HTTP_A", "b"); 21]).0, 431);
    assert_eq!(why(&[("A", "b"); 21]), (431, "too many variables"));
    assert_eq!(parse(&[0, 255, 255, 0], &LIMITS).unwrap_err().status, 431, "before it has come");
}

#[test]
fn the_log_shows_what_was_asked_for() {
    assert_eq!(line(&with(&[("HTTP_A", "\n")])), b"GET /a%20b?x=1 HTTP/1.1");
    assert_eq!(line(b"GET / HTTP/1.1\r\nHost: a\r\n"), b"GET / HTTP/1.1");
    assert_eq!(line(&[0, 1, 0, 0, 9]), b"");
    assert_eq!(line(&[]), b"");
}
