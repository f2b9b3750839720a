//! The callables that an application gets: `start_response` and the `write` it returns, `wsgi.early_hints`, and
//! `ostler.client_disconnected`. They belong to one call, and are used again for the next unless the application has kept one.

use std::{borrow::Cow, os::fd::OwnedFd, ptr::NonNull, sync::Arc, time::Duration};

use ostler_http::ResponseHead;
use ostler_serve::{BodyLength, Gone, Response};
use pyo3::{
    exceptions::{PyAssertionError, PyBrokenPipeError, PyRuntimeError, PyTypeError},
    prelude::*,
    types::{PyBytes, PyDict},
};

use super::rules::Rules;
use crate::{
    process::{children, import::traceback},
    python::{
        lock,
        object::{KeptBytes, references},
    },
};

/// The response of one call.
#[pyclass(module = "ostler", name = "WsgiResponse")]
pub struct WsgiResponse {
    pointer: Option<ResponsePointer>,
    head: ResponseHead,
    /// Why a block could not be sent.
    gone: Option<Gone>,
    /// The bound method, which start_response returns.
    write: Option<Py<PyAny>>,
    rules: Arc<Rules>,
}

/// The loop's response, while the call lasts.
struct ResponsePointer(NonNull<Response<'static>>);

// SAFETY: a Response may be used from any thread (`Response: Send` is checked below), and `WsgiResponse` gives access to
// one thread at a time.
unsafe impl Send for ResponsePointer {}
// SAFETY: there is no access through a shared reference.
unsafe impl Sync for ResponsePointer {}

const _: () = {
    const fn may_be_used_by_any_thread<T: Send>() {}
    may_be_used_by_any_thread::<Response<'static>>();
};

/// A `WsgiResponse` with its bound methods.
pub struct Callables {
    reply: Py<WsgiResponse>,
    /// For the application.
    pub start_response: Py<PyAny>,
    write: Py<PyAny>,
    /// For the environ.
    pub early_hints: Py<PyAny>,
    /// For the environ.
    pub client_disconnected: Py<PyAny>,
}

impl Callables {
    pub fn new(py: Python<'_>, rules: Arc<Rules>) -> PyResult<Callables> {
        let new = WsgiResponse { pointer: None, head: ResponseHead::default(), gone: None, write: None, rules };
        let reply = Bound::new(py, new)?;
        let write = reply.getattr("write")?.unbind();
        reply.borrow_mut().write = Some(write.clone_ref(py));
        Ok(Callables {
            start_response: reply.getattr("start_response")?.unbind(),
            write,
            early_hints: reply.getattr("early_hints")?.unbind(),
            client_disconnected: reply.getattr("client_disconnected")?.unbind(),
            reply: reply.unbind(),
        })
    }

    /// Lends the response to the application for the length of `work`.
    pub fn during<T>(
        &self,
        py: Python<'_>,
        response: &mut Response<'_>,
        work: impl FnOnce(&Bound<'_, WsgiResponse>) -> T,
    ) -> T {
        struct Until<'a, 'py>(&'a Bound<'py, WsgiResponse>);
        impl Drop for Until<'_, '_> {
            fn drop(&mut self) {
                shut(self.0);
            }
        }
        let reply = self.reply.bind(py);
        {
            let mut open = reply.borrow_mut();
            open.pointer = Some(ResponsePointer(NonNull::from(response).cast()));
            open.head.clear();
            open.gone = None;
        }
        let until = Until(reply);
        work(until.0)
    }

    /// Whether nothing else refers to these: the application has kept none of them, nor the environ.
    pub fn ours_alone(&self, py: Python<'_>) -> bool {
        // One reference here for each; those of the response and of the pattern environ; and each bound method's to the response.
        let expected = [(self.reply.as_any(), 5), (&self.start_response, 1), (&self.write, 2)];
        let in_environ = [(&self.early_hints, 2), (&self.client_disconnected, 2)];
        expected.iter().chain(&in_environ).all(|(object, count)| references(object.bind(py)) == *count)
    }

    /// Gives up a set of which the application has kept something.
    pub fn leave(&self, py: Python<'_>) -> PyResult<()> {
        held(self.reply.bind(py))?.write = None;
        Ok(())
    }
}

/// The response, for this thread alone. It is an error while another thread of the application waits in write().
pub fn held<'py>(reply: &Bound<'py, WsgiResponse>) -> PyResult<PyRefMut<'py, WsgiResponse>> {
    reply.try_borrow_mut().map_err(|_| PyRuntimeError::new_err("another thread is sending a block of this response"))
}

