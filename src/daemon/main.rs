//! Starts the master.

mod settings;

fn main() {}
