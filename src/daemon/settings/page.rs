//! Where the numbers of the site can be asked for.

use std::{
    fmt,
    net::{IpAddr, Ipv6Addr, SocketAddr, ToSocketAddrs},
    path::{Path, PathBuf},
};

use serde::{Deserialize, Serialize};

use super::Address;
use crate::{exit::Failure, options::Options};

/// `--metrics`: where to listen.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum PageAddress {
    /// `[::]` for every address.
    Tcp(SocketAddr),
    /// The path of a Unix socket.
    Unix(PathBuf),
}

impl fmt::Display for PageAddress {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        match self {
            PageAddress::Tcp(address) => write!(f, "http://{address}"),
            PageAddress::Unix(path) => write!(f, "unix:{}", path.display()),
        }
    }
}

impl PageAddress {
    /// Whether only one of both could listen. What this does not know is found when they are bound.
    pub fn is_at(&self, bind: &Address) -> bool {
        match (self, bind) {
            (PageAddress::Unix(path), Address::Unix(other)) => path == other,
            (PageAddress::Tcp(page), Address::Tcp(host, port)) if page.port() == *port => {
                let everywhere = host.is_empty() || page.ip() == Ipv6Addr::UNSPECIFIED;
                let mut found = (host.as_str(), *port).to_socket_addrs().into_iter().flatten().map(|found| found.ip());
                everywhere || found.any(|ip| overlap(ip, page.ip()))
            }
            _ => false,
        }
    }
}

fn overlap(one: IpAddr, other: IpAddr) -> bool {
    one == other || one.is_ipv4() == other.is_ipv4() && (one.is_unspecified() || other.is_unspecified())
}

/// None without `--metrics`. At a start this may wait for a name; a reload has a child read the settings.
pub fn page(options: &Options, chdir: &Path) -> Result<Option<PageAddress>, Failure> {
    options
        .optional("metrics", |text| if text == "off" { Ok(None) } else { address(text, chdir).map(Some) })
        .map(Option::flatten)
}

fn address(text: &str, chdir: &Path) -> Result<PageAddress, String> {
    let expected = || "expected host:port, :port, [v6]:port or unix:path".to_owned();
    match Address::parse_with_port(text, chdir, 0)? {
        Address::Unix(path) => Ok(PageAddress::Unix(path)),
        Address::Tcp(_, 0) => Err(expected()),
        Address::Tcp(host, port) if host.is_empty() => {
            Ok(PageAddress::Tcp((IpAddr::from(Ipv6Addr::UNSPECIFIED), port).into()))
        }
        Address::Tcp(host, port) => {
            let all: Vec<SocketAddr> =
                (host.as_str(), port).to_socket_addrs().map(Iterator::collect).unwrap_or_default();
            let first = all.iter().find(|address| address.is_ipv4()).or(all.first());
            first.map(|address| PageAddress::Tcp(*address)).ok_or_else(|| "there is no such host".into())
        }
        _ => Err(expected()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_sites_own_address_is_known_again() {
        let meet = |page, bind| {
            let root = Path::new("/srv");
            address(page, root).unwrap().is_at(&Address::parse(bind, root).unwrap())
        };
        for (page, bind) in [
            ("127.0.0.1:8000", "127.0.0.1:8000"),
            ("127.0.0.1:8000", "127.0.0.1"),
            ("127.0.0.1:8000", ":8000"),
            (":8000", "127.0.0.1:8000"),
            ("127.0.0.1:8000", "0.0.0.0:8000"),
            ("[::1]:8000", "[::]:8000"),
            ("localhost:8000", "127.0.0.1:8000"),
            ("unix:m.sock", "unix:/srv/m.sock"),
        ] {
            assert!(meet(page, bind), "{page} {bind}");
        }
        for (page, bind) in [
            ("127.0.0.1:8000", "127.0.0.1:8001"),
            ("127.0.0.1:8000", "127.0.0.2:8000"),
            ("127.0.0.1:8000", "[::1]:8000"),
            ("127.0.0.1:8000", ":0"),
            ("unix:m.sock", "unix:n.sock"),
            ("unix:m.sock", "127.0.0.1:8000"),
        ] {
            assert!(!meet(page, bind), "{page} {bind}");
        }
    }

    #[test]
    fn an_address_has_a_port_or_a_path() {
        let parsed = |text| address(text, Path::new("/srv")).map(|address| address.to_string());
        assert_eq!(parsed("127.0.0.1:9100"), Ok("http://127.0.0.1:9100".into()));
        assert_eq!(parsed(":9100"), Ok("http://[::]:9100".into()));
        assert_eq!(parsed("unix:m.sock"), Ok("unix:/srv/m.sock".into()));
        for text in ["", "127.0.0.1", "127.0.0.1:0", "localhost:x", "no-such-host.invalid:1", "fd://3", "unix:@a"] {
            assert!(parsed(text).is_err(), "{text}");
        }
    }
}
