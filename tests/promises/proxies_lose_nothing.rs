//! What a client behind a proxy gets while sites are reloaded, stopped, replaced and deployed: every answer, whole, and no connection
//! reset. nginx, HAProxy and Caddy run as examples/deploy has them.

use nix::sys::signal::Signal::SIGHUP;
use ostler_tests::{Client, Folder, Proxy, Rig, Site};

use crate::load::{Load, rig, serves_clients};

/// A rig at a Unix socket in its own folder.
fn at_unix(rig: Rig) -> Rig {
    let socket = format!("unix:{}", rig.folder().join("site.sock").display());
    rig.bind(&socket)
}

fn reload(site: &Site, load: &Load) {
    for _ in 0..3 {
        load.goes_on(200);
        site.signal(SIGHUP);
        site.log("generation serving");
        site.drained(2);
    }
    load.goes_on(200);
}

#[test]
fn a_reload_behind_nginx_is_not_noticed() {
    for (kind, rig) in [("TCP", rig()), ("a Unix socket", at_unix(rig()))] {
        let site = rig.start();
        let Some(proxy) = Proxy::nginx(&[site.address()], &[]) else { return };
        Load::during(&format!("reloads behind nginx, {kind}"), &proxy, |load| reload(&site, load));
    }
}

#[test]
fn a_reload_behind_haproxy_is_not_noticed() {
    for (kind, rig) in [("TCP", rig()), ("a Unix socket", at_unix(rig()))] {
        let site = rig.start();
        let Some(proxy) = Proxy::haproxy(&[site.address()], &[]) else { return };
        Load::during(&format!("reloads behind HAProxy, {kind}"), &proxy, |load| reload(&site, load));
    }
}

#[test]
fn a_reload_behind_caddy_is_not_noticed() {
    for (kind, rig) in [("TCP", rig()), ("a Unix socket", at_unix(rig()))] {
        let site = rig.start();
        let Some(proxy) = Proxy::caddy(&[site.address()], &[]) else { return };
        Load::during(&format!("reloads behind Caddy, {kind}"), &proxy, |load| reload(&site, load));
    }
}

#[test]
fn a_reload_with_proxy_headers_is_not_noticed() {
    let site = rig().flag("--proxy-protocol").start();
    let header = [("default-server check", "default-server check send-proxy-v2")];
    let Some(proxy) = Proxy::haproxy(&[site.address()], &header) else { return };
    Load::during("reloads behind HAProxy, PROXY v2", &proxy, |load| reload(&site, load));
}

/// Stops one of two sites after the other, and starts it again once the other serves clients; at TCP and at Unix sockets.
fn restart(program: &str, before: impl Fn(&[&str]) -> Option<Proxy>) {
    let folder = Folder::new();
    let sockets = ["one.sock", "two.sock"].map(|name| format!("unix:{}", folder.join(name).display()));
    for (kind, sites) in [("TCP", [rig(), rig()]), ("Unix sockets", sockets.map(|socket| rig().bind(&socket)))] {
        let mut sites = sites.map(Rig::start);
        let Some(proxy) = before(&[sites[0].address(), sites[1].address()]) else { return };
        Load::during(&format!("stops of one of two behind {program}, {kind}"), &proxy, |load| {
            for turn in 0..10 {
                let site = &mut sites[turn % 2];
                load.goes_on(100);
                site.stop();
                load.goes_on(100);
                *site = rig().bind(site.address().trim_start_matches("http://")).start();
                serves_clients(site);
            }
            load.goes_on(100);
        });
    }
}

#[test]
#[ignore = "slow: `make test-proxies` runs it"]
fn one_of_two_may_stop_behind_nginx() {
    restart("nginx", |sites| Proxy::nginx(sites, &[]));
}

#[test]
#[ignore = "slow: `make test-proxies` runs it"]
fn one_of_two_may_stop_behind_haproxy() {
    restart("HAProxy", |sites| Proxy::haproxy(sites, &[]));
}

/// Sends 50 MB and gets them back; in the middle of it the site is reloaded.
fn upload(site: &Site, proxy: &Proxy, chunked: bool) {
    let block = |number: u64| number.to_ne_bytes().repeat(1 << 17);
    let (framing, size) = match chunked {
        true => ("Transfer-Encoding: chunked".to_owned(), "100000\r\n"),
        false => (format!("Content-Length: {}", 50 << 20), ""),
    };
    let mut client = Client::connect(proxy.address());
    client.send(format!("POST / HTTP/1.1\r\nHost: a\r\n{framing}\r\n\r\n"));
    for number in 0..50 {
        if number == 25 {
            assert_eq!(site.control(&["reload"]).code, 0);
        }
        client.send(size).send(block(number)).send(if chunked { "\r\n" } else { "" });
    }
    let answer = client.send(if chunked { "0\r\n\r\n" } else { "" }).answer();
    assert_eq!((answer.status, answer.body.len()), (200, 50 << 20));
    let whole = answer.body.chunks(1 << 20).enumerate().all(|(number, got)| got == block(number as u64));
    assert!(whole, "what came back is not what was sent");
}

#[test]
#[ignore = "slow: `make test-proxies` runs it"]
fn large_uploads_are_whole_behind_nginx() {
    for rig in [rig(), at_unix(rig())] {
        let site = rig.start();
        for buffering in ["proxy_request_buffering on;", "proxy_request_buffering off;"] {
            let change = format!("proxy_http_version 1.1; {buffering}");
            let Some(proxy) = Proxy::nginx(&[site.address()], &[("proxy_http_version 1.1;", &change)]) else { return };
            [false, true].into_iter().for_each(|chunked| upload(&site, &proxy, chunked));
        }
    }
}

#[test]
#[ignore = "slow: `make test-proxies` runs it"]
fn large_uploads_are_whole_behind_haproxy() {
    for rig in [rig(), at_unix(rig())] {
        let site = rig.start();
        let Some(proxy) = Proxy::haproxy(&[site.address()], &[]) else { return };
        [false, true].into_iter().for_each(|chunked| upload(&site, &proxy, chunked));
    }
}
