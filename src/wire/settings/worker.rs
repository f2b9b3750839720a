//! What every worker obeys.

use std::{path::PathBuf, time::Duration};

use serde::{Deserialize, Serialize};

use crate::access_format::{self, AccessFilter, AccessFormat};

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
