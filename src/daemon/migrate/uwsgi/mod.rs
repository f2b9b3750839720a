//! uWSGI's options become settings. Each one is carried, or named with what it meant.

use std::collections::BTreeSet;

use super::{
    Machine,
    page::{Entry, Page},
};
use crate::{exit::Failure, options::setting};
use absent::{Fate, fate, nearest_option};
use expand::{Given, shown};

mod absent;
mod expand;
mod lines;
mod log_format;
#[cfg(test)]
mod tests;

/// As many threads as are sensible where green ones were asked for.
const GREEN_THREADS: u64 = 64;

/// The options that [`Translation::carry`] knows.
const CARRIED: &[&str] = &[
    "socket",
    "uwsgi-socket",
    "http",
    "http-socket",
    "http11-socket",
    "https",
    "https-socket",
    "http-to-https",
    "processes",
    "workers",
    "threads",
    "module",
    "wsgi",
    "wsgi-file",
    "file",
    "callable",
    "mount",
    "chdir",
    "virtualenv",
    "venv",
    "home",
    "pyhome",
    "pythonpath",
    "python-path",
    "pp",
    "env",
    "ienv",
    "harakiri",
    "buffer-size",
    "max-requests",
    "max-requests-delta",
    "max-worker-lifetime",
    "reload-on-rss",
    "reload-on-uss",
    "reload-on-pss",
    "evil-reload-on-rss",
    "worker-reload-mercy",
    "reload-mercy",
    "listen",
    "socket-timeout",
    "http-timeout",
    "http-connect-timeout",
    "http-headers-timeout",
    "http-keepalive",
    "lazy-apps",
    "lazy",
    "uid",
    "gid",
    "umask",
    "chmod-socket",
    "chmod",
    "pidfile",
    "pidfile2",
    "safe-pidfile",
    "safe-pidfile2",
    "daemonize",
    "daemonize2",
    "logto",
    "logto2",
    "logger",
    "req-logger",
    "logger-req",
    "log-format",
    "logformat",
    "log-slow",
    "disable-logging",
    "procname",
    "procname-master",
    "procname-prefix",
    "procname-prefix-spaced",
    "limit-post",
    "disable-sendfile",
    "wsgi-disable-file-wrapper",
    "enable-proxy-protocol",
    "http-enable-proxy-protocol",
    "gevent",
    "optimize",
    "plugin",
    "py-auto-reload",
    "py-autoreload",
    "python-auto-reload",
    "python-autoreload",
    "plugins",
    "need-plugin",
    "need-plugins",
];

/// The page that does what these files say.
pub fn migrate(machine: &dyn Machine, file: &str) -> Result<String, Failure> {
    translate(machine, file).map(|page| page.text())
}

fn translate(machine: &dyn Machine, file: &str) -> Result<Page, Failure> {
    let read = expand::read(machine, file)?;
    let mut translation = Translation { given: read.given, ..Translation::default() };
    translation.page.source = file.to_owned();
    translation.every_option(&read.used)?;
    translation.as_a_whole()?;
    let Translation { mut page, anyway, absent, unknown, .. } = translation;
    page.rest = vec![
        ("Decided when this file was made", read.remarks),
        ("Not carried, because ostler has nothing like it", absent),
        ("No options of uWSGI, which took them for variables", unknown),
        ("Left out, because ostler does so anyhow", anyway),
    ];
    Ok(page)
}

#[derive(Default)]
struct Translation {
    page: Page,
    given: Vec<Given>,
    anyway: Vec<String>,
    absent: Vec<String>,
    unknown: Vec<String>,
}

impl Translation {
    fn every_option(&mut self, used: &BTreeSet<String>) -> Result<(), Failure> {
        let given = self.given.clone();
        for one in &given {
            if let Some(why) = &one.unknown {
                self.absent.push(format!("{}: {why}", told(one)));
            } else if CARRIED.contains(&one.key.as_str()) {
                self.carry(one)?;
            } else {
                self.explain(one, used.contains(one.key.as_str()));
            }
        }
        Ok(())
    }

