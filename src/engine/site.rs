//! The application as the loop calls it.

use std::{os::fd::AsRawFd, sync::Arc};

use ostler_http::RequestHead;
use ostler_serve::{Application, Gone, Request, Response};
use ostler_wire::{Boot, channel::fit, log};
use pyo3::{
    exceptions::PySystemExit,
    prelude::*,
    types::{PyDict, PyList, PyTuple},
};
use slog::{Logger, debug, error, warn};

use crate::{
    children,
    delivery::{Fault, deliver},
    embedded::{self, SERVING},
    environ::Environ,
    fork,
    given::Rules,
    input::Input,
    lock::Lock,
    object::{self, KeptBytes, references},
    reply::{Callables, Reply, held},
    stacks::Stacks,
};

/// The application and what its calls have in common.
pub struct Site {
    parts: Parts,
    constant: Py<PyDict>,
    boot: Boot,
    stacks: Stacks,
    log: Logger,
}

/// Python objects that calls need.
pub struct Parts {
    application: Py<PyAny>,
    /// The class behind `wsgi.file_wrapper`.
    pub file_wrapper: Py<PyAny>,
    /// Finds the plain file below a wrapper.
    pub plain_file: Py<PyAny>,
    /// The type of generators.
    pub generator: Py<PyAny>,
    /// How much is taken from the application.
    pub rules: Arc<Rules>,
    /// `--no-sendfile` was not given.
    pub sendfile: bool,
}

/// What one Python thread keeps from call to call.
pub struct Caller {
    lock: Lock,
    desk: Desk,
}

struct Desk {
    environ: Environ,
    callables: Callables,
    input: Py<Input>,
}

/// What `wsgi.errors` brings.
#[pyfunction]
fn write_to_log(py: Python<'_>, text: &[u8]) {
    py.detach(|| log::write_text(text));
}

impl Site {
    pub fn new(
        py: Python<'_>,
        application: Bound<'_, PyAny>,
        boot: &Boot,
        stacks: Stacks,
        log: Logger,
    ) -> PyResult<Site> {
        let serving = SERVING.import(py)?;
        let file_wrapper = serving.getattr("FileWrapper")?;
        let constant = PyDict::new(py);
        constant.set_item("SERVER_SOFTWARE", concat!("ostler/", env!("CARGO_PKG_VERSION")))?;
        constant.set_item("wsgi.version", (1, 0))?;
        let errors = (wrap_pyfunction!(write_to_log, py)?, log::place().as_raw_fd());
        constant.set_item("wsgi.errors", serving.call_method1("error_stream", errors)?)?;
        constant.set_item("wsgi.multithread", boot.worker.threads > 1)?;
        constant.set_item("wsgi.multiprocess", boot.workers > 1)?;
        constant.set_item("wsgi.run_once", false)?;
        constant.set_item("wsgi.input_terminated", true)?;
        constant.set_item("wsgi.file_wrapper", &file_wrapper)?;
        let parts = Parts {
            application: application.unbind(),
            file_wrapper: file_wrapper.unbind(),
            plain_file: serving.getattr("plain_file")?.unbind(),
            generator: py.import("types")?.getattr("GeneratorType")?.unbind(),
            rules: Arc::new(Rules::new(boot.worker.strict_application, log.clone())),
            sendfile: boot.worker.sendfile,
        };
        Ok(Site { parts, constant: constant.unbind(), boot: boot.clone(), stacks, log })
    }

    /// One request, from its environ to the end of its call.
    fn answer(&self, py: Python<'_>, desk: &mut Desk, request: &mut Request<'_>, response: &mut Response<'_>) {
        let line = (request.head, request.bytes);
        let environ = desk.prepare(py, request, &self.parts.rules);
        let start_response = desk.callables.start_response.bind(py);
        desk.callables.during(py, response, |reply| match &environ {
            Ok(environ) => self.call_application(reply, environ, start_response, line),
            Err(error) => self.explain(reply, line, Fault::Raised(error.clone_ref(py))),
        });
        if children::is_one() {
            children::end(py, None)
        }
        drop(environ);
        desk.put_away(py);
    }

    /// One call of the application, from its environ to `close()`.
    fn call_application(
        &self,
        reply: &Bound<'_, Reply>,
        environ: &Bound<'_, PyDict>,
        start_response: &Bound<'_, PyAny>,
        line: Line,
    ) {
        match object::call(self.parts.application.bind(reply.py()), environ, start_response) {
            Ok(result) => {
                if let Err(fault) = deliver(&self.parts, reply, &result) {
                    self.explain(reply, line, fault);
                }
                self.close(result, line);
            }
            Err(error) => self.explain(reply, line, Fault::Raised(error)),
        }
        if let Ok(mut reply) = held(reply) {
            reply.note_environ(environ);
        }
    }

