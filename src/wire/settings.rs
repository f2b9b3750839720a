//! The settings that travel from the master to templates and workers.

mod tls;

use std::{
    fmt,
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr},
    path::PathBuf,
    time::Duration,
};

use serde::{Deserialize, Serialize};

use crate::{
    OwnRequest, VERSION,
    access_format::{self, AccessFilter, AccessFormat},
};
pub use tls::{Certificate, ClientCertificate, TicketKeys, Tls};

/// What a template needs to know. Paths are absolute and resolved at this boot.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Boot {
    /// [`crate::VERSION`] of the master.
    pub wire: u32,
    /// Counts from 1.
    pub generation: u32,
    /// As typed: `module`, `module:attribute.path`, `module:factory(...)`, `path/to/file.py[:attribute]`.
    pub application: String,
    /// The working directory; first on `sys.path`.
    pub chdir: PathBuf,
    /// Put on `sys.path` after [`Boot::chdir`].
    pub pythonpath: Vec<PathBuf>,
    /// Whether to import before forking.
    pub preload: Preload,
    /// What to ask of the application in the template before it forks.
    pub warm_up: Option<OwnRequest>,
    /// Import, report, and expect no [`crate::ToTemplate::Fork`] (`ostler check`).
    pub check_only: bool,
    /// The scoreboard's measures.
    pub slots: u16,
    /// The number of workers of this generation, for `wsgi.multiprocess`.
    pub workers: u16,
    /// Whether an access-log descriptor comes with the message.
    pub access_log: bool,
    /// In the order of their descriptors.
    pub listeners: Vec<Listener>,
    /// What the process is called in `ps` (`--name`): `ostler`.
    pub process_name: String,
    /// One of slog's short names, lower case: `info`.
    pub log_level: String,
    /// The form of the error log, and a syslog that has both logs.
    #[serde(default)]
    pub logging: Logging,
    /// `--reload`: workers look whether their files change.
    #[serde(default)]
    pub reload: Option<FilesWatched>,
    /// What gunicorn's configuration tells template and workers, where that is in force.
    #[serde(default)]
    pub gunicorn: Option<Gunicorn>,
    /// What listeners that speak TLS need.
    #[serde(default)]
    pub tls: Option<Tls>,
    /// What their session tickets are made with.
    #[serde(default)]
    pub ticket_keys: Option<TicketKeys>,
    /// What every worker obeys.
    pub worker: WorkerSettings,
}

/// One worker of the first generation, without listeners; the settings as [`WorkerSettings::default`].
impl Default for Boot {
    fn default() -> Boot {
        Boot {
            wire: VERSION,
            generation: 1,
            application: String::new(),
            chdir: "/".into(),
            pythonpath: Vec::new(),
            preload: Preload::Auto,
            warm_up: None,
            check_only: false,
            slots: 1,
            workers: 1,
            access_log: false,
            listeners: Vec::new(),
            process_name: "ostler".into(),
            log_level: "info".into(),
            logging: Logging::default(),
            reload: None,
            gunicorn: None,
            tls: None,
            ticket_keys: None,
            worker: WorkerSettings::default(),
        }
    }
}

/// `--log-format`, and `--log-syslog` with what goes with it.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Logging {
    /// How the error log is written where it is a file or standard error.
    pub form: LogForm,
    /// Where messages go beside that.
    pub syslog: Option<Syslog>,
}

/// The form of the error log.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum LogForm {
    /// What its place calls for: lines for a file, sentences for a terminal, entries for the journal.
    #[default]
    Text,
    /// An object of JSON on each line.
    Json,
    /// Entries of the journal.
    Journald,
}

/// A syslog.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Syslog {
    /// Where it is.
    pub to: SyslogTo,
    /// By its number (RFC 5424 §6.2.1).
    pub facility: u8,
    /// The name of what sends, before the log's: `gunicorn.shop`.
    pub prefix: String,
    /// Nothing is written to the error log's own place.
    pub only: bool,
    /// It gets the access log, too.
    pub access: bool,
}