/// Takes the loop's response back. If another thread is in write(), this waits for it.
fn shut(reply: &Bound<'_, WsgiResponse>) {
    loop {
        if let Ok(mut reply) = held(reply) {
            reply.pointer = None;
            return;
        }
        lock::without(reply.py(), &mut || std::thread::sleep(Duration::from_millis(1)));
    }
}

#[pymethods]
impl WsgiResponse {
    /// PEP 3333, "The start_response() Callable".
    #[pyo3(signature = (status, headers, exc_info=None, /))]
    fn start_response(
        &mut self,
        py: Python<'_>,
        status: &Bound<'_, PyAny>,
        headers: &Bound<'_, PyAny>,
        exc_info: Option<&Bound<'_, PyAny>>,
    ) -> PyResult<Py<PyAny>> {
        let begun = self.response()?.begun();
        match exc_info.filter(|exc_info| !exc_info.is_none() && exc_info.is_truthy().unwrap_or(true)) {
            Some(exc_info) if begun => return Err(raise_again(exc_info)?),
            None if self.head.begun() => {
                return Err(PyAssertionError::new_err("start_response was called a second time without exc_info"));
            }
            _ => {}
        }
        self.fill(status, headers).inspect_err(|_| self.head.clear())?;
        Ok(self.write.as_ref().expect("there while the reply has a response").clone_ref(py))
    }

    /// PEP 3333, "The write() Callable".
    #[pyo3(signature = (block, /))]
    fn write(&mut self, py: Python<'_>, block: &Bound<'_, PyAny>) -> PyResult<()> {
        let block = self.block_of(block, "write() wants")?;
        self.response()?;
        self.send(py, block.as_bytes()).map_err(|_| PyBrokenPipeError::new_err("the client is gone"))
    }

    /// `environ['wsgi.early_hints']([('Link', '</style.css>; rel=preload')])`: 103, if the client understands it (RFC 8297).
    #[pyo3(signature = (headers, /))]
    fn early_hints(&mut self, headers: &Bound<'_, PyAny>) -> PyResult<()> {
        let mut hints = ResponseHead::default();
        let (response, _, rules) = self.parts()?;
        rules.each_field(headers, || response.request_line(), |name, value| hints.field(name, value))?;
        let sent = response.early_hints(&hints);
        self.gone = self.gone.or(sent.err());
        Ok(())
    }

    /// `environ['ostler.client_disconnected']()`: whether the client has left. Does not wait.
    fn client_disconnected(slf: &Bound<'_, Self>) -> bool {
        // While another thread is sending to the client, it counts as connected.
        held(slf).is_ok_and(|mut reply| reply.is_gone())
    }
}

impl WsgiResponse {
    /// A block of the body as bytes; `who` begins an exception's sentence.
    pub fn block_of<'a, 'py>(&self, block: &'a Bound<'py, PyAny>, who: &str) -> PyResult<Cow<'a, Bound<'py, PyBytes>>> {
        self.rules.block(block, who)
    }

    /// Whether start_response was called and has not raised.
    pub fn has_head(&self) -> bool {
        self.head.begun()
    }

    /// Whether a file is to be sent in place of the body, because the head names it.
    pub fn is_replaced(&mut self) -> bool {
        self.parts().is_ok_and(|(response, head, _)| response.is_replaced(head))
    }

    /// Whether the head has gone out.
    pub fn begun(&mut self) -> bool {
        self.response().is_ok_and(|response| response.begun())
    }

    /// Why a block could not be sent, if one could not.
    pub fn was_gone(&self) -> Option<Gone> {
        self.gone
    }

    /// Asks whether the client is there. One system call.
    pub fn is_gone(&mut self) -> bool {
        if self.gone.is_none() && self.response().map_or(true, |response| response.client_gone()) {
            self.gone = Some(Gone::Left);
        }
        self.gone.is_some()
    }

    /// Sends a whole body, and ends the response.
    pub fn whole(&mut self, body: &Bound<'_, PyBytes>) -> PyResult<Result<(), BodyLength>> {
        let py = body.py();
        let wait = &mut |work: &mut (dyn FnMut() + Send)| lock::without(py, work);
        let (response, head, _) = self.parts()?;
        Ok(response.whole_or_kept(head, body.as_bytes(), &mut || KeptBytes::of(body), wait))
    }

