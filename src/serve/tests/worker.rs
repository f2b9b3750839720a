//! A worker's promises, with an application in Rust that waits where the test wants it to. Nothing here depends on speed: tests wait
//! for events, not for the clock, and time-outs only end failing tests.

mod moves;
mod scripted;

use std::{
    collections::HashSet,
    io::Write,
    net::Shutdown,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering::Relaxed},
    },
    thread::{self, JoinHandle},
    time::Duration,
};

use ostler_serve::LoopEnd;
use ostler_wire::{FromWorker, Recycle, ToWorker, scoreboard::WorkerState};
use scripted::{Client, Site, settings};

fn hello() -> (u16, Vec<u8>) {
    (200, b"hello".to_vec())
}

#[test]
fn requests_follow_each_other_on_one_connection() {
    let site = Site::start(1, settings());
    let mut client = site.client();
    for _ in 0..3 {
        assert_eq!(client.asks("/hello"), hello());
    }
    client.get("/hello").get("/size/3").get("/hello");
    assert_eq!((client.answer(), client.answer().1, client.answer()), (hello(), b"xxx".to_vec(), hello()));
    site.settled(0);
    assert_eq!(site.board.slot(0).requests.load(Relaxed), 6);
}

#[test]
fn a_request_in_pieces_is_one_request() {
    let site = Site::start(1, settings());
    let mut client = site.client();
    client.0.set_nodelay(true).unwrap();
    for byte in b"POST /echo HTTP/1.1\r\nHost: test\r\nContent-Length: 5\r\n\r\nabcde" {
        client.send([*byte]);
    }
    assert_eq!(client.answer(), (200, b"abcde".to_vec()));
    client.send(
        "POST /echo HTTP/1.1\r\nHost: test\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n2\r\nde\r\n0\r\n\r\n",
    );
    assert_eq!(client.answer(), (200, b"abcde".to_vec()));
}

#[test]
fn a_head_longer_than_a_buffer_is_read_to_its_end() {
    let site = Site::start(1, settings());
    let mut client = site.client();
    assert_eq!(client.asks("/hello"), hello());
    let field = format!("X-Long: {}\r\n", "a".repeat(8000));
    client.send(format!("GET /hello HTTP/1.1\r\nHost: test\r\n{}\r\n", field.repeat(4)));
    assert_eq!(client.answer(), hello());
}

#[test]
fn a_large_body_arrives_whole_through_a_file() {
    let site = Site::start(1, settings());
    let mut client = site.client();
    let body: Vec<u8> = (0..1_000_000u32).map(|n| (n % 251) as u8).collect();
    client.send(format!("POST /echo HTTP/1.1\r\nHost: test\r\nContent-Length: {}\r\n\r\n", body.len()));
    client.send(&body).get("/hello");
    assert_eq!(client.answer(), (200, body));
    assert_eq!(client.answer(), hello());
}

const BODY_MEMORY: usize = 128 << 10;

/// A site whose memory for bodies is full: as many of the largest as fit are there, each in a call that waits for the gate.
fn full_of_bodies(spool_limit: u64) -> (Site, Vec<Client>) {
    let worker =
        ostler_wire::WorkerSettings { threads: 33, body_memory: BODY_MEMORY as u64, spool_limit, ..settings() };
    let site = Site::start(1, worker);
    let holders: Vec<_> =
        (0..32).map(|_| site.client()).map(|client| posts(client, "/where/gate", BODY_MEMORY)).collect();
    site.script.arrived("gate", holders.len());
    (site, holders)
}

fn posts(mut client: Client, path: &str, length: usize) -> Client {
    client.send(format!("POST {path} HTTP/1.1\r\nHost: test\r\nContent-Length: {length}\r\n\r\n"));
    client.send(vec![b'x'; length]);
    client
}

fn let_go(site: &Site, holders: Vec<Client>) {
    site.script.open("gate");
    for mut holder in holders {
        assert_eq!(place(&mut holder), "memory");
    }
}

fn place(client: &mut Client) -> String {
    String::from_utf8(client.answer().1).unwrap()
}

#[test]
fn bodies_are_in_memory_until_all_together_fill_it() {
    let (site, holders) = full_of_bodies(0);
    let at = |length| place(&mut posts(site.client(), "/where", length));
    assert_eq!(at(BODY_MEMORY), "file", "others fill it");
    assert_eq!(at(BODY_MEMORY / 2), "memory", "a small one needs no room");
    let_go(&site, holders);
    assert_eq!(at(BODY_MEMORY), "memory", "there is room again");
    assert_eq!(at(BODY_MEMORY + 1), "file", "it is too large");
}

