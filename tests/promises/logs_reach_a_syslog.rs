//! The error log has the form that is asked for, and a syslog gets both logs; one that is down costs lines, and nobody waits for it.

use std::{
    fs,
    io::{Read, Write},
    net::{TcpListener, TcpStream, UdpSocket},
    os::unix::net::UnixDatagram,
    path::Path,
    process::Command,
    time::Instant,
};

use ostler_tests::{Folder, PATIENCE, Process, Rig, Signal, Site, installed};
use serde_json::Value;

// The exit code of ostler(1).
const USAGE: i32 = 2;

const APP: &str = "
def application(environ, start_response):
    environ['wsgi.errors'].write('said\\n')
    if environ['PATH_INFO'] == '/raise':
        raise ValueError('raised \\n twice')
    start_response('200 OK', [('Content-Length', '3')])
    return [b'abc']
";

/// Reads until a message holds all of these.
fn until(receive: impl Fn(&mut [u8]) -> std::io::Result<usize>, parts: &[&str]) -> String {
    let deadline = Instant::now() + PATIENCE;
    let mut bytes = [0; 65536];
    loop {
        let length = receive(&mut bytes).unwrap_or_else(|error| panic!("{error}: no message holds {parts:?}"));
        let message = String::from_utf8(bytes[..length].to_vec()).expect("messages are UTF-8");
        if parts.iter().all(|part| message.contains(part)) {
            return message;
        }
        assert!(Instant::now() < deadline, "no message holds {parts:?}");
    }
}

fn udp() -> (UdpSocket, String) {
    let socket = UdpSocket::bind("127.0.0.1:0").expect("the loopback has ports");
    socket.set_read_timeout(Some(PATIENCE)).unwrap();
    let to = format!("udp://localhost:{}", socket.local_addr().unwrap().port());
    (socket, to)
}

#[test]
fn a_syslog_gets_both_logs_beside_their_own_places() {
    let (socket, to) = udp();
    let configuration =
        format!("syslog = True\nsyslog_addr = '{to}'\nsyslog_prefix = 'shop'\nsyslog_facility = 'local3'\n");
    let site = Rig::with_source(APP).without_workers().file("gunicorn.conf.py", &configuration).start();
    let receive = |bytes: &mut [u8]| socket.recv(bytes);
    let ready = until(receive, &["worker ready"]);
    assert!(ready.starts_with("<158>1 20") && ready.contains(" gunicorn.shop.error "), "{ready}");
    assert!(ready.contains(" - - \u{feff}master: worker ready generation=1 slot=0 "), "{ready}");
    assert_eq!(site.get("/a%0A?b").text(), "abc");
    let said = until(receive, &["worker g1.0: said"]);
    assert!(said.starts_with("<158>1 ") && said.ends_with(": said"), "{said}");
    let line = until(receive, &[" gunicorn.shop.access "]);
    assert!(line.starts_with("<158>1 ") && line.contains("\"GET /a%0A?b HTTP/1.1\" 200 3 "), "{line}");
    assert_eq!(site.get("/raise").status, 500);
    let raised = until(receive, &["application raised"]);
    assert!(raised.starts_with("<155>1 ") && raised.contains("ValueError"), "{raised}");
    site.log("application raised");
}

#[test]
fn a_unix_socket_that_goes_costs_lines_and_is_named_when_it_goes_and_comes() {
    let folder = Folder::new();
    let path = folder.join("log.sock");
    let rig = Rig::with_source(APP)
        .flag("--log-syslog")
        .option("--log-syslog-to", &format!("unix://{}", path.display()))
        .flag("--disable-redirect-access-to-syslog")
        .option("--name", "shop");
    let socket = UnixDatagram::bind(&path).expect("a private folder is writable");
    socket.set_read_timeout(Some(PATIENCE)).unwrap();
    let site = rig.start();
    let ready = until(|bytes| socket.recv(bytes), &["worker ready"]);
    let expected = format!(" shop.error[{}]: master: worker ready ", site.pid());
    assert!(ready.starts_with("<14>") && ready.contains(&expected), "{ready}");
    drop(socket);
    fs::remove_file(&path).expect("the file is ours");
    assert_eq!((site.get("/raise").status, site.get("/raise").status), (500, 500));
    assert!(site.log("syslog not reached").text().contains("reason=\"no such file or directory\""));
    site.log("application raised");
    site.log("application raised");
    let socket = UnixDatagram::bind(&path).expect("a private folder is writable");
    socket.set_read_timeout(Some(PATIENCE)).unwrap();
    assert_eq!(site.get("/raise").status, 500);
    assert!(
        site.log("syslog reached again").text().contains("lost=4"),
        "of each call, what the application said and what it raised"
    );
    until(|bytes| socket.recv(bytes), &["application raised"]);
    assert_eq!(site.logged("syslog not reached"), 1);
}

