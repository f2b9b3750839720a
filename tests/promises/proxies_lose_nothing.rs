//! What a client behind a proxy gets while sites are reloaded, stopped, replaced and deployed: every answer, whole, and no connection
//! reset. nginx and HAProxy run as examples/deploy has them.

use std::{
    sync::{
        Condvar, Mutex, MutexGuard,
        atomic::{AtomicBool, Ordering::SeqCst},
    },
    thread,
    time::Duration,
};

use nix::sys::signal::Signal::SIGHUP;
use ostler_tests::{Answer, Client, PATIENCE, Proxy, Rig, Site};

/// Answers GET with the query a thousand times, and POST with the body.
const SOURCE: &str = "
def app(environ, start_response):
    body = environ['wsgi.input'].read() or environ['QUERY_STRING'].encode() * 1000
    start_response('200 OK', [('Content-Type', 'text/plain'), ('Content-Length', str(len(body)))])
    return [body]
";

/// How long a client with a kept connection thinks between two requests: some within, some beyond the second for which a stopping
/// site waits for idle connections.
const THOUGHTS: [u64; 4] = [1, 20, 300, 1100];

fn rig() -> Rig {
    Rig::with_source(SOURCE).workers(2).option("--access-logfile", "-")
}

/// A rig at a Unix socket in its own folder.
fn at_unix(rig: Rig) -> Rig {
    let socket = format!("unix:{}", rig.folder().join("site.sock").display());
    rig.bind(&socket)
}

/// Clients of a proxy, which count and check what they get.
struct Load {
    address: String,
    over: AtomicBool,
    figures: Mutex<Figures>,
    changed: Condvar,
}

#[derive(Default)]
struct Figures {
    sent: u64,
    answered: u64,
    lost: Vec<String>,
}

impl Load {
    /// Runs clients while `events` happen to the sites; then every request must have had its answer. `what` is for the figures.
    fn during(what: &str, proxy: &Proxy, events: impl FnOnce(&Load)) {
        let load = Load {
            address: proxy.address().into(),
            over: AtomicBool::new(false),
            figures: Mutex::default(),
            changed: Condvar::new(),
        };
        thread::scope(|scope| {
            for number in 0..8 {
                let load = &load;
                scope.spawn(move || load.fresh(number));
                scope.spawn(move || load.kept(number, Duration::from_millis(THOUGHTS[number / 2])));
            }
            let done = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| events(&load)));
            load.over.store(true, SeqCst);
            done.unwrap_or_else(|panic| std::panic::resume_unwind(panic));
        });
        let Figures { sent, lost, .. } = load.figures.into_inner().expect("nobody panics with them");
        println!("{what}: {sent} requests, {} lost", lost.len());
        assert_eq!(lost, [""; 0], "what clients have lost");
    }

    fn is_over(&self) -> bool {
        self.over.load(SeqCst)
    }

    fn figures(&self) -> MutexGuard<'_, Figures> {
        self.figures.lock().expect("nobody panics with them")
    }

    /// Waits until this many requests more were answered.
    fn goes_on(&self, requests: u64) {
        let figures = self.figures();
        let until = figures.answered + requests;
        let waited = self.changed.wait_timeout_while(figures, PATIENCE, |figures| figures.answered < until);
        assert!(!waited.expect("nobody panics with them").1.timed_out(), "clients get no answers");
    }

    fn fresh(&self, number: usize) {
        while !self.is_over() {
            match Client::try_connect(&self.address) {
                Ok(mut client) => _ = self.exchange(&mut client, number),
                Err(error) => self.lose(format!("the proxy refuses: {error}")),
            }
        }
    }

    fn kept(&self, number: usize, thought: Duration) {
        while !self.is_over() {
            let mut client = Client::connect(&self.address);
            while self.exchange(&mut client, number) && !self.is_over() {
                client.is_quiet(thought);
            }
        }
    }

    /// One request and its answer; whether the connection can be used again.
    fn exchange(&self, client: &mut Client, number: usize) -> bool {
        let query = format!("q{}", self.count(|figures| &mut figures.sent));
        let (request, expected) = match number % 2 {
            0 => (format!("GET /?{query} HTTP/1.1\r\nHost: a\r\n\r\n"), query.repeat(1000)),
            _ => (format!("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: {}\r\n\r\n{query}", query.len()), query),
        };
        let sent = client.try_send(&request);
        match client.try_answer() {
            Ok(Answer { status: 200, body, fields, .. }) if body == expected.as_bytes() => {
                self.count(|figures| &mut figures.answered);
                !fields.iter().any(|(name, value)| name.eq_ignore_ascii_case("connection") && value == "close")
            }
            other => {
                let got = other.map(|answer| (answer.status, answer.body.len()));
                self.lose(format!("{:?} got {got:?}, sent {sent:?}", &request[..20]));
                false
            }
        }
    }

    fn count(&self, of: impl FnOnce(&mut Figures) -> &mut u64) -> u64 {
        let mut figures = self.figures();
        let count = of(&mut figures);
        *count += 1;
        let count = *count;
        self.changed.notify_all();
        count
    }

    fn lose(&self, what: String) {
        self.figures().lost.push(what);
    }
}