#[test]
fn chunked_bodies_are_in_memory_until_all_together_fill_it() {
    let (site, holders) = full_of_bodies(0);
    let at = |length| {
        let mut client = site.client();
        client.send("POST /where HTTP/1.1\r\nHost: test\r\nTransfer-Encoding: chunked\r\n\r\n");
        client.send(format!("{length:x}\r\n")).send(vec![b'x'; length]).send("\r\n0\r\n\r\n");
        place(&mut client)
    };
    assert_eq!((at(BODY_MEMORY), at(BODY_MEMORY / 2)), ("file".into(), "memory".into()));
    let_go(&site, holders);
    assert_eq!((at(BODY_MEMORY), at(BODY_MEMORY + 1)), ("memory".into(), "file".into()));
}

#[test]
fn a_body_takes_memory_as_it_arrives_not_as_it_is_announced() {
    let site = Site::start(1, ostler_wire::WorkerSettings { body_memory: BODY_MEMORY as u64, ..settings() });
    let mut slow: Vec<_> = (0..100).map(|_| site.client()).collect();
    for client in &mut slow {
        client.send(format!("POST /where HTTP/1.1\r\nHost: test\r\nContent-Length: {BODY_MEMORY}\r\n\r\nx"));
    }
    site.settled(0);
    assert_eq!(place(&mut posts(site.client(), "/where", BODY_MEMORY)), "memory");
}

#[test]
fn a_body_that_fits_in_memory_may_come_again_later() {
    let (site, holders) = full_of_bodies(1000);
    assert_eq!(posts(site.client(), "/where", BODY_MEMORY).answer().0, 503, "others fill it");
    assert_eq!(posts(site.client(), "/where", BODY_MEMORY + 1).answer().0, 413, "it never fits");
    let_go(&site, holders);
    assert_eq!(place(&mut posts(site.client(), "/where", BODY_MEMORY)), "memory");
}

#[test]
fn an_unbuffered_body_is_read_by_the_application() {
    let site = Site::start(1, ostler_wire::WorkerSettings { request_buffering: false, ..settings() });
    let mut client = site.client();
    client.send("POST /echo HTTP/1.1\r\nHost: test\r\nContent-Length: 5\r\nExpect: 100-continue\r\n\r\n");
    let mut interim = [0; 25];
    std::io::Read::read_exact(&mut client.0, &mut interim).unwrap();
    assert_eq!(&interim, b"HTTP/1.1 100 Continue\r\n\r\n");
    client.send("abcde").get("/hello");
    assert_eq!((client.answer(), client.answer()), ((200, b"abcde".to_vec()), hello()));
}

#[test]
fn an_unbuffered_body_is_whole_however_it_is_cut() {
    let site = Site::start(1, ostler_wire::WorkerSettings { request_buffering: false, ..settings() });
    let body: Vec<u8> = (0..500_000_u32).map(|number| (number % 251) as u8).collect();
    for size in [1_000, 70_000, body.len()] {
        let mut client = site.client();
        client.send("POST /echo HTTP/1.1\r\nHost: test\r\nTransfer-Encoding: chunked\r\n\r\n");
        for chunk in body.chunks(size) {
            client.send(format!("{:x}\r\n", chunk.len())).send(chunk).send("\r\n");
        }
        client.send("0\r\n\r\n").get("/hello");
        assert_eq!((client.answer(), client.answer()), ((200, body.clone()), hello()), "{size}");
    }
}

