//! Sockets that systemd has passed: sd_listen_fds(3). Those of socket units are for `bind = "systemd"`; those that ostler has had kept
//! in the file descriptor store come back after a crash or a restart.

use ostler_wire::Protocol;
use serde::{Deserialize, Serialize};

use super::{Address, Settings};
use crate::{
    exit::{Exit, Failure},
    options::Invocation,
};

/// SD_LISTEN_FDS_START
const FIRST: i32 = 3;
/// In front of a number, the name of a socket in the store.
pub const STORED: &str = "ostler-listener-";

/// What the environment says was passed. It is not looked at yet.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Passed {
    /// Descriptors of socket units, with their FileDescriptorName=.
    pub sockets: Vec<(i32, String)>,
    /// Descriptors from the store, with the numbers that their names end with.
    pub stored: Vec<(i32, u32)>,
    /// Why sockets that the environment tells of are not taken.
    pub refused: Option<String>,
}

impl Passed {
    /// Says what is wrong with the variables, if they are meant for this process.
    pub fn read(invocation: &Invocation) -> Result<Passed, Failure> {
        let Some(count) = invocation.variable("LISTEN_FDS") else { return Ok(Passed::default()) };
        let meant_for = invocation.variable("LISTEN_PID").unwrap_or("none");
        if meant_for != invocation.process.to_string() {
            let why = format!("LISTEN_PID is {meant_for}, and this process is {}", invocation.process);
            return Ok(Passed { refused: Some(why), ..Passed::default() });
        }
        let lies =
            |name: &str, text: &str, expected: String| Err(Failure::usage(format!("{name}: {text:?}: {expected}")));
        let Some(count) = count.parse().ok().filter(|count: &u16| *count < 1024) else {
            return lies("LISTEN_FDS", count, "expected how many sockets were passed".into());
        };
        let text = invocation.variable("LISTEN_FDNAMES");
        let names: Vec<&str> = text.map_or_else(|| vec!["unknown"; count.into()], |names| names.split(':').collect());
        if names.len() != usize::from(count) && count > 0 {
            return lies(
                "LISTEN_FDNAMES",
                text.unwrap_or_default(),
                format!("expected {count} names, as LISTEN_FDS says"),
            );
        }
        let mut passed = Passed::default();
        for (number, name) in (FIRST..).zip(names).take(count.into()) {
            // What is bound from now on has higher numbers, of which there have to be some.
            let listener = name.strip_prefix(STORED).and_then(|number| number.parse().ok());
            match listener.filter(|&listener| listener < u32::MAX / 2) {
                Some(listener) => passed.stored.push((number, listener)),
                None => passed.sockets.push((number, name.into())),
            }
        }
        Ok(passed)
    }
}

impl Settings {
    /// What `--bind` names, with each socket that systemd was to pass by its number; and what is spoken there.
    pub fn addresses(&self) -> Result<Vec<(Address, Protocol)>, Failure> {
        let mut found = Vec::new();
        for (place, address) in self.binds.iter().enumerate() {
            let protocol = self.protocols.get(place).copied().unwrap_or_default();
            let addresses = match address {
                Address::Passed(name) => self.passed_as(name.as_deref())?,
                other => vec![other.clone()],
            };
            found.extend(addresses.into_iter().map(|address| (address, protocol)));
        }
        Ok(found)
    }

    /// The sockets of that name, or all of them. Without one, the site would be where nobody looks for it.
    fn passed_as(&self, name: Option<&str>) -> Result<Vec<Address>, Failure> {
        let sockets = &self.passed.sockets;
        let named = sockets.iter().filter(|(_, other)| name.is_none_or(|name| name == other));
        let found: Vec<Address> = named.map(|(number, _)| Address::Inherited(*number)).collect();
        if !found.is_empty() {
            return Ok(found);
        }
        let expected = Address::Passed(name.map(Into::into));
        let why = match (&self.passed.refused, name) {
            (Some(why), _) => why.clone(),
            (None, Some(name)) if !sockets.is_empty() => {
                let others: Vec<&str> = sockets.iter().map(|(_, name)| name.as_str()).collect();
                format!("systemd has passed no socket called {name}, but {}", others.join(", "))
            }
            // As the units are called that name the site.
            (None, _) => {
                let unit = match self.boot.process_name.as_str() {
                    "ostler" => "ostler".into(),
                    name => format!("ostler@{name}"),
                };
                format!("systemd has passed no socket. Enable and start {unit}.socket.")
            }
        };
        Err(Failure::new(Exit::Bind, format!("could not bind {expected}: {why}")))
    }

    /// Sockets that were passed and that no address names, a sentence each.
    pub fn passed_over(&self) -> Vec<String> {
        let named = |number: i32, name: &String| {
            self.binds.iter().any(|address| match address {
                Address::Inherited(other) => *other == number,
                Address::Passed(other) => other.as_ref().is_none_or(|other| other == name),
                Address::Tcp(..) | Address::Unix(_) | Address::Abstract(_) => false,
            })
        };
        let over = self.passed.sockets.iter().filter(|(number, name)| !named(*number, name));
        let said = over.map(|(number, name)| format!("no --bind names {name}, which is fd://{number}"));
        said.chain(self.passed.refused.clone()).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fixture::Folder;

    fn read(variables: &[(&str, &str)]) -> Result<Passed, Failure> {
        let mut invocation = Folder::new().invocation(&[], variables);
        invocation.process = 4711;
        Passed::read(&invocation)
    }

    #[test]
    fn sockets_have_their_names_and_those_of_the_store_their_numbers() {
        let names = "site.socket:ostler-listener-7:admin";
        let passed = read(&[("LISTEN_PID", "4711"), ("LISTEN_FDS", "3"), ("LISTEN_FDNAMES", names)]).unwrap();
        assert_eq!(passed.sockets, [(3, "site.socket".into()), (5, "admin".into())]);
        assert_eq!(passed.stored, [(4, 7)]);
        let last =
            read(&[("LISTEN_PID", "4711"), ("LISTEN_FDS", "1"), ("LISTEN_FDNAMES", "ostler-listener-4294967295")]);
        assert_eq!(last.unwrap().stored, []);
        let nameless = read(&[("LISTEN_PID", "4711"), ("LISTEN_FDS", "1")]).unwrap();
        assert_eq!(nameless.sockets, [(3, "unknown".into())]);
    }

    #[test]
    fn variables_that_lie_are_named() {
        let refused = read(&[("LISTEN_PID", "1"), ("LISTEN_FDS", "2")]).unwrap().refused;
        assert_eq!(refused.as_deref(), Some("LISTEN_PID is 1, and this process is 4711"));
        for (name, value) in [("LISTEN_FDS", "two"), ("LISTEN_FDS", "-1"), ("LISTEN_FDNAMES", "a:b")] {
            let failure = read(&[("LISTEN_PID", "4711"), (name, value), ("LISTEN_FDS", "1")]).unwrap_err();
            assert!(failure.message.starts_with(&format!("{name}: {value:?}: expected ")), "{failure}");
        }
    }
}
