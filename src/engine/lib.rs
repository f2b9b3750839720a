//! The only code that knows Python: an extension module that turns its interpreter into a template, which forks workers.
//!
//! ```text
//! the interpreter ─▶ boot.py ─▶ main ─▶ process/template: imports the application, forks when the master says so
//!                                          │
//!                                          └▶ process/worker: ostler_serve::run ─▶ wsgi/site: one call of the application
//!                                                                     environ, input ─▶ application ─▶ start_response, result
//! ```
//!
//! | module | job |
//! |---|---|
//! | `process` | the life of template and workers: import, fork, restart, signals, the application's own children, the end |
//! | `server` | `ostler.WSGIServer`: the loop in somebody's program, without master and template |
//! | `wsgi` | one call of the application, as PEP 3333 asks |
//! | `python` | the doors to the interpreter, and most of the `unsafe`: the lock, objects, strings, stacks, embedded code |
//! | `descriptors` | whether a descriptor is still what it was |
//!
//! Python code that is shorter than Rust stands in a `.py` file beside the Rust code that calls it.
//!
//! The master starts it so; descriptor 3 is its channel:
//!
//! ```text
//! python3 -c "$(cat boot.py)" libostler_engine.so
//! ```

use std::os::fd::RawFd;

use pyo3::prelude::*;

mod descriptors;
mod process;
mod python;
mod server;
mod wsgi;

/// Serves a generation as its template, and does not return. `restarted` is the descriptor that `process::restart` left open.
#[pyfunction]
#[pyo3(signature = (restarted=None))]
fn main(py: Python<'_>, restarted: Option<RawFd>) {
    process::template::run(py, restarted)
}

/// What boot.py loads, and the package `ostler`.
#[pymodule]
mod ostler_engine {
    #[pymodule_export]
    use super::main;
    #[pymodule_export]
    use super::server::{end_thread, prepare, serve};
}
