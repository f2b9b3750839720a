//! Workers in this process, each on a thread of its own, around an application that a test steers.

use std::{
    collections::HashMap,
    io::{Read, Write},
    net::{SocketAddr, TcpListener, TcpStream},
    os::fd::{AsRawFd, OwnedFd},
    sync::{Arc, Condvar, Mutex},
    thread::{self, JoinHandle, ThreadId},
    time::{Duration, Instant},
};

use ostler_http::ResponseHead;
use ostler_serve::{Application, Body, LoopEnd, Request, Response, Setup};
use ostler_wire::{
    Boot, Channel, FromWorker, Listener, Peers, Preload, ToWorker, Trust, WorkerSettings, scoreboard::Scoreboard,
};

/// Only a failing test waits this long.
pub const PATIENCE: Duration = Duration::from_secs(20);
const BRIEF: Duration = Duration::from_micros(100);

/// Answers by path: `/hello` at once; `/brief` after a tenth of a millisecond; `/gate/NAME` when the test opens that gate;
/// `/early/NAME` completely, before its call waits for the gate; `/size/N` with N bytes; `/stream/N` with N blocks; `/echo` with the
/// body; `/where` with the place of the body (memory or file), `/where/NAME` the same when the test opens that gate; `/part` with the
/// reason why reading the body ended; `/panic` not at all.
#[derive(Default)]
pub struct Script {
    gates: Mutex<HashMap<String, Gate>>,
    changed: Condvar,
    pub threads: Mutex<Vec<ThreadId>>,
    /// While it is held, no call begins.
    pub lock: Mutex<()>,
}

#[derive(Default)]
struct Gate {
    waiting: usize,
    open: bool,
}

impl Script {
    /// Waits until that many calls wait for a gate.
    pub fn arrived(&self, gate: &str, calls: usize) {
        let gates = self.gates.lock().unwrap();
        let few = |gates: &mut HashMap<String, Gate>| gates.get(gate).is_none_or(|gate| gate.waiting < calls);
        let (_gates, late) = self.changed.wait_timeout_while(gates, PATIENCE, few).unwrap();
        assert!(!late.timed_out(), "no {calls} calls came to gate {gate}");
    }

    pub fn open(&self, gate: &str) {
        self.gates.lock().unwrap().entry(gate.into()).or_default().open = true;
        self.changed.notify_all();
    }

    fn pass(&self, gate: &str) {
        let mut gates = self.gates.lock().unwrap();
        gates.entry(gate.into()).or_default().waiting += 1;
        self.changed.notify_all();
        let closed = |gates: &mut HashMap<String, Gate>| !gates[gate].open;
        let (mut gates, late) = self.changed.wait_timeout_while(gates, PATIENCE, closed).unwrap();
        assert!(!late.timed_out(), "gate {gate} stayed closed");
        gates.get_mut(gate).unwrap().waiting -= 1;
    }
}

impl Application for Script {
    type Caller = ResponseHead;

    fn caller(&self, _thread: u16) -> ResponseHead {
        ResponseHead::default()
    }

    fn call(&self, head: &mut ResponseHead, request: &mut Request<'_>, response: &mut Response<'_>) {
        self.threads.lock().unwrap().push(thread::current().id());
        let path = String::from_utf8_lossy(request.head.path.of(request.bytes)).into_owned();
        head.begin(b"200 OK").unwrap();
        head.field(b"Content-Type", b"text/plain").unwrap();
        let (_, rest) = path.split_once('/').unwrap();
        let (name, argument) = rest.split_once('/').unwrap_or((rest, ""));
        match name {
            "hello" => response.whole(head, b"hello", &mut |wait| wait()).unwrap(),
            "gate" => {
                self.pass(argument);
                response.whole(head, argument.as_bytes(), &mut |wait| wait()).unwrap();
            }
            "brief" => {
                let start = Instant::now();
                while start.elapsed() < BRIEF {
                    std::hint::spin_loop();
                }
                response.whole(head, b"brief", &mut |wait| wait()).unwrap();
            }
            "early" => {
                head.field(b"Content-Length", b"5").unwrap();
                response.begin(head, b"early", &mut |wait| wait()).unwrap();
                self.pass(argument);
                response.end(head).unwrap();
            }
            "kept" => {
                let body = vec![b'x'; argument.parse().unwrap()];
                let keep = &mut || Some(Box::new(body.clone()) as ostler_serve::Kept);
                response.whole_or_kept(head, &body, keep, &mut |wait| wait()).unwrap()
            }
            "size" => response.whole(head, &vec![b'x'; argument.parse().unwrap()], &mut |wait| wait()).unwrap(),
            "stream" => {
                let blocks: usize = argument.parse().unwrap();
                let block = vec![b'y'; 10_000];
                let mut going = response.begin(head, &block, &mut |wait| wait());
                for _ in 1..blocks {
                    going = going.and_then(|()| response.block(&block, &mut |wait| wait()));
                }
                if going.is_ok() {
                    response.end(head).unwrap();
                }
            }
            "echo" => {
                let mut bytes = Vec::new();
                match std::mem::take(&mut request.body) {
                    Body::Empty => {}
                    Body::Memory(body) => bytes.extend_from_slice(&body),
                    Body::File(mut file, _) => drop(file.read_to_end(&mut bytes).unwrap()),
                    Body::Live(mut body) => drop(body.read_to_end(&mut bytes).unwrap()),
                }
                response.whole(head, &bytes, &mut |wait| wait()).unwrap();
            }
            "where" => {
                let body = std::mem::take(&mut request.body);
                if !argument.is_empty() {
                    self.pass(argument);
                }
                let place: &[u8] = if matches!(body, Body::File(..)) { b"file" } else { b"memory" };
                drop(body);
                response.whole(head, place, &mut |wait| wait()).unwrap();
            }
            "part" => {
                let Body::Live(mut body) = std::mem::take(&mut request.body) else { panic!("it is not live") };
                let fault = body.read_to_end(&mut Vec::new()).unwrap_err().to_string();
                response.whole(head, fault.as_bytes(), &mut |wait| wait()).unwrap();
            }
            "panic" => panic!("as scripted"),
            _ => {
                head.begin(b"404 Not Found").unwrap();
                response.whole(head, b"", &mut |wait| wait()).unwrap();
            }
        }
    }