#[test]
fn a_tcp_syslog_that_does_not_read_holds_nobody_up() {
    let listener = TcpListener::bind("127.0.0.1:0").expect("the loopback has ports");
    let to = format!("tcp://{}", listener.local_addr().unwrap());
    let site = Rig::with_source(APP).flag("--log-syslog").option("--log-syslog-to", &to).start();
    let mut client = site.connect();
    let long = format!("/{}", "x".repeat(7000));
    let deadline = Instant::now() + PATIENCE;
    while site.logged("access log not written") == 0 {
        assert_eq!(client.get(&long).text(), "abc");
        assert!(Instant::now() < deadline, "all of it is taken");
    }
    drop(listener);
}

#[test]
fn the_way_to_a_syslog_is_not_the_application_s_and_workers_share_the_import() {
    let listener = TcpListener::bind("127.0.0.1:0").expect("the loopback has ports");
    let (_socket, udp) = udp();
    for to in [format!("tcp://{}", listener.local_addr().unwrap()), udp] {
        let source = format!("import sys\nprint('imported', file=sys.stderr)\n{APP}");
        let site = Rig::with_source(&source).flag("--log-syslog").option("--log-syslog-to", &to).start();
        assert_eq!(site.logged("not preloaded"), 0, "{to}");
        assert_eq!(site.logged("imported"), 2, "{to}: by the application, and of it");
    }
}

#[test]
fn nothing_but_the_syslog_has_the_log_if_that_is_its_form() {
    let (socket, to) = udp();
    let mut site = Rig::with_source(APP).option("--log-format", "syslog").option("--log-syslog-to", &to).launch();
    until(|bytes| socket.recv(bytes), &["ostler.error ", "generation serving"]);
    site.stop();
    until(|bytes| socket.recv(bytes), &["master: stopped"]);
    assert_eq!(site.whole_log(), "");
}

#[test]
fn each_line_of_json_is_an_object_with_true_types() {
    let address = TcpListener::bind("127.0.0.1:0").and_then(|free| free.local_addr()).expect("the loopback has ports");
    let mut site = Rig::with_source(APP).bind(&address.to_string()).option("--log-format", "json").launch();
    site.log("generation serving");
    let mut client = TcpStream::connect(address).expect("it serves");
    client.write_all(b"GET /raise?\"\\ HTTP/1.0\r\n\r\n").unwrap();
    client.read_to_end(&mut Vec::new()).unwrap();
    site.log("application raised");
    site.stop();
    let log = site.whole_log();
    let lines: Vec<Value> =
        log.lines().map(|line| serde_json::from_str(line).unwrap_or_else(|_| panic!("{line}"))).collect();
    let of =
        |phrase: &str| lines.iter().find(|line| line["phrase"] == phrase).unwrap_or_else(|| panic!("{phrase}: {log}"));
    let ready = of("worker ready");
    assert!(
        ready["took"].is_f64() && ready["pid"].is_u64() && ready["generation"] == 1 && ready["slot"] == 0,
        "{ready}"
    );
    assert_eq!((&ready["process"], &ready["level"]), (&"master".into(), &"info".into()));
    let raised = of("application raised");
    assert!(raised["traceback"].as_str().unwrap().contains("\nValueError: raised \n twice"), "{raised}");
    assert_eq!((&raised["process"], &raised["generation"]), (&"worker g1.0".into(), &1.into()));
    assert!(lines.iter().any(|line| line["text"] == "said"), "{log}");
}

