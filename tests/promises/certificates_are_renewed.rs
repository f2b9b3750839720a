//! Certificates whose files have changed are used without a reload, ones that are no good leave the others in use, and their end is told.

use std::{fs, os::unix::fs::symlink};

use nix::sys::signal::Signal::SIGHUP;
use ostler_tests::{Authority, Pair, Rig, Site, TlsClient};

use crate::pages::page;

const USAGE: i32 = 2;

fn rig() -> Rig {
    Rig::with_source(&page("one")).workers(2).bind("https://127.0.0.1:0").option("--log-level", "debug")
}

fn with_files(rig: Rig, certificate: &str, key: &str) -> Rig {
    rig.option("--certfile", certificate).option("--keyfile", key)
}

/// What a new connection is shown.
fn shown(site: &Site, name: &str) -> Vec<u8> {
    TlsClient::new().connect(site.address(), name).shown().certificate
}

/// Waits until both workers show other certificates.
fn renewed(site: &Site) {
    site.log("certificates renewed");
    for _ in 0..2 {
        site.log("certificates taken");
    }
}

#[test]
fn new_files_are_used_and_no_connection_ends() {
    let (old, new) = (Pair::of(&["a.example"]), Pair::of(&["b.example"]));
    let rig = with_files(rig(), "site.pem", "site.key");
    old.write(rig.folder(), "site");
    let site = rig.start();
    let mut open = site.connect();
    assert_eq!(open.get("/").text(), "one");
    assert_eq!(shown(&site, "a.example"), old.der());
    new.write(site.folder(), "site");
    renewed(&site);
    assert_eq!(shown(&site, "a.example"), new.der());
    assert_eq!(open.get("/").text(), "one");
    assert_eq!(open.shown().certificate, old.der());
    assert_eq!(site.logged("worker ready"), 2);
}

#[test]
fn links_of_certbot_and_files_written_in_place_by_lego_are_noticed() {
    let all: Vec<Pair> = (0..3).map(|_| Pair::of(&["a.example"])).collect();
    let rig = with_files(rig(), "live/site/fullchain.pem", "live/site/privkey.pem");
    for (number, certificate) in all[..2].iter().enumerate() {
        rig.folder().write(&format!("archive/site/fullchain{number}.pem"), &certificate.chain);
        rig.folder().write(&format!("archive/site/privkey{number}.pem"), &certificate.key);
    }
    fs::create_dir_all(rig.folder().join("live/site")).expect("a private folder is writable");
    let folder = rig.folder().path().to_owned();
    let link = |number: usize| {
        for name in ["privkey", "fullchain"] {
            let place = folder.join(format!("live/site/{name}.pem"));
            let _ = fs::remove_file(&place);
            symlink(format!("../../archive/site/{name}{number}.pem"), place).expect("a private folder is writable");
        }
    };
    link(0);
    let site = rig.start();
    assert_eq!(shown(&site, "a.example"), all[0].der());
    link(1);
    renewed(&site);
    assert_eq!(shown(&site, "a.example"), all[1].der());
    fs::write(folder.join("archive/site/fullchain1.pem"), &all[2].chain).expect("a private folder is writable");
    fs::write(folder.join("archive/site/privkey1.pem"), &all[2].key).expect("a private folder is writable");
    renewed(&site);
    assert_eq!(shown(&site, "a.example"), all[2].der());
}

#[test]
fn a_broken_pair_leaves_the_one_before_in_use() {
    let (old, new) = (Pair::of(&["a.example"]), Pair::of(&["a.example"]));
    let rig = with_files(rig(), "site.pem", "site.key");
    old.write(rig.folder(), "site");
    let site = rig.start();
    site.folder().write("site.pem", &new.chain);
    let line = site.log("certificates not renewed");
    assert!(line.text().contains("site.key is not that of the certificate"), "{}", line.text());
    assert_eq!(shown(&site, "a.example"), old.der());
    site.control(&["reload"]).says(USAGE, &["generation 2 was discarded: the key", "is not that of the certificate"]);
    site.signal(SIGHUP);
    site.log("generation discarded");
    assert_eq!(site.get("/").text(), "one");
    fs::remove_file(site.folder().join("site.key")).expect("it is ours");
    site.control(&["reload"]).says(USAGE, &["could not read", "site.key: no such file or directory"]);
    assert_eq!(shown(&site, "a.example"), old.der());
    site.folder().write("site.key", &new.key);
    renewed(&site);
    assert_eq!(shown(&site, "a.example"), new.der());
}

