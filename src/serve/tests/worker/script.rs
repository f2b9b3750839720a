//! The application of these tests: it does what a path says, and waits at gates that a test opens.

use std::{
    collections::HashMap,
    io::Read,
    sync::{Condvar, Mutex},
    thread::{self, ThreadId},
    time::{Duration, Instant},
};

use ostler_http::ResponseHead;
use ostler_serve::{Application, Body, Request, Response};

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