#[test]
fn what_is_spooled_is_bounded() {
    let limited = ostler_wire::WorkerSettings { spool_limit: 1 << 20, body_memory: 1000, ..settings() };
    let site = Site::start(1, limited);
    let post = |length: usize| format!("POST /echo HTTP/1.1\r\nHost: test\r\nContent-Length: {length}\r\n\r\n");
    assert_eq!(site.client().send(post((1 << 20) + 1)).answer().0, 413, "it never fits");
    let mut chunked = site.client();
    chunked.send("POST /echo HTTP/1.1\r\nHost: test\r\nTransfer-Encoding: chunked\r\n\r\n200000\r\n");
    chunked.send(vec![b'x'; 2 << 20]);
    assert_eq!(chunked.answer().0, 413, "a chunked body that is too large, too");
    let mut first = site.client();
    first.send(post(1 << 20)).send(vec![b'x'; 1 << 19]);
    // The loop serves both in turns: this one was read when the other has its answer.
    let mut other = site.client();
    other.send(post(1 << 20)).send(vec![b'x'; 1 << 20]);
    assert_eq!(other.answer().0, 503, "others fill it");
    first.send(vec![b'x'; 1 << 19]);
    assert_eq!(first.answer().1.len(), 1 << 20);
    let mut again = site.client();
    again.send(post(1 << 20)).send(vec![b'x'; 1 << 20]);
    assert_eq!(again.answer().1.len(), 1 << 20, "there is room again");
}

#[test]
fn an_application_waits_while_its_client_takes_too_little() {
    let site = Site::start(1, settings());
    let mut slow = site.client();
    let long = 100 << 20;
    slow.get(&format!("/size/{long}"));
    // The call goes on, and holds the only thread. A slow client is no reason to replace the worker.
    while site.board.slot(0).state() != WorkerState::Busy {
        site.settled(0);
    }
    assert!(slow.answer().1 == vec![b'x'; long], "bytes that the kernel still sends are not overwritten");
    assert_eq!(slow.asks("/hello"), hello());
}

/// Waits until a time-out of the loop's own, which is longer than `--timeout`, has passed.
fn later(clock: &mut Client) {
    assert_eq!(clock.send("GET /").answer().0, 408);
}

#[test]
fn waiting_for_a_clients_body_does_not_count_for_the_time_out() {
    let (timeout, header_timeout) = (Duration::from_millis(700), Duration::from_secs(2));
    let site = Site::start(
        1,
        ostler_wire::WorkerSettings {
            timeout,
            header_timeout,
            slow_request: timeout / 2,
            request_buffering: false,
            ..settings()
        },
    );
    let (mut clock, mut slow) = (site.client(), site.client());
    assert_eq!(clock.asks("/hello"), hello());
    slow.send("POST /echo HTTP/1.1\r\nHost: test\r\nContent-Length: 5\r\n\r\nabc");
    later(&mut clock);
    assert_eq!(slow.send("de").answer(), (200, b"abcde".to_vec()));
    assert_eq!(slow.asks("/hello"), hello());
}

#[test]
fn waiting_for_a_client_to_take_its_answer_does_not_count_for_the_time_out() {
    let (timeout, header_timeout) = (Duration::from_secs(3), Duration::from_secs(5));
    let site = Site::start(1, ostler_wire::WorkerSettings { timeout, header_timeout, ..settings() });
    let (mut clock, mut slow) = (site.client(), site.client());
    assert_eq!(clock.asks("/hello"), hello());
    slow.get("/size/100000000");
    later(&mut clock);
    assert_eq!(slow.answer().1.len(), 100_000_000);
    assert_eq!(slow.asks("/hello"), hello());
}

#[test]
fn an_unbuffered_body_has_a_minimum_rate_too() {
    let site =
        Site::start(1, ostler_wire::WorkerSettings { request_buffering: false, min_rate: 1 << 40, ..settings() });
    let mut slow = site.client();
    slow.send("POST /part HTTP/1.1\r\nHost: test\r\nContent-Length: 5\r\n\r\nabc");
    assert_eq!(slow.answer(), (200, b"the body came more slowly than --min-rate".to_vec()));
}

#[test]
fn a_long_body_stays_where_it_is_until_the_client_has_it() {
    // There is no room in files, so the application would wait if the body were copied.
    let site = Site::start(1, ostler_wire::WorkerSettings { spool_limit: 1, ..settings() });
    let mut readers: Vec<Client> = (0..2).map(|_| site.client()).collect();
    for slow in &mut readers {
        slow.get("/kept/30000000").get("/hello");
    }
    assert_eq!(site.client().asks("/hello"), hello());
    for slow in &mut readers {
        assert!(slow.answer().1 == vec![b'x'; 30_000_000]);
        assert_eq!(slow.answer(), hello());
    }
    // The bodies have given their room back, also where the client has left.
    let mut longest = site.client();
    longest.get("/kept/70000000");
    assert_eq!(site.client().asks("/hello"), hello(), "a single body may be longer than the budget");
    assert_eq!(longest.answer().1.len(), 70_000_000);
    for _ in 0..5 {
        let mut left = site.client();
        left.get("/kept/30000000");
        drop(left);
        assert_eq!(site.client().asks("/hello"), hello());
    }
}

