//! The Rig: a daemon under test, and clients that speak raw bytes to it.
