//! A client, however fast, slow or large, does not hold up the others.

use std::{
    io::Write,
    net::TcpStream,
    process::Command,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering::Relaxed},
    },
    thread::{self, JoinHandle},
};

use ostler_tests::{Client, Rig, Signal, Site};

const SOURCE: &str = "
def app(environ, start_response):
    start_response('200 OK', [('Content-Type', 'text/plain')])
    return [str(len(environ['wsgi.input'].read())).encode()]
";

/// Sends without end, and discards the answers.
fn endlessly(site: &Site, first: &str, then: Vec<u8>, over: &Arc<AtomicBool>) -> JoinHandle<()> {
    let address = site.address().trim_start_matches("http://").to_owned();
    let mut sending = TcpStream::connect(address).expect("it listens");
    let mut receiving = sending.try_clone().expect("there are descriptors");
    thread::spawn(move || drop(std::io::copy(&mut receiving, &mut std::io::sink())));
    let (first, over) = (first.to_owned(), over.clone());
    thread::spawn(move || {
        let mut going = sending.write_all(first.as_bytes());
        while !over.load(Relaxed) && going.is_ok() {
            going = sending.write_all(&then);
        }
        let _ = sending.shutdown(std::net::Shutdown::Both);
    })
}

#[test]
fn a_reload_is_heard_beside_an_upload_at_full_speed_and_a_flood_of_requests() {
    let mut site = Rig::with_source(SOURCE).start();
    let over = Arc::new(AtomicBool::new(false));
    let head = "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 4000000000\r\n\r\n";
    let upload = endlessly(&site, head, vec![b'x'; 1 << 20], &over);
    let flood = endlessly(&site, "", b"GET / HTTP/1.1\r\nHost: a\r\n\r\n".repeat(1000), &Arc::default());
    let mut kept = site.connect();
    assert_eq!(kept.get("/").text(), "0");
    site.signal(Signal::SIGHUP);
    site.log("generation serving");
    site.log("worker draining");
    assert!(!upload.is_finished() && !flood.is_finished(), "they go on all the while");
    assert_eq!(kept.get("/").text(), "0", "on the connection that it had");
    assert_eq!(site.get("/").text(), "0");
    over.store(true, Relaxed);
    site.log("worker drained");
    assert!(!flood.is_finished(), "it has moved with its connection");
    site.stop();
    assert_eq!(site.logged("worker killed"), 0);
    upload.join().expect("it ends");
    flood.join().expect("the stop has ended it");
}

fn post(client: &mut Client, length: usize, sent: usize) {
    client.send(format!("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: {length}\r\n\r\n")).send(vec![b'x'; sent]);
}

#[test]
fn what_a_worker_spools_is_bounded_and_the_log_names_the_limit() {
    let site = Rig::with_source(SOURCE).option("--body-memory", "256k").option("--spool-limit", "1m").start();
    let mut large = site.connect();
    post(&mut large, (1 << 20) + 1, 0);
    assert_eq!(large.answer().status, 413);
    let mut first = site.connect();
    post(&mut first, 1 << 20, (1 << 20) - 1);
    let mut second = site.connect();
    post(&mut second, 1 << 20, 1 << 20);
    assert_eq!(second.answer().status, 503);
    let line = site.log("no room to spool");
    assert_eq!((line.key("limit"), line.key("value")), (Some("--spool-limit"), Some("1048576")));
    assert_eq!(first.send("x").answer().text(), "1048576");
}

/// A file system of a megabyte, where this process may mount one.
struct Disk(String);

impl Disk {
    fn mount(folder: &std::path::Path) -> Option<Disk> {
        let place = folder.join("disk").display().to_string();
        std::fs::create_dir(&place).expect("a private folder is writable");
        let done = Command::new("mount").args(["-t", "tmpfs", "-o", "size=1m,mode=1777", "disk", &place]).status();
        done.is_ok_and(|status| status.success()).then_some(Disk(place))
    }
}

impl Drop for Disk {
    fn drop(&mut self) {
        let _ = Command::new("umount").args(["--lazy", &self.0]).status();
        let _ = std::fs::remove_dir(&self.0);
    }
}

#[test]
fn a_full_disk_is_named_and_no_client_is_blamed() {
    let rig = Rig::with_source(SOURCE);
    let Some(disk) = Disk::mount(rig.folder().path()) else {
        return eprintln!("NOT TESTED: only root can mount a file system that is full");
    };
    let mut site = rig.option("--spool-directory", &disk.0).start();
    let mut client = site.connect();
    post(&mut client, 2 << 20, 2 << 20);
    assert_eq!(client.answer().status, 503);
    let line = site.log("no room to spool");
    assert_eq!((line.key("directory"), line.key("value")), (Some(&*disk.0), Some("1048576")));
    assert!(line.key("reason").is_some_and(|why| why.contains("No space left")), "{line:?}");
    assert_eq!(site.get("/").text(), "0");
    site.stop();
    assert!(!site.whole_log().contains("client left"));
}

#[test]
fn more_uploads_than_descriptors_wait_for_each_other() {
    let site = Rig::with_source(SOURCE).limited("ulimit -n 128").start();
    let length = 400_000;
    let mut clients: Vec<Client> = (0..60).map(|_| site.connect()).collect();
    for client in &mut clients {
        post(client, length, length - 1);
    }
    // Some connections were not accepted, or their bodies paused. Which ones depends on their order.
    for client in &mut clients {
        client.send("x");
    }
    for client in &mut clients {
        assert_eq!(client.answer().text(), "400000");
    }
}