#[test]
fn a_slow_reader_holds_no_thread() {
    let site = Site::start(1, settings());
    let mut slow = site.client();
    slow.get("/size/20000000");
    let mut streaming = site.client();
    streaming.get("/stream/2000");
    let payload = 2000 * 10_000;
    // Neither client has read a byte. Their responses wait, and the only thread answers others.
    assert_eq!(site.client().asks("/hello"), hello());
    assert!(slow.answer().1 == vec![b'x'; 20_000_000], "bytes that the kernel still sends are not cleared");
    assert!(streaming.chunked() == vec![b'y'; payload], "nor here");
}

#[test]
fn the_loop_is_retaken_from_a_call_that_lasts() {
    let site = Site::start(1, settings());
    let mut caller = site.client();
    caller.get("/gate/a");
    site.script.arrived("a", 1);
    // Python is busy; the loop must still read, refuse, and answer the master.
    let mut faulty = site.client();
    let mut other = site.client();
    other.get("/hello");
    site.tell(0, ToWorker::Stacks);
    assert!(matches!(site.hear(0), FromWorker::Stacks(text) if text == "the stacks"));
    assert_eq!(site.board.slot(0).state(), WorkerState::Busy);
    site.script.open("a");
    assert_eq!(caller.answer(), (200, b"a".to_vec()));
    assert_eq!(other.answer(), hello());
    faulty.send("nonsense\r\n\r\n");
    assert_eq!(faulty.answer().0, 400);
    assert!(faulty.closed());
}

#[test]
fn responses_wait_for_short_calls_only() {
    let site = Site::start(1, settings());
    let mut clients: Vec<Client> = (0..7).map(|_| site.client()).collect();
    for _ in 0..10 {
        for client in &mut clients {
            assert_eq!(client.asks("/brief"), (200, b"brief".to_vec()));
        }
    }
    // Calls are short by now and more requests are ready, so responses may wait for each other.
    let paths = ["/gate/first", "/brief", "/brief", "/early/second", "/brief", "/gate/third", "/brief"];
    clients[0].get(paths[0]);
    site.script.arrived("first", 1);
    for (client, path) in clients.iter_mut().zip(paths).skip(1) {
        client.get(path);
        site.settled(0);
    }
    while site.board.slot(0).queued.load(Relaxed) < 6 {
        site.settled(0);
    }
    site.script.open("first");
    site.script.arrived("second", 1);
    let answers: Vec<_> = clients[..4].iter_mut().map(Client::answer).collect();
    let said = |text: &str| (200, text.as_bytes().to_vec());
    assert_eq!(answers, [said("first"), said("brief"), said("brief"), said("early")], "while a call lasts");
    site.script.open("second");
    site.script.arrived("third", 1);
    assert_eq!(clients[4].answer(), said("brief"), "while another lasts");
    site.script.open("third");
    assert_eq!(clients[5].answer(), said("third"));
    assert_eq!(clients[6].answer(), said("brief"));
    // The same connections still work, and no bytes are left over.
    for client in &mut clients {
        assert_eq!(client.asks("/brief"), said("brief"));
    }
}

#[test]
fn with_one_thread_all_calls_are_made_on_it() {
    let site = Site::start(1, settings());
    let mut clients: Vec<Client> = (0..3).map(|_| site.client()).collect();
    clients[0].get("/gate/a");
    site.script.arrived("a", 1);
    clients[1].get("/hello");
    clients[2].get("/hello");
    site.tell(0, ToWorker::Stacks);
    site.hear(0);
    site.script.open("a");
    for client in &mut clients {
        assert_eq!(client.answer().0, 200);
    }
    let threads: HashSet<_> = site.script.threads.lock().unwrap().iter().copied().collect();
    assert_eq!(threads.len(), 1);
}

#[test]
fn several_threads_call_at_once() {
    let site = Site::start(1, ostler_wire::WorkerSettings { threads: 3, ..settings() });
    let mut clients: Vec<Client> = (0..3).map(|_| site.client()).collect();
    for client in &mut clients {
        client.get("/gate/a");
    }
    site.script.arrived("a", 3);
    let mut fourth = site.client();
    fourth.get("/hello");
    site.script.open("a");
    for client in &mut clients {
        assert_eq!(client.answer(), (200, b"a".to_vec()));
    }
    assert_eq!(fourth.answer(), hello());
}

