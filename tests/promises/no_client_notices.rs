//! Everything at once, with no tolerance: under a hundred clients the site is reloaded, broken, rolled back, upgraded, scaled
//! and loses a worker, and no client notices but those whose request was inside the worker that was killed.

use std::{
    collections::HashMap,
    fs, io,
    sync::{
        Mutex,
        atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering::SeqCst},
    },
    thread,
    time::{Duration, Instant},
};

use nix::{
    sys::signal::{Signal::*, kill},
    unistd::Pid,
};
use ostler_tests::{Answer, Client, PATIENCE, Rig, Site};

const FRESH: usize = 32;
const KEPT: usize = 64;
const THINK: Duration = Duration::from_millis(25);

/// Answers with its version, its process and the query.
const SOURCE: &str = "
import os
version = 1
def application(environ, start_response):
    environ['wsgi.input'].read()
    body = f'{version} {os.getpid()} {environ[\"QUERY_STRING\"]}'.encode()
    start_response('200 OK', [('Content-Type', 'text/plain'), ('Content-Length', str(len(body)))])
    return [body]
";

const BROKEN: [(&str, &str); 3] = [
    ("def application(:\n", "SyntaxError"),
    ("import no_such_module\n", "ModuleNotFoundError"),
    ("application = 'not callable'\n", "callable"),
];

#[test]
fn no_client_notices() {
    let mut site = Rig::with_source(SOURCE)
        .workers(2)
        .option("--threads", "2")
        .option("--access-logfile", "access.log")
        .option("--access-logformat", "%(q)s %(s)s")
        .start();
    let storm = Storm::new(site.address());
    thread::scope(|scope| {
        for _ in 0..FRESH {
            scope.spawn(|| storm.fresh_connections());
        }
        for _ in 0..KEPT {
            scope.spawn(|| storm.kept_connection());
        }
        scope.spawn(|| storm.slow_client("GET /?{} HTTP/1.1\r\nHost: slow.test\r\n\r\n"));
        scope.spawn(|| storm.slow_client("POST /?{} HTTP/1.1\r\nHost: a\r\nContent-Length: 9\r\n\r\nslow body"));
        let done = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| misfortunes(&site, &storm)));
        storm.over.store(true, SeqCst);
        if let Err(panic) = done {
            std::panic::resume_unwind(panic);
        }
        site.signal(SIGTERM);
    });
    assert_eq!(site.wait(), 0);
    storm.judge(&(site.folder().read("access.log.1") + &site.folder().read("access.log")));
}

fn misfortunes(site: &Site, storm: &Storm) {
    let mut version = 1;
    let mut reload = |storm: &Storm| {
        version += 1;
        site.folder().write("app.py", &SOURCE.replace("version = 1", &format!("version = {version}")));
        let reloaded = site.control(&["reload"]);
        assert_eq!(reloaded.code, 0, "{reloaded:?}");
        storm.expect_version(version);
    };
    let break_it = |(source, why): (&str, &str)| {
        site.folder().write("app.py", source);
        let refused = site.control(&["reload"]);
        assert_ne!(refused.code, 0, "{refused:?}");
        assert!((refused.output.clone() + &refused.error).contains(why), "{refused:?}");
    };
    reload(storm);
    break_it(BROKEN[0]);
    reload(storm);
    site.signal(SIGTTIN);
    site.log("scaled");
    break_it(BROKEN[1]);
    reload(storm);
    site.signal(SIGTTOU);
    site.log("worker drained");
    let rolled_back = site.control(&["rollback"]);
    assert_eq!(rolled_back.code, 0, "{rolled_back:?}");
    storm.expect_version(3);
    fs::rename(site.folder().join("access.log"), site.folder().join("access.log.1")).expect("the log is there");
    site.signal(SIGUSR1);
    site.folder().wait_for("access.log");
    reload(storm);
    storm.kill_a_worker(site);
    break_it(BROKEN[2]);
    reload(storm);
    site.folder().write("app.py", &SOURCE.replace("version = 1", "version = 100"));
    let upgraded = site.control(&["upgrade"]);
    assert_eq!(upgraded.code, 0, "{upgraded:?}");
    storm.expect_version(100);
    reload(storm);
    reload(storm);
}

struct Storm {
    address: String,
    over: AtomicBool,
    count: AtomicU64,
    /// How many workers were killed so far, and whether one is being killed now.
    kills: AtomicU32,
    victim: AtomicU32,
    killing: AtomicBool,
    /// The process that answered each query.
    answered: Mutex<HashMap<String, u32>>,
    complaints: Mutex<Vec<String>>,
}

/// A connection, and how many workers had been killed when it was last known to be good.
struct Connection {
    client: Client,
    kills: u32,
}

impl Storm {
    fn new(address: &str) -> Storm {
        Storm {
            address: address.into(),
            over: AtomicBool::new(false),
            count: AtomicU64::new(0),
            kills: AtomicU32::new(0),
            victim: AtomicU32::new(0),
            killing: AtomicBool::new(false),
            answered: Mutex::default(),
            complaints: Mutex::default(),
        }
    }

    fn is_over(&self) -> bool {
        self.over.load(SeqCst)
    }

