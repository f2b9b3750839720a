//! Where numbers are sent for a statsd to collect, and under what names.

use std::path::Path;

use serde::{Deserialize, Serialize};

use super::{Address, parse};
use crate::{exit::Failure, options::Options};

/// statsd's own port.
const PORT: u16 = 8125;

/// `--statsd-host` and what goes with it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Statsd {
    /// A host and a port, or a Unix socket for datagrams.
    pub address: Address,
    /// `--statsd-prefix`: stands before each name; empty, or with a dot at its end.
    pub prefix: String,
    /// `--dogstatsd-tags`: as they are sent; may be empty.
    pub tags: String,
    /// `--enable-backlog-metric`
    pub backlog: bool,
}

/// None without `--statsd-host`. A prefix or tags alone say nothing, as with gunicorn, but have to be well formed.
pub fn statsd(options: &Options, chdir: &Path) -> Result<Option<Statsd>, Failure> {
    let address = options.optional("statsd-host", |text| address(text, chdir))?;
    let prefix = options.value("statsd-prefix", prefix)?;
    let tags = options.value("dogstatsd-tags", tags)?;
    let backlog = options.switch("enable-backlog-metric")?;
    Ok(address.map(|address| Statsd { address, prefix, tags, backlog }))
}

fn address(text: &str, chdir: &Path) -> Result<Address, String> {
    let expected = || "expected host, host:port, [v6]:port or unix:path".to_owned();
    match Address::parse_with_port(text, chdir, PORT)? {
        Address::Tcp(host, port) if !host.is_empty() && port > 0 => Ok(Address::Tcp(host, port)),
        unix @ Address::Unix(_) => Ok(unix),
        _ => Err(expected()),
    }
}

fn prefix(text: &str) -> Result<String, String> {
    let plain = |c: char| !c.is_whitespace() && !c.is_control() && !":|@#".contains(c);
    match (text.trim_end_matches('.'), text.chars().all(plain)) {
        (_, false) => Err("expected a text without spaces and without : | @ #".into()),
        ("", true) => Ok(String::new()),
        (name, true) => Ok(format!("{name}.")),
    }
}

fn tags(text: &str) -> Result<String, String> {
    match text.contains(['|', '#']) {
        true => Err("expected tags separated by commas, such as env:live,site:shop".into()),
        false => parse::line(text),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_is_a_host_or_a_unix_socket() {
        let parsed = |text| address(text, Path::new("/srv")).map(|address| address.to_string());
        for (text, expected) in [
            ("localhost", "localhost:8125"),
            ("localhost:9125", "localhost:9125"),
            ("[::1]", "[::1]:8125"),
            ("unix:///run/statsd.sock", "unix:/run/statsd.sock"),
            ("unix:run/statsd.sock", "unix:/srv/run/statsd.sock"),
        ] {
            assert_eq!(parsed(text), Ok(expected.into()));
        }
        for text in ["", ":8125", "localhost:", "localhost:0", "localhost:x", "unix:", "unix:@a", "fd://3", "systemd"] {
            assert!(parsed(text).is_err(), "{text}");
        }
    }

    #[test]
    fn a_prefix_has_one_dot_at_its_end() {
        assert_eq!(["", "shop", "shop.", "a.b.."].map(|text| prefix(text).unwrap()), ["", "shop.", "shop.", "a.b."]);
        assert!(["a b", "a:b", "a|b", "a\n"].iter().all(|text| prefix(text).is_err()));
    }

    #[test]
    fn tags_end_no_line() {
        assert_eq!(tags("env:live,site:shop"), Ok("env:live,site:shop".into()));
        assert!(["a|b", "a#b", "a\nb:1|c"].iter().all(|text| tags(text).is_err()));
    }
}