#[test]
fn a_request_that_would_wait_moves_to_an_idle_sibling() {
    let site = Site::start(2, settings());
    // Finds two connections of one worker: one request waits for a gate, and its worker's slot is busy.
    let mut clients: Vec<Client> = (0..8).map(|_| site.client()).collect();
    for client in &mut clients {
        assert_eq!(client.asks("/hello"), hello());
    }
    clients[0].get("/gate/a");
    site.script.arrived("a", 1);
    for client in &mut clients[1..] {
        assert_eq!(client.asks("/hello"), hello());
    }
    site.script.open("a");
    assert_eq!(clients[0].answer(), (200, b"a".to_vec()));
    for worker in 0..2 {
        site.settled(worker);
    }
    let moved: u64 = (0..2).map(|slot| site.board.slot(slot).given.load(Relaxed)).sum();
    let taken: u64 = (0..2).map(|slot| site.board.slot(slot).taken.load(Relaxed)).sum();
    assert_eq!(moved, taken);
}

#[test]
fn a_drain_moves_idle_connections_and_closes_none() {
    let mut site = Site::start(1, settings());
    let mut clients: Vec<Client> = (0..50).map(|_| site.client()).collect();
    for client in &mut clients {
        assert_eq!(client.asks("/hello"), hello());
    }
    clients[0].send("GET /hello HT");
    let mut busy = site.client();
    busy.get("/gate/a");
    site.script.arrived("a", 1);
    let next = site.add_worker();
    site.drain(0, true);
    // The one in use moves when its response is done.
    site.script.open("a");
    assert_eq!(busy.answer(), (200, b"a".to_vec()));
    assert!(matches!(site.hear(0), FromWorker::Drained));
    assert!(matches!(site.ended(0), LoopEnd::Drained { .. }));
    clients[0].send("TP/1.1\r\nHost: test\r\n\r\n");
    assert_eq!(clients[0].answer(), hello());
    for client in clients[1..].iter_mut().chain([&mut busy]) {
        assert_eq!(client.asks("/hello"), hello());
    }
    assert_eq!(site.board.slot(next as u16).taken.load(Relaxed), 51);
}

#[test]
fn a_drain_moves_more_connections_than_one_turn_does() {
    let mut site = Site::start(1, settings());
    let mut clients: Vec<Client> = (0..300).map(|_| site.client()).collect();
    for client in &mut clients {
        assert_eq!(client.asks("/hello"), hello());
    }
    site.add_worker();
    site.drain(0, true);
    assert!(matches!(site.hear(0), FromWorker::Drained));
    for client in &mut clients {
        assert_eq!(client.asks("/hello"), hello());
    }
}

/// Sends `first`, then `then` again and again, on a connection of its own, until told to stop. Discards the answers.
fn endlessly(site: &Site, first: String, then: Vec<u8>, over: Arc<AtomicBool>) -> JoinHandle<()> {
    let mut sending = site.client().0;
    let mut receiving = sending.try_clone().unwrap();
    thread::spawn(move || drop(std::io::copy(&mut receiving, &mut std::io::sink())));
    thread::spawn(move || {
        sending.write_all(first.as_bytes()).unwrap();
        while !over.load(Relaxed) {
            sending.write_all(&then).unwrap();
        }
        sending.shutdown(Shutdown::Both).unwrap();
    })
}

/// Checks that other clients, timers and the master are served beside a client that always sends more.
fn beside(first: String, then: Vec<u8>) {
    let brief = Duration::from_millis(10);
    let site = Site::start(1, ostler_wire::WorkerSettings { header_timeout: brief, ..settings() });
    let over = Arc::new(AtomicBool::new(false));
    let busy = endlessly(&site, first, then, over.clone());
    let mut client = site.client();
    for _ in 0..5 {
        assert_eq!(client.asks("/hello"), hello());
        assert_eq!(site.client().asks("/hello"), hello(), "a new connection");
        site.settled(0);
    }
    assert_eq!(site.client().send("GET /").answer().0, 408, "a time-out");
    assert!(!busy.is_finished(), "it went on all the while");
    over.store(true, Relaxed);
    busy.join().unwrap();
}

#[test]
fn a_flood_of_pipelined_requests_holds_up_nobody() {
    beside(String::new(), b"GET /hello HTTP/1.1\r\nHost: test\r\n\r\n".repeat(1000));
}

