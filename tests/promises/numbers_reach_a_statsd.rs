//! A statsd is sent what gunicorn's users know from there, and one that is not there costs nothing.

use std::{collections::BTreeMap, net::UdpSocket, os::unix::net::UnixDatagram, time::Instant};

use ostler_tests::{PATIENCE, Rig, Signal, Site};

// The exit code of ostler(1).
const USAGE: i32 = 2;

const APP: &str = "
def application(environ, start_response):
    if environ['PATH_INFO'] == '/raise':
        raise ValueError('raised')
    start_response('404 Not Found' if environ['PATH_INFO'] == '/none' else '200 OK', [('Content-Length', '3')])
    return [b'abc']
";

/// What a statsd would know by now: the sums of counters, the last value of gauges, how many times were told.
#[derive(Default)]
struct Collected(BTreeMap<String, f64>);

impl Collected {
    fn take(&mut self, datagram: &[u8]) {
        assert!(datagram.len() <= 1432, "{} bytes", datagram.len());
        for line in std::str::from_utf8(datagram).expect("a statsd reads text").split('\n') {
            let (name, rest) = line.split_once(':').unwrap_or_else(|| panic!("no line of a statsd: {line:?}"));
            let parts: Vec<&str> = rest.split('|').collect();
            let value: f64 = parts[0].parse().unwrap_or_else(|_| panic!("no number: {line:?}"));
            let rate =
                parts.iter().find_map(|part| part.strip_prefix('@')).map_or(1.0, |rate| rate.parse::<f64>().unwrap());
            let entry = self.0.entry(name.into()).or_default();
            match parts[1] {
                "c" => *entry += value,
                "ms" => *entry += (1.0 / rate).floor(),
                "g" => *entry = value,
                "h" => *entry += 1.0,
                kind => panic!("no kind of a statsd: {kind:?} in {line:?}"),
            }
        }
    }

    fn of(&self, name: &str) -> f64 {
        self.0.get(name).copied().unwrap_or(0.0)
    }

    /// Reads until all of these have their numbers.
    fn until(&mut self, receive: impl Fn(&mut [u8]) -> std::io::Result<usize>, expected: &[(&str, f64)]) {
        let deadline = Instant::now() + PATIENCE;
        let mut bytes = [0; 65536];
        while expected.iter().any(|(name, number)| self.of(name) != *number) {
            assert!(Instant::now() < deadline, "{:?} are not {expected:?}", self.0);
            let length = receive(&mut bytes).unwrap_or_else(|error| panic!("{error}: {:?}", self.0));
            self.take(&bytes[..length]);
        }
    }
}

fn statsd() -> (UdpSocket, u16) {
    let socket = UdpSocket::bind("127.0.0.1:0").expect("the loopback has ports");
    socket.set_read_timeout(Some(PATIENCE)).unwrap();
    let port = socket.local_addr().unwrap().port();
    (socket, port)
}

fn ask(site: &Site, path: &str, times: usize) {
    let mut client = site.connect();
    for _ in 0..times {
        client.get(path);
    }
}

