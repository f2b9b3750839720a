//! Clients of a proxy, who count and check what they get.

use std::{
    sync::{
        Condvar, Mutex, MutexGuard,
        atomic::{AtomicBool, Ordering::SeqCst},
    },
    thread,
    time::Duration,
};

use ostler_tests::{Answer, Client, PATIENCE, Proxy, Rig, Site};

/// Answers GET with the query a thousand times, and POST with the body.
pub const SOURCE: &str = "
version = 1
def app(environ, start_response):
    body = environ['wsgi.input'].read() or environ['QUERY_STRING'].encode() * 1000
    start_response('200 OK', [('Content-Type', 'text/plain'), ('Content-Length', str(len(body))), ('X-Version', str(version))])
    return [body]
";

/// As many with a connection for each request, and as many with one that they keep.
const CLIENTS: usize = 8;

/// How long a client with a kept connection thinks between two requests: some within, some beyond the second for which a stopping
/// site waits for idle connections.
const THOUGHTS: [u64; 4] = [1, 20, 300, 1100];

/// A site of two workers, which tells each request on standard output.
pub fn rig() -> Rig {
    Rig::with_source(SOURCE).workers(2).option("--access-logfile", "-")
}

/// Waits until a proxy has taken a site back. The first requests may be some for which it had begun to connect before that.
pub fn serves_clients(site: &Site) {
    for _ in 0..4 * CLIENTS {
        site.output("/?q");
    }
}

/// Clients of a proxy, which count and check what they get.
pub struct Load {
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
    pub fn during(what: &str, proxy: &Proxy, events: impl FnOnce(&Load)) {
        let load = Load {
            address: proxy.address().into(),
            over: AtomicBool::new(false),
            figures: Mutex::default(),
            changed: Condvar::new(),
        };
        thread::scope(|scope| {
            for number in 0..CLIENTS {
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
    pub fn goes_on(&self, requests: u64) {
        let figures = self.figures();
        let until = figures.answered + requests;
        let waited = self.changed.wait_timeout_while(figures, PATIENCE, |figures| figures.answered < until);
        let (figures, waited) = waited.expect("nobody panics with them");
        let lost = figures.lost.last().cloned();
        drop(figures);
        assert!(!waited.timed_out(), "clients get no answers, but {lost:?}");
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
