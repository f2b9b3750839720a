//! The application as the loop calls it.

use std::sync::Arc;

use ostler_http::RequestHead;
use ostler_serve::{Application, Gone, Request, Response};
use ostler_wire::{Boot, FailedCode, channel::fit};
use pyo3::{
    exceptions::PySystemExit,
    prelude::*,
    types::{PyDict, PyList, PyTuple},
};
use slog::{Logger, debug, warn};

use super::{
    SERVING, calling,
    result::{Fault, Kinds, deliver},
    reuse::Reusable,
    rules::Rules,
    start_response::{WsgiResponse, held},
};
use crate::{
    process::{
        children,
        failing::{self, Failed},
        fork,
        gunicorn::{self, RequestHooks},
        import::traceback,
        streams,
    },
    python::{
        lock::Lock,
        object::{self, KeptBytes},
        stacks::Stacks,
    },
};

/// The application and what its calls have in common.
pub struct Site {
    application: Py<PyAny>,
    /// What is accepted from the application.
    rules: Arc<Rules>,
    kinds: Kinds,
    constant: Py<PyDict>,
    boot: Boot,
    hooks: Option<RequestHooks>,
    report: Report,
    /// Of a worker's process.
    stacks: Option<Stacks>,
    /// With `--reload`.
    pub failed: Option<Py<Failed>>,
    log: Logger,
}

/// Where goes what is said of the application, and by it.
pub struct Outlets<'py> {
    /// `wsgi.errors`
    pub errors: Bound<'py, PyAny>,
    pub report: Report,
    /// Of a worker's process.
    pub stacks: Option<Stacks>,
    pub log: Logger,
}

