//! The proxies that are trusted here live in 10.0.0.0/8 and at ::1.

use super::*;
use crate::h1::{Limits, Parse, RequestReader};

fn trusted(address: IpAddr) -> bool {
    match address {
        IpAddr::V4(address) => address.octets()[0] == 10,
        IpAddr::V6(address) => address.is_loopback(),
    }
}

const NONE: Believed = Believed {
    address: false,
    proto: false,
    protocol: false,
    ssl: false,
    host: false,
    port: false,
    prefix: false,
    standard: false,
    schemes: None,
    own: Vec::new(),
    start: false,
};
const ALL: Believed = Believed {
    address: true,
    proto: true,
    protocol: true,
    ssl: true,
    host: true,
    port: true,
    prefix: true,
    standard: true,
    schemes: None,
    own: Vec::new(),
    start: true,
};

/// What is read, with `Host: site:8000` beside the lines.
fn with_origin<T>(lines: &str, look: impl Fn(Origin<'_>) -> T) -> Result<T, u16> {
    believing(ALL, lines, look)
}

fn believing<T>(believed: Believed, lines: &str, look: impl Fn(Origin<'_>) -> T) -> Result<T, u16> {
    let bytes = format!("GET / HTTP/1.1\r\nHost: site:8000\r\n{}\r\n", lines.replace('|', "\r\n") + "\r\n");
    let mut head = RequestHead::default();
    let limits = Limits { line: 100, fields: 10, field: 1000, head: 5000 };
    assert_eq!(RequestReader::default().read(&mut head, bytes.as_bytes(), &limits), Ok(Parse::Complete), "{lines}");
    origin(&head, bytes.as_bytes(), &believed, trusted).map(look).map_err(|refusal| refusal.status)
}

/// `address port`, as far as they are known.
fn client(lines: &str) -> Result<String, u16> {
    with_origin(lines, |origin| match (origin.address, origin.port) {
        (Some(address), Some(port)) => format!("{address} {port}"),
        (Some(address), None) => address.to_string(),
        (None, _) if origin.hidden => String::from("hidden"),
        (None, _) => String::from("peer"),
    })
}

fn https(lines: &str) -> Result<Option<bool>, u16> {
    with_origin(lines, |origin| origin.https)
}

fn host(lines: &str) -> Result<Option<String>, u16> {
    with_origin(lines, |origin| origin.host.map(str::to_owned))
}

fn server_port(lines: &str) -> Result<Option<u16>, u16> {
    with_origin(lines, |origin| origin.server_port)
}

fn prefix_of(lines: &str) -> Result<Option<String>, u16> {
    with_origin(lines, |origin| origin.prefix.map(str::to_owned))
}

#[test]
fn nothing_said_is_nothing_known() {
    assert_eq!(with_origin("Accept: a", |origin| origin == Origin::default()), Ok(true));
    assert_eq!(with_origin("X-Forwarded-For: |X-Forwarded-Proto: , ,", |origin| origin == Origin::default()), Ok(true));
}

#[test]
fn what_is_not_believed_is_not_looked_at() {
    let good = "X-Forwarded-For: 192.0.2.1|X-Forwarded-Proto: https|X-Forwarded-Protocol: ssl|X-Forwarded-Ssl: on|\
        X-Forwarded-Host: evil|X-Forwarded-Port: 1|X-Forwarded-Prefix: /evil|Forwarded: for=192.0.2.1;proto=http";
    let bad = "X-Forwarded-For: ?|X-Forwarded-Proto: ?|X-Forwarded-Protocol: ?|X-Forwarded-Ssl: ?|\
        X-Forwarded-Host: |X-Forwarded-Port: zz|X-Forwarded-Prefix: /\\evil|Forwarded: \"";
    for lines in [good, bad] {
        assert_eq!(believing(NONE, lines, |origin| origin == Origin::default()), Ok(true), "{lines}");
    }
    let usual = Believed { address: true, proto: true, ..NONE };
    let lines = "X-Forwarded-For: 192.0.2.1|X-Forwarded-Proto: https|X-Forwarded-Host: evil|X-Forwarded-Port: zz|\
        X-Forwarded-Prefix: /\\evil|Forwarded: for=192.168.1.5;proto=http|X-Forwarded-Ssl: off";
    let expected = Origin {
        address: Some("192.0.2.1".parse().unwrap()),
        https: Some(true),
        server_port: Some(8000),
        ..Origin::default()
    };
    assert_eq!(believing(usual, lines, |origin| origin == expected), Ok(true));
}

#[test]
fn each_field_is_believed_by_itself() {
    for (believed, lines) in [
        (Believed { address: true, ..NONE }, "X-Forwarded-For: ?"),
        (Believed { proto: true, ..NONE }, "X-Forwarded-Proto: ?"),
        (Believed { protocol: true, ..NONE }, "X-Forwarded-Protocol: ?"),
        (Believed { ssl: true, ..NONE }, "X-Forwarded-Ssl: ?"),
        (Believed { host: true, ..NONE }, "X-Forwarded-Host: ?"),
        (Believed { port: true, ..NONE }, "X-Forwarded-Port: ?"),
        (Believed { prefix: true, ..NONE }, "X-Forwarded-Prefix: ?"),
        (Believed { standard: true, ..NONE }, "Forwarded: ?"),
    ] {
        assert_eq!(believing(believed, lines, |_| ()), Err(400), "{lines}");
    }
}

#[test]
fn a_scheme_may_be_told_in_three_fields_that_agree() {
    for (lines, expected) in [
        ("X-Forwarded-Ssl: on", Ok(Some(true))),
        ("X-Forwarded-Ssl: Off", Ok(Some(false))),
        ("X-Forwarded-Protocol: ssl", Ok(Some(true))),
        ("X-Forwarded-Protocol: http", Ok(Some(false))),
        ("X-Forwarded-Proto: https|X-Forwarded-Ssl: on|X-Forwarded-Protocol: https", Ok(Some(true))),
        ("X-Forwarded-Proto: http|X-Forwarded-Ssl: on", Err(400)),
        ("X-Forwarded-Protocol: ssl|X-Forwarded-Ssl: off", Err(400)),
    ] {
        assert_eq!(https(lines), expected, "{lines}");
    }
}

#[test]
fn the_client_is_the_first_from_the_right_that_is_not_trusted() {
    for (lines, expected) in [
        ("X-Forwarded-For: 192.0.2.1", "192.0.2.1"),
        ("X-Forwarded-For: 198.51.100.9, 192.0.2.1", "192.0.2.1"),
        ("X-Forwarded-For: 198.51.100.9, 192.0.2.1, 10.0.0.1,10.0.0.2", "192.0.2.1"),
        ("X-Forwarded-For: 198.51.100.9|X-Forwarded-For: 192.0.2.1|X-Forwarded-For: 10.0.0.1", "192.0.2.1"),
        ("X-Forwarded-For: 10.0.0.3, ::1, 10.0.0.1", "10.0.0.3"),
        ("X-Forwarded-For: 10.0.0.3, 2001:db8::1", "2001:db8::1"),
        ("X-Forwarded-For: 192.0.2.1:567", "192.0.2.1 567"),
        ("X-Forwarded-For: [2001:db8::1]:567, [::1]", "2001:db8::1 567"),
        ("X-Forwarded-For: 192.0.2.1, ::ffff:10.0.0.1", "192.0.2.1"),
        ("X-Forwarded-For: 192.0.2.1, unknown, 10.0.0.1", "hidden"),
        ("X-Forwarded-For: unknown", "hidden"),
        ("X-Forwarded-For: 192.0.2.1, _a", "hidden"),
        ("X-Forwarded-For: 192.0.2.1, unix:", "hidden"),
        ("X-Forwarded-For: 192.0.2.1, , |X-Forwarded-For: |X-Forwarded-For: ,10.0.0.1,", "192.0.2.1"),
        ("X-Forwarded-For: 10.0.0.3", "10.0.0.3"),
    ] {
        assert_eq!(client(lines).as_deref(), Ok(expected), "{lines}");
    }
}

#[test]
fn what_the_client_itself_says_is_not_looked_at() {
    assert_eq!(client("X-Forwarded-For: <script>, , 192.0.2.1").as_deref(), Ok("192.0.2.1"));
    assert_eq!(https("X-Forwarded-For: 192.0.2.1|X-Forwarded-Proto: gopher, https"), Ok(Some(true)));
}

#[test]
fn addresses_that_are_malformed_are_refused() {
    for element in [
        "a",
        "192.0.2",
        "192.0.2.1:",
        "192.0.2.1:65536",
        "192.0.2.01",
        "[192.0.2.1]",
        "[::1",
        "::1%1",
        "[fe80::1%1]:80",
        "192.0.2.1 a",
        "\"::1\"",
        "_",
    ] {
        for lines in [format!("X-Forwarded-For: {element}"), format!("X-Forwarded-For: {element}, 10.0.0.1")] {
            assert_eq!(client(&lines), Err(400), "{lines}");
        }
    }
}

#[test]
fn lists_are_read_at_the_clients_place() {
    // The outer proxy speaks https with the client, plain http with the inner one.
    let chain = "X-Forwarded-For: 192.0.2.1, 10.0.0.1";
    assert_eq!(https(&format!("{chain}|X-Forwarded-Proto: https, http")), Ok(Some(true)));
    assert_eq!(
        https(&format!("{chain}|X-Forwarded-Proto: http, https, http")),
        Ok(Some(true)),
        "the left one is the client's own"
    );
    assert_eq!(https(&format!("{chain}|X-Forwarded-Proto: https")), Ok(Some(true)), "one for all");
    assert_eq!(https("X-Forwarded-For: 192.0.2.1|X-Forwarded-Proto: https, http"), Ok(Some(false)));
    assert_eq!(host(&format!("{chain}|X-Forwarded-Host: a, b, c")), Ok(Some("b".into())));
    assert_eq!(server_port(&format!("{chain}|X-Forwarded-Port: 1, 2, 3")), Ok(Some(2)));
}

#[test]
fn schemes() {
    for (scheme, expected) in [("http", false), ("HTTPS", true), ("ws", false), ("wss", true)] {
        assert_eq!(https(&format!("X-Forwarded-Proto: {scheme}")), Ok(Some(expected)));
    }
    for bad in ["on", "https:", "ftp", "http s", "https;"] {
        assert_eq!(https(&format!("X-Forwarded-Proto: {bad}")), Err(400), "{bad}");
    }
}

#[test]
fn hosts() {
    assert_eq!(host("X-Forwarded-Host: example.com:8443"), Ok(Some("example.com:8443".into())));
    for bad in ["a b", "a/b", "a@b", ":80", "a:b", "http://a", "\u{e9}"] {
        assert_eq!(host(&format!("X-Forwarded-Host: {bad}")), Err(400), "{bad}");
    }
}

#[test]
fn the_port_is_said_or_follows_from_the_host_or_the_scheme() {
    for (lines, port) in [
        ("X-Forwarded-Port: 8443|X-Forwarded-Proto: https|X-Forwarded-Host: a:1", Some(8443)),
        ("X-Forwarded-Proto: https|X-Forwarded-Host: a:8444", Some(8444)),
        ("X-Forwarded-Proto: https|X-Forwarded-Host: a", Some(443)),
        ("X-Forwarded-Proto: http|X-Forwarded-Host: [::1]", Some(80)),
        ("X-Forwarded-Proto: https", Some(8000)),
        ("X-Forwarded-Host: a", None),
        ("X-Forwarded-For: 192.0.2.1", None),
    ] {
        assert_eq!(server_port(lines), Ok(port), "{lines}");
    }
    for bad in ["0x50", "65536", "-1", "80 80"] {
        assert_eq!(server_port(&format!("X-Forwarded-Port: {bad}")), Err(400), "{bad}");
    }
}

#[test]
fn prefixes() {
    for (said, prefix) in
        [("/app", Some("/app")), ("/app/v1/", Some("/app/v1")), ("/", None), ("/a..b/.c", Some("/a..b/.c"))]
    {
        assert_eq!(prefix_of(&format!("X-Forwarded-Prefix: {said}")), Ok(prefix.map(str::to_owned)), "{said}");
    }
    let dots = ["/.", "/..", "/a/../b", "/a/./b", "/a/.."];
    let slashes = ["//", "/a//", "/a//b", "//evil.example", r"/\evil.example", r"\evil", r"/a\b"];
    for bad in dots.iter().chain(&slashes).chain(&["app", "/a b", "/a?b", "/a#b", "/a%20b", "/\u{e9}", "http://a/"]) {
        assert_eq!(prefix_of(&format!("X-Forwarded-Prefix: {bad}")), Err(400), "{bad}");
    }
}

#[test]
fn rfc7239_forwarded() {
    for (lines, expected) in [
        ("Forwarded: for=192.0.2.1", "192.0.2.1"),
        ("Forwarded: For=\"192.0.2.1:567\";proto=https;by=10.0.0.1", "192.0.2.1 567"),
        ("Forwarded: for=\"[2001:db8::1]:567\"", "2001:db8::1 567"),
        ("Forwarded: for=\"[2001:db8::1]\"", "2001:db8::1"),
        ("Forwarded: for=198.51.100.9, for=192.0.2.1,for=10.0.0.1", "192.0.2.1"),
        ("Forwarded: for=192.0.2.1|Forwarded: for=10.0.0.1;proto=http", "192.0.2.1"),
        ("Forwarded: for=192.0.2.1, for=unknown, for=10.0.0.1", "hidden"),
        ("Forwarded: for=192.0.2.1, for=_hidden", "hidden"),
        ("Forwarded: for=192.0.2.1, proto=https", "peer"),
        ("Forwarded: for=\"192.0.2.1:_port\"", "192.0.2.1"),
        ("Forwarded: for=\"_a:80\"", "hidden"),
        ("Forwarded: ;for=192.0.2.1;;ext=\"a,b;c\" ; by=_x", "192.0.2.1"),
        ("Forwarded:", "peer"),
    ] {
        assert_eq!(client(lines).as_deref(), Ok(expected), "{lines}");
    }
    let chain = "Forwarded: for=192.0.2.1;proto=https;host=\"a:8443\", for=10.0.0.1;proto=http;host=b";
    assert_eq!(
        (https(chain), host(chain), server_port(chain)),
        (Ok(Some(true)), Ok(Some("a:8443".into())), Ok(Some(8443)))
    );
    let inner = "Forwarded: for=192.0.2.1, for=10.0.0.1;proto=https";
    assert_eq!(https(inner), Ok(Some(true)), "the nearest to the client that says it");
}

#[test]
fn rfc7239_4_malformed_is_refused() {
    for value in [
        "for",
        "for=",
        "for =192.0.2.1",
        "for= 192.0.2.1",
        "for=192.0.2.1 proto=http",
        "for=192.0.2.1;for=192.0.2.2",
        "for=\"192.0.2.1",
        "for=\"192.0.2.\\1\"",
        "for=2001:db8::1",
        "for=\"2001:db8::1\"",
        "for=[::1]",
        "for=a",
        "for=_",
        "for=\"_a b\"",
        "for=192.0.2.1:80",
        "for=\"192.0.2.1:99999\"",
        "for=\"192.0.2.1:80:80\"",
        "for=\"\"",
        "proto=ftp",
        "proto=\"\"",
        "host=\"a b\"",
        "host=\"\"",
        "=a",
        "for=192.0.2.1;proto=http;proto=http",
        "for=\u{e9}",
        "for=\", for=192.0.2.1",
    ] {
        assert_eq!(client(&format!("Forwarded: {value}")), Err(400), "{value}");
    }
}

#[test]
fn a_contradiction_between_both_kinds_is_refused() {
    for (lines, expected) in [
        (
            "Forwarded: for=192.0.2.1;proto=https|X-Forwarded-For: 192.0.2.1|X-Forwarded-Proto: https",
            Ok("192.0.2.1".into()),
        ),
        ("Forwarded: for=192.0.2.1;proto=https|X-Forwarded-For: 192.0.2.1", Ok("192.0.2.1".into())),
        ("Forwarded: for=192.0.2.9|X-Forwarded-For: 192.0.2.1", Err(400)),
        ("Forwarded: proto=http|X-Forwarded-Proto: https", Err(400)),
        ("Forwarded: host=a|X-Forwarded-Host: b", Err(400)),
        ("Forwarded: for=_a|X-Forwarded-For: 192.0.2.1", Err(400)),
        ("Forwarded: for=_a|X-Forwarded-For: unknown", Ok("hidden".into())),
        ("Forwarded: for=192.0.2.9|X-Forwarded-Proto: https", Ok("192.0.2.9".into())),
        ("Forwarded: for=\"|X-Forwarded-Host: b", Err(400)),
    ] {
        assert_eq!(client(lines), expected, "{lines}");
    }
    assert_eq!(https("Forwarded: proto=https|X-Forwarded-For: 192.0.2.1"), Ok(Some(true)), "each says what it says");
}

#[test]
fn as_gunicorn_reads_the_scheme_and_the_script_name() {
    let pair = |name: &str, value: &str| (name.to_owned(), value.to_owned());
    let believed = Believed {
        schemes: Some(vec![pair("X-FORWARDED-PROTO", "https"), pair("X-TLS", "on")]),
        own: vec!["SCRIPT_NAME".into()],
        ..ALL
    };
    let read =
        |lines: &str| believing(believed.clone(), lines, |origin| (origin.https, origin.prefix.map(str::to_owned)));
    for (lines, https) in [
        ("A: b", Ok(None)),
        ("X-Tls: on", Ok(Some(true))),
        ("X-Tls: ON", Ok(Some(false))),
        ("X-Forwarded-Proto: http", Ok(Some(false))),
        ("X-Forwarded-Proto: gopher", Ok(Some(false))),
        ("X-Forwarded-Ssl: on", Ok(None)),
        ("X-Forwarded-Proto: https|X-Tls: on", Ok(Some(true))),
        ("X-Forwarded-Proto: http|X-Tls: on", Err(400)),
        ("X-Tls: on|X-Tls: off", Err(400)),
    ] {
        assert_eq!(read(lines).map(|(https, _)| https), https, "{lines}");
    }
    for (lines, prefix) in [
        ("SCRIPT_NAME: /app", Ok(Some("/app"))),
        ("script_name: /app/", Ok(Some("/app"))),
        ("Script-Name: /app", Ok(None)),
        ("SCRIPT_NAME: ", Ok(None)),
        ("SCRIPT_NAME: //evil", Err(400)),
        ("SCRIPT_NAME: /app|X-Forwarded-Prefix: /app", Ok(Some("/app"))),
        ("SCRIPT_NAME: /app|X-Forwarded-Prefix: /other", Err(400)),
    ] {
        assert_eq!(read(lines).map(|(_, prefix)| prefix), prefix.map(|prefix| prefix.map(str::to_owned)), "{lines}");
    }
    let none = Believed { schemes: Some(Vec::new()), ..ALL };
    assert_eq!(believing(none, "X-Forwarded-Proto: https", |origin| origin.https), Ok(None), "an empty dict");
}
