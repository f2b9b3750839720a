//! A connection within TLS outlives the worker that has shaken hands: through reloads, upgrades, recycled workers and other numbers of
//! workers no client loses it, shakes hands again, or hears a byte that is not its own.

use std::{
    sync::{
        Mutex,
        atomic::{AtomicBool, AtomicU64, Ordering::SeqCst},
    },
    thread,
    time::Duration,
};

use nix::sys::signal::Signal::*;
use ostler_tests::{Certificate, Rig, SecureClient, Site, Version};

/// Answers with what is sent to it, and with more of its query than one record holds.
const SOURCE: &str = "
def application(environ, start_response):
    body = environ['wsgi.input'].read() or environ['QUERY_STRING'].encode() * 5000
    start_response('200 OK', [('Content-Type', 'text/plain'), ('Content-Length', str(len(body)))])
    return [body]
";

const CLIENTS: usize = 8;
/// How long a client thinks between two requests.
const THOUGHT: Duration = Duration::from_millis(10);

fn site(certificate: &Certificate, options: &[(&str, &str)]) -> Site {
    let rig = Rig::with_source(SOURCE).workers(2);
    let (chain, key) = (rig.folder().join("site.pem"), rig.folder().join("site.key"));
    let rig = rig.file("site.pem", &certificate.chain).file("site.key", &certificate.key);
    let rig = rig.option("--certfile", chain.to_str().unwrap()).option("--keyfile", key.to_str().unwrap());
    options.iter().fold(rig, |rig, (name, value)| rig.option(name, value)).start()
}

/// Keeps its connections at work while something happens.
fn under_load(site: &Site, certificate: &Certificate, events: impl FnOnce()) {
    let (over, asked, lost) = (AtomicBool::new(false), AtomicU64::new(0), Mutex::new(Vec::new()));
    thread::scope(|scope| {
        for number in 0..CLIENTS {
            let (over, asked, lost) = (&over, &asked, &lost);
            scope.spawn(move || {
                let version = if number % 2 == 0 { Version::Tls13 } else { Version::Tls12 };
                let mut client = certificate.connect(site.address(), version);
                for turn in 0.. {
                    if over.load(SeqCst) {
                        break;
                    }
                    if let Err(why) = exchange(&mut client, version, number, turn) {
                        lost.lock().unwrap().push(format!("{version:?}, request {turn}: {why}"));
                        break;
                    }
                    asked.fetch_add(1, SeqCst);
                    thread::sleep(THOUGHT);
                }
            });
        }
        let done = std::panic::catch_unwind(std::panic::AssertUnwindSafe(events));
        over.store(true, SeqCst);
        done.unwrap_or_else(|panic| std::panic::resume_unwind(panic));
    });
    assert_eq!(lost.into_inner().unwrap(), [""; 0], "of {} requests", asked.load(SeqCst));
    assert!(asked.load(SeqCst) > 100);
}

/// One request with its answer; now and then the client changes its keys before it.
fn exchange(client: &mut SecureClient, version: Version, number: usize, turn: usize) -> Result<(), String> {
    if version == Version::Tls13 && turn % 10 == 3 {
        client.change_keys();
    }
    let query = format!("{number}.{turn} ");
    let (sent, expected) = match turn % 3 {
        0 => (query.repeat(turn % 7 * 3000 + 1).into_bytes(), None),
        _ => (Vec::new(), Some(query.trim_end().repeat(5000))),
    };
    let method = if expected.is_none() { "POST" } else { "GET" };
    let answer = client.ask(method, &format!("/?{}", query.trim_end()), &sent).map_err(|error| error.to_string())?;
    let right = answer.0 == 200 && answer.1 == expected.map_or(sent, String::into_bytes);
    if right { Ok(()) } else { Err(format!("status {} and {} other bytes", answer.0, answer.1.len())) }
}

#[test]
fn fifty_reloads_lose_no_connection_within_tls() {
    let certificate = Certificate::new();
    let site = site(&certificate, &[]);
    under_load(&site, &certificate, || {
        for _ in 0..50 {
            let reloaded = site.control(&["reload"]);
            assert_eq!(reloaded.code, 0, "{reloaded:?}");
        }
    });
}

#[test]
fn upgrades_recycled_workers_and_other_numbers_of_workers_lose_none_either() {
    let certificate = Certificate::new();
    let site = site(&certificate, &[("--max-requests", "100"), ("--threads", "2")]);
    under_load(&site, &certificate, || {
        for _ in 0..3 {
            site.signal(SIGTTIN);
            site.log("worker ready");
            let upgraded = site.control(&["upgrade"]);
            assert_eq!(upgraded.code, 0, "{upgraded:?}");
            site.signal(SIGTTOU);
            site.log("worker drained");
        }
    });
}
