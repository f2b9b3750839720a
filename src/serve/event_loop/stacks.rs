//! Python stacks, each with the request that its thread runs.

use std::{collections::BTreeMap, fmt::Write};

use nix::sys::pthread::pthread_self;
use ostler_wire::scoreboard::{Underway, now};
use slog::warn;

use super::crew::Crew;
use crate::application::Application;

impl<A: Application> Crew<'_, A> {
    /// Logs what a Python thread is doing, with the stacks of all of them.
    pub fn explain(&self, seat: u16, what: &'static str, thread: &mut Option<(u16, &mut A::Caller)>) {
        let Some(underway) = self.shared.underway(seat) else { return };
        let age = now().saturating_sub(underway.started);
        warn!(self.shared.log, "{}", what; "request" => underway.line(), "request_id" => underway.id(), "age_ms" => age,
            "thread" => seat, "stacks" => self.stacks(thread));
    }

    /// The Python stacks of all threads, each with the request that it runs. The calling thread may have the interpreter lock, which
    /// this takes.
    pub fn stacks(&self, thread: &mut Option<(u16, &mut A::Caller)>) -> String {
        if let Some((_, caller)) = thread
            && self.application.is_prepared(caller)
        {
            self.application.release(caller);
        }
        let text = self.application.stacks();
        let idents = self.python.iter().map(|place| place.thread.get().map(|(_, _, ident)| *ident));
        let requests = idents.zip(0..).filter_map(|(ident, seat)| Some((ident?, self.shared.underway(seat)?)));
        beside_threads(&text, requests.collect(), now())
    }
}

/// What Python calls this thread (`threading.get_ident()`).
#[allow(clippy::unnecessary_cast, reason = "another C library's type is a pointer")]
pub fn ident() -> u64 {
    pthread_self() as u64
}

/// Adds the requests, by the numbers of their threads, to what CPython's fault handler has written, or somebody in its form.
fn beside_threads(stacks: &str, mut requests: BTreeMap<u64, Underway>, now: u64) -> String {
    let mut text = String::new();
    let told = |request: Underway| format!(" {}, for {} ms", request.told(), now.saturating_sub(request.started));
    for line in stacks.lines() {
        let request = thread_of(line).and_then(|ident| requests.remove(&ident)).map(told).unwrap_or_default();
        text = text + line + &request + "\n";
    }
    for (ident, request) in requests {
        // Code in C, or such that is compiled to C.
        let written = writeln!(text, "Thread {ident:#018x}:{}\n  no Python frame", told(request));
        written.expect("writing to memory does not fail");
    }
    text
}

/// The thread whose stack follows.
fn thread_of(line: &str) -> Option<u64> {
    let line = line.strip_prefix("Current thread ").or(line.strip_prefix("Thread "))?;
    let digits = line.strip_prefix("0x")?.split(' ').next()?;
    u64::from_str_radix(digits, 16).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_request_is_beside_its_thread() {
        let underway =
            |line: &str, id: Option<&str>| Underway { line: line.into(), id: id.map(Into::into), started: 1000 };
        let requests = [(0x1f, underway("GET /a", Some("4711"))), (0x2f, underway("GET /b", None))];
        let stacks =
            "Thread 0x000000000000001f [name] (most recent call first):\n  File \"a\"\nThread 0x3:\n  File \"b\"";
        let expected = "Thread 0x000000000000001f [name] (most recent call first): GET /a [4711], for 5 ms\n  File \"a\"\n\
             Thread 0x3:\n  File \"b\"\nThread 0x000000000000002f: GET /b, for 5 ms\n  no Python frame\n";
        assert_eq!(beside_threads(stacks, BTreeMap::from(requests), 1005), expected);
        assert_eq!(thread_of("Current thread 0x10 (most recent call first):"), Some(16));
        assert_eq!(thread_of("Thread zero"), None);
    }
}
