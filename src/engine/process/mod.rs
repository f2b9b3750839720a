//! The life of a template and of the workers that it forks. What happens at a moment of that life (a start, a fork, an end) is
//! called from the file of that moment.

pub mod children;
pub mod failing;
pub mod fork;
pub mod gunicorn;
mod hooks;
pub mod import;
mod inherited;
mod leave;
mod refork;
mod restart;
mod signals;
pub mod streams;
pub mod template;
mod watching;
mod worker;

use crate::python::embedded::{Embedded, embedded};

/// What Python does at the end of a process.
const LEAVING: Embedded = embedded!("leaving");