    fn explain(&mut self, given: &Given, used: bool) {
        match fate(&given.key) {
            Some(Fate::Anyway(why)) => self.anyway.push(format!("{}: {why}", told(given))),
            Some(Fate::Absent(_)) if is_off(&given.value) => self.anyway.push(format!("{}: it was off", told(given))),
            Some(Fate::Absent(why)) => {
                if ["static-map", "static-map2", "check-static", "static-check"].contains(&given.key.as_str()) {
                    return self.first(static_files(given));
                }
                self.absent.push(format!("{}: {why}", told(given)));
            }
            None => {
                let why = match nearest_option(&given.key) {
                    _ if used => "its value stands where it was named".to_owned(),
                    Some(near) => format!("it did nothing; the nearest option is {near}"),
                    None => "it did nothing".to_owned(),
                };
                self.unknown.push(format!("{}: {why}", told(given)));
            }
        }
    }

    fn carry(&mut self, given: &Given) -> Result<(), Failure> {
        let text = given.value.as_str();
        match given.key.as_str() {
            "socket" | "uwsgi-socket" => self.socket(given),
            "http" | "http-socket" | "http11-socket" => self.in_the_clear(given),
            "https" | "https-socket" => self.tls(given),
            "http-to-https" => {
                self.in_the_clear(given);
                self.set(given, "redirect-https", "on");
            }
            "processes" | "workers" => self.number(given, "workers", 1)?,
            "threads" => self.number(given, "threads", 1)?,
            "gevent" => {
                let wanted = number(given)?;
                self.set(given, "threads", wanted.clamp(1, GREEN_THREADS).to_string());
                self.note(
                    "threads",
                    "gevent's many requests are threads here; take monkey patching out of the application.",
                );
            }
            "module" | "wsgi" | "wsgi-file" | "file" | "callable" | "mount" => {} // All together make the application.
            "chdir" => self.set(given, "chdir", text),
            "virtualenv" | "venv" | "home" | "pyhome" => self.set(given, "python", text),
            "pythonpath" | "python-path" | "pp" => {
                self.add(given, "pythonpath", text.to_owned());
                if text.contains(['*', '?']) {
                    self.note("pythonpath", "uWSGI expanded this pattern; name the directories.");
                }
            }
            "env" | "ienv" => self.variable(given),
            "optimize" => self.pair(given, format!("PYTHONOPTIMIZE={text}")),
            "harakiri" => self.number(given, "timeout", 0)?,
            "buffer-size" => self.buffer(given)?,
            "max-requests" => self.number(given, "max-requests", 0)?,
            "max-requests-delta" => {
                let workers = self.last("processes").or_else(|| self.last("workers")).map_or(Ok(1), number)?;
                self.set(given, "max-requests-jitter", number(given)?.saturating_mul(workers).to_string());
                self.note(
                    "max-requests-jitter",
                    "uWSGI added the delta times the number of the worker; here it is up to this many, at random.",
                );
            }
            "max-worker-lifetime" => self.number(given, "max-age", 0)?,
            "reload-on-rss" | "reload-on-uss" | "reload-on-pss" | "evil-reload-on-rss" => {
                self.set(given, "max-memory", format!("{}M", number(given)?));
                self.note("max-memory", "The worker's private memory is measured, without what it shares with others.");
            }
            "worker-reload-mercy" => self.number(given, "graceful-timeout", 0)?,
            "reload-mercy" if self.last("worker-reload-mercy").is_none() => {
                self.number(given, "graceful-timeout", 0)?
            }
            "listen" => self.number(given, "backlog", 1)?,
            "socket-timeout" if self.last("http-timeout").is_some() => {
                self.aside(given, "http-timeout counts for clients")
            }
            "socket-timeout" | "http-timeout" => {
                self.number(given, "body-timeout", 1)?;
                self.number(given, "write-timeout", 1)?;
                self.note(
                    "body-timeout",
                    "How long a client may pause, not how long a request may take: that is timeout.",
                );
            }
            "http-connect-timeout" => self.aside(given, "there is no router before the workers"),
            "http-headers-timeout" => self.number(given, "header-timeout", 0)?,
            "http-keepalive" if number(given).is_ok_and(|seconds| seconds > 1) => {
                self.number(given, "keep-alive", 0)?
            }
            "http-keepalive" => self.aside(given, "connections are kept, for 75 s (keep-alive)"),
            "lazy-apps" | "lazy" if !is_off(text) => {
                self.set(given, "preload", "off");
                self.note("preload", "Without this line the application is imported once and shared, if what it leaves behind allows that.");
            }
            "uid" => self.set(given, "user", text),
            "gid" => self.set(given, "group", text),
            "umask" => self.set(given, "umask", text),
            "chmod-socket" | "chmod" => self.mode(given)?,
            "pidfile" | "pidfile2" | "safe-pidfile" | "safe-pidfile2" => self.set(given, "pid", text),
            "daemonize" | "daemonize2" => {
                self.set(given, "daemon", "on");
                self.log(given, "error-logfile", text);
            }
            "logto" | "logto2" => self.log(given, "error-logfile", text),
            "logger" | "req-logger" | "logger-req" => self.logger(given),
            "log-format" | "logformat" => self.format(given),
            "log-slow" => {
                self.set(given, "slow-request", format!("{}ms", number(given)?));
                self.note("slow-request", "The stacks of such a request are logged while it runs.");
            }
            "procname" | "procname-master" | "procname-prefix" | "procname-prefix-spaced" => self.name(given),
            "limit-post" => self.number(given, "limit-request-body", 0)?,
            "disable-sendfile" | "wsgi-disable-file-wrapper" if !is_off(text) => self.set(given, "sendfile", "off"),
            "enable-proxy-protocol" | "http-enable-proxy-protocol" if !is_off(text) => {
                self.set(given, "proxy-protocol", "auto");
                self.note("proxy-protocol", "From 127.0.0.1 and ::1 only, unless proxy-allow-from names others.");
            }
            "py-auto-reload" | "py-autoreload" | "python-auto-reload" | "python-autoreload" if !is_off(text) => {
                self.set(given, "reload", "on");
                self.note("reload", "For development: it watches the modules that the site has imported.");
            }
            "plugin" | "plugins" | "need-plugin" | "need-plugins" => self.plugins(given),
            "disable-logging" if !is_off(text) => {
                self.aside(given, "there is no access log unless access-logfile names one")
            }
            _ => self.aside(given, "it says what holds anyhow"),
        }
        Ok(())
    }