/// rsyslog with a configuration of its own, as often as it is started.
struct Rsyslog {
    folder: Folder,
    udp: u16,
    tcp: u16,
}

impl Rsyslog {
    /// None where there is no rsyslog.
    fn new() -> Option<Rsyslog> {
        installed("rsyslogd")?;
        let port = || TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
        let rsyslog = Rsyslog { folder: Folder::new(), udp: port(), tcp: port() };
        let Rsyslog { folder, udp, tcp } = &rsyslog;
        let (socket, out) = (rsyslog.place("log.sock"), rsyslog.place("out"));
        let configuration = format!(
            "module(load=\"imudp\")\nmodule(load=\"imtcp\")\nmodule(load=\"imuxsock\" SysSock.Use=\"off\")\n\
             input(type=\"imuxsock\" Socket=\"{socket}\" CreatePath=\"off\" RateLimit.Interval=\"0\")\n\
             input(type=\"imudp\" address=\"127.0.0.1\" port=\"{udp}\")\n\
             input(type=\"imtcp\" address=\"127.0.0.1\" port=\"{tcp}\")\n\
             template(name=\"all\" type=\"string\" string=\"%inputname%|%pri-text%|%app-name%|%msg%\\n\")\n\
             action(type=\"omfile\" file=\"{out}\" template=\"all\")\n"
        );
        folder.write("rsyslog.conf", &configuration);
        Some(rsyslog)
    }

    fn place(&self, name: &str) -> String {
        self.folder.join(name).display().to_string()
    }

