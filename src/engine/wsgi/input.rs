//! `wsgi.input`: the body as a file, from memory, from its spool file, or as it arrives.

use std::{
    io::{self, BufRead, BufReader, Read},
    sync::{Mutex, PoisonError},
};

use ostler_serve::{Body, BodyBytes, LiveBody, SpoolFile};
use pyo3::{
    exceptions::{PyOSError, PyStopIteration},
    prelude::*,
    types::{PyBytes, PyList},
};

/// How many bytes are read from a spool file or a connection at once.
const BUFFER: usize = 64 * 1024;

/// The Python object.
#[pyclass(module = "ostler", name = "Input")]
pub struct Input {
    // Never locked by two threads: all methods have `&mut self`. The Mutex is here because a connection's reader is not Sync.
    source: Mutex<Source>,
}

enum Source {
    Empty,
    /// All of it, and how much has been read.
    Memory(BodyBytes, usize),
    /// What is left of it, in bytes.
    File(BufReader<SpoolFile>, u64),
    Live(BufReader<LiveBody>),
    /// It was read from the connection, and the request is over.
    Over,
}

impl Input {
    pub fn new(body: Body) -> Input {
        Input { source: Mutex::new(Source::new(body)) }
    }

    /// Makes it the input of another request, after `put_away`.
    pub fn refill(&mut self, body: Body) {
        if !matches!(body, Body::Empty) {
            *self.source() = Source::new(body);
        }
    }

    /// The call is over. If the application has `kept` the input, it can still read what is on disk or in memory.
    pub fn put_away(&mut self, kept: bool) {
        let source = self.source();
        match source {
            Source::Empty => {}
            Source::Live(_) if kept => *source = Source::Over,
            _ if kept => {}
            _ => *source = Source::new(Body::Empty),
        }
    }

    fn source(&mut self) -> &mut Source {
        self.source.get_mut().unwrap_or_else(PoisonError::into_inner)
    }
}

#[pymethods]
impl Input {
    /// Up to `size` bytes, or all: fewer only at the end.
    #[pyo3(signature = (size=None))]
    fn read<'py>(&mut self, py: Python<'py>, size: Option<i64>) -> PyResult<Bound<'py, PyBytes>> {
        self.source().read(py, limit(size))
    }

    /// One line with its end, or the first `size` bytes of it.
    #[pyo3(signature = (size=None))]
    fn readline<'py>(&mut self, py: Python<'py>, size: Option<i64>) -> PyResult<Bound<'py, PyBytes>> {
        self.source().line(py, limit(size))
    }

    /// Lines until the end, or until they have `hint` bytes together.
    #[pyo3(signature = (hint=None))]
    fn readlines<'py>(&mut self, py: Python<'py>, hint: Option<i64>) -> PyResult<Bound<'py, PyList>> {
        let enough = hint.filter(|&hint| hint > 0).map_or(u64::MAX, |hint| hint as u64);
        let lines = PyList::empty(py);
        let mut total = 0;
        while total < enough {
            let line = self.source().line(py, u64::MAX)?;
            if line.as_bytes().is_empty() {
                break;
            }
            total += line.as_bytes().len() as u64;
            lines.append(line)?;
        }
        Ok(lines)
    }

    fn __iter__(slf: PyRef<'_, Self>) -> PyRef<'_, Self> {
        slf
    }

    fn __next__<'py>(&mut self, py: Python<'py>) -> PyResult<Bound<'py, PyBytes>> {
        let line = self.source().line(py, u64::MAX)?;
        if line.as_bytes().is_empty() { Err(PyStopIteration::new_err(())) } else { Ok(line) }
    }
}

/// How much a Python caller wants: None or a negative number means all.
fn limit(size: Option<i64>) -> u64 {
    size.and_then(|size| u64::try_from(size).ok()).unwrap_or(u64::MAX)
}

impl Source {
    fn new(body: Body) -> Source {
        match body {
            Body::Empty => Source::Empty,
            Body::Memory(bytes) => Source::Memory(bytes, 0),
            Body::File(file, length) => Source::File(BufReader::with_capacity(BUFFER, file), length),
            Body::Live(body) => Source::Live(BufReader::with_capacity(BUFFER, body)),
        }
    }

    fn read<'py>(&mut self, py: Python<'py>, limit: u64) -> PyResult<Bound<'py, PyBytes>> {
        match self {
            Source::Empty => Ok(PyBytes::new(py, b"")),
            Source::Memory(bytes, position) => {
                let rest = &bytes[*position..];
                let block = &rest[..rest.len().min(usize::try_from(limit).unwrap_or(usize::MAX))];
                *position += block.len();
                Ok(PyBytes::new(py, block))
            }
            Source::File(file, left) => {
                let length = limit.min(*left);
                let block = PyBytes::new_with(py, length as usize, |into| {
                    py.detach(|| file.read_exact(into)).map_err(PyErr::from)
                })?;
                *left -= length;
                Ok(block)
            }
            Source::Live(body) => {
                let mut block = Vec::new();
                py.detach(|| body.take(limit).read_to_end(&mut block))?;
                Ok(PyBytes::new(py, &block))
            }
            Source::Over => Err(over()),
        }
    }

    fn line<'py>(&mut self, py: Python<'py>, limit: u64) -> PyResult<Bound<'py, PyBytes>> {
        let mut line = Vec::new();
        match self {
            Source::Empty => {}
            Source::Memory(bytes, position) => {
                let mut rest = &bytes[*position..];
                rest = &rest[..rest.len().min(usize::try_from(limit).unwrap_or(usize::MAX))];
                let end = memchr::memchr(b'\n', rest).map_or(rest.len(), |newline| newline + 1);
                *position += end;
                return Ok(PyBytes::new(py, &rest[..end]));
            }
            Source::File(file, left) => {
                *left -= py.detach(|| read_line(file, limit.min(*left), &mut line))?;
            }
            Source::Live(body) => {
                py.detach(|| read_line(body, limit, &mut line))?;
            }
            Source::Over => return Err(over()),
        }
        Ok(PyBytes::new(py, &line))
    }
}

fn over() -> PyErr {
    PyOSError::new_err("wsgi.input was read after its request was over")
}

fn read_line(source: &mut impl BufRead, limit: u64, into: &mut Vec<u8>) -> io::Result<u64> {
    source.take(limit).read_until(b'\n', into).map(|length| length as u64)
}