    /// What depends on several options, or on none.
    fn as_a_whole(&mut self) -> Result<(), Failure> {
        self.application()?;
        self.request_log();
        if !self.page.settings.contains_key("bind") {
            self.first("No socket is named: ostler listens on 127.0.0.1:8000 unless bind says otherwise.");
        }
        if !self.page.settings.contains_key("workers") {
            self.preset(
                "workers",
                "1",
                "uWSGI had one process, because no processes were named. Without this line there are as many as CPUs.",
            );
        }
        if !self.page.settings.contains_key("timeout") {
            self.preset(
                "timeout",
                "0",
                "Without harakiri a request could take any time. Without this line it has 30 s.",
            );
        }
        if self.last("chdir").is_some()
            && self.page.settings.iter().any(|(name, entry)| name.ends_with("logfile") && is_relative(entry))
        {
            self.first(
                "Relative paths of logs counted from the directory of the start in uWSGI; here they count from chdir.",
            );
        }
        let on = |translation: &Translation, key| translation.last(key).is_some_and(|given| !is_off(&given.value));
        if !on(self, "master") {
            self.first("There was no master: nobody replaced a process that died. ostler always has one.");
        }
        if !on(self, "die-on-term") {
            self.first("TERM reloaded uWSGI, because die-on-term is not set. It stops ostler; HUP, or `ostler reload`, reloads it.");
        }
        self.first("A reload ended uWSGI's workers first. ostler ends them when the new ones are ready, and keeps them if the new code does not come up.");
        Ok(())
    }

    /// Where there is a certificate, an address without a scheme would speak TLS.
    fn in_the_clear(&mut self, given: &Given) {
        let has_certificate = self.last("https").or_else(|| self.last("https-socket")).is_some();
        let scheme = if has_certificate { "http://" } else { "" };
        self.add(given, "bind", format!("{scheme}{}", address(&given.value)));
    }

