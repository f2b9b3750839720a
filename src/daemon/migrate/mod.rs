//! `ostler migrate FILE`: an `ostler.toml` made from a configuration of uWSGI's or gunicorn's. What is no setting of ostler's is named
//! in a comment with what to do; nothing is left out in silence. Files are read here, and nowhere below.

use std::{
    fs,
    path::{Path, PathBuf},
};

use crate::{
    exit::Failure,
    options::{self, Invocation},
};

mod gunicorn;
mod page;
mod uwsgi;

/// What a configuration may ask of the machine that it is read on.
pub trait Machine {
    /// The directory of the start.
    fn directory(&self) -> &Path;
    /// The text of a file.
    fn text(&self, path: &Path) -> Result<String, Failure>;
    /// Whether there is such a file.
    fn is_file(&self, path: &Path) -> bool;
    /// Whether there is such a directory.
    fn is_directory(&self, path: &Path) -> bool;
    /// A variable of the environment.
    fn variable(&self, name: &str) -> Option<String>;
}

impl Machine for Invocation {
    fn directory(&self) -> &Path {
        &self.directory
    }

    fn text(&self, path: &Path) -> Result<String, Failure> {
        options::text_of(path)
    }

    fn is_file(&self, path: &Path) -> bool {
        path.is_file()
    }

    fn is_directory(&self, path: &Path) -> bool {
        fs::metadata(path).is_ok_and(|told| told.is_dir())
    }

    fn variable(&self, name: &str) -> Option<String> {
        let value = self.environment.iter().find(|(key, _)| key == name)?.1.to_str()?;
        Some(value.to_owned())
    }
}

/// The `ostler.toml` that does what this file says; a section of it may stand behind a colon.
pub fn migrate(invocation: &Invocation, file: &str) -> Result<String, Failure> {
    match file.ends_with(".py") || file.starts_with("python:") {
        true => gunicorn::migrate(invocation, file),
        false => uwsgi::migrate(invocation, file),
    }
}

/// A path that counts from the directory of the start.
fn below(machine: &dyn Machine, path: &str) -> PathBuf {
    machine.directory().join(path)
}
