//! The only code that knows Python: an extension module that turns its interpreter into a template, and forks workers.
//!
//! ```text
//! the interpreter ─▶ boot.py ─▶ main ─▶ template: imports the application, forks when the master says so
//!                                          │
//!                                          └▶ worker: ostler_serve::run ─▶ site (one call of the application)
//!                                                                           environ ─▶ application ─▶ given, reply, delivery
//! ```
//!
//! Objects, strings and the interpreter lock have their doors in `object`, `text` and `lock`; what forking needs is in `fork` and
//! `restart`, and for what the application forks in `children`; `belongings` tells whether a descriptor is still what it was. Python
//! code that is shorter than Rust stands in the `.py` files, and `embedded` compiles it in.
//!
//! The master starts it so; descriptor 3 is its channel:
//!
//! ```text
//! python3 -c "$(cat boot.py)" libostler_engine.so
//! ```

use std::os::fd::RawFd;

use pyo3::prelude::*;

mod belongings;
mod children;
mod delivery;
mod embedded;
mod environ;
mod fork;
mod given;
mod input;
mod leaving;
mod lock;
mod object;
mod reply;
mod restart;
mod signals;
mod site;
mod stacks;
mod template;
mod text;
mod title;
mod worker;

/// Serves a generation as its template, and does not return. `kept` is the descriptor of what an earlier self left.
#[pyfunction]
#[pyo3(signature = (kept=None))]
fn main(py: Python<'_>, kept: Option<RawFd>) {
    template::run(py, kept)
}

/// What boot.py loads.
#[pymodule]
mod ostler_engine {
    #[pymodule_export]
    use super::main;
}