    fn complain(&self, what: String) {
        self.complaints.lock().expect("nobody panics with it").push(what);
    }

    fn fresh_connections(&self) {
        while !self.is_over() {
            let Some(mut connection) = self.connect() else { return };
            self.exchange(&mut connection, Client::try_send);
        }
    }

    fn kept_connection(&self) {
        while !self.is_over() {
            let Some(mut connection) = self.connect() else { return };
            while self.exchange(&mut connection, Client::try_send) && !self.is_over() {
                if !connection.client.is_quiet(THINK) {
                    self.excuse(&connection, "an idle connection was closed".into());
                    break;
                }
            }
        }
    }

    fn slow_client(&self, request: &str) {
        while !self.is_over() {
            let Some(mut connection) = self.connect() else { return };
            let slowly = |client: &mut Client, bytes: String| {
                bytes.as_bytes().iter().try_for_each(|byte| {
                    client.is_quiet(Duration::from_millis(5));
                    client.try_send([*byte])
                })
            };
            self.request(&mut connection, request, slowly);
        }
    }

    fn connect(&self) -> Option<Connection> {
        let kills = self.kills.load(SeqCst);
        match Client::try_connect(&self.address) {
            Ok(client) => Some(Connection { client, kills }),
            Err(_) if self.is_over() => None,
            Err(error) => {
                self.complain(format!("refused: {error}"));
                None
            }
        }
    }

    fn exchange(&self, connection: &mut Connection, send: fn(&mut Client, String) -> io::Result<()>) -> bool {
        self.request(connection, "GET /?{} HTTP/1.1\r\nHost: a\r\n\r\n", send)
    }

    /// One request and its answer; whether the connection can be used again.
    fn request(
        &self,
        connection: &mut Connection,
        request: &str,
        send: impl FnOnce(&mut Client, String) -> io::Result<()>,
    ) -> bool {
        let query = format!("n{}n", self.count.fetch_add(1, SeqCst));
        let kills = self.kills.load(SeqCst);
        let sent = send(&mut connection.client, request.replace("{}", &query));
        // A refusal may be waiting although sending failed, so the answer is read in any case.
        match connection.client.try_answer() {
            Ok(answer) => {
                connection.kills = kills;
                self.note(&query, &answer);
                answer.field("connection") != Some("close")
            }
            Err(error) => {
                self.excuse(connection, format!("no answer to {query}: {error}, {sent:?}"));
                false
            }
        }
    }

    fn note(&self, query: &str, answer: &Answer) {
        let text = String::from_utf8_lossy(&answer.body).into_owned();
        let words: Vec<&str> = text.split(' ').collect();
        match (answer.status, words.as_slice()) {
            (200, [_, process, echoed]) if *echoed == query => {
                let process = process.parse().expect("a number");
                self.answered.lock().expect("nobody panics with it").insert(query.into(), process);
            }
            _ => self.complain(format!("{query} was answered with {answer:?}")),
        }
        if answer.field("connection") == Some("close") && !self.is_over() {
            self.complain(format!("{query} was told to close"));
        }
    }

    /// A connection may end where a worker was killed since it was last good, or when all is over.
    fn excuse(&self, connection: &Connection, what: String) {
        let killed = connection.kills != self.kills.load(SeqCst) || self.killing.load(SeqCst);
        if !killed && !self.is_over() {
            self.complain(what);
        }
    }

    fn kill_a_worker(&self, site: &Site) {
        let mut connection = self.connect().expect("the site accepts");
        let answer = connection.client.get("/?victim");
        let victim: u32 = answer.text().split(' ').nth(1).and_then(|pid| pid.parse().ok()).expect("a process id");
        self.victim.store(victim, SeqCst);
        self.killing.store(true, SeqCst);
        kill(Pid::from_raw(victim as i32), SIGKILL).expect("the worker lives");
        site.log("worker lost");
        self.kills.fetch_add(1, SeqCst);
        self.killing.store(false, SeqCst);
    }

    /// Waits until a new connection gets this version. Until they drain, workers of the version before accept, too.
    fn expect_version(&self, version: u32) {
        let deadline = Instant::now() + PATIENCE;
        while !Client::connect(&self.address).get("/?version").text().starts_with(&format!("{version} ")) {
            assert!(Instant::now() < deadline, "version {version} does not serve");
        }
    }

    fn judge(&self, log: &str) {
        let complaints = self.complaints.lock().expect("nobody panics with it");
        assert!(
            complaints.is_empty(),
            "{} complaints, among them {:#?}",
            complaints.len(),
            &complaints[..complaints.len().min(20)]
        );
        let answered = self.answered.lock().expect("nobody panics with it");
        assert!(answered.len() > 1000, "only {} requests were answered", answered.len());
        let mut logged: HashMap<&str, u32> = HashMap::new();
        for line in log.lines() {
            *logged.entry(line.trim_end_matches(" 200")).or_default() += 1;
        }
        let victim = self.victim.load(SeqCst);
        for (query, process) in answered.iter().filter(|(_, process)| **process != victim) {
            assert_eq!(logged.get(query.as_str()), Some(&1), "lines of {query}, which {process} answered");
        }
    }
}
