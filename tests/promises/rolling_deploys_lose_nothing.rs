//! A deploy of three instances behind HAProxy, one after the other: every client gets every answer, and then the new code's. Each instance
//! has a network namespace of its own where the machine allows that, else an address of its own.

use ostler_tests::{Client, Network, Proxy, Signal::SIGTERM, Site};

use crate::load::{Load, SOURCE, rig, serves_clients};

const NAMES: [&str; 3] = ["one", "two", "three"];

/// Three instances, which run version 1, and how many deploys there were.
struct Fleet<'a> {
    network: Option<&'a Network>,
    sites: Vec<Site>,
    version: u32,
}

impl Fleet<'_> {
    fn new(network: Option<&Network>) -> Fleet<'_> {
        let mut fleet = Fleet { network, sites: vec![], version: 1 };
        fleet.sites = (0..NAMES.len()).map(|place| fleet.start(place)).collect();
        fleet
    }

    fn start(&self, place: usize) -> Site {
        let source = SOURCE.replace("version = 1", &format!("version = {}", self.version));
        let rig = rig().file("app.py", &source).option("--drain-delay", "1");
        let number = place + 1;
        match self.network {
            Some(network) => network.within(number, || rig.bind(&format!("10.0.0.{number}:8000")).start()),
            None => rig.bind(&self.sites.get(place).map_or(format!("127.0.0.{number}:0"), plain)).start(),
        }
    }

    /// Replaces one instance after the other. `stop` stops one of them, `resume` lets clients come to its successor.
    fn deploy(&mut self, load: &Load, stop: impl Fn(&mut Site, &str), resume: impl Fn(&str)) {
        self.version += 1;
        for (place, name) in NAMES.into_iter().enumerate() {
            load.goes_on(100);
            stop(&mut self.sites[place], name);
            self.sites[place] = self.start(place);
            resume(name);
            serves_clients(&self.sites[place]);
        }
    }
}

fn plain(site: &Site) -> String {
    site.address().trim_start_matches("http://").into()
}

fn run(network: Option<&Network>) {
    let mut fleet = Fleet::new(network);
    let addresses: Vec<String> = fleet.sites.iter().map(plain).collect();
    let addresses: Vec<&str> = addresses.iter().map(String::as_str).collect();
    let Some(proxy) = Proxy::haproxy(&addresses, &[]) else { return };
    let say = |state: &str, name: &str| {
        let answer = proxy.command(&format!("set server site/{name} state {state}"));
        assert_eq!(answer.trim(), "", "HAProxy's answer to {state} {name}");
    };
    let nothing = |_: &str| {};
    Load::during("three deploys over three instances", &proxy, |load| {
        // As a deploy script does it: the proxy is told first.
        let drain_first = |site: &mut Site, name: &str| {
            say("drain", name);
            site.stop();
        };
        fleet.deploy(load, drain_first, |name| say("ready", name));
        // As an orchestrator does it: it asks whether the instance is ready, and the instance goes on accepting meanwhile.
        let drain_when_not_ready = |site: &mut Site, name: &str| {
            site.signal(SIGTERM);
            site.log("stopping");
            assert_eq!(site.control(&["status", "--ready"]).code, 9);
            load.goes_on(20);
            say("drain", name);
            assert_eq!(site.wait(), 0);
        };
        fleet.deploy(load, drain_when_not_ready, |name| say("ready", name));
        // Nobody is told.
        fleet.deploy(load, |site, _| site.stop(), nothing);
        load.goes_on(100);
    });
    for _ in 0..6 {
        let answer = Client::connect(proxy.address()).get("/");
        assert_eq!(answer.field("x-version"), Some("4"), "the new code serves");
    }
}

#[test]
#[ignore = "slow: `make test-proxies` runs it"]
fn a_rolling_deploy_behind_haproxy_loses_nothing() {
    match Network::new(NAMES.len()) {
        Some(network) => network.within(0, || run(Some(&network))),
        None => run(None),
    }
}
