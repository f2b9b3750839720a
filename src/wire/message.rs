//! The typed messages between master, template and worker, and the settings that travel in them.

use std::{
    net::{IpAddr, Ipv6Addr},
    path::PathBuf,
    time::Duration,
};

use serde::{Deserialize, Serialize};

use crate::channel::{fit, fit_sentence};

/// From the master to a template.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub enum ToTemplate {
    /// The first message. Its descriptors, in this order: the scoreboard, the exchange's sending end, the
    /// exchange's receiving end, the access log if [`Boot::access_log`], then one for each [`Boot::listeners`].
    Boot(Box<Boot>),
    /// Fork a worker for this slot. Its descriptor: the worker's channel.
    Fork {
        /// The slot of the scoreboard that the worker writes.
        slot: u16,
    },
    /// Go on in this error log (standard output and standard error go along where they lead to the one before);
    /// the second, if there is one, replaces the access log. For workers forked from now on.
    Reopen,
    /// What is shared was made anew, because an application has broken it. Its descriptors: the exchange's two ends and the listeners, in
    /// the order of [`ToTemplate::Boot`]. For workers forked from now on.
    Inherit,
    /// End. Workers that it forked are not its children any more and live on.
    Quit,
}

/// From a template to the master.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub enum FromTemplate {
    /// The interpreter runs, and the application is imported, if it was to be. Workers can be forked.
    Loaded(Loaded),
    /// The application's own code runs from now on. The template can be asked for stacks by [`crate::stacks_signal`].
    Begins(Errand),
    /// The answer to that.
    Stacks(String),
    /// The application could not be imported or is none. The template ends after this.
    Failed(BootFailure),
    /// A worker was forked for this slot; the master is its parent.
    Forked {
        /// As asked for.
        slot: u16,
        /// The worker.
        pid: i32,
    },
    /// fork(2) gave this error.
    ForkFailed {
        /// As asked for.
        slot: u16,
        /// The system's words.
        error: String,
    },
}

/// What the application's code is run for before workers are forked.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum Errand {
    /// Its import, and its factory's call.
    Import,
    /// `--warm-up`
    WarmUp,
}

/// What a template says of itself when it is ready to fork.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Loaded {
    /// [`crate::VERSION`] of the engine.
    pub wire: u32,
    /// `3.11.7`
    pub python: String,
    /// `sys.executable`
    pub executable: String,
    /// Whether the workers share the application with the template (`preload`), or import it for themselves.
    pub preloaded: bool,
    /// With `preload = auto` and `preloaded = false`: what the import left behind that forking would share, one
    /// phrase each, such as `thread "flush-queue"` or `socket connected to 10.0.0.5:5432`.
    pub unsafe_to_fork: Vec<String>,
    /// How long the import took.
    pub import: Duration,
}

/// Why a template or a worker could not boot.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct BootFailure {
    /// Decides the exit code.
    pub kind: BootFailureKind,
    /// One sentence: what, which, why.
    pub message: String,
    /// The Python traceback, or empty.
    pub traceback: String,
}

impl BootFailure {
    /// One that fits a packet, however much the application has to say.
    pub fn new(kind: BootFailureKind, message: &str, traceback: &str) -> BootFailure {
        BootFailure { kind, message: fit_sentence(message), traceback: fit(traceback) }
    }
}

/// The kinds of failure that have exit codes of their own.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum BootFailureKind {
    /// The interpreter or the engine did not come up.
    Interpreter,
    /// The import raised an exception.
    Import,
    /// The module has no such attribute, or it is not callable, or the factory failed.
    Application,
}

/// From the master to a worker.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub enum ToWorker {
    /// The generation is complete: accept from now on. Until then the worker is ready, but takes nobody from listeners or exchange.
    Serve,
    /// Accept no more, finish what is under way, then end.
    Drain {
        /// The bound on all of it; then the worker logs its stragglers with their stacks and exits.
        within: Duration,
        /// Whether idle connections move to the exchange (reload, recycle, scale-down) or are told
        /// `Connection: close` because nobody is left to take them (stop).
        hand_over: bool,
        /// Go on accepting for this long first (`--drain-delay`); then empty the accept queue.
        delay: Duration,
    },
    /// End at once, without waiting for requests.
    Quit,
    /// The log files were rotated. Descriptors: as in [`ToTemplate::Reopen`].
    Reopen,
    /// Send back the Python stacks of all threads.
    Stacks,
    /// As [`ToTemplate::Inherit`], with the same descriptors.
    Inherit,
    /// The loop has not turned for a while: a turn on the scoreboard is the answer.
    Nudge,
}

