//! The doors to the interpreter: what the other modules need of CPython's C interface, behind safe functions.

pub mod embedded;
pub mod heap;
pub mod lock;
pub mod object;
pub mod stacks;
pub mod text;
pub mod thread;
pub mod walking;
