//! Sends the client what the application has returned (PEP 3333, "Specification Details").

use std::{
    os::fd::{BorrowedFd, OwnedFd, RawFd},
    time::{Duration, Instant},
};

use ostler_serve::{BodyLength, Gone};
use pyo3::{
    exceptions::PyAssertionError,
    prelude::*,
    types::{PyList, PyTuple},
};

use super::start_response::{WsgiResponse, held};
use crate::python::object::length;

/// How often it is checked whether the client is still connected, while the application yields nothing but empty blocks.
const LOOK: Duration = Duration::from_millis(5);

/// Why a response is incomplete.
pub enum Fault {
    /// The application raised an exception.
    Raised(PyErr),
    /// The application's Content-Length does not fit its body.
    Length(BodyLength),
    /// The client has left, or the response was given up.
    Gone(Gone),
}

/// What tells apart the kinds of results: files are sent by the kernel, and generators have no length.
pub struct Kinds {
    /// The class behind `wsgi.file_wrapper`.
    file_wrapper: Py<PyAny>,
    /// Finds the plain file below a wrapper.
    plain_file: Py<PyAny>,
    generator: Py<PyAny>,
    /// `--no-sendfile` was not given.
    sendfile: bool,
}

impl Kinds {
    pub fn new(serving: &Bound<'_, PyModule>, sendfile: bool) -> PyResult<Kinds> {
        Ok(Kinds {
            file_wrapper: serving.getattr("FileWrapper")?.unbind(),
            plain_file: serving.getattr("plain_file")?.unbind(),
            generator: serving.py().import("types")?.getattr("GeneratorType")?.unbind(),
            sendfile,
        })
    }
}

impl From<PyErr> for Fault {
    fn from(error: PyErr) -> Fault {
        Fault::Raised(error)
    }
}

impl From<BodyLength> for Fault {
    fn from(length: BodyLength) -> Fault {
        Fault::Length(length)
    }
}

impl From<Gone> for Fault {
    fn from(gone: Gone) -> Fault {
        Fault::Gone(gone)
    }
}

/// Sends the application's result. The caller calls its `close()`.
pub fn deliver(kinds: &Kinds, reply: &Bound<'_, WsgiResponse>, result: &Bound<'_, PyAny>) -> Result<(), Fault> {
    if let Some(only) = only_block(result) {
        return whole(reply, &only);
    }
    if result.get_type().is(kinds.file_wrapper.bind(result.py()))
        && kinds.sendfile
        && !held(reply)?.begun()
        && let Some((file, offset, length)) = plain_file(kinds, result)?
    {
        check_started(reply)?;
        return Ok(held(reply)?.file(file, offset, length)??);
    }
    if held(reply)?.is_replaced() {
        return end(reply);
    }
    // If `len()` raises, the length is unknown.
    let single = !is_generator(kinds, result) && matches!(length(result), Ok(Some(1)));
    iterate(reply, result, single)
}

/// The block of a list or tuple of one.
fn only_block<'py>(result: &Bound<'py, PyAny>) -> Option<Bound<'py, PyAny>> {
    if let Ok(list) = result.cast_exact::<PyList>() {
        return (list.len() == 1).then(|| list.get_item(0).ok()).flatten();
    }
    let tuple = result.cast_exact::<PyTuple>().ok()?;
    (tuple.len() == 1).then(|| tuple.get_item(0).ok()).flatten()
}

fn whole(reply: &Bound<'_, WsgiResponse>, block: &Bound<'_, PyAny>) -> Result<(), Fault> {
    check_started(reply)?;
    let mut reply = held(reply)?;
    let block = reply.block_of(block, "the application's result must hold")?;
    if reply.begun() {
        // The application has called write() before.
        reply.send(block.py(), block.as_bytes())?;
        return Ok(reply.end()??);
    }
    Ok(reply.whole(&block)??)
}

/// Sends block by block, each before the next is asked for. If there is only one, its length is the body's.
fn iterate(reply: &Bound<'_, WsgiResponse>, result: &Bound<'_, PyAny>, single: bool) -> Result<(), Fault> {
    let mut blocks = result.try_iter()?;
    if single {
        let Some(first) = blocks.next().transpose()? else { return end(reply) };
        let Some(second) = blocks.next().transpose()? else { return whole(reply, &first) };
        send(reply, &first)?;
        send(reply, &second)?;
    }
    let mut looked = None;
    while let Some(block) = blocks.next().transpose()? {
        if !send(reply, &block)? {
            if held(reply)?.is_replaced() {
                // A file is sent, whatever would still come.
                break;
            }
            look(reply, &mut looked)?;
        }
    }
    end(reply)
}

/// Sends a block. Returns whether any of it has gone out: it may be empty, or a file takes the place of the body.
fn send(reply: &Bound<'_, WsgiResponse>, block: &Bound<'_, PyAny>) -> Result<bool, Fault> {
    check_started(reply)?;
    let mut reply = held(reply)?;
    let block = reply.block_of(block, "the application must yield")?;
    reply.send(block.py(), block.as_bytes())?;
    Ok(!block.as_bytes().is_empty() && reply.begun())
}

fn look(reply: &Bound<'_, WsgiResponse>, looked: &mut Option<Instant>) -> Result<(), Fault> {
    let now = Instant::now();
    if now - *looked.get_or_insert(now) < LOOK {
        return Ok(());
    }
    *looked = Some(now);
    if held(reply)?.is_gone() { Err(Gone::Left.into()) } else { Ok(()) }
}

fn end(reply: &Bound<'_, WsgiResponse>) -> Result<(), Fault> {
    check_started(reply)?;
    Ok(held(reply)?.end()??)
}

fn check_started(reply: &Bound<'_, WsgiResponse>) -> PyResult<()> {
    if held(reply)?.has_head() {
        return Ok(());
    }
    Err(PyAssertionError::new_err("the application did not call start_response before its first block"))
}

fn is_generator(kinds: &Kinds, result: &Bound<'_, PyAny>) -> bool {
    result.get_type().is(kinds.generator.bind(result.py()))
}

/// The file below a file wrapper, if the kernel can send it.
fn plain_file(kinds: &Kinds, wrapper: &Bound<'_, PyAny>) -> PyResult<Option<(OwnedFd, u64, u64)>> {
    let found = kinds.plain_file.bind(wrapper.py()).call1((wrapper,))?;
    let Some((descriptor, offset, length)) = found.extract::<Option<(RawFd, u64, u64)>>()? else { return Ok(None) };
    // SAFETY: the file object has just been asked for it, is kept alive by the wrapper, and no Python code runs here.
    let descriptor = unsafe { BorrowedFd::borrow_raw(descriptor) };
    Ok(Some((descriptor.try_clone_to_owned()?, offset, length)))
}
