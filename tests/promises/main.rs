//! Each promise of the daemon, tested from outside.

fn main() {}