/// Where a syslog is.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum SyslogTo {
    /// A Unix socket, for datagrams or for a stream.
    Unix {
        /// Its absolute path.
        path: PathBuf,
        /// Whether it is a stream.
        stream: bool,
    },
    /// By UDP.
    Udp(SocketAddr),
    /// By TCP.
    Tcp(SocketAddr),
}

impl SyslogTo {
    /// Whether messages need an end of their own there.
    pub fn is_stream(&self) -> bool {
        matches!(self, SyslogTo::Unix { stream: true, .. } | SyslogTo::Tcp(_))
    }
}

/// As it is typed.
impl fmt::Display for SyslogTo {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        match self {
            SyslogTo::Unix { path, stream } => {
                write!(f, "unix://{}{}", path.display(), if *stream { "#stream" } else { "" })
            }
            SyslogTo::Udp(address) => write!(f, "udp://{address}"),
            SyslogTo::Tcp(address) => write!(f, "tcp://{address}"),
        }
    }
}

/// Which files workers look at, and how.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct FilesWatched {
    /// `--reload-engine=poll`: only look, and do not have the kernel tell of changes (inotify(7)).
    pub poll: bool,
    /// `--reload-extra-file`: files and patterns beside the modules; absolute.
    pub extra: Vec<String>,
    /// No generation serves yet: code that does not come up is shown by workers that have nothing else to serve.
    #[serde(default)]
    pub shows_failure: bool,
}

/// gunicorn's configuration. Template and workers run its file, and the workers call its hooks.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Gunicorn {
    /// Whether it is in force, or only its words for logging are used.
    pub in_force: bool,
    /// The file, if there is one.
    pub source: Option<ProgramSource>,
    /// Where ostler was started: first on `sys.path`, and the working directory while it runs.
    pub directory: PathBuf,
    /// The settings in force by gunicorn's names, for `cfg`; as they would be typed.
    pub settings: Vec<(String, Vec<String>)>,
}

/// Where the code of a settings file is.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum ProgramSource {
    /// A file, by its absolute path.
    File(PathBuf),
    /// A module, as it is imported.
    Module(String),
    /// A program that embeds gunicorn, as a shell would be told to have Python run it: `serve.py --port 80`, `-m shop.serve`; or gunicorn's
    /// own for Paste Deploy: `--paste site.ini#main`.
    Program(String),
}

/// A bound socket.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Listener {
    /// What it is bound to, as told to people: `http://127.0.0.1:8000` or `unix:/run/site.sock`; of another protocol than HTTP, it
    /// begins with that: `https://127.0.0.1:8443`, `uwsgi://127.0.0.1:8000`, `uwsgi://unix:/run/site.sock`.
    pub name: String,
    /// What `SERVER_NAME` says where the Host field does not matter: the host, or the socket's path.
    pub host: String,
    /// `SERVER_PORT`; none on a Unix socket.
    pub port: Option<u16>,
    /// What its clients speak.
    #[serde(default)]
    pub protocol: Protocol,
    /// What they are believed.
    #[serde(default)]
    pub trust: Trust,
}

impl Listener {
    /// For HTTP, with the trust that holds when no option is given.
    pub fn http(name: impl Into<String>, host: impl Into<String>, port: Option<u16>) -> Listener {
        let (protocol, trust) = (Protocol::Http, Trust::default());
        Listener { name: name.into(), host: host.into(), port, protocol, trust }
    }

    /// The same for clients that speak something else.
    pub fn speaking(self, protocol: Protocol) -> Listener {
        let name = match protocol {
            Protocol::Http => self.name,
            Protocol::Https => format!("{HTTPS}{}", self.name.trim_start_matches("http://")),
            Protocol::Uwsgi => format!("{UWSGI}{}", self.name.trim_start_matches("http://")),
        };
        Listener { name, protocol, ..self }
    }
}

/// What is spoken on a connection.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Protocol {
    /// HTTP/1.0 and HTTP/1.1 (RFC 9112), in the clear.
    #[default]
    Http,
    /// The same within TLS.
    Https,
    /// The uwsgi protocol, as nginx's `uwsgi_pass` speaks it.
    Uwsgi,
}