    fn stacks(&self) -> String {
        "the stacks".into()
    }

    fn abandon(&self, code: i32) -> ! {
        eprintln!("abandoned with {code}");
        std::process::abort()
    }

    fn prepare(&self, _head: &mut ResponseHead) {
        drop(self.lock.lock().unwrap());
    }

    fn is_prepared(&self, _head: &ResponseHead) -> bool {
        false
    }

    fn release(&self, _head: &mut ResponseHead) {}
}

/// No peer is trusted.
fn nobody() -> Trust {
    Trust {
        forwarded_allow: Peers::default(),
        forwarded_fields: vec![],
        proxy_allow: Peers::default(),
        ..Trust::default()
    }
}

/// What a test may set.
pub fn settings() -> WorkerSettings {
    let minute = Duration::from_secs(60);
    WorkerSettings {
        timeout: Duration::ZERO,
        keep_alive: minute,
        header_timeout: minute,
        body_timeout: minute,
        write_timeout: minute,
        min_rate: 0,
        connections: 1000,
        graceful_timeout: minute,
        body_memory: 256 * 1024,
        spool_limit: 0,
        access_log_format: "%(r)s %(s)s".parse().unwrap(),
        ..WorkerSettings::default()
    }
}

/// Some workers of one generation, behind one listener.
pub struct Site {
    pub script: Arc<Script>,
    pub board: Arc<Scoreboard>,
    pub address: SocketAddr,
    workers: Vec<(Channel, Option<JoinHandle<LoopEnd>>)>,
    listener: TcpListener,
    settings: WorkerSettings,
    exchange: (OwnedFd, OwnedFd),
    access_log: std::fs::File,
}

impl Site {
    pub fn start(workers: usize, settings: WorkerSettings) -> Site {
        let (give, take) = Channel::pair().unwrap();
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let mut site = Site {
            script: Arc::default(),
            board: Arc::new(Scoreboard::new(8, settings.threads).unwrap()),
            address: listener.local_addr().unwrap(),
            workers: Vec::new(),
            listener,
            settings,
            exchange: (give.into(), take.into()),
            access_log: nix::sys::memfd::memfd_create("access log", nix::sys::memfd::MFdFlags::empty()).unwrap().into(),
        };
        for _ in 0..workers {
            site.add_worker();
        }
        site
    }

    /// Starts one more; returns its slot when it is ready.
    pub fn add_worker(&mut self) -> usize {
        let slot = self.workers.len();
        let (ours, theirs) = Channel::pair().unwrap();
        let (terminated, _writer) = nix::unistd::pipe().unwrap();
        let setup = Setup {
            boot: self.boot(),
            slot: slot as u16,
            channel: theirs,
            listeners: vec![self.listener.try_clone().unwrap().into()],
            exchange_give: self.exchange.0.try_clone().unwrap(),
            exchange_take: self.exchange.1.try_clone().unwrap(),
            // Never readable: the writing end would have to close for that, and it lives as long as the process.
            terminated: {
                std::mem::forget(_writer);
                terminated
            },
            access_log: Some(self.access_log.try_clone().unwrap().into()),
            scoreboard: self.board.clone(),
            log: slog::Logger::root(slog::Discard, slog::o!()),
        };
        let script = self.script.clone();
        let thread = thread::spawn(move || ostler_serve::run(setup, &*script).unwrap());
        assert!(matches!(ours.receive::<FromWorker>().unwrap().unwrap().0, FromWorker::Ready));
        ours.send(&ToWorker::Serve, &[]).unwrap();
        self.workers.push((ours, Some(thread)));
        slot
    }