/// From a worker to the master.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub enum FromWorker {
    /// The application is loaded and the loop runs.
    Ready,
    /// The application could not be imported. The worker exits after this.
    Failed(BootFailure),
    /// The worker wants to be replaced, and then drained: a limit was reached or a request is stuck.
    Replace(Recycle),
    /// Nothing is under way any more. The worker exits after this.
    Drained,
    /// The answer to [`ToWorker::Stacks`].
    Stacks(String),
    /// The worker has something to do, and the master does not look (see [`crate::scoreboard::Slot::watched`]).
    AtWork,
}

/// Why a worker asks to be replaced.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum Recycle {
    /// `--max-requests`
    Requests,
    /// `--max-memory`
    Memory {
        /// Bytes that it holds.
        held: u64,
        /// Bytes that it may hold.
        limit: u64,
    },
    /// `--max-age`
    Age,
    /// A request passed `--timeout`; its thread cannot be freed.
    Timeout,
    /// The worker was sent SIGTERM by somebody other than the master.
    Signal,
    /// A panic in the loop or in a call; the process is not trusted any more.
    Panic,
}

/// What a template needs to know. Paths are absolute and resolved at this boot.
#[derive(Debug, Clone, Serialize, Deserialize)]
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
    /// What to ask of the application in the template before it forks: a path, or an http or https URL.
    pub warm_up: Option<String>,
    /// Import, report, and expect no [`ToTemplate::Fork`] (`ostler check`).
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
    /// What every worker obeys.
    pub worker: Worker,
}

/// A bound socket.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Listener {
    /// What it is bound to, as told to people: `http://127.0.0.1:8000` or `unix:/run/site.sock`.
    pub name: String,
    /// What `SERVER_NAME` says where the Host field does not matter: the host, or the socket's path.
    pub host: String,
    /// `SERVER_PORT`; none on a Unix socket.
    pub port: Option<u16>,
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

/// A set of peers: networks, and whether Unix sockets belong to it.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Peers {
    /// Address and prefix length; `0.0.0.0/0` and `::/0` for `*`.
    pub networks: Vec<(IpAddr, u8)>,
    /// `unix:`
    pub unix: bool,
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
}

/// The settings of one worker. Sizes in bytes; a limit of zero means none.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Worker {
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
    /// `--forwarded-allow-ips`
    pub forwarded_allow: Peers,
    /// `--forwarded-fields`: what those are believed about.
    pub forwarded_fields: Vec<ForwardedField>,
    /// `--proxy-protocol`: a PROXY header is required from the peers of `proxy_allow`.
    pub proxy_protocol: bool,
    /// `--proxy-allow-from`
    pub proxy_allow: Peers,
    /// `--access-logformat`, checked.
    pub access_log_format: String,
    /// `Server` field of each response; none when empty.
    pub server_header: String,
    /// `--no-sendfile` was not given.
    pub sendfile: bool,
    /// `--strict-application`: what PEP 3333 forbids an application is an error even where the response comes out right.
    pub strict_application: bool,
}

/// As the options say when nobody gives any, for whoever runs a worker without a master. A test of the daemon holds the two together.
impl Default for Worker {
    fn default() -> Worker {
        let seconds = Duration::from_secs;
        let trusted = vec![(IpAddr::from([127, 0, 0, 1]), 32), (Ipv6Addr::LOCALHOST.into(), 128)];
        Worker {
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
            graceful_timeout: seconds(30),
            limit_request_line: 8190,
            limit_request_fields: 100,
            limit_request_field_size: 8190,
            limit_request_head: 64 * 1024,
            limit_request_body: 0,
            request_buffering: true,
            body_memory: 1 << 20,
            spool_directory: std::env::temp_dir(),
            spool_limit: 4 << 30,
            root_path: String::new(),
            header_map: HeaderMap::Drop,
            forwarded_allow: Peers { networks: trusted.clone(), unix: true },
            forwarded_fields: vec![ForwardedField::XForwardedFor, ForwardedField::XForwardedProto],
            proxy_protocol: false,
            proxy_allow: Peers { networks: trusted, unix: false },
            access_log_format: r#"%(h)s %(l)s %(u)s %(t)s "%(r)s" %(s)s %(b)s "%(f)s" "%(a)s""#.into(),
            server_header: "ostler".into(),
            sendfile: true,
            strict_application: false,
        }
    }
}

/// One worker of the first generation, without listeners; the settings as [`Worker::default`].
impl Default for Boot {
    fn default() -> Boot {
        Boot {
            wire: crate::VERSION,
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
            worker: Worker::default(),
        }
    }
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