    /// `ADDRESS,CERTIFICATE,KEY[,CIPHERS[,AUTHORITIES]]`
    fn tls(&mut self, given: &Given) {
        let parts: Vec<&str> = given.value.split(',').collect();
        let [at, certificate, key, rest @ ..] = &parts[..] else {
            return self.absent.push(format!("{}: expected an address, a certificate and a key", told(given)));
        };
        self.add(given, "bind", format!("https://{}", address(at)));
        self.add(given, "certfile", (*certificate).to_owned());
        self.add(given, "keyfile", (*key).to_owned());
        if let [ciphers, ..] = rest
            && !ciphers.is_empty()
        {
            self.first(format!(
                "The list of ciphers ({ciphers}) is left out: there is no weak one. `ciphers` can name suites."
            ));
        }
        if let [_, authorities, ..] = rest {
            // With a mark in front a client had to show one.
            self.set(given, "ca-certs", authorities.trim_start_matches('!'));
            self.set(given, "cert-reqs", if authorities.starts_with('!') { "required" } else { "optional" });
            self.note("cert-reqs", "uWSGI asked clients for certificates, and with a ! in front it insisted.");
        }
    }

    fn socket(&mut self, given: &Given) {
        let protocol = self.last("protocol").or_else(|| self.last("socket-protocol")).map(|given| given.value.clone());
        let is_http = given.key == "socket" && protocol.is_some_and(|name| name.starts_with("http"));
        if is_http {
            return self.add(given, "bind", address(&given.value));
        }
        let address = address(&given.value);
        self.first("`socket` speaks the uwsgi protocol, and so does uwsgi:// in bind: nginx keeps uwsgi_pass.");
        if !["unix:", "127.", "localhost:", "[::1]:", "fd://"].iter().any(|near| address.starts_with(near)) {
            self.first(
                "uWSGI let everybody who could connect speak the uwsgi protocol. Here a web server on another machine has to be named \
                 by uwsgi-allow-from.",
            );
        }
        self.preset("server-header", "", "uWSGI sent no such field. With this line nginx sends its own.");
        self.add(given, "bind", format!("uwsgi://{address}"));
    }

    fn variable(&mut self, given: &Given) {
        match given.value.contains('=') && !given.value.starts_with('=') {
            true => self.pair(given, given.value.clone()),
            false => self.absent.push(format!("{}: expected KEY=VALUE", told(given))),
        }
    }

    fn pair(&mut self, given: &Given, pair: String) {
        let entry = self.page.settings.entry(setting("env").name).or_default();
        entry.texts.push(pair);
        // The value may be a secret, and stands below anyhow.
        let comment = format!("{}: {}", given.place, given.key);
        if !entry.comments.contains(&comment) {
            entry.comments.push(comment);
        }
    }

    /// uWSGI had one bound for the whole head.
    fn buffer(&mut self, given: &Given) -> Result<(), Failure> {
        let size = number(given)?.clamp(1024, 16 << 20);
        self.set(given, "limit-request-head", size.to_string());
        for name in ["limit-request-line", "limit-request-field-size"] {
            self.preset(name, "0", "As in uWSGI, only the whole head has a bound.");
        }
        Ok(())
    }

    /// A socket's mode is what the mask leaves of 777, and the mask is the application's as well.
    fn mode(&mut self, given: &Given) -> Result<(), Failure> {
        let mode = match given.value.as_str() {
            "" | "1" | "true" => "666",
            text => text,
        };
        if mode.len() != 3 || !mode.bytes().all(|digit| (b'0'..=b'7').contains(&digit)) {
            return Err(refuse(given, "expected three octal digits, such as 660"));
        }
        let masked = |digit: char| match digit {
            '6' | '7' => '0',
            '4' | '5' => '2',
            '2' | '3' => '0',
            _ => '7',
        };
        let mask: String = mode.chars().map(masked).collect();
        if mask == "000" {
            self.aside(given, "everybody may connect to a socket, unless umask says otherwise");
        } else if self.last("umask").is_some() {
            self.aside(given, "umask makes the mode of sockets, too");
        } else {
            self.set(given, "umask", mask);
            self.note("umask", "It holds for the files of the application as well.");
        }
        Ok(())
    }

