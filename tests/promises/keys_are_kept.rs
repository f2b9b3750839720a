//! No process that runs Python has the private key, nor has the master: one that can do nothing else signs for the workers.

use std::{
    fs::{self, File},
    os::unix::fs::FileExt,
    thread,
};

use nix::{
    sys::signal::{
        Signal::{SIGKILL, SIGSTOP},
        kill,
    },
    unistd::{Pid, geteuid},
};
use ostler_tests::{Client, Pair, Rig, Site, TlsClient};

use crate::pages::page;

/// A site with a certificate, and its key.
fn site(rig: Rig) -> (Site, Pair) {
    let certificate = Pair::of(&["ostler.test"]);
    certificate.write(rig.folder(), "site");
    let site = rig.option("--certfile", "site.pem").option("--keyfile", "site.key").bind("https://127.0.0.1:0").start();
    (site, certificate)
}

#[test]
fn nobody_else_has_the_key() {
    let (site, certificate) = site(Rig::with_source(&page("one")).workers(2).installed());
    let needles = needles(&certificate);
    let looks = || {
        for _ in 0..5 {
            assert_eq!(site.get("/").text(), "one");
        }
        assert_eq!(site.control(&["recycle"]).code, 0);
        let keepers = keepers(&site);
        assert!(!keepers.is_empty());
        for pid in [site.pid()].into_iter().chain(site.descendants()).filter(|pid| !keepers.contains(pid)) {
            assert!(!memory_holds(pid, &needles), "{} has the key:\n{}", command(pid), site.shown());
        }
        // It is looked for in the right way.
        assert!(memory_holds(std::process::id() as i32, &needles));
        if geteuid().is_root() {
            assert!(keepers.iter().all(|&pid| memory_holds(pid, &needles)));
        }
    };
    looks();
    assert_eq!(site.control(&["reload"]).code, 0);
    looks();
    assert_eq!(site.control(&["upgrade"]).code, 0);
    looks();
}

/// The key as a number, in both orders of its bytes, and as who signs has it; and as it stands in the file.
fn needles(certificate: &Pair) -> Vec<Vec<u8>> {
    let number = certificate.secret.clone();
    let prepared = prepared(&number);
    let line = certificate.key.lines().nth(1).expect("PEM has a line of 64 characters").as_bytes().to_vec();
    let backwards = |bytes: &[u8]| bytes.iter().rev().copied().collect::<Vec<u8>>();
    vec![backwards(&number), number, backwards(&prepared), prepared, line]
}

/// Signatures are made with the number times 2^256, modulo the order of P-256 (Montgomery's form). Highest byte first.
fn prepared(number: &[u8]) -> Vec<u8> {
    const ORDER: [u64; 4] =
        [0xF3B9_CAC2_FC63_2551, 0xBCE6_FAAD_A717_9E84, 0xFFFF_FFFF_FFFF_FFFF, 0xFFFF_FFFF_0000_0000];
    let limb = |part: &[u8]| u64::from_be_bytes(part.try_into().expect("it has 8 bytes"));
    let mut limbs: Vec<u64> = number.rchunks(8).map(limb).collect();
    for _ in 0..256 {
        let over = limbs[3] >> 63 == 1;
        limbs = (0..4).map(|place| limbs[place] << 1 | if place == 0 { 0 } else { limbs[place - 1] >> 63 }).collect();
        if over || limbs.iter().rev().ge(ORDER.iter().rev()) {
            let mut borrow = false;
            for (limb, order) in limbs.iter_mut().zip(ORDER) {
                let (less, first) = limb.overflowing_sub(order);
                let (less, second) = less.overflowing_sub(u64::from(borrow));
                (*limb, borrow) = (less, first || second);
            }
        }
    }
    limbs.iter().rev().flat_map(|limb| limb.to_be_bytes()).collect()
}

#[test]
fn the_keeper_can_do_nothing_but_sign() {
    let (site, _) = site(Rig::with_source(&page("one")));
    let [keeper] = keepers(&site)[..] else { panic!("there is one") };
    let status = fs::read_to_string(format!("/proc/{keeper}/status")).expect("it lives");
    let field = |name: &str| {
        let line = status.lines().find_map(|line| line.strip_prefix(name)).unwrap_or_default();
        line.trim_start_matches(':').split_whitespace().next().unwrap_or_default().to_owned()
    };
    assert_eq!((field("Seccomp").as_str(), field("NoNewPrivs").as_str()), ("2", "1"), "{status}");
    assert_eq!(field("CapEff").trim_start_matches('0'), "");
    let files = fs::read_dir(format!("/proc/{keeper}/fd"));
    if geteuid().is_root() {
        assert_ne!(field("Uid"), "0");
        let open = |entry: fs::DirEntry| fs::read_link(entry.path()).unwrap_or_default().display().to_string();
        let open: Vec<String> = files.expect("root may look").flatten().map(open).collect();
        assert!(open.iter().all(|file| file == "/dev/null" || file.starts_with("socket:")), "{open:?}");
    } else {
        assert!(files.is_err(), "nobody but root may look into it");
    }
}

