//! nginx, HAProxy or Caddy in front of a site.

use std::{
    io::{Read, Write},
    net::TcpListener,
    os::unix::net::UnixStream,
    path::{Path, PathBuf},
    process::Command,
    thread,
};

use crate::{Client, Folder, Process, repository};

/// A proxy that runs.
pub struct Proxy {
    process: Process,
    folder: Folder,
    address: String,
}

/// What nginx needs around the servers that a site describes, in a folder of its own.
const NGINX: &str = "daemon off; master_process off; pid nginx.pid; error_log stderr; events {}
http {
access_log off; client_body_temp_path t; proxy_temp_path t; fastcgi_temp_path t; uwsgi_temp_path t; scgi_temp_path t;
SERVERS
}
";

/// As nginx ships it.
const NGINX_PARAMETERS: &str = "/etc/nginx/uwsgi_params";

impl Proxy {
    /// Starts nginx as examples/deploy/nginx.conf has it, before the sites at these addresses. None, with a note in the test's
    /// output, if it is not installed. `changes`: other texts in the place of some of the example's.
    pub fn nginx(sites: &[&str], changes: &[(&str, &str)]) -> Option<Proxy> {
        let server = |site: &&str| format!("server {} fail_timeout=1s;", site.trim_start_matches("http://"));
        let servers = sites.iter().map(server).collect::<Vec<_>>().join("\n");
        let without_tls = [
            ("server unix:/run/ostler-site.sock fail_timeout=1s;", servers.as_str()),
            ("listen 443 ssl;", "listen 127.0.0.1:PORT;"),
            ("ssl_certificate /etc/ssl/site.pem;", ""),
            ("ssl_certificate_key /etc/ssl/site.key;", ""),
        ];
        let text = NGINX.replace("SERVERS", &example("nginx.conf", &[&without_tls, changes].concat()));
        Proxy::start("nginx", &text, &["-p", ".", "-c"])
    }

    /// Starts nginx with `uwsgi_pass` and its own uwsgi_params before a site. `more`: further directives.
    pub fn nginx_with_uwsgi(site: &str, more: &str) -> Option<Proxy> {
        let server = format!(
            "server {{ listen 127.0.0.1:PORT; client_max_body_size 100m; include {NGINX_PARAMETERS};\n{more}\n\
             location / {{ uwsgi_pass {}; }} }}",
            site.trim_start_matches("uwsgi://")
        );
        Proxy::start("nginx", &NGINX.replace("SERVERS", &server), &["-p", ".", "-c"])
    }

    /// Starts HAProxy as examples/deploy/haproxy.cfg has it, likewise. Of the servers in the example as many stay as there are sites.
    pub fn haproxy(sites: &[&str], changes: &[(&str, &str)]) -> Option<Proxy> {
        let without_tls = [
            ("bind :443 ssl crt /etc/ssl/site.pem alpn h2,http/1.1", "bind 127.0.0.1:PORT"),
            ("/run/haproxy/admin.sock", "FOLDER/admin.sock"),
        ];
        let mut text = example("haproxy.cfg", &[&without_tls, changes].concat());
        for (index, name) in ["one", "two", "three"].into_iter().enumerate() {
            let line =
                text.lines().find(|line| line.contains(&format!("server {name} "))).expect("it is there").to_owned();
            let address = sites.get(index).map(|site| site.trim_start_matches("http://").replace("unix:", "unix@"));
            let options = line.split_once(":8000").expect("a port ends the address").1;
            let server = address.map(|address| format!("    server {name} {address}{options}"));
            text = text.replace(&line, &server.unwrap_or_default());
        }
        Proxy::start("haproxy", &text, &["-db", "-f"])
    }

    /// Starts Caddy as examples/deploy/Caddyfile has it, likewise.
    pub fn caddy(sites: &[&str], changes: &[(&str, &str)]) -> Option<Proxy> {
        let address = |site: &&str| site.trim_start_matches("http://").replace("unix:", "unix/");
        let addresses = sites.iter().map(address).collect::<Vec<_>>().join(" ");
        let without_tls = [
            ("site.example {", "{\n\tadmin off\n}\nhttp://:PORT {\n\tbind 127.0.0.1"),
            ("reverse_proxy unix//run/ostler-site.sock", &format!("reverse_proxy {addresses}")),
        ];
        let text = example("Caddyfile", &[&without_tls, changes].concat());
        Proxy::start("caddy", &text, &["run", "--adapter", "caddyfile", "--config"])
    }

    fn start(program: &str, configuration: &str, options: &[&str]) -> Option<Proxy> {
        let program = installed(program)?;
        let port = TcpListener::bind("127.0.0.1:0").and_then(|free| free.local_addr()).expect("a free port").port();
        let folder = Folder::new();
        let text = configuration.replace("PORT", &port.to_string());
        let file = folder.write("conf", &text.replace("FOLDER", &folder.path().display().to_string()));
        let mut command = Command::new(program);
        command.args(options).arg(file).current_dir(folder.path()).env("HOME", folder.path());
        let mut process = Process::start(&mut command, &folder.path().display().to_string());
        let address = format!("127.0.0.1:{port}");
        while Client::try_connect(&address).is_err() {
            assert!(!process.has_ended(), "the proxy does not run with\n{text}\n{}", process.log.whole());
            thread::yield_now();
        }
        Some(Proxy { process, folder, address })
    }

    /// Where it listens.
    pub fn address(&self) -> &str {
        &self.address
    }

    /// What HAProxy answers to a command on its socket, which the configuration calls FOLDER/admin.sock.
    pub fn command(&self, words: &str) -> String {
        let mut socket = UnixStream::connect(self.folder.join("admin.sock")).expect("HAProxy listens there");
        socket.write_all(format!("{words}\n").as_bytes()).expect("HAProxy reads a line");
        let mut answer = String::new();
        socket.read_to_string(&mut answer).expect("HAProxy answers, and closes");
        answer
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        if thread::panicking() {
            let log = self.process.log.text();
            let lines: Vec<&str> = log.lines().take(50).collect();
            eprintln!("--- the first lines of the proxy's log ---\n{}", lines.join("\n"));
        }
    }
}

/// Where a program is; none, with a note in the test's output, if it is not installed.
pub fn installed(program: &str) -> Option<PathBuf> {
    let places = ["/usr/sbin", "/usr/bin", "/usr/local/sbin", "/usr/local/bin", "/sbin", "/bin"];
    let found = places.map(|place| Path::new(place).join(program)).into_iter().find(|path| path.exists());
    if found.is_none() {
        eprintln!("NOT TESTED: {program} is not installed");
    }
    found
}

/// A file of `examples/deploy` with other texts in the place of some of its own, each of which must be there.
pub fn example(name: &str, changes: &[(&str, &str)]) -> String {
    let path = repository("examples/deploy").join(name);
    let text = std::fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
    changes.iter().fold(text, |text, (from, to)| {
        assert!(text.contains(from), "{name} does not say {from:?}");
        text.replace(from, to)
    })
}