    /// Each way to it: its input, and the address.
    fn ways(&self) -> [(&'static str, String); 3] {
        [
            ("imudp", format!("udp://127.0.0.1:{}", self.udp)),
            ("imtcp", format!("tcp://127.0.0.1:{}", self.tcp)),
            ("imuxsock", format!("unix://{}", self.place("log.sock"))),
        ]
    }

    fn start(&self) -> Process {
        for made in ["pid", "log.sock"] {
            let _ = fs::remove_file(self.place(made));
        }
        let mut command = Command::new("rsyslogd");
        command.arg("-n").args(["-f", &self.place("rsyslog.conf"), "-i", &self.place("pid")]);
        let mut daemon = Process::start(&mut command, &self.place("rsyslogd"));
        wait_for(|| {
            let ready =
                Path::new(&self.place("log.sock")).exists() && TcpStream::connect(("127.0.0.1", self.tcp)).is_ok();
            assert!(!daemon.has_ended(), "{}", daemon.log.text());
            ready
        });
        daemon
    }

    /// Everything that it was sent.
    fn received(&self) -> String {
        fs::read_to_string(self.place("out")).unwrap_or_default()
    }

    /// A site that sends it both logs.
    fn site(&self, to: &str) -> Site {
        Rig::with_source(APP)
            .flag("--log-syslog")
            .option("--log-syslog-to", to)
            .option("--log-syslog-facility", "local3")
            .option("--log-syslog-prefix", "shop")
            .start()
    }
}

#[test]
fn a_real_rsyslog_understands_every_way() {
    let Some(rsyslog) = Rsyslog::new() else { return };
    let mut daemon = rsyslog.start();
    for (way, to) in rsyslog.ways() {
        let mut site = rsyslog.site(&to);
        assert_eq!(site.get(&format!("/{way}")).text(), "abc");
        assert_eq!(site.get("/raise").status, 500);
        site.stop();
        let expected = [
            format!("{way}|local3.info|shop.error|"),
            format!("{way}|local3.info|shop.access|"),
            format!("{way}|local3.err|shop.error|"),
        ];
        wait_for(|| expected.iter().all(|start| rsyslog.received().lines().any(|line| line.starts_with(start))));
        let log = rsyslog.received();
        let raised: Vec<_> = log.lines().filter(|line| line.starts_with(&expected[2])).collect();
        assert!(raised[0].contains("application raised") && raised[0].contains("ValueError"), "{log}");
        assert!(
            log.lines().any(|line| line.starts_with(&expected[1]) && line.contains(&format!("GET /{way} "))),
            "{log}"
        );
        assert!(log.lines().any(|line| line.starts_with(&expected[0]) && line.ends_with("worker g1.0: said")), "{log}");
    }
    daemon.signal(Signal::SIGTERM);
    daemon.wait();
}

#[test]
fn a_real_rsyslog_that_is_down_at_the_start_and_lost_under_load_costs_lines_alone() {
    let Some(rsyslog) = Rsyslog::new() else { return };
    for (way, to) in rsyslog.ways() {
        let mut site = rsyslog.site(&to);
        let mut client = site.connect();
        let worker = |log: &str, phrase: &str| {
            log.lines().filter(|line| line.contains(&format!("] {phrase}")) && line.contains(" worker g1.0[")).count()
        };
        for times in 1..=2 {
            for _ in 0..20 {
                assert_eq!(client.get("/lost").text(), "abc");
            }
            if times == 1 {
                site.log("access log not written");
            }
            let mut daemon = rsyslog.start();
            // A connection is tried anew once a second.
            wait_for(|| {
                assert_eq!(client.get(&format!("/{way}{times}")).text(), "abc");
                rsyslog.received().contains(&format!("GET /{way}{times} "))
            });
            // It is told at once that the first outage is over. The second may be too soon after it.
            while worker(&site.shown(), "syslog reached again") == 0 || site.logged("access log written again") == 0 {
                assert_eq!(client.get("/again").text(), "abc");
            }
            std::thread::scope(|scope| {
                let load = scope.spawn(|| {
                    let mut client = site.connect();
                    (0..200).for_each(|_| assert_eq!(client.get("/load").text(), "abc"));
                });
                daemon.signal(Signal::SIGKILL);
                daemon.wait();
                load.join().expect("no request notices");
            });
        }
        site.stop();
        let log = site.whole_log();
        let told = (worker(&log, "syslog not reached"), worker(&log, "syslog reached again"));
        // Under load the queue of the socket may be full for a moment.
        assert!(told.0 >= 1 && told.1 >= 1 && told.0 < 20, "{log}");
        assert!(!rsyslog.received().contains("GET /lost "));
        let lost =
            log.lines().find_map(|line| line.split_once("access log written again lost=")?.1.parse::<u32>().ok());
        assert!(lost.is_some_and(|lost| lost >= 20), "{log}");
    }
}

fn wait_for(mut holds: impl FnMut() -> bool) {
    let deadline = Instant::now() + PATIENCE;
    while !holds() {
        assert!(Instant::now() < deadline, "it did not happen");
        std::thread::yield_now();
    }
}

#[test]
fn what_is_no_syslog_is_refused() {
    for (options, says) in [
        (
            ["--log-syslog-to=localhost"],
            "--log-syslog-to: \"localhost\": expected unix:///path, udp://host:port or tcp://host:port",
        ),
        (
            ["--log-syslog-to=unix:///x#seq"],
            "--log-syslog-to: \"unix:///x#seq\": expected #dgram or #stream behind the path",
        ),
        (["--log-syslog-facility=local9"], "--log-syslog-facility: \"local9\": expected a facility"),
        (["--log-format=xml"], "--log-format: \"xml\": expected one of text, json, journald, syslog"),
    ] {
        Rig::with_source(APP).flag(options[0]).refuse().says(USAGE, &[says]);
    }
    let refused =
        Rig::with_source(APP).flag("--log-syslog").option("--log-syslog-to", "udp://no-such-host.invalid").refuse();
    refused.says(USAGE, &["--log-syslog-to: \"udp://no-such-host.invalid\": there is no such host"]);
    if !Path::new("/run/systemd/journal/socket").exists() {
        let refused = Rig::with_source(APP).option("--log-format", "journald").refuse();
        refused.says(USAGE, &["--log-format: \"journald\": there is no journal on this machine"]);
    }
}