/// What the name of a listener for the uwsgi protocol begins with.
const UWSGI: &str = "uwsgi://";
/// The same of one for HTTP within TLS.
const HTTPS: &str = "https://";

impl Protocol {
    /// That of the listener with this name.
    pub fn of(listener: &str) -> Protocol {
        match listener {
            name if name.starts_with(UWSGI) => Protocol::Uwsgi,
            name if name.starts_with(HTTPS) => Protocol::Https,
            _ => Protocol::Http,
        }
    }
}

/// What the peers of a listener are believed about the clients behind them.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Trust {
    /// `--forwarded-allow-ips`
    pub forwarded_allow: Peers,
    /// `--forwarded-fields`: what those are believed about.
    pub forwarded_fields: Vec<ForwardedField>,
    /// `--secure-scheme-headers`: fields, and the values that mean https; in place of the scheme's fields among those.
    #[serde(default)]
    pub secure_schemes: Option<Vec<(String, String)>>,
    /// `--forwarder-headers`: fields with underscores that are theirs.
    #[serde(default)]
    pub forwarder_headers: Vec<String>,
    /// `--proxy-protocol`: a PROXY header is required from the peers of `proxy_allow`.
    pub proxy_protocol: bool,
    /// `--proxy-allow-from`
    pub proxy_allow: Peers,
    /// `--uwsgi-allow-from`: who may speak the uwsgi protocol. At Unix sockets, everybody who may connect.
    #[serde(default)]
    pub uwsgi_allow: Peers,
}

/// The options' defaults: X-Forwarded-For and X-Forwarded-Proto, from this machine.
impl Default for Trust {
    fn default() -> Trust {
        let local = vec![(Ipv4Addr::LOCALHOST.into(), 32), (Ipv6Addr::LOCALHOST.into(), 128)];
        Trust {
            forwarded_allow: Peers { networks: local.clone(), unix: true },
            forwarded_fields: vec![ForwardedField::XForwardedFor, ForwardedField::XForwardedProto],
            secure_schemes: None,
            forwarder_headers: Vec::new(),
            proxy_protocol: false,
            proxy_allow: Peers { networks: local.clone(), unix: false },
            uwsgi_allow: Peers { networks: local, unix: false },
        }
    }
}

/// When the application is imported.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Preload {
    /// In the template, unless what the import leaves behind makes forking unsafe.
    Auto,
    /// In the template.
    On,
    /// In each worker.
    Off,
}

/// `--refork=auto`: what a site loads at its requests, it has mostly loaded after so many of one worker.
pub const WARM: u32 = 1000;