#[test]
fn gunicorn_s_names_tell_of_every_request_and_survive_a_reload_and_an_upgrade() {
    let (socket, port) = statsd();
    let configuration = format!("statsd_host = 'localhost:{port}'\nstatsd_prefix = 'shop'\nworkers = 2\n");
    let rig = Rig::with_source(APP).installed().without_workers().file("gunicorn.conf.py", &configuration);
    let site = rig.option("--dogstatsd-tags", "env:test").start();
    let mut collected = Collected::default();
    let receive = |bytes: &mut [u8]| {
        let length = socket.recv(bytes)?;
        assert!(bytes[..length].split(|byte| *byte == b'\n').all(|line| line.ends_with(b"|#env:test")));
        Ok(length)
    };
    ask(&site, "/", 120);
    ask(&site, "/none", 2);
    assert_eq!(site.get("/raise").status, 500);
    let expected = |times: f64| {
        [
            ("shop.gunicorn.requests", 123.0 * times),
            ("shop.gunicorn.request.status.200", 120.0 * times),
            ("shop.gunicorn.request.status.404", 2.0 * times),
            ("shop.gunicorn.request.status.500", times),
            ("shop.gunicorn.request.duration", 123.0 * times),
            ("shop.gunicorn.log.exception", times),
            ("shop.gunicorn.workers", 2.0),
        ]
    };
    collected.until(receive, &expected(1.0));
    assert_eq!(site.control(&["reload"]).code, 0);
    site.signal(Signal::SIGUSR2);
    site.log("upgraded");
    site.log("generation serving");
    ask(&site, "/", 120);
    ask(&site, "/none", 2);
    assert_eq!(site.get("/raise").status, 500);
    collected.until(receive, &expected(2.0));
    assert_eq!(collected.of("shop.gunicorn.log.error"), 0.0);
    assert!(!collected.0.contains_key("shop.gunicorn.backlog"));
    // What a worker has counted last is told before the end.
    assert_eq!(site.get("/none").status, 404);
    assert_eq!(site.control(&["stop"]).code, 0);
    collected.until(receive, &[("shop.gunicorn.request.status.404", 5.0), ("shop.gunicorn.workers", 0.0)]);
}

#[test]
fn a_unix_socket_may_come_go_and_come_back() {
    let rig = Rig::with_source(APP).option("--statsd-host", "unix:statsd.sock").flag("--enable-backlog-metric");
    let path = rig.folder().join("statsd.sock");
    let site = rig.start();
    assert!(site.log("metrics not sent").text().contains("reason=\"no such file or directory\""));
    ask(&site, "/", 3);
    let mut collected = Collected::default();
    for round in 1..3_u8 {
        let socket = UnixDatagram::bind(&path).expect("a private folder is writable");
        socket.set_read_timeout(Some(PATIENCE)).unwrap();
        let told = f64::from(round) * 3.0;
        collected
            .until(|bytes| socket.recv(bytes), &[("gunicorn.requests", told), ("gunicorn.request.duration", told)]);
        assert!(collected.of("gunicorn.backlog") > 0.0);
        while site.logged("metrics sent again") < usize::from(round) {
            socket.recv(&mut [0; 65536]).expect("the site goes on telling");
        }
        drop(socket);
        std::fs::remove_file(&path).expect("the file is ours");
        site.log("metrics not sent");
        ask(&site, "/", 3);
    }
}

#[test]
fn a_statsd_that_is_not_there_is_named_once_and_nobody_waits_for_it() {
    let (socket, port) = statsd();
    drop(socket);
    let site = Rig::with_source(APP).option("--statsd-host", &format!("127.0.0.1:{port}")).start();
    let line = site.log("metrics not sent");
    assert!(line.text().contains("reason=\"connection refused\""), "{line:?}");
    assert_eq!(site.get("/").text(), "abc");
    let site = Rig::with_source(APP).option("--statsd-host", "no-such-host.invalid").start();
    assert!(site.log("metrics not sent").text().contains("reason=\"there is no such host\""));
    assert_eq!(site.get("/").text(), "abc");
}

#[test]
fn what_is_no_address_prefix_or_tag_is_refused() {
    for (option, value, says) in [
        ("--statsd-host", "localhost:x", "--statsd-host: \"localhost:x\": expected a port"),
        ("--statsd-host", ":8125", "--statsd-host: \":8125\": expected host, host:port, [v6]:port or unix:path"),
        ("--statsd-prefix", "a b", "--statsd-prefix: \"a b\": expected a text without spaces"),
        ("--dogstatsd-tags", "a|b", "--dogstatsd-tags: \"a|b\": expected tags separated by commas"),
    ] {
        Rig::with_source(APP).option(option, value).refuse().says(USAGE, &[says]);
    }
    let refused = Rig::with_source(APP).file("gunicorn.conf.py", "\nstatsd_host = 'a:b'\n").refuse();
    refused.says(USAGE, &["statsd-host in ", "gunicorn.conf.py, line 2: \"a:b\": expected a port"]);
}
