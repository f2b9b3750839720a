//! Machines that are none: network namespaces, joined by a bridge. What is started within one of them has its address and no other.

use std::{fs::File, process::Command, thread};

use nix::sched::{CloneFlags, setns};

use crate::installed;

/// One namespace for a proxy and its clients, and some for sites.
pub struct Network {
    names: Vec<String>,
}

impl Network {
    /// With this number of places for sites. None, with a note in the test's output, where the machine forbids it.
    pub fn new(sites: usize) -> Option<Network> {
        let name = |number| format!("ostler-{}-{number}", std::process::id());
        installed("ip")?;
        let network = Network { names: (0..=sites).map(name).collect() };
        let made = network.make();
        if let Err(why) = &made {
            eprintln!("NOT TESTED in network namespaces, which cannot be made here: {why}");
        }
        made.ok().map(|()| network)
    }

    fn make(&self) -> Result<(), String> {
        let hub = &self.names[0];
        for name in &self.names {
            ip(&["netns", "add", name])?;
            ip(&["-n", name, "link", "set", "lo", "up"])?;
        }
        ip(&["-n", hub, "link", "add", "hub", "type", "bridge"])?;
        ip(&["-n", hub, "address", "add", "10.0.0.100/24", "dev", "hub"])?;
        ip(&["-n", hub, "link", "set", "hub", "up"])?;
        for (number, name) in self.names.iter().enumerate().skip(1) {
            let cable = format!("to{number}");
            ip(&["-n", hub, "link", "add", &cable, "type", "veth", "peer", "name", "eth0", "netns", name])?;
            ip(&["-n", hub, "link", "set", &cable, "master", "hub", "up"])?;
            ip(&["-n", name, "address", "add", &format!("10.0.0.{number}/24"), "dev", "eth0"])?;
            ip(&["-n", name, "link", "set", "eth0", "up"])?;
        }
        Ok(())
    }

    /// Runs this where the proxy and its clients are (0), or where the site 10.0.0.1, 10.0.0.2 … is. Threads and processes that it
    /// starts are there, too.
    pub fn within<T: Send>(&self, place: usize, work: impl FnOnce() -> T + Send) -> T {
        let space = File::open(format!("/run/netns/{}", self.names[place])).expect("it was made");
        let there = || {
            setns(space, CloneFlags::CLONE_NEWNET).expect("who makes namespaces may enter them");
            work()
        };
        let done = thread::scope(|scope| scope.spawn(there).join());
        done.unwrap_or_else(|panic| std::panic::resume_unwind(panic))
    }
}

impl Drop for Network {
    fn drop(&mut self) {
        for name in &self.names {
            let _ = ip(&["netns", "delete", name]);
        }
    }
}

fn ip(words: &[&str]) -> Result<(), String> {
    let done = Command::new("ip").args(words).output().map_err(|error| error.to_string())?;
    match done.status.success() {
        true => Ok(()),
        false => Err(format!("ip {}: {}", words.join(" "), String::from_utf8_lossy(&done.stderr).trim())),
    }
}