#[test]
fn a_keeper_that_dies_is_replaced_and_connections_go_on() {
    let (site, certificate) = site(Rig::with_source(&page("one")).workers(2).option("--log-level", "debug"));
    let mut open = site.connect();
    assert_eq!(open.get("/").text(), "one");
    site.log("key keeper started");
    for _ in 0..2 {
        let [keeper] = keepers(&site)[..] else { panic!("there is one") };
        kill(Pid::from_raw(keeper), SIGKILL).expect("it is ours");
        assert_eq!(site.log("key keeper lost").number("pid"), keeper);
        site.log("key keeper started");
        for _ in 0..2 {
            site.log("certificates taken");
        }
        assert_eq!(open.get("/").text(), "one");
        let fresh = TlsClient::new().connect(site.address(), "ostler.test");
        assert_eq!(fresh.shown().certificate, certificate.der());
    }
}

#[test]
fn a_keeper_that_is_stopped_is_replaced_and_holds_up_nobody() {
    let (site, _) = site(Rig::with_source(&page("one")).workers(1).option("--log-level", "debug"));
    let mut open = site.connect();
    site.log("key keeper started");
    let [keeper] = keepers(&site)[..] else { panic!("there is one") };
    kill(Pid::from_raw(keeper), SIGSTOP).expect("it is ours");
    thread::scope(|scope| {
        // Handshakes that come to no end.
        let others: Vec<_> = (0..8).map(|_| scope.spawn(|| Client::try_connect(site.address()).is_ok())).collect();
        assert_eq!(open.get("/").text(), "one");
        others.into_iter().for_each(|other| drop(other.join()));
    });
    assert_eq!(site.log("key keeper silent").number("pid"), keeper);
    site.log("key keeper started");
    assert_eq!(open.get("/").text(), "one");
    site.log("certificates taken");
    assert_eq!(site.connect().get("/").text(), "one");
}

#[test]
fn sessions_go_on_in_other_workers_after_a_reload_and_an_upgrade() {
    let (site, _) = site(Rig::with_source(&page("one")).workers(2).installed());
    let client = TlsClient::new();
    let resumes = || {
        let mut connection = client.connect(site.address(), "ostler.test");
        assert_eq!(connection.get("/").text(), "one");
        connection.shown().resumed
    };
    assert!(!resumes());
    let mut resumed = 0;
    for command in [&["recycle"][..], &["reload"], &["upgrade"], &["rollback"]] {
        assert_eq!(site.control(command).code, 0);
        resumed += (0..25).filter(|_| resumes()).count();
    }
    assert!(resumed >= 99, "{resumed} of 100 sessions went on");
}

fn keepers(site: &Site) -> Vec<i32> {
    site.descendants().into_iter().filter(|&pid| command(pid).contains("key keeper")).collect()
}

fn command(pid: i32) -> String {
    fs::read_to_string(format!("/proc/{pid}/cmdline")).unwrap_or_default().replace('\0', " ")
}

/// Whether one of these stands anywhere in its memory.
fn memory_holds(pid: i32, needles: &[Vec<u8>]) -> bool {
    let maps = fs::read_to_string(format!("/proc/{pid}/maps")).expect("its memory can be looked at");
    let memory = File::open(format!("/proc/{pid}/mem")).expect("its memory can be looked at");
    let readable =
        |line: &&str| line.split(' ').nth(1).is_some_and(|mode| mode.starts_with('r')) && !line.contains("[vvar");
    maps.lines().filter(readable).any(|line| {
        let (from, to) = line.split_once(' ').and_then(|(range, _)| range.split_once('-')).expect("proc_pid_maps(5)");
        let number = |text| u64::from_str_radix(text, 16).expect("proc_pid_maps(5)");
        let (from, to) = (number(from), number(to));
        let mut bytes = vec![0; usize::try_from(to - from).expect("it fits")];
        // A part that cannot be read is not in memory.
        let mut read = 0;
        while let Ok(more @ 1..) = memory.read_at(&mut bytes[read..], from + read as u64) {
            read += more;
        }
        needles.iter().any(|needle| memchr::memmem::find(&bytes[..read], needle).is_some())
    })
}
