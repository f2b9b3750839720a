//! The command line: what it may say, what it says, and what is told of it.

mod ask;
mod doctor;
mod grammar;
mod instances;
mod manual;
mod mistakes;
mod parser;
mod profile;
mod python;
mod reference;
mod requests;
mod top;
mod topics;

pub use ask::ask;
pub use grammar::short_help;
pub use instances::{answering, list, refuse_two_of_one_name};
pub use mistakes::misspelt_command;
pub use parser::{Task, Typed, View, gunicorn_args, parse};
