//! The form of the error log, and the syslog that has both logs.

use std::{
    net::{SocketAddr, ToSocketAddrs},
    path::Path,
};

use nix::unistd::geteuid;
use ostler_wire::{LogForm, Logging, Syslog, SyslogTo, log};

use super::{name, parse};
use crate::{exit::Failure, options::Options, sys::names};

/// RFC 5424 §6.2.1, by the names of syslog.conf(5).
const FACILITIES: [(&str, u8); 21] = [
    ("kern", 0),
    ("user", 1),
    ("mail", 2),
    ("daemon", 3),
    ("auth", 4),
    ("security", 4),
    ("syslog", 5),
    ("lpr", 6),
    ("news", 7),
    ("uucp", 8),
    ("cron", 9),
    ("authpriv", 10),
    ("ftp", 11),
    ("local0", 16),
    ("local1", 17),
    ("local2", 18),
    ("local3", 19),
    ("local4", 20),
    ("local5", 21),
    ("local6", 22),
    ("local7", 23),
];
/// syslog's own port.
const PORT: u16 = 514;

/// Where a syslog is, before its name is looked up.
#[derive(Debug, PartialEq, Eq)]
enum Place {
    Found(SyslogTo),
    Named { tcp: bool, host: String, port: u16 },
}

/// `--log-format`, `--log-syslog` and what goes with it.
pub fn logging(options: &Options, chdir: &Path) -> Result<Logging, Failure> {
    let format = options.choice("log-format")?;
    let form = match format.as_str() {
        "json" => LogForm::Json,
        "journald" => LogForm::Journald,
        _ => LogForm::Text,
    };
    if form == LogForm::Journald && !log::journal_is_there() {
        return Err(options.failure("log-format", &format, "there is no journal on this machine"));
    }
    let place = options.value("log-syslog-to", |text| place(text, chdir))?;
    let facility = options.value("log-syslog-facility", facility)?;
    let named = options.value("name", name)?;
    let prefix = options.optional("log-syslog-prefix", parse::line)?.filter(|text| !text.is_empty()).unwrap_or(named);
    let prefix = if options.gunicorn.is_some() { format!("gunicorn.{prefix}") } else { prefix };
    let (only, both) = (format == "syslog", options.switch("log-syslog")?);
    let access = both && !options.switch("disable-redirect-access-to-syslog")?;
    if !only && !both {
        return Ok(Logging { form, syslog: None });
    }
    let to = found(place).map_err(|why| {
        let given = options.given("log-syslog-to").texts.concat();
        options.failure("log-syslog-to", &given, &why)
    })?;
    Ok(Logging { form, syslog: Some(Syslog { to, facility, prefix: prefix.replace(':', "."), only, access }) })
}

fn facility(text: &str) -> Result<u8, String> {
    let known = FACILITIES.iter().find(|(name, _)| text.eq_ignore_ascii_case(name));
    known.map(|(_, number)| *number).ok_or_else(|| "expected a facility such as user, daemon or local0".into())
}

fn place(text: &str, chdir: &Path) -> Result<Place, String> {
    let expected = || "expected unix:///path, udp://host:port or tcp://host:port".to_owned();
    if let Some(path) = text.strip_prefix("unix:") {
        let path = path.strip_prefix("//").unwrap_or(path);
        let (path, stream) = match path.rsplit_once('#') {
            Some((path, "stream")) => (path, true),
            Some((path, "dgram")) => (path, false),
            Some(_) => return Err("expected #dgram or #stream behind the path".into()),
            None => (path, false),
        };
        let path = super::path(chdir, path).map_err(|_| expected())?;
        trusted(&path)?;
        return Ok(Place::Found(SyslogTo::Unix { path, stream }));
    }
    let (tcp, rest) = match (text.strip_prefix("udp://"), text.strip_prefix("tcp://")) {
        (Some(rest), _) => (false, rest),
        (_, Some(rest)) => (true, rest),
        _ => return Err(expected()),
    };
    match super::Address::parse_with_port(rest, chdir, PORT) {
        Ok(super::Address::Tcp(host, port)) if !host.is_empty() && port > 0 => Ok(Place::Named { tcp, host, port }),
        Ok(_) => Err(expected()),
        Err(_) if rest.is_empty() => Err(expected()),
        Err(why) => Err(why),
    }
}

/// Each process goes to its socket by the path, again and again. Root goes nowhere that somebody else could lead it.
fn trusted(path: &Path) -> Result<(), String> {
    if !geteuid().is_root() {
        return Ok(());
    }
    // What is missing may be made by whoever can write in what is there of its way.
    let found = path.ancestors().find_map(|there| names::Place::anywhere(there).ok());
    match found.is_some_and(|found| found.is_foreign()) {
        true => Err("somebody else can write in its directory, and root follows no name there".into()),
        false => Ok(()),
    }
}

/// At a start this waits; a reload has a child read the settings.
fn found(place: Place) -> Result<SyslogTo, String> {
    let (tcp, host, port) = match place {
        Place::Found(to) => return Ok(to),
        Place::Named { tcp, host, port } => (tcp, host, port),
    };
    let all: Vec<SocketAddr> = (host.as_str(), port).to_socket_addrs().map(Iterator::collect).unwrap_or_default();
    let first = all.iter().find(|address| address.is_ipv4()).or(all.first());
    let address = *first.ok_or("there is no such host")?;
    Ok(if tcp { SyslogTo::Tcp(address) } else { SyslogTo::Udp(address) })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn places_as_gunicorn_reads_them() {
        let unix = |path: &str, stream| Ok(Place::Found(SyslogTo::Unix { path: path.into(), stream }));
        let named = |tcp, host: &str, port| Ok(Place::Named { tcp, host: host.into(), port });
        for (text, expected) in [
            ("unix:///dev/log", unix("/dev/log", false)),
            ("unix:///dev/log#dgram", unix("/dev/log", false)),
            ("unix://log#stream", unix("/srv/log", true)),
            ("udp://localhost", named(false, "localhost", 514)),
            ("udp://[::1]:5140", named(false, "::1", 5140)),
            ("tcp://logs.example:601", named(true, "logs.example", 601)),
        ] {
            assert_eq!(place(text, Path::new("/srv")), expected, "{text}");
        }
        for text in ["", "localhost:514", "udp://", "tcp://:514", "udp://a:0", "udp://a:x", "unix://", "unix:///a#b"] {
            assert!(place(text, Path::new("/srv")).is_err(), "{text}");
        }
    }

    #[test]
    fn a_host_is_looked_up() {
        assert!(found(Place::Named { tcp: true, host: "no-such-host.invalid".into(), port: 1 }).is_err());
        let to = found(Place::Named { tcp: false, host: "127.0.0.1".into(), port: 514 }).unwrap();
        assert_eq!(to.to_string(), "udp://127.0.0.1:514");
    }

    #[test]
    fn facilities_have_their_names() {
        assert_eq!(["user", "LOCAL7"].map(facility), [Ok(1), Ok(23)]);
        assert!(facility("local8").is_err());
    }
}