/// The settings of one worker. Sizes in bytes; a limit of zero means none.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct WorkerSettings {
    /// Python threads that call the application.
    pub threads: u16,
    /// `--timeout`: the longest a request may take in the application; zero for no bound.
    pub timeout: Duration,
    /// `--slow-request`: log the stacks of a request that takes longer; zero for never.
    pub slow_request: Duration,
    /// `--keep-alive`: how long a connection may idle between requests; zero closes after each response.
    pub keep_alive: Duration,
    /// `--header-timeout`: from the first byte of a head to its last.
    pub header_timeout: Duration,
    /// `--body-timeout`: the longest pause within a body.
    pub body_timeout: Duration,
    /// `--write-timeout`: the longest pause of a client that takes a response.
    pub write_timeout: Duration,
    /// `--min-rate`: bytes a second below which a body or a response is given up, measured after a grace time.
    pub min_rate: u64,
    /// `--worker-connections`
    pub connections: u32,
    /// `--max-queue-time`: answer 503 to requests that waited longer for a Python thread; zero for never.
    pub max_queue_time: Duration,
    /// `--max-requests`, jitter not yet added; zero for never.
    pub max_requests: u64,
    /// `--max-requests-jitter`
    pub max_requests_jitter: u64,
    /// `--max-memory`; zero for never.
    pub max_memory: u64,
    /// `--max-age`; zero for never.
    pub max_age: Duration,
    /// `--refork`: after this many requests a worker says that it is [`crate::FromWorker::Warm`]; zero for never.
    #[serde(default)]
    pub refork: u32,
    /// `--graceful-timeout`, for a drain that the worker begins by itself.
    pub graceful_timeout: Duration,
    /// `--limit-request-line`
    pub limit_request_line: u32,
    /// `--limit-request-fields`
    pub limit_request_fields: u32,
    /// `--limit-request-field_size`
    pub limit_request_field_size: u32,
    /// `--limit-request-head`: of the whole head.
    pub limit_request_head: u32,
    /// `--limit-request-body`; zero for none.
    pub limit_request_body: u64,
    /// Whether bodies are read whole before the application is called.
    pub request_buffering: bool,
    /// `--body-memory`: the size above which a body goes to a file in any case.
    pub body_memory: u64,
    /// Where spool files are made.
    pub spool_directory: PathBuf,
    /// `--spool-limit`: of all spool files of one worker together; zero for none.
    pub spool_limit: u64,
    /// `--root-path`: `SCRIPT_NAME`, without a final slash.
    pub root_path: String,
    /// `--header-map`
    pub header_map: HeaderMap,
    /// `--request-id`
    #[serde(default)]
    pub request_id: RequestId,
    /// `--access-logformat`, read.
    pub access_log_format: AccessFormat,
    /// Which requests have no line in the access log.
    #[serde(default)]
    pub access_log_filter: AccessFilter,
    /// `Server` field of each response; none when empty.
    pub server_header: String,
    /// `--generation-header`: the field that tells clients the generation; none when empty.
    #[serde(default)]
    pub generation_header: String,
    /// `--redirect-https`: what comes in the clear to an address of TCP is sent to `https://`.
    #[serde(default)]
    pub redirect_https: bool,
    /// `--redirect-port`; that of the first listener for TLS if it is not given.
    #[serde(default)]
    pub redirect_port: Option<u16>,
    /// `--hsts`: for how long browsers are to come by `https://`; zero to say nothing.
    #[serde(default)]
    pub hsts: Duration,
    /// `--no-sendfile` was not given.
    pub sendfile: bool,
    /// `--static` and what goes with it.
    #[serde(default)]
    pub static_files: StaticFiles,
    /// `--sendfile-root`
    #[serde(default)]
    pub sendfile_roots: SendfileRoots,
    /// `--compress` and what goes with it.
    #[serde(default)]
    pub compression: Option<CompressionSettings>,
    /// `--strict-application`: what PEP 3333 forbids an application is an error even where the response comes out right.
    pub strict_application: bool,
}

/// The options' defaults, for a worker that runs without a master. A test of the daemon holds the two together.
impl Default for WorkerSettings {
    fn default() -> WorkerSettings {
        let seconds = Duration::from_secs;
        WorkerSettings {
            threads: 1,
            timeout: seconds(30),
            slow_request: Duration::ZERO,
            keep_alive: seconds(75),
            header_timeout: seconds(20),
            body_timeout: seconds(30),
            write_timeout: seconds(60),
            min_rate: 240,
            connections: 10_000,
            max_queue_time: Duration::ZERO,
            max_requests: 0,
            max_requests_jitter: 0,
            max_memory: 0,
            max_age: Duration::ZERO,
            refork: WARM,
            graceful_timeout: seconds(30),
            limit_request_line: 8190,
            limit_request_fields: 100,
            limit_request_field_size: 8190,
            limit_request_head: 64 << 10,
            limit_request_body: 0,
            request_buffering: true,
            body_memory: 1 << 20,
            spool_directory: std::env::temp_dir(),
            spool_limit: 4 << 30,
            root_path: String::new(),
            header_map: HeaderMap::Drop,
            request_id: RequestId::Off,
            access_log_format: access_format::DEFAULT.parse().expect("a test reads it"),
            access_log_filter: AccessFilter::default(),
            server_header: "ostler".into(),
            generation_header: String::new(),
            redirect_https: false,
            redirect_port: None,
            hsts: Duration::ZERO,
            sendfile: true,
            static_files: StaticFiles::default(),
            sendfile_roots: SendfileRoots::default(),
            compression: None,
            strict_application: false,
        }
    }
}