    /// Sends a block, and the head before the first. An empty block sends nothing.
    pub fn send(&mut self, py: Python<'_>, block: &[u8]) -> Result<(), Gone> {
        if block.is_empty() {
            return Ok(());
        }
        let wait = &mut |work: &mut (dyn FnMut() + Send)| lock::without(py, work);
        let (response, head, _) = self.parts().map_err(|_| Gone::GivenUp)?;
        let sent = if response.begun() { response.block(block, wait) } else { response.begin(head, block, wait) };
        self.gone = self.gone.or(sent.err());
        sent
    }

    /// Sends a file by the kernel (sendfile(2)), and ends the response.
    pub fn file(&mut self, file: OwnedFd, offset: u64, length: u64) -> PyResult<Result<(), BodyLength>> {
        let (response, head, _) = self.parts()?;
        Ok(response.file(head, file, offset, length))
    }

    /// Ends the response.
    pub fn end(&mut self) -> PyResult<Result<(), BodyLength>> {
        let (response, head, _) = self.parts()?;
        Ok(response.end(head))
    }

    /// Gives the access log the keys of the environ that its format names.
    pub fn note_environ(&mut self, environ: &Bound<'_, PyDict>) {
        let Ok(response) = self.response() else { return };
        for index in 0..response.logged_environ().len() {
            let key = &response.logged_environ()[index];
            let named = |key: &str| environ.get_item(key).ok().flatten();
            let value = named(key).or_else(|| named(&key.to_ascii_uppercase()));
            if let Some(value) = value.and_then(|value| value.str().ok()) {
                response.note_environ(index, value.to_string_lossy().as_bytes());
            }
        }
    }

    /// Status, fields and the bytes of the body that were sent, for hooks. Without a head of the application's, what the server answered.
    pub fn described(&mut self) -> (String, Vec<(String, String)>, u64) {
        let text = |bytes: &[u8]| bytes.iter().map(|&byte| char::from(byte)).collect::<String>();
        let status = match self.head.begun() {
            true => format!("{} {}", self.head.status(), text(self.head.phrase())),
            false => "500 Internal Server Error".to_owned(),
        };
        let fields = self.head.fields().map(|(name, value)| (text(name), text(value))).collect();
        (status, fields, self.response().map_or(0, |response| response.body_sent()))
    }

    /// Keeps what the application has raised in a request of the site's own.
    pub fn note_raised(&mut self, error: &PyErr) {
        if let Ok(response) = self.response()
            && response.is_private()
        {
            Python::attach(|py| response.raised(traceback(py, error)));
        }
    }

    /// After an exception: the server's own 500, or a cut that the client notices.
    pub fn fail(&mut self) {
        let left = self.gone.is_some();
        if let Ok(response) = self.response() {
            if response.begun() { response.cut(left) } else { response.failed() }
        }
    }

    fn response(&mut self) -> PyResult<&mut Response<'static>> {
        Ok(self.parts()?.0)
    }

    fn fill(&mut self, status: &Bound<'_, PyAny>, headers: &Bound<'_, PyAny>) -> PyResult<()> {
        let (response, head, rules) = self.parts()?;
        rules.begin(head, status, headers, || response.request_line())
    }

    fn parts(&mut self) -> PyResult<(&mut Response<'static>, &mut ResponseHead, &Rules)> {
        if children::is_one() {
            return Err(PyRuntimeError::new_err(
                "a process that was forked in a request came back from it; the response is its parent's",
            ));
        }
        let Some(pointer) = &mut self.pointer else {
            return Err(PyRuntimeError::new_err("the request that this belongs to is over"));
        };
        // SAFETY: `during` has put the pointer there and takes it back before the response's borrow ends; `&mut self` makes this
        // the only reference to it. The response lives for less than 'static: the signature gives out a borrow no longer than `self`'s.
        Ok((unsafe { pointer.0.as_mut() }, &mut self.head, &self.rules))
    }
}

/// The exception of an exc_info tuple, with its traceback.
fn raise_again(exc_info: &Bound<'_, PyAny>) -> PyResult<PyErr> {
    let wrong = |_| PyTypeError::new_err("exc_info must be the tuple that sys.exc_info() returns");
    let (_, error, traceback) =
        exc_info.extract::<(Bound<'_, PyAny>, Bound<'_, PyAny>, Bound<'_, PyAny>)>().map_err(wrong)?;
    Ok(PyErr::from_value(error.call_method1("with_traceback", (traceback,))?))
}