    fn log(&mut self, given: &Given, name: &'static str, path: &str) {
        match path.split_once(':').filter(|(scheme, _)| !scheme.contains('/')) {
            None if path != "/dev/null" || name == "error-logfile" => self.set(given, name, path),
            None => self.aside(given, "there is no access log unless access-logfile names one"),
            Some(_) => self.absent.push(format!(
                "{}: ostler writes to files or standard error; a program of the system sends them on",
                told(given)
            )),
        }
    }

    /// `logger = [name] file:/path`
    fn logger(&mut self, given: &Given) {
        let name = if given.key == "logger" { "error-logfile" } else { "access-logfile" };
        let target = given.value.rsplit(' ').next().unwrap_or_default();
        match target.split_once(':').unwrap_or((target, "")) {
            ("file", path) => self.log(given, name, path),
            ("stdio", _) => self.set(given, name, "-"),
            _ => self.explain(given, true),
        }
    }

    /// uWSGI logged every request beside its own lines unless told otherwise.
    fn request_log(&mut self) {
        let off = self.last("disable-logging").is_some_and(|given| !is_off(&given.value));
        if off || self.page.settings.contains_key("access-logfile") {
            return;
        }
        let file = self.page.settings.get("error-logfile").and_then(|entry| entry.texts.first()).cloned();
        let file = file.unwrap_or_else(|| "-".into());
        self.preset(
            "access-logfile",
            &file,
            "uWSGI logged every request among its own lines. Without this line there is no access log.",
        );
    }

    fn format(&mut self, given: &Given) {
        let (format, missing) = log_format::translated(&given.value);
        self.set(given, "access-logformat", format);
        if !missing.is_empty() {
            self.note("access-logformat", &format!("There is no {}; - stands in its place.", missing.join(", ")));
        }
    }

    fn name(&mut self, given: &Given) {
        let name = given.value.trim().trim_end_matches([':', '-', ' ']);
        match name.is_empty() || name.starts_with('.') || name.contains('/') {
            true => self.absent.push(format!("{}: a name has no slashes and does not begin with a dot", told(given))),
            false => {
                self.set(given, "name", name);
                self.note("name", "ps shows `ostler: worker g1.0 [NAME]`; the commands find the site by --name.");
            }
        }
    }

    fn plugins(&mut self, given: &Given) {
        let foreign: Vec<&str> = given
            .value
            .split(',')
            .map(str::trim)
            .filter(|name| {
                let own = [
                    "http",
                    "logfile",
                    "router_basicauth",
                    "stats_pusher_file",
                    "ping",
                    "corerouter",
                    "cheaper_busyness",
                ];
                !name.is_empty() && !name.starts_with("python") && !own.contains(name)
            })
            .collect();
        match foreign.is_empty() {
            true => self.anyway.push(format!("{}: Python and HTTP need no plugin", told(given))),
            false => self.absent.push(format!(
                "{}: ostler has no plugins; what {} did is missing",
                told(given),
                foreign.join(", ")
            )),
        }
    }

    fn application(&mut self) -> Result<(), Failure> {
        let callable = self.last("callable").map(|given| given.value.clone());
        let behind = |target: &str| {
            if target.contains(':') {
                target.to_owned()
            } else {
                format!("{target}:{}", callable.as_deref().unwrap_or("application"))
            }
        };
        let given = self.given.clone();
        let known = |one: &&Given| {
            one.unknown.is_none() && ["module", "wsgi", "wsgi-file", "file", "mount"].contains(&one.key.as_str())
        };
        let mut apps = given.iter().filter(known);
        let Some(first) = apps.next() else {
            self.first("No application is named: say app = \"module:attribute\", or name it on the command line.");
            if let Some(given) = self.last("callable").cloned() {
                self.absent.push(format!("{}: there is no module that it would be in", told(&given)));
            }
            return Ok(());
        };
        let (path, target) = match first.value.split_once('=').filter(|_| first.key == "mount") {
            Some((path, target)) => (path, target),
            None => ("", first.value.as_str()),
        };
        self.set(first, "app", behind(target));
        if let Some(given) = self.last("callable").cloned() {
            self.note("app", &told(&given));
        }
        let file = target.split(':').next().unwrap_or_default();
        if (first.key.ends_with("file") || file.contains('/')) && !file.ends_with(".py") {
            self.note(
                "app",
                &format!("ostler takes a file by a name that ends in .py: ln -s {file} {}.py", file.replace('.', "_")),
            );
        }
        let path = path.find('/').map_or("", |at| &path[at..]).trim_end_matches('/');
        if !path.is_empty() {
            self.set(first, "root-path", path);
            self.note("root-path", "Paths outside of it get 404. The proxy leaves it in the path.");
        }
        for other in apps {
            self.absent.push(format!(
                "{}: ostler serves one application; start another ostler for this one, on an address of its own",
                told(other)
            ));
        }
        Ok(())
    }

