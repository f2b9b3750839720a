//! Each promise of the daemon, tested from outside: a module for each number of the issue that made it.

mod backbone_2_the_sites;