#[test]
fn an_upgrade_that_finds_broken_files_watches_them_further() {
    let (old, new) = (Pair::of(&["a.example"]), Pair::of(&["a.example"]));
    let rig = with_files(rig(), "site.pem", "site.key");
    old.write(rig.folder(), "site");
    let site = rig.installed().start();
    site.folder().write("site.key", &new.key);
    site.log("certificates not renewed");
    site.control(&["upgrade"]).says(USAGE, &["is not that of the certificate"]);
    site.log("certificates not renewed");
    site.folder().write("site.pem", &new.chain);
    renewed(&site);
    assert_eq!(shown(&site, "a.example"), new.der());
}

#[test]
fn the_end_of_a_certificate_is_told() {
    let rig = with_files(rig(), "site.pem", "site.key").option("--metrics", "unix:metrics");
    Pair::lasting(&["soon.example"], 10).write(rig.folder(), "site");
    let site = rig.start();
    let line = site.log("certificate expires soon");
    assert_eq!(line.key("name"), Some("soon.example"));
    // Ten in the very second in which it was made.
    assert!((9..=10).contains(&line.number("days")), "{}", line.text());
    let status = site.control(&["status"]);
    assert_eq!(status.code, 1, "{}", status.output);
    assert!(status.output.contains("! the certificate for soon.example expires in "), "{}", status.output);
    let doctor = site.control(&["doctor"]);
    assert!(doctor.output.contains("clients trust the site no more"), "{}", doctor.output);
    let metrics =
        ostler_tests::Client::connect(&format!("unix:{}", site.folder().join("metrics").display())).get("/metrics");
    assert!(
        metrics.text().contains("ostler_certificate_expiry_timestamp_seconds{name=\"soon.example\"} 1"),
        "{}",
        metrics.text()
    );
    Pair::lasting(&["late.example"], 80).write(site.folder(), "site");
    renewed(&site);
    let status = site.control(&["status"]);
    assert_eq!(status.code, 0, "{}", status.output);
    assert!(status.output.contains("certificate for late.example: expires in 79d"), "{}", status.output);
}

#[test]
fn what_is_no_good_is_refused_at_the_start_and_by_check() {
    let marked = Pair::of(&["a.example"]);
    let marks = with_files(Rig::with_source(&page("one")), "site.pem", "site.key");
    marked.write(marks.folder(), "site");
    marks.folder().write("site.pem", &format!("\u{feff}{}", marked.chain));
    marks.refuse().says(USAGE, &["site.pem has something before -----BEGIN CERTIFICATE----- in the same line"]);
    let good = Pair::of(&["a.example"]);
    let other = Pair::of(&["b.example"]);
    let ended = Pair::lasting(&["old.example"], -2);
    let encrypted = "-----BEGIN ENCRYPTED PRIVATE KEY-----\nAAAA\n-----END ENCRYPTED PRIVATE KEY-----\n";
    for (chain, key, says) in [
        (&good.chain, &other.key, "site.key is not that of the certificate"),
        (&ended.chain, &ended.key, "has expired at"),
        (&String::new(), &good.key, "site.pem holds no certificate"),
        (&good.chain, &String::new(), "site.key holds no private key"),
        (&good.chain, &encrypted.to_owned(), "site.key is encrypted"),
    ] {
        let files = |rig: Rig| with_files(rig.file("site.pem", chain).file("site.key", key), "site.pem", "site.key");
        files(rig()).refuse().says(USAGE, &[says]);
        files(rig()).run(&["check"]).says(USAGE, &[says]);
    }
    with_files(rig(), "gone.pem", "gone.key")
        .refuse()
        .says(USAGE, &["could not read", "gone.pem: no such file or directory"]);
    with_files(rig(), "no/where.pem", "a.key")
        .refuse()
        .says(USAGE, &["could not read", "/no: no such file or directory"]);
    rig().refuse().says(USAGE, &["there is no certificate. Say --certfile FILE."]);
    let asks = rig().option("--certfile", "a.pem").option("--cert-reqs", "2");
    asks.refuse().says(USAGE, &["nobody is named who may have signed them. Say --ca-certs FILE."]);
    let asks = with_files(rig().file("site.pem", &good.chain).file("site.key", &good.key), "site.pem", "site.key");
    asks.option("--ca-certs", "ca.pem").option("--cert-reqs", "2").refuse().says(USAGE, &["ca.pem: no such file"]);
}

