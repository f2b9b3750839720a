//! The settings that travel from the master to templates and workers.

mod listener;
mod tls;
mod worker;

use std::{fmt, net::SocketAddr, path::PathBuf};

use serde::{Deserialize, Serialize};

use crate::{OwnRequest, VERSION};
pub use listener::{ForwardedField, Listener, Peers, Protocol, Trust};
pub use tls::{Certificate, ClientCertificate, TicketKeys, Tls};
pub use worker::{
    CompressionSettings, HeaderMap, RequestId, SendfileRoots, StaticFiles, StaticRoot, WARM, WorkerSettings,
};

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