/// Logs an exception of the application's, with the line of its request.
pub type Report = Box<dyn Fn(Python<'_>, &str, &PyErr) + Send + Sync>;

/// What one Python thread keeps from call to call.
pub struct Caller {
    lock: Lock,
    reusable: Reusable,
}

impl Caller {
    /// Runs `work` with the interpreter lock, and keeps it.
    pub fn with<T>(&mut self, work: impl FnOnce(Python<'_>) -> T) -> T {
        self.lock.with(work)
    }
}

impl Site {
    pub fn new<'py>(
        application: Bound<'py, PyAny>,
        boot: &Boot,
        hooks: Option<RequestHooks>,
        outlets: Outlets<'py>,
    ) -> PyResult<Site> {
        let py = application.py();
        let Outlets { errors, report, stacks, log } = outlets;
        let serving = SERVING.import(py)?;
        let constant = PyDict::new(py);
        constant.set_item("SERVER_SOFTWARE", gunicorn::server_software(boot))?;
        constant.set_item("wsgi.version", (1, 0))?;
        constant.set_item("wsgi.errors", errors)?;
        constant.set_item("wsgi.multithread", boot.worker.threads > 1)?;
        constant.set_item("wsgi.multiprocess", boot.workers > 1)?;
        constant.set_item("wsgi.run_once", false)?;
        constant.set_item("wsgi.input_terminated", true)?;
        constant.set_item("wsgi.file_wrapper", serving.getattr("FileWrapper")?)?;
        let failed = failing::of(&application, boot)?;
        Ok(Site {
            application: application.unbind(),
            rules: Arc::new(Rules::new(boot.worker.strict_application, log.clone())),
            kinds: Kinds::new(&serving, boot.worker.sendfile)?,
            constant: constant.unbind(),
            boot: boot.clone(),
            hooks,
            report,
            stacks,
            failed,
            log,
        })
    }

    /// One request, from its environ to the end of its call.
    fn answer(&self, py: Python<'_>, reusable: &mut Reusable, request: &mut Request<'_>, response: &mut Response<'_>) {
        let line = Line { head: request.head, bytes: request.bytes, id: request.id };
        let environ = reusable.prepare(py, request, &self.rules);
        let start_response = reusable.callables.start_response.bind(py);
        let raised = response.is_private().then(|| watch_raised(py));
        reusable.callables.during(py, response, |reply| match &environ {
            Ok(environ) => self.call_application(reply, environ, start_response, line),
            Err(error) => self.explain(reply, line, Fault::Raised(error.clone_ref(py))),
        });
        streams::end_lines(py);
        if let Some(Ok(Some(error))) = raised.map(|watched| watched.and_then(last_raised)) {
            response.raised(traceback(py, &error));
        }
        if children::is_one() {
            children::end(py, None)
        }
        drop(environ);
        reusable.put_away(py);
    }

    /// One call of the application, from its environ to `close()`.
    fn call_application(
        &self,
        reply: &Bound<'_, WsgiResponse>,
        environ: &Bound<'_, PyDict>,
        start_response: &Bound<'_, PyAny>,
        line: Line,
    ) {
        let hooks = self.hooks.as_ref().and_then(|hooks| Some((hooks, self.hook(hooks.before(environ), line)?)));
        match object::call(self.application.bind(reply.py()), environ, start_response) {
            Ok(result) => {
                if let Err(fault) = deliver(&self.kinds, reply, &result) {
                    self.explain(reply, line, fault);
                }
                self.close(result, line);
            }
            Err(error) => self.explain(reply, line, Fault::Raised(error)),
        }
        if let Some((hooks, seen)) = hooks.filter(|_| !children::is_one())
            && let Some((status, fields, sent)) = held(reply).ok().map(|mut reply| reply.described())
        {
            self.hook(hooks.after(seen, environ, status, fields, sent), line);
        }
        if let Ok(mut reply) = held(reply) {
            reply.note_environ(environ);
        }
    }

    /// What a hook returned. One that raised is logged where it was called; this is the rest.
    fn hook<T>(&self, called: PyResult<T>, line: Line) -> Option<T> {
        called.inspect_err(|error| Python::attach(|py| self.log_exception(py, line, error))).ok()
    }

    /// The worker ends; `at_once`: without waiting for requests.
    pub fn ends(&self, py: Python<'_>, at_once: bool) {
        gunicorn::ends(py, &self.boot, at_once, &self.log);
    }

    /// The worker's process may go on as a template. What the application has opened stays open for those that are forked: the hook that
    /// closes it (`worker_exit`) is for processes that end.
    pub fn retire(&mut self) {
        self.stacks = None;
    }

    pub fn application(&self, py: Python<'_>) -> Py<PyAny> {
        self.application.clone_ref(py)
    }

    /// Ends an incomplete response so that the client notices, and logs why.
    fn explain(&self, reply: &Bound<'_, WsgiResponse>, line: Line, fault: Fault) {
        if let Fault::Raised(error) = &fault
            && children::is_one()
        {
            self.end_child(reply.py(), line, error);
        }
        let mut gone = None;
        let request = || request_line(line);
        if !matches!(fault, Fault::Length(_))
            && let Ok(mut reply) = held(reply)
        {
            reply.fail();
            gone = reply.was_gone();
        }
        if let Fault::Raised(error) = &fault
            && let Ok(mut reply) = held(reply)
        {
            reply.note_raised(error);
        }
        match fault {
            Fault::Length(length) => warn!(self.log, "body does not have its Content-Length";
                "request" => request(), "request_id" => line.id, "promised" => length.promised, "given" => length.given),
            Fault::Gone(Gone::Left) => debug!(self.log, "client left"; "request" => request(), "request_id" => line.id),
            // The worker has said why.
            Fault::Gone(Gone::GivenUp) => {}
            Fault::Raised(error) if gone.is_some() => {
                let what = if gone == Some(Gone::Left) { "client left" } else { "response given up" };
                debug!(self.log, "{}", what; "request" => request(), "request_id" => line.id, "raised" => fit(&error.to_string()));
            }
            Fault::Raised(error) => self.log_exception(reply.py(), line, &error),
        }
    }

    /// PEP 3333: "the server must call that method upon completion of the current request".
    fn close(&self, result: Bound<'_, PyAny>, line: Line) {
        let py = result.py();
        if result.is_exact_instance_of::<PyList>() || result.is_exact_instance_of::<PyTuple>() {
            return;
        }
        let closed = match result.getattr_opt(pyo3::intern!(py, "close")) {
            Ok(Some(close)) => close.call0().map(drop),
            Ok(None) => Ok(()),
            Err(error) => Err(error),
        };
        if let Err(error) = closed {
            self.log_exception(py, line, &error);
        }
    }

    fn end_child(&self, py: Python<'_>, line: Line, error: &PyErr) -> ! {
        if !error.is_instance_of::<PySystemExit>(py) {
            self.log_exception(py, line, error);
        }
        children::end(py, Some(error))
    }

    fn log_exception(&self, py: Python<'_>, line: Line, error: &PyErr) {
        (self.report)(py, &request_line(line), error);
    }

    /// Names a Python thread. The first is the main thread and keeps its name, which frameworks know.
    fn name_thread(&self, py: Python<'_>, thread: u16) {
        let named =
            SERVING.import(py).and_then(|serving| serving.call_method1("name_thread", (format!("thread {thread}"),)));
        if let Err(error) = named {
            warn!(self.log, "thread not named"; "thread" => thread, "traceback" => traceback(py, &error));
        }
    }
}

impl Application for Site {
    type Caller = Caller;

    fn caller(&self, thread: u16) -> Caller {
        let mut lock = Lock::new();
        let reusable = lock.with(|py| {
            if thread > 0 {
                self.name_thread(py, thread);
            }
            Reusable::new(py, self.constant.bind(py), &self.boot, self.rules.clone())
                .expect("Python has memory for a handful of objects")
        });
        lock.release();
        Caller { lock, reusable }
    }

    fn prepare(&self, caller: &mut Caller) {
        caller.lock.take();
    }

    fn is_prepared(&self, caller: &Caller) -> bool {
        caller.lock.is_held()
    }

    fn call(&self, caller: &mut Caller, request: &mut Request<'_>, response: &mut Response<'_>) {
        let Caller { lock, reusable } = caller;
        let _call = request.id.map(calling::Call::begin);
        lock.with(|py| self.answer(py, reusable, request, response));
    }

    fn stacks(&self) -> String {
        self.stacks.as_ref().map(Stacks::dump).unwrap_or_default()
    }

    fn show(&self, failed: FailedCode) {
        if let Some(shown) = &self.failed {
            shown.get().note(failed);
        }
    }

    fn abandon(&self, code: i32) -> ! {
        gunicorn::aborts();
        // Nothing is flushed: standard output and wsgi.errors are line-buffered, so only unfinished lines are lost.
        fork::exit(code)
    }

    fn release(&self, caller: &mut Caller) {
        // pyo3 frees dropped objects when the lock is taken. With several threads another may hold it for long: then the next call frees
        // them.
        if (self.boot.worker.threads == 1 || caller.lock.is_held()) && KeptBytes::let_go() {
            caller.lock.with(|_| {});
        }
        caller.lock.release();
    }
}

/// Notes which exceptions this thread logs from now on: the site's own request (`--smoke`) is to tell. A framework catches what a view raises.
fn watch_raised(py: Python<'_>) -> PyResult<Bound<'_, PyAny>> {
    SERVING.import(py)?.call_method0("watch_raised")
}

/// Ends that. The last of them, if there was one.
fn last_raised(watched: Bound<'_, PyAny>) -> PyResult<Option<PyErr>> {
    let error = watched.call0()?;
    Ok((!error.is_none()).then(|| PyErr::from_value(error)))
}

/// A request, for the log.
#[derive(Clone, Copy)]
struct Line<'a> {
    head: &'a RequestHead,
    bytes: &'a [u8],
    id: Option<&'a str>,
}

/// `GET /path`
fn request_line(line: Line) -> String {
    let part = |span: ostler_http::Span| String::from_utf8_lossy(span.of(line.bytes)).into_owned();
    format!("{} {}", part(line.head.method), part(line.head.target))
}