    fn last(&self, key: &str) -> Option<&Given> {
        self.given.iter().rev().find(|given| given.key == key && given.unknown.is_none())
    }

    fn number(&mut self, given: &Given, name: &'static str, least: u64) -> Result<(), Failure> {
        let number = number(given)?;
        if number < least {
            return Err(refuse(given, &format!("expected at least {least}")));
        }
        self.set(given, name, number.to_string());
        Ok(())
    }

    fn set(&mut self, given: &Given, name: &'static str, text: impl Into<String>) {
        let entry = self.page.settings.entry(setting(name).name).or_default();
        entry.texts = vec![text.into()];
        entry.comments.push(told(given));
    }

    fn add(&mut self, given: &Given, name: &'static str, text: String) {
        let entry = self.page.settings.entry(setting(name).name).or_default();
        entry.comments.push(told(given));
        if !entry.texts.contains(&text) {
            entry.texts.push(text);
        }
    }

    fn preset(&mut self, name: &'static str, text: &str, why: &str) {
        let preset = Entry { texts: vec![text.into()], comments: vec![why.into()] };
        self.page.settings.entry(setting(name).name).or_insert(preset);
    }

    fn note(&mut self, name: &'static str, text: &str) {
        let comments = &mut self.page.settings.entry(setting(name).name).or_default().comments;
        if !comments.iter().any(|known| known == text) {
            comments.push(text.into());
        }
    }

    fn aside(&mut self, given: &Given, why: &str) {
        self.anyway.push(format!("{}: {why}", told(given)));
    }

    fn first(&mut self, text: impl AsRef<str>) {
        self.page.first.push(text.as_ref().into());
    }
}

fn told(given: &Given) -> String {
    format!("{}: {}", given.place, shown(&given.key, &given.value))
}

fn refuse(given: &Given, why: &str) -> Failure {
    Failure::usage(format!("{}: {}: {:?}: {why}", given.place, given.key, given.value))
}

fn number(given: &Given) -> Result<u64, Failure> {
    given.value.parse().map_err(|_| refuse(given, "expected a whole number"))
}

fn is_off(value: &str) -> bool {
    ["false", "off", "no", "0"].contains(&value.to_ascii_lowercase().as_str())
}

fn is_relative(entry: &Entry) -> bool {
    entry.texts.iter().any(|text| text != "-" && !text.starts_with('/'))
}

/// A socket without a port is a file.
fn address(text: &str) -> String {
    let text = text.split(',').next().unwrap_or_default();
    let text = text.strip_prefix('*').filter(|rest| rest.starts_with(':')).unwrap_or(text);
    match text.strip_prefix("unix:").unwrap_or(text) {
        text if text.starts_with("fd://") => text.into(),
        path if path.starts_with(['@', '/']) || !path.contains(':') => format!("unix:{path}"),
        text => text.into(),
    }
}

fn static_files(given: &Given) -> String {
    let (path, directory) = given.value.split_once('=').unwrap_or(("/", &given.value));
    let block = match given.key.as_str() {
        "static-map2" => {
            format!("location {path} {{ root {directory}; }}")
        }
        "static-map" => format!("location {path} {{ alias {directory}; }}"),
        _ => format!("root {directory}; try_files $uri @site;"),
    };
    let whole = if given.key == "static-map2" {
        " static-map2 looks for the whole path, mount point and all, in the directory."
    } else {
        ""
    };
    let here = match given.key.as_str() {
        "static-map" => format!("--static {path}={directory} does that here."),
        _ => "--static maps a path to a directory, and nothing else, here.".into(),
    };
    format!("{}: {here}{whole} In nginx:\n    {block}", told(given))
}
