//! A proxy is trusted for the fields that it sets, not for those that it passes on. Tested behind nginx and HAProxy with usual settings.

use std::{net::TcpListener, path::Path, process::Command, thread};

use ostler_tests::{Client, Folder, Process, Rig, Site};
use serde_json::Value;

const SOURCE: &str = "
import json
def app(environ, start_response):
    start_response('200 OK', [('Content-Type', 'application/json')])
    return [json.dumps({key: value for key, value in environ.items() if isinstance(value, str)}).encode()]
";

/// What a client says of itself, in every field that there is.
const LIES: &str = "X-Forwarded-For: 203.0.113.9\r\nX-Forwarded-Proto: https\r\nX-Forwarded-Host: evil.example\r\n\
    X-Forwarded-Prefix: /\\evil.example\r\nX-Forwarded-Port: zz\r\nX-Forwarded-Ssl: on\r\nX-Forwarded-Protocol: ssl\r\n\
    Forwarded: for=192.168.1.5;host=evil.example, \"\r\n";

/// nginx's documentation and distributions' proxy_params set these.
const NGINX: &str = "daemon off; master_process off; pid nginx.pid; error_log stderr; events {}
http {
  access_log off; client_body_temp_path t; proxy_temp_path t; fastcgi_temp_path t; uwsgi_temp_path t; scgi_temp_path t;
  server {
    listen 127.0.0.1:PORT;
    location / {
      proxy_pass http://unix:SOCKET;
      proxy_set_header Host $http_host;
      proxy_set_header X-Forwarded-For $proxy_add_x_forwarded_for;
      proxy_set_header X-Forwarded-Proto $scheme;
    }
  }
}
";

const HAPROXY: &str = "defaults
  mode http
  timeout connect 60s
  timeout client 60s
  timeout server 60s
  option forwardfor
frontend site
  bind 127.0.0.1:PORT
  http-request set-header X-Forwarded-Proto http
  default_backend workers
backend workers
  option httpchk GET /
  server one unix@SOCKET check inter 100 PROXY
";

/// A proxy that runs in front of a site.
struct Proxy {
    _process: Process,
    _folder: Folder,
    address: String,
}

impl Proxy {
    /// None, with a note in the test's output, if it is not installed.
    fn start(program: &str, configuration: &str, site: &Site, options: &[&str]) -> Option<Proxy> {
        let places = ["/usr/sbin", "/usr/bin", "/usr/local/sbin", "/usr/local/bin"];
        let Some(path) = places.map(|place| Path::new(place).join(program)).into_iter().find(|path| path.exists())
        else {
            eprintln!("NOT TESTED: {program} is not installed");
            return None;
        };
        let port = TcpListener::bind("127.0.0.1:0").and_then(|free| free.local_addr()).expect("a free port").port();
        let socket = site.address().trim_start_matches("unix:");
        let text = configuration.replace("PORT", &port.to_string()).replace("SOCKET", socket);
        let folder = Folder::new();
        std::fs::write(folder.join("conf"), text).expect("a private folder is writable");
        let mut command = Command::new(path);
        command.args(options).arg(folder.join("conf")).current_dir(folder.path());
        if program == "nginx" {
            command.arg("-p").arg(folder.path());
        }
        let process = Process::start(&mut command, &folder.path().display().to_string());
        let address = format!("127.0.0.1:{port}");
        while Client::try_connect(&address).is_err() {
            thread::yield_now();
        }
        Some(Proxy { _process: process, _folder: folder, address })
    }

    fn environ(&self, fields: &str) -> Value {
        let mut client = Client::connect(&self.address);
        // A proxy with health checks may not know yet that the site is up.
        loop {
            let answer = client.send(format!("GET /page HTTP/1.1\r\nHost: site.example\r\n{fields}\r\n")).answer();
            if answer.status == 200 {
                return serde_json::from_slice(&answer.body).expect("the application sends JSON");
            }
            assert_eq!(answer.status, 503, "{}", String::from_utf8_lossy(&answer.body));
            client = Client::connect(&self.address);
        }
    }
}

/// Trusts only peers on the Unix socket: the proxy, but not a client at 127.0.0.1.
fn site(options: &[&str]) -> Site {
    let rig = Rig::with_source(SOURCE).option("--forwarded-allow-ips", "unix:");
    let socket = format!("unix:{}", rig.folder().join("site.sock").display());
    options.iter().fold(rig.bind(&socket), |rig, option| rig.flag(option)).start()
}

fn look(proxy: &Proxy) {
    let environ = proxy.environ(LIES);
    for (key, expected) in [
        ("REMOTE_ADDR", "127.0.0.1"),
        ("HTTP_HOST", "site.example"),
        ("SCRIPT_NAME", ""),
        ("PATH_INFO", "/page"),
        ("wsgi.url_scheme", "http"),
        ("SERVER_PORT", "80"),
    ] {
        assert_eq!(environ[key], expected, "{key}");
    }
    for fields in ["", "X-Forwarded-For: \r\nX-Forwarded-Host: \r\n", "X-Forwarded-For: unknown, ,\r\n"] {
        assert_eq!(proxy.environ(fields)["REMOTE_ADDR"], "127.0.0.1", "{fields}");
    }
}

#[test]
fn behind_nginx_a_client_is_who_nginx_says() {
    let site = site(&[]);
    let Some(proxy) = Proxy::start("nginx", NGINX, &site, &["-c"]) else { return };
    look(&proxy);
}

#[test]
fn behind_haproxy_a_client_is_who_haproxy_says() {
    let site = site(&[]);
    let Some(proxy) = Proxy::start("haproxy", &HAPROXY.replace("PROXY", ""), &site, &["-db", "-f"]) else { return };
    look(&proxy);
    assert_eq!(site.logged("request refused"), 0, "neither requests nor health checks are");
}

#[test]
fn a_proxy_header_names_the_client_and_health_checks_pass() {
    for version in ["send-proxy", "send-proxy-v2"] {
        let site = site(&["--proxy-protocol", "--proxy-allow-from=unix:"]);
        let configuration = HAPROXY.replace("PROXY", version);
        let Some(proxy) = Proxy::start("haproxy", &configuration, &site, &["-db", "-f"]) else { return };
        // The header names a client that is not trusted: its fields are neither believed nor shown.
        let environ = proxy.environ(LIES);
        assert_eq!(environ["REMOTE_ADDR"], "127.0.0.1");
        assert_eq!(environ["HTTP_HOST"], "site.example");
        assert!(environ.get("HTTP_X_FORWARDED_HOST").is_none());
        assert_eq!(site.logged("request refused"), 0, "neither requests nor health checks are");
    }
}
