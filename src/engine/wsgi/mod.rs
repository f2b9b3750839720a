//! One call of the application (PEP 3333): `site` makes it, `environ` and `input` go in, `start_response` and `result` carry the
//! response back, and `rules` says what the application may give.

pub mod calling;
mod environ;
mod input;
mod result;
mod reuse;
mod rules;
pub mod site;
mod start_response;

use crate::python::embedded::{Embedded, embedded};

/// Parts of WSGI that are shorter in Python.
pub const SERVING: Embedded = embedded!("serving");
