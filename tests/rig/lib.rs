//! The Rig: a daemon under test in a folder of its own, and clients that speak raw bytes to it.
//!
//! ```ignore
//! let site = Rig::new("flask_site.py").workers(2).start();
//! assert_eq!(site.get("/visits").text(), "visits: 1\n");
//! site.signal(SIGHUP);
//! site.log("generation serving");
//! ```
//! Its rule: a test waits for lines, bytes and ends, never for a time; [`PATIENCE`] only ends a test that fails. When a Rig goes
//! out of scope, its daemon is told to stop, and must leave no process and no file behind. If the test has failed, the daemon's
//! log is printed and all its processes are killed.

use std::{
    path::{Path, PathBuf},
    time::Duration,
};

mod answer;
mod browser;
mod client;
mod folder;
mod gate;
mod network;
mod peer;
mod process;
mod proxy;
mod python;
mod screen;
mod site;
mod tls;

pub use answer::{Answer, Framing};
pub use browser::shown_by_chromium;
pub use client::{Client, Ending};
pub use folder::Folder;
pub use gate::{Gate, Visitor};
pub use network::Network;
pub use nix::sys::signal::Signal;
pub use peer::Gunicorn;
pub use process::ends_within;
pub use process::{Line, Lines, Process};
pub use proxy::{Proxy, example, installed};
pub use python::{Environment, Python};
pub use rustls::version::{TLS12, TLS13};
pub use screen::Screen;
pub use site::{Refused, Rig, Site, UNSET};
pub use tls::{Authority, Pair, Shown, TlsClient};

/// How long anything may take before a test fails. Generous: a busy machine is not a defect.
pub const PATIENCE: Duration = Duration::from_secs(60);

/// A file of the repository.
pub fn repository(path: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("tests/ is in the repository").join(path)
}

/// Something that was built into the folder that the test itself was built into.
pub fn built(name: &str) -> PathBuf {
    let test = std::env::current_exe().expect("a running test has a path");
    let folder = test.ancestors().nth(2).expect("cargo puts tests into target/PROFILE/deps");
    let path = folder.join(name);
    assert!(path.exists(), "{} is missing: build the workspace first, as `make test` does", path.display());
    path
}

/// An application by the name of its file: one of `tests/apps`, or one of `examples`.
pub fn application(name: &str) -> PathBuf {
    let candidates = [repository("tests/apps"), repository("examples")];
    candidates
        .iter()
        .map(|folder| folder.join(name))
        .find(|path| path.exists())
        .unwrap_or_else(|| panic!("neither tests/apps nor examples holds {name}"))
}