#[test]
fn names_choose_among_several() {
    let (first, exact, wild) = (Pair::of(&["first.example"]), Pair::of(&["a.b.example"]), Pair::of(&["*.b.example"]));
    let rig = rig();
    for (name, certificate) in [("first", &first), ("exact", &exact), ("wild", &wild)] {
        rig.folder().write(&format!("{name}.pem"), &format!("{}{}", certificate.key, certificate.chain));
    }
    let site =
        ["first.pem", "exact.pem", "wild.pem"].iter().fold(rig, |rig, file| rig.option("--certfile", file)).start();
    for (name, expected) in
        [("a.b.example", &exact), ("c.b.example", &wild), ("first.example", &first), ("x.y.b.example", &first)]
    {
        assert_eq!(shown(&site, name), expected.der(), "{name}");
    }
}

#[test]
fn clients_show_certificates_where_they_are_asked() {
    let authority = Authority::new("Clients");
    let site = |reqs: &str| {
        let rig = with_files(rig(), "site.pem", "site.key").option("--ca-certs", "ca.pem").option("--cert-reqs", reqs);
        Pair::of(&["a.example"]).write(rig.folder(), "site");
        rig.file("ca.pem", &authority.certificate).start()
    };
    let member = TlsClient::showing(&authority.sign("member"));
    let stranger = TlsClient::showing(&Authority::new("Others").sign("stranger"));
    let answers = |client: &TlsClient, site: &Site| {
        let connected = client.try_connect(site.address(), "a.example");
        connected.is_ok_and(|mut client| client.ask("/").try_answer().is_ok_and(|answer| answer.text() == "one"))
    };
    let required = site("required");
    assert!(answers(&member, &required));
    assert!(!answers(&TlsClient::new(), &required) && !answers(&stranger, &required));
    assert!(!member.connect(required.address(), "a.example").shown().resumed, "resumption would skip the check");
    let optional = site("1");
    assert!(answers(&member, &optional) && answers(&TlsClient::new(), &optional));
    assert!(!answers(&stranger, &optional));
}

#[test]
fn a_site_in_the_clear_beside_it_sends_clients_over() {
    let rig = with_files(rig(), "site.pem", "site.key").bind("http://127.0.0.1:0");
    Pair::of(&["a.example"]).write(rig.folder(), "site");
    let site = rig.flag("--redirect-https").option("--hsts", "1h").start();
    let (secure, clear) = (&site.addresses()[0], &site.addresses()[1]);
    let port = secure.rsplit(':').next().expect("it has a port");
    let mut client = ostler_tests::Client::connect(clear);
    let answer = client.get("/a/b?c=d");
    assert_eq!((answer.status, answer.field("location")), (301, Some(&*format!("https://ostler.test:{port}/a/b?c=d"))));
    assert_eq!(answer.field("strict-transport-security"), None, "in the clear it means nothing");
    assert_eq!(client.get("/.well-known/acme-challenge/x").status, 200);
    let answer = client.post("/a", "text/plain", b"body");
    assert_eq!((answer.status, answer.field("location")), (308, Some(&*format!("https://ostler.test:{port}/a"))));
    let answer = site.get("/");
    assert_eq!(answer.field("strict-transport-security"), Some("max-age=3600"));
}
