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
use ostler_tests::{Client, Pair, Rig, Site, TLS12, TLS13, TlsClient};

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

fn site(options: &[(&str, &str)]) -> Site {
    let rig = Rig::with_source(SOURCE).workers(2).bind("https://127.0.0.1:0");
    Pair::of(&["site.test"]).write(rig.folder(), "site");
    let rig = rig.option("--certfile", "site.pem").option("--keyfile", "site.key");
    options.iter().fold(rig, |rig, (name, value)| rig.option(name, value)).start()
}

/// Keeps its connections at work while something happens.
fn under_load(site: &Site, events: impl FnOnce()) {
    let (over, asked, lost) = (AtomicBool::new(false), AtomicU64::new(0), Mutex::new(Vec::new()));
    thread::scope(|scope| {
        for number in 0..CLIENTS {
            let (over, asked, lost) = (&over, &asked, &lost);
            scope.spawn(move || {
                let version = if number % 2 == 0 { &TLS13 } else { &TLS12 };
                let mut client = TlsClient::speaking(&[version]).connect(site.address(), "site.test");
                for turn in 0.. {
                    if over.load(SeqCst) {
                        break;
                    }
                    if let Err(why) = exchange(&mut client, number, turn) {
                        lost.lock().unwrap().push(format!("{:?}, request {turn}: {why}", version.version));
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
fn exchange(client: &mut Client, number: usize, turn: usize) -> Result<(), String> {
    // The even ones speak TLS 1.3.
    if number.is_multiple_of(2) && turn % 10 == 3 {
        client.change_keys();
    }
    let query = format!("{number}.{turn} ");
    let (sent, expected) = match turn % 3 {
        0 => (query.repeat(turn % 7 * 3000 + 1).into_bytes(), None),
        _ => (Vec::new(), Some(query.trim_end().repeat(5000))),
    };
    let method = if expected.is_none() { "POST" } else { "GET" };
    let (target, length) = (query.trim_end(), sent.len());
    let head = format!("{method} /?{target} HTTP/1.1\r\nHost: site.test\r\nContent-Length: {length}\r\n\r\n");
    client.try_send([head.as_bytes(), &sent].concat()).map_err(|error| error.to_string())?;
    let answer = client.try_answer()?;
    let right = answer.status == 200 && answer.body == expected.map_or(sent, String::into_bytes);
    if right { Ok(()) } else { Err(format!("status {} and {} other bytes", answer.status, answer.body.len())) }
}

#[test]
fn fifty_reloads_lose_no_connection_within_tls() {
    let site = site(&[]);
    under_load(&site, || {
        for _ in 0..50 {
            let reloaded = site.control(&["reload"]);
            assert_eq!(reloaded.code, 0, "{reloaded:?}");
        }
    });
}

#[test]
fn upgrades_recycled_workers_and_other_numbers_of_workers_lose_none_either() {
    let site = site(&[("--max-requests", "100"), ("--threads", "2")]);
    under_load(&site, || {
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
