//! gunicorn's configuration file in templates and workers: it is run before the application is imported, and its hooks are called at
//! the moments of a worker's life. What hooks see of gunicorn is in gunicorn.py.

use std::{
    sync::atomic::{AtomicBool, Ordering::Relaxed},
    thread,
    time::Duration,
};

use ostler_wire::{Boot, BootFailure, BootFailureKind, Gunicorn, ProgramSource};
use pyo3::{prelude::*, types::PyDict};
use slog::{Level, Logger, crit, debug, error, info, warn};

use super::import::{traceback, unexpected};
use crate::{
    python::embedded::{Embedded, embedded},
    wsgi::calling,
};

pub const GUNICORN: Embedded = embedded!("gunicorn");
const LOGGERS: Embedded = embedded!("loggers");
const PACKAGE: Embedded = embedded!("gunicorn_package");
const EMBEDDING: Embedded = embedded!("embedding");

/// How long worker_abort may take.
const LAST_WORDS: Duration = Duration::from_secs(2);

/// Whether there is a hook for requests that take too long.
static HEEDED: AtomicBool = AtomicBool::new(false);

/// The hooks of requests. A site without one has none of this.
pub struct RequestHooks(Py<PyModule>);

/// Writes a record of Python's `logging` to the error log.
#[pyclass(frozen)]
struct LogWriter(Logger);

#[pymethods]
impl LogWriter {
    fn __call__(&self, py: Python<'_>, level: i32, message: &str, traceback: &str) {
        let LogWriter(log) = self;
        py.detach(|| {
            let (id, traceback) = (calling::id(), (!traceback.is_empty()).then_some(traceback));
            match level {
                50.. => crit!(log, "{}", message; "request_id" => id, "traceback" => traceback),
                40.. => error!(log, "{}", message; "request_id" => id, "traceback" => traceback),
                30.. => warn!(log, "{}", message; "request_id" => id, "traceback" => traceback),
                20.. => info!(log, "{}", message; "request_id" => id, "traceback" => traceback),
                _ => debug!(log, "{}", message; "request_id" => id),
            }
        });
    }
}

/// The package that stands in for gunicorn's, where that is not installed.
#[pyfunction]
fn load_package(py: Python<'_>) -> PyResult<Bound<'_, PyModule>> {
    let package = PACKAGE.import(py)?;
    let names = (package.getattr("MODULES")?, package.getattr("HOOKS")?);
    EMBEDDING.import(py)?.call_method1("extend", names)?;
    Ok(package)
}

/// Makes the loggers and the package that applications know from gunicorn. Called in a template before the application is imported.
pub fn make_loggers(py: Python<'_>, boot: &Boot, log: &Logger) -> PyResult<()> {
    let level = match ostler_wire::log::level(&boot.log_level) {
        Some(Level::Debug | Level::Trace) => 10,
        Some(Level::Warning) => 30,
        Some(Level::Error) => 40,
        Some(Level::Critical) => 50,
        Some(Level::Info) | None => 20,
    };
    use_logger(py, log)?;
    let loggers = LOGGERS.import(py)?;
    loggers.setattr("load_package", wrap_pyfunction!(load_package, py)?)?;
    loggers.call_method1("install", (level,)).map(drop)
}

/// The application is imported, and has what it wanted of them. Hooks may import the package later.
pub fn settle(py: Python<'_>, boot: &Boot) -> PyResult<()> {
    match boot.gunicorn {
        Some(_) => Ok(()),
        None => LOGGERS.import(py)?.call_method0("settle").map(drop),
    }
}

/// What they write comes from this process.
pub fn use_logger(py: Python<'_>, log: &Logger) -> PyResult<()> {
    LOGGERS.import(py)?.setattr("write", Py::new(py, LogWriter(log.clone()))?)
}

/// Whether a program has become the master, and what it prints was seen when it was started. A reload may have other things to tell.
pub fn launched(boot: &Boot) -> bool {
    boot.generation == 1 && std::env::var("OSTLER_LAUNCHED").is_ok_and(|pid| pid == master().to_string())
}

/// Runs the file, if there is one, in a template that has yet to import the application. `quiet`: what a program writes to standard error
/// is seen elsewhere.
pub fn run(py: Python<'_>, boot: &Boot, quiet: bool) -> Result<(), BootFailure> {
    let Some(Gunicorn { source, directory, .. }) = &boot.gunicorn else { return Ok(()) };
    py.import("os")
        .and_then(|os| os.getattr("environ")?.set_item("SERVER_SOFTWARE", server_software(boot)))
        .map_err(|error| unexpected(py, &error))?;
    let program = source.as_ref().map(|source| match source {
        ProgramSource::File(path) => ("file", path.to_string_lossy()),
        ProgramSource::Module(name) => ("module", name.into()),
        ProgramSource::Program(command) => ("program", command.into()),
    });
    let module = GUNICORN.import(py).map_err(|error| unexpected(py, &error))?;
    let embedding = EMBEDDING.import(py).map_err(|error| unexpected(py, &error))?;
    let mistake = embedding.getattr("Mistake").map_err(|error| unexpected(py, &error))?;
    let failed = |name: &str, error: PyErr| {
        let message = format!("{name}: {}", error.value(py));
        let sentence = error.is_instance(py, &mistake);
        let traceback = if sentence { String::new() } else { traceback(py, &error) };
        BootFailure::new(BootFailureKind::Settings, &message, &traceback)
    };
    if let Some((kind, name)) = &program {
        let run = (kind, &**name, directory.as_os_str(), &embedding, quiet);
        module.call_method1("run", run).map_err(|error| failed(name, error))?;
    }
    let logger = || {
        let standard = PACKAGE.import(py)?.call_method0("logger")?;
        prepare(py, boot)?.call_method1("set_up_logging", (standard, &mistake)).map(drop)
    };
    logger().map_err(|error| failed("the configuration of logging", error))
}

/// SERVER_SOFTWARE of the environ (RFC 3875 section 4.1.17). Applications look for gunicorn's name where they expect gunicorn.
pub fn server_software(boot: &Boot) -> &'static str {
    match &boot.gunicorn {
        Some(gunicorn) if gunicorn.in_force => concat!("gunicorn/27.0.1 ostler/", env!("CARGO_PKG_VERSION")),
        _ => concat!("ostler/", env!("CARGO_PKG_VERSION")),
    }
}

