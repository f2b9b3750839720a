//! A drain moves connections many at a time, loses none, and leaves them spread over the workers.

use std::fs;

use nix::sys::signal::Signal::{SIGHUP, SIGUSR2};
use ostler_tests::{Client, Rig, Site};

use crate::pages::page;

const WORKERS: u16 = 4;
const IDLE: usize = 400;
/// The most connections in one packet.
const TOGETHER: usize = 32;

fn site() -> Site {
    Rig::with_source(&page("one")).workers(WORKERS).installed().start()
}

/// Connections that have been answered, opened one after the other.
fn idle(site: &Site) -> Vec<Client> {
    let one = |_| {
        let mut client = site.connect();
        assert_eq!(client.get("/").text(), "one");
        client
    };
    (0..IDLE).map(one).collect()
}

/// The connections of each worker that serves, from `ostler status`.
fn spread(site: &Site) -> Vec<u64> {
    let status: serde_json::Value = serde_json::from_str(&site.control(&["status", "--json"]).output).expect("JSON");
    let generations = status["generations"].as_array().expect("a list");
    let serving = generations.iter().find(|each| each["stage"] == "serving").expect("one of them serves");
    let workers = serving["workers"].as_array().expect("a list");
    workers.iter().map(|worker| worker["connections"].as_u64().expect("a number")).collect()
}

fn are_spread(site: &Site) {
    let each = spread(site);
    assert!(each.iter().sum::<u64>() >= IDLE as u64, "{each:?}");
    assert!(each.iter().all(|connections| connections * u64::from(WORKERS) <= IDLE as u64 * 2), "{each:?}");
}

/// Waits until the old workers have logged how many connections they gave, and checks the number of packets.
fn moved_in_few_packets(site: &Site) {
    let (mut connections, mut sends) = (0, 0);
    for _ in 0..WORKERS {
        let told = site.log("connections handed over");
        connections += told.number("connections") as usize;
        sends += told.number("sends") as usize;
    }
    // A worker that begins to drain later than others may have taken connections that it has to give away again.
    assert!(connections >= IDLE, "{connections} connections moved");
    // Each worker may send one packet that is not full, and may find no room once.
    assert!(sends <= connections / TOGETHER + 2 * usize::from(WORKERS), "{sends} sends for {connections} connections");
}

#[test]
fn a_reload_moves_idle_connections_in_few_packets_and_loses_none() {
    let mut site = site();
    let mut clients = idle(&site);
    are_spread(&site);
    site.folder().write("app.py", &page("two"));
    site.signal(SIGHUP);
    moved_in_few_packets(&site);
    site.drained(usize::from(WORKERS));
    for client in &mut clients {
        assert_eq!(client.get("/").text(), "two");
    }
    are_spread(&site);
    site.stop();
}

#[test]
fn an_upgrade_moves_them_as_well() {
    let mut site = site();
    let mut clients = idle(&site);
    site.folder().write("app.py", &page("two"));
    site.signal(SIGUSR2);
    moved_in_few_packets(&site);
    for client in &mut clients {
        assert_eq!(client.get("/").text(), "two");
    }
    site.stop();
}

#[test]
fn a_worker_has_places_for_descriptors_before_it_has_threads() {
    let site = site();
    let places = |pid: i32| {
        let status = fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
        let size =
            status.lines().find_map(|line| line.strip_prefix("FDSize:")).map(|size| size.trim().parse::<usize>());
        size.expect("proc(5) has it").expect("a number")
    };
    let limit = nix::sys::resource::getrlimit(nix::sys::resource::Resource::RLIMIT_NOFILE).expect("Linux has it").1;
    // One of the descendants is the template, which does not make its table large.
    let wide = site.descendants().into_iter().filter(|pid| places(*pid) as u64 >= limit.min(4096)).count();
    assert_eq!(wide, usize::from(WORKERS));
}