/// Which files are served without the application.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct StaticFiles {
    /// `--static`, the longest prefix first.
    pub roots: Vec<StaticRoot>,
    /// `--static-links`: links may lead out of the roots.
    pub links: bool,
    /// `--static-index`: a folder is answered with its `index.html`.
    pub index: bool,
    /// `--static-only`: what is not there is 404, and not the application's.
    pub only: bool,
    /// `--static-max-age`: how long clients may use a file without asking again; zero for not at all.
    pub max_age: Duration,
}

/// The options' defaults: no files.
impl Default for StaticFiles {
    fn default() -> StaticFiles {
        StaticFiles { roots: Vec::new(), links: false, index: false, only: false, max_age: Duration::from_secs(60) }
    }
}

/// Which files the application may name to have them sent, the longest prefix first.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct SendfileRoots {
    /// By paths of the file system, in X-Sendfile: each directory as it was typed, made absolute, and as it is without links.
    pub paths: Vec<StaticRoot>,
    /// By paths of URLs, in X-Accel-Redirect.
    pub urls: Vec<StaticRoot>,
}

/// A folder whose files are served.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct StaticRoot {
    /// Where it is in paths of requests, decoded, without a final slash; empty for all of them.
    pub prefix: String,
    /// Absolute, and without links: that of this release.
    pub directory: PathBuf,
}

/// Which answers of the application are compressed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct CompressionSettings {
    /// `--compress-types`, in small letters; each may hold one `*`.
    pub types: Vec<String>,
    /// `--compress-min-size`, in bytes.
    pub least: u64,
}

/// What to do with a field whose name holds an underscore (or another character that CGI would confuse).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum HeaderMap {
    /// Leave the field out.
    Drop,
    /// Refuse the request with 400.
    Refuse,
    /// Pass it on. Two fields may become one key.
    Dangerous,
}

/// Whether each request has an id.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum RequestId {
    /// It has none.
    #[default]
    Off,
    /// For the application and the logs.
    On,
    /// For the client, too.
    Response,
}

/// A set of peers: networks, and whether Unix sockets belong to it.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Peers {
    /// Address and prefix length; `0.0.0.0/0` and `::/0` for `*`.
    pub networks: Vec<(IpAddr, u8)>,
    /// `unix:`
    pub unix: bool,
}

impl Peers {
    /// Whether an address is in one of the networks. An IPv4 address mapped into IPv6 counts as IPv4.
    pub fn contains(&self, address: IpAddr) -> bool {
        let address = address.to_canonical();
        self.networks.iter().any(|(network, prefix)| match (network, address) {
            (IpAddr::V4(n), IpAddr::V4(a)) => same_prefix(n.to_bits().into(), a.to_bits().into(), 32, *prefix),
            (IpAddr::V6(n), IpAddr::V6(a)) => same_prefix(n.to_bits(), a.to_bits(), 128, *prefix),
            _ => false,
        })
    }
}

fn same_prefix(a: u128, b: u128, width: u8, prefix: u8) -> bool {
    (a ^ b).checked_shr(u32::from(width - prefix.min(width))).unwrap_or(0) == 0
}

/// A field by which a proxy tells who asked for what.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[allow(missing_docs, reason = "each is the field of that name")]
pub enum ForwardedField {
    XForwardedFor,
    XForwardedProto,
    XForwardedProtocol,
    XForwardedSsl,
    XForwardedHost,
    XForwardedPort,
    XForwardedPrefix,
    Forwarded,
    XRequestStart,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_network_holds_its_addresses_and_no_others() {
        let peers =
            Peers { networks: vec![("10.0.0.0".parse().unwrap(), 8), ("::1".parse().unwrap(), 128)], unix: false };
        for inside in ["10.255.1.2", "::1", "::ffff:10.1.1.1"] {
            assert!(peers.contains(inside.parse().unwrap()), "{inside}");
        }
        for outside in ["11.0.0.1", "::2", "::ffff:11.1.1.1"] {
            assert!(!peers.contains(outside.parse().unwrap()), "{outside}");
        }
        let everyone = Peers { networks: vec![("0.0.0.0".parse().unwrap(), 0)], unix: false };
        assert!(everyone.contains("203.0.113.9".parse().unwrap()));
    }
}