#[test]
fn an_upload_at_full_speed_holds_up_nobody() {
    let head = "POST /echo HTTP/1.1\r\nHost: test\r\nContent-Length: 1000000000000\r\n\r\n";
    beside(head.into(), vec![b'x'; 1 << 20]);
}

#[test]
fn an_upload_in_chunks_of_a_byte_holds_up_nobody() {
    let head = "POST /echo HTTP/1.1\r\nHost: test\r\nTransfer-Encoding: chunked\r\n\r\n";
    beside(head.into(), b"1\r\nx\r\n".repeat(100_000));
}

#[test]
fn a_client_that_takes_its_answer_at_full_speed_holds_up_nobody() {
    beside(String::new(), b"GET /size/2000000 HTTP/1.1\r\nHost: test\r\n\r\n".repeat(10));
}

#[test]
fn a_stop_answers_what_has_begun_and_what_is_queued() {
    let mut site = Site::start(1, settings());
    let mut idle = site.client();
    assert_eq!(idle.asks("/hello"), hello());
    let mut busy = site.client();
    busy.get("/gate/a");
    site.script.arrived("a", 1);
    // Nobody accepts while Python works: this client is in the kernel's queue.
    let mut queued = site.client();
    queued.get("/hello");
    site.drain(0, false);
    assert!(idle.closed());
    site.script.open("a");
    assert_eq!(busy.answer(), (200, b"a".to_vec()));
    assert!(busy.closed());
    assert_eq!(queued.answer(), hello());
    assert!(queued.closed());
    assert!(matches!(site.hear(0), FromWorker::Drained));
    assert!(matches!(site.ended(0), LoopEnd::Drained { .. }));
}

#[test]
fn overload_is_answered_oldest_first_and_clients_that_left_are_dropped() {
    let site = Site::start(1, ostler_wire::WorkerSettings { max_queue_time: Duration::from_millis(1), ..settings() });
    let mut clients: Vec<Client> = (0..3).map(|_| site.client()).collect();
    for client in &mut clients {
        assert_eq!(client.asks("/hello"), hello());
    }
    let mut busy = site.client();
    busy.get("/gate/a");
    site.script.arrived("a", 1);
    for (number, client) in clients.iter_mut().enumerate() {
        client.get(&format!("/hello?{number}"));
        site.settled(0);
    }
    for client in &mut clients {
        assert_eq!(client.answer().0, 503);
    }
    let shed: Vec<String> = site.logged().into_iter().filter(|line| line.ends_with("503")).collect();
    assert_eq!(shed, (0..3).map(|number| format!("GET /hello?{number} HTTP/1.1 503")).collect::<Vec<_>>());
    site.script.open("a");
    assert_eq!(busy.answer().0, 200);
    let calls = site.script.threads.lock().unwrap().len();
    assert_eq!(calls, 4);
}

#[test]
fn a_client_that_left_costs_no_call() {
    let site = Site::start(1, settings());
    let mut leaving = site.client();
    assert_eq!(leaving.asks("/hello"), hello());
    let mut busy = site.client();
    busy.get("/gate/a");
    site.script.arrived("a", 1);
    leaving.get("/hello");
    while site.board.slot(0).queued.load(Relaxed) == 0 {
        site.settled(0);
    }
    drop(leaving);
    while site.board.slot(0).connections.load(Relaxed) > 1 {
        site.settled(0);
    }
    site.script.open("a");
    assert_eq!(busy.answer().0, 200);
    assert_eq!(site.script.threads.lock().unwrap().len(), 2);
}

#[test]
fn a_full_worker_accepts_again_when_a_connection_ends() {
    let site = Site::start(1, ostler_wire::WorkerSettings { connections: 2, ..settings() });
    let mut clients: Vec<Client> = (0..3).map(|_| site.client()).collect();
    for client in &mut clients[..2] {
        client.send("GET /hello HTTP/1.1\r\n");
    }
    while site.board.slot(0).connections.load(Relaxed) < 2 {
        site.settled(0);
    }
    clients[2].get("/hello");
    site.settled(0);
    assert_eq!(site.board.slot(0).connections.load(Relaxed), 2, "a connection with a request is not closed");
    drop(clients.remove(0));
    assert_eq!(clients[1].answer(), hello());
    assert_eq!(clients[0].send("Host: test\r\n\r\n").answer(), hello());
}