/// A worker was forked: its loggers and objects, then post_fork.
pub fn forked(py: Python<'_>, boot: &Boot, slot: u16, log: &Logger) -> Result<(), BootFailure> {
    use_logger(py, log).map_err(|error| unexpected(py, &error))?;
    if boot.gunicorn.is_none() {
        return Ok(());
    }
    let begin = || {
        let module = prepare(py, boot)?;
        module.call_method1("forked", (std::process::id(), master(), u32::from(slot) + 1)).map(drop)
    };
    begin().map_err(|error| unexpected(py, &error))
}

/// Makes the objects that hooks are given.
pub fn prepare<'py>(py: Python<'py>, boot: &Boot) -> PyResult<Bound<'py, PyModule>> {
    let module = GUNICORN.import(py)?;
    let addresses: Vec<_> = boot.listeners.iter().map(|listener| (listener.host.clone(), listener.port)).collect();
    let settings = boot.gunicorn.as_ref().map(|gunicorn| &gunicorn.settings);
    let config = PACKAGE.import(py)?.getattr("config")?;
    module.call_method1("prepare", (config, settings, master(), addresses))?;
    Ok(module)
}

/// The worker has its application: post_worker_init.
pub fn initialised(py: Python<'_>, boot: &Boot, log: &Logger) -> Option<RequestHooks> {
    boot.gunicorn.as_ref()?;
    let begin = || -> PyResult<Option<RequestHooks>> {
        let module = GUNICORN.import(py)?;
        module.call_method0("initialised")?;
        HEEDED.store(module.call_method1("heed", (abort_signal(),))?.is_truthy()?, Relaxed);
        let watches = module.call_method0("watches_requests")?.is_truthy()?;
        Ok(watches.then(|| RequestHooks(module.unbind())))
    };
    begin().unwrap_or_else(|error| {
        error!(log, "hooks not called"; "traceback" => traceback(py, &error));
        None
    })
}

/// Whether Python writes the access log.
pub fn logs_access(py: Python<'_>, boot: &Boot) -> bool {
    let asks = || GUNICORN.import(py)?.call_method0("logs_access")?.is_truthy();
    boot.gunicorn.is_some() && asks().unwrap_or(false)
}

/// The worker ends: worker_int if it was told to end at once, then worker_exit.
pub fn ends(py: Python<'_>, boot: &Boot, at_once: bool, log: &Logger) {
    if boot.gunicorn.is_none() {
        return;
    }
    let call = || {
        let module = GUNICORN.import(py)?;
        if at_once {
            module.call_method0("interrupted")?;
        }
        module.call_method0("exited").map(drop)
    };
    if let Err(error) = call() {
        error!(log, "hooks not called"; "traceback" => traceback(py, &error));
    }
}

/// A request has taken too long, on a thread that may hold the interpreter lock for ever: worker_abort, on the main thread if that runs
/// Python, and if not, on another one. It ends the process. Returns if there is no such hook, or if it could not be called in time.
pub fn aborts() {
    if !HEEDED.load(Relaxed) {
        return;
    }
    // SAFETY: sends this process a signal that has Python's handler since `heed`.
    unsafe { libc::kill(std::process::id() as i32, abort_signal()) };
    thread::sleep(LAST_WORDS / 4);
    let called = thread::Builder::new().name("ostler-abort".into()).spawn(|| {
        let _ = Python::attach(|py| GUNICORN.import(py)?.call_method0("aborted").map(drop));
    });
    if called.is_ok() {
        thread::sleep(LAST_WORDS);
    }
}

/// A real-time signal beside the one that asks for stacks.
fn abort_signal() -> i32 {
    ostler_wire::stacks_signal() + 1
}

fn master() -> i32 {
    nix::unistd::getppid().as_raw()
}

impl RequestHooks {
    /// pre_request; what [`RequestHooks::after`] needs.
    pub fn before<'py>(&self, environ: &Bound<'py, PyDict>) -> PyResult<Bound<'py, PyAny>> {
        self.0.bind(environ.py()).call_method1("before", (environ,))
    }

    /// post_request.
    pub fn after(
        &self,
        request: Bound<'_, PyAny>,
        environ: &Bound<'_, PyDict>,
        status: String,
        fields: Vec<(String, String)>,
        sent: u64,
    ) -> PyResult<()> {
        self.0.bind(environ.py()).call_method1("after", (request, environ, status, fields, sent)).map(drop)
    }
}