fn reload(site: &Site, load: &Load) {
    for _ in 0..3 {
        load.goes_on(200);
        site.signal(SIGHUP);
        site.log("generation serving");
        site.drained(2);
    }
    load.goes_on(200);
}

#[test]
fn a_reload_behind_nginx_is_not_noticed() {
    for (kind, rig) in [("TCP", rig()), ("a Unix socket", at_unix(rig()))] {
        let site = rig.start();
        let Some(proxy) = Proxy::nginx(&[site.address()], &[]) else { return };
        Load::during(&format!("reloads behind nginx, {kind}"), &proxy, |load| reload(&site, load));
    }
}

#[test]
fn a_reload_behind_haproxy_is_not_noticed() {
    for (kind, rig) in [("TCP", rig()), ("a Unix socket", at_unix(rig()))] {
        let site = rig.start();
        let Some(proxy) = Proxy::haproxy(&[site.address()], &[]) else { return };
        Load::during(&format!("reloads behind HAProxy, {kind}"), &proxy, |load| reload(&site, load));
    }
}

#[test]
fn a_reload_with_proxy_headers_is_not_noticed() {
    let site = rig().flag("--proxy-protocol").start();
    let header = [("default-server check", "default-server check send-proxy-v2")];
    let Some(proxy) = Proxy::haproxy(&[site.address()], &header) else { return };
    Load::during("reloads behind HAProxy, PROXY v2", &proxy, |load| reload(&site, load));
}

/// Stops one site after the other and starts it again, once the one before serves clients.
fn restart(sites: &mut [Site], load: &Load) {
    for site in sites {
        load.goes_on(200);
        site.stop();
        load.goes_on(200);
        *site = rig().bind(site.address().trim_start_matches("http://")).start();
        site.output("/?q");
    }
    load.goes_on(200);
}

#[test]
fn one_of_two_may_stop_behind_nginx() {
    let mut sites = [rig().start(), rig().start()];
    let Some(proxy) = Proxy::nginx(&[sites[0].address(), sites[1].address()], &[]) else { return };
    Load::during("stops of one of two behind nginx", &proxy, |load| restart(&mut sites, load));
}

#[test]
fn one_of_two_may_stop_behind_haproxy() {
    let mut sites = [rig().start(), rig().start()];
    let Some(proxy) = Proxy::haproxy(&[sites[0].address(), sites[1].address()], &[]) else { return };
    Load::during("stops of one of two behind HAProxy", &proxy, |load| restart(&mut sites, load));
}

/// Sends 50 MB and gets them back; in the middle of it the site is reloaded.
fn upload(site: &Site, proxy: &Proxy, chunked: bool) {
    let block = |number: u64| number.to_ne_bytes().repeat(1 << 17);
    let (framing, size) = match chunked {
        true => ("Transfer-Encoding: chunked".to_owned(), "100000\r\n"),
        false => (format!("Content-Length: {}", 50 << 20), ""),
    };
    let mut client = Client::connect(proxy.address());
    client.send(format!("POST / HTTP/1.1\r\nHost: a\r\n{framing}\r\n\r\n"));
    for number in 0..50 {
        if number == 25 {
            assert_eq!(site.control(&["reload"]).code, 0);
        }
        client.send(size).send(block(number)).send(if chunked { "\r\n" } else { "" });
    }
    let answer = client.send(if chunked { "0\r\n\r\n" } else { "" }).answer();
    assert_eq!((answer.status, answer.body.len()), (200, 50 << 20));
    let whole = answer.body.chunks(1 << 20).enumerate().all(|(number, got)| got == block(number as u64));
    assert!(whole, "what came back is not what was sent");
}

#[test]
fn large_uploads_are_whole_behind_nginx() {
    for rig in [rig(), at_unix(rig())] {
        let site = rig.start();
        for buffering in ["proxy_request_buffering on;", "proxy_request_buffering off;"] {
            let change = format!("proxy_http_version 1.1; {buffering}");
            let Some(proxy) = Proxy::nginx(&[site.address()], &[("proxy_http_version 1.1;", &change)]) else { return };
            [false, true].into_iter().for_each(|chunked| upload(&site, &proxy, chunked));
        }
    }
}

#[test]
fn large_uploads_are_whole_behind_haproxy() {
    for rig in [rig(), at_unix(rig())] {
        let site = rig.start();
        let Some(proxy) = Proxy::haproxy(&[site.address()], &[]) else { return };
        [false, true].into_iter().for_each(|chunked| upload(&site, &proxy, chunked));
    }
}