#[test]
fn the_connection_that_has_idled_longest_gives_way_to_a_new_one() {
    let site = Site::start(1, ostler_wire::WorkerSettings { connections: 3, ..settings() });
    let mut clients: Vec<Client> = (0..3).map(|_| site.client()).collect();
    for client in &mut clients {
        assert_eq!(client.asks("/hello"), hello());
    }
    clients[0].send("GET /hel");
    assert_eq!(clients[1].asks("/hello"), hello());
    site.settled(0);
    let mut newcomer = site.client();
    assert_eq!(newcomer.asks("/hello"), hello());
    assert!(clients[2].closed(), "it has idled longest");
    assert_eq!(clients[0].send("lo HTTP/1.1\r\nHost: test\r\n\r\n").answer(), hello());
    for client in [&mut clients.remove(1), &mut newcomer] {
        assert_eq!(client.asks("/hello"), hello());
    }
}

#[test]
fn a_panic_is_a_500_and_a_wish_to_be_replaced() {
    let site = Site::start(1, settings());
    let mut client = site.client();
    assert_eq!(client.asks("/panic").0, 500);
    assert!(matches!(site.hear(0), FromWorker::Replace(Recycle::Panic)));
}

#[test]
fn a_worker_asks_for_its_replacement_once() {
    let site = Site::start(1, ostler_wire::WorkerSettings { max_requests: 2, ..settings() });
    let mut client = site.client();
    for _ in 0..5 {
        assert_eq!(client.asks("/hello"), hello());
    }
    assert!(matches!(site.hear(0), FromWorker::Replace(Recycle::Requests)));
    site.tell(0, ToWorker::Stacks);
    assert!(matches!(site.hear(0), FromWorker::Stacks(_)));
}

#[test]
fn a_refused_client_sees_the_answer_rather_than_a_reset() {
    let site = Site::start(1, ostler_wire::WorkerSettings { limit_request_body: 1000, ..settings() });
    let mut client = site.client();
    client.send("POST /echo HTTP/1.1\r\nHost: test\r\nContent-Length: 1000000\r\n\r\n");
    client.send(vec![0; 1_000_000]);
    assert_eq!(client.answer().0, 413);
    client.0.shutdown(std::net::Shutdown::Write).unwrap();
    assert!(client.rest().is_empty());
}

#[test]
fn a_timed_out_request_is_answered_and_its_worker_wants_to_be_replaced() {
    let site = Site::start(1, ostler_wire::WorkerSettings { timeout: Duration::from_millis(30), ..settings() });
    let mut client = site.client();
    client.get("/gate/a");
    assert_eq!(client.answer().0, 504);
    assert!(client.closed());
    assert!(matches!(site.hear(0), FromWorker::Replace(Recycle::Timeout)));
    site.script.open("a");
    assert_eq!(site.client().asks("/hello"), hello());
}

#[test]
fn calls_that_wait_begin_on_every_free_thread() {
    let site = Site::start(1, ostler_wire::WorkerSettings { threads: 8, ..settings() });
    // Must hold whether the loop expects short calls (first round) or calls that wait (later).
    for round in ["first", "second", "third"] {
        for _ in 0..20 {
            assert_eq!(site.client().asks("/hello"), hello());
        }
        let mut clients: Vec<Client> = (0..12).map(|_| site.client()).collect();
        for client in &mut clients {
            client.get(&format!("/gate/{round}"));
        }
        site.script.arrived(round, 8);
        site.script.open(round);
        for client in &mut clients {
            assert_eq!(client.answer(), (200, round.into()));
        }
    }
}

#[test]
fn a_request_whose_thread_cannot_call_is_taken_back_and_waits_with_the_others() {
    let site = Site::start(1, ostler_wire::WorkerSettings { threads: 4, ..settings() });
    let mut waiting: Vec<Client> = (0..3).map(|_| site.client()).collect();
    for client in &mut waiting {
        assert_eq!(client.asks("/hello"), hello());
    }
    let lock = site.script.lock.lock().unwrap();
    for client in &mut waiting {
        client.get("/hello");
    }
    while site.board.slot(0).queued.load(Relaxed) < 3 {
        std::thread::yield_now();
    }
    assert_eq!(site.board.slot(0).state(), WorkerState::Busy);
    drop(lock);
    for client in &mut waiting {
        assert_eq!(client.answer(), hello());
    }
}
