//! All workers share the listeners and the exchange, so an application can break them for every worker. Then the master makes new ones.

use std::{
    thread,
    time::{Duration, Instant},
};

use ostler_tests::{Client, PATIENCE, Rig, Site};
use serde_json::Value;

/// Does what the path says to every socket that the worker was given.
const VANDAL: &str = r#"
import ctypes, fcntl, json, os, socket, struct, subprocess

def given():
    for name in os.listdir("/proc/self/fd"):
        try:
            if not os.readlink(f"/proc/self/fd/{name}").startswith("socket:"):
                continue
            one = socket.socket(fileno=os.dup(int(name)))
        except OSError:
            continue
        if one.getsockopt(socket.SOL_SOCKET, socket.SO_ACCEPTCONN) or one.type == socket.SOCK_SEQPACKET:
            yield int(name), one

def listening():
    return [(fd, one) for fd, one in given() if one.getsockopt(socket.SOL_SOCKET, socket.SO_ACCEPTCONN)]

def block(fd, one):
    fcntl.fcntl(fd, fcntl.F_SETFL, fcntl.fcntl(fd, fcntl.F_GETFL) & ~os.O_NONBLOCK)

def shut(fd, one):
    one.shutdown(socket.SHUT_RDWR)

def divert(fd, one):
    if one.family == socket.AF_INET:
        one.shutdown(socket.SHUT_RDWR)
        one.listen(5)

def filter(fd, one):
    program = ctypes.create_string_buffer(struct.pack("HBBI", 6, 0, 0, 0))
    one.setsockopt(socket.SOL_SOCKET, 26, struct.pack("HL", 1, ctypes.addressof(program)))

def spoil(fd, one):
    one.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 30))
    if one.family == socket.AF_INET:
        one.listen(1)

def attack(how):
    # Listeners first: a worker whose own channel is broken lets go of them.
    for fd, one in listening() + [(fd, one) for fd, one in given() if one.type == socket.SOCK_SEQPACKET]:
        try:
            how(fd, one)
            yield f"{how.__name__} {fd}"
        except OSError as error:
            yield type(error).__name__

def application(environ, start_response):
    start_response("200 OK", [("Content-Type", "application/json")])
    path = environ["PATH_INFO"][1:]
    if path == "keep":
        subprocess.Popen(["sleep", "1000"], pass_fds=[fd for fd, one in listening()])
    if path == "options":
        lingers = [struct.unpack("ii", one.getsockopt(socket.SOL_SOCKET, socket.SO_LINGER, 8)) for fd, one in listening()]
        return [json.dumps(lingers).encode()]
    return [json.dumps(list(attack(globals()[path])) if path in ("block", "shut", "divert", "filter", "spoil") else [path]).encode()]
"#;

fn site(workers: u16) -> Site {
    let rig = Rig::with_source(VANDAL).workers(workers);
    let path = format!("unix:{}", rig.folder().join("site.sock").display());
    rig.bind("127.0.0.1:0").bind(&path).start()
}

fn serves(site: &Site) {
    for address in site.addresses() {
        for _ in 0..20 {
            assert_eq!(Client::connect(address).get("/served").text(), "[\"served\"]", "{address}");
        }
    }
}

#[test]
fn nobody_waits_because_a_flag_was_cleared() {
    for workers in [1, 2] {
        let site = site(workers);
        assert!(site.get("/block").text().matches("block ").count() >= 4);
        serves(&site);
        assert_eq!(site.control(&["reload"]).code, 0);
        site.drained(workers.into());
        serves(&site);
    }
}

#[test]
fn a_socket_that_was_shut_down_is_made_anew() {
    let site = site(2);
    let mut kept = site.connect();
    assert_eq!(kept.get("/served").status, 200);
    site.connect().ask("/shut");
    (0..3).for_each(|_| drop(site.log("made anew")));
    assert_eq!((site.logged("listener made anew"), site.logged("exchange made anew")), (2, 1));
    serves(&site);
    let status = site.control(&["status"]);
    assert_eq!(status.code, 0, "{}", status.error);
    assert_eq!(site.control(&["reload"]).code, 0);
    serves(&site);
}

#[test]
fn a_new_exchange_moves_connections() {
    let site = site(1);
    site.connect().ask("/shut");
    (0..3).for_each(|_| drop(site.log("made anew")));
    // The worker that did it has shut down its own channel, too, and is replaced.
    site.log("worker ready");
    let mut kept = site.connect();
    assert_eq!(kept.get("/served").status, 200);
    assert_eq!(site.control(&["reload"]).code, 0);
    site.log("worker drained");
    assert_eq!(kept.get("/served").status, 200);
}

#[test]
fn a_listener_that_was_taken_elsewhere_is_made_anew() {
    let site = site(1);
    site.connect().ask("/divert");
    let mended = site.log("listener made anew");
    assert_eq!(mended.key("address"), Some(site.address()));
    serves(&site);
}

#[test]
fn an_abstract_socket_is_bound_anew_when_every_process_has_closed_it() {
    let rig = Rig::with_source(VANDAL).workers(2);
    let name = format!("unix:@ostler-tests{}", rig.folder().path().display());
    let site = rig.bind("127.0.0.1:0").bind(&name).start();
    site.connect().ask("/shut");
    loop {
        if site.log("listener made anew").text().contains("@ostler-tests") {
            break;
        }
    }
    serves(&site);
}

#[test]
fn no_filter_can_be_attached_to_a_shared_socket() {
    let site = site(1);
    let outcome: Vec<String> = serde_json::from_str(site.get("/filter").text()).expect("JSON");
    // Two listeners and the two ends of the exchange. The worker's own channel does not count.
    assert!(outcome.iter().filter(|outcome| *outcome == "PermissionError").count() >= 4, "{outcome:?}");
    serves(&site);
}

#[test]
fn socket_options_that_an_application_sets_are_taken_back() {
    let site = site(1);
    assert!(site.get("/spoil").text().contains("spoil "));
    let deadline = Instant::now() + PATIENCE;
    let room = || {
        let status: Value = serde_json::from_str(&site.control(&["status", "--json"]).output).expect("JSON");
        status["queues"][0]["room"].as_u64().expect("the kernel tells")
    };
    while site.get("/options").text().contains("[1, 30]") || room() == 1 {
        assert!(Instant::now() < deadline, "it stays");
        thread::sleep(Duration::from_millis(50));
    }
}

#[test]
fn nobody_keeps_the_address_after_the_stop() {
    let mut site = site(1);
    site.get("/keep");
    site.stop();
    let log = site.whole_log();
    assert!(log.contains("process ended that held a listener") && log.contains("command=sleep"), "{log}");
    Client::try_connect(site.address()).err().expect("nobody listens there any more");
}