    /// Ends a response that is not whole so that the client sees it, and logs why.
    fn explain(&self, reply: &Bound<'_, Reply>, line: Line, fault: Fault) {
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
        match fault {
            Fault::Length(length) => warn!(self.log, "body does not have its Content-Length";
                "request" => request(), "promised" => length.promised, "given" => length.given),
            Fault::Gone(Gone::Left) => debug!(self.log, "client left"; "request" => request()),
            // The worker has said why.
            Fault::Gone(Gone::GivenUp) => {}
            Fault::Raised(error) if gone.is_some() => {
                let what = if gone == Some(Gone::Left) { "client left" } else { "response given up" };
                debug!(self.log, "{}", what; "request" => request(), "raised" => fit(&error.to_string()));
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
        error!(self.log, "application raised";
            "request" => request_line(line), "traceback" => embedded::traceback(py, error));
    }

    /// The first is the main thread, whose name frameworks know.
    fn name_thread(&self, py: Python<'_>, thread: u16) {
        let named =
            SERVING.import(py).and_then(|serving| serving.call_method1("name_thread", (format!("thread {thread}"),)));
        if let Err(error) = named {
            warn!(self.log, "thread not named"; "thread" => thread, "traceback" => embedded::traceback(py, &error));
        }
    }

    fn desk(&self, py: Python<'_>) -> PyResult<Desk> {
        let environ = Environ::new(py, self.constant.bind(py), &self.boot.listeners, &self.boot.worker.root_path)?;
        let callables = Callables::new(py, self.parts.rules.clone())?;
        let input = Py::new(py, Input::new(Default::default()))?;
        let desk = Desk { environ, callables, input };
        desk.lay_out(py)?;
        Ok(desk)
    }
}

impl Desk {
    /// Makes the environ of a request, of things that earlier requests have let go of where possible.
    fn prepare<'py>(
        &mut self,
        py: Python<'py>,
        request: &mut Request<'_>,
        rules: &Arc<Rules>,
    ) -> PyResult<Bound<'py, PyDict>> {
        let body = std::mem::take(&mut request.body);
        let length = body.length();
        let free = self.callables.ours_alone(py);
        let drained = self.input_is_free(py);
        if !free {
            self.callables.leave(py)?;
            self.callables = Callables::new(py, rules.clone())?;
        }
        if drained {
            self.input.bind(py).borrow_mut().refill(body);
        } else {
            self.input = Py::new(py, Input::new(body))?;
        }
        if !free || !drained {
            self.lay_out(py)?;
        }
        self.environ.build(py, request, length)
    }

    /// Lets go of the body when the call is over, unless the application has kept the input.
    fn put_away(&self, py: Python<'_>) {
        let kept = !self.input_is_free(py);
        // Where another thread of the application is reading, it finds out for itself.
        if let Ok(mut input) = self.input.bind(py).try_borrow_mut() {
            input.put_away(kept);
        }
    }

    fn input_is_free(&self, py: Python<'_>) -> bool {
        // The pattern environ holds one reference too.
        references(self.input.bind(py)) == 2
    }

    fn lay_out(&self, py: Python<'_>) -> PyResult<()> {
        self.environ.set(py, "wsgi.input", self.input.bind(py))?;
        self.environ.set(py, "wsgi.early_hints", self.callables.early_hints.bind(py))?;
        self.environ.set(py, "ostler.client_disconnected", self.callables.client_disconnected.bind(py))
    }
}

impl Application for Site {
    type Caller = Caller;

    fn caller(&self, thread: u16) -> Caller {
        let mut lock = Lock::new();
        let desk = lock.with(|py| {
            if thread > 0 {
                self.name_thread(py, thread);
            }
            self.desk(py).expect("Python has memory for a handful of objects")
        });
        lock.release();
        Caller { lock, desk }
    }

    fn prepare(&self, caller: &mut Caller) {
        caller.lock.take();
    }

    fn is_prepared(&self, caller: &Caller) -> bool {
        caller.lock.is_held()
    }

    fn call(&self, caller: &mut Caller, request: &mut Request<'_>, response: &mut Response<'_>) {
        let Caller { lock, desk } = caller;
        lock.with(|py| self.answer(py, desk, request, response));
    }

    fn stacks(&self) -> String {
        self.stacks.dump()
    }

    fn abandon(&self, code: i32) -> ! {
        // Python's own streams have nothing to lose: standard output and wsgi.errors hold whole lines back from nobody.
        fork::exit(code)
    }

    fn rest(&self, caller: &mut Caller) {
        // pyo3 frees it in here. Where there are several threads, one of them may have the lock for long: then the next call frees it.
        if (self.boot.worker.threads == 1 || caller.lock.is_held()) && KeptBytes::let_go() {
            caller.lock.with(|_| {});
        }
        caller.lock.release();
    }
}

/// A request's head and its bytes, for the log.
type Line<'a> = (&'a RequestHead, &'a [u8]);

/// `GET /path`
fn request_line((head, bytes): Line) -> String {
    let part = |span: ostler_http::Span| String::from_utf8_lossy(span.of(bytes)).into_owned();
    format!("{} {}", part(head.method), part(head.target))
}
