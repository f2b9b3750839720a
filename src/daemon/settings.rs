//! What is true: the settings, parsed, checked and typed. What was typed is in options.rs.

use std::{ffi::OsString, num::NonZeroU16, path::PathBuf, time::Duration};

use ostler_wire as wire;

/// Everything that the master obeys. Paths are absolute. Made afresh by each reload.
#[derive(Debug, Clone)]
pub struct Settings {
    /// `--bind`, in the order given.
    pub binds: Vec<Address>,
    /// `--backlog`: of listen(2).
    pub backlog: i32,
    /// `--workers`
    pub workers: NonZeroU16,
    /// `--python`: what to execute; `bin/python` of a virtual environment is not resolved further, so that it finds itself.
    pub python: PathBuf,
    /// The engine's file.
    pub engine: PathBuf,
    /// The whole environment of template and workers: the master's own with `--env` laid over it.
    pub environment: Vec<(OsString, OsString)>,
    /// `--user` and `--group`, looked up; for template and workers. Supplementary groups are the user's own.
    pub identity: Option<Identity>,
    /// `--umask`
    pub umask: u32,
    /// `--pid`
    pub pid_file: Option<PathBuf>,
    /// `--daemon`
    pub daemon: bool,
    /// `--error-logfile`
    pub error_log: LogTarget,
    /// `--access-logfile`; `Standard` is standard output.
    pub access_log: Option<LogTarget>,
    /// `--capture-output`: standard output of template and workers goes to the error log.
    pub capture_output: bool,
    /// `--log-level`
    pub log_level: slog::Level,
    /// `--control`: the path of the control socket; none with `--control=off`.
    pub control: Option<PathBuf>,
    /// `--boot-timeout`: for the template's import and each worker's readiness.
    pub boot_timeout: Duration,
    /// `--graceful-timeout`
    pub graceful_timeout: Duration,
    /// `--drain-delay`
    pub drain_delay: Duration,
    /// `--keep-previous`: keep the last serving generation's template for a rollback.
    pub keep_previous: bool,
    /// What a template is told; `generation` and `listeners` are filled in by the master.
    pub boot: wire::Boot,
}

/// Where to listen.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Address {
    /// `host:port`; the host may be a name or an address without brackets, and is empty for all addresses.
    Tcp(String, u16),
    /// `unix:path`
    Unix(PathBuf),
    /// `fd://N`: inherited, bound already.
    Inherited(i32),
}

/// Where a log goes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum LogTarget {
    /// `-`
    Standard,
    /// Opened for appending, reopened on USR1.
    File(PathBuf),
}

/// Who template and workers are.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Identity {
    /// User id.
    pub user: u32,
    /// Primary group id.
    pub group: u32,
    /// Supplementary group ids.
    pub groups: Vec<u32>,
}
