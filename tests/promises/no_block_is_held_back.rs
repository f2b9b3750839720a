//! No block of a response waits for the application to make the next one (PEP 3333, "Handling Buffering and Streaming"). Blocks that come
//! quickly are joined, but none waits for longer than a tick of the stand-by.

use std::{fs::File, io::Write, process::Command};

use ostler_tests::{Client, Rig, Site};

/// Each round yields a few blocks in a row and goes on only when the client has had the last of them. The end tells what the rounds took at
/// the median, in microseconds.
const SOURCE: &str = "
import os, time

FOLDER = os.path.dirname(__file__)

def app(environ, start_response):
    start_response('200 OK', [('Content-Type', 'text/event-stream')])
    query = dict(pair.split('=') for pair in environ['QUERY_STRING'].split('&'))
    return rounds(int(query['rounds']), int(query['blocks']), float(query['pause']))

def rounds(rounds, blocks, pause):
    times = []
    with open(os.path.join(FOLDER, 'had'), 'rb', buffering=0) as had:
        for number in range(rounds):
            time.sleep(pause)
            yield from (b'block %d of round %d\\n' % (block, number) for block in range(blocks))
            began = time.monotonic()
            yield b'end of round %d\\n' % number
            had.read(1)
            times.append(time.monotonic() - began)
    yield b'median %d us\\n' % (sorted(times)[rounds // 2] * 1e6)
";

fn site(threads: &str) -> Site {
    let rig = Rig::with_source(SOURCE).option("--threads", threads);
    let made = Command::new("mkfifo").arg(rig.folder().join("had")).status().expect("mkfifo runs");
    assert!(made.success());
    rig.start()
}

/// Answers each round when its last block has come. Returns the rounds' median in microseconds.
fn follow(site: &Site, client: &mut Client, rounds: usize, blocks: usize, pause: f32) -> u64 {
    client.ask(&format!("/?rounds={rounds}&blocks={blocks}&pause={pause}"));
    let mut had = File::options().write(true).open(site.folder().join("had")).expect("the application reads it");
    for round in 0..rounds {
        client.until(format!("end of round {round}\n").as_bytes());
        had.write_all(b"x").expect("the application goes on");
    }
    drop(had);
    client.until(b"median ");
    let told = client.until(b" us\n");
    client.until(b"0\r\n\r\n");
    String::from_utf8_lossy(&told).trim_end_matches(" us\n").parse().expect("a number")
}

/// A block that waits for the next one would end this in a time-out. How long it waits is a bound on a machine with nothing else to do: of
/// several attempts, one shows it.
fn blocks_do_not_wait(threads: &str) {
    let site = site(threads);
    let mut client = site.connect();
    let mut best = u64::MAX;
    for attempt in 0..10 {
        // After a while of short calls, the stand-by sleeps or ticks more slowly; within a long call it leads.
        best = best.min(follow(&site, &mut client, if attempt % 2 == 0 { 50 } else { 1 }, 3, 0.0));
        if attempt > 1 && best < 2000 {
            return;
        }
    }
    panic!("a block waits for {best} microseconds");
}

#[test]
fn blocks_that_come_quickly_are_sent_within_a_tick_when_the_application_pauses() {
    blocks_do_not_wait("1");
}

#[test]
fn they_are_where_another_thread_leads_the_loop() {
    blocks_do_not_wait("4");
}

#[test]
fn an_event_is_sent_at_once() {
    for threads in ["1", "4"] {
        let site = site(threads);
        let mut client = site.connect();
        let best = (0..5).map(|_| follow(&site, &mut client, 20, 0, 0.005)).min().expect("five");
        assert!(best < 900, "an event waits for a tick: {best} microseconds");
    }
}