    fn boot(&self) -> Boot {
        let name = format!("http://{}", self.address);
        Boot {
            application: "script".into(),
            preload: Preload::Off,
            slots: self.board.slots(),
            listeners: vec![Listener {
                trust: nobody(),
                ..Listener::http(name, "127.0.0.1", Some(self.address.port()))
            }],
            worker: self.settings.clone(),
            ..Boot::default()
        }
    }

    pub fn client(&self) -> Client {
        let stream = TcpStream::connect(self.address).unwrap();
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        Client(stream)
    }

    pub fn tell(&self, worker: usize, message: ToWorker) {
        self.workers[worker].0.send(&message, &[]).unwrap();
    }

    /// The worker's next message, other than [`FromWorker::AtWork`].
    pub fn hear(&self, worker: usize) -> FromWorker {
        loop {
            match self.workers[worker].0.receive().unwrap().expect("the worker lives").0 {
                FromWorker::AtWork => {}
                message => return message,
            }
        }
    }

    pub fn drain(&self, worker: usize, hand_over: bool) {
        self.tell(worker, ToWorker::Drain { within: PATIENCE, hand_over, delay: Duration::ZERO, closes: vec![] });
    }

    /// Waits until a worker has done what it was told before.
    pub fn settled(&self, worker: usize) {
        self.tell(worker, ToWorker::Stacks);
        while !matches!(self.hear(worker), FromWorker::Stacks(_)) {}
    }

    /// The access log so far, of a worker that has nothing to do.
    pub fn logged(&self) -> Vec<String> {
        // A worker writes its lines before it waits; the second answer shows that it has waited.
        self.settled(0);
        self.settled(0);
        let mut text = String::new();
        let mut file = std::fs::File::open(format!("/proc/self/fd/{}", self.access_log.as_raw_fd())).unwrap();
        file.read_to_string(&mut text).unwrap();
        text.lines().map(str::to_owned).collect()
    }

    /// Waits for a worker's end.
    pub fn ended(&mut self, worker: usize) -> LoopEnd {
        self.workers[worker].1.take().unwrap().join().unwrap()
    }
}

impl Drop for Site {
    fn drop(&mut self) {
        for (channel, thread) in &mut self.workers {
            let drain = ToWorker::Drain { within: PATIENCE, hand_over: false, delay: Duration::ZERO, closes: vec![] };
            let _ = channel.send(&drain, &[]);
            if let (Some(thread), false) = (thread.take(), thread::panicking()) {
                thread.join().unwrap();
            }
        }
    }
}

/// A client that sends exactly the bytes that it is given.
pub struct Client(pub TcpStream);

impl Client {
    pub fn send(&mut self, bytes: impl AsRef<[u8]>) -> &mut Self {
        self.0.write_all(bytes.as_ref()).unwrap();
        self
    }

    pub fn get(&mut self, path: &str) -> &mut Self {
        self.send(format!("GET {path} HTTP/1.1\r\nHost: test\r\n\r\n"))
    }

    fn until(&mut self, end: &[u8]) -> String {
        let mut text = Vec::new();
        while !text.ends_with(end) {
            let mut byte = [0];
            assert_eq!(self.0.read(&mut byte).unwrap(), 1, "closed after {:?}", String::from_utf8_lossy(&text));
            text.push(byte[0]);
        }
        String::from_utf8(text).unwrap()
    }

    /// The body of one chunked response.
    pub fn chunked(&mut self) -> Vec<u8> {
        self.until(b"\r\n\r\n");
        let mut body = Vec::new();
        loop {
            let size = usize::from_str_radix(self.until(b"\r\n").trim_end(), 16).unwrap();
            let mut chunk = vec![0; size + 2];
            self.0.read_exact(&mut chunk).unwrap();
            body.extend_from_slice(&chunk[..size]);
            if size == 0 {
                return body;
            }
        }
    }

    /// One response with a Content-Length: status and body.
    pub fn answer(&mut self) -> (u16, Vec<u8>) {
        let head = self.until(b"\r\n\r\n");
        let length =
            head.lines().find_map(|line| line.strip_prefix("Content-Length: ")).map_or(0, |n| n.parse().unwrap());
        let mut body = vec![0; length];
        self.0.read_exact(&mut body).unwrap();
        (head[9..12].parse().unwrap(), body)
    }

    pub fn asks(&mut self, path: &str) -> (u16, Vec<u8>) {
        self.get(path).answer()
    }

    /// Everything up to the connection's end.
    pub fn rest(&mut self) -> Vec<u8> {
        let mut bytes = Vec::new();
        self.0.read_to_end(&mut bytes).unwrap();
        bytes
    }

    pub fn closed(&mut self) -> bool {
        matches!(self.0.read(&mut [0]), Ok(0))
    }
}
